//! The rules of three APIs of language models, made of the public parts.

use serde_json::{Value, json};

use super::{
    event::Event,
    rules::{EventClass, EventRules},
};

impl EventRules {
    /// Creates the rules of chat completions, as OpenAI and many others stream them.
    ///
    /// | event | class |
    /// |---|---|
    /// | `data: [DONE]` | [`End`](EventClass::End) |
    /// | a choice with text, reasoning, a refusal, a call of a tool, audio or a `finish_reason` | [`Content`](EventClass::Content) |
    /// | an `error` member, or `event: error` | [`Error`](EventClass::Error) |
    /// | data that is no JSON object | [`Malformed`](EventClass::Malformed) |
    /// | other: comments, a role only, usage only | [`Empty`](EventClass::Empty) |
    ///
    /// An event that was [cut](Event::is_cut) is content.
    pub fn chat_completions() -> Self {
        Self::new().end_data("[DONE]").classify(|event| class(event, chat_chunk)).error_form(|message| {
            let error = json!({ "message": message, "type": "upstream_error", "code": "stream_interrupted" });
            format!("data: {}\n\n", json!({ "error": error }))
        })
    }

    /// Creates the rules of messages, as Anthropic streams them.
    ///
    /// | event | class |
    /// |---|---|
    /// | `message_stop` | [`End`](EventClass::End) |
    /// | `content_block_delta` whose delta has text, thinking, a signature or JSON; `message_delta` | [`Content`](EventClass::Content) |
    /// | `error` | [`Error`](EventClass::Error) |
    /// | data that is no JSON object | [`Malformed`](EventClass::Malformed) |
    /// | other: `ping`, `message_start`, `content_block_start` | [`Empty`](EventClass::Empty) |
    ///
    /// An event without `event:` is named by the `type` of its data. One that was [cut](Event::is_cut) is content.
    pub fn messages() -> Self {
        Self::new().end_event("message_stop").classify(|event| class(event, message_event)).error_form(|message| {
            let error = json!({ "type": "api_error", "message": message });
            format!("event: error\ndata: {}\n\n", json!({ "type": "error", "error": error }))
        })
    }

    /// Creates the rules of responses, the newer API of OpenAI.
    ///
    /// | event | class |
    /// |---|---|
    /// | `response.completed`, `response.incomplete` | [`End`](EventClass::End) |
    /// | a name that ends with `.delta`, whose delta is not empty | [`Content`](EventClass::Content) |
    /// | `response.failed`, `error` | [`Error`](EventClass::Error) |
    /// | data that is no JSON object | [`Malformed`](EventClass::Malformed) |
    /// | other | [`Empty`](EventClass::Empty) |
    ///
    /// An event without `event:` is named by the `type` of its data. One that was [cut](Event::is_cut) is content.
    pub fn responses() -> Self {
        Self::new()
            .end_event("response.completed")
            .end_event("response.incomplete")
            .classify(|event| class(event, response_event))
            .error_form(|message| {
                let data = json!({ "type": "error", "code": "stream_interrupted", "message": message, "param": null });
                format!("event: error\ndata: {data}\n\n")
            })
    }
}

/// What all three have in common. `of_data` gets the name of the event and its data.
fn class(event: &Event<'_>, of_data: fn(&str, &Value) -> EventClass) -> EventClass {
    let name = str::from_utf8(event.name).unwrap_or("");
    if matches!(name, "error" | "response.failed") {
        return EventClass::Error;
    }
    if !event.has_data {
        return EventClass::Empty;
    }
    if event.is_cut {
        return EventClass::Content;
    }
    match serde_json::from_slice(event.data) {
        Ok(data @ Value::Object(_)) => {
            let name = if name.is_empty() { data["type"].as_str().unwrap_or("") } else { name };
            of_data(name, &data)
        }
        _ => EventClass::Malformed,
    }
}

fn chat_chunk(_: &str, chunk: &Value) -> EventClass {
    const PARTS: [&str; 7] =
        ["content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call", "audio"];
    let has_content = |choice: &Value| {
        PARTS.iter().any(|part| is_filled(&choice["delta"][part]))
            || is_filled(&choice["text"])
            || choice["finish_reason"].is_string()
    };
    if !chunk["error"].is_null() {
        EventClass::Error
    } else if chunk["choices"].as_array().is_some_and(|choices| choices.iter().any(has_content)) {
        EventClass::Content
    } else {
        EventClass::Empty
    }
}

fn message_event(name: &str, data: &Value) -> EventClass {
    const PARTS: [&str; 5] = ["text", "thinking", "signature", "partial_json", "citation"];
    match name {
        "message_stop" => EventClass::End,
        "message_delta" => EventClass::Content,
        "content_block_delta" if PARTS.iter().any(|part| is_filled(&data["delta"][part])) => EventClass::Content,
        "error" => EventClass::Error,
        _ => EventClass::Empty,
    }
}

fn response_event(name: &str, data: &Value) -> EventClass {
    match name {
        "response.completed" | "response.incomplete" => EventClass::End,
        "response.failed" | "error" => EventClass::Error,
        _ if name.ends_with(".delta") && is_filled(&data["delta"]) => EventClass::Content,
        _ => EventClass::Empty,
    }
}

