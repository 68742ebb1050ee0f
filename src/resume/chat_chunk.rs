//! One chunk of a stream of chat completions.

use serde_json::{Map, Value};

use super::NotResumed;
use crate::content::Event;

/// One chunk of a stream that can be continued so far.
pub(super) enum Chunk {
    /// `[DONE]`.
    End,
    /// Text of one choice, which may be empty: a role, or the usage.
    Text { text: String, json: Map<String, Value>, has_finished: bool },
}

impl Chunk {
    /// Reads a chunk. Fails if it has something else than text, so that the stream cannot be continued.
    pub(super) fn read(event: &Event<'_>) -> Result<Self, NotResumed> {
        if event.data.trim_ascii() == b"[DONE]" {
            return Ok(Self::End);
        }
        let is_whole = !event.is_cut && matches!(event.name, b"" | b"message");
        let json = if is_whole { serde_json::from_slice(event.data).ok() } else { None };
        let Some(Value::Object(json)) = json else { return Err(NotResumed("an event is no chunk of a chat")) };
        if json.get("error").is_some_and(|error| !error.is_null()) {
            return Err(NotResumed("the stream has an error"));
        }
        let (text, has_finished) = match json.get("choices") {
            None | Some(Value::Null) => (String::new(), false),
            Some(Value::Array(choices)) => match &choices[..] {
                [] => (String::new(), false),
                [choice] => text_of(choice)?,
                _ => return Err(NotResumed("the stream has several choices")),
            },
            Some(_) => return Err(NotResumed("an event is no chunk of a chat")),
        };
        Ok(Self::Text { text, json, has_finished })
    }
}

/// The text of a choice, and whether the answer has ended.
fn text_of(choice: &Value) -> Result<(String, bool), NotResumed> {
    let Value::Object(members) = choice else { return Err(NotResumed("an event is no chunk of a chat")) };
    let index = &choice["index"];
    if !(index.is_null() || *index == 0) {
        return Err(NotResumed("the stream has several choices"));
    }
    let has_more = |members: &Map<String, Value>, known: &[&str]| {
        members.iter().any(|(name, value)| !known.contains(&name.as_str()) && !is_empty(value))
    };
    let delta = match &choice["delta"] {
        Value::Object(delta) => delta,
        Value::Null => &Map::new(),
        _ => return Err(NotResumed("an event is no chunk of a chat")),
    };
    if has_more(members, &["index", "delta", "finish_reason"]) || has_more(delta, &["role", "content"]) {
        return Err(NotResumed("the stream has more than text"));
    }
    let text = match delta.get("content") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(_) => return Err(NotResumed("the stream has more than text")),
    };
    Ok((text, !is_empty(&choice["finish_reason"])))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
