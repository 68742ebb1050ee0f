//! From which moment on a response is the answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower_fleet::{
    CircuitPolicy, CircuitState, FailoverLayer, Fleet,
    breaker::Rate,
    failover::{CommitPoint, Decision, ErrorKind, FailoverBuilder, HedgeDelay, Ledger, Mode, Trigger},
};
use tower_layer::Layer;

use crate::mock::*;

const MODES: [Mode; 3] = [Mode::Race, Mode::Sequential, Mode::Hedged(HedgeDelay::After(Duration::from_secs(1_000)))];

fn first_frame() -> FailoverBuilder {
    FailoverLayer::builder().mode(Mode::Sequential).commit(CommitPoint::first_frame())
}

/// Small bodies are waited for.
fn whole(bound: usize) -> FailoverBuilder {
    FailoverLayer::builder().mode(Mode::Sequential).commit(CommitPoint::whole(bound))
}

/// Comments and pings may come first; an error event is a failure.
fn events(bound: usize) -> FailoverBuilder {
    let point = CommitPoint::prelude(bound, |seen| {
        let text = String::from_utf8_lossy(seen);
        let Some((events, _)) = text.rsplit_once("\n\n") else { return Decision::Wait };
        match events.split("\n\n").find(|event| !event.starts_with(':') && !event.is_empty()) {
            Some(event) if event.starts_with("event: error") => Decision::Refuse("error event"),
            Some(_) => Decision::Accept,
            None => Decision::Wait,
        }
    });
    FailoverLayer::builder().mode(Mode::Sequential).commit(point)
}

// C32
#[tokio::test(start_paused = true)]
async fn by_default_the_head_is_the_answer() {
    for mode in MODES {
        let (fleet, [a, b]) = fleet();
        a.usually(status(200).body(vec![Piece::Wait(60_000), Piece::Error("broke")]));
        let began = Instant::now();
        let answer = ask(&FailoverLayer::builder().mode(mode), &fleet, get()).await.unwrap();
        assert_took(began, 0);
        assert_eq!(answer.into_body().collect().await.unwrap_err().to_string(), "broke");
        assert_eq!((a.calls(), b.calls()), (1, 0), "{mode:?}");
    }
}

// C32
#[tokio::test(start_paused = true)]
async fn the_first_frame_is_put_back_in_front() {
    let (fleet, [a, b]) = fleet();
    a.usually(status(200).body(vec![
        data(""),
        Piece::Wait(30),
        data("one "),
        Piece::Wait(30),
        data("two"),
        Piece::Trailer("x-sum", "42"),
    ]));
    let began = Instant::now();
    let mut answer = ask(&first_frame(), &fleet, get()).await.unwrap();
    assert_took(began, 30);
    assert_eq!(answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "one ");
    let rest = answer.into_body().collect().await.unwrap();
    assert_eq!(rest.trailers(), Some(&HeaderMap::from_iter([("x-sum".parse().unwrap(), "42".parse().unwrap())])));
    assert_eq!(rest.to_bytes(), "two");
    assert_eq!(b.calls(), 0);
}

// C32
#[tokio::test(start_paused = true)]
async fn a_stall_or_an_error_before_the_first_frame_moves_on() {
    for mode in MODES {
        for beginning in [vec![Piece::Stall], vec![Piece::Error("reset")], vec![Piece::Wait(50), Piece::Error("reset")]]
        {
            let (fleet, [a, b]) = fleet();
            a.usually(status(200).body(beginning));
            let answer = ask(&first_frame().mode(mode).timeout(millis(200)), &fleet, get()).await;
            assert_eq!(told(answer).await, (200, "b".into()), "{mode:?}");
            assert_eq!(b.calls(), 1);
            assert_idle(&fleet);
        }
    }
}

// C14, C32
#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_and_trips_nothing_is_the_answer_unchanged() {
    let (fleet, [a, b]) = fleet();
    a.usually(status(200).header("x-a", "1").body(vec![Piece::Wait(5), Piece::Error("reset")]));
    let answer = ask(&first_frame().triggers([Trigger::status()]), &fleet, get()).await.unwrap();
    assert_eq!(answer.headers()["x-a"], "1");
    assert!(!answer.body().is_end_stream());
    assert_eq!(answer.into_body().collect().await.unwrap_err().to_string(), "reset");
    assert_eq!(b.calls(), 0);
}

