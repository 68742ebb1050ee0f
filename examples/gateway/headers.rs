//! What may pass a proxy, and what a proxy adds: RFC 9110, section 7.6.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri, Version,
    header::{
        CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, FORWARDED, HOST, PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
    },
    request::Parts,
};
use tower_fleet::pick;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What a proxy says of its client.
static CLAIMS: [HeaderName; 4] = [FORWARDED, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO];

/// Headers that are about one connection. `Trailer` is not among them: without it HTTP/1.1 drops the trailers.
static ONE_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Whether a header is about one connection, or says what the body is.
pub(crate) fn frames_messages(name: &HeaderName) -> bool {
    ONE_HOP.contains(name) || [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, HOST, TRAILER].contains(name)
}

/// Takes out what is about this connection only, and what `Connection` names. That trailers are understood is still
/// said: gRPC asks for it.
pub(crate) fn end_to_end(headers: &mut HeaderMap) {
    // Looking at the few there are is cheaper than taking out eight that are not.
    if !headers.keys().any(|name| ONE_HOP.contains(name)) {
        return;
    }
    let wants_trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter(|name| !name.eq_ignore_ascii_case("close") && !name.eq_ignore_ascii_case("keep-alive"))
        .filter_map(|name| name.parse().ok())
        .collect();
    for name in named.iter().chain(&ONE_HOP) {
        headers.remove(name);
    }
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Whether it is for one host, of which the name is one: RFC 9112, section 3.2. HTTP/1.0 need not say.
pub(crate) fn names_one_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    // Names, addresses, a port; what else a URI may hold there is for no host.
    let may_be = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(byte);
    let is_name = |host: &HeaderValue| !host.is_empty() && host.as_bytes().iter().all(may_be);
    match (hosts.next(), hosts.next()) {
        (None, _) => request.version() != Version::HTTP_11,
        (Some(host), None) => is_name(host),
        (Some(_), Some(_)) => false,
    }
}

/// A length beside a transfer coding is not the body's: RFC 9112, section 6.3.
pub(crate) fn one_length(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
}

/// Brings together the cookies that HTTP/2 may send one by one, and HTTP/1.1 may not: RFC 9113, section 8.2.3.
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

/// The protocol that the client asks to change to, if it does. It is never another HTTP: requests would reach the
/// backend then that this proxy has not checked.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let names = protocol.to_str().ok()?.to_ascii_lowercase();
    let is_http = names.split(',').any(|name| name.trim().starts_with("h2") || name.trim().starts_with("http"));
    let asks = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    (asks && !is_http).then(|| protocol.clone())
}

/// Asks for another protocol, or agrees to it.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// The other end of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    /// Its address, as it stands in a header.
    pub(crate) address: HeaderValue,
    /// The same, for a fleet whose strategy has the key `peer`.
    pub(crate) key: pick::Peer,
    /// It is a proxy of ours: what it says of its own clients is believed and added to.
    pub(crate) trusted: bool,
}

