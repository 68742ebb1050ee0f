//! Chats: what is continued, where, and what the caller sees of it.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use tower_fleet::{
    Fleet,
    resume::{ByteRanges, ChatContinuation, ResumeLayer},
};
use tower_layer::Layer;

use super::replica::{Client, Joined, Piece, Reply, data, door, fleet, read, reply, story};

fn chunk(id: &str, delta: &Value, finish_reason: &Value) -> String {
    let choices = json!([{ "index": 0, "delta": delta, "finish_reason": finish_reason }]);
    format!("data: {}\n\n", json!({ "id": id, "created": 7, "model": id, "choices": choices }))
}

fn role(id: &str) -> String {
    chunk(id, &json!({ "role": "assistant", "content": "" }), &Value::Null)
}

fn text(id: &str, text: &str) -> String {
    chunk(id, &json!({ "content": text }), &Value::Null)
}

fn end(id: &str) -> String {
    let usage = json!({ "id": id, "choices": [], "usage": { "total_tokens": 9 } });
    format!("{}data: {usage}\n\ndata: [DONE]\n\n", chunk(id, &json!({}), &json!("stop")))
}

fn stream(events: &[String]) -> Vec<Piece> {
    events.iter().map(data).collect()
}

fn answer(pieces: Vec<Piece>) -> Reply {
    reply(200, &[("content-type", "text/event-stream; charset=utf-8")], pieces)
}

/// A stream that breaks off after these events.
fn cut(events: &[String]) -> Reply {
    let mut pieces = stream(events);
    pieces.push(Piece::Error("cut"));
    answer(pieces)
}

fn question() -> Value {
    json!({ "model": "fast", "stream": true, "messages": [{ "role": "user", "content": "Count." }] })
}

fn post(body: &Value) -> Request<Full<Bytes>> {
    let request = Request::post("/v1/chat/completions").header("content-type", "application/json");
    request.header("idempotency-key", "1").body(Full::from(body.to_string())).unwrap()
}

async fn send(fleet: &Fleet<Client>, chats: ChatContinuation, request: Request<Full<Bytes>>) -> Response<Joined> {
    ResumeLayer::new((ByteRanges::new(), chats)).layer(door(fleet)).oneshot(request).await.unwrap()
}

async fn ask(fleet: &Fleet<Client>, question: &Value) -> (String, Option<String>, Joined) {
    let (text, _, error, body) =
        read(send(fleet, ChatContinuation::new(["c"]), post(question)).await.into_body()).await;
    (text, error, body)
}

/// The text of a stream, as a client puts it together.
fn said(stream: &str) -> String {
    let chunks = stream.split("\n\n").filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok());
    chunks.map(|chunk: Value| chunk["choices"][0]["delta"]["content"].as_str().unwrap_or("").to_owned()).collect()
}

// C75
#[tokio::test(start_paused = true)]
async fn a_chat_goes_on_at_a_backend_that_can_continue_it() {
    let (fleet, [a, b, c]) = fleet();
    a.then([cut(&[role("one"), text("one", "1, 2"), text("one", ", 3")])]);
    c.then([answer(stream(&[": ping\n\n".into(), role("two"), text("two", ", 4"), text("two", "."), end("two")]))]);
    let (stream, error, body) = ask(&fleet, &question()).await;
    assert_eq!(error, None);
    let expected = [
        role("one"),
        text("one", "1, 2"),
        text("one", ", 3"),
        ":\n\n".into(),
        text("one", ", 4"),
        text("one", "."),
        chunk("one", &json!({}), &json!("stop")),
        format!(
            "data: {}\n\n",
            json!({ "id": "one", "created": 7, "model": "one", "choices": [], "usage": { "total_tokens": 9 } })
        ),
        "data: [DONE]\n\n".into(),
    ];
    assert_eq!(stream, expected.concat());
    assert_eq!((a.calls(), b.calls(), c.calls()), (1, 0, 1), "the request that goes on is for `c` only");
    let sent: Value = serde_json::from_slice(&c.body(0)).unwrap();
    let mut wanted = question();
    let begun = json!({ "role": "assistant", "content": "1, 2, 3", "prefix": true });
    wanted["messages"].as_array_mut().unwrap().push(begun);
    assert_eq!(sent, wanted);
    assert_eq!(c.headers(0)["content-length"], c.body(0).len().to_string());
    assert!(!c.headers(0).contains_key("idempotency-key"));
    assert!(story(&body).starts_with("a:cut(") && story(&body).ends_with("c:served"), "{}", story(&body));
}

