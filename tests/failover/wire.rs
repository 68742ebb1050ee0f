//! A door behind a real server: what its client receives of a stream that breaks.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tower::service_fn;
use tower_fleet::{Backend, FailoverLayer, Fleet, body::ReplayBody, failover::CommitPoint};
use tower_layer::Layer;

use crate::content::{ONE, rules};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A response of `count` events, whose connection is then reset.
fn broken(count: usize, pause: Duration) -> Response<Body> {
    let frames = stream::iter(0..=count).then(move |index| async move {
        if index < count {
            return Ok(Frame::data(Bytes::from(ONE)));
        }
        tokio::time::sleep(pause).await;
        Err(std::io::Error::other("reset"))
    });
    let body = StreamBody::new(frames).boxed_unsync();
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

/// The connection of a client.
enum Sender {
    One(hyper::client::conn::http1::SendRequest<Empty<Bytes>>),
    Two(hyper::client::conn::http2::SendRequest<Empty<Bytes>>),
}

async fn connect(stream: TcpStream, is_http2: bool) -> Sender {
    let io = TokioIo::new(stream);
    if is_http2 {
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Sender::Two(sender)
    } else {
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        Sender::One(sender)
    }
}

impl Sender {
    async fn get(&mut self, uri: &str) -> Response<Incoming> {
        let request = Request::get(uri).header("host", "door").body(Empty::new()).unwrap();
        match self {
            Self::One(sender) => sender.send_request(request).await.unwrap(),
            Self::Two(sender) => sender.send_request(request).await.unwrap(),
        }
    }
}

/// How many of 100 clients did not receive all events and the error event.
async fn check(is_http2: bool, count: usize, pause: Duration) -> usize {
    let service =
        service_fn(move |_: Request<ReplayBody<Incoming>>| async move { Ok::<_, Infallible>(broken(count, pause)) });
    let fleet = Fleet::builder().classify(rules()).backend(Backend::new("a", service)).build().unwrap();
    let door = FailoverLayer::builder().commit(CommitPoint::first_content(1024)).build().unwrap().layer(fleet.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(door.clone());
            tokio::spawn(async move {
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    let mut lost = 0;
    for _ in 0..100 {
        let mut sender = connect(TcpStream::connect(address).await.unwrap(), is_http2).await;
        let uri = if is_http2 { format!("http://{address}/") } else { "/".into() };
        let mut body = sender.get(&uri).await.into_body();
        let mut text = Vec::new();
        let failed = loop {
            match body.frame().await {
                Some(Ok(frame)) => text.extend(frame.into_data().unwrap_or_default()),
                Some(Err(_)) => break true,
                None => break false,
            }
        };
        assert!(failed, "a truncated success");
        let text = String::from_utf8(text).unwrap();
        if !(text.starts_with(&ONE.repeat(count)) && text.contains("stream_interrupted") && text.ends_with("\n\n")) {
            lost += 1;
        }
    }
    server.abort();
    lost
}

// C74: the error event is received before the stream is reset or the connection is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_of_a_real_server_receives_the_error_event() {
    for is_http2 in [false, true] {
        for (count, pause) in [(1, 0), (1, 2), (50, 0)] {
            let lost = check(is_http2, count, Duration::from_millis(pause)).await;
            assert_eq!(lost, 0, "HTTP/2: {is_http2}, {count} events, then {pause} ms");
        }
    }
}