// C19, C32
#[tokio::test(start_paused = true)]
async fn a_body_that_broke_off_is_not_passed_through() {
    let (fleet, [a, b]) = fleet();
    a.usually(status(200).body(vec![Piece::Error("reset")]));
    b.usually(status(200).body(vec![Piece::Error("reset")]));
    let failed = ask(&first_frame(), &fleet, get()).await.unwrap_err();
    assert!(matches!(failed.kind(), ErrorKind::Exhausted { source: Some(_), .. }), "{failed:?}");
    assert!(failed.to_string().contains("`a`: body broken off"), "{failed}");

    a.usually(status(503));
    assert_eq!(told(ask(&first_frame(), &fleet, get()).await).await, (503, "a".into()));
}

// C32
#[tokio::test(start_paused = true)]
async fn an_empty_body_is_an_answer_too() {
    for pieces in [vec![], vec![Piece::Wait(10)], vec![data("")], vec![Piece::Trailer("x-sum", "0")]] {
        let (fleet, [a, b]) = fleet();
        a.usually(status(204).body(pieces));
        assert_eq!(told(ask(&first_frame(), &fleet, get()).await).await, (204, String::new()));
        assert_eq!(b.calls(), 0);
    }
}

// C32
#[tokio::test(start_paused = true)]
async fn after_the_commit_nothing_is_sent_again() {
    for mode in MODES {
        let (fleet, [a, b]) = fleet();
        a.usually(status(200).body(vec![data("half"), Piece::Wait(60_000), Piece::Error("broke")]));
        let mut answer = ask(&first_frame().mode(mode).timeout(Duration::from_secs(9)), &fleet, get()).await.unwrap();
        assert_eq!(answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        assert_eq!(answer.body_mut().frame().await.unwrap().unwrap_err().to_string(), "broke");
        assert!(answer.body_mut().frame().await.is_none());
        assert_eq!((a.calls(), b.calls()), (1, 0), "{mode:?}");
    }
}

// C32
#[tokio::test(start_paused = true)]
async fn a_comment_and_then_an_error_event_still_fails_over() {
    for mode in MODES {
        let (fleet, [a, b]) = fleet();
        a.usually(status(200).body(vec![
            data(": hello\n\n"),
            Piece::Wait(10),
            data("event: er"),
            data("ror\ndata: overloaded\n\n"),
            Piece::Stall,
        ]));
        let stream = [": hi\n\n", "data: 1\n\n", "data: 2\n\n"];
        let [hi, one, two] = stream.map(data);
        b.usually(status(200).body(vec![hi, Piece::Wait(20), one, Piece::Wait(900), two, Piece::Trailer("x", "y")]));
        let answer = ask(&events(4_096).mode(mode), &fleet, get()).await;
        let story = story(&answer);
        assert!(story.starts_with("a:custom(error event)") && story.ends_with("b:served"), "{story}");
        let whole = answer.unwrap().into_body().collect().await.unwrap();
        assert_eq!(whole.trailers().unwrap()["x"], "y");
        assert_eq!(whole.to_bytes(), stream.concat());
    }
}

// C19, C32: the last of them is passed through whole.
#[tokio::test(start_paused = true)]
async fn a_refused_stream_is_passed_through_when_it_is_all_there_is() {
    let (fleet, [a, b]) = fleet();
    a.usually(fail("broken"));
    let text = ": hello\n\nevent: error\ndata: overloaded\n\n";
    b.usually(status(200).body(vec![data(text), Piece::Wait(5), data("rest")]));
    assert_eq!(told(ask(&events(4_096), &fleet, get()).await).await, (200, format!("{text}rest")));
    let failed = ask(&events(4_096).error_when_exhausted(), &fleet, get()).await.unwrap_err();
    assert!(failed.to_string().contains("`b`: error event"), "{failed}");
}

// C32
#[tokio::test(start_paused = true)]
async fn a_prelude_is_bounded() {
    let (fleet, [a, b]) = fleet();
    let comment = ": comment\n\n";
    let mut pieces = vec![data(comment); 10];
    pieces.extend([Piece::Wait(60_000), data("data: late\n\n")]);
    a.usually(status(200).body(pieces));
    let began = Instant::now();
    let answer = ask(&events(100), &fleet, get()).await;
    assert_took(began, 0);
    assert_eq!(told(answer).await, (200, comment.repeat(10) + "data: late\n\n"));
    // One that ends before it says anything is an answer as well.
    a.usually(status(200).body(vec![data(comment)]));
    assert_eq!(told(ask(&events(100), &fleet, get()).await).await, (200, comment.into()));
    assert_eq!(b.calls(), 0);
}

// C32
#[tokio::test(start_paused = true)]
async fn the_size_of_a_body_is_told_as_it_was() {
    for layer in [first_frame(), events(5), FailoverLayer::builder(), whole(0), whole(1)] {
        let (fleet, [a]) = fleet();
        let mut answer = ask(&layer, &fleet, get()).await.unwrap();
        assert_eq!(answer.body().size_hint().exact(), Some(1));
        assert!(!answer.body().is_end_stream());
        assert_eq!(answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), Bytes::from("a"));
        assert_eq!(answer.body().size_hint().exact(), Some(0));
        assert!(answer.body().is_end_stream());
        assert_eq!(a.calls(), 1);
    }
}

