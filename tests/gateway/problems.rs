//! What a client is told when nobody could answer: RFC 9457.

use std::future::pending;

use bytes::Bytes;
use http::{Response, Version};
use serde_json::{Value, json};

use crate::{
    backend::{Server, closed_port},
    client::{Client, VERSIONS, post},
    process::Setup,
    text,
};

async fn always(name: &'static str, status: u16) -> Server {
    Server::start(name, move |_| async move {
        let response = Response::builder().status(status).header("from", name).header("retry-after", "17");
        Ok(response.body(text("busy"))?)
    })
    .await
}

async fn hanging(name: &'static str) -> Server {
    Server::start(name, |_| pending()).await
}

/// The problem in this answer, after its form has been looked at.
fn problem(answer: &Response<Bytes>, status: u16) -> Value {
    assert_eq!(answer.status(), status, "{answer:?}");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(problem["type"], "about:blank");
    assert_eq!(problem["title"], answer.status().canonical_reason().unwrap());
    assert_eq!(problem["status"], status);
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
    problem
}

fn retry_after(answer: &Response<Bytes>) -> Option<u64> {
    answer.headers().get("retry-after").map(|wait| wait.to_str().unwrap().parse().unwrap())
}

// C19, C59
#[tokio::test]
async fn nobody_up_is_502_and_names_no_address() {
    let dead = [closed_port().await, closed_port().await];
    let setup = dead
        .iter()
        .zip(["red", "blue"])
        .fold(Setup::new(), |setup, (address, name)| setup.origin(name, &format!("http://{address}"), ""));
    let gateway = setup.start().await;
    for version in VERSIONS {
        let answer = Client::new(version).get(&gateway, "/").await;
        let problem = problem(&answer, 502);
        assert!(problem.get("attempts").is_none(), "{problem}");
        let told = format!("{answer:?}");
        assert!(dead.iter().all(|address| !told.contains(&address.port().to_string())), "C59: {told}");
        assert!(!told.contains("red") && !told.contains("blue"), "whom we ask is our business: {told}");
    }
}

// C1
#[tokio::test]
async fn all_circuits_open_is_503_and_says_when() {
    let red = always("red", 500).await;
    let setup = Setup::new().with("breaker", "consecutive = 1\nopen_for = \"5min\"");
    let gateway = setup.backend(&red).start().await;
    let client = Client::new(Version::HTTP_11);
    assert_eq!(client.get(&gateway, "/").await.status(), 500, "the first is passed on");
    let answer = client.get(&gateway, "/").await;
    problem(&answer, 503);
    assert!(retry_after(&answer).is_some_and(|wait| (1..=300).contains(&wait)), "{answer:?}");
}

// C50
#[tokio::test]
async fn nobody_in_time_is_504() {
    let (red, blue) = (hanging("red").await, hanging("blue").await);
    for limit in ["timeout = \"200ms\"", "deadline = \"200ms\"\ntimeout = \"100ms\"", "deadline = \"200ms\""] {
        for mode in ["\"race\"", "\"sequential\"", "{ hedged = \"20ms\" }"] {
            let setup = Setup::new().with("failover", &format!("{limit}\nmode = {mode}"));
            let gateway = setup.backend(&red).backend(&blue).start().await;
            problem(&Client::new(Version::HTTP_11).get(&gateway, "/").await, 504);
        }
    }
}

// C1
#[tokio::test]
async fn all_backends_drained_is_503() {
    let gateway = Setup::new().origin("red", "http://127.0.0.1:1", "status = \"draining\"").start().await;
    problem(&Client::new(Version::HTTP_11).get(&gateway, "/").await, 503);
}

