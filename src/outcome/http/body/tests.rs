use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Empty, Full, StreamBody};

use super::{super::super::call_guard::recorder::Recorder, *};
use crate::outcome::FailureKind;

/// A [`ClassifyEnd`] that logs its calls.
struct LogEnd(Arc<Mutex<Vec<String>>>);

impl ClassifyEnd for LogEnd {
    fn end(self, trailers: Option<&HeaderMap>) -> Outcome {
        self.0.lock().unwrap().push(format!("end, {} trailers", trailers.map_or(0, HeaderMap::len)));
        Outcome::Success
    }

    fn error(self, error: &BoxError) -> Outcome {
        self.0.lock().unwrap().push(format!("error, {error}"));
        FailureKind::Body.into()
    }
}

struct Watching {
    recorder: Arc<Recorder>,
    log: Arc<Mutex<Vec<String>>>,
}

fn watch<B: Body<Error: Into<BoxError>>>(body: B) -> (WatchedBody<B, LogEnd>, Watching) {
    let watching = Watching { recorder: Arc::default(), log: Arc::default() };
    let body = WatchedBody::new(body, LogEnd(watching.log.clone()), watching.recorder.guard());
    (body, watching)
}

impl Watching {
    #[track_caller]
    fn expect(&self, log: &[&str], outcomes: &[Outcome]) {
        assert_eq!(*self.log.lock().unwrap(), log);
        assert_eq!(self.recorder.outcomes(), outcomes);
        assert_eq!(self.recorder.is_idle(), !outcomes.is_empty(), "in flight until the end is recorded");
    }
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(http::header::SERVER, HeaderValue::from_static("x"))])
}

fn two_frames() -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
    let frames = [Ok(Frame::data(Bytes::from("a"))), Ok(Frame::data(Bytes::from("b")))];
    StreamBody::new(stream::iter(frames))
}

#[tokio::test]
async fn a_good_end_is_recorded_once() {
    // C34
    let (mut body, watching) = watch(two_frames());
    for data in ["a", "b"] {
        watching.expect(&[], &[]);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), data);
    }
    watching.expect(&[], &[]);
    assert!(body.frame().await.is_none());
    watching.expect(&["end, 0 trailers"], &[Outcome::Success]);
    assert!(body.frame().await.is_none());
    drop(body);
    watching.expect(&["end, 0 trailers"], &[Outcome::Success]);
}

#[tokio::test]
async fn the_last_frame_is_the_end_if_the_body_knows() {
    // C34: a server does not poll again.
    let (mut body, watching) = watch(Full::new(Bytes::from("all")));
    watching.expect(&[], &[]);
    body.frame().await.unwrap().unwrap();
    assert!(body.is_end_stream());
    watching.expect(&["end, 0 trailers"], &[Outcome::Success]);
}

#[tokio::test]
async fn an_empty_body_has_ended_before_it_is_polled() {
    // C34
    let (body, watching) = watch(Empty::<Bytes>::new());
    watching.expect(&["end, 0 trailers"], &[Outcome::Success]);
    drop(body);
    watching.expect(&["end, 0 trailers"], &[Outcome::Success]);
}

#[tokio::test]
async fn trailers_are_the_end_and_are_passed_on() {
    // C34
    let (mut body, watching) = watch(two_frames().with_trailers(std::future::ready(Some(Ok(trailers())))));
    body.frame().await.unwrap().unwrap();
    body.frame().await.unwrap().unwrap();
    watching.expect(&[], &[]);
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_trailers().unwrap(), trailers());
    watching.expect(&["end, 1 trailers"], &[Outcome::Success]);
    assert!(body.frame().await.is_none());
    watching.expect(&["end, 1 trailers"], &[Outcome::Success]);
}

