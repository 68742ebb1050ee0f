//! What the body of a response says: events, end markers, limits on its parts.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower_fleet::{
    BalanceLayer, CircuitPolicy, CircuitState, FailoverLayer, Fleet, TimeLimit, TimeLimits, TimedOut,
    body::ReplayMemory,
    content::EventRules,
    failover::{Beyond, CommitPoint, ErrorKind, FailoverBuilder, Mode},
    outcome::{BrokenStream, HttpClassifier, Interrupted, PlainErrors},
};
use tower_layer::Layer;

use crate::mock::*;

pub(crate) const PING: &str = ": ping\n\n";
pub(crate) const ROLE: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
pub(crate) const ONE: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"one\"}}]}\n\n";
pub(crate) const TWO: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"two\"}}]}\n\n";
pub(crate) const DONE: &str = "data: [DONE]\n\n";
pub(crate) const ERROR: &str = "data: {\"error\":{\"message\":\"overloaded\"}}\n\n";

pub(crate) fn rules() -> HttpClassifier {
    HttpClassifier::new().events(EventRules::chat_completions())
}

pub(crate) fn stream(pieces: Vec<Piece>) -> Reply {
    status(200).header("content-type", "text/event-stream; charset=utf-8").body(pieces)
}

pub(crate) fn layer(point: CommitPoint) -> FailoverBuilder {
    FailoverLayer::builder().mode(Mode::Sequential).commit(point)
}

pub(crate) fn first_content() -> FailoverBuilder {
    layer(CommitPoint::first_content(64 * 1024))
}

pub(crate) fn until_end() -> FailoverBuilder {
    layer(CommitPoint::until_end(64 * 1024))
}

/// The data of a body, and its error.
pub(crate) async fn read<B>(mut body: B) -> (String, Option<String>)
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut data = Vec::new();
    loop {
        match body.frame().await {
            Some(Ok(frame)) => data.extend(frame.into_data().unwrap_or_default()),
            Some(Err(error)) => return (String::from_utf8(data).unwrap(), Some(error.to_string())),
            None => return (String::from_utf8(data).unwrap(), None),
        }
    }
}

fn told_by(text: &str) -> String {
    format!("\"message\":\"the stream {text} before it was complete\"")
}

// C32, C73, C74: what comes before the first content moves on.
#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_before_its_first_content_moves_on() {
    let beginnings = [
        ("error event", vec![data(PING), data(ERROR)]),
        ("malformed event", vec![data(ROLE), data("data: {\"choi\n\n")]),
        ("no end marker", vec![data(PING), data(ROLE)]),
        ("body broken off", vec![data(PING), Piece::Error("reset")]),
    ];
    for (reason, beginning) in beginnings {
        let (fleet, [a, b]) = fleet_with(rules());
        a.usually(stream(beginning));
        b.usually(stream(vec![data(ROLE), data(ONE), data(TWO), data(DONE)]));
        let answer = ask(&first_content(), &fleet, get()).await.unwrap();
        let ledger = answer.extensions().get::<tower_fleet::Ledger>().unwrap().to_string();
        assert!(ledger.contains(&format!("`a`: {reason}")), "{ledger}");
        assert_eq!(read(answer.into_body()).await, ([ROLE, ONE, TWO, DONE].concat(), None), "{reason}");
        assert_eq!((a.calls(), b.calls()), (1, 1));
        assert_idle(&fleet);
    }
}

// C32: one frame of content is final at once, and is not held.
#[tokio::test(start_paused = true)]
async fn a_stream_is_final_with_its_first_content() {
    let (fleet, [a, _]) = fleet_with(rules());
    a.usually(stream(vec![data(PING), data(ROLE), Piece::Wait(30), data(ONE), Piece::Wait(1_000), data(DONE)]));
    let began = Instant::now();
    let answer = ask(&first_content(), &fleet, get()).await.unwrap();
    assert_took(began, 30);
    let mut body = answer.into_body();
    let mut next = async || body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(next().await, [PING, ROLE].concat());
    assert_eq!(next().await, ONE);
    assert_eq!(next().await, DONE);
    assert!(body.frame().await.is_none());
    assert_idle(&fleet);
}

