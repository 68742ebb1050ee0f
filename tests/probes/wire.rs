//! Probes of real servers, over the loopback. Real time passes here, and nothing depends on how much.

use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst};

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;
use tonic::transport::{Endpoint, Server, server::TcpIncoming};
use tonic_health::ServingStatus;
use tower_fleet::probe::{GrpcProbe, HttpProbe, Scope};

use super::*;

/// The bound on everything that is waited for.
const IN_TIME: Duration = Duration::from_secs(20);

fn often<P>(probe: P) -> Probes<P> {
    Probes::new(probe).scope(Scope::All).interval(Duration::from_millis(20)).timeout(secs(5)).unhealthy_after(2)
}

async fn becomes(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(IN_TIME, waiting).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}

// C10, C43
#[tokio::test]
async fn a_server_of_hyper_is_probed_over_one_connection() {
    let (status, probes, connections) =
        (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (codes, counter, accepted) = (Arc::clone(&status), Arc::clone(&probes), Arc::clone(&connections));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            accepted.fetch_add(1, SeqCst);
            let (codes, counter) = (Arc::clone(&codes), Arc::clone(&counter));
            let answer = service_fn(move |request: Request<Incoming>| {
                counter.fetch_add(1, SeqCst);
                let code = if request.uri() == "/health" { codes.load(SeqCst) } else { 404 };
                async move { Response::builder().status(code).body(Full::<Bytes>::from("x".repeat(10_000))) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let fleet = Fleet::builder().backend(Backend::new("a", client)).build().unwrap();
    let probe = HttpProbe::get("/health").unwrap().origin(move |_| format!("http://{address}").parse().ok());
    let probing = tokio::spawn(fleet.probe(often(probe)).unwrap());
    becomes("probed", || probes.load(SeqCst) >= 10).await;
    assert!(!fleet.snapshot()[0].is_failing);
    // One, unless this machine is so busy that the connection is not back in the pool for the next probe.
    assert!(connections.load(SeqCst) <= 3, "each body is read to its end");
    status.store(503, SeqCst);
    becomes("failing", || fleet.snapshot()[0].is_failing).await;
    status.store(204, SeqCst);
    becomes("well", || !fleet.snapshot()[0].is_failing).await;
    drop(fleet);
    tokio::time::timeout(IN_TIME, probing).await.unwrap().unwrap();
}

// C43
#[tokio::test]
async fn a_health_service_of_tonic_is_probed_by_its_protocol() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (reporter, health) = tonic_health::server::health_reporter();
    let server = Server::builder().add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    let probe = || GrpcProbe::with_body(|message| tonic::body::Body::new(Full::new(message)));
    let (whole, cart, unknown) = (probe(), probe().service("shop.v1.Cart").unwrap(), probe().service("none").unwrap());
    let name = shown(&super::fleet::<1>().0, "a").name;
    whole.probe(&name, channel.clone()).await.unwrap();
    assert_eq!(unknown.probe(&name, channel.clone()).await.unwrap_err().to_string(), "grpc status 5");

    reporter.set_service_status("shop.v1.Cart", ServingStatus::Serving).await;
    let fleet = Fleet::builder().backend(Backend::new("a", channel)).build().unwrap();
    tokio::spawn(fleet.probe(often(cart)).unwrap());
    sleep(Duration::from_millis(200)).await;
    assert!(!fleet.snapshot()[0].is_failing);
    reporter.set_service_status("shop.v1.Cart", ServingStatus::NotServing).await;
    becomes("failing", || fleet.snapshot()[0].is_failing).await;
    reporter.set_service_status("shop.v1.Cart", ServingStatus::Serving).await;
    becomes("well", || !fleet.snapshot()[0].is_failing).await;
}

// C43: a server without the health service.
#[tokio::test]
async fn a_server_of_tonic_without_the_health_service_is_well() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = tonic::service::Routes::default();
    tokio::spawn(Server::builder().add_routes(routes).serve_with_incoming(TcpIncoming::from(listener)));
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    let probe = GrpcProbe::with_body(|message| tonic::body::Body::new(Full::new(message)));
    let name = shown(&super::fleet::<1>().0, "a").name;
    probe.probe(&name, channel).await.unwrap();
}
