//! The log on stderr: one line for each request with a failed attempt.

use std::{future::pending, io};

use futures::{StreamExt, future::join_all, stream};
use http::{Method, Request, Response, Version};
use http_body_util::BodyExt;

use crate::{
    backend::{Server, closed_port},
    client::{Client, VERSIONS, get, stream as body_of},
    in_time,
    process::{Gateway, Setup},
    text,
};

async fn always(name: &'static str, status: u16) -> Server {
    Server::start(name, move |_| async move { Ok(Response::builder().status(status).body(text(name))?) }).await
}

/// The lines of the log, after the gateway has stopped.
async fn log(gateway: Gateway) -> Vec<String> {
    gateway.terminate();
    let (status, said) = gateway.end().await;
    assert!(status.success(), "{status}: {said}");
    said.lines().map(str::to_owned).collect()
}

fn assert_line(line: &str, begin: &str, parts: &[&str]) {
    assert!(line.starts_with(begin), "{begin:?} does not begin: {line}");
    let mut rest = line;
    for part in parts {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} is not in, after the others: {line}"));
        rest = &rest[at + part.len()..];
    }
}

#[tokio::test]
async fn a_response_that_is_passed_on_after_every_attempt_failed_is_one_line_with_the_ledger() {
    let (red, blue) = (always("red", 503).await, always("blue", 429).await);
    for version in VERSIONS {
        let setup = Setup::new().with("failover", "mode = \"sequential\"").backend(&red).backend(&blue);
        let gateway = setup.start().await;
        let answer = Client::new(version).get(&gateway, "/v1/orders?key=hush").await;
        assert_eq!(answer.status(), 429);
        let lines = log(gateway).await;
        let [line] = &lines[..] else { panic!("one line: {lines:?}") };
        assert_line(
            line,
            "gateway: GET /v1/orders after ",
            &["429 of a backend", "`red`: status 503 (", "`blue`: status 429 ("],
        );
        assert!(!line.contains("hush"), "C59: {line}");
    }
}

#[tokio::test]
async fn a_502_a_503_and_a_504_are_one_line_each() {
    let hanging = Server::start("hangs", |_| pending()).await;
    let gateway = Setup::new()
        .with("failover", "mode = \"sequential\"\ntimeout = \"100ms\"")
        .with("breaker", "consecutive = 1\nopen_for = \"5min\"")
        .origin("dead", &format!("http://{}", closed_port().await), "")
        .backend(&hanging)
        .start()
        .await;
    let client = Client::new(Version::HTTP_11);
    for status in [504, 503] {
        let request = Request::builder().method(Method::POST).uri(gateway.url("/pay")).body(text("")).unwrap();
        assert_eq!(client.ask(request).await.status(), status);
    }
    let lines = log(gateway).await;
    let [late, open] = &lines[..] else { panic!("two lines: {lines:?}") };
    assert_line(late, "gateway: POST /pay after ", &["504", "`dead`: ", "`hangs`: timeout"]);
    assert_line(open, "gateway: POST /pay after ", &["503", "2"]);

    let gateway = Setup::new().origin("dead", &format!("http://{}", closed_port().await), "").start().await;
    assert_eq!(client.get(&gateway, "/").await.status(), 502);
    let lines = log(gateway).await;
    let [refused] = &lines[..] else { panic!("one line: {lines:?}") };
    assert_line(refused, "gateway: GET / after ", &["502", "`dead`: "]);
}

#[tokio::test]
async fn an_error_that_trips_nothing_is_logged_with_its_cause() {
    let gateway = Setup::new()
        .with("failover", "triggers = [\"status\"]")
        .origin("dead", &format!("http://{}", closed_port().await), "")
        .start()
        .await;
    assert_eq!(Client::new(Version::HTTP_11).get(&gateway, "/").await.status(), 502);
    let lines = log(gateway).await;
    let [line] = &lines[..] else { panic!("one line: {lines:?}") };
    assert_line(line, "gateway: GET / after ", &["502: backend `dead` failed: ", "Connect", "`dead` "]);
}

