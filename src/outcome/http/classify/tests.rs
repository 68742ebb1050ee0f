use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Request, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};

use super::{
    super::super::{Failure, call_guard::recorder::Recorder},
    *,
};

type Frames = Vec<io::Result<Frame<Bytes>>>;
type Stream = StreamBody<stream::Iter<std::vec::IntoIter<io::Result<Frame<Bytes>>>>>;

fn response(status: u16, headers: &[(&'static str, &'static str)], frames: Frames) -> Response<Stream> {
    let mut response = Response::new(StreamBody::new(stream::iter(frames)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().extend(map(headers));
    response
}

fn map(headers: &[(&'static str, &'static str)]) -> http::HeaderMap {
    headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
}

fn data() -> io::Result<Frame<Bytes>> {
    Ok(Frame::data(Bytes::from("data")))
}

fn trailers(headers: &[(&'static str, &'static str)]) -> io::Result<Frame<Bytes>> {
    Ok(Frame::trailers(map(headers)))
}

fn head<B: Body<Error: Into<BoxError>>>(classifier: HttpClassifier, response: &Response<B>) -> Verdict {
    let mut call = Classify::<Request<()>, Response<B>>::request(&classifier, &Request::new(()));
    Classify::<Request<()>, _>::response(&classifier, &mut call, response)
}

fn status(status: u16) -> Verdict {
    head(HttpClassifier::new(), &response(status, &[], vec![]))
}

fn error(classifier: HttpClassifier, error: impl Into<BoxError>) -> Outcome {
    let call = Classify::<Request<()>, Response<Stream>>::request(&classifier, &Request::new(()));
    Classify::<Request<()>, Response<Stream>>::error(&classifier, call, &error.into())
}

/// All outcomes that are recorded of a call up to the end of its body.
async fn recorded(classifier: HttpClassifier, response: Response<Stream>) -> Vec<Outcome> {
    let recorder = Arc::new(Recorder::default());
    let mut guard = recorder.guard();
    let mut call = Classify::<Request<()>, Response<Stream>>::request(&classifier, &Request::new(()));
    if let Verdict::Now(outcome) = Classify::<Request<()>, _>::response(&classifier, &mut call, &response) {
        guard.outcome(&outcome);
    }
    let watched = <HttpClassifier as Classify<Request<()>, _>>::watch(call, response, guard);
    let _ = watched.into_body().collect().await;
    assert!(recorder.is_idle());
    recorder.outcomes()
}

#[test]
fn failures_are_429_and_the_five_hundreds() {
    // C27, C37
    for code in 100..=999 {
        let expected = match code {
            429 | 500..=599 => FailureKind::Status(code).into(),
            _ => Outcome::Success,
        };
        assert_eq!(status(code), Verdict::Now(expected), "{code}");
    }
}

#[test]
fn a_failure_carries_its_retry_after() {
    // C31, C52
    let verdict = |value| head(HttpClassifier::new(), &response(429, &[("retry-after", value)], vec![]));
    let expected = Failure::new(FailureKind::Status(429)).retry_after(Duration::from_secs(30));
    assert_eq!(verdict("30"), Verdict::Now(expected.into()));
    assert_eq!(verdict("soon"), Verdict::Now(FailureKind::Status(429).into()));
}

#[test]
fn other_statuses_replace_the_default() {
    // C27, C29
    let teapots = HttpClassifier::new().statuses(Statuses::none().and(418).unwrap());
    assert_eq!(head(teapots.clone(), &response(418, &[], vec![])), Verdict::Now(FailureKind::Status(418).into()));
    assert_eq!(head(teapots.clone(), &response(503, &[], vec![])), Verdict::Now(Outcome::Success));
    let nothing = HttpClassifier::new().statuses(Statuses::none());
    assert_eq!(head(nothing, &response(500, &[], vec![])), Verdict::Now(Outcome::Success));
}

#[test]
fn network_errors_can_be_switched_off_and_timeouts_of_middleware_still_count() {
    // C27, C28
    let (on, off) = (HttpClassifier::new(), HttpClassifier::new().network_errors(false));
    for kind in [io::ErrorKind::ConnectionRefused, io::ErrorKind::ConnectionReset, io::ErrorKind::TimedOut] {
        assert!(error(on.clone(), io::Error::from(kind)).is_failure(), "{kind}");
        assert_eq!(error(off.clone(), io::Error::from(kind)), Outcome::Neutral, "{kind}");
    }
    assert!(error(on.clone(), "anything").is_failure());
    assert_eq!(error(off.clone(), "anything"), Outcome::Neutral);
    for classifier in [on, off] {
        assert_eq!(error(classifier.clone(), tower::timeout::error::Elapsed::new()), FailureKind::Timeout.into());
        assert_eq!(
            error(classifier.clone(), tower::load_shed::error::Overloaded::new()),
            FailureKind::Overloaded.into()
        );
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_failure_after_a_success() {
    // C34
    let broken = || response(200, &[], vec![data(), Err(io::ErrorKind::ConnectionReset.into())]);
    let body = FailureKind::Body.into();
    assert_eq!(recorded(HttpClassifier::new(), broken()).await, [Outcome::Success, body]);
    assert_eq!(recorded(HttpClassifier::new().success_at_end(true), broken()).await, [body]);
    assert_eq!(recorded(HttpClassifier::new().network_errors(false), broken()).await, [Outcome::Success]);

    let known = |error| response(200, &[], vec![data(), Err(error)]);
    for (error, kind) in [
        (io::Error::other(tower::timeout::error::Elapsed::new()), FailureKind::Timeout),
        (io::Error::from(io::ErrorKind::TimedOut), FailureKind::Timeout),
        (io::Error::other(Failure::new(FailureKind::Custom("quota"))), FailureKind::Custom("quota")),
    ] {
        let outcomes = recorded(HttpClassifier::new(), known(error)).await;
        assert_eq!(outcomes, [Outcome::Success, kind.into()]);
    }
}

#[tokio::test]
async fn a_failed_status_is_recorded_once_whatever_its_body_does() {
    // C31
    let broken = response(503, &[], vec![data(), Err(io::ErrorKind::ConnectionReset.into())]);
    assert_eq!(recorded(HttpClassifier::new(), broken).await, [FailureKind::Status(503).into()]);
}

#[tokio::test]
async fn a_success_can_wait_for_the_end() {
    // C34
    let classifier = HttpClassifier::new().success_at_end(true);
    assert_eq!(head(classifier.clone(), &response(200, &[], vec![data()])), Verdict::AtEnd);
    assert_eq!(recorded(classifier.clone(), response(200, &[], vec![data()])).await, [Outcome::Success]);
    assert_eq!(
        recorded(classifier.clone(), response(404, &[], vec![trailers(&[("a", "b")])])).await,
        [Outcome::Success]
    );
}

#[tokio::test]
async fn a_grpc_status_in_headers_decides_at_the_head() {
    // C30
    let verdict = |code| {
        let headers = [("content-type", "application/grpc+proto"), ("grpc-status", code)];
        head(HttpClassifier::new(), &response(200, &headers, vec![]))
    };
    for code in 0..=16 {
        let expected = match code {
            1 => Outcome::Neutral,
            2 | 4 | 8 | 13 | 14 | 15 => FailureKind::Grpc(code).into(),
            _ => Outcome::Success,
        };
        assert_eq!(verdict(code.to_string().leak()), Verdict::Now(expected), "{code}");
    }
    // Counted as UNKNOWN, as a client reads them.
    assert_eq!(verdict("99"), Verdict::Now(FailureKind::Grpc(99).into()));
    assert_eq!(verdict("-3"), Verdict::Now(FailureKind::Grpc(-3).into()));
    assert_eq!(verdict("ok"), Verdict::Now(FailureKind::Grpc(2).into()));
}

#[tokio::test]
async fn a_grpc_status_in_trailers_decides_at_the_end() {
    // C30
    for content_type in ["application/grpc", "Application/GRPC+json", "application/grpc;charset=utf-8"] {
        let call = |frames| response(200, &[("content-type", content_type)], frames);
        let classifier = HttpClassifier::new();
        assert_eq!(head(classifier.clone(), &call(vec![])), Verdict::AtEnd);
        let ended = |code| call(vec![data(), trailers(&[("grpc-status", code)])]);
        assert_eq!(recorded(classifier.clone(), ended("0")).await, [Outcome::Success]);
        assert_eq!(recorded(classifier.clone(), ended("5")).await, [Outcome::Success]);
        assert_eq!(recorded(classifier.clone(), ended("1")).await, [Outcome::Neutral]);
        assert_eq!(recorded(classifier.clone(), ended("14")).await, [FailureKind::Grpc(14).into()]);
        assert_eq!(recorded(classifier.clone(), call(vec![data()])).await, [FailureKind::Body.into()], "no trailers");
        let silent = call(vec![data(), trailers(&[("x", "y")])]);
        assert_eq!(recorded(classifier.clone(), silent).await, [FailureKind::Body.into()], "no status in them");
        let reset = call(vec![data(), Err(io::ErrorKind::ConnectionReset.into())]);
        assert_eq!(recorded(classifier.clone(), reset).await, [FailureKind::Body.into()]);
    }
}

#[tokio::test]
async fn grpc_trailers_may_have_a_pushback() {
    // C31, C52
    let pushback = trailers(&[("grpc-status", "8"), ("grpc-retry-pushback-ms", "1500")]);
    let call = response(200, &[("content-type", "application/grpc")], vec![pushback]);
    let expected = Failure::new(FailureKind::Grpc(8)).pushback(Duration::from_millis(1500));
    assert_eq!(recorded(HttpClassifier::new(), call).await, [expected.into()]);

    let negative = [("grpc-status", "8"), ("grpc-retry-pushback-ms", "-1")];
    let forbidden = Failure::new(FailureKind::Grpc(8)).no_retry();
    let call = response(200, &[("content-type", "application/grpc")], vec![trailers(&negative)]);
    assert_eq!(recorded(HttpClassifier::new(), call).await, [forbidden.into()]);
    let at_the_head = [("content-type", "application/grpc"), negative[0], negative[1]];
    assert_eq!(head(HttpClassifier::new(), &response(200, &at_the_head, vec![])), Verdict::Now(forbidden.into()));
}

#[tokio::test]
async fn grpc_web_decides_at_the_head() {
    // C30
    let call = |headers: &[_]| response(200, headers, vec![data()]);
    for content_type in ["application/grpc-web", "application/grpc-web-text+proto", "application/grpcology"] {
        let plain = call(&[("content-type", content_type)]);
        assert_eq!(head(HttpClassifier::new(), &plain), Verdict::Now(Outcome::Success), "{content_type}");
        assert_eq!(recorded(HttpClassifier::new(), plain).await, [Outcome::Success], "{content_type}");
    }
    let unavailable = call(&[("content-type", "application/grpc-web"), ("grpc-status", "14")]);
    assert_eq!(head(HttpClassifier::new(), &unavailable), Verdict::Now(FailureKind::Grpc(14).into()));
}

#[tokio::test]
async fn grpc_with_a_status_other_than_200_needs_no_trailers() {
    // C27, C30
    let call = |status| response(status, &[("content-type", "application/grpc")], vec![]);
    assert_eq!(recorded(HttpClassifier::new(), call(503)).await, [FailureKind::Status(503).into()]);
    assert_eq!(recorded(HttpClassifier::new(), call(404)).await, [Outcome::Success]);
}

#[test]
fn grpc_codes_can_be_set() {
    // C30
    let classifier = HttpClassifier::new().grpc_codes([GrpcCode::Ok, GrpcCode::Unimplemented, GrpcCode::Cancelled]);
    let verdict = |code| {
        head(classifier.clone(), &response(200, &[("content-type", "application/grpc"), ("grpc-status", code)], vec![]))
    };
    assert_eq!(verdict("0"), Verdict::Now(Outcome::Success));
    assert_eq!(verdict("12"), Verdict::Now(FailureKind::Grpc(12).into()));
    assert_eq!(verdict("1"), Verdict::Now(FailureKind::Grpc(1).into()));
    assert_eq!(verdict("14"), Verdict::Now(Outcome::Success));
}

#[test]
fn no_text_in_a_status_makes_it_panic() {
    // C58
    use proptest::prelude::*;
    proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..32))| {
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            let mut response = response(200, &[("content-type", "application/grpc")], vec![]);
            response.headers_mut().insert("grpc-status", value.clone());
            response.headers_mut().insert("grpc-retry-pushback-ms", value.clone());
            let _ = head(HttpClassifier::new(), &response);
            response.headers_mut().insert(header::CONTENT_TYPE, value);
            let _ = head(HttpClassifier::new(), &response);
        }
    });
}

