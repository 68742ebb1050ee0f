//! What a caller gets: a complete answer, a refusal, an error in the stream, or less.

use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::World;
use crate::{client::post, provider, text};

/// An answer, as the caller sees it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) kind: Kind,
    pub(super) took: Duration,
    pub(super) headers: HeaderMap,
    /// The model that the answer names.
    pub(super) model: String,
    /// The tokens of the prompt that it says were used.
    pub(super) prompt_tokens: u64,
    /// Everything that was shown.
    pub(super) shows: Vec<String>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    /// All tokens, once and in their order, and a clean end with its marker.
    Complete,
    /// An error status, with an error in the format of the API.
    Refused(u16, String),
    /// A beginning without a gap, then one error in the format of the API, then nothing.
    ErrorInStream,
    /// The connection broke.
    Broken,
    /// Anything else: it looks like a success, and is none.
    Wrong(String),
}

impl Answer {
    pub(super) fn is_complete(&self) -> bool {
        self.kind == Kind::Complete
    }

    pub(super) fn served_by(&self) -> &str {
        self.headers.get("x-served-by").map_or("", |name| name.to_str().unwrap())
    }

    pub(super) fn retry_after(&self) -> Option<u64> {
        self.headers.get("retry-after")?.to_str().unwrap().parse().ok()
    }
}

pub(super) async fn ask(world: &World, stream: bool, prompt: &str) -> Answer {
    let begin = Instant::now();
    let body = json!({
        "model": "fast",
        "stream": stream,
        "stream_options": { "include_usage": true },
        "messages": [{ "role": "user", "content": prompt }],
    });
    let request = post(&world.gateway, "/chat/completions")
        .header("content-type", "application/json")
        .body(text(body.to_string()))
        .unwrap();
    let (parts, mut body) = world.client.send(request).await.expect("a response").into_parts();
    let (mut bytes, mut broken) = (Vec::new(), false);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Err(_) => {
                broken = true;
                break;
            }
        }
    }
    let took = begin.elapsed();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut read = Read::default();
    let kind = match parts.status {
        StatusCode::OK if stream => read.stream(&text, broken),
        StatusCode::OK => read.whole(&text, broken),
        status => refused(status, &text, broken),
    };
    let headers = parts.headers;
    let shows = vec![format!("{headers:?}"), text];
    Answer { kind, took, headers, model: read.model, prompt_tokens: read.prompt_tokens, shows }
}

fn refused(status: StatusCode, text: &str, broken: bool) -> Kind {
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let error = &body["error"];
    if broken || !error["message"].is_string() || !error["type"].is_string() {
        return Kind::Wrong(format!("{status} without an error of the API, broken {broken}: {text}"));
    }
    Kind::Refused(status.as_u16(), error["code"].as_str().unwrap_or_default().to_owned())
}

/// What was read of an answer.
#[derive(Default)]
struct Read {
    model: String,
    prompt_tokens: u64,
}

impl Read {
    fn note(&mut self, value: &Value) {
        if let Some(model) = value["model"].as_str() {
            model.clone_into(&mut self.model);
        }
        if let Some(tokens) = value["usage"]["prompt_tokens"].as_u64() {
            self.prompt_tokens = tokens;
        }
    }

    fn whole(&mut self, text: &str, broken: bool) -> Kind {
        if broken {
            return Kind::Broken;
        }
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        self.note(&value);
        let choice = &value["choices"][0];
        match choice["finish_reason"] == "stop" && choice["message"]["content"] == provider::answer() {
            true => Kind::Complete,
            false => Kind::Wrong(format!("not the answer: {text}")),
        }
    }

    fn stream(&mut self, text: &str, broken: bool) -> Kind {
        let (mut said, mut errors, mut done) = (String::new(), 0, false);
        let wrong = |why: &str| Kind::Wrong(format!("{why}: {text}"));
        let mut events: Vec<_> = text.split("\n\n").collect();
        let rest = events.pop().unwrap_or_default();
        if !rest.is_empty() && !broken {
            return wrong("a clean end inside an event");
        }
        for event in events {
            let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) else { continue };
            if done || errors > 0 {
                return wrong("something after the end");
            }
            if data == "[DONE]" {
                done = true;
                continue;
            }
            let Ok(value) = serde_json::from_str::<Value>(data) else { return wrong("a malformed event") };
            self.note(&value);
            if value["error"].is_object() {
                if !value["error"]["message"].is_string() || !value["error"]["type"].is_string() {
                    return wrong("an error that is none of the API");
                }
                errors += 1;
            }
            said.push_str(value["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
        }
        let answer = provider::answer();
        match (done, errors) {
            _ if !answer.starts_with(&said) => wrong("a gap, or something twice"),
            (true, 0) if said == answer && !broken => Kind::Complete,
            (false, 1) => Kind::ErrorInStream,
            (false, 0) if broken => Kind::Broken,
            _ => wrong("a truncated success"),
        }
    }
}