// C32
#[tokio::test(start_paused = true)]
async fn a_small_body_that_breaks_in_the_middle_moves_on() {
    for mode in MODES {
        for end in [vec![Piece::Error("reset")], vec![Piece::Wait(50), Piece::Error("reset")], vec![Piece::Stall]] {
            let (fleet, [a, b]) = fleet();
            let mut pieces = vec![Piece::Size(8), data("half"), data(" of")];
            pieces.extend(end);
            a.usually(status(200).header("x-a", "1").body(pieces));
            let answer = ask(&whole(8).mode(mode).timeout(millis(200)), &fleet, get()).await;
            assert!(!answer.as_ref().unwrap().headers().contains_key("x-a"));
            assert_eq!(told(answer).await, (200, "b".into()), "{mode:?}");
            assert!(a.calls() >= 1 && b.calls() == 1, "{mode:?}");
            assert_idle(&fleet);
        }
    }
}

// C32: one byte less of a bound, and the head is the answer.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_known_to_be_large_is_not_waited_for() {
    for (bound, size) in [(7, 8), (0, 1), (8, u64::MAX)] {
        let (fleet, [a, b]) = fleet();
        let pieces = vec![Piece::Size(size), Piece::Wait(60_000), data("half"), Piece::Error("broke")];
        a.usually(status(200).body(pieces));
        let began = Instant::now();
        let mut answer = ask(&whole(bound).timeout(millis(200)), &fleet, get()).await.unwrap();
        assert_took(began, 0);
        assert_eq!(answer.body().size_hint().exact(), Some(size));
        assert_eq!(answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        assert_eq!(answer.into_body().collect().await.unwrap_err().to_string(), "broke");
        assert_eq!((a.calls(), b.calls()), (1, 0), "{bound} {size}");
    }
}

// C32, C50: what it waits for is the end, and the clock runs until then.
#[tokio::test(start_paused = true)]
async fn a_small_body_is_passed_on_as_one_frame_when_it_is_whole() {
    let (fleet, [a, b]) = fleet();
    let trailer = Piece::Trailer("x-sum", "42");
    a.usually(status(200).body(vec![Piece::Size(7), data("one "), Piece::Wait(30), data("two"), trailer]));
    let began = Instant::now();
    let mut answer = ask(&whole(7), &fleet, get()).await.unwrap();
    assert_took(began, 30);
    assert_eq!(answer.body().size_hint().exact(), Some(7));
    assert_eq!(answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "one two");
    assert_eq!(answer.body().size_hint().exact(), Some(0));
    assert!(!answer.body().is_end_stream(), "the trailers are to come");
    assert_eq!(answer.body_mut().frame().await.unwrap().unwrap().into_trailers().unwrap()["x-sum"], "42");
    assert!(answer.body().is_end_stream());
    assert!(answer.body_mut().frame().await.is_none());
    assert_eq!(b.calls(), 0);

    let late = ask(&whole(7).timeout(millis(20)), &fleet, get()).await;
    assert_eq!(told(late).await, (200, "b".into()));
    assert_eq!((a.calls(), b.calls()), (2, 1));
}

// C16, C32
#[tokio::test(start_paused = true)]
async fn the_bound_of_a_race_runs_until_a_small_body_is_whole() {
    let (fleet, [a, b]) = fleet();
    a.usually(status(503));
    b.usually(status(200).body(vec![Piece::Size(8), data("half"), Piece::Wait(5_001), data("rest")]));
    let began = Instant::now();
    let answer = ask(&whole(8).mode(Mode::Race), &fleet, get()).await;
    assert_took(began, 5_000);
    assert_eq!(told(answer).await, (503, "a".into()), "the last response that there is");
}

// C32
#[tokio::test(start_paused = true)]
async fn a_body_that_is_longer_than_it_said_is_not_waited_for_without_an_end() {
    let (fleet, [a, b]) = fleet();
    let mut pieces = vec![Piece::Size(4)];
    pieces.extend(vec![data(&"four".repeat(10)); 10]);
    pieces.extend([Piece::Wait(30_000), data("late")]);
    a.usually(status(200).body(pieces));
    for (bound, waits) in [(4, 0), (399, 0), (400, 30_000)] {
        let began = Instant::now();
        let answer = ask(&whole(bound), &fleet, get()).await;
        assert_took(began, waits);
        assert_eq!(told(answer).await, (200, "four".repeat(100) + "late"), "{bound}");
    }
    assert_eq!(b.calls(), 0);
}

