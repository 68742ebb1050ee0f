//! The same over real sockets: hyper on the caller's side, hyper's client on the way to a backend.
//!
//! Real time passes, and nothing depends on how much: limits are so far apart that no machine is too slow, and what is
//! waited for is bounded by [`IN_TIME`].

use std::{convert::Infallible, io, net::SocketAddr};

use bytes::Bytes;
use futures::stream;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tower_fleet::{Backend, BalanceLayer, FailoverLayer, body::ReplayLayer, failover::FailoverBuilder};

use super::*;

const IN_TIME: Duration = Duration::from_secs(20);

type Up = UnsyncBoxBody<Bytes, io::Error>;

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(IN_TIME, what).await.expect("should not hang")
}

/// A server for one service, HTTP/1 and HTTP/2.
async fn serve<S, B>(service: S) -> SocketAddr
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let http = auto::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    address
}

/// A backend that responds when it has read the request; to `/hang` it does not.
async fn backend_server() -> SocketAddr {
    serve(service_fn(async |request: Request<Incoming>| {
        let hangs = request.uri().path() == "/hang";
        let body = request.into_body().collect().await?.to_bytes();
        if hangs {
            std::future::pending::<()>().await;
        }
        Ok::<_, hyper::Error>(Response::new(Full::new(body)))
    }))
    .await
}

/// Sends to one address, whatever the request names.
struct To<B>(Client<HttpConnector, B>, SocketAddr);

impl<B> Clone for To<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), self.1)
    }
}

impl<B> To<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    fn new(address: SocketAddr, http2: bool) -> Self {
        Self(Client::builder(TokioExecutor::new()).http2_only(http2).build_http(), address)
    }
}

impl<B> Service<Request<B>> for To<B>
where
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<Incoming>;
    type Error = hyper_util::client::legacy::Error;
    type Future = hyper_util::client::legacy::ResponseFuture;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        *request.uri_mut() = format!("http://{}{path}", self.1).parse().unwrap();
        self.0.request(request)
    }
}

fn fleet_of<B>(address: SocketAddr, http2: bool, timeout: Option<Duration>) -> Fleet<To<B>>
where
    B: http_body::Body<Data: Send> + Send + 'static,
{
    let backends = ["a", "b"].map(|name| {
        let backend = Backend::new(name, To::new(address, http2));
        timeout.into_iter().fold(backend, Backend::timeout)
    });
    Fleet::builder().backends(backends).circuit_breaker(strict()).build().unwrap()
}

/// A gateway in front of a fleet. An error becomes the status that its door suggests.
async fn gateway(builder: FailoverBuilder, http2: bool) -> (SocketAddr, Fleet<To<tower_fleet::ReplayBody<Incoming>>>) {
    let fleet = fleet_of(backend_server().await, http2, None);
    let door = builder.build().unwrap().layer(fleet.clone());
    let gateway = serve(service_fn(move |request: Request<Incoming>| {
        let door = door.clone();
        async move {
            let response = match door.oneshot(request).await {
                Ok(response) => response.map(|body| body.map_err(BoxError::from).boxed_unsync()),
                Err(error) => {
                    let text = Full::new(Bytes::from(error.to_string()));
                    let mut response = Response::new(text.map_err(|never| match never {}).boxed_unsync());
                    *response.status_mut() = error.status();
                    response
                }
            };
            Ok::<_, Infallible>(response)
        }
    }))
    .await;
    (gateway, fleet)
}

/// What a server answers to a client that sends these chunks, each after a pause.
async fn drip(to: SocketAddr, path: &str, chunks: usize, pause: Duration, end: bool) -> String {
    let mut socket = TcpStream::connect(to).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..chunks {
        tokio::time::sleep(pause).await;
        socket.write_all(b"1\r\nx\r\n").await.unwrap();
    }
    if end {
        socket.write_all(b"0\r\n\r\n").await.unwrap();
    }
    let mut answer = String::new();
    let _ = in_time(socket.read_to_string(&mut answer)).await;
    answer
}

