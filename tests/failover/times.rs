//! Timeouts, the deadline, pauses and the budget.

use std::time::Duration;

use tokio::time::Instant;
use tower::{Service, ServiceExt};
use tower_fleet::{
    CircuitPolicy, CircuitState, FailoverLayer, Fleet, TimeLimit, TimedOut,
    failover::{Backoff, Budget, CommitPoint, ErrorKind, FailoverBuilder, Mode, Stopped},
};
use tower_layer::Layer;

use crate::mock::*;

fn sequential() -> FailoverBuilder {
    FailoverLayer::builder().mode(Mode::Sequential)
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

// C50
#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_moves_on() {
    let (fleet, [a, b]) = fleet();
    a.usually(hang());
    let began = Instant::now();
    let answer = ask(&sequential().timeout(millis(700)), &fleet, get()).await;
    assert_took(began, 700);
    assert_eq!(story(&answer), "a:timeout(timeout) b:served");
    assert_eq!((a.running(), b.calls()), (0, 1));
}

// C50
#[tokio::test(start_paused = true)]
async fn a_backend_may_have_a_timeout_of_its_own() {
    let (a, b) = (mock("a").1, mock("b").1);
    let patient = backend(&a).priority(1).timeout(secs(30 * 60));
    let fleet = Fleet::builder().backends([patient, backend(&b)]).build().unwrap();
    a.then([status(200).after(29 * 60 * 1_000), hang()]);
    let layer = sequential().timeout(secs(1));
    assert_eq!(told(ask(&layer, &fleet, get()).await).await.1, "a");
    let began = Instant::now();
    assert_eq!(told(ask(&layer, &fleet, get()).await).await.1, "b");
    assert_took(began, 30 * 60 * 1_000);
}

// C50
#[tokio::test(start_paused = true)]
async fn an_attempt_may_take_a_minute_unless_another_timeout_or_none_is_set() {
    for layer in [FailoverLayer::builder(), sequential()] {
        let (fleet, [a, b]) = fleet();
        a.usually(hang());
        let began = Instant::now();
        let answer = ask(&layer, &fleet, get()).await;
        assert_took(began, 60_000);
        assert!(story(&answer).starts_with("a:timeout(timeout) "), "{}", story(&answer));
        assert_eq!((told(answer).await, b.calls()), ((200, "b".into()), 1));
    }
    let (fleet, [a, b]) = fleet();
    a.usually(status(200).after(7 * 24 * 60 * 60 * 1_000));
    assert_eq!(told(ask(&sequential().timeout(None), &fleet, get()).await).await.1, "a");
    assert_eq!(b.calls(), 0);
}

// C50, C62
#[tokio::test(start_paused = true)]
async fn the_error_of_a_timeout_names_the_limit_that_ran_out() {
    let (fleet, [a, b]) = fleet();
    a.usually(hang());
    b.usually(hang());
    let limited = async |layer: FailoverBuilder, own: Option<Duration>| {
        for name in ["a", "b"] {
            fleet.set_timeout(name, own).unwrap();
        }
        let source = ask(&layer, &fleet, get()).await.unwrap_err().into_source().unwrap();
        let TimedOut { timeout, limit, .. } = source.downcast_ref::<TimedOut>().unwrap();
        assert!(source.to_string().contains(&format!("within {timeout:?}, ")), "{source}");
        (*timeout, *limit)
    };
    let layer = || sequential().timeout(secs(2)).deadline(secs(10));
    assert_eq!(limited(layer(), Some(secs(3))).await, (secs(3), TimeLimit::Backend));
    assert_eq!(limited(layer(), None).await, (secs(2), TimeLimit::Attempt));
    assert_eq!(limited(layer(), Some(secs(30))).await, (secs(5), TimeLimit::Request));
}