// C14, C32
#[tokio::test(start_paused = true)]
async fn a_small_body_that_breaks_and_trips_nothing_is_handed_over_as_far_as_it_came() {
    let (fleet, [a, b]) = fleet();
    a.usually(status(200).body(vec![Piece::Size(8), data("half"), Piece::Error("reset")]));
    let mut answer = ask(&whole(8).triggers([Trigger::status()]), &fleet, get()).await.unwrap();
    assert_eq!(answer.body().size_hint().exact(), Some(8), "no clean end at half of it");
    assert_eq!(answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    assert_eq!(answer.body_mut().frame().await.unwrap().unwrap_err().to_string(), "reset");
    assert!(answer.body_mut().frame().await.is_none());
    assert_eq!(b.calls(), 0);
}

/// As [`ask`], through breakers that open at the second slow call of two.
async fn served_behind_breakers(layer: &FailoverBuilder, fleet: &Fleet<Mock>) -> String {
    let answer = layer.clone().build().unwrap().layer(fleet.clone()).oneshot(get()).await.unwrap();
    answer.extensions().get::<Ledger>().unwrap().served().unwrap().to_string()
}

fn behind_breakers(remotes: &[Arc<Remote>; 2]) -> Fleet<Mock> {
    let secs = Duration::from_secs;
    let policy = CircuitPolicy::new().slow_calls(secs(1), Rate::new(0.5).window(secs(600)).minimum_calls(2));
    let backends = remotes.iter().zip([10, 0]).map(|(remote, priority)| backend(remote).priority(priority));
    Fleet::builder().circuit_breaker(policy).backends(backends).build().unwrap()
}

// C32, C36, C44
#[tokio::test(start_paused = true)]
async fn a_backend_that_sends_heads_and_nothing_else_is_learned_of() {
    let (hedged, patient) = (Mode::hedged(Duration::from_secs(2)), Duration::from_secs(2));
    let half = vec![Piece::Size(8), data("half"), Piece::Stall];
    for (point, body) in [(CommitPoint::first_frame(), vec![Piece::Stall]), (CommitPoint::whole(8), half)] {
        let layer = FailoverLayer::builder().commit(point.clone());
        for layer in [layer.clone().mode(hedged), layer.clone().mode(Mode::Sequential).timeout(patient)] {
            let (_, remotes) = fleet();
            remotes[0].usually(status(200).body(body.clone()));
            let fleet = behind_breakers(&remotes);
            for calls in 1..=2 {
                assert_eq!(fleet.snapshot()[0].state, CircuitState::Closed, "{point:?} {calls}");
                let began = Instant::now();
                assert_eq!(served_behind_breakers(&layer, &fleet).await, "b");
                assert_took(began, 2_000);
            }
            assert_eq!(fleet.snapshot()[0].state, CircuitState::Open, "{point:?}");
            let began = Instant::now();
            assert_eq!(served_behind_breakers(&layer, &fleet).await, "b");
            assert_took(began, 0);
            assert_eq!(remotes[0].calls(), 2);
        }
    }
}

// C32, C37: one that is given up before it was slow says nothing.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_given_up_early_is_not_slow() {
    let (_, remotes) = fleet();
    remotes[0].usually(status(200).body(vec![Piece::Stall]));
    let fleet = behind_breakers(&remotes);
    let hedged =
        FailoverLayer::builder().commit(CommitPoint::first_frame()).mode(Mode::hedged(Duration::from_millis(900)));
    for _ in 0..10 {
        assert_eq!(served_behind_breakers(&hedged, &fleet).await, "b");
    }
    assert_eq!(fleet.snapshot()[0].state, CircuitState::Closed);
}

// C32, C58
#[tokio::test(start_paused = true)]
async fn a_small_body_in_smallest_pieces_is_waited_for() {
    let (fleet, [a, b]) = fleet();
    let mut pieces = vec![Piece::Size(10_000)];
    pieces.extend((0..1_000).map(|_| data("x")));
    a.usually(status(200).body([&pieces[..], &[Piece::Error("reset")]].concat()));
    assert_eq!(told(ask(&whole(10_000), &fleet, get()).await).await, (200, "b".into()));
    pieces.extend([Piece::Wait(1_000), data(&"x".repeat(9_000))]);
    a.usually(status(200).body(pieces));
    let began = Instant::now();
    let answer = ask(&whole(10_000), &fleet, get()).await;
    assert_took(began, 1_000);
    assert_eq!(told(answer).await, (200, "x".repeat(10_000)));
    assert_eq!((a.calls(), b.calls()), (2, 1));
}