// C74: after the commit, one error event in the form of the API, then a body error.
#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_after_its_commit_ends_with_an_error_event() {
    let half = &TWO[..20];
    let endings = [
        ("broke off", vec![Piece::Error("reset")], ""),
        ("broke off", vec![data(half), Piece::Error("reset")], ""),
        ("ended", vec![], ""),
        ("ended", vec![data(half)], ""),
        ("ended", vec![data(TWO)], TWO),
        ("was malformed", vec![data(TWO), data("data: nonsense\n\n"), data(TWO)], TWO),
        ("stalled", vec![data(half), Piece::Stall], ""),
    ];
    for (reason, ending, more) in endings {
        let (fleet, [a, _]) = fleet_with(rules());
        let answer = || stream([vec![data(ONE)], ending.clone()].concat());
        let layer = first_content().time_limits(TimeLimits::new().idle(Duration::from_secs(9)));
        a.usually(answer());
        let answer = ask(&layer, &fleet, get()).await.unwrap();
        let (text, error) = read(answer.into_body()).await;
        let rest = text.strip_prefix(&[ONE, more].concat()).unwrap_or_else(|| panic!("{reason}: {text}"));
        let event = rest.strip_prefix("data: ").unwrap();
        assert!(event.contains(&told_by(reason)) && event.ends_with("\n\n"), "{reason}: {event}");
        assert_eq!(event.matches("\n\n").count(), 1);
        assert!(error.is_some(), "{reason}");
        assert_idle(&fleet);
    }
}

// C74: what the backend says itself is passed on, once.
#[tokio::test(start_paused = true)]
async fn an_error_event_after_the_commit_is_passed_on_and_counts() {
    let (_, [a, _]) = fleet::<2>();
    let fleet = Fleet::builder()
        .classify(rules())
        .circuit_breaker(CircuitPolicy::new().failures(1))
        .backend(backend(&a))
        .build()
        .unwrap();
    a.usually(stream(vec![data(ONE), data(ERROR)]));
    let answer = ask(&first_content(), &fleet, get()).await.unwrap();
    assert_eq!(fleet.snapshot()[0].state, CircuitState::Closed);
    assert_eq!(read(answer.into_body()).await, ([ONE, ERROR].concat(), None));
    assert_eq!(fleet.snapshot()[0].state, CircuitState::Open, "the health of the backend hears of it");
}

// C74, C34: also without a commit point, and through any door.
#[tokio::test(start_paused = true)]
async fn a_missing_end_counts_through_every_door() {
    let (_, [a, _]) = fleet::<2>();
    a.usually(stream(vec![data(ONE)]));
    let fleet = || {
        let policy = CircuitPolicy::new().failures(1);
        Fleet::builder().classify(rules()).circuit_breaker(policy).backend(backend(&a)).build().unwrap()
    };
    let balanced = fleet();
    let request = tower_fleet::ReplayLayer::new();
    let request = tower_fleet::body::Replay::keep(&request, get());
    let answer = BalanceLayer::round_robin().layer(balanced.clone()).oneshot(request).await.unwrap();
    let mut body = answer.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), ONE);
    assert!(body.frame().await.unwrap().unwrap().into_data().unwrap().starts_with(b"data: {\"error\""));
    let error = body.frame().await.unwrap().unwrap_err();
    let broken = error.downcast_ref::<BrokenStream>().unwrap();
    assert_eq!(broken.backend.as_deref(), Some("a"));
    assert_eq!(broken.to_string(), "backend `a`: broken event stream: no end marker");
    assert!(body.frame().await.is_none());
    assert_eq!(balanced.snapshot()[0].state, CircuitState::Open);

    let failing_over = fleet();
    let answer = ask(&FailoverLayer::builder(), &failing_over, get()).await.unwrap();
    assert!(read(answer.into_body()).await.1.is_some());
    assert_eq!(failing_over.snapshot()[0].state, CircuitState::Open);
}

// C74: a complete stream stays one, whatever the connection does after it.
#[tokio::test(start_paused = true)]
async fn nothing_after_the_end_marker_is_a_failure() {
    for after in [vec![], vec![Piece::Error("reset")], vec![Piece::Stall], vec![data("data: {\"x\"\n\n")]] {
        for layer in [first_content(), until_end(), FailoverLayer::builder()] {
            let (fleet, [a, b]) = fleet_with(rules());
            a.usually(stream([vec![data(ONE), data(DONE)], after.clone()].concat()));
            let layer = layer.time_limits(TimeLimits::new().idle(Duration::from_secs(9)));
            let (text, error) = read(ask(&layer, &fleet, get()).await.unwrap().into_body()).await;
            if !matches!(after[..], [Piece::Data(_)]) {
                assert_eq!((text, error), ([ONE, DONE].concat(), None), "{after:?}");
            }
            assert_eq!(b.calls(), 0);
            assert_idle(&fleet);
        }
    }
}

