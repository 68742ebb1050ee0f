//! Every reader gets the whole body, or an error.

use http_body_util::{BodyExt, Empty, Full, StreamBody};

use super::*;

// C33
#[test]
fn readers_start_at_the_first_frame_and_continue_live() {
    let source = TestSource::default();
    let original = ReplayBody::new(source.body());
    let mut first = original.again().unwrap();
    source.data("ab");
    source.data("cd");
    assert_eq!(data(&mut first), "ab");
    let mut second = original.again().unwrap();
    assert_eq!(data(&mut second), "ab");
    assert_eq!(data(&mut second), "cd", "the second is in front of the first");
    assert_eq!(data(&mut first), "cd");
    source.data("ef");
    source.trailers();
    source.end();
    for body in [first, second] {
        let rest = read(body);
        assert_eq!((&*rest.bytes, rest.trailers), (&b"ef"[..], Some(trailers())));
        assert!(rest.ended);
    }
    let all = read(original);
    assert_eq!((&*all.bytes, all.trailers), (&b"abcdef"[..], Some(trailers())));
    assert!(source.is_dropped());
}

// C33
#[tokio::test]
async fn common_bodies_can_be_read_twice() {
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

// C33
#[tokio::test]
async fn a_body_in_memory_needs_no_source() {
    let whole = ReplayBody::<TestBody>::from(Bytes::from_static(b"hello"));
    assert_eq!((whole.size_hint().exact(), whole.is_end_stream()), (Some(5), false));
    assert_eq!(whole.again().unwrap().again().unwrap().collect().await.unwrap().to_bytes(), "hello");
    let mut whole = whole;
    assert_eq!(data(&mut whole), "hello");
    assert!(whole.is_end_stream());
    assert_eq!(whole.unreplayable(), Some(Unreplayable::Begun));
    assert!(ReplayBody::<TestBody>::from(Bytes::new()).is_end_stream());
}

#[test]
fn data_that_is_not_bytes_is_converted() {
    use bytes::Buf;
    let chained = (&b"ab"[..]).chain(&b"cd"[..]);
    let body = ReplayBody::new(Full::new(chained));
    let again = body.again().unwrap();
    assert_eq!(read(again).bytes, b"abcd");
    assert_eq!(read(body).bytes, b"abcd");
}

// C33
#[test]
fn the_source_is_polled_only_when_a_reader_is() {
    let source = TestSource::default();
    source.data("a");
    let original = ReplayBody::new(source.body());
    let mut again = original.again().unwrap();
    let _ = (again.is_end_stream(), again.size_hint(), original.unreplayable());
    assert_eq!(source.polls(), 0);
    assert_eq!(data(&mut again), "a");
    assert_eq!(source.polls(), 1, "one poll of the reader, one of the source");
}

// C33
#[test]
fn a_failing_source_fails_every_reader() {
    let source = TestSource::default();
    let original = ReplayBody::new(source.body());
    let first = original.again().unwrap();
    let mut second = original.again().unwrap();
    source.data("ab");
    source.fail("reset by caller");
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
fn a_panic_of_the_source_is_an_error_to_the_other_readers() {
    let source = TestSource::default();
    let memory = ReplayMemory::new(ROOMY);
    let original = bounded(&source, ROOMY, &memory);
    let mut first = original.again().unwrap();
    let mut second = original.again().unwrap();
    let wakes = Arc::new(WakeCount::default());
    source.data("a");
    assert_eq!(data(&mut first), "a");
    assert_eq!(data(&mut second), "a");
    assert!(poll_with(&mut second, &wakes).is_pending());
    source.panic();
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll(&mut first)));
    assert!(unwound.is_err());
    assert_eq!(wakes.take(), 1, "the waiting reader is woken");
    assert!(matches!(error(&mut second), ReplayError::Panicked));
    assert!(matches!(error(&mut first), ReplayError::Panicked));
    assert_eq!(original.again().unwrap_err(), Unreplayable::SourceFailed);
    assert!(source.is_dropped());
    let late = read(original);
    assert_eq!(late.bytes, b"a");
    assert!(matches!(late.error, Some(ReplayError::Panicked)));
    drop((first, second));
    assert_eq!(memory.used(), 0);
}

#[test]
fn empty_bodies_can_always_be_copied() {
    let body = ReplayBody::new(Empty::<Bytes>::new());
    let again = body.again().unwrap().again().unwrap();
    assert!(again.is_end_stream());
    assert_eq!(again.size_hint().exact(), Some(0));
    assert!(read(again).ended);
    assert!(read(ReplayBody::<TestBody>::default()).ended);
    assert_eq!(ReplayBody::bounded(Empty::<Bytes>::new(), 0, &ReplayMemory::new(0)).unreplayable(), None);
}

#[test]
fn empty_frames_are_skipped_for_later_readers() {
    let source = TestSource::default();
    let original = ReplayBody::new(source.body());
    let first = original.again().unwrap();
    for bytes in ["", "a", "", "", "b", ""] {
        source.data(bytes);
    }
    source.end();
    assert_eq!(read(first).bytes, b"ab");
    assert_eq!(read(original).bytes, b"ab");
}

#[test]
fn size_hints_cover_the_rest_of_the_body() {
    let body = ReplayBody::new(Full::new(Bytes::from_static(b"hello")));
    let mut first = body.again().unwrap();
    assert_eq!(first.size_hint().exact(), Some(5));
    assert_eq!(data(&mut first), "hello");
    assert_eq!(first.size_hint().exact(), Some(0));
    assert!(first.is_end_stream(), "known without another poll");
    assert_eq!(body.size_hint().exact(), Some(5));
    assert!(!body.is_end_stream());

    let source = TestSource::default();
    let original = ReplayBody::new(source.body());
    let mut first = original.again().unwrap();
    source.data("abc");
    assert_eq!(data(&mut first), "abc");
    assert_eq!((original.size_hint().lower(), original.size_hint().upper()), (3, None));
    assert_eq!((first.size_hint().lower(), first.size_hint().upper()), (0, None));
    source.end();
    assert!(read(first).ended);
    assert_eq!(original.size_hint().exact(), Some(3));
}

/// A body without an end, with a size hint of up to `u64::MAX` bytes.
struct Endless;

impl Body for Endless {
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
fn extreme_size_hints_do_not_overflow() {
    let original = ReplayBody::new(Endless);
    let mut first = original.again().unwrap();
    assert_eq!(data(&mut first), "a");
    let hint = original.size_hint();
    assert_eq!((hint.lower(), hint.upper()), (1, None));
}

// C59
#[test]
fn debug_shows_no_data_of_the_body() {
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
