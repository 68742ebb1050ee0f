//! Over real sockets, in HTTP/1.1 and HTTP/2: the length that a server gets is that of the edited body.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Response, header::CONTENT_LENGTH};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::TcpListener;
use tower_fleet::{Backend, ReplayBody, UpstreamLayer};

use super::*;

/// A server that answers with what it got: the length of the head, that of the body, and the body.
async fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service_fn(async |request: Request<Incoming>| {
                let length = request.headers().get(CONTENT_LENGTH).map(|length| length.to_str().unwrap().to_owned());
                let (size, version) = (request.body().size_hint().exact(), request.version());
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let text = format!("{version:?} {length:?} {size:?} {}", String::from_utf8_lossy(&body));
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
            });
            tokio::spawn(async move {
                let http = auto::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    origin
}

// C24, C76
#[tokio::test]
async fn a_server_gets_the_right_length() {
    for (http2, version) in [(false, "HTTP/1.1"), (true, "HTTP/2.0")] {
        let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http::<ReplayBody<Full<Bytes>>>();
        let upstream = UpstreamLayer::new().origin(&serve().await).unwrap();
        let backend = Backend::new("a", client).layer(model("gpt-4o")).layer(upstream);
        let fleet = Fleet::builder().backend(backend).build().unwrap();
        let door = FailoverLayer::new().layer(fleet);
        let request = Request::post("/v1").header(CONTENT_TYPE, "application/json").header(CONTENT_LENGTH, "17");
        let request = request.body(Full::new(Bytes::from_static(b"{ \"model\": \"a\" }\n"))).unwrap();
        let call = async { door.oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes() };
        let seen = tokio::time::timeout(Duration::from_secs(20), call).await.expect("should not hang");
        assert_eq!(seen, format!("{version} Some(\"22\") Some(22) {{ \"model\": \"gpt-4o\" }}\n"));
    }
}
