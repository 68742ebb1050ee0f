//! Every reader gets the whole body.

use http_body_util::{BodyExt, Empty, Full, StreamBody};

use super::*;

// C33
#[test]
fn readers_get_everything_from_the_start_and_go_on_live() {
    let fed = Fed::default();
    let original = ReplayBody::new(fed.body());
    let mut first = original.again().unwrap();
    fed.data("ab");
    fed.data("cd");
    assert_eq!(data(&mut first), "ab");
    let mut second = original.again().unwrap();
    assert_eq!(data(&mut second), "ab");
    assert_eq!(data(&mut second), "cd", "the second has overtaken the first");
    assert_eq!(data(&mut first), "cd");
    fed.data("ef");
    fed.trailers();
    fed.end();
    for body in [first, second] {
        let rest = read(body);
        assert_eq!((&*rest.bytes, rest.trailers), (&b"ef"[..], Some(trailers())));
        assert!(rest.ended);
    }
    let all = read(original);
    assert_eq!((&*all.bytes, all.trailers), (&b"abcdef"[..], Some(trailers())));
    assert!(fed.is_dropped());
}

// C33
#[tokio::test]
async fn usual_bodies_are_read_twice() {
    let full = ReplayBody::new(Full::new(Bytes::from_static(b"hello")));
    let again = full.again().unwrap();
    assert_eq!(again.collect().await.unwrap().to_bytes(), "hello");
    assert_eq!(full.collect().await.unwrap().to_bytes(), "hello");

    let (mut sender, receiver) = futures::channel::mpsc::channel::<Item>(8);
    let stream = ReplayBody::new(StreamBody::new(receiver));
    let again = stream.again().unwrap();
    let last = again.again().unwrap();
    for item in [Frame::data(Bytes::from("x")), Frame::data(Bytes::from("y")), Frame::trailers(trailers())] {
        sender.try_send(Ok(item)).unwrap();
    }
    drop(sender);
    let read = tokio::join!(stream.collect(), again.collect(), last.collect());
    for collected in [read.0, read.1, read.2] {
        let collected = collected.unwrap();
        assert_eq!(collected.trailers(), Some(&trailers()));
        assert_eq!(collected.to_bytes(), "xy");
    }
}

#[test]
fn data_that_is_not_bytes_is_taken_whole() {
    use bytes::Buf;
    let chained = (&b"ab"[..]).chain(&b"cd"[..]);
    let body = ReplayBody::new(Full::new(chained));
    let again = body.again().unwrap();
    assert_eq!(read(again).bytes, b"abcd");
    assert_eq!(read(body).bytes, b"abcd");
}

// C33
#[test]
fn nothing_is_pulled_before_a_reader_asks() {
    let fed = Fed::default();
    fed.data("a");
    let original = ReplayBody::new(fed.body());
    let mut again = original.again().unwrap();
    let _ = (again.is_end_stream(), again.size_hint(), original.unreplayable());
    assert_eq!(fed.polls(), 0);
    assert_eq!(data(&mut again), "a");
    assert_eq!(fed.polls(), 1, "one frame asked for, one pulled");
}

// C33
#[test]
fn a_failing_source_fails_every_reader() {
    let fed = Fed::default();
    let original = ReplayBody::new(fed.body());
    let first = original.again().unwrap();
    let mut second = original.again().unwrap();
    fed.data("ab");
    fed.fail("reset by caller");
    let (mut half, whole) = (read(first), data(&mut second));
    assert_eq!((&*half.bytes, &*whole), (&b"ab"[..], &b"ab"[..]));
    assert_eq!(second.size_hint().exact(), None);
    for error in [half.error.take().unwrap(), error(&mut second)] {
        assert!(matches!(error, ReplayError::Source(_)));
        let cause = std::error::Error::source(&error).unwrap();
        assert_eq!(cause.to_string(), "reset by caller");
    }
    assert!(!half.ended && !second.is_end_stream(), "no clean end after an error");
    assert_eq!(original.again().unwrap_err(), Unreplayable::SourceFailed);
    assert!(read(original).error.is_some());
}