// C37, C50: issue 11.4
#[tokio::test]
async fn a_client_that_drips_its_body_is_served_however_short_the_limit_of_an_attempt() {
    let check = async |http2| {
        // An upload takes longer than the limit, in pauses of a tenth of it.
        let (gateway, fleet) = gateway(FailoverLayer::builder().timeout(secs(1)), http2).await;
        let clients = (0..5).map(|_| drip(gateway, "/", 12, millis(100), true));
        for answer in futures::future::join_all(clients).await {
            assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains(&"x".repeat(12)), "{answer}");
        }
        assert_eq!(fleet.snapshot().iter().filter(|backend| backend.state != CircuitState::Closed).count(), 0);
        // A backend that hangs after such an upload is timed out as any other.
        let answer = drip(gateway, "/hang", 12, millis(100), true).await;
        assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
        assert_eq!(fleet.snapshot()[0].state, CircuitState::Open);
    };
    tokio::join!(check(false), check(true));
}

// C37: issue 11.4
#[tokio::test]
async fn a_client_that_stalls_gets_a_408_and_opens_no_circuit() {
    for http2 in [false, true] {
        let builder = FailoverLayer::builder().replay(ReplayLayer::new().idle_timeout(millis(300)));
        let (gateway, fleet) = gateway(builder, http2).await;
        let answer = drip(gateway, "/", 2, millis(10), false).await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("request body stalled"), "{answer}");
        assert_eq!(fleet.snapshot().iter().filter(|backend| backend.state != CircuitState::Closed).count(), 0);
    }
}

/// How a body ends that is not whole.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    /// With an error, which looks like one of the network.
    Fails,
    /// Before its `content-length`.
    Short,
}

/// A request whose body breaks off after its first frame.
fn broken(ends: Ends) -> Request<Up> {
    let some = Ok(Frame::data(Bytes::from_static(b"some")));
    let error = (ends == Ends::Fails).then(|| Err(io::ErrorKind::ConnectionReset.into()));
    let body = stream::iter(std::iter::once(some).chain(error));
    let request = Request::put("/");
    let request = if ends == Ends::Short { request.header("content-length", 10) } else { request };
    request.body(StreamBody::new(body).boxed_unsync()).unwrap()
}

async fn assert_neutral<S>(fleet: &Fleet<impl Send + Sync + Clone + 'static>, door: S, about: &str)
where
    S: Service<Request<Up>, Error: std::fmt::Debug> + Clone,
{
    for ends in [Ends::Fails, Ends::Short] {
        for _ in 0..3 {
            let answer = in_time(door.clone().oneshot(broken(ends))).await;
            let error = format!("{:?}", answer.err().unwrap_or_else(|| panic!("{about} {ends:?}: a response")));
            for backend in fleet.snapshot() {
                assert_eq!(backend.state, CircuitState::Closed, "{about} {ends:?}: {error}");
            }
        }
    }
}

// C31, C37: issue 11.4
#[tokio::test]
async fn a_request_body_that_fails_is_neutral_over_every_connection() {
    for http2 in [false, true] {
        let address = backend_server().await;
        let fleet = fleet_of(address, http2, Some(secs(10)));
        let door = FailoverLayer::new().layer(fleet.clone());
        assert_neutral(&fleet, door.clone(), "failover").await;
        let error = in_time(door.oneshot(broken(Ends::Fails))).await.unwrap_err();
        assert_eq!(error.ledger().attempts().len(), 1, "no trigger fires: {error}");
        assert!(error.to_string().contains("request body failed"), "{error}");

        let door = ServiceBuilder::new().layer(ReplayLayer::new()).layer(BalanceLayer::round_robin());
        assert_neutral(&fleet, door.service(fleet.clone()), "balance, replayed").await;
    }
}

// C31, C37: hyper says whose fault it is, without a body that watches. Over HTTP/2, a short body is one that the
// backend refuses.
#[tokio::test]
async fn a_plain_request_body_that_fails_is_neutral_too() {
    for http2 in [false, true] {
        let fleet = fleet_of::<Up>(backend_server().await, http2, Some(secs(10)));
        let door = BalanceLayer::round_robin().layer(fleet.clone());
        for ends in [Ends::Fails, Ends::Short] {
            if http2 && ends == Ends::Short {
                continue;
            }
            for _ in 0..3 {
                let error = in_time(door.clone().oneshot(broken(ends))).await.unwrap_err();
                for backend in fleet.snapshot() {
                    assert_eq!(backend.state, CircuitState::Closed, "http2 {http2} {ends:?}: {error:?}");
                }
            }
        }
    }
}