#[tokio::test]
async fn a_failover_is_one_line_with_the_ledger() {
    let (red, blue) = (always("red", 503).await, always("blue", 400).await);
    for mode in ["\"sequential\"", "{ hedged = \"10s\" }"] {
        let setup = Setup::new().with("failover", &format!("mode = {mode}"));
        let gateway = setup.backend(&red).backend(&blue).start().await;
        assert_eq!(Client::new(Version::HTTP_11).get(&gateway, "/v1/orders?key=hush").await.status(), 400);
        let lines = log(gateway).await;
        let [line] = &lines[..] else { panic!("one line: {lines:?}") };
        assert_line(
            line,
            "gateway: GET /v1/orders after ",
            &["400 of a backend, after a failover", "`red`: status 503 (", "`blue` served ("],
        );
        assert!(!line.contains("hush"), "C59: {line}");
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_after_its_head_is_one_line() {
    let red = Server::start("red", |_| async {
        let frames = stream::iter([0, 1]).then(|index| async move {
            // The first frame is to be on its way.
            tokio::time::sleep(std::time::Duration::from_millis(index * 50)).await;
            if index == 0 { Ok("begin".into()) } else { Err(io::Error::from(io::ErrorKind::ConnectionReset)) }
        });
        Ok(Response::new(body_of(frames)))
    })
    .await;
    let gateway = Setup::new().with("failover", "commit = \"first_frame\"").backend(&red).start().await;
    let request = get(&gateway, "/v1/orders?key=hush").body(text("")).unwrap();
    let response = Client::new(Version::HTTP_11).send(request).await.unwrap();
    assert!(in_time(response.into_body().collect()).await.is_err());
    let lines = log(gateway).await;
    let [line] = &lines[..] else { panic!("one line: {lines:?}") };
    assert_line(line, "gateway: GET /v1/orders after ", &["`red` served (", "the response broke off: "]);
    assert!(!line.contains("hush"), "C59: {line}");
}

#[tokio::test]
async fn requests_that_the_first_backend_answered_are_not_logged() {
    let (slow, red) = (Server::start("slow", |_| pending()).await, always("red", 400).await);
    // A hedge is no failover: nothing failed.
    let hedged = Setup::new().with("failover", "mode = { hedged = \"10ms\" }").backend(&slow).backend(&red);
    for setup in [Setup::new().backend(&red), hedged] {
        let gateway = setup.start().await;
        let client = Client::new(Version::HTTP_11);
        assert_eq!(client.get(&gateway, "/").await.status(), 400, "a response that is the client's affair");
        assert_eq!(client.get(&gateway, "/a/../b").await.status(), 400, "a request that is at fault itself");
        assert_eq!(log(gateway).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_line_is_short_whatever_the_path_is() {
    let gateway = Setup::new().origin("dead", &format!("http://{}", closed_port().await), "").start().await;
    let path = format!("/{}", "a".repeat(20_000));
    assert_eq!(Client::new(Version::HTTP_11).get(&gateway, &path).await.status(), 502);
    let lines = log(gateway).await;
    assert!(lines.len() == 1 && lines[0].len() < 1_000, "{lines:?}");
}

#[tokio::test]
async fn of_many_failures_those_without_a_line_are_counted() {
    let gateway = Setup::new().origin("dead", &format!("http://{}", closed_port().await), "").start().await;
    let client = Client::new(Version::HTTP_2);
    let ask = async || {
        let request = get(&gateway, "/").body(text("")).unwrap();
        assert!(client.ask(request).await.status().is_server_error());
    };
    let mut failed = 500;
    join_all((0..failed).map(|_| ask())).await;
    let told = || {
        let said = gateway.said();
        let dropped =
            |line: &str| line.rsplit_once('(')?.1.strip_suffix(" lines before this one were dropped)")?.parse().ok();
        said.lines().map(|line| 1 + dropped(line).unwrap_or(0)).sum::<usize>()
    };
    // The line of a later failure counts those that were dropped.
    let all_told = async {
        while told() < failed {
            ask().await;
            failed += 1;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    in_time(all_told).await;
    assert_eq!(told(), failed);
}
