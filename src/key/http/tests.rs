use http::Method;
use proptest::prelude::*;

use super::*;

fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a valid request")
}

fn cookie_of(headers: &[(&str, &str)], name: &str) -> Option<u64> {
    KeySource::cookie(name).expect("a valid name").key_of(&request("/", headers))
}

fn parameter_of(uri: &str, name: &str) -> Option<u64> {
    KeySource::query(name).expect("a valid name").key_of(&request(uri, &[]))
}

// C48
#[test]
fn a_header_is_hashed_whole() {
    let source = KeySource::header("X-User").unwrap();
    let long = "u".repeat(100_000);
    for value in ["17", "a, b", &long] {
        assert_eq!(source.key_of(&request("/", &[("x-user", value)])), Some(hash_key(value.as_bytes())));
    }
    assert_eq!(source.key_of(&request("/", &[("x-user", "1"), ("x-user", "2")])), Some(hash_key(b"1")));
    for none in [request("/", &[]), request("/", &[("x-user", "")]), request("/", &[("x-users", "1")])] {
        assert_eq!(source.key_of(&none), None);
    }
    let mut binary = request("/", &[]);
    binary.headers_mut().insert("x-user", http::HeaderValue::from_bytes(b"\xff\x80").unwrap());
    assert_eq!(source.key_of(&binary), Some(hash_key(b"\xff\x80")));
}

// C48
#[test]
fn a_cookie_is_found_among_others() {
    let id = Some(hash_key(b"17"));
    for header in ["id=17", "a=1; id=17", "a=1;id=17 ; b=2", "id=\"17\"", "xid=1; id=17", "id; id=17", "=; ;; id=17"] {
        assert_eq!(cookie_of(&[("cookie", header)], "id"), id, "{header}");
    }
    // The first of several, also over several headers, as HTTP/2 splits them.
    assert_eq!(cookie_of(&[("cookie", "a=1"), ("cookie", "id=17"), ("cookie", "id=18")], "id"), id);
    assert_eq!(cookie_of(&[("cookie", "id=a=b")], "id"), Some(hash_key(b"a=b")));
    for header in ["", "id", "id=", "id=\"\"", "ID=17", "xid=17", "idx=17", "a=id=17"] {
        assert_eq!(cookie_of(&[("cookie", header)], "id"), None, "{header}");
    }
    assert_eq!(cookie_of(&[], "id"), None);
    // A quote without its end belongs to the value.
    assert_eq!(cookie_of(&[("cookie", "id=\"")], "id"), Some(hash_key(b"\"")));
}

// C48
#[test]
fn a_parameter_is_taken_as_it_is_written() {
    assert_eq!(parameter_of("/a?id=17", "id"), Some(hash_key(b"17")));
    assert_eq!(parameter_of("/a?x=1&id=17&id=18", "id"), Some(hash_key(b"17")));
    assert_eq!(parameter_of("/a?id=%41", "id"), Some(hash_key(b"%41")));
    assert_eq!(parameter_of("/a?a%20b=1", "a%20b"), Some(hash_key(b"1")));
    for uri in ["/a", "/a?", "/a?id", "/a?id=", "/a?xid=1", "/a?ID=1", "/id=1", "*"] {
        assert_eq!(parameter_of(uri, "id"), None, "{uri}");
    }
}

// C48
#[test]
fn a_path_has_no_query() {
    let path = |uri| KeySource::path().key_of(&request(uri, &[]));
    assert_eq!(path("/a/b?c=d"), Some(hash_key(b"/a/b")));
    assert_eq!(path("https://example.com/a/b"), path("/a/b"));
    let mut connect = request("example.com:443", &[]);
    *connect.method_mut() = Method::CONNECT;
    assert_eq!(KeySource::path().key_of(&connect), None);
}

// C48
#[test]
fn a_peer_is_its_address_without_the_port() {
    let peer = |address: &str| {
        let mut request = request("/", &[]);
        request.extensions_mut().insert(Peer(address.parse().unwrap()));
        KeySource::peer().key_of(&request)
    };
    assert_eq!(KeySource::peer().key_of(&request("/", &[])), None);
    assert_eq!(peer("127.0.0.1"), peer("::ffff:127.0.0.1"));
    assert_ne!(peer("127.0.0.1"), peer("127.0.0.2"));
    assert_ne!(peer("2001:db8::1"), peer("2001:db8::2"));
}