#[test]
fn a_watched_response_is_send_and_its_type_has_a_name() {
    fn send<T: Send + Sync + 'static>() {}
    send::<<HttpClassifier as Classify<Request<()>, Response<Full<Bytes>>>>::Watched>();
    send::<Response<WatchedBody<Empty<Bytes>, HttpEnd>>>();
    assert!(size_of::<HttpEnd>() <= 24);
}

#[tokio::test]
async fn a_body_that_hyper_reads_half_is_a_failure() {
    // C34
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (near, mut far) = tokio::io::duplex(1024);
    tokio::spawn(async move {
        let mut head = [0; 1024];
        let _ = far.read(&mut head).await;
        far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf!").await.unwrap();
    });
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(http::Request::new(Empty::<Bytes>::new())).await.unwrap();

    let (recorder, classifier) = (Arc::new(Recorder::default()), HttpClassifier::new().success_at_end(true));
    let mut call = Classify::<Request<()>, Response<hyper::body::Incoming>>::request(&classifier, &Request::new(()));
    assert_eq!(Classify::<Request<()>, _>::response(&classifier, &mut call, &response), Verdict::AtEnd);
    let watched = <HttpClassifier as Classify<Request<()>, _>>::watch(call, response, recorder.guard());
    let error =
        tokio::time::timeout(Duration::from_secs(20), watched.into_body().collect()).await.unwrap().unwrap_err();
    assert!(error.is::<hyper::Error>());
    assert_eq!(recorder.outcomes(), [FailureKind::Body.into()]);
}