/// Whether a value holds a part of an answer: a text, a list or an object that is not empty.
fn is_filled(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(elements) => !elements.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use EventClass::{Content, Empty, End, Error, Malformed};

    use super::*;
    use crate::content::EventReader;

    fn class_of(rules: &EventRules, event: &str) -> EventClass {
        let mut class = None;
        EventReader::new(200).read(format!("{event}\n\n").as_bytes(), |event| class = Some(rules.class(&event)));
        class.unwrap()
    }

    fn assert_classes(rules: &EventRules, events: &[(EventClass, &str)]) {
        for (class, event) in events {
            assert_eq!(class_of(rules, event), *class, "{event}");
        }
        assert!(rules.has_end());
        assert_eq!(
            class_of(rules, str::from_utf8(&rules.error_event("\"interrupted\"\n\n")).unwrap().trim_end()),
            Error
        );
        assert_eq!(rules.class(&event(b"\xff", b"{}")), Empty);
    }

    fn event<'a>(name: &'a [u8], data: &'a [u8]) -> Event<'a> {
        Event { name, data, id: None, has_data: true, is_cut: false, end: 0 }
    }

    // C73, C74
    #[test]
    fn chunks_of_chat_completions_are_classified() {
        let rules = EventRules::chat_completions();
        let deep = format!("data: {}", "[".repeat(150));
        let long = format!(r#"data: {{"choices":[{{"delta":{{"content":"{}"}}}}]}}"#, "x".repeat(300));
        assert_classes(
            &rules,
            &[
                (End, "data: [DONE]"),
                (End, "data:[DONE]"),
                (Empty, ": OPENROUTER PROCESSING"),
                (Empty, r#"data: {"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#),
                (Empty, r#"data: {"choices":[{"delta":{"role":"assistant","content":null,"tool_calls":[]}}]}"#),
                (Empty, r#"data: {"choices":[],"usage":{"total_tokens":7},"error":null}"#),
                (Empty, r#"data: {"choices":{"0":7}}"#),
                (Content, r#"data: {"choices":[{"delta":{}},{"delta":{"content":"h"}}]}"#),
                (Content, r#"data: {"choices":[{"delta":{"reasoning_content":"h"}}]}"#),
                (Content, r#"data: {"choices":[{"delta":{"reasoning":"h"}}]}"#),
                (Content, r#"data: {"choices":[{"delta":{"refusal":"no"}}]}"#),
                (Content, r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#),
                (Content, r#"data: {"choices":[{"delta":{"function_call":{"name":"f"}}}]}"#),
                (Content, r#"data: {"choices":[{"delta":{"audio":{"id":"a"}}}]}"#),
                (Content, r#"data: {"choices":[{"text":"h"}]}"#),
                (Content, r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#),
                (Content, &long),
                (Error, r#"data: {"error":{"message":"overloaded"}}"#),
                (Error, r#"data: {"error":"overloaded","choices":[{"text":"h"}]}"#),
                (Error, "event: error\ndata: overloaded"),
                (Malformed, r#"data: {"choices":[{"delta":{"con"#),
                (Malformed, "data: 7"),
                (Malformed, "data"),
                (Malformed, &deep),
            ],
        );
        let error = r#"{"error":{"code":"stream_interrupted","message":"m\n","type":"upstream_error"}}"#;
        let sent: Value = serde_json::from_slice(rules.error_event("m\n").strip_prefix(b"data: ").unwrap()).unwrap();
        assert_eq!(sent, serde_json::from_str::<Value>(error).unwrap());
        assert_eq!(rules.class(&event(b"", b"{\"\xff\":1}")), Malformed);
    }

    // C73, C74
    #[test]
    fn events_of_messages_are_classified() {
        assert_classes(
            &EventRules::messages(),
            &[
                (End, "event: message_stop\ndata: {\"type\":\"message_stop\"}"),
                (End, r#"data: {"type":"message_stop"}"#),
                (Empty, "event: ping\ndata: {\"type\": \"ping\"}"),
                (Empty, "event: message_start\ndata: {\"message\":{\"content\":[]}}"),
                (Empty, "event: content_block_start\ndata: {\"content_block\":{\"type\":\"text\",\"text\":\"\"}}"),
                (Empty, "event: content_block_delta\ndata: {\"delta\":{\"type\":\"text_delta\",\"text\":\"\"}}"),
                (Empty, "event: content_block_stop\ndata: {\"index\":0}"),
                (Content, "event: content_block_delta\ndata: {\"delta\":{\"text\":\"h\"}}"),
                (Content, "event: content_block_delta\ndata: {\"delta\":{\"thinking\":\"h\"}}"),
                (Content, "event: content_block_delta\ndata: {\"delta\":{\"partial_json\":\"{\"}}"),
                (Content, r#"data: {"type":"content_block_delta","delta":{"text":"h"}}"#),
                (Content, "event: message_delta\ndata: {\"delta\":{\"stop_reason\":\"end_turn\"}}"),
                (Error, "event: error\ndata: {\"error\":{\"type\":\"overloaded_error\"}}"),
                (Error, r#"data: {"type":"error"}"#),
                (Malformed, "event: content_block_delta\ndata: {\"delta\":{\"te"),
            ],
        );
    }

    // C73, C74
    #[test]
    fn events_of_responses_are_classified() {
        assert_classes(
            &EventRules::responses(),
            &[
                (End, "event: response.completed\ndata: {\"response\":{}}"),
                (End, "event: response.incomplete\ndata: {}"),
                (End, r#"data: {"type":"response.completed"}"#),
                (Empty, "event: response.created\ndata: {\"response\":{}}"),
                (Empty, "event: response.output_text.delta\ndata: {\"delta\":\"\"}"),
                (Empty, "event: response.output_text.done\ndata: {\"text\":\"h\"}"),
                (Content, "event: response.output_text.delta\ndata: {\"delta\":\"h\"}"),
                (Content, "event: response.function_call_arguments.delta\ndata: {\"delta\":\"{\"}"),
                (Error, "event: response.failed\ndata: {\"response\":{\"error\":{\"code\":\"server_error\"}}}"),
                (Error, "event: error\ndata: {\"code\":\"server_error\"}"),
                (Malformed, "event: response.output_text.delta\ndata: h"),
            ],
        );
    }
}
