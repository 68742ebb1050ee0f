//! What is kept, for how long, and what happens when it is too much.

use http_body_util::Full;

use super::*;

// C33
#[test]
fn over_the_bound_the_leader_goes_on_and_nobody_starts() {
    let fed = Fed::default();
    let memory = ReplayMemory::new(ROOMY);
    let original = bounded(&fed, 4, &memory);
    let mut leader = original.again().unwrap();
    let mut behind = original.again().unwrap();
    let waits = Arc::new(Flag::default());
    fed.data("abc");
    assert_eq!(data(&mut leader), "abc");
    assert!(memory.used() > 0);
    assert_eq!(data(&mut behind), "abc");
    assert!(poll_with(&mut behind, &waits).is_pending());
    assert_eq!(original.unreplayable(), None);

    fed.data("de");
    assert_eq!(data(&mut leader), "de", "undisturbed");
    assert!(waits.take() > 0, "it is told");
    assert_eq!(memory.used(), 0);
    let why = Unreplayable::TooLarge { limit: 4 };
    assert_eq!(original.unreplayable(), Some(why));
    assert_eq!(original.again().unwrap_err(), why);
    assert_eq!(leader.again().unwrap_err(), why);
    assert_eq!(behind.size_hint().exact(), None);
    assert!(matches!(error(&mut behind), ReplayError::NotKept(w) if w == why));
    assert!(matches!(read(original).error, Some(ReplayError::NotKept(_))));

    fed.data("fg");
    fed.trailers();
    fed.end();
    let rest = read(leader);
    assert_eq!((&*rest.bytes, rest.trailers, rest.ended), (&b"fg"[..], Some(trailers()), true));
}

// C33
#[test]
fn exactly_the_bound_is_kept() {
    let fed = Fed::default();
    let original = bounded(&fed, 4, &ReplayMemory::new(ROOMY));
    fed.data("ab");
    fed.data("cd");
    fed.end();
    assert_eq!(read(original.again().unwrap()).bytes, b"abcd");
    assert_eq!(read(original).bytes, b"abcd");
}

// C33
#[test]
fn after_the_leader_is_dropped_over_the_bound_nobody_starts() {
    let fed = Fed::default();
    let original = bounded(&fed, 1, &ReplayMemory::new(ROOMY));
    let mut leader = original.again().unwrap();
    fed.data("ab");
    assert_eq!(data(&mut leader), "ab");
    drop(leader);
    assert!(fed.is_dropped(), "nobody can use it any more");
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
    let fed = Fed::default();
    let body = bounded(&fed, 0, &ReplayMemory::new(ROOMY));
    assert_eq!(body.again().unwrap_err(), Unreplayable::TooLarge { limit: 0 });
    fed.data("ab");
    fed.end();
    assert_eq!(read(body).bytes, b"ab");
}

// C33
#[test]
fn all_bodies_together_stay_within_the_memory() {
    let memory = ReplayMemory::new(200);
    let (one, two) = (Fed::default(), Fed::default());
    let (first, second) = (bounded(&one, ROOMY, &memory), bounded(&two, ROOMY, &memory));
    let (mut first_reader, mut second_reader) = (first.again().unwrap(), second.again().unwrap());
    one.data("a".repeat(100));
    assert_eq!(data(&mut first_reader).len(), 100);
    two.data("b".repeat(100));
    assert_eq!(data(&mut second_reader).len(), 100, "undisturbed");
    assert_eq!(second.again().unwrap_err(), Unreplayable::ProcessLimit);
    assert_eq!(first.unreplayable(), None, "what the other has is its own");
    drop((first, first_reader));
    assert_eq!(memory.used(), 0);
}

// C33
#[test]
fn tiny_frames_cannot_outgrow_their_price() {
    let memory = ReplayMemory::new(ROOMY);
    let fed = Fed::default();
    let original = bounded(&fed, 64 * 1024, &memory);
    let mut leader = original.again().unwrap();
    for _ in 0..1_025 {
        fed.data("x");
        assert_eq!(data(&mut leader), "x");
    }
    assert_eq!(original.unreplayable(), Some(Unreplayable::TooLarge { limit: 64 * 1024 }));
}

