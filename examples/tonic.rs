//! gRPC over HTTP/2: a tonic client on three replicas, one of which answers `UNAVAILABLE`.
//!
//! `cargo run --example tonic` makes nine calls. All succeed, and the circuit of the replica that fails opens, although
//! the HTTP status is always 200: the classifier reads the `grpc-status`.
//!
//! The service is tonic's own health check, which needs no `protoc`; a generated client is built on the door in the same
//! way. gRPC requests are `POST`s: they are sent on after a failure, and hedged only with
//! `FailoverBuilder::hedge_methods(Methods::All)`.

use tokio::net::TcpListener;
use tonic::{
    Code, Request, Status,
    body::Body,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tower::{BoxError, ServiceBuilder, util::MapRequestLayer};
use tower_fleet::{
    Backend, CircuitPolicy, CircuitState, FailoverLayer, Fleet, Ledger, Mode, ReplayBody, RoundRobin, failover,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Channels send tonic's bodies; those of the failover are converted.
    let body = MapRequestLayer::new(|request: http::Request<ReplayBody<Body>>| request.map(Body::new));
    let mut fleet = Fleet::builder();
    for name in ["eu", "us", "asia"] {
        let channel = replica(name == "us").await?;
        fleet = fleet.backend(Backend::new(name, channel).layer(body.clone()));
    }
    let fleet = fleet.circuit_breaker(CircuitPolicy::new().consecutive(2)).build()?;

    let failover = FailoverLayer::builder().strategy(RoundRobin).mode(Mode::Sequential).build()?;
    let dependable = ServiceBuilder::new()
        // A client of tonic reports an error that it does not know as `UNKNOWN`.
        .map_err(|error: failover::Error| Status::new((error.grpc_code() as i32).into(), error.to_string()))
        .layer(failover)
        .service(fleet.clone());
    let mut client = HealthClient::new(dependable);

    for _ in 0..9 {
        let answer = client.check(HealthCheckRequest::default()).await?;
        println!("{}", answer.extensions().get::<Ledger>().ok_or("every response has a ledger")?);
        if answer.get_ref().status() != ServingStatus::Serving {
            return Err("the response is not that of the replica".into());
        }
    }
    for backend in fleet.snapshot() {
        println!("{} is {}", backend.name, backend.state);
        if (backend.state == CircuitState::Open) != (backend.name == "us") {
            return Err("a circuit is not as it should be".into());
        }
        fleet.drain(&backend.name);
    }
    let status = client.check(HealthCheckRequest::default()).await.expect_err("all backends are drained");
    println!("without backends: {status}");
    if status.code() == Code::Unavailable { Ok(()) } else { Err("the code is not UNAVAILABLE".into()) }
}

/// Starts a server on a free port, and returns a channel to it.
async fn replica(fails: bool) -> Result<Channel, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (_, health) = tonic_health::server::health_reporter();
    let check = move |request: Request<()>| if fails { Err(Status::unavailable("in deployment")) } else { Ok(request) };
    let server = Server::builder().add_service(InterceptedService::new(health, check));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));
    Ok(Endpoint::from_shared(format!("http://{address}"))?.connect_lazy())
}