// C48
#[test]
fn a_closure_sees_the_whole_head() {
    let source = KeySource::head(|head| {
        let tenant = head.headers.get("tenant").filter(|_| head.method == Method::GET)?;
        Some(hash_key(tenant.as_bytes()) ^ hash_key(head.uri.path().as_bytes()) ^ *head.extensions.get::<u64>()?)
    });
    let mut with_all = request("/p", &[("tenant", "t")]);
    assert_eq!(source.key_of(&with_all), None);
    with_all.extensions_mut().insert(5_u64);
    assert_eq!(source.key_of(&with_all), Some(hash_key(b"t") ^ hash_key(b"/p") ^ 5));
}

// C48, C58
#[test]
fn names_that_no_request_can_have_are_refused() {
    for (refused, expected) in [
        (KeySource::header(""), "hash: header `` must be the name of a header"),
        (KeySource::header("x user"), "hash: header `x user` must be the name of a header"),
        (KeySource::cookie("a=b"), "hash: cookie `a=b` must be the name of a cookie"),
        (KeySource::cookie(""), "hash: cookie `` must be the name of a cookie"),
        (KeySource::query("a&b"), "hash: query `a&b` must be the name of a parameter, as it is written in a query"),
        (KeySource::query(""), "hash: query `` must be the name of a parameter, as it is written in a query"),
    ] {
        assert_eq!(refused.unwrap_err().to_string(), expected);
    }
    let source = KeySource::cookie("session").unwrap();
    assert_eq!(format!("{source:?}"), "KeySource(cookie:session)");
}

/// What a simple parser of cookies finds.
fn model(header: &[u8], name: &str) -> Option<Vec<u8>> {
    for pair in header.split(|byte| *byte == b';') {
        let pair = pair.trim_ascii();
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
        if &pair[..equals] == name.as_bytes() {
            let value = pair[equals + 1..].trim_ascii();
            let is_quoted = value.len() >= 2 && value[0] == b'"' && value[value.len() - 1] == b'"';
            return Some(if is_quoted { value[1..value.len() - 1].to_vec() } else { value.to_vec() });
        }
    }
    None
}

proptest! {
    // C48, C58
    #[test]
    fn hostile_headers_have_the_key_of_the_model(
        header in proptest::collection::vec(prop_oneof![
            8 => prop_oneof![Just(b'='), Just(b';'), Just(b'"'), Just(b' '), Just(b'i'), Just(b'd')],
            2 => 32_u8..127,
            1 => 128_u8..=255,
        ], 0..60),
    ) {
        let mut request = request("/", &[]);
        request.headers_mut().insert("cookie", http::HeaderValue::from_bytes(&header).unwrap());
        let expected = model(&header, "id").filter(|value| !value.is_empty()).map(|value| hash_key(&value));
        prop_assert_eq!(KeySource::cookie("id").unwrap().key_of(&request), expected);
        prop_assert_eq!(KeySource::header("cookie").unwrap().key_of(&request), key(&header));
    }

    // C48, C58
    #[test]
    fn hostile_queries_have_the_first_value_of_the_name(query in "[id=&%+?0-9;]{0,60}") {
        let expected = query.split('&').find_map(|pair| pair.strip_prefix("id=")).filter(|value| !value.is_empty());
        let expected = expected.map(|value| hash_key(value.as_bytes()));
        prop_assert_eq!(parameter_of(&format!("/p?{query}"), "id"), expected);
    }
}

// C48
#[test]
fn reading_a_key_allocates_nothing() {
    let cookies = "a=b; ".repeat(2_000) + "id=17; " + &"c=d; ".repeat(2_000);
    let uri = format!("/{}?{}id=17", "p".repeat(2_000), "a=b&".repeat(2_000));
    let mut request = request(&uri, &[("cookie", &cookies), ("x-user", &cookies)]);
    request.extensions_mut().insert(Peer([127, 0, 0, 1].into()));
    let sources = [
        KeySource::cookie("id").unwrap(),
        KeySource::query("id").unwrap(),
        KeySource::header("x-user").unwrap(),
        KeySource::path(),
        KeySource::peer(),
    ];
    let info = allocation_counter::measure(|| {
        for source in &sources {
            assert!(source.key_of(&request).is_some());
        }
    });
    assert_eq!(info.count_total, 0);
}
