use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream;
use http::HeaderValue;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower_http::classify::{
    GrpcErrorsAsFailures, NeverClassifyEos, ServerErrorsAsFailures, SharedClassifier, StatusInRangeAsFailures,
};

use super::{super::super::call_guard::seen::Seen, *};

type Frames = Vec<io::Result<Frame<Bytes>>>;
type Stream = StreamBody<stream::Iter<std::vec::IntoIter<io::Result<Frame<Bytes>>>>>;

fn response(status: u16, frames: Frames) -> Response<Stream> {
    Response::builder().status(status).body(StreamBody::new(stream::iter(frames))).unwrap()
}

fn headers(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))])
}

/// The verdict on the head, and everything that is recorded when the body was read.
async fn judged<C>(classifier: C, response: Response<Stream>) -> (Verdict, Vec<Outcome>)
where
    C: Classify<Request<()>, Response<Stream>, Watched: Into<Response<WatchedBody<Stream, C::Call>>>>,
    C::Call: ClassifyEnd,
{
    let seen = Arc::new(Seen::default());
    let mut guard = seen.guard();
    let mut call = classifier.request(&Request::new(()));
    let verdict = classifier.response(&mut call, &response);
    if let Verdict::Now(outcome) = &verdict {
        guard.outcome(outcome);
    }
    let watched = classifier.watch(call, response, guard).into();
    let _ = watched.into_body().collect().await;
    (verdict, seen.outcomes())
}

fn error<C: Classify<Request<()>, Response<Stream>>>(classifier: C, error: impl Into<BoxError>) -> Outcome {
    classifier.error(classifier.request(&Request::new(())), &error.into())
}

#[tokio::test]
async fn server_errors_as_failures_plugs_in() {
    // C31
    let classifier = || TowerHttp::new(ServerErrorsAsFailures::make_classifier());
    let failure = Outcome::from(FailureKind::Status(503));
    assert_eq!(judged(classifier(), response(503, vec![])).await, (Verdict::Now(failure), vec![failure]));
    let (verdict, recorded) = judged(classifier(), response(429, vec![])).await;
    assert_eq!((verdict, recorded), (Verdict::Now(Outcome::Success), vec![Outcome::Success]));
    let broken = response(200, vec![Err(io::ErrorKind::BrokenPipe.into())]);
    assert_eq!(judged(classifier(), broken).await.1, [Outcome::Success, FailureKind::Body.into()]);
}

#[tokio::test]
async fn failures_get_the_retry_after_of_the_response() {
    // C52
    let mut busy = response(503, vec![]);
    busy.headers_mut().extend(headers("retry-after", "5"));
    let expected = Failure::new(FailureKind::Status(503)).retry_after(Duration::from_secs(5));
    let (verdict, _) = judged(TowerHttp::new(ServerErrorsAsFailures::make_classifier()), busy).await;
    assert_eq!(verdict, Verdict::Now(expected.into()));
}

#[tokio::test]
async fn grpc_errors_as_failures_waits_for_the_end_of_the_stream() {
    // C30
    let classifier = || TowerHttp::new(GrpcErrorsAsFailures::make_classifier());
    let ended = |code| response(200, vec![Ok(Frame::trailers(headers("grpc-status", code)))]);
    assert_eq!(judged(classifier(), ended("0")).await, (Verdict::AtEnd, vec![Outcome::Success]));
    assert_eq!(judged(classifier(), ended("14")).await, (Verdict::AtEnd, vec![FailureKind::Grpc(14).into()]));
    let broken = response(200, vec![Err(io::ErrorKind::BrokenPipe.into())]);
    assert_eq!(judged(classifier(), broken).await.1, [FailureKind::Body.into()]);

    let mut at_once = response(200, vec![]);
    at_once.headers_mut().extend(headers("grpc-status", "13"));
    let failure = Outcome::from(FailureKind::Grpc(13));
    assert_eq!(judged(classifier(), at_once).await, (Verdict::Now(failure), vec![failure]));
}

