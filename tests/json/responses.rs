//! Responses that name the model that was asked for.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body_util::BodyExt;

use super::*;

fn as_asked() -> JsonEditLayer {
    model("served").response_model(ResponseModel::AsAsked)
}

/// The answer to a request for the model `fast`, by a backend that sends this content.
async fn response(edit: JsonEditLayer, kind: &str, pieces: Vec<Piece>) -> EditedAnswer {
    let (fleet, [a]) = edited([edit]);
    let kind: &'static str = kind.to_owned().leak();
    a.usually(status(200).header("content-type", kind).header("content-length", "9999").body(pieces));
    send(&fleet, json(vec![data("{\"model\":\"fa\\u0073t\"}")])).await
}

async fn text(answer: EditedAnswer) -> String {
    let body = answer.unwrap().into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

// C76
#[tokio::test(start_paused = true)]
async fn a_json_response_names_the_model_that_was_asked_for() {
    let content = "{\"id\": 1e400, \"model\": \"served\", \"choices\": [{\"model\": 1}]}";
    let pieces = || vec![data(&content[..20]), Piece::Wait(10), data(&content[20..])];
    let answer = response(as_asked(), "application/json", pieces()).await;
    assert!(!answer.as_ref().unwrap().headers().contains_key(CONTENT_LENGTH), "it is another one");
    assert_eq!(text(answer).await, content.replace("\"served\"", "\"fast\""));
    // By default it is not changed.
    let answer = response(model("served"), "application/json", pieces()).await;
    assert_eq!(answer.as_ref().unwrap().headers()[CONTENT_LENGTH], "9999");
    assert_eq!(text(answer).await, content);
}

// C76
#[tokio::test(start_paused = true)]
async fn other_responses_are_not_changed() {
    let large = format!("{{\"model\":\"served\",\"x\":\"{}\"}}", "x".repeat(1024 * 1024));
    for (kind, content) in [
        ("text/plain", "{\"model\":\"served\"}"),
        ("application/json", "{\"model\":\"served\""),
        ("application/json", "{\"model\":null}"),
        ("application/json", "[\"model\"]"),
        ("application/json", &*large),
    ] {
        let pieces = content.as_bytes().chunks(100_000).map(|part| Piece::Data(part.to_vec())).collect();
        assert_eq!(text(response(as_asked(), kind, pieces).await).await, content);
    }
    let (fleet, [a]) = edited([as_asked()]);
    let json_reply = || status(200).header("content-type", "application/json");
    a.usually(json_reply().header("content-encoding", "br").body(vec![data("{\"model\":\"served\"}")]));
    let answer = send(&fleet, json(vec![data("{\"model\":\"fast\"}")])).await;
    assert_eq!(answer.as_ref().unwrap().headers()[CONTENT_ENCODING], "br");
    assert_eq!(text(answer).await, "{\"model\":\"served\"}");
    // The caller has named none.
    a.usually(json_reply().body(vec![data("{\"model\":\"served\"}")]));
    assert_eq!(text(send(&fleet, json(vec![data("{}")])).await).await, "{\"model\":\"served\"}");
}

// C76: an event is returned when it is there, and what is not edited stays as it is.
#[tokio::test(start_paused = true)]
async fn events_name_the_model_without_a_delay() {
    let events = [
        ": ping\r\n\r\n",
        "data: {\"model\":\"served\",\"n\":1.50}\n\n",
        "event: message_start\rdata:{\"message\": {\"model\":\"served\"}}\r\r",
        "data: {\"model\":\r\ndata: \"served\"}\r\n\r\n",
        "data: [DONE]\n\n",
    ];
    let pieces = events.iter().flat_map(|event| [data(event), Piece::Wait(1_000)]).collect();
    let mut body = response(as_asked(), "text/event-stream; charset=utf-8", pieces).await.unwrap().into_body();
    for (second, event) in (0..).zip(events) {
        let since = tokio::time::Instant::now();
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(since.elapsed(), millis(if second == 0 { 0 } else { 1_000 }));
        let expected =
            if event.contains("data: \"served\"") { event.to_owned() } else { event.replace("served", "fast") };
        assert_eq!(frame, expected);
    }
    assert!(body.frame().await.is_none());
}

// C34, C76
#[tokio::test(start_paused = true)]
async fn a_response_that_breaks_off_is_passed_on_as_far_as_it_came() {
    for kind in ["application/json", "text/event-stream"] {
        let pieces = vec![data("data: {\"model\":\"ser"), Piece::Error("cut")];
        let mut body = response(as_asked(), kind, pieces).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: {\"model\":\"ser");
        assert_eq!(body.frame().await.unwrap().unwrap_err().to_string(), "cut");
    }
    let pieces = vec![data("{\"model\":\"served\"}"), Piece::Trailer("x-sum", "1")];
    let whole = response(as_asked(), "application/json", pieces).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["x-sum"], "1");
    assert_eq!(whole.to_bytes(), "{\"model\":\"fast\"}");
}