// C50
#[tokio::test(start_paused = true)]
async fn the_error_of_a_timeout_names_the_backend() {
    let (fleet, [a]) = fleet();
    a.usually(hang());
    let failed = ask(&sequential().timeout(secs(2)), &fleet, get()).await.unwrap_err();
    assert!(failed.to_string().contains("`a`: timeout (2"), "{failed}");
    let ErrorKind::Exhausted { source: Some(source), .. } = failed.kind() else { panic!("{failed:?}") };
    assert_eq!(&*source.downcast_ref::<TimedOut>().unwrap().backend, "a");
}

// C50
#[tokio::test(start_paused = true)]
async fn the_clock_starts_when_the_backend_is_ready() {
    let (fleet, [a, b]) = fleet();
    a.usually(status(503));
    b.ready_after(500);
    b.usually(status(200).after(80));
    let layer = sequential().timeout(millis(100));
    let answer = ask(&layer, &fleet, get()).await;
    let served = ledger(&answer).attempts()[1].took.as_millis();
    assert!((80..84).contains(&served), "{served}");
    assert_eq!(told(answer).await, (200, "b".into()));
}

// C50: until the commit, and no timer beyond.
#[tokio::test(start_paused = true)]
async fn the_timeout_ends_with_the_commit() {
    let (fleet, [a, b]) = fleet();
    a.usually(status(200).body(vec![Piece::Wait(90), data("one "), Piece::Wait(5_000), data("two")]));
    let layer = sequential().timeout(millis(100)).commit(CommitPoint::first_frame());
    assert_eq!(told(ask(&layer, &fleet, get()).await).await, (200, "one two".into()));
    a.usually(status(200).body(vec![Piece::Wait(110), data("late")]));
    assert_eq!(told(ask(&layer, &fleet, get()).await).await, (200, "b".into()));
    assert_eq!(b.calls(), 1);
}

// C37, C50: whoever keeps the timeout, and whatever the attempt waited for.
#[tokio::test(start_paused = true)]
async fn a_timeout_counts_for_the_breaker_once() {
    for own in [true, false] {
        for (point, reply) in
            [(CommitPoint::head(), hang()), (CommitPoint::first_frame(), status(200).body(vec![Piece::Stall]))]
        {
            let (a, b) = (mock("a").1, mock("b").1);
            let slow = backend(&a).priority(1);
            let slow = if own { slow.timeout(millis(50)) } else { slow };
            let fleet = Fleet::builder()
                .backends([slow, backend(&b)])
                .circuit_breaker(CircuitPolicy::new().failures(2).open_for(secs(60)))
                .build()
                .unwrap();
            let layer = sequential().commit(point.clone());
            let layer = if own { layer } else { layer.timeout(millis(50)) };
            a.usually(reply.clone());
            let door = layer.build().unwrap().layer(fleet.clone());
            for state in [CircuitState::Closed, CircuitState::Open] {
                drop(door.clone().oneshot(get()).await.unwrap());
                assert_eq!(fleet.snapshot()[0].state, state, "{own} {point:?}");
            }
            assert_idle(&fleet);
        }
    }
}

// C51
#[tokio::test(start_paused = true)]
async fn a_deadline_is_divided_so_that_others_get_their_turn() {
    for timeout in [None, Some(secs(600))] {
        let (fleet, [a, b, c]) = fleet();
        a.usually(hang());
        b.usually(hang());
        c.usually(status(200).after(900));
        let layer = sequential().deadline(secs(8));
        let layer = timeout.map_or(layer.clone(), |timeout| layer.timeout(timeout));
        let began = Instant::now();
        assert_eq!(told(ask(&layer, &fleet, get()).await).await, (200, "c".into()));
        assert_took(began, 4_000 + 2_000 + 900);
    }
}

// C51
#[tokio::test(start_paused = true)]
async fn with_the_deadline_everything_is_over() {
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(millis(300))] {
        let (fleet, remotes @ [_, _, _]) = fleet();
        remotes.iter().for_each(|remote| remote.usually(hang()));
        let began = Instant::now();
        let failed = ask(&FailoverLayer::builder().mode(mode).deadline(secs(3)), &fleet, get()).await.unwrap_err();
        assert_took(began, 3_000);
        assert!(matches!(failed.kind(), ErrorKind::Exhausted { .. }), "{failed:?}");
        assert!(remotes.iter().all(|remote| remote.running() == 0), "{mode:?}");
        assert_idle(&fleet);
    }
}

