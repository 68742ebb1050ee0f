//! How long an attempt waits for the caller, and what ends such a wait.

use std::time::Duration;

use http::Request;
use tokio::time::{advance, sleep};

use super::{
    super::{Replay, ReplayLayer, Upload},
    *,
};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn layer() -> ReplayLayer {
    ReplayLayer::new().idle_timeout(None)
}

/// The request as the caller sends it.
fn kept(layer: &ReplayLayer, source: &TestSource) -> Request<ReplayBody<TestBody>> {
    layer.keep(Request::new(source.body()))
}

/// The body of one attempt, and its upload.
fn attempt(layer: &ReplayLayer, kept: &Request<ReplayBody<TestBody>>) -> (ReplayBody<TestBody>, Upload) {
    split(layer.again(kept).unwrap())
}

fn split(request: Request<ReplayBody<TestBody>>) -> (ReplayBody<TestBody>, Upload) {
    let upload = request.extensions().get::<Upload>().expect("the request has a body").clone();
    (request.into_body(), upload)
}

// C37, C50: issue 11.4
#[tokio::test(start_paused = true)]
async fn a_wait_lasts_from_the_pending_poll_to_the_next_frame() {
    for limit in [ROOMY, 0] {
        let source = TestSource::default();
        let layer = layer().limit(limit);
        let (mut body, upload) = split(Replay::<Request<TestBody>>::last(&layer, kept(&layer, &source)));
        advance(secs(1)).await;
        assert_eq!(upload.waited(), secs(0), "the backend has not asked for the body yet");
        assert!(poll(&mut body).is_pending());
        advance(secs(2)).await;
        assert!(poll(&mut body).is_pending(), "another poll does not begin another wait");
        advance(secs(3)).await;
        assert!(upload.is_waiting());
        assert_eq!(upload.waited(), secs(5));
        source.data("ab");
        advance(secs(7)).await;
        assert_eq!((upload.waited(), upload.is_waiting()), (secs(5), false), "now it waits for the backend");
        assert_eq!(data(&mut body), "ab");
        assert!(poll(&mut body).is_pending());
        advance(secs(1)).await;
        source.end();
        assert!(matches!(poll(&mut body), Poll::Ready(None)));
        advance(secs(1)).await;
        assert_eq!((upload.waited(), upload.is_waiting()), (secs(6), false), "limit {limit}");
    }
}

// C37, C50: issue 11.4. An attempt that is behind has what it needs, and one that is in front waits.
#[tokio::test(start_paused = true)]
async fn a_reader_that_is_behind_does_not_wait_for_the_caller() {
    let source = TestSource::default();
    let layer = layer();
    let original = kept(&layer, &source);
    let (mut front, in_front) = attempt(&layer, &original);
    let (mut slow, behind) = attempt(&layer, &original);
    source.data("ab");
    assert_eq!(data(&mut front), "ab");
    assert!(poll(&mut front).is_pending());
    advance(secs(2)).await;
    assert_eq!((in_front.is_waiting(), behind.is_waiting()), (true, false));
    assert_eq!(data(&mut slow), "ab");
    assert!(poll(&mut slow).is_pending(), "now it has caught up");
    advance(secs(3)).await;
    assert_eq!((in_front.waited(), behind.waited()), (secs(5), secs(3)));
    // One frame ends the waits of both, whichever reads it first.
    source.data("cd");
    advance(secs(4)).await;
    assert_eq!((in_front.waited(), behind.waited()), (secs(5), secs(3)));
    assert_eq!((data(&mut slow), data(&mut front)), ("cd".into(), "cd".into()));
}

// C37: issue 11.4. The source wakes the reader from inside of its poll.
#[tokio::test(start_paused = true)]
async fn a_source_that_wakes_its_own_poll_is_not_waited_for() {
    struct Yields(bool);
    impl Body for Yields {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"ab")))));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    let layer = layer();
    for limit in [ROOMY, 0] {
        let layer = layer.clone().limit(limit);
        let request = Replay::<Request<Yields>>::last(&layer, layer.keep(Request::new(Yields(false))));
        let upload = request.extensions().get::<Upload>().unwrap().clone();
        let mut body = request.into_body();
        // Polled twice: with the reader's waker, and with the one that ends a wait.
        assert_eq!(data(&mut body), "ab");
        assert!(!upload.is_waiting());
    }
}

