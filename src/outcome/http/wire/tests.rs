//! Real errors of hyper, its client and h2, over memory and loopback.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Body, Frame};
use http_body_util::{Empty, StreamBody};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    net::TcpListener,
};

use crate::outcome::{BoxError, FailureKind, Outcome, inspect};

const LONG: Duration = Duration::from_secs(20);

async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LONG, future).await.expect("should not hang")
}

fn request() -> Request<Empty<Bytes>> {
    Request::post("http://backend/").body(Empty::new()).unwrap()
}

fn failing_body() -> impl Body<Data = Bytes, Error = io::Error> + Send + Unpin {
    // What a gateway reads when its own caller disconnects. It looks like a reset by the backend.
    let frames = [Ok(Frame::data(Bytes::from("a"))), Err(io::ErrorKind::ConnectionReset.into())];
    StreamBody::new(futures::stream::iter(frames))
}

/// The outcome of an HTTP/1 request to this `server`.
async fn http1<F, B>(request: Request<B>, server: impl FnOnce(DuplexStream) -> F) -> Outcome
where
    F: Future<Output = ()> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let (near, far) = tokio::io::duplex(1024);
    tokio::spawn(server(far));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    let error = in_time(sender.send_request(request)).await.unwrap_err();
    inspect(&error)
}

