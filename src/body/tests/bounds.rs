//! Which frames are kept, how long, and what happens over a bound.

use http_body_util::Full;

use super::*;

// C33
#[test]
fn over_the_bound_the_leader_continues_and_no_reader_starts() {
    let source = TestSource::default();
    let memory = ReplayMemory::new(ROOMY);
    let original = bounded(&source, 4, &memory);
    let mut leader = original.again().unwrap();
    let mut behind = original.again().unwrap();
    let wakes = Arc::new(WakeCount::default());
    source.data("abc");
    assert_eq!(data(&mut leader), "abc");
    assert!(memory.used() > 0);
    assert_eq!(data(&mut behind), "abc");
    assert!(poll_with(&mut behind, &wakes).is_pending());
    assert_eq!(original.unreplayable(), None);

    source.data("de");
    assert_eq!(data(&mut leader), "de", "the leader is not affected");
    assert!(wakes.take() > 0, "the waiting reader is woken");
    assert_eq!(memory.used(), 0);
    let reason = Unreplayable::TooLarge { limit: 4 };
    assert_eq!(original.unreplayable(), Some(reason));
    assert_eq!(original.again().unwrap_err(), reason);
    assert_eq!(leader.again().unwrap_err(), reason);
    assert_eq!(behind.size_hint().exact(), None);
    assert!(matches!(error(&mut behind), ReplayError::NotKept(why) if why == reason));
    assert!(matches!(read(original).error, Some(ReplayError::NotKept(_))));

    source.data("fg");
    source.trailers();
    source.end();
    let rest = read(leader);
    assert_eq!((&*rest.bytes, rest.trailers, rest.ended), (&b"fg"[..], Some(trailers()), true));
}

// C33
#[test]
fn exactly_the_bound_is_kept() {
    let source = TestSource::default();
    let original = bounded(&source, 4, &ReplayMemory::new(ROOMY));
    source.data("ab");
    source.data("cd");
    source.end();
    assert_eq!(read(original.again().unwrap()).bytes, b"abcd");
    assert_eq!(read(original).bytes, b"abcd");
}

// C33
#[test]
fn after_the_leader_is_dropped_over_the_bound_no_reader_starts() {
    let source = TestSource::default();
    let original = bounded(&source, 1, &ReplayMemory::new(ROOMY));
    let mut leader = original.again().unwrap();
    source.data("ab");
    assert_eq!(data(&mut leader), "ab");
    drop(leader);
    assert!(source.is_dropped(), "no handle can read the source");
    assert!(original.again().is_err());
    let late = read(original);
    assert!(late.bytes.is_empty() && !late.ended && late.error.is_some());
}

// C33
#[test]
fn a_body_known_to_be_too_large_is_not_kept_at_all() {
    let memory = ReplayMemory::new(ROOMY);
    let mut body = ReplayBody::bounded(Full::new(Bytes::from_static(b"hello")), 4, &memory);
    assert_eq!(body.again().unwrap_err(), Unreplayable::TooLarge { limit: 4 });
    assert_eq!(body.size_hint().exact(), Some(5));
    assert_eq!(data(&mut body), "hello");
    assert_eq!(memory.used(), 0);
    assert!(read(body).ended);
}

// C33
#[test]
fn a_limit_of_zero_never_replays_a_body() {
    let source = TestSource::default();
    let body = bounded(&source, 0, &ReplayMemory::new(ROOMY));
    assert_eq!(body.again().unwrap_err(), Unreplayable::TooLarge { limit: 0 });
    source.data("ab");
    source.end();
    assert_eq!(read(body).bytes, b"ab");
}

// C33
#[test]
fn all_bodies_together_stay_within_the_memory() {
    let memory = ReplayMemory::new(200);
    let (one, two) = (TestSource::default(), TestSource::default());
    let (first, second) = (bounded(&one, ROOMY, &memory), bounded(&two, ROOMY, &memory));
    let (mut first_reader, mut second_reader) = (first.again().unwrap(), second.again().unwrap());
    one.data("a".repeat(100));
    assert_eq!(data(&mut first_reader).len(), 100);
    two.data("b".repeat(100));
    assert_eq!(data(&mut second_reader).len(), 100, "the reader is not affected");
    assert_eq!(second.again().unwrap_err(), Unreplayable::ProcessLimit);
    assert_eq!(first.unreplayable(), None, "the first body keeps its frames");
    drop((first, first_reader));
    assert_eq!(memory.used(), 0);
}