// C19, C25
#[tokio::test]
async fn attempts_are_named_to_those_who_may_know() {
    let hanging = hanging("hanging").await;
    let gateway = Setup::new()
        .with("server", "explain = true")
        .with("failover", "mode = \"sequential\"\ntimeout = \"200ms\"")
        .origin("dead", &format!("http://{}", closed_port().await), "")
        .backend(&hanging)
        .start()
        .await;
    let answer = Client::new(Version::HTTP_2).get(&gateway, "/").await;
    let problem = problem(&answer, 504);
    let attempts = problem["attempts"].as_array().unwrap();
    let named: Vec<_> = attempts.iter().map(|attempt| attempt["backend"].as_str().unwrap()).collect();
    assert_eq!(named, ["dead", "hanging"]);
    for attempt in attempts {
        assert!(attempt["ending"].as_str().is_some_and(|ending| !ending.is_empty()), "{problem}");
        assert!(attempt["took_ms"].is_u64(), "{problem}");
    }
    assert_ne!(attempts[0]["ending"], attempts[1]["ending"], "{problem}");
}

// C19, C25
#[tokio::test]
async fn the_last_real_answer_is_passed_on() {
    let (red, blue) = (always("red", 503).await, always("blue", 429).await);
    let dead = format!("http://{}", closed_port().await);
    for version in VERSIONS {
        let setup = Setup::new().with("failover", "mode = \"sequential\"").backend(&red).backend(&blue);
        let gateway = setup.origin("dead", &dead, "").start().await;
        let answer = Client::new(version).get(&gateway, "/").await;
        assert_eq!((answer.status().as_u16(), retry_after(&answer)), (429, Some(17)));
        assert_eq!(answer.body(), "busy");
        assert_eq!(answer.headers().get_all("from").iter().collect::<Vec<_>>(), ["blue"], "C25");
    }
}

// C19
#[tokio::test]
async fn an_error_instead_of_the_last_answer_when_asked_for() {
    let red = always("red", 429).await;
    let setup = Setup::new().with("failover", "on_exhausted = \"error\"");
    let gateway = setup.backend(&red).start().await;
    let answer = Client::new(Version::HTTP_11).get(&gateway, "/").await;
    let problem = problem(&answer, 502);
    assert!(!problem.to_string().contains("red"), "{problem}");
}

// C14
#[tokio::test]
async fn an_answer_that_is_the_callers_is_passed_on_at_once() {
    let (red, blue) = (always("red", 400).await, always("blue", 200).await);
    let gateway =
        Setup::new().with("failover", "served_by = \"x-served-by\"").backend(&red).backend(&blue).start().await;
    let answer = Client::new(Version::HTTP_11).get(&gateway, "/").await;
    assert_eq!((answer.status().as_u16(), answer.headers()["from"].as_bytes()), (400, &b"red"[..]));
    assert_eq!(answer.headers()["x-served-by"], "red");
    assert_eq!(blue.connections(), 0);
}

/// Whether the answer shows none of these.
fn assert_hides(answer: &Response<Bytes>, hidden: &[&str]) {
    let told = format!("{answer:?} {}", String::from_utf8_lossy(answer.body()));
    hidden.iter().for_each(|hidden| assert!(!told.contains(hidden), "C77: {hidden}: {told}"));
}

fn body(answer: &Response<Bytes>) -> Value {
    serde_json::from_slice(answer.body()).unwrap()
}

