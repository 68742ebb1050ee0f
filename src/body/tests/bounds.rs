//! Which frames are kept, how long, and what happens over a bound.

use http_body_util::Full;

use super::{super::frames::SLOT_COST, *};

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
    // With what a buffer takes besides, there is room for one of them.
    let memory = ReplayMemory::new(2 * 100 + SLOT_COST);
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
fn tiny_frames_are_kept_together_up_to_the_limit() {
    let (source, memory) = (TestSource::default(), ReplayMemory::new(ROOMY));
    let limit = 100_000;
    let original = bounded(&source, limit, &memory);
    let mut leader = original.again().unwrap();
    for kept in 1..=limit {
        source.data("x");
        assert_eq!(data(&mut leader), "x");
        assert!(memory.used() >= kept && memory.used() <= limit.min(2 * kept + 256) + 2 * SLOT_COST);
    }
    assert_eq!(original.unreplayable(), None);
    let mut second = original.again().unwrap();
    assert_eq!(
        (data(&mut second).len(), data(&mut second).len()),
        (65_536, 100_000 - 65_536),
        "joined to large frames"
    );
    source.data("x");
    assert_eq!(data(&mut leader), "x");
    assert_eq!(original.unreplayable(), Some(Unreplayable::TooLarge { limit }));
}

// C33
#[test]
fn a_body_that_has_ended_gives_back_what_its_buffer_does_not_use() {
    for ends in [TestSource::end, |source: &TestSource| source.fail("reset")] {
        let (source, memory) = (TestSource::default(), ReplayMemory::new(ROOMY));
        let original = bounded(&source, ROOMY, &memory);
        let mut leader = original.again().unwrap();
        for _ in 0..1_000 {
            source.data("abc");
            assert_eq!(data(&mut leader), "abc");
        }
        assert!(memory.used() > 3_000 + SLOT_COST);
        ends(&source);
        assert!(poll(&mut leader).is_ready());
        assert_eq!(memory.used(), 3_000 + SLOT_COST);
        assert_eq!(read(original).bytes, b"abc".repeat(1_000));
    }
}

// C33
#[test]
fn a_large_frame_after_small_ones_ends_their_buffer() {
    let (source, memory) = (TestSource::default(), ReplayMemory::new(ROOMY));
    let original = bounded(&source, ROOMY, &memory);
    let mut leader = original.again().unwrap();
    for bytes in ["ab".repeat(1_000), "c".into(), "d".repeat(50_000)] {
        source.data(bytes);
        let _ = data(&mut leader);
    }
    assert_eq!(memory.used(), 2_001 + 50_000 + 2 * SLOT_COST);
}