#[tokio::test]
async fn an_error_is_recorded_and_passed_on() {
    // C34
    let frames = [Ok(Frame::data(Bytes::from("a"))), Err(io::Error::other("cut"))];
    let (mut body, watching) = watch(StreamBody::new(stream::iter(frames)));
    body.frame().await.unwrap().unwrap();
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(error.downcast_ref::<io::Error>().is_some(), "the error of the inner body is kept");
    watching.expect(&["error, cut"], &[FailureKind::Body.into()]);
    assert!(body.frame().await.is_none());
    drop(body);
    watching.expect(&["error, cut"], &[FailureKind::Body.into()]);
}

#[tokio::test]
async fn an_early_drop_is_neutral() {
    // C37
    let (mut body, watching) = watch(two_frames());
    body.frame().await.unwrap().unwrap();
    drop(body);
    watching.expect(&[], &[Outcome::Neutral]);
}

#[tokio::test]
async fn after_a_success_of_the_head_only_an_error_is_recorded() {
    // C34
    for (last, outcomes) in [
        (None, vec![Outcome::Success]),
        (Some(Err(io::Error::other("cut"))), vec![Outcome::Success, FailureKind::Body.into()]),
    ] {
        let recorder = Arc::new(Recorder::default());
        let mut guard = recorder.guard();
        guard.outcome(&Outcome::Success);
        let frames = [Ok(Frame::data(Bytes::from("a")))].into_iter().chain(last);
        let body = WatchedBody::new(StreamBody::new(stream::iter(frames)), LogEnd(Arc::default()), guard);
        let _ = body.collect().await;
        assert_eq!(recorder.outcomes(), outcomes);
    }

    let recorder = Arc::new(Recorder::default());
    let mut guard = recorder.guard();
    guard.outcome(&Outcome::Success);
    drop(WatchedBody::new(two_frames(), LogEnd(Arc::default()), guard));
    assert_eq!(recorder.outcomes(), [Outcome::Success], "an early drop");
}

// C45
#[tokio::test]
async fn an_upgraded_connection_is_in_flight_while_its_extension_is_held() {
    let recorder = Arc::<Recorder>::default();
    let respond = |status| {
        let response = Response::builder().status(status).body(Empty::<Bytes>::new()).unwrap();
        WatchedBody::watch(LogEnd(Arc::default()), response, recorder.guard())
    };
    let mut response = respond(StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(recorder.outcomes(), [Outcome::Success], "the upgrade is a success");
    let tunnel = response.extensions_mut().remove::<InFlight>().unwrap();
    response.into_body().collect().await.unwrap();
    assert!(!recorder.is_idle());
    let half = tunnel.clone();
    drop(tunnel);
    assert!(!recorder.is_idle(), "a clone is held");
    drop(half);
    assert!(recorder.is_idle());
    // If the extension stays in the response, the call ends with it.
    drop(respond(StatusCode::SWITCHING_PROTOCOLS));
    assert!(recorder.is_idle());
    assert!(respond(StatusCode::OK).extensions().get::<InFlight>().is_none());
    assert_eq!(recorder.outcomes(), [Outcome::Success; 3]);
}

#[test]
fn hints_are_those_of_the_inner_body() {
    let (body, _watching) = watch(Full::new(Bytes::from("12345")));
    assert_eq!(body.size_hint().exact(), Some(5));
    assert!(!body.is_end_stream());
    let (body, _watching) = watch(two_frames());
    assert_eq!(body.size_hint().upper(), None);
    assert!(!body.is_end_stream());
    let (body, _watching) = watch(Empty::<Bytes>::new());
    assert!(body.is_end_stream());
}

#[tokio::test]
async fn a_default_body_is_unwatched() {
    let body = WatchedBody::<Full<Bytes>, LogEnd>::default();
    assert!(body.collect().await.unwrap().to_bytes().is_empty());
}

#[test]
fn debug_does_not_show_the_inner_body() {
    // C59
    let (body, _watching) = watch(Full::new(Bytes::from("a token")));
    assert_eq!(format!("{body:?}"), "WatchedBody { watched: true, .. }");
}
