//! Clients of the gateway.

use std::io;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use http::{Method, Request, Response, StatusCode, Version, request::Builder};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::BoxError;

use crate::{Body, in_time, process::Gateway, text};

pub(crate) const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

/// A client that speaks one version.
#[derive(Clone)]
pub(crate) struct Client(legacy::Client<HttpConnector, Body>);

impl Client {
    pub(crate) fn new(version: Version) -> Self {
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.http2_adaptive_window(true).http2_only(version == Version::HTTP_2);
        Self(builder.build_http())
    }

    /// The head of the response, in time.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, legacy::Error> {
        in_time(self.0.request(request)).await
    }

    /// The head of the response, whenever it comes.
    pub(crate) async fn send_slowly(&self, request: Request<Body>) -> Result<Response<Incoming>, legacy::Error> {
        self.0.request(request).await
    }

    /// A whole exchange that is to go well.
    pub(crate) async fn ask(&self, request: Request<Body>) -> Response<Bytes> {
        let response = self.send(request).await.unwrap_or_else(|error| panic!("lost: {error:?}"));
        let (parts, body) = response.into_parts();
        let body = in_time(body.collect()).await.unwrap_or_else(|error| panic!("broken: {error:?}"));
        Response::from_parts(parts, body.to_bytes())
    }

    pub(crate) async fn get(&self, gateway: &Gateway, path: &str) -> Response<Bytes> {
        self.ask(get(gateway, path).body(text("")).unwrap()).await
    }
}

pub(crate) fn get(gateway: &Gateway, path: &str) -> Builder {
    Request::get(gateway.url(path))
}

pub(crate) fn post(gateway: &Gateway, path: &str) -> Builder {
    Request::builder().method(Method::POST).uri(gateway.url(path))
}

/// A body of frames that come one by one, of a length that is not known before.
pub(crate) fn stream<E>(frames: impl Stream<Item = Result<Bytes, E>> + Send + 'static) -> Body
where
    E: Into<BoxError> + 'static,
{
    StreamBody::new(frames.map_ok(Frame::data).map_err(io::Error::other)).boxed_unsync()
}

/// What a client that minds no grammar gets for these bytes, until the gateway hangs up.
pub(crate) async fn raw(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    // The gateway may have answered, and closed, before it has read everything.
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = in_time(socket.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status that such a client gets.
pub(crate) async fn raw_status(gateway: &Gateway, bytes: &[u8]) -> Option<StatusCode> {
    raw(gateway, bytes).await.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}
