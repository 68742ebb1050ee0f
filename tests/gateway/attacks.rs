//! Clients and backends that mean no good.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http::{Response, Version};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    backend::Server,
    client::{Client, get, raw, raw_status},
    in_time,
    process::Setup,
    text,
};

/// A backend that answers each request with these bytes and hangs up; what it was sent is kept.
async fn answering(bytes: &'static [u8]) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<_>>>::default());
    let hears = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && socket.read_buf(&mut head).await.is_ok_and(|read| read > 0) {}
            hears.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
            let _ = socket.write_all(bytes).await;
        }
    });
    (address, heard)
}

const WELL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell";

// C24, C59: a path that does not fit behind the prefix must not send the request, credentials and all, where the
// client says.
#[tokio::test]
async fn no_request_goes_where_a_client_says() {
    let ((red, _), (elsewhere, heard)) = (answering(WELL).await, answering(WELL).await);
    for (prefix, length) in [(140, 65_450), (300, 65_300), (1, 200)] {
        let origin = format!("http://{red}/{}", "t".repeat(prefix));
        let setup = Setup::new().with("server", "max_header_bytes = 131072").env("KEY", "hush");
        let gateway = setup.origin("red", &origin, "bearer = \"env:KEY\"").start().await;
        let whole = format!("http://{elsewhere}/");
        let path = "a".repeat(length - whole.len());
        let head = format!("GET {whole}{path} HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n");
        let status = raw_status(&gateway, head.as_bytes()).await.expect("an answer").as_u16();
        assert_eq!(status, if length > 65_000 { 414 } else { 200 });
        assert!(heard.lock().unwrap().is_empty(), "{:?}", heard.lock().unwrap());
    }
}

// RFC 9112, section 3.2
#[tokio::test]
async fn a_request_names_one_host() {
    let (red, heard) = answering(WELL).await;
    let gateway = Setup::new().origin("red", &format!("http://{red}"), "").start().await;
    for hosts in ["", "Host: a\r\nHost: b\r\n", "Host: a b\r\n", "Host: user:hush@a\r\n", "Host: a/b?c\r\n"] {
        let head = format!("GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        assert_eq!(raw_status(&gateway, head.as_bytes()).await.expect("an answer"), 400, "{hosts}");
    }
    let trace = "TRACE / HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n";
    assert_eq!(raw_status(&gateway, trace.as_bytes()).await.expect("an answer"), 501);
    assert!(heard.lock().unwrap().is_empty());
    let head = "GET http://inside/ HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n";
    assert_eq!(raw_status(&gateway, head.as_bytes()).await.expect("an answer"), 200);
    assert!(heard.lock().unwrap()[0].contains("x-forwarded-host: inside\r\n"));
}

// C50: never a clean early end.
#[tokio::test]
async fn an_answer_of_http_1_0_that_is_cut_off_does_not_look_whole() {
    let red = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", red.local_addr().unwrap());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut socket, _)) = red.accept().await {
            let mut head = [0; 1024];
            let _ = socket.read(&mut head).await;
            let _ = socket.write_all(b"HTTP/1.0 200 OK\r\n\r\nhalf").await;
            kept.push(socket);
        }
    });
    let gateway = Setup::new().with("server", "stall = \"300ms\"").origin("red", &origin, "").start().await;
    let answer = raw(&gateway, b"GET / HTTP/1.1\r\nHost: front\r\n\r\n").await;
    assert!(answer.contains("half") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("transfer-encoding: chunked"), "{answer}");
}

// RFC 9112, section 6.3
#[tokio::test]
async fn of_two_lengths_of_an_answer_the_false_one_goes() {
    let both = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let (red, _) = answering(both).await;
    let gateway = Setup::new().origin("red", &format!("http://{red}"), "").start().await;
    let answer = Client::new(Version::HTTP_11).get(&gateway, "/").await;
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, &b"hello"[..]));
}

#[tokio::test]
async fn a_protocol_is_not_changed_unasked() {
    let (red, _) = answering(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
    let gateway = Setup::new().origin("red", &format!("http://{red}"), "").start().await;
    for version in crate::client::VERSIONS {
        assert_eq!(Client::new(version).get(&gateway, "/").await.status(), 502, "{version:?}");
    }
}

#[tokio::test]
async fn who_takes_nothing_is_left() {
    let red = Server::start("red", |_| async { Ok(Response::new(text("x".repeat(50_000_000)))) }).await;
    let setup = Setup::new().with("server", "stall = \"300ms\"\nmax_connections = 1");
    let gateway = setup.backend(&red).start().await;
    let mut idle = TcpStream::connect(gateway.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: front\r\n\r\n").await.unwrap();
    // There is one place, and it is free again when the gateway has left.
    let request = get(&gateway, "/..").body(text("")).unwrap();
    assert_eq!(in_time(Client::new(Version::HTTP_11).ask(request)).await.status(), 400);
    drop(idle);
}

// HTTP/2 has no change of protocol, and its backend is not to be blamed for one that a client asks for.
#[tokio::test]
async fn a_backend_of_http_2_is_not_asked_for_another_protocol() {
    let red =
        Server::start("red", |request| async move { Ok(Response::new(text(format!("{:?}", request.version())))) })
            .await;
    let setup = Setup::new().with("upstreams", "h2c = [\"red\"]").with("breaker", "consecutive = 1");
    let gateway = setup.backend(&red).start().await;
    let head = b"GET / HTTP/1.1\r\nHost: front\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    for _ in 0..3 {
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        socket.write_all(head).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"HTTP/2.0") {
            assert_ne!(in_time(socket.read_buf(&mut answer)).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
        }
    }
}