// C77
#[tokio::test]
async fn own_errors_have_the_format_of_the_api() {
    let dead = closed_port().await;
    let (origin, port) = (format!("http://{dead}"), dead.port().to_string());
    let gateway = async |errors: &str| {
        let setup = Setup::new().with("server", &format!("errors = \"{errors}\"")).env("KEY", "hush-hush");
        setup.origin("red", &origin, "bearer = \"env:KEY\"").start().await
    };
    let client = Client::new(Version::HTTP_11);
    let openai = |answer: &Response<Bytes>| {
        let error = body(answer)["error"].take();
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "C77: {answer:?}");
        assert_eq!((&error["type"], &error["code"]), (&json!("server_error"), &json!("bad_gateway")), "C77");
        assert_eq!(answer.headers()["content-type"], "application/json");
    };
    let anthropic = |answer: &Response<Bytes>| {
        let body = body(answer);
        assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("api_error")), "C77: {body}");
        assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "C77: {body}");
        assert_eq!(answer.headers()["content-type"], "application/json");
    };
    let ask = async |gateway: &_, path: &str, anthropic: bool| {
        let request = post(gateway, path).header("x-secret", "confidential");
        let request = if anthropic { request.header("anthropic-version", "2023-06-01") } else { request };
        let answer = client.ask(request.body(text("{}")).unwrap()).await;
        assert_eq!(answer.status(), 502, "{answer:?}");
        assert_hides(&answer, &[&port, "hush", "confidential", "red", "127.0.0.1"]);
        answer
    };
    let always = gateway("openai").await;
    openai(&ask(&always, "/anything", true).await);
    let always = gateway("anthropic").await;
    anthropic(&ask(&always, "/v1/chat/completions", false).await);
    let auto = gateway("auto").await;
    openai(&ask(&auto, "/v1/chat/completions?key=hush", false).await);
    anthropic(&ask(&auto, "/v1/messages", true).await);
    problem(&ask(&auto, "/v1/messages", false).await, 502);
    problem(&ask(&gateway("problem").await, "/v1/chat/completions", true).await, 502);
}

// C77
#[tokio::test]
async fn a_clients_own_fault_and_a_wait_have_the_format_of_the_api_too() {
    let red = always("red", 500).await;
    let setup = Setup::new()
        .with("server", "errors = \"openai\"\nexplain = true")
        .with("breaker", "consecutive = 1\nopen_for = \"5min\"");
    let gateway = setup.backend(&red).start().await;
    let client = Client::new(Version::HTTP_11);
    let wrong = client.get(&gateway, "/a/%2e%2e/b").await;
    assert_eq!(wrong.status(), 400);
    assert_eq!(body(&wrong)["error"]["type"], "invalid_request_error", "C77: {wrong:?}");
    assert_eq!(client.get(&gateway, "/").await.status(), 500, "the backend's, passed on as it is");
    let closed = client.get(&gateway, "/").await;
    assert_eq!(closed.status(), 503);
    assert_eq!(body(&closed)["error"]["code"], "service_unavailable", "C77: {closed:?}");
    assert!(body(&closed)["error"]["attempts"].is_array(), "{closed:?}");
    assert!(retry_after(&closed).is_some_and(|wait| (1..=300).contains(&wait)), "C77: {closed:?}");
}

// C25, C77
#[tokio::test]
async fn the_ledger_is_in_a_header_where_it_is_asked_for() {
    let (red, blue) = (always("red", 503).await, always("blue", 200).await);
    let dead = closed_port().await;
    for version in VERSIONS {
        let client = Client::new(version);
        let setup =
            Setup::new().with("server", "ledger_header = \"x-ledger\"").with("failover", "mode = \"sequential\"");
        let gateway = setup.backend(&red).backend(&blue).start().await;
        let answer = client.get(&gateway, "/").await;
        let ledger = answer.headers()["x-ledger"].to_str().unwrap().to_owned();
        assert!(ledger.starts_with("`red`: status 503") && ledger.contains("`blue` served ("), "C25: {ledger}");

        let setup = Setup::new().with("server", "ledger_header = \"x-ledger\"");
        let gateway = setup.origin("dead", &format!("http://{dead}"), "").start().await;
        let answer = client.get(&gateway, "/").await;
        assert_eq!(answer.status(), 502);
        let ledger = answer.headers()["x-ledger"].to_str().unwrap();
        assert!(ledger.starts_with("`dead`: connection not established ("), "C25: {ledger}");
        assert_hides(&answer, &[&dead.port().to_string()]);

        let gateway = Setup::new().backend(&blue).start().await;
        assert!(client.get(&gateway, "/").await.headers().get("x-ledger").is_none(), "only where it is asked for");
    }
}
