//! Downloads: what is resumed, what is not, and what must be right about the rest.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use tower_fleet::resume::{ByteRanges, ResumeLayer};
use tower_layer::Layer;

use super::replica::{Client, Joined, Piece, Reply, data, door, fleet, read, reply, story};

pub(crate) const TEXT: &str = "0123456789abcdefghij";
pub(crate) const ETAG: (&str, &str) = ("etag", "\"v1\"");

pub(crate) fn get(headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::get("/file?part=1").body(Full::default()).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    request
}

pub(crate) async fn send(fleet: &tower_fleet::Fleet<Client>, request: Request<Full<Bytes>>) -> Response<Joined> {
    ResumeLayer::new(ByteRanges::new()).layer(door(fleet)).oneshot(request).await.unwrap()
}

/// The whole, which breaks off after so many bytes.
pub(crate) fn cut(at: usize) -> Reply {
    reply(200, &[ETAG, ("content-length", "20")], vec![data(&TEXT[..at]), Piece::Error("cut")])
}

/// The rest from `start`, which breaks off before `end`.
pub(crate) fn rest(start: usize, end: usize) -> Reply {
    let mut pieces = vec![data(&TEXT[start..end])];
    pieces.extend((end < TEXT.len()).then_some(Piece::Error("cut again")));
    reply(206, &[ETAG, ("content-range", &format!("bytes {start}-19/20"))], pieces)
}

// C75
#[tokio::test(start_paused = true)]
async fn a_download_goes_on_where_it_broke_off() {
    let (fleet, [a, b, c]) = fleet();
    a.then([cut(5)]);
    b.then([rest(5, 12)]);
    c.then([rest(12, 20)]);
    let request = get(&[("accept", "text/plain"), ("if-none-match", "\"v0\""), ("authorization", "secret")]);
    let response = send(&fleet, request).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-length"], "20");
    let (text, _, error, body) = read(response.into_body()).await;
    assert_eq!((text.as_str(), error), (TEXT, None));
    assert_eq!(story(&body), "a:cut(5) b:cut(12) c:served");
    assert_eq!(
        (a.ranges(), b.ranges(), c.ranges()),
        (vec!["".into()], vec!["bytes=5-".into()], vec!["bytes=12-".into()])
    );
    let headers = b.headers(0);
    assert_eq!(
        (&headers["if-range"], &headers["accept"], &headers["authorization"]),
        (&"\"v1\"".parse().unwrap(), &"text/plain".parse().unwrap(), &"secret".parse().unwrap())
    );
    assert!(!headers.contains_key("if-none-match"), "a condition of the caller was met already");
    assert!(a.headers(0).contains_key("if-none-match"));
    drop(body);
    assert_eq!(a.running() + b.running() + c.running(), 0);
}

// C75
#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_before_its_first_byte_is_resumed_too() {
    let (fleet, [a, b]) = fleet();
    a.then([cut(0)]);
    b.then([rest(0, 20)]);
    let (text, _, error, _) = read(send(&fleet, get(&[])).await.into_body()).await;
    assert_eq!((text.as_str(), error, b.ranges()), (TEXT, None, vec!["bytes=0-".into()]));
}

// C75
#[tokio::test(start_paused = true)]
async fn a_range_of_the_caller_goes_on_to_its_own_end() {
    let (fleet, [a, b]) = fleet();
    let head = |range| [ETAG, ("content-range", range)];
    a.then([reply(206, &head("bytes 4-14/20"), vec![data(&TEXT[4..9]), Piece::Error("cut")])]);
    b.then([reply(206, &head("bytes 9-14/20"), vec![data(&TEXT[9..15])])]);
    let response = send(&fleet, get(&[("range", "bytes=4-14")])).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-range"]),
        (206, &"bytes 4-14/20".parse().unwrap())
    );
    let (text, _, error, _) = read(response.into_body()).await;
    assert_eq!((text.as_str(), error, b.ranges()), (&TEXT[4..15], None, vec!["bytes=9-14".into()]));
}