/// Adds the client, the host and the protocol of a request, and that it came through here.
pub(crate) fn forwarded(parts: &mut Parts, peer: &Peer) {
    let headers = &mut parts.headers;
    let host = authority(&parts.uri).or_else(|| headers.get(HOST).cloned());
    if !peer.trusted && headers.keys().any(|name| CLAIMS.contains(name)) {
        // What a stranger claims would be taken for our word.
        CLAIMS.iter().for_each(|name| drop(headers.remove(name)));
    }
    parts.extensions.insert(peer.key);
    headers.append(FORWARDED_FOR, peer.address.clone());
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    if let Some(host) = host {
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
    headers.append(
        VIA,
        HeaderValue::from_static(match parts.version {
            Version::HTTP_2 => "2.0 tower-fleet",
            Version::HTTP_10 => "1.0 tower-fleet",
            _ => "1.1 tower-fleet",
        }),
    );
}

fn authority(uri: &Uri) -> Option<HeaderValue> {
    let authority = uri.authority()?.as_str();
    HeaderValue::from_str(authority.rsplit('@').next()?).ok()
}

/// Whether a path has segments that lead up, in any spelling: behind a prefix they would lead out of it.
pub(crate) fn climbs(path: &str) -> bool {
    // Nearly no path has a dot behind a slash, or anything that may turn out to be one.
    if !path.contains("/.") && !path.contains(['%', '\\']) {
        return false;
    }
    let path = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    path.split(['/', '\\']).any(|segment| matches!(segment, "." | ".."))
}

#[cfg(test)]
mod tests {
    use http::request;

    use super::*;

    fn parts(builder: request::Builder) -> Parts {
        builder.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn what_is_about_one_connection_stays_there() {
        let request = Request::builder()
            .header("connection", "close, X-Secret-Hop , keep-alive")
            .header("x-secret-hop", "1")
            .header("keep-alive", "timeout=5")
            .header("proxy-authorization", "hush")
            .header("te", "gzip, trailers")
            .header("transfer-encoding", "chunked")
            .header("upgrade", "h2c")
            .header("trailer", "x-checksum")
            .header("accept", "*/*");
        let mut headers = parts(request).headers;
        end_to_end(&mut headers);
        let left: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(left.len(), 3, "{left:?}");
        for kept in [("te", "trailers"), ("trailer", "x-checksum"), ("accept", "*/*")] {
            assert!(left.contains(&kept), "{left:?}");
        }
    }

    #[test]
    fn a_strangers_claims_are_replaced_and_a_proxys_added_to() {
        for (trusted, chain, proto, host) in
            [(false, vec!["192.0.2.7"], "http", "front"), (true, vec!["10.0.0.1", "192.0.2.7"], "https", "outside")]
        {
            let request = Request::builder()
                .uri("/")
                .header("host", "front")
                .header("x-forwarded-for", "10.0.0.1")
                .header("x-forwarded-proto", "https")
                .header("x-forwarded-host", "outside");
            let mut parts = parts(request);
            forwarded(
                &mut parts,
                &Peer {
                    address: HeaderValue::from_static("192.0.2.7"),
                    key: pick::Peer([192, 0, 2, 7].into()),
                    trusted,
                },
            );
            assert_eq!(parts.headers.get_all(FORWARDED_FOR).iter().collect::<Vec<_>>(), chain);
            assert_eq!(parts.headers[FORWARDED_PROTO], proto);
            assert_eq!(parts.headers[FORWARDED_HOST], host);
            assert_eq!(parts.headers[VIA], "1.1 tower-fleet");
        }
    }

    #[test]
    fn the_name_of_an_http2_request_is_its_authority() {
        let request = Request::builder().uri("http://front/path").version(Version::HTTP_2);
        let mut parts = parts(request);
        forwarded(
            &mut parts,
            &Peer {
                address: HeaderValue::from_static("::1"),
                key: pick::Peer(std::net::Ipv6Addr::LOCALHOST.into()),
                trusted: false,
            },
        );
        assert_eq!(parts.headers[FORWARDED_HOST], "front");
        assert_eq!(parts.headers[VIA], "2.0 tower-fleet");
    }

    #[test]
    fn an_upgrade_is_asked_for_by_two_headers() {
        let asks = |connection: &str| {
            let request = Request::builder().header("connection", connection).header("upgrade", "websocket");
            upgrade(&parts(request).headers).is_some()
        };
        assert!(asks("Upgrade") && asks("keep-alive, upgrade"));
        assert!(!asks("keep-alive"));
    }

    #[test]
    fn dots_are_seen_in_every_spelling() {
        for path in ["/..", "/a/../b", "/a/%2e%2E/b", "/./a", "/a/.%2e", "/a/..\\b", "/a\\..", "/a%2F..", "/%5c%2e%2E"]
        {
            assert!(climbs(path), "{path}");
        }
        for path in ["/", "/a..b/c", "/.well-known/x", "/a/...", "/%20", "/a.b", "/a%2Fb", "/a%2e"] {
            assert!(!climbs(path), "{path}");
        }
    }
}