// C20, C50: issue 11.4
#[tokio::test(start_paused = true)]
async fn dropping_the_body_ends_the_wait_and_releases_the_reader() {
    for limit in [ROOMY, 0] {
        let source = TestSource::default();
        let layer = layer().limit(limit);
        let (mut body, upload) = split(Replay::<Request<TestBody>>::last(&layer, kept(&layer, &source)));
        let wakes = Arc::new(WakeCount::default());
        assert!(poll_with(&mut body, &wakes).is_pending());
        advance(secs(2)).await;
        drop(body);
        advance(secs(3)).await;
        assert_eq!((upload.waited(), upload.is_waiting()), (secs(2), false));
        assert_eq!(Arc::strong_count(&wakes), 1, "no waker of the reader is kept");
    }
}

// C50: issue 11.4. Hedges and the bound of a race leave out the time in which any attempt waits, once.
#[tokio::test(start_paused = true)]
async fn a_request_waits_while_any_of_its_attempts_does() {
    let source = TestSource::default();
    let layer = layer();
    let original = kept(&layer, &source);
    let (mut one, first) = attempt(&layer, &original);
    let running = first.running();
    assert!(poll(&mut one).is_pending());
    advance(secs(1)).await;
    let (mut two, second) = attempt(&layer, &original);
    let request = first.join(&second);
    assert_eq!(request.waited(), secs(1));
    assert!(poll(&mut two).is_pending());
    advance(secs(2)).await;
    assert_eq!((request.waited(), second.waited()), (secs(3), secs(2)));
    drop(running);
    advance(secs(4)).await;
    assert!(request.is_waiting());
    source.data("ab");
    advance(secs(8)).await;
    assert_eq!((request.waited(), first.waited(), second.waited()), (secs(7), secs(7), secs(6)));
    let (mut three, third) = attempt(&layer, &original);
    // It waits before it is added.
    assert_eq!(data(&mut three), "ab");
    assert!(poll(&mut three).is_pending());
    assert!(request.join(&third).is_waiting());
    advance(secs(1)).await;
    assert!(poll(&mut one).is_ready() && poll(&mut one).is_pending());
    drop(third.running());
    assert_eq!((request.waited(), request.is_waiting()), (secs(8), false), "the attempts are over that still wait");
    assert!(first.is_waiting() && third.is_waiting());
    drop(three);
    assert_eq!(request.waited(), secs(8));
}

