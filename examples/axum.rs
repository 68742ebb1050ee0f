//! An axum application in front of three replicas: a request without a route of its own is sent to them. The first fails.
//!
//! `cargo run --example axum` starts everything, sends itself a few requests, and shows which replica answered.

use axum::{
    Router,
    body::Body,
    error_handling::HandleErrorLayer,
    extract::{Request, State},
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::net::TcpListener;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_fleet::{
    Backend, CircuitPolicy, FailoverLayer, Fleet, Mode, ReplayBody, UpstreamLayer, failover, upstream::Upstream,
};

/// A client that sends to one origin.
type Replica = Upstream<Client<HttpConnector, ReplayBody<Body>>>;

/// What the application's own routes work with.
#[derive(Clone)]
struct App {
    fleet: Fleet<Replica>,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut fleet = Fleet::builder().circuit_breaker(CircuitPolicy::new().consecutive(2));
    for (name, answer) in [("red", Err(StatusCode::SERVICE_UNAVAILABLE)), ("green", Ok("green")), ("blue", Ok("blue"))]
    {
        let address = serve(Router::new().fallback(move || async move { answer })).await?;
        let origin = UpstreamLayer::new().origin(&format!("http://{address}"))?;
        fleet = fleet.backend(Backend::new(name, client.clone()).layer(origin));
    }
    let fleet = fleet.build()?;

    // The door is Clone, so the router takes it as it is; axum wants errors to be responses.
    let dependable = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(|error| async move { respond(&error) }))
        .layer(FailoverLayer::builder().mode(Mode::Sequential).build()?)
        .service(fleet.clone());
    let app = Router::new().route("/backends", get(backends)).fallback_service(dependable);
    let front = serve(app.with_state(App { fleet: fleet.clone() })).await?;

    for _ in 0..3 {
        assert_eq!(ask(&front, "/hello").await?, (StatusCode::OK, "green".into()), "red fails, green answers");
    }
    println!("{}", ask(&front, "/backends").await?.1);

    fleet.drain("green");
    println!("without green: {}", ask(&front, "/hello").await?.1);
    fleet.drain("blue");
    let (status, why) = ask(&front, "/hello").await?;
    println!("without blue: {status}, {why}");
    if status == StatusCode::SERVICE_UNAVAILABLE { Ok(()) } else { Err("a backend answered that was drained".into()) }
}

/// A route of the application: the state of its backends.
async fn backends(State(App { fleet }): State<App>) -> String {
    fleet
        .snapshot()
        .iter()
        .map(|backend| format!("{} is {}, {}\n", backend.name, backend.status, backend.state))
        .collect()
}

/// The response to a client when there is no response of a backend to pass on.
fn respond(error: &failover::Error) -> Response {
    let mut response = (error.status(), error.to_string()).into_response();
    if let Some(wait) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, (wait.as_secs() + 1).into());
    }
    response
}

/// Serves on a free port and returns its address.
async fn serve(app: Router) -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

/// The status and the body of an answer.
async fn ask(address: &str, path: &str) -> Result<(StatusCode, String), BoxError> {
    let mut client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(format!("http://{address}{path}")).body(Body::empty())?;
    let (head, body) = client.ready().await?.call(request).await?.into_parts();
    let body = axum::body::to_bytes(Body::new(body), 1024).await?;
    Ok((head.status, String::from_utf8_lossy(&body).into_owned()))
}
