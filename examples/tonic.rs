//! gRPC over HTTP/2: a tonic client on three replicas, one of which answers `UNAVAILABLE`.
//!
//! `cargo run --example tonic` makes nine calls. All succeed, and the circuit of the one that fails opens, although HTTP
//! says 200 all the time: the classifier reads the `grpc-status`.
//!
//! The service is tonic's own health check, since its code is there without `protoc`; a client that you generate is built
//! on the door in the same way.

use tokio::net::TcpListener;
use tonic::{
    Request, Status,
    body::Body,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tower::{BoxError, ServiceBuilder, util::MapRequestLayer};
use tower_fleet::{
    Backend, CircuitBreakerLayer, FailoverLayer, Fleet, State,
    body::ReplayBody,
    failover::{Ledger, Mode},
    pick::RoundRobin,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Channels send tonic's bodies; the failover's are made into some.
    let body = MapRequestLayer::new(|request: http::Request<ReplayBody<Body>>| request.map(Body::new));
    let mut fleet = Fleet::builder();
    for name in ["eu", "us", "asia"] {
        let channel = replica(name == "us").await?;
        fleet = fleet.backend(Backend::new(name, channel).layer(body.clone()));
    }
    let fleet = fleet.circuit_breaker(CircuitBreakerLayer::new().consecutive(2)).build()?;

    let dependable = ServiceBuilder::new()
        .layer(FailoverLayer::new().strategy(RoundRobin::new()).mode(Mode::Sequential))
        .service(fleet.clone());
    let mut client = HealthClient::new(dependable);

    for _ in 0..9 {
        let answer = client.check(HealthCheckRequest::default()).await?;
        println!("{}", answer.extensions().get::<Ledger>().ok_or("every answer has a ledger")?);
        if answer.get_ref().status() != ServingStatus::Serving {
            return Err("the answer is not what the replica said".into());
        }
    }
    for backend in fleet.snapshot() {
        println!("{} is {}", backend.name, backend.state);
        if (backend.state == State::Open) != (backend.name == "us") {
            return Err("a circuit is not as it should be".into());
        }
    }
    Ok(())
}

/// Starts a server on a free port, and returns the way to it.
async fn replica(fails: bool) -> Result<Channel, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (_, health) = tonic_health::server::health_reporter();
    let check = move |request: Request<()>| if fails { Err(Status::unavailable("in deployment")) } else { Ok(request) };
    let server = Server::builder().add_service(InterceptedService::new(health, check));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));
    Ok(Endpoint::from_shared(format!("http://{address}"))?.connect_lazy())
}
