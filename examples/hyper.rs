//! A reverse proxy in miniature: a hyper server whose service is a door, and hyper-util's client behind it.
//!
//! `cargo run --example hyper` puts it in front of three replicas, one of which is down, and posts through it.
//!
//! `examples/gateway` shows what a real one needs besides: hop-by-hop headers, upgrades, TLS, limits.

use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt, server::conn::auto, service::TowerToHyperService};
use tokio::net::TcpListener;
use tower::{BoxError, Service, ServiceBuilder, service_fn};
use tower_fleet::{Backend, CircuitPolicy, FailoverLayer, Fleet, Mode, RoundRobin, UpstreamLayer, failover};

const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // One client, and a pool of connections, for all of them; the layer sends each request to the origin of its backend.
    let client = Client::builder(rt::TokioExecutor::new()).build_http();
    let mut fleet = Fleet::builder().circuit_breaker(CircuitPolicy::new().consecutive(2));
    for name in ["a", "b", "c"] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = UpstreamLayer::new().origin(&format!("http://{}/{name}", listener.local_addr()?))?;
        fleet = fleet.backend(Backend::new(name, client.clone()).layer(origin));
        if name != "b" {
            tokio::spawn(serve(listener, service_fn(echo)));
        } // Otherwise the port is closed when the listener is dropped.
    }
    let fleet = fleet.build()?;

    // The first backend of each request is the next in turn; when it fails, the others follow.
    let failover = FailoverLayer::builder().strategy(RoundRobin).mode(Mode::Sequential).served_by(SERVED_BY).build()?;
    // On an error of its service hyper would close the connection, so errors become responses.
    let proxy = ServiceBuilder::new().map_result(answer).layer(failover).service(fleet.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let front = format!("http://{}/echo", listener.local_addr()?);
    tokio::spawn(serve(listener, proxy));

    let client = Client::builder(rt::TokioExecutor::new()).build_http();
    for number in 1..=6 {
        let request = Request::post(&front).body(format!("message {number}"))?;
        let (head, body) = client.request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        println!("{} by {:?}: {}", head.status, head.headers[SERVED_BY], String::from_utf8_lossy(&body));
        if head.status != StatusCode::OK {
            return Err("a request was lost".into());
        }
    }
    for backend in fleet.snapshot() {
        println!("{} is {}", backend.name, backend.state);
    }
    Ok(())
}

/// A replica: it answers with the path and the body of the request.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    Ok(Response::new([path.as_bytes(), b" got ", &body].concat().into()))
}

/// Turns an error into a response.
fn answer<B>(result: Result<Response<B>, failover::Error>) -> Result<Response<Either<B, Full<Bytes>>>, BoxError> {
    Ok(result.map(|response| response.map(Either::Left)).unwrap_or_else(|error| {
        let mut response = Response::new(Either::Right(Full::from(format!("{error}\n"))));
        *response.status_mut() = error.status();
        response
    }))
}

/// Serves HTTP/1.1 and HTTP/2 with any tower service, such as a door.
async fn serve<S, B>(listener: TcpListener, service: S) -> std::io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    loop {
        let (socket, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let http = auto::Builder::new(rt::TokioExecutor::new());
            http.serve_connection(rt::TokioIo::new(socket), service).await
        });
    }
}