async fn read_head(io: &mut DuplexStream) {
    let mut seen = Vec::new();
    while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
        assert!(io.read_buf(&mut seen).await.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_connection_that_closes_without_a_response_is_transport() {
    // C26, C27: the backend may have processed the request.
    let outcome = http1(request(), |mut io| async move { read_head(&mut io).await }).await;
    assert_eq!(outcome, FailureKind::Transport.into());
}

#[tokio::test]
async fn a_response_that_is_not_http_is_transport() {
    let server = |mut io: DuplexStream| async move {
        read_head(&mut io).await;
        io.write_all(b"220 smtp.example.com ready\r\n\r\n").await.unwrap();
    };
    assert_eq!(http1(request(), server).await, FailureKind::Transport.into());
}

#[tokio::test]
async fn a_request_that_no_connection_accepted_was_not_sent() {
    // C26
    let (near, _far) = tokio::io::duplex(1024);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    drop(connection);
    let error = in_time(sender.send_request(request())).await.unwrap_err();
    assert!(error.is_canceled());
    assert_eq!(inspect(&error), FailureKind::Connect.into());

    let closed = in_time(sender.ready()).await.unwrap_err();
    assert!(closed.is_closed());
    assert_eq!(inspect(&closed), FailureKind::Connect.into());
}

#[tokio::test]
async fn a_request_body_that_fails_is_neutral() {
    // C28
    let request = Request::post("http://backend/").body(failing_body()).unwrap();
    let outcome = http1(request, |io| async move {
        let _io = io;
        std::future::pending::<()>().await;
    });
    assert_eq!(outcome.await, Outcome::Neutral);
}

#[tokio::test]
async fn a_client_that_cannot_connect_has_sent_nothing() {
    // C26, C27
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = refusing.local_addr().unwrap().port();
    drop(refusing);
    let client = legacy::Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let uri = format!("http://127.0.0.1:{port}/").parse::<Uri>().unwrap();
    let error = in_time(client.get(uri)).await.unwrap_err();
    assert_eq!(inspect(&error), FailureKind::Connect.into());
}

/// A connection that accepts all writes, and whose reads then fail with this kind of error.
struct FailsLate {
    with: io::ErrorKind,
    is_written: bool,
}

impl AsyncRead for FailsLate {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Pending until `poll_write`, which wakes the same task.
        if self.is_written { Poll::Ready(Err(self.with.into())) } else { Poll::Pending }
    }
}

impl AsyncWrite for FailsLate {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.is_written = true;
        cx.waker().wake_by_ref();
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_written_request_was_sent_whatever_error_the_socket_returns_later() {
    // C26
    let io = TokioIo::new(FailsLate { with: io::ErrorKind::ConnectionRefused, is_written: false });
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let error = in_time(sender.send_request(request())).await.unwrap_err();
    assert_eq!(inspect(&error), FailureKind::Transport.into(), "{error:?}");
}

#[tokio::test]
async fn a_socket_that_times_out_under_http2_is_a_timeout() {
    // C27
    let io = FailsLate { with: io::ErrorKind::TimedOut, is_written: false };
    let (_sender, connection) = in_time(h2::client::handshake(io)).await.unwrap();
    let error = in_time(connection).await.unwrap_err();
    assert!(error.is_io());
    assert_eq!(inspect(&error), FailureKind::Timeout.into());
}

type Connecting = Pin<Box<dyn Future<Output = Result<TokioIo<tokio::net::TcpStream>, BoxError>> + Send>>;

#[tokio::test]
async fn timeouts_and_unreachable_hosts_while_connecting_have_sent_nothing() {
    // C26
    for kind in [io::ErrorKind::TimedOut, io::ErrorKind::HostUnreachable, io::ErrorKind::InvalidData] {
        let connector = tower::service_fn(move |_: Uri| {
            Box::pin(std::future::ready(Err(io::Error::new(kind, "while connecting").into()))) as Connecting
        });
        let client = legacy::Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
        let error = in_time(client.get(Uri::from_static("http://backend/"))).await.unwrap_err();
        assert_eq!(inspect(&error), FailureKind::Connect.into(), "{kind}");
    }
}

/// The outcome of an HTTP/2 request to this `server`.
async fn http2<F, B>(request: Request<B>, server: impl FnOnce(DuplexStream) -> F) -> Outcome
where
    F: Future<Output = ()> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(server(far));
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(Duration::from_secs(1))
        .handshake(TokioIo::new(near))
        .await
        .unwrap();
    tokio::spawn(connection);
    let error = in_time(sender.send_request(request)).await.unwrap_err();
    inspect(&error)
}

/// A server that resets every stream with this reason.
fn resets(reason: h2::Reason) -> impl FnOnce(DuplexStream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    move |io| {
        Box::pin(async move {
            let mut connection = h2::server::handshake(io).await.unwrap();
            while let Some(Ok((_request, mut respond))) = connection.accept().await {
                respond.send_reset(reason);
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_stream_was_not_processed_and_other_resets_may_have_been() {
    // C26
    assert_eq!(http2(request(), resets(h2::Reason::REFUSED_STREAM)).await, FailureKind::Refused.into());
    for reason in [h2::Reason::CANCEL, h2::Reason::INTERNAL_ERROR, h2::Reason::ENHANCE_YOUR_CALM] {
        assert_eq!(http2(request(), resets(reason)).await, FailureKind::Transport.into(), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_http2_request_body_that_fails_is_neutral() {
    // C28
    let request = Request::post("http://backend/").body(failing_body()).unwrap();
    let outcome = http2(request, |io| async move {
        let mut connection = h2::server::handshake(io).await.unwrap();
        let mut held = Vec::new();
        while let Some(Ok(stream)) = connection.accept().await {
            held.push(stream);
        }
    });
    assert_eq!(outcome.await, Outcome::Neutral);
}

const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

fn goaway(last_stream: u8) -> [u8; 17] {
    [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last_stream, 0, 0, 0, 0]
}

/// Reads one request, with just enough HTTP/2.
async fn read_http2_request(io: &mut DuplexStream) {
    let mut preface = [0; 24];
    io.read_exact(&mut preface).await.unwrap();
    io.write_all(&SETTINGS).await.unwrap();
    loop {
        let mut head = [0; 9];
        io.read_exact(&mut head).await.unwrap();
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        io.read_exact(&mut vec![0; len as usize]).await.unwrap();
        const HEADERS: u8 = 1;
        if head[3] == HEADERS {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_goaway_that_excludes_the_request_means_that_it_was_not_processed() {
    // C26
    let outcome = http2(request(), |mut io| async move {
        read_http2_request(&mut io).await;
        io.write_all(&goaway(0)).await.unwrap();
        std::future::pending::<()>().await;
    });
    assert_eq!(outcome.await, FailureKind::Refused.into());
}

#[tokio::test(start_paused = true)]
async fn a_goaway_that_includes_the_request_is_transport() {
    // C26
    let outcome = http2(request(), |mut io| async move {
        read_http2_request(&mut io).await;
        io.write_all(&goaway(1)).await.unwrap();
    });
    assert_eq!(outcome.await, FailureKind::Transport.into());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_answers_no_ping_is_a_timeout() {
    // C27
    let outcome = http2(request(), |mut io| async move {
        read_http2_request(&mut io).await;
        std::future::pending::<()>().await;
    });
    assert_eq!(outcome.await, FailureKind::Timeout.into());
}

#[tokio::test(start_paused = true)]
async fn a_body_timeout_of_tower_http_is_a_timeout() {
    use http_body_util::BodyExt;
    use tower_http::timeout::TimeoutBody;

    let stalled = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let response = Response::new(TimeoutBody::new(Duration::from_secs(1), stalled));
    let error = in_time(response.into_body().collect()).await.unwrap_err();
    assert_eq!(inspect(&*error), FailureKind::Timeout.into());
}
