//! Sticky sessions over real sockets. Real time passes, and nothing depends on how much.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{
    Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::TcpListener;
use tower_fleet::{Config, Upstream, UpstreamLayer, config::ClientLayer};

use super::*;

/// A server that names itself, and sets a session cookie if the request has none.
async fn serve(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request: Request<Incoming>| async move {
                    let mut response = Response::new(Full::<Bytes>::from(name));
                    if !request.headers().contains_key(COOKIE) {
                        let session = format!("session={}; HttpOnly", fastrand::u64(..));
                        response.headers_mut().insert(SET_COOKIE, session.parse().unwrap());
                    }
                    Ok::<_, Infallible>(response)
                });
                let http = auto::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    address
}

type HttpClient = Client<HttpConnector, Empty<Bytes>>;
type Sticky = Balance<Upstream<HttpClient>, Hash>;

/// Sends a request. Returns the name of the server, and the cookie that it set.
async fn visit(door: &Sticky, cookies: &[&str]) -> (String, Option<String>) {
    let mut request = Request::builder().uri("/cart");
    for cookie in cookies {
        request = request.header(COOKIE, *cookie);
    }
    let call = door.clone().oneshot(request.body(Empty::new()).unwrap());
    let response = tokio::time::timeout(secs(20), call).await.expect("should not hang").unwrap();
    let set = response.headers().get(SET_COOKIE).map(|cookie| cookie.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (String::from_utf8(body.to_vec()).unwrap(), set)
}

// C48
#[tokio::test]
async fn a_session_meets_one_server_while_that_is_there() {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut backends = Vec::new();
    for name in ["a", "b", "c"] {
        let upstream = UpstreamLayer::new().origin(&format!("http://{}", serve(name).await)).unwrap();
        backends.push(Backend::new(name, upstream.layer(client.clone())));
    }
    let fleet = Fleet::builder().backends(backends).build().unwrap();
    let door = BalanceLayer::new(Hash::by_cookie("session").unwrap()).layer(fleet.clone());

    let mut met = HashMap::new();
    for _ in 0..12 {
        let (_, set) = visit(&door, &[]).await;
        let session = set.unwrap().split(';').next().unwrap().to_owned();
        let (server, set) = visit(&door, &[&format!("theme=dark; {session}")]).await;
        assert_eq!(set, None);
        for cookies in [vec![&*session], vec!["theme=light", &*session], vec![&*session, "session=other"]] {
            assert_eq!(visit(&door, &cookies).await.0, server);
        }
        met.insert(session, server);
    }
    assert!(fleet.remove("a"));
    for (session, server) in &met {
        let next = visit(&door, &[session]).await.0;
        assert!(if server == "a" { next != "a" } else { next == *server }, "{server}, then {next}");
    }
}

// C9, C48
#[tokio::test]
async fn a_file_sets_the_key_and_the_bound() {
    let config = Config::read(toml::toml! {
        strategy = "hash"
        hash = { key = { cookie = "session" }, bound = 2 }
        backend = [{ name = "a" }, { name = "b" }, { name = "c" }]
    });
    let echo = |backend: &Backend<ClientLayer>| {
        let name = backend.name().to_owned();
        tower::service_fn(move |_: Request<tower_fleet::ReplayBody<Empty<Bytes>>>| {
            let name = name.clone();
            async move { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(name))) }
        })
    };
    let config = config.unwrap();
    let door = config.failover().layer(config.fleet(echo).unwrap());
    let mut met = HashMap::<_, std::collections::HashSet<_>>::new();
    for visit in 0..60 {
        let session = visit % 20;
        let request = Request::builder().header(COOKIE, format!("session={session}")).body(Empty::<Bytes>::new());
        let response = door.clone().oneshot(request.unwrap()).await.unwrap();
        met.entry(session).or_default().insert(response.into_body().collect().await.unwrap().to_bytes());
    }
    assert!(met.values().all(|servers| servers.len() == 1));
    assert!(met.values().collect::<Vec<_>>().windows(2).any(|two| two[0] != two[1]));
}