// C32, C74: held until the end marker, a stream that fails is never seen.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_held_until_its_end_marker_moves_on_when_it_breaks() {
    for ending in [
        vec![Piece::Error("reset")],
        vec![],
        vec![Piece::Stall],
        vec![data(ERROR)],
        vec![data("data: nonsense\n\n")],
        vec![data(&TWO[..9])],
    ] {
        let (fleet, [a, b]) = fleet_with(rules());
        a.usually(stream([vec![data(ONE)], ending.clone()].concat()));
        b.usually(stream(vec![data(ONE), Piece::Wait(50), data(TWO), data(DONE), Piece::Stall]));
        let layer = until_end().time_limits(TimeLimits::new().idle(Duration::from_secs(9)));
        let (text, error) = read(ask(&layer, &fleet, get()).await.unwrap().into_body()).await;
        assert_eq!((text, error), ([ONE, TWO, DONE].concat(), None), "{ending:?}");
        assert_eq!((a.calls(), b.calls()), (1, 1));
    }
}

// C32: beyond its bound, its time or the memory, a response is final or a failure, by choice.
#[tokio::test(start_paused = true)]
async fn a_response_that_cannot_be_held_is_final_or_fails() {
    let long = || stream(vec![data(ONE), data(ONE), data(ONE), Piece::Wait(5_000), data(DONE)]);
    let small = CommitPoint::until_end(2 * ONE.len());
    let quick = CommitPoint::until_end(64 * 1024).within(Duration::from_secs(1));
    let poor = CommitPoint::until_end(64 * 1024).memory(ReplayMemory::new(2 * ONE.len()));
    for (point, took) in [(small, 0), (quick, 1_000), (poor, 0)] {
        let (fleet, [a, b]) = fleet_with(rules());
        a.usually(long());
        let began = Instant::now();
        let answer = ask(&layer(point.clone()), &fleet, get()).await.unwrap();
        assert_took(began, took);
        assert_eq!(read(answer.into_body()).await, ([ONE, ONE, ONE, DONE].concat(), None), "{point:?}");
        assert_eq!(b.calls(), 0);

        b.usually(stream(vec![data(DONE)]));
        let answer = ask(&layer(point.beyond(Beyond::Fail)), &fleet, get()).await.unwrap();
        let ledger = answer.extensions().get::<tower_fleet::Ledger>().unwrap().to_string();
        assert!(ledger.contains("`a`: not held"), "{ledger}");
        assert_eq!(read(answer.into_body()).await, (DONE.to_owned(), None));
    }
}

// C32
#[tokio::test(start_paused = true)]
async fn held_data_is_charged_until_it_is_passed_on() {
    let memory = ReplayMemory::new(1_000);
    let point = CommitPoint::until_end(1_000).memory(memory.clone());
    let (fleet, [a, _]) = fleet_with(rules());
    a.usually(stream(vec![data(ONE), data(TWO), data(DONE)]));
    let mut body = ask(&layer(point), &fleet, get()).await.unwrap().into_body();
    assert!((ONE.len() + TWO.len()..1_000).contains(&memory.used()), "{}", memory.used());
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), [ONE, TWO].concat());
    assert_eq!(memory.used(), 0);
}

// C32: a marker of any stream, also across frames.
#[tokio::test(start_paused = true)]
async fn a_body_is_held_until_its_marker() {
    let layer = layer(CommitPoint::until("#end", 1_000));
    let (fleet, [a, b]) = fleet();
    a.usually(status(200).body(vec![data("one #e"), data("n"), Piece::Wait(10), data("d two"), Piece::Stall]));
    let mut body = ask(&layer, &fleet, get()).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one #en");
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "d two");
    a.usually(status(200).body(vec![data("one #en"), data("t")]));
    b.usually(status(200).body(vec![data("#end")]));
    let answer = ask(&layer, &fleet, get()).await.unwrap();
    assert_eq!(read(answer.into_body()).await, ("#end".to_owned(), None));
}

// C32: documents too, whether or not their length is known.
#[tokio::test(start_paused = true)]
async fn a_document_is_held_whole_where_streams_are_held_to_their_content() {
    for point in [CommitPoint::first_content(100), CommitPoint::until_end(100), CommitPoint::whole(100)] {
        for size in [vec![], vec![Piece::Size(20)]] {
            let (fleet, [a, b]) = fleet_with(rules());
            a.usually(status(200).body([size, vec![data("{\"half\":"), Piece::Error("reset")]].concat()));
            assert_eq!(told(ask(&layer(point.clone()), &fleet, get()).await).await, (200, "b".into()), "{point:?}");
            assert_eq!((a.calls(), b.calls()), (1, 1));
        }
    }
}

