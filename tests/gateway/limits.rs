//! What the gateway takes from nobody.

use std::fmt::Write;

use http::{Response, Version};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    backend::Server,
    client::{Client, VERSIONS, get, raw, raw_status},
    in_time,
    process::{Gateway, Setup},
    text,
};

async fn well() -> Server {
    Server::start("red", |_| async { Ok(Response::new(text("well"))) }).await
}

// C24
#[tokio::test]
async fn paths_that_lead_up_are_refused() {
    let red = well().await;
    let gateway = Setup::new().origin("red", &format!("http://{}/tenant", red.address), "").start().await;
    for path in [
        "/..",
        "/../other",
        "/a/../../other",
        "/%2e%2e/other",
        "/a/%2E./b",
        "/./a",
        "/a\\..\\..\\b",
        "/..%2fother",
        "/a%5C..%5c",
    ] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n");
        assert_eq!(raw_status(&gateway, head.as_bytes()).await.map(|status| status.as_u16()), Some(400), "{path}");
    }
    let whole = "GET http://front/../other HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n";
    assert_eq!(raw_status(&gateway, whole.as_bytes()).await.map(|status| status.as_u16()), Some(400));
    assert_eq!(red.connections(), 0);
    for path in ["/a..b", "/.well-known/x", "/?next=/../", "/a/...", "*"] {
        let method = if path == "*" { "OPTIONS" } else { "GET" };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n");
        assert_eq!(raw_status(&gateway, head.as_bytes()).await.map(|status| status.as_u16()), Some(200), "{path}");
    }
}

#[tokio::test]
async fn tunnels_are_not_opened() {
    let red = well().await;
    let gateway = Setup::new().backend(&red).start().await;
    let answer = raw(&gateway, b"CONNECT inside:22 HTTP/1.1\r\nHost: inside:22\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 501 ") && answer.contains("application/problem+json"), "{answer}");
    let request = http::Request::connect(gateway.address.to_string()).body(text("")).unwrap();
    let answer = Client::new(Version::HTTP_2).send(request).await.unwrap();
    assert_eq!(answer.status(), 501);
    assert_eq!(red.connections(), 0);
}

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_in_number() {
    let red = well().await;
    let setup = Setup::new().with("server", "max_headers = 20\nmax_header_bytes = 16384");
    let gateway = setup.backend(&red).start().await;
    let mut many = String::from("GET / HTTP/1.1\r\nHost: front\r\n");
    for number in 0..30 {
        write!(many, "x-{number}: 1\r\n").unwrap();
    }
    let large = format!("GET / HTTP/1.1\r\nHost: front\r\nx-large: {}\r\n\r\n", "x".repeat(20_000));
    let long = format!("GET /{} HTTP/1.1\r\nHost: front\r\n\r\n", "x".repeat(20_000));
    for (head, expected) in [(many + "\r\n", &[431][..]), (large, &[431]), (long, &[414, 431])] {
        let status = raw_status(&gateway, head.as_bytes()).await.expect("an answer").as_u16();
        assert!(expected.contains(&status), "{status}");
    }
    let request = get(&gateway, "/").header("x-large", "x".repeat(20_000)).body(text("")).unwrap();
    let answer = Client::new(Version::HTTP_2).send(request).await;
    assert!(answer.as_ref().is_ok_and(|answer| answer.status() == 431), "{answer:?}");
    assert_eq!(red.connections(), 0);
    for version in VERSIONS {
        let request = get(&gateway, "/").header("x-fair", "x".repeat(8_000)).body(text("")).unwrap();
        assert_eq!(Client::new(version).ask(request).await.status(), 200);
    }
}

/// Waits until the gateway hangs up.
async fn is_cut_off(gateway: &Gateway, what: &str, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let end = tokio::time::timeout(crate::IN_TIME, socket.read_to_end(&mut answer)).await;
    assert!(end.is_ok(), "{what}: nobody hangs up");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn who_stalls_in_the_middle_of_a_head_is_cut_off() {
    let red = well().await;
    let gateway = Setup::new().with("server", "header_timeout = \"300ms\"").backend(&red).start().await;
    is_cut_off(&gateway, "nothing at all", b"").await;
    is_cut_off(&gateway, "half a head", b"GET / HTTP/1.1\r\nHost: fro").await;
    let answer = is_cut_off(&gateway, "idle", b"GET / HTTP/1.1\r\nHost: front\r\n\r\n").await;
    assert!(answer.ends_with("well"), "{answer}");
    assert_eq!(red.connections(), 1);
}

// The same letters begin both versions: which one it is, is known after them.
#[tokio::test]
async fn who_stalls_before_the_version_is_known_is_cut_off() {
    let red = well().await;
    let gateway = Setup::new().with("server", "header_timeout = \"300ms\"").backend(&red).start().await;
    is_cut_off(&gateway, "half a greeting of HTTP/2", b"PRI * HTTP/2.0\r\n").await;
    is_cut_off(&gateway, "a letter", b"P").await;
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let red = well().await;
    let gateway = Setup::new().backend(&red).start().await;
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: front\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: front\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"GET / HTTP/1.1\r\nHost: front\r\nbad name: x\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let answer = raw(&gateway, nonsense).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(red.connections(), 0);
    // It lives, and serves those who mean well.
    assert_eq!(Client::new(Version::HTTP_11).get(&gateway, "/").await.status(), 200);
}

// RFC 9112, section 6.3: whoever has both is up to something.
#[tokio::test]
async fn two_lengths_of_one_body_are_never_passed_on() {
    let red = Server::start("red", |request| async move {
        let both = ["content-length", "transfer-encoding"].iter().all(|name| request.headers().contains_key(*name));
        let body = http_body_util::BodyExt::collect(request.into_body()).await?.to_bytes();
        Ok(Response::new(text(format!("{both} {}", body.len()))))
    })
    .await;
    let gateway = Setup::new().backend(&red).start().await;
    let answer = raw(
        &gateway,
        b"POST / HTTP/1.1\r\nHost: front\r\nConnection: close\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
          5\r\nhello\r\n0\r\n\r\n",
    );
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 4") || answer.ends_with("false 5"), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_most_wait() {
    let red = well().await;
    let gateway = Setup::new().with("server", "max_connections = 2").backend(&red).start().await;
    let mut first = TcpStream::connect(gateway.address).await.unwrap();
    let second = TcpStream::connect(gateway.address).await.unwrap();
    let mut third = tokio::spawn({
        let url = gateway.url("/");
        async move {
            let request = http::Request::get(url).body(text("")).unwrap();
            Client::new(Version::HTTP_11).ask(request).await.status()
        }
    });
    // More than enough for it to be served as well, if it was let in.
    for _ in 0..50 {
        first.write_all(b"GET / HTTP/1.1\r\nHost: front\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"well") {
            assert_ne!(in_time(first.read_buf(&mut answer)).await.unwrap(), 0);
        }
    }
    assert!(futures::poll!(&mut third).is_pending(), "a third one is let in");
    drop((first, second));
    assert_eq!(in_time(third).await.unwrap(), 200);
}