// C33
#[test]
fn the_number_of_tiny_frames_is_limited() {
    let memory = ReplayMemory::new(ROOMY);
    let source = TestSource::default();
    let original = bounded(&source, 64 * 1024, &memory);
    let mut leader = original.again().unwrap();
    for _ in 0..1_025 {
        source.data("x");
        assert_eq!(data(&mut leader), "x");
    }
    assert_eq!(original.unreplayable(), Some(Unreplayable::TooLarge { limit: 64 * 1024 }));
}

// C33
#[test]
fn trailers_count_towards_the_bound() {
    let source = TestSource::default();
    let original = bounded(&source, 4, &ReplayMemory::new(ROOMY));
    let leader = original.again().unwrap();
    source.data("abcd");
    source.trailers();
    source.end();
    let read = read(leader);
    assert_eq!((read.trailers, read.ended), (Some(trailers()), true));
    assert!(original.again().is_err());
}

// C33
#[test]
fn the_last_attempt_keeps_no_frame() {
    let source = TestSource::default();
    let memory = ReplayMemory::new(ROOMY);
    let original = bounded(&source, 2, &memory);
    drop(original.again().unwrap());
    let mut last = original;
    assert!(poll(&mut last).is_pending());
    assert_eq!(source.polls(), 1, "polled once, as if the source were not shared");
    for _ in 0..10 {
        source.data("abc");
        assert_eq!(data(&mut last), "abc");
        assert_eq!(memory.used(), 0);
    }
    assert_eq!(last.again().unwrap_err(), Unreplayable::Begun);
}

// C33
#[test]
fn frames_read_by_the_last_attempt_are_released() {
    let source = TestSource::default();
    let memory = ReplayMemory::new(ROOMY);
    let original = bounded(&source, 8, &memory);
    let mut first = original.again().unwrap();
    source.data("abc");
    source.data("def");
    assert_eq!((data(&mut first), data(&mut first)), (Bytes::from("abc"), Bytes::from("def")));
    let held = memory.used();
    drop(first);
    assert_eq!(memory.used(), held, "the original has read nothing yet");
    let mut last = original;
    assert_eq!(data(&mut last), "abc");
    assert_eq!(memory.used(), held / 2);
    assert_eq!(data(&mut last), "def");
    assert_eq!(memory.used(), 0);
    source.data("more than 8 bytes");
    assert_eq!(data(&mut last), "more than 8 bytes");
    assert_eq!(memory.used(), 0);
}

// C33
#[test]
fn without_the_original_only_the_frames_for_the_slowest_reader_are_kept() {
    let source = TestSource::default();
    let memory = ReplayMemory::new(ROOMY);
    let original = bounded(&source, 4, &memory);
    let mut front = original.again().unwrap();
    let mut behind = original;
    assert_eq!(behind.unreplayable(), None);
    for _ in 0..100 {
        source.data("abc");
        assert_eq!(data(&mut front), "abc");
        assert!(memory.used() > 0, "the reader behind needs the frame");
        assert_eq!(data(&mut behind), "abc");
        assert_eq!(behind.again().unwrap_err(), Unreplayable::Begun);
    }
    source.data("abc");
    assert_eq!(data(&mut front), "abc");
    drop(behind);
    assert_eq!(memory.used(), 0, "the frame was kept for the reader behind only");
}

// C20
#[test]
fn dropping_all_handles_releases_all_memory() {
    for is_waiting in [false, true] {
        let source = TestSource::default();
        let memory = ReplayMemory::new(ROOMY);
        let original = bounded(&source, ROOMY, &memory);
        let mut reader = original.again().unwrap();
        source.data("abc");
        assert_eq!(data(&mut reader), "abc");
        if is_waiting {
            // The source now holds a waker, which must not keep the source alive.
            assert!(poll(&mut reader).is_pending());
        }
        drop(original);
        assert!(!source.is_dropped());
        drop(reader);
        assert!(source.is_dropped());
        assert_eq!(memory.used(), 0);
    }
}

// C21
#[test]
fn a_body_for_one_attempt_passes_through() {
    let source = TestSource::default();
    let body = ReplayBody::once(source.body());
    assert_eq!(body.again().unwrap_err(), Unreplayable::NoCopy);
    source.data("ab");
    source.trailers();
    source.end();
    let read = read(body);
    assert_eq!((&*read.bytes, read.trailers), (&b"ab"[..], Some(trailers())));
}

// C33
#[test]
fn frames_of_bytes_are_shared_not_copied() {
    let source = TestSource::default();
    let original = bounded(&source, ROOMY, &ReplayMemory::new(ROOMY));
    let mut first = original.again().unwrap();
    let mut second = original;
    let bytes = Bytes::from(vec![7; 1000]);
    source.data(bytes.clone());
    assert_eq!(data(&mut first).as_ptr(), bytes.as_ptr());
    assert_eq!(data(&mut second).as_ptr(), bytes.as_ptr());
}