// C73: each limit by its name, at any door, before the commit.
#[tokio::test(start_paused = true)]
async fn each_part_of_a_response_has_a_limit_of_its_own() {
    let limits = TimeLimits::new()
        .head(Duration::from_secs(1))
        .first_byte(Duration::from_secs(2))
        .first_content(Duration::from_secs(4))
        .idle(Duration::from_secs(3));
    let pings = || (0..9).flat_map(|_| [data(PING), Piece::Wait(900)]);
    for (reply, took, limit) in [
        (hang(), 1_000, TimeLimit::Head),
        (stream(vec![Piece::Stall]), 2_000, TimeLimit::FirstByte),
        (stream(pings().collect()), 4_000, TimeLimit::FirstContent),
        (stream(vec![data(PING), Piece::Wait(500), data(ROLE), Piece::Stall]), 3_500, TimeLimit::Idle),
    ] {
        // That between two frames applies from the first content on, if there is a limit on that.
        let limits = if limit == TimeLimit::Idle { TimeLimits::new().idle(Duration::from_secs(3)) } else { limits };
        let (_, [a, b]) = fleet::<2>();
        a.usually(reply);
        let fleet =
            Fleet::builder().classify(rules()).backends([backend(&a).priority(1), backend(&b)]).build().unwrap();
        let began = Instant::now();
        let answer = ask(&first_content().time_limits(limits), &fleet, get()).await;
        assert_took(began, took);
        assert_eq!(told(answer).await, (200, "b".into()), "{limit:?}");

        // The limits of a backend apply at any door, and in place of those of the door.
        let own = Fleet::builder().classify(rules()).backend(backend(&a).time_limits(limits)).build().unwrap();
        let door = first_content().time_limits(TimeLimits::new().head(Duration::from_millis(1)));
        let error = ask(&door, &own, get()).await.unwrap_err();
        let ErrorKind::Exhausted { source: Some(source), .. } = error.kind() else { panic!("{error:?}") };
        if limit == TimeLimit::Head {
            assert_eq!(source.downcast_ref::<TimedOut>().unwrap().limit, limit);
        }
        assert!(error.to_string().contains("`a`: timeout"), "{error}");
        assert_idle(&own);
    }
}

// C73: what the caller takes to read is no time of the backend.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_does_not_use_up_the_limits() {
    let limits = TimeLimits::new().first_content(Duration::from_secs(2)).idle(Duration::from_secs(1));
    let (fleet, [a, _]) = fleet_with(rules());
    a.usually(stream(vec![data(PING), data(ONE), data(TWO), Piece::Wait(500), data(DONE)]));
    let mut body = ask(&FailoverLayer::builder().time_limits(limits), &fleet, get()).await.unwrap().into_body();
    for expected in [PING, ONE, TWO, DONE] {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), expected);
    }
    assert!(body.frame().await.is_none());
}

// C74: for middleware that goes on with the stream elsewhere.
#[tokio::test(start_paused = true)]
async fn a_request_may_ask_for_errors_without_an_event() {
    let (fleet, [a, _]) = fleet_with(rules());
    a.usually(stream(vec![data(ONE), data(&TWO[..9]), Piece::Error("reset")]));
    let mut request = get();
    request.extensions_mut().insert(PlainErrors);
    let answer = ask(&first_content(), &fleet, request).await.unwrap();
    let mut body = answer.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), ONE);
    let error = loop {
        if let Err(error) = body.frame().await.unwrap() {
            break error;
        }
    };
    let interrupted = error.downcast_ref::<Interrupted>().unwrap();
    assert!(interrupted.event.starts_with(b"data: {\"error\":"), "{:?}", interrupted.event);
    assert_eq!(std::error::Error::source(interrupted).unwrap().to_string(), "reset");
}

// C63, C73
#[tokio::test]
async fn points_and_limits_that_make_no_sense_are_refused() {
    let refused = |builder: FailoverBuilder| builder.build().unwrap_err().to_string();
    let second = Duration::from_secs(1);
    for (builder, expected) in [
        (layer(CommitPoint::until("", 9)), "failover: commit.until must not be empty"),
        (layer(CommitPoint::until("[DONE]", 5)), "failover: commit.bound 5 must be at least as large as the marker"),
        (layer(CommitPoint::first_content(0)), "failover: commit.bound 0 must be at least 1 byte"),
        (layer(CommitPoint::whole(9).within(Duration::ZERO)), "failover: commit.within 0ns must be longer than zero"),
        (first_content().time_limits(TimeLimits::new().idle(Duration::ZERO)), "failover: idle 0ns must be longer"),
        (
            first_content().time_limits(TimeLimits::new().head(2 * second).first_byte(second)),
            "failover: first_byte 1s must be at least as long",
        ),
    ] {
        assert!(refused(builder).starts_with(expected), "{expected}");
    }
}