// C75
#[tokio::test(start_paused = true)]
async fn a_body_of_unknown_length_ends_where_the_rest_says() {
    let (fleet, [a, b]) = fleet();
    a.then([reply(200, &[ETAG], vec![data(&TEXT[..3]), Piece::Error("cut")])]);
    b.then([rest(3, 20)]);
    let (text, _, error, _) = read(send(&fleet, get(&[])).await.into_body()).await;
    assert_eq!((text.as_str(), error), (TEXT, None));
}

// C75
#[tokio::test(start_paused = true)]
async fn trailers_are_those_of_the_last_part() {
    let (fleet, [a, b]) = fleet();
    a.then([cut(5)]);
    let head = [ETAG, ("content-range", "bytes 5-19/20")];
    b.then([reply(206, &head, vec![data(&TEXT[5..]), Piece::Trailer("checksum", "7")])]);
    let (text, trailers, error, body) = read(send(&fleet, get(&[])).await.into_body()).await;
    let expected = HeaderMap::from_iter([("checksum".parse().unwrap(), "7".parse().unwrap())]);
    assert_eq!((text.as_str(), trailers, error), (TEXT, Some(expected), None));
    assert!(body.is_end_stream());
}

// C75
#[tokio::test(start_paused = true)]
async fn a_rest_that_is_not_the_same_is_refused() {
    let part = |headers: &[(&str, &str)]| reply(206, headers, vec![data(&TEXT[5..])]);
    let range = ("content-range", "bytes 5-19/20");
    let weak = ("etag", "W/\"v1\"");
    let rests = [
        ("changed", reply(200, &[("etag", "\"v2\"")], vec![data("another")])),
        ("whole", reply(200, &[ETAG], vec![data(TEXT)])),
        ("unsatisfied", reply(416, &[("content-range", "bytes */3")], vec![])),
        ("missing", reply(404, &[], vec![])),
        ("another validator", part(&[("etag", "\"v2\""), range])),
        ("a weak validator", part(&[weak, range])),
        ("no validator", part(&[range])),
        ("two validators", part(&[ETAG, ETAG, range])),
        ("an earlier start", reply(206, &[ETAG, ("content-range", "bytes 4-19/20")], vec![data(&TEXT[4..])])),
        ("a later start", reply(206, &[ETAG, ("content-range", "bytes 6-19/20")], vec![data(&TEXT[6..])])),
        ("an earlier end", part(&[ETAG, ("content-range", "bytes 5-18/20")])),
        ("another total", part(&[ETAG, ("content-range", "bytes 5-19/21")])),
        ("an unknown total", part(&[ETAG, ("content-range", "bytes 5-19/*")])),
        ("no range", part(&[ETAG])),
        ("garbage", part(&[ETAG, ("content-range", "bytes five")])),
        ("an encoding", part(&[ETAG, range, ("content-encoding", "gzip")])),
        ("several parts", part(&[ETAG, range, ("content-type", "multipart/byteranges; boundary=x")])),
    ];
    for (case, rest) in rests {
        let (fleet, [a, b]) = fleet();
        a.then([cut(5)]);
        b.then([rest]);
        let (text, _, error, body) = read(send(&fleet, get(&[])).await.into_body()).await;
        assert_eq!((text.as_str(), error.as_deref()), (&TEXT[..5], Some("cut")), "{case}");
        assert!(!body.is_end_stream(), "{case}");
        assert_eq!((a.calls(), b.calls(), b.running()), (1, 1, 0), "{case}");
        assert!(story(&body).starts_with("a:cut(5) b:not joined("), "{case}: {}", story(&body));
    }
}

// C75
#[tokio::test(start_paused = true)]
async fn a_rest_of_another_length_ends_with_the_original_error() {
    let longer = format!("{}k", &TEXT[5..]);
    for (rest, got) in [(&TEXT[5..18], &TEXT[..18]), (longer.as_str(), &TEXT[..5])] {
        let (fleet, [a, b]) = fleet();
        a.then([cut(5)]);
        b.then([reply(206, &[ETAG, ("content-range", "bytes 5-19/20")], vec![data(rest)])]);
        let (text, _, error, _) = read(send(&fleet, get(&[])).await.into_body()).await;
        assert_eq!((text.as_str(), error.as_deref()), (got, Some("cut")));
    }
}