// C50: issue 11.4
#[tokio::test(start_paused = true)]
async fn the_task_that_times_the_attempt_is_woken_when_the_wait_ends() {
    let source = TestSource::default();
    let layer = layer();
    let original = kept(&layer, &source);
    let (mut body, upload) = attempt(&layer, &original);
    let wakes = Arc::new(WakeCount::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut cx = Context::from_waker(&waker);
    assert_eq!(upload.poll_waited(&mut cx), Some(secs(0)));
    assert!(poll(&mut body).is_pending());
    assert_eq!(upload.poll_waited(&mut cx), None);
    assert_eq!(upload.poll_waited(&mut cx), None);
    assert_eq!(wakes.take(), 0);
    source.data("ab");
    assert_eq!(wakes.take(), 1, "once, although it was asked twice");
    assert_eq!(data(&mut body), "ab");
    assert!(poll(&mut body).is_pending());
    source.data("cd");
    assert_eq!(wakes.take(), 0, "no timer was due");
    assert!(poll(&mut body).is_ready() && poll(&mut body).is_pending());
    assert_eq!(upload.poll_waited(&mut cx), None);
    drop(body);
    assert_eq!(wakes.take(), 1);
}

/// Polls until the body is ready, as a task does.
async fn next(body: &mut ReplayBody<TestBody>) -> Option<Result<Frame<Bytes>, ReplayError>> {
    std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

// C37: issue 11.4
#[tokio::test(start_paused = true)]
async fn a_caller_that_sends_nothing_for_too_long_fails_the_body_for_all_readers() {
    for limit in [ROOMY, 0] {
        let source = TestSource::default();
        let layer = ReplayLayer::new().limit(limit).idle_timeout(secs(10));
        let original = kept(&layer, &source);
        let copy = layer.again(&original).ok().map(split);
        let (mut body, upload) = split(Replay::<Request<TestBody>>::last(&layer, original));
        let feed = async {
            for _ in 0..3 {
                sleep(secs(9)).await;
                source.data("ab");
            }
        };
        let begun = tokio::time::Instant::now();
        let read = async { while let Some(Ok(_)) = next(&mut body).await {} };
        tokio::join!(feed, read);
        assert_eq!(begun.elapsed().as_secs(), 37, "each frame begins the time anew");
        assert!(matches!(upload.failure(), Some(ReplayError::Stalled { timeout }) if timeout == secs(10)));
        assert!(!upload.is_waiting() && !body.is_end_stream());
        let reason = if limit > 0 { Unreplayable::Stalled } else { Unreplayable::TooLarge { limit } };
        assert_eq!(body.unreplayable(), Some(reason));
        assert!(matches!(poll(&mut body), Poll::Ready(None)), "it has failed once");
        if let Some((mut copy, upload)) = copy {
            assert_eq!(data(&mut copy), "ababab");
            assert!(matches!(error(&mut copy), ReplayError::Stalled { .. }));
            assert!(upload.failure().is_some());
        }
    }
}

// C37: issue 11.4. Streams in both directions.
#[tokio::test(start_paused = true)]
async fn a_caller_may_be_silent_once_the_response_is_committed() {
    let source = TestSource::default();
    let layer = ReplayLayer::new().idle_timeout(secs(10));
    let original = kept(&layer, &source);
    let (mut body, upload) = attempt(&layer, &original);
    let silence = tokio::time::timeout(secs(9), next(&mut body)).await;
    assert!(silence.is_err());
    upload.set_answered();
    let silence = tokio::time::timeout(secs(3_600), next(&mut body)).await;
    assert!(silence.is_err(), "{silence:?}");
    source.data("ab");
    assert_eq!(data(&mut body), "ab");
    assert!(tokio::time::timeout(secs(3_600), next(&mut body)).await.is_err());
}

// C31, C33: issue 11.4
#[test]
fn a_body_that_ends_before_its_length_fails() {
    for limit in [ROOMY, 0] {
        for announced in [true, false] {
            let source = TestSource::default();
            source.data("abc");
            source.end();
            let layer = layer().limit(limit);
            let request = match announced {
                true => Request::builder().header("content-length", "5").body(source.body()).unwrap(),
                false => Request::new(source.body().with_length(5)),
            };
            let request = Replay::<Request<TestBody>>::last(&layer, layer.keep(request));
            let (mut body, upload) = split(request);
            assert_eq!(data(&mut body), "abc");
            assert!(!body.is_end_stream());
            assert!(matches!(error(&mut body), ReplayError::Short { missing: 2 }), "{limit} {announced}");
            assert!(!body.is_end_stream() && upload.failure().is_some());
            assert!(matches!(poll(&mut body), Poll::Ready(None)));
        }
    }
    // Nothing at all, where something was announced.
    let request = Request::builder().header("content-length", "5").body(String::new()).unwrap();
    let mut body = layer().keep(request).into_body();
    assert!(!body.is_end_stream());
    assert!(matches!(error(&mut body), ReplayError::Short { missing: 5 }));
}

// C31: issue 11.4
#[test]
fn a_length_that_is_reached_or_unreadable_is_no_failure() {
    for length in ["3", "2", "0", "-3", "three", "3, 3"] {
        let request = Request::builder().header("content-length", length).body(String::from("abc")).unwrap();
        let kept = layer().keep(request);
        for body in [layer().again(&kept).unwrap().into_body(), kept.into_body()] {
            assert_eq!(read(body).bytes, b"abc", "{length}");
        }
    }
}

// C31, C37: issue 11.4
#[test]
fn a_body_that_panics_has_failed() {
    for limit in [ROOMY, 0] {
        let source = TestSource::default();
        let layer = layer().limit(limit);
        let (mut body, upload) = split(Replay::<Request<TestBody>>::last(&layer, kept(&layer, &source)));
        source.panic();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll(&mut body)));
        assert!(panicked.is_err());
        assert!(matches!(upload.failure(), Some(ReplayError::Panicked)));
    }
}

// C13: issue 11.4
#[test]
fn an_empty_body_has_no_upload() {
    let request = Replay::<Request<String>>::last(&layer(), layer().keep(Request::new(String::new())));
    assert!(request.extensions().get::<Upload>().is_none());
}

// C24: issue 11.4. Each attempt has an upload of its own, also where the caller's request came with one.
#[test]
fn each_attempt_has_its_own_upload() {
    let source = TestSource::default();
    let original = kept(&layer(), &source);
    let mut outer = layer().again(&original).unwrap();
    let theirs = outer.extensions().get::<Upload>().unwrap().clone();
    *outer.body_mut() = ReplayBody::new(source.body());
    let (mut body, upload) = attempt(&layer(), &outer);
    assert!(poll(&mut body).is_pending());
    assert!(upload.is_waiting() && !theirs.is_waiting());
}