/// A buffer that shows whether it is alive, as the read buffer of a connection.
struct Buffer(Vec<u8>, #[allow(dead_code, reason = "it is counted")] Arc<()>);

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

// C33
#[test]
fn a_kept_frame_does_not_keep_the_buffer_of_its_connection() {
    for len in [1, 4_095, 4_096, 4_097, 65_536, 100_000] {
        let (source, alive) = (TestSource::default(), Arc::new(()));
        let original = bounded(&source, ROOMY, &ReplayMemory::new(ROOMY));
        let mut leader = original.again().unwrap();
        let received = Bytes::from_owner(Buffer(vec![7; 200_000], alive.clone())).slice(100..100 + len);
        let start = received.as_ptr();
        source.data(received);
        let frame = data(&mut leader);
        assert_eq!(frame.as_ptr(), start, "not copied for the reader that pulled it");
        drop(frame);
        assert_eq!(Arc::strong_count(&alive), 1, "{len} bytes are kept, not their buffer");
        source.end();
        assert_eq!(read(original).bytes, vec![7; len]);
    }
}

// C33
#[test]
fn kept_trailers_do_not_keep_the_buffer_of_their_connection() {
    let (source, alive, memory) = (TestSource::default(), Arc::new(()), ReplayMemory::new(4 * ROOMY));
    let original = bounded(&source, 2 * ROOMY, &memory);
    let received = Bytes::from_owner(Buffer(vec![b'a'; 1_000_000], alive.clone()));
    let mut trailers = HeaderMap::new();
    let mut value = http::HeaderValue::from_maybe_shared(received).unwrap();
    value.set_sensitive(true);
    trailers.insert("x-large", value.clone());
    for text in ["1", "2", "3"] {
        trailers.append("x-many", text.parse().unwrap());
    }
    drop(value);
    source.item(Ok(Frame::trailers(trailers)));
    source.end();
    assert_eq!(read(original.again().unwrap()).trailers.unwrap().len(), 4);
    assert_eq!(Arc::strong_count(&alive), 1);
    assert!(memory.used() > 1_000_000);
    let kept = read(original).trailers.unwrap();
    assert_eq!(kept["x-large"], vec![b'a'; 1_000_000].as_slice());
    assert!(kept["x-large"].is_sensitive());
    assert_eq!(kept.get_all("x-many").iter().collect::<Vec<_>>(), ["1", "2", "3"]);
}

// C33
#[test]
fn trailers_count_with_all_that_they_take() {
    let memory = ReplayMemory::new(ROOMY);
    let source = TestSource::default();
    let original = bounded(&source, 1_000, &memory);
    let mut leader = original.again().unwrap();
    // More than one set of trailers is no valid body, but its source may be broken.
    for _ in 0..100 {
        source.item(Ok(Frame::trailers(HeaderMap::new())));
        assert!(matches!(poll(&mut leader), Poll::Ready(Some(Ok(_)))));
        assert!(memory.used() <= 1_000 + 11 * SLOT_COST);
    }
    assert_eq!(original.unreplayable(), Some(Unreplayable::TooLarge { limit: 1_000 }));
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
    let limit = 100_000;
    let original = bounded(&source, limit, &memory);
    let mut first = original.again().unwrap();
    let frames = ["a", "b"].map(|byte| Bytes::from(byte.repeat(50_000)));
    for frame in &frames {
        source.data(frame.clone());
        assert_eq!(data(&mut first), frame);
    }
    let held = memory.used();
    drop(first);
    assert_eq!(memory.used(), held, "the original has read nothing yet");
    let mut last = original;
    assert_eq!(data(&mut last), frames[0]);
    assert_eq!(memory.used(), held / 2);
    assert_eq!(data(&mut last), frames[1]);
    assert_eq!(memory.used(), 0);
    let more = Bytes::from(vec![7; limit + 1]);
    source.data(more.clone());
    assert_eq!(data(&mut last), more);
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
fn a_large_frame_that_is_all_of_its_buffer_is_shared_not_copied() {
    for (capacity, len) in [(4_096, 4_096), (100_000, 100_000), (100_000, 60_000)] {
        let (source, memory) = (TestSource::default(), ReplayMemory::new(ROOMY));
        let original = bounded(&source, ROOMY, &memory);
        let (mut first, mut second) = (original.again().unwrap(), original.again().unwrap());
        let mut buffer = Vec::with_capacity(capacity);
        buffer.resize(len, 7);
        source.data(buffer);
        let pulled = data(&mut first);
        assert_eq!(data(&mut second).as_ptr(), pulled.as_ptr());
        assert_eq!(data(&mut { original }).as_ptr(), pulled.as_ptr());
        assert!(memory.used() <= len + SLOT_COST, "the rest of the buffer is given back");
    }
}

// C33
#[test]
fn readers_in_step_hold_no_buffer_for_each_byte() {
    let (source, memory) = (TestSource::default(), ReplayMemory::new(ROOMY));
    let original = bounded(&source, ROOMY, &memory);
    let mut readers = [(); 3].map(|()| original.again().unwrap());
    for sent in 1..=10_000 {
        source.data("x");
        assert!(readers.iter_mut().all(|reader| data(reader) == "x"));
        assert!(memory.used() <= 2 * sent + 256 + 4 * SLOT_COST, "{} bytes for {sent}", memory.used());
    }
    source.end();
    assert_eq!(read(original).bytes.len(), 10_000);
}
