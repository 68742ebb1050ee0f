//! The floor: a reverse proxy that hyper's examples would lead to. Round robin, a time limit of one second, and
//! nothing else; or with one more attempt at the next backend. Only requests without a body are tried again.

use std::{
    convert::Infallible,
    io::BufRead,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::{Body as _, Incoming},
    http::{request::Parts, uri::Authority},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::Builder,
};

type Body = Either<Incoming, Empty<Bytes>>;

#[derive(Clone)]
struct Proxy {
    client: Client<HttpConnector, Body>,
    backends: &'static [Authority],
    retries: bool,
}

static TURN: AtomicUsize = AtomicUsize::new(0);

impl Proxy {
    async fn forward(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let turn = TURN.fetch_add(1, Relaxed);
        let (parts, body) = request.into_parts();
        let spare = (self.retries && body.is_end_stream()).then(|| parts.clone());
        let first = self.attempt(turn, parts, Either::Left(body)).await;
        let response = match (first, spare) {
            (Ok(response), None) => Ok(response),
            (Ok(response), Some(_)) if response.status() != StatusCode::SERVICE_UNAVAILABLE => Ok(response),
            (_, Some(spare)) => self.attempt(turn + 1, spare, Either::Right(Empty::new())).await,
            (Err(status), None) => Err(status),
        };
        Ok(response.map_or_else(
            |status| {
                let mut response = Response::new(Either::Right(Empty::new()));
                *response.status_mut() = status;
                response
            },
            |response| response.map(Either::Left),
        ))
    }

    async fn attempt(&self, turn: usize, mut parts: Parts, body: Body) -> Result<Response<Incoming>, StatusCode> {
        let mut uri = parts.uri.into_parts();
        uri.scheme = Some(hyper::http::uri::Scheme::HTTP);
        uri.authority = Some(self.backends[turn % self.backends.len()].clone());
        parts.uri = uri.try_into().map_err(|_| StatusCode::BAD_REQUEST)?;
        let asked = self.client.request(Request::from_parts(parts, body));
        match tokio::time::timeout(Duration::from_secs(1), asked).await {
            Ok(answer) => answer.map_err(|_| StatusCode::BAD_GATEWAY),
            Err(_) => Err(StatusCode::GATEWAY_TIMEOUT),
        }
    }
}

async fn serve(listener: TcpListener, backends: &'static [Authority], retries: bool) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let proxy = Proxy { client, backends, retries };
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let proxy = proxy.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| proxy.clone().forward(request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// The process: `bare-mt` is one runtime of many threads, otherwise each core has a runtime, a listener and a pool of
/// connections of its own.
pub(crate) fn run(kind: &str, ports: &[u16]) {
    let authority = |port| format!("127.0.0.1:{port}").parse::<Authority>().expect("an authority");
    let backends: &'static [Authority] = ports.iter().map(authority).collect::<Vec<_>>().leak();
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let (retries, one_runtime) = (kind == "bare-retry", kind == "bare-mt");
    let mut port = 0;
    for number in 0..if one_runtime { 1 } else { cores } {
        let mut builder = if one_runtime { Builder::new_multi_thread() } else { Builder::new_current_thread() };
        let runtime = builder.worker_threads(cores).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(async { listen(port) }).expect("a port");
        port = listener.local_addr().expect("it is bound").port();
        std::thread::Builder::new()
            .name(format!("runtime-{number}"))
            .spawn(move || runtime.block_on(serve(listener, backends, retries)))
            .expect("a thread");
    }
    println!("listening on http://127.0.0.1:{port}");
    // The owner's end closes this.
    std::io::stdin().lock().lines().for_each(drop);
}

/// Several listeners share one port; the kernel deals connections out.
fn listen(port: u16) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(1024)
}
