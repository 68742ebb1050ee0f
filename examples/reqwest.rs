//! reqwest as the client: two providers with paths and keys of their own, the first of which says 429.
//!
//! `cargo run --example reqwest` posts a question, and prints who was tried and who served.
//!
//! reqwest converts its requests, responses and bodies from and to those of the `http` crate. So one small service around
//! its client is all that it takes to have statuses, `Retry-After`, replayed bodies and ledgers as with any other.

use std::time::Duration;

use axum::Router;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use reqwest::{Body, Client};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_fleet::{
    Backend, CircuitBreakerLayer, FailoverLayer, Fleet,
    body::ReplayBody,
    failover::{Ledger, Mode},
    shape::ShapeLayer,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // What is set here holds for all backends. A timeout is the backend's own: one of reqwest's would be an error like any.
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
    let first = ShapeLayer::new().origin(&format!("{first}/v1"))?.bearer("one-key")?;
    let second = ShapeLayer::new().origin(&format!("{second}/openai"))?.secret("api-key", "another")?;
    let fleet = Fleet::builder()
        .circuit_breaker(CircuitBreakerLayer::new())
        .backend(Backend::new("first", send.clone()).layer(first).priority(10))
        .backend(Backend::new("second", send).layer(second).timeout(Duration::from_secs(30)))
        .build()?;
    let dependable = ServiceBuilder::new().layer(FailoverLayer::new().mode(Mode::Sequential)).service(fleet);

    let request = Request::post("/chat").body(Body::from("why is the sky blue?"))?;
    // Back to reqwest's response, for its `text`, `json` and `bytes_stream`.
    let response = dependable.oneshot(request).await?.map(Body::wrap);
    println!("{}", response.extensions().get::<Ledger>().ok_or("every response has a ledger")?);
    let response = reqwest::Response::from(response);
    let status = response.status();
    println!("{status}\n{}", response.text().await?);
    if status == StatusCode::OK { Ok(()) } else { Err("the request was lost".into()) }
}

/// A server that answers with this status, and says what it was asked. Returns its origin.
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