#[tokio::test]
async fn a_foreign_failure_class_is_explained_by_a_function() {
    // C29
    let make = StatusInRangeAsFailures::new(400..=499).into_make_classifier();
    let classifier = TowerHttp::with(make, |_| Failure::new(FailureKind::Custom("client")));
    let failure = Outcome::from(FailureKind::Custom("client"));
    assert_eq!(judged(classifier, response(404, vec![])).await.0, Verdict::Now(failure));

    let own = ServerErrorsAsFailures::new().map_failure_class(|_| Failure::new(FailureKind::Custom("mapped")));
    let classifier = TowerHttp::new(SharedClassifier::new(own));
    let failure = Outcome::from(FailureKind::Custom("mapped"));
    assert_eq!(judged(classifier, response(500, vec![])).await.0, Verdict::Now(failure));
}

#[test]
fn the_kind_of_an_error_is_read_from_the_error() {
    // C26, C27
    let classifier = || TowerHttp::new(ServerErrorsAsFailures::make_classifier());
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    assert_eq!(error(classifier(), refused), FailureKind::Connect.into());
    assert_eq!(error(classifier(), tower::timeout::error::Elapsed::new()), FailureKind::Timeout.into());
    assert_eq!(error(classifier(), "who knows"), FailureKind::Other.into());

    let named = TowerHttp::with(ServerErrorsAsFailures::make_classifier(), |_| FailureKind::Custom("mine").into());
    assert_eq!(error(named, "who knows"), FailureKind::Custom("mine").into());
}

#[tokio::test]
async fn what_the_caller_caused_stays_neutral() {
    // C28
    let (near, _far) = tokio::io::duplex(64);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    let frames = StreamBody::new(stream::iter([Err::<Frame<Bytes>, _>(io::Error::other("the caller left"))]));
    let upload = sender.send_request(Request::post("/").body(frames).unwrap());
    let failed = tokio::time::timeout(Duration::from_secs(20), upload).await.unwrap().unwrap_err();
    let named = TowerHttp::with(ServerErrorsAsFailures::make_classifier(), |_| FailureKind::Custom("mine").into());
    assert_eq!(error(named, failed), Outcome::Neutral);
}

/// A classifier that needs the request.
#[derive(Clone)]
struct OnlyFor(&'static str);

#[derive(Clone)]
struct Bad(bool);

impl MakeClassifier for OnlyFor {
    type Classifier = Bad;
    type FailureClass = &'static str;
    type ClassifyEos = NeverClassifyEos<&'static str>;

    fn make_classifier<B>(&self, request: &Request<B>) -> Bad {
        Bad(request.uri().path() == self.0)
    }
}

impl ClassifyResponse for Bad {
    type FailureClass = &'static str;
    type ClassifyEos = NeverClassifyEos<&'static str>;

    fn classify_response<B>(self, _: &Response<B>) -> ClassifiedResponse<&'static str, Self::ClassifyEos> {
        ClassifiedResponse::Ready(if self.0 { Err("bad path") } else { Ok(()) })
    }

    fn classify_error<E: fmt::Display + 'static>(self, _: &E) -> &'static str {
        "error"
    }
}

#[test]
fn the_request_reaches_the_classifier() {
    let classifier = TowerHttp::with(OnlyFor("/bad"), |class| FailureKind::Custom(class).into());
    for (path, expected) in [("/good", Outcome::Success), ("/bad", FailureKind::Custom("bad path").into())] {
        let request = Request::get(path).body(()).unwrap();
        let mut call = Classify::<_, Response<Stream>>::request(&classifier, &request);
        let verdict = Classify::<Request<()>, _>::response(&classifier, &mut call, &response(200, vec![]));
        assert_eq!(verdict, Verdict::Now(expected), "{path}");
    }
}