// C75
#[tokio::test(start_paused = true)]
async fn what_cannot_be_resumed_passes_untouched() {
    const MODIFIED: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    const SECOND_LATER: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:38 GMT");
    const MUCH_LATER: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:50:37 GMT");
    const ACCEPTS: (&str, &str) = ("accept-ranges", "bytes");
    let request = |method: &str, headers: &[(&str, &str)]| {
        let mut request = get(headers);
        *request.method_mut() = method.parse().unwrap();
        request
    };
    let with_body = Request::get("/").body(Full::from("why not")).unwrap();
    let cases = [
        ("a weak validator", get(&[]), vec![("etag", "W/\"v1\"")]),
        ("no validator", get(&[]), vec![ACCEPTS]),
        ("a bad validator", get(&[]), vec![("etag", "v1")]),
        ("ranges refused", get(&[]), vec![ETAG, ("accept-ranges", "none")]),
        ("modified too late", get(&[]), vec![MODIFIED, SECOND_LATER, ACCEPTS]),
        ("no date", get(&[]), vec![MODIFIED, ACCEPTS]),
        ("ranges unknown", get(&[]), vec![MODIFIED, MUCH_LATER]),
        ("several ranges", get(&[("range", "bytes=0-1,4-5")]), vec![ETAG]),
        ("two ranges", get(&[("range", "bytes=0-1"), ("range", "bytes=4-5")]), vec![ETAG]),
        ("another unit", get(&[("range", "items=0-1")]), vec![ETAG]),
        ("a post", request("POST", &[]), vec![ETAG]),
        ("a put", request("PUT", &[]), vec![ETAG]),
        ("a request with a body", with_body, vec![ETAG]),
    ];
    for (case, request, headers) in cases {
        let (fleet, [a, b]) = fleet();
        a.then([reply(200, &headers, vec![data("01234"), Piece::Error("cut")])]);
        let (text, _, error, body) = read(send(&fleet, request).await.into_body()).await;
        assert_eq!((text.as_str(), error.as_deref()), ("01234", Some("cut")), "{case}");
        assert_eq!((a.calls(), b.calls(), body.ledger().is_none()), (1, 0, true), "{case}");
    }
    // A date that is a strong validator.
    let (fleet, [a, b]) = fleet();
    a.then([reply(200, &[MODIFIED, MUCH_LATER, ACCEPTS], vec![data(&TEXT[..5]), Piece::Error("cut")])]);
    b.then([reply(206, &[MODIFIED, ("content-range", "bytes 5-19/20")], vec![data(&TEXT[5..])])]);
    let (text, _, error, _) = read(send(&fleet, get(&[])).await.into_body()).await;
    assert_eq!((text.as_str(), error, &b.headers(0)["if-range"]), (TEXT, None, &MODIFIED.1.parse().unwrap()));
}

// C75
#[tokio::test(start_paused = true)]
async fn the_length_is_that_of_the_whole() {
    use http_body_util::BodyExt;
    let (fleet, [a, b]) = fleet();
    let whole = [ETAG, ("content-length", "20")];
    a.then([reply(200, &whole, vec![data(&TEXT[..5]), Piece::Wait(50), data(&TEXT[5..7]), Piece::Error("cut")])]);
    b.then([rest(7, 20)]);
    let mut body = send(&fleet, get(&[])).await.into_body();
    let mut text = String::new();
    while let Some(frame) = body.frame().await {
        // A slow reader.
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        assert!(body.size_hint().exact().is_none_or(|left| left + text.len() as u64 <= 20));
        text.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
    }
    assert_eq!(text, TEXT);
}

// C75
#[test]
fn bodies_and_futures_cross_threads() {
    fn check<T: Send>() {}
    fn check_shared<T: Send + Sync>() {}
    check::<Joined>();
    check_shared::<tower_fleet::resume::ResponseBody<Full<Bytes>>>();
    check_shared::<tower_fleet::resume::Resuming<tower_fleet::Failover<Client>, ByteRanges>>();
    fn is_send(_: &impl Send) {}
    let (fleet, [_]) = fleet();
    is_send(&async move { send(&fleet, get(&[])).await });
}