// C75
#[tokio::test(start_paused = true)]
async fn a_cut_event_is_never_shown() {
    let whole = [role("one"), text("one", "1, 2"), text("one", ", \u{e4}\u{2615} 3")].concat();
    for at in 0..=whole.len() {
        let (fleet, [a, _, c]) = fleet();
        a.then([answer(vec![data(&whole.as_bytes()[..at]), Piece::Error("cut")])]);
        c.then([answer(stream(&[role("two"), text("two", "; the rest"), end("two")]))]);
        let (stream, error, _) = ask(&fleet, &question()).await;
        let shown = whole.match_indices("\n\n").map(|(end, _)| end + 2).filter(|end| *end <= at).last().unwrap_or(0);
        assert_eq!(error, None, "{at}");
        assert!(stream.starts_with(&whole[..shown]), "{at}: {stream}");
        assert_eq!(said(&stream), format!("{}; the rest", said(&whole[..shown])), "{at}");
        assert_eq!(stream.matches("[DONE]").count(), 1, "{at}");
    }
}

// C75
#[tokio::test(start_paused = true)]
async fn a_chat_is_continued_again_and_again() {
    let (fleet, [a, _, c]) = fleet();
    a.then([cut(&[text("one", "a")])]);
    c.then([
        cut(&[role("two"), text("two", "b")]),
        cut(&[role("three"), text("three", "c")]),
        answer(stream(&[text("four", "d"), end("four")])),
    ]);
    let (stream, error, _) = ask(&fleet, &question()).await;
    assert_eq!((said(&stream).as_str(), error), ("abcd", None));
    let begun = |call| serde_json::from_slice::<Value>(&c.body(call)).unwrap()["messages"][1]["content"].clone();
    assert_eq!([begun(0), begun(1), begun(2)], ["a", "ab", "abc"]);
    assert!(!stream.contains("two") && !stream.contains("four"), "one stream has one id: {stream}");
}

// C75
#[tokio::test(start_paused = true)]
async fn a_rest_that_does_not_continue_is_refused() {
    let first = [role("one"), text("one", "It was a dark and stormy night; the rain fell in torrents, except")];
    let kind = ("content-type", "text/event-stream");
    let rests = [
        ("refused", reply(400, &[("content-type", "application/json")], vec![data("{\"error\":{}}")])),
        ("no stream", reply(200, &[("content-type", "application/json")], vec![data("{}")])),
        ("encoded", reply(200, &[kind, ("content-encoding", "gzip")], vec![data("?")])),
        (
            "starts over",
            answer(stream(&[
                role("two"),
                text("two", " It was a dark and "),
                text("two", "stormy night; the rain fell in sheets"),
                end("two"),
            ])),
        ),
        ("an error", answer(vec![data("data: {\"error\":{\"message\":\"overloaded\"}}\n\n")])),
        ("no chunk", answer(vec![data("data: hello\n\n")])),
        ("a tool", answer(vec![data(chunk("two", &json!({ "tool_calls": [{ "index": 0 }] }), &Value::Null))])),
    ];
    for (case, rest) in rests {
        let (fleet, [a, b, c]) = fleet();
        a.then([cut(&first)]);
        c.then([rest]);
        let (stream, error, _) = ask(&fleet, &question()).await;
        assert_eq!((stream, error.as_deref()), (first.concat(), Some("cut")), "{case}");
        assert_eq!((b.calls(), c.calls(), c.running()), (0, 1, 0), "{case}");
    }
    // Nothing is missing of what was passed on, but the rest has no end.
    let (fleet, [a, _, c]) = super::replica::fleet();
    a.then([cut(&first)]);
    c.then([answer(stream(&[text("two", " at")]))]);
    let (stream, error, _) = ask(&fleet, &question()).await;
    assert_eq!(error.as_deref(), Some("cut"));
    assert!(said(&stream).ends_with("except at"));
}

// C75
#[tokio::test(start_paused = true)]
async fn what_is_not_text_alone_is_not_continued() {
    let with = |name: &str, value: Value| {
        let mut question = question();
        question[name] = value;
        question
    };
    let delta = |delta: Value| vec![text("one", "1"), chunk("one", &delta, &Value::Null)];
    let plain = vec![text("one", "1")];
    let logprobs = json!({ "choices": [{ "index": 0, "delta": { "content": "1" }, "logprobs": { "content": [] } }] });
    let second = json!({ "choices": [{ "index": 1, "delta": { "content": "1" } }] });
    let cases = [
        ("a tool", question(), delta(json!({ "tool_calls": [{ "index": 0 }] }))),
        ("reasoning", question(), delta(json!({ "reasoning_content": "hm" }))),
        ("a refusal", question(), delta(json!({ "refusal": "no" }))),
        ("parts", question(), delta(json!({ "content": [{ "type": "text" }] }))),
        ("logprobs", question(), vec![format!("data: {logprobs}\n\n")]),
        ("a second choice", question(), vec![format!("data: {second}\n\n")]),
        ("an error", question(), vec!["data: {\"error\":{\"message\":\"overloaded\"}}\n\n".into()]),
        ("no chunk", question(), vec!["data: hello\n\n".into()]),
        ("the end", question(), vec![text("one", "1"), chunk("one", &json!({}), &json!("stop"))]),
        ("done", question(), vec![text("one", "1"), "data: [DONE]\n\n".into()]),
        ("several choices", with("n", json!(2)), plain.clone()),
        ("logprobs asked for", with("logprobs", json!(true)), plain.clone()),
        ("structured output", with("response_format", json!({ "type": "json_object" })), plain.clone()),
        ("no stream", with("stream", json!(false)), plain.clone()),
        ("no messages", with("messages", json!("?")), plain.clone()),
    ];
    for (case, question, events) in cases {
        let (fleet, [a, b, c]) = fleet();
        a.then([cut(&events)]);
        let (stream, error, _) = ask(&fleet, &question).await;
        assert_eq!((stream, error.as_deref()), (events.concat(), Some("cut")), "{case}");
        assert_eq!((b.calls(), c.calls()), (0, 0), "{case}");
    }
}