// C51: a slow primary is not cut short for hedges that run beside it.
#[tokio::test(start_paused = true)]
async fn a_hedged_primary_may_use_the_whole_deadline() {
    let (fleet, [a, b]) = fleet();
    a.usually(status(200).after(2_900));
    b.usually(hang());
    let layer = FailoverLayer::builder().mode(Mode::hedged(millis(300))).deadline(secs(3));
    assert_eq!(told(ask(&layer, &fleet, get()).await).await, (200, "a".into()));
}

// C51
#[tokio::test(start_paused = true)]
async fn no_attempt_begins_without_time_for_it() {
    let (fleet, [a, b]) = fleet();
    a.usually(status(503).after(100));
    let backoff = Backoff::new(secs(2), secs(2)).jitter(0.0);
    let began = Instant::now();
    let answer = ask(&sequential().backoff(backoff).deadline(secs(2)), &fleet, get()).await;
    assert_took(began, 100);
    assert_eq!(ledger(&answer).stopped(), Some(Stopped::OutOfTime));
    assert_eq!(told(answer).await.0, 503);
    assert_eq!(b.calls(), 0);
}

// C51, C52: a backend that asks for more time than there is leaves it to the others.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_the_same_backend_longer_than_there_is_time() {
    let (fleet, [a, b]) = fleet();
    a.usually(status(429).header("retry-after", "30"));
    let began = Instant::now();
    let answer = ask(&sequential().attempts_per_backend(2).deadline(secs(10)), &fleet, get()).await;
    assert_eq!(told(answer).await, (200, "b".into()));
    assert_took(began, 0);
    assert_eq!((a.calls(), b.calls()), (1, 1));
}

// C52
#[tokio::test(start_paused = true)]
async fn backoff_doubles_up_to_its_cap() {
    let (fleet, [a]) = fleet();
    a.usually(status(503));
    let backoff = Backoff::new(secs(2), secs(16)).jitter(0.0);
    let began = Instant::now();
    drop(ask(&sequential().attempts_per_backend(6).backoff(backoff), &fleet, get()).await);
    let times: Vec<_> = a.times(began).iter().map(|at| at / 1_000).collect();
    assert_eq!(times, [0, 2, 6, 14, 30, 46]);
}

// C52
#[tokio::test(start_paused = true)]
async fn retry_after_is_waited_for_up_to_a_cap() {
    for (asked, waited) in [("7", 7), ("20", 20), ("0", 0), ("soon", 0), ("-5", 0), ("", 0)] {
        let (fleet, [a]) = fleet();
        a.then([status(429).header("retry-after", asked)]);
        let began = Instant::now();
        let answer = ask(&sequential().attempts_per_backend(2).retry_after_cap(secs(20)), &fleet, get()).await;
        assert_eq!(told(answer).await.0, 200);
        assert_took(began, waited * 1_000);
    }
    // C71: a longer one is not waited for, and the request is not sent earlier.
    for asked in ["21", "3600", "99999999999999999999999"] {
        let (fleet, [a]) = fleet();
        a.then([status(429).header("retry-after", asked)]);
        let began = Instant::now();
        let answer = ask(&sequential().attempts_per_backend(2).retry_after_cap(secs(20)), &fleet, get()).await;
        assert_eq!(ledger(&answer).stopped(), Some(Stopped::RetryAfter));
        assert_eq!((told(answer).await.0, a.calls()), (429, 1));
        assert_took(began, 0);
    }
    // With a backoff the longer of the two.
    for (asked, waited) in [("1", 2), ("9", 9)] {
        let (fleet, [a]) = fleet();
        a.then([status(429).header("retry-after", asked)]);
        let began = Instant::now();
        let layer = sequential().attempts_per_backend(2).backoff(Backoff::default().jitter(0.0));
        drop(ask(&layer, &fleet, get()).await);
        assert_took(began, waited * 1_000);
    }
}