// C58
#[test]
fn a_panicking_source_is_an_error_to_the_others() {
    let fed = Fed::default();
    let memory = ReplayMemory::new(ROOMY);
    let original = bounded(&fed, ROOMY, &memory);
    let mut first = original.again().unwrap();
    let mut second = original.again().unwrap();
    let waits = Arc::new(Flag::default());
    fed.data("a");
    assert_eq!(data(&mut first), "a");
    assert_eq!(data(&mut second), "a");
    assert!(poll_with(&mut second, &waits).is_pending());
    fed.panic();
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll(&mut first)));
    assert!(unwound.is_err());
    assert_eq!(waits.take(), 1, "it is told");
    assert!(matches!(error(&mut second), ReplayError::Panicked));
    assert!(matches!(error(&mut first), ReplayError::Panicked));
    assert_eq!(original.again().unwrap_err(), Unreplayable::SourceFailed);
    assert!(fed.is_dropped());
    let late = read(original);
    assert_eq!(late.bytes, b"a");
    assert!(matches!(late.error, Some(ReplayError::Panicked)));
    drop((first, second));
    assert_eq!(memory.used(), 0);
}

#[test]
fn empty_bodies_replay_for_ever() {
    let body = ReplayBody::new(Empty::<Bytes>::new());
    let again = body.again().unwrap().again().unwrap();
    assert!(again.is_end_stream());
    assert_eq!(again.size_hint().exact(), Some(0));
    assert!(read(again).ended);
    assert!(read(ReplayBody::<FedBody>::default()).ended);
    assert_eq!(ReplayBody::bounded(Empty::<Bytes>::new(), 0, &ReplayMemory::new(0)).unreplayable(), None);
}

#[test]
fn empty_frames_do_no_harm() {
    let fed = Fed::default();
    let original = ReplayBody::new(fed.body());
    let first = original.again().unwrap();
    for bytes in ["", "a", "", "", "b", ""] {
        fed.data(bytes);
    }
    fed.end();
    assert_eq!(read(first).bytes, b"ab");
    assert_eq!(read(original).bytes, b"ab");
}

#[test]
fn size_hints_tell_what_is_left_to_read() {
    let body = ReplayBody::new(Full::new(Bytes::from_static(b"hello")));
    let mut first = body.again().unwrap();
    assert_eq!(first.size_hint().exact(), Some(5));
    assert_eq!(data(&mut first), "hello");
    assert_eq!(first.size_hint().exact(), Some(0));
    assert!(first.is_end_stream(), "known without one more poll");
    assert_eq!(body.size_hint().exact(), Some(5));
    assert!(!body.is_end_stream());

    let fed = Fed::default();
    let original = ReplayBody::new(fed.body());
    let mut first = original.again().unwrap();
    fed.data("abc");
    assert_eq!(data(&mut first), "abc");
    assert_eq!((original.size_hint().lower(), original.size_hint().upper()), (3, None));
    assert_eq!((first.size_hint().lower(), first.size_hint().upper()), (0, None));
    fed.end();
    assert!(read(first).ended);
    assert_eq!(original.size_hint().exact(), Some(3));
}

/// Claims to have `u64::MAX` bytes for ever.
struct Boaster;

impl Body for Boaster {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"a")))))
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_upper(u64::MAX);
        hint
    }
}

// C58
#[test]
fn absurd_size_hints_do_not_overflow() {
    let original = ReplayBody::new(Boaster);
    let mut first = original.again().unwrap();
    assert_eq!(data(&mut first), "a");
    let hint = original.size_hint();
    assert_eq!((hint.lower(), hint.upper()), (1, None));
}

// C59
#[test]
fn debug_shows_nothing_of_the_body() {
    let body = ReplayBody::new(Full::new(Bytes::from_static(b"secret")));
    let mut again = body.again().unwrap();
    let _ = data(&mut again);
    assert!(!format!("{body:?} {again:?}").contains("secret"));
}

#[test]
fn bodies_are_send_and_sync() {
    fn check<T: Send + Sync + Unpin + 'static>() {}
    check::<ReplayBody<Full<Bytes>>>();
    fn send<T: Send>() {}
    send::<ReplayBody<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>>>();
}
