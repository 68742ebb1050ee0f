//! HTTP/1.1 and HTTP/2, on both sides, in any combination.

use bytes::Bytes;
use http::{Method, Request, Response, Version};
use http_body_util::BodyExt;

use crate::{
    backend::Server,
    client::{Client, VERSIONS, post, raw},
    process::Setup,
    text,
};

/// Says what version it was asked in, and what it was sent.
async fn echo() -> Server {
    Server::start("red", |request| async move {
        let version = format!("{:?}", request.version());
        let body = request.into_body().collect().await?.to_bytes();
        Ok(Response::builder().header("spoken", version).body(text(body))?)
    })
    .await
}

// C33
#[tokio::test]
async fn any_version_is_spoken_on_either_side() {
    for client in VERSIONS {
        for upstream in VERSIONS {
            let red = echo().await;
            let h2c = if upstream == Version::HTTP_2 { "h2c = [\"red\"]" } else { "" };
            let gateway = Setup::new().with("upstreams", h2c).backend(&red).start().await;
            let asking = Client::new(client);
            for size in [0, 10, 300_000] {
                let body = Bytes::from("0123456789".repeat(size / 10));
                let answer = asking.ask(post(&gateway, "/").body(text(body.clone())).unwrap()).await;
                assert_eq!(answer.status(), 200);
                assert_eq!(answer.version(), client);
                assert_eq!(answer.headers()["spoken"], format!("{upstream:?}"), "to a client of {client:?}");
                assert!(*answer.body() == body, "{client:?} to {upstream:?}: {size} bytes came back as others");
            }
            assert_eq!(red.connections(), 1, "{client:?} to {upstream:?}: connections are kept");
        }
    }
}

#[tokio::test]
async fn cookies_of_an_http2_client_are_one_header_to_an_http1_backend() {
    let red = Server::start("red", |request| async move {
        let cookies = request.headers().get_all("cookie").iter().map(|cookie| cookie.to_str().unwrap());
        Ok(Response::new(text(cookies.collect::<Vec<_>>().join(" | "))))
    })
    .await;
    let gateway = Setup::new().backend(&red).start().await;
    let request = Request::get(gateway.url("/")).header("cookie", "a=1").header("cookie", "b=2");
    let answer = Client::new(Version::HTTP_2).ask(request.body(text("")).unwrap()).await;
    assert_eq!(answer.body(), "a=1; b=2", "RFC 9113, section 8.2.3");
}

#[tokio::test]
async fn answers_without_a_body_stay_as_they_are() {
    for commit in ["\"head\"", "\"first_frame\"", "{ whole = \"64KiB\" }"] {
        let red = Server::start("red", |request| async move {
            let response = Response::builder();
            Ok(match (request.method(), request.uri().path()) {
                (&Method::HEAD, _) => response.header("content-length", "12345").body(text(""))?,
                (_, "/none") => response.status(204).body(text(""))?,
                _ => response.status(304).header("etag", "\"x\"").body(text(""))?,
            })
        })
        .await;
        let gateway = Setup::new().with("failover", &format!("commit = {commit}")).backend(&red).start().await;
        for version in VERSIONS {
            let client = Client::new(version);
            let head = client.ask(Request::head(gateway.url("/")).body(text("")).unwrap()).await;
            assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &"12345".parse().unwrap()));
            assert_eq!(client.get(&gateway, "/none").await.status(), 204);
            let unchanged = client.get(&gateway, "/unchanged").await;
            assert_eq!((unchanged.status().as_u16(), unchanged.headers()["etag"].as_bytes()), (304, &b"\"x\""[..]));
        }
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_is_served() {
    let red = echo().await;
    let gateway = Setup::new().backend(&red).start().await;
    let answer = raw(&gateway, b"POST / HTTP/1.0\r\nHost: front\r\nContent-Length: 5\r\n\r\nhello").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    assert!(!answer.to_lowercase().contains("transfer-encoding"), "{answer}");
}

// RFC 9110, section 10.1.1.
#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let red = echo().await;
    let gateway = Setup::new().backend(&red).start().await;
    let mut socket = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let head =
        b"POST / HTTP/1.1\r\nHost: front\r\nConnection: close\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    socket.write_all(head).await.unwrap();
    let mut go = [0; 25];
    crate::in_time(socket.read_exact(&mut go)).await.unwrap();
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"hello").await.unwrap();
    let mut answer = String::new();
    crate::in_time(socket.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
}