// C75
#[tokio::test(start_paused = true)]
async fn other_requests_and_responses_pass_untouched() {
    let other_path = Request::post("/v1/embeddings").body(Full::from(question().to_string())).unwrap();
    let kind = ("content-type", "text/event-stream");
    let text = text("one", "1");
    let cut = |headers: &[(&str, &str)]| reply(200, headers, vec![data(&text), Piece::Error("cut")]);
    let length = text.len().to_string();
    let cases = [
        ("another path", other_path, cut(&[kind])),
        ("no stream", post(&question()), cut(&[("content-type", "application/json")])),
        ("a length", post(&question()), cut(&[kind, ("content-length", &length)])),
        ("an encoding", post(&question()), cut(&[kind, ("content-encoding", "br")])),
    ];
    for (case, request, response) in cases {
        let (fleet, [a, b, c]) = fleet();
        a.then([response]);
        let response = send(&fleet, ChatContinuation::new(["c"]), request).await;
        let (stream, _, error, body) = read(response.into_body()).await;
        assert_eq!((stream.as_str(), error.as_deref()), (text.as_str(), Some("cut")), "{case}");
        assert_eq!((b.calls(), c.calls(), body.ledger().is_none()), (0, 0, true), "{case}");
    }
}

// C75
#[tokio::test(start_paused = true)]
async fn no_backend_that_cannot_continue_is_asked() {
    let (fleet, [a, b, c]) = fleet();
    a.then([cut(&[text("one", "1")])]);
    fleet.drain("c");
    let (_, error, body) = ask(&fleet, &question()).await;
    assert_eq!((error.as_deref(), a.calls(), b.calls(), c.calls()), (Some("cut"), 1, 0, 0));
    assert!(story(&body).starts_with("a:cut("), "{}", story(&body));
    // The one that can fails.
    let (fleet, [a, b, c]) = super::replica::fleet();
    a.then([cut(&[text("one", "1")])]);
    let (_, error, _) = ask(&fleet, &question()).await;
    assert_eq!((error.as_deref(), a.calls(), b.calls()), (Some("cut"), 1, 0));
    assert!(c.calls() >= 1);
}

// C33, C75
#[tokio::test(start_paused = true)]
async fn a_request_over_the_bounds_is_not_resumed() {
    let (fleet, [a, _, c]) = fleet();
    a.then([cut(&[text("one", "1")])]);
    let memory = tower_fleet::body::ReplayMemory::new(1 << 20);
    let layer = ResumeLayer::new(ChatContinuation::new(["c"])).replay(64, memory);
    let mut question = question();
    question["messages"][0]["content"] = "long ".repeat(100).into();
    let body = layer.layer(door(&fleet)).oneshot(post(&question)).await.unwrap().into_body();
    let (stream, _, error, _) = read(body).await;
    assert_eq!((stream, error.as_deref(), c.calls()), (text("one", "1"), Some("cut"), 0));
    assert_eq!(a.body(0), question.to_string());
}

// C75
#[tokio::test(start_paused = true)]
async fn the_shape_of_the_request_is_a_setting() {
    let (fleet, [a, _, c]) = fleet();
    a.then([cut(&[text("one", "2")])]);
    c.then([answer(stream(&[text("two", "3"), end("two")]))]);
    let flags = [("continue_final_message", true), ("add_generation_prompt", false)];
    let chats = ChatContinuation::new(["c"]).message_flags([]).request_flags(flags).keep_ids(true);
    let mut question = question();
    question["messages"].as_array_mut().unwrap().push(json!({ "role": "assistant", "content": "1" }));
    let (stream, ..) = read(send(&fleet, chats, post(&question)).await.into_body()).await;
    assert_eq!(stream, [text("one", "2"), text("two", "3"), end("two")].concat());
    let sent: Value = serde_json::from_slice(&c.body(0)).unwrap();
    // The answer that the caller has begun is continued, not a second one.
    question["messages"][1]["content"] = "12".into();
    question["continue_final_message"] = true.into();
    question["add_generation_prompt"] = false.into();
    assert_eq!(sent, question);
}
