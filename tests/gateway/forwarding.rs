//! What a proxy takes out of a message, and what it adds.

use http::{Response, Version};

use crate::{
    backend::Server,
    client::{Client, VERSIONS, get, raw},
    process::Setup,
    text,
};

/// Answers with the head of the request as it came, a line for each header.
async fn mirror() -> Server {
    Server::start("red", |request| async move {
        let mut seen = format!("{:?} {} {}\n", request.version(), request.method(), request.uri());
        for (name, value) in request.headers() {
            seen += &format!("{name}: {}\n", value.to_str()?);
        }
        let response = Response::builder().header("x-own", "kept").header("connection", "x-hop").header("x-hop", "1");
        Ok(response.header("keep-alive", "timeout=5").header("proxy-authenticate", "Basic").body(text(seen))?)
    })
    .await
}

fn values<'a>(seen: &'a str, name: &str) -> Vec<&'a str> {
    seen.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

#[tokio::test]
async fn headers_of_one_hop_stay_there() {
    let red = mirror().await;
    let gateway = Setup::new().backend(&red).start().await;
    let answer = raw(
        &gateway,
        b"GET /a?b=c HTTP/1.1\r\nHost: front\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
          Proxy-Authorization: hush\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nX-Own: kept\r\n\r\n",
    )
    .await
    .to_lowercase();
    let (head, seen) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(seen.contains("http/1.1 get /a?b=c\n"), "{seen}");
    assert_eq!(values(seen, "x-own"), ["kept"]);
    for gone in ["x-hop", "keep-alive", "proxy-authorization", "proxy-connection", "te", "connection"] {
        assert!(values(seen, gone).is_empty(), "{gone}: {seen}");
    }
    assert!(head.contains("x-own: kept"), "{head}");
    for gone in ["x-hop", "keep-alive", "proxy-authenticate"] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
}

/// What a client of this version gets to see of its own request, having told a tale.
async fn told(version: Version, trusted: &str) -> String {
    let red = mirror().await;
    let gateway = Setup::new().with("server", trusted).backend(&red).start().await;
    let request = get(&gateway, "/")
        .header("x-forwarded-for", "10.0.0.1")
        .header("x-forwarded-host", "outside")
        .header("x-forwarded-proto", "https")
        .header("forwarded", "for=10.0.0.1")
        .header("via", "1.0 elsewhere");
    let answer = Client::new(version).ask(request.body(text("")).unwrap()).await;
    let seen = String::from_utf8(answer.into_body().to_vec()).unwrap();
    // The name that the client used, and the one that the backend is called by.
    seen.replace(&gateway.address.to_string(), "front").replace(&red.address.to_string(), "inside")
}

#[tokio::test]
async fn a_strangers_claims_are_replaced() {
    for version in VERSIONS {
        let seen = told(version, "").await;
        assert_eq!(values(&seen, "x-forwarded-for"), ["127.0.0.1"], "{seen}");
        assert_eq!(values(&seen, "x-forwarded-host"), ["front"], "{seen}");
        assert_eq!(values(&seen, "x-forwarded-proto"), ["http"], "{seen}");
        assert!(values(&seen, "forwarded").is_empty(), "{seen}");
        let own = if version == Version::HTTP_2 { "2.0 tower-fleet" } else { "1.1 tower-fleet" };
        assert_eq!(values(&seen, "via"), ["1.0 elsewhere", own], "{seen}");
        assert_eq!(values(&seen, "host"), ["inside"], "C24: {seen}");
    }
}

#[tokio::test]
async fn what_a_trusted_proxy_says_is_extended() {
    for version in VERSIONS {
        let seen = told(version, "trusted_proxies = [\"127.0.0.1\"]").await;
        assert_eq!(values(&seen, "x-forwarded-for"), ["10.0.0.1", "127.0.0.1"], "{seen}");
        assert_eq!(values(&seen, "x-forwarded-host"), ["outside"], "{seen}");
        assert_eq!(values(&seen, "x-forwarded-proto"), ["https"], "{seen}");
        // Ours would be missing in it: it says less than the headers that are kept up to date.
        assert_eq!(values(&seen, "forwarded").len(), 1, "{seen}");
    }
}

// Past the greeting the two would be alone, and nothing of what a proxy is for would be done.
#[tokio::test]
async fn a_change_to_http2_is_not_passed_on() {
    let red = mirror().await;
    let gateway = Setup::new().backend(&red).start().await;
    for protocol in ["h2c", "H2C, websocket", "websocket, h2c", "HTTP/2.0"] {
        let head = format!(
            "GET / HTTP/1.1\r\nHost: front\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: {protocol}\r\n\
             HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
        );
        let answer = raw(&gateway, head.as_bytes()).await;
        let (head, seen) = answer.split_once("\r\n\r\n").expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200 "), "{protocol}: {head}");
        for gone in ["upgrade", "connection", "http2-settings"] {
            assert!(values(seen, gone).is_empty(), "{protocol}: {seen}");
        }
    }
}

// C24
#[tokio::test]
async fn each_backend_is_asked_under_its_own_path_and_name() {
    let red = mirror().await;
    let gateway =
        Setup::new().origin("red", &format!("http://{}/v1", red.address), "host = \"api.example.com\"").start().await;
    let answer = Client::new(Version::HTTP_11).get(&gateway, "/chat?x=1%2F2").await;
    let seen = String::from_utf8(answer.into_body().to_vec()).unwrap();
    assert!(seen.starts_with("HTTP/1.1 GET /v1/chat?x=1%2F2\n"), "{seen}");
    assert_eq!(values(&seen, "host"), ["api.example.com"], "{seen}");
}
