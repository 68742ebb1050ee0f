//! reqwest as the client: two providers with paths and keys of their own, the first of which answers 429.
//!
//! `cargo run --example reqwest` posts a question, and prints which providers were tried and which one served.
//!
//! reqwest converts its requests, responses and bodies from and to those of the `http` crate. So one small service around
//! its client is all that it takes to have statuses, `Retry-After`, replayed bodies and ledgers as with any other.

use std::time::Duration;

use axum::Router;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use reqwest::{Body, Client};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder, service_fn};
use tower_fleet::{Backend, CircuitPolicy, FailoverLayer, Fleet, Ledger, Mode, ReplayBody, UpstreamLayer};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Settings of the client apply to all backends. Timeouts are set on the backends: one of reqwest's would look like any
    // other error.
    let client = Client::builder().no_proxy().build()?;
    let send = service_fn(move |request: Request<ReplayBody<Body>>| {
        let client = client.clone();
        async move {
            let request = reqwest::Request::try_from(request.map(Body::wrap))?;
            client.execute(request).await.map(Response::<Body>::from)
        }
    });

    let first = provider(StatusCode::TOO_MANY_REQUESTS).await?;
    let second = provider(StatusCode::OK).await?;
    let first = UpstreamLayer::new().origin(&format!("{first}/v1"))?.bearer("one-key")?;
    let second = UpstreamLayer::new().origin(&format!("{second}/openai"))?.secret("api-key", "another")?;
    let fleet = Fleet::builder()
        .circuit_breaker(CircuitPolicy::new())
        .backend(Backend::new("first", send.clone()).layer(first).priority(10))
        .backend(Backend::new("second", send).layer(second).timeout(Duration::from_secs(30)))
        .build()?;
    let failover = FailoverLayer::builder().mode(Mode::Sequential).build()?;
    let dependable = ServiceBuilder::new().layer(failover).service(fleet);

    let request = Request::post("/chat").body(Body::from("why is the sky blue?"))?;
    // Back to reqwest's response, for its `text`, `json` and `bytes_stream`.
    let response = dependable.oneshot(request).await?.map(Body::wrap);
    println!("{}", response.extensions().get::<Ledger>().ok_or("every response has a ledger")?);
    let response = reqwest::Response::from(response);
    let status = response.status();
    println!("{status}\n{}", response.text().await?);
    if status == StatusCode::OK { Ok(()) } else { Err("the request was lost".into()) }
}

/// A server that answers with this status, and with what it received. Returns its origin.
async fn provider(status: StatusCode) -> std::io::Result<String> {
    let answer = move |uri: Uri, headers: HeaderMap, question: String| async move {
        let keys = ["authorization", "api-key"].map(|name| format!("{name}: {:?}", headers.get(name)));
        (status, [("retry-after", "20")], format!("{uri}, {}: {question}", keys.join(", ")))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    Ok(origin)
}