// C51
#[tokio::test(start_paused = true)]
async fn no_attempt_starts_when_its_backend_is_ready_only_at_the_deadline() {
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(millis(20))] {
        for (ready_after, calls) in [(99, 1), (100, 0), (101, 0)] {
            let (fleet, [a]) = fleet();
            a.ready_after(ready_after);
            let layer = FailoverLayer::builder().mode(mode).deadline(millis(100));
            // Called at once, so that the request waits for the backend.
            let answer = layer.build().unwrap().layer(fleet.clone()).call(get()).await;
            assert_eq!((answer.is_ok(), a.calls()), (calls == 1, calls), "{mode:?} {ready_after}");
            let stopped = (calls == 0).then_some(Stopped::OutOfTime);
            assert_eq!(ledger(&answer).stopped(), stopped, "{mode:?} {ready_after}");
        }
    }
}

// C53
#[tokio::test(start_paused = true)]
async fn a_budget_is_kept_from_the_first_second_of_an_outage_on() {
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(millis(20))] {
        let (fleet, remotes @ [_, _, _]) = fleet();
        remotes.iter().for_each(|remote| remote.usually(status(503).after(50)));
        let budget = Budget::new(0.2).reserve(10);
        let mut door = FailoverLayer::builder().mode(mode).budget(budget).build().unwrap().layer(fleet.clone());
        let mut answers = Vec::new();
        for _ in 0..1_000 {
            answers.push(Box::pin(door.ready().await.unwrap().call(get())));
            tokio::time::advance(millis(1)).await;
        }
        let answers = futures::future::join_all(answers).await;
        let began = answers.len() as f64;
        let made: usize = remotes.iter().map(|remote| remote.calls()).sum();
        let extra = made as f64 - began;
        assert!((1.0..=began * 0.2 + 10.0).contains(&extra), "{mode:?}: {extra}");
        let refused = answers.iter().filter(|answer| ledger(answer).stopped() == Some(Stopped::OverBudget)).count();
        assert!(refused > 700, "{mode:?}: {refused}");
        let in_flight: usize = fleet.snapshot().iter().map(|backend| backend.in_flight).sum();
        assert_eq!(in_flight, answers.len(), "{mode:?}: the answers that are not read yet, and no loser");
        drop(answers);
        assert_idle(&fleet);
    }
}

// C53: in any window, not only in the whole.
#[tokio::test(start_paused = true)]
async fn after_a_calm_the_budget_lets_no_more_through() {
    let (fleet, [a, b]) = fleet();
    let budget = Budget::new(0.2).reserve(5);
    let door = sequential().budget(budget).build().unwrap().layer(fleet.clone());
    for _ in 0..1_000 {
        drop(door.clone().oneshot(get()).await.unwrap());
    }
    a.usually(status(503));
    b.usually(status(503));
    for _ in 0..50 {
        drop(door.clone().oneshot(get()).await.unwrap());
    }
    assert_eq!(a.calls(), 1_050);
    assert!((5..=15).contains(&b.calls()), "{}", b.calls());
}

// C53: without a call there is nothing extra yet.
#[tokio::test(start_paused = true)]
async fn the_first_attempt_of_a_request_costs_nothing() {
    let (fleet, [a, b]) = fleet();
    let budget = Budget::new(0.0).reserve(1);
    let layer = sequential().budget(budget);
    a.then([status(503)]);
    drop(ask(&layer, &fleet, get()).await);
    assert_eq!(b.calls(), 1);
    // The purse is empty now, and the primary is of no use.
    a.close();
    let answer = ask(&layer, &fleet, get()).await;
    assert_eq!(story(&answer), "a:not ready b:served");
}
