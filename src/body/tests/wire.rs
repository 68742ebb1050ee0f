//! Replayed bodies over HTTP/1.1 on loopback, with hyper on both ends.

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves one connection with `handler`.
async fn serve<F, R>(handler: F) -> TcpStream
where
    F: Fn(Request<Incoming>) -> R + Send + 'static,
    R: Future<Output = Result<Response<Full<Bytes>>, BoxError>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service_fn(handler))
            .await;
    });
    TcpStream::connect(address).await.unwrap()
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, BoxError> {
    let length = request.headers().get("content-length").cloned();
    let mut response = Response::new(Full::new(request.into_body().collect().await?.to_bytes()));
    if let Some(length) = length {
        response.headers_mut().insert("x-request-length", length);
    }
    Ok(response)
}

async fn send<B>(body: ReplayBody<B>) -> Result<Response<Bytes>, BoxError>
where
    B: Body + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    let stream = serve(echo).await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (head, body) = sender.send_request(Request::post("/").body(body)?).await?.into_parts();
    Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
}

// C33
#[tokio::test]
async fn two_backends_receive_the_same_body_at_the_same_time() {
    let source = TestSource::default();
    let original = ReplayBody::new(source.body());
    let (first, second) = (original.again().unwrap(), original);
    let feed = async {
        for _ in 0..100 {
            source.data("0123456789".repeat(30));
            tokio::task::yield_now().await;
        }
        source.end();
    };
    let (first, second, ()) = tokio::join!(send(first), send(second), feed);
    let expected = "0123456789".repeat(3_000);
    assert_eq!(first.unwrap().into_body(), expected);
    assert_eq!(second.unwrap().into_body(), expected);
}

// C33
#[tokio::test]
async fn every_attempt_sends_a_known_length() {
    let original = ReplayBody::new(Full::new(Bytes::from_static(b"hello")));
    for body in [original.again().unwrap(), original] {
        let response = send(body).await.unwrap();
        assert_eq!(response.headers()["x-request-length"], "5");
        assert_eq!(response.body(), "hello");
    }
}

// C33
#[tokio::test]
async fn a_body_cut_short_never_arrives_as_complete() {
    let source = TestSource::default();
    let original = bounded(&source, 4, &ReplayMemory::new(ROOMY));
    let mut leader = original.again().unwrap();
    let mut behind = original.again().unwrap();
    source.data("abc");
    assert_eq!(data(&mut leader), "abc");
    assert_eq!(data(&mut behind), "abc");
    source.data("de");
    assert_eq!(data(&mut leader), "de");
    let failed = send(behind).await.unwrap_err();
    let mut chain = std::iter::successors(Some(&*failed as &dyn std::error::Error), |e| e.source());
    assert!(chain.any(|error| error.is::<ReplayError>()), "the cause is in the source chain: {failed:?}");
}

/// A gateway that reads and echoes the body under `/read`, and otherwise responds with 503 without reading it.
async fn gateway(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, BoxError> {
    let reads = request.uri().path() == "/read";
    let body = ReplayBody::new(request.into_body());
    let attempt = body.again()?;
    if reads {
        return Ok(Response::new(Full::new(attempt.collect().await?.to_bytes())));
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    Ok(response)
}

// C33
#[tokio::test]
async fn continue_is_sent_once_an_attempt_reads() {
    let head =
        |path: &str| format!("POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    let mut unread = serve(gateway).await;
    unread.write_all(head("/ignore").as_bytes()).await.unwrap();
    let mut response = vec![0; 12];
    unread.read_exact(&mut response).await.unwrap();
    assert_eq!(response, b"HTTP/1.1 503", "without the body being sent");

    let mut read = serve(gateway).await;
    read.write_all(head("/read").as_bytes()).await.unwrap();
    let mut response = vec![0; 25];
    read.read_exact(&mut response).await.unwrap();
    assert_eq!(response, b"HTTP/1.1 100 Continue\r\n\r\n");
    read.write_all(b"hello").await.unwrap();
    let mut response = vec![0; 15];
    read.read_exact(&mut response).await.unwrap();
    assert_eq!(response, b"HTTP/1.1 200 OK");
}