// C33
#[test]
fn trailers_count_too() {
    let fed = Fed::default();
    let original = bounded(&fed, 4, &ReplayMemory::new(ROOMY));
    let leader = original.again().unwrap();
    fed.data("abcd");
    fed.trailers();
    fed.end();
    let read = read(leader);
    assert_eq!((read.trailers, read.ended), (Some(trailers()), true));
    assert!(original.again().is_err());
}

// C33
#[test]
fn the_last_attempt_keeps_nothing() {
    let fed = Fed::default();
    let memory = ReplayMemory::new(ROOMY);
    let original = bounded(&fed, 2, &memory);
    drop(original.again().unwrap());
    let mut last = original;
    assert!(poll(&mut last).is_pending());
    assert_eq!(fed.polls(), 1, "asked once, as if it were not shared");
    for _ in 0..10 {
        fed.data("abc");
        assert_eq!(data(&mut last), "abc");
        assert_eq!(memory.used(), 0);
    }
    assert_eq!(last.again().unwrap_err(), Unreplayable::Begun);
}

// C33
#[test]
fn what_the_last_attempt_has_read_is_given_back_as_it_goes() {
    let fed = Fed::default();
    let memory = ReplayMemory::new(ROOMY);
    let original = bounded(&fed, 8, &memory);
    let mut first = original.again().unwrap();
    fed.data("abc");
    fed.data("def");
    assert_eq!((data(&mut first), data(&mut first)), (Bytes::from("abc"), Bytes::from("def")));
    let held = memory.used();
    drop(first);
    assert_eq!(memory.used(), held, "the original has read nothing yet");
    let mut last = original;
    assert_eq!(data(&mut last), "abc");
    assert_eq!(memory.used(), held / 2);
    assert_eq!(data(&mut last), "def");
    assert_eq!(memory.used(), 0);
    fed.data("more than 8 bytes");
    assert_eq!(data(&mut last), "more than 8 bytes");
    assert_eq!(memory.used(), 0);
}

// C33
#[test]
fn when_the_original_is_gone_racers_keep_only_what_the_slowest_needs() {
    let fed = Fed::default();
    let memory = ReplayMemory::new(ROOMY);
    let original = bounded(&fed, 4, &memory);
    let mut racer = original.again().unwrap();
    let mut other = original;
    assert_eq!(other.unreplayable(), None);
    for _ in 0..100 {
        fed.data("abc");
        assert_eq!(data(&mut racer), "abc");
        assert!(memory.used() > 0, "the other needs it");
        assert_eq!(data(&mut other), "abc");
        assert_eq!(other.again().unwrap_err(), Unreplayable::Begun);
    }
    fed.data("abc");
    assert_eq!(data(&mut racer), "abc");
    drop(other);
    assert_eq!(memory.used(), 0, "kept for the slow one only");
}

// C20
#[test]
fn dropping_every_handle_releases_everything() {
    for waits in [false, true] {
        let fed = Fed::default();
        let memory = ReplayMemory::new(ROOMY);
        let original = bounded(&fed, ROOMY, &memory);
        let mut reader = original.again().unwrap();
        fed.data("abc");
        assert_eq!(data(&mut reader), "abc");
        if waits {
            // The source has a waker now, which must not keep the source alive.
            assert!(poll(&mut reader).is_pending());
        }
        drop(original);
        assert!(!fed.is_dropped());
        drop(reader);
        assert!(fed.is_dropped());
        assert_eq!(memory.used(), 0);
    }
}

// C21
#[test]
fn a_body_sent_once_passes_through() {
    let fed = Fed::default();
    let body = ReplayBody::once(fed.body());
    assert_eq!(body.again().unwrap_err(), Unreplayable::NoCopy);
    fed.data("ab");
    fed.trailers();
    fed.end();
    let read = read(body);
    assert_eq!((&*read.bytes, read.trailers), (&b"ab"[..], Some(trailers())));
}

// C33
#[test]
fn frames_of_bytes_are_shared_not_copied() {
    let fed = Fed::default();
    let original = bounded(&fed, ROOMY, &ReplayMemory::new(ROOMY));
    let mut first = original.again().unwrap();
    let mut second = original;
    let bytes = Bytes::from(vec![7; 1000]);
    fed.data(bytes.clone());
    assert_eq!(data(&mut first).as_ptr(), bytes.as_ptr());
    assert_eq!(data(&mut second).as_ptr(), bytes.as_ptr());
}
