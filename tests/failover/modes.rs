//! Who is asked, when, and whose answer it is.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    time::Duration,
};

use futures::future::join_all;
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::{Service, ServiceExt, limit::ConcurrencyLimit};
use tower_fleet::{
    AdminStatus, CircuitPolicy, FailoverLayer, Fleet,
    failover::{ErrorKind, Methods, Mode},
    pick::{RoundRobin, StrategyName},
};
use tower_layer::Layer;

use crate::mock::*;

// C13
#[tokio::test(start_paused = true)]
async fn without_a_trip_the_primary_is_alone() {
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(millis(100))] {
        let (fleet, [a, b, c]) = fleet();
        a.usually(status(200).after(90));
        let answer = ask(&FailoverLayer::builder().mode(mode), &fleet, get()).await;
        assert_eq!(story(&answer), "a:served");
        assert_eq!(told(answer).await, (200, "a".into()));
        assert_eq!((a.calls(), b.calls(), c.calls()), (1, 0, 0), "{mode:?}");
    }
}

// C14
#[tokio::test(start_paused = true)]
async fn what_trips_nothing_is_the_answer_at_once_and_unchanged() {
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(millis(100))] {
        let (fleet, [a, b]) = fleet();
        a.then([status(400).header("x-a", "1").body(vec![data("bad "), data("request")])]);
        let answer = ask(&FailoverLayer::builder().mode(mode), &fleet, get()).await;
        assert_eq!(answer.as_ref().unwrap().headers()["x-a"], "1");
        assert_eq!(told(answer).await, (400, "bad request".into()));

        a.then([fail("mine")]);
        let layer = FailoverLayer::builder().mode(mode).triggers([tower_fleet::failover::Trigger::status()]);
        let error = ask(&layer, &fleet, get()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Failed { .. }), "{error:?}");
        assert_eq!(error.ledger().served().unwrap(), "a");
        assert_eq!(error.into_source().unwrap().to_string(), "mine");
        assert_eq!(b.calls(), 0);
    }
}

// C15, C17
#[tokio::test(start_paused = true)]
async fn a_race_asks_everybody_at_once_the_primary_included() {
    let (fleet, [a, b, c]) = fleet();
    a.then([status(503).after(10)]);
    a.usually(status(200).after(300));
    b.usually(status(200).after(100));
    c.usually(status(500).after(50));
    let began = Instant::now();
    let answer = ask(&FailoverLayer::builder(), &fleet, get()).await;
    assert_took(began, 110);
    assert_eq!(story(&answer), "a:status(status 503) a:dropped b:served c:status(status 500)");
    assert_eq!(told(answer).await, (200, "b".into()));
    let trip = a.times(began)[1];
    assert!((10..13).contains(&trip));
    assert_eq!((b.times(began)[0], c.times(began)[0]), (trip, trip));
}

// C15: whatever the strategy deals next, the primary runs too.
#[tokio::test(start_paused = true)]
async fn a_race_includes_the_primary_of_any_strategy() {
    let (a, b) = (mock("a").1, mock("b").1);
    let fleet = Fleet::builder().backends([backend(&a), backend(&b)]).build().unwrap();
    a.then([status(503)]);
    a.usually(status(200).after(10));
    b.usually(hang());
    let layer = FailoverLayer::builder().strategy(RoundRobin::new());
    let answer = ask(&layer, &fleet, get()).await;
    assert_eq!(told(answer).await, (200, "a".into()));
    assert_eq!((a.calls(), b.calls()), (2, 1));
}

// C15: everybody means those too who are not ready yet.
#[tokio::test(start_paused = true)]
async fn a_race_waits_for_nobody_to_be_ready() {
    let (fleet, [a, b, c]) = fleet();
    a.then([status(503).after(1)]);
    a.usually(status(200).after(50));
    b.ready_after(20);
    c.usually(hang());
    let began = Instant::now();
    let door = FailoverLayer::new().layer(fleet);
    let answer = door.oneshot(get()).await;
    assert_eq!(told(answer).await, (200, "b".into()));
    assert_took(began, 20);
    assert_eq!((a.calls(), b.calls(), c.calls()), (2, 1, 1));
}

// C15
#[tokio::test(start_paused = true)]
async fn a_race_is_so_wide_at_most_and_goes_on_as_some_fail() {
    let (fleet, [a, b, c, d]) = fleet();
    a.then([status(503)]);
    a.usually(hang());
    b.usually(status(500).after(100));
    c.usually(status(500).after(200));
    d.usually(status(200).after(50));
    let began = Instant::now();
    let answer = ask(&FailoverLayer::builder().race_width(2), &fleet, get()).await;
    assert_took(began, 350);
    let times = [&a, &b, &c, &d].map(|remote| remote.times(began).last().unwrap() / 50 * 50);
    assert_eq!(times, [0, 0, 100, 300]);
    assert_eq!(story(&answer), "a:status(status 503) a:dropped b:status(status 500) c:status(status 500) d:served");
}

// C17
#[tokio::test(start_paused = true)]
async fn losers_are_gone_before_the_winner_is_handed_out() {
    for mode in [Mode::Race, Mode::hedged(millis(5))] {
        let (fleet, [a, b, c]) = fleet();
        a.then([status(503)]);
        a.usually(hang());
        b.usually(hang());
        c.usually(status(200).after(100).body(vec![data("one "), Piece::Wait(1_000), data("two")]));
        let mut door = FailoverLayer::builder().mode(mode).build().unwrap().layer(fleet.clone());
        let door = door.ready().await.unwrap();
        let mut future = pin!(door.call(get()));
        let answer = poll_fn(|cx| future.as_mut().poll(cx)).await;
        // The future is still there; what ran in it is not.
        assert_eq!((a.running(), b.running(), c.running()), (0, 0, 0), "{mode:?}");
        assert_eq!(b.cut_off(), 1);
        assert_only_in_flight(&answer, &fleet);
        assert_eq!(told(answer).await, (200, "one two".into()));
        assert_idle(&fleet);
    }
}

// C17: so it is when the first of them wins after all.
#[tokio::test(start_paused = true)]
async fn hedges_are_gone_before_the_primary_is_handed_out() {
    let (fleet, [a, b, c]) = fleet();
    a.usually(status(200).after(100));
    b.usually(hang());
    c.usually(hang());
    let mut door = FailoverLayer::builder().mode(Mode::hedged(millis(20))).build().unwrap().layer(fleet.clone());
    let door = door.ready().await.unwrap();
    let mut future = pin!(door.call(get()));
    let answer = poll_fn(|cx| future.as_mut().poll(cx)).await;
    assert_eq!((b.cut_off(), c.cut_off()), (1, 1));
    assert_only_in_flight(&answer, &fleet);
    assert_eq!(told(answer).await, (200, "a".into()));
    assert_idle(&fleet);
}

// C16
#[tokio::test(start_paused = true)]
async fn a_race_is_over_after_five_seconds() {
    let (fleet, [a, b]) = fleet();
    a.then([fail("broken").after(1_000)]);
    a.usually(hang());
    b.usually(hang());
    let began = Instant::now();
    let error = ask(&FailoverLayer::builder(), &fleet, get()).await.unwrap_err();
    assert_took(began, 6_000);
    assert!(matches!(error.kind(), ErrorKind::Exhausted { .. }), "{error:?}");
    assert_eq!((a.running(), b.running()), (0, 0));
    assert_idle(&fleet);
}

// C16
#[tokio::test(start_paused = true)]
async fn the_bound_of_a_race_ends_with_its_commit() {
    let (fleet, [a, b]) = fleet();
    a.then([status(503)]);
    a.usually(hang());
    b.usually(status(200).after(4_900).body(vec![data("slow "), Piece::Wait(60_000), data("but whole")]));
    let answer = ask(&FailoverLayer::builder(), &fleet, get()).await;
    assert_eq!(told(answer).await, (200, "slow but whole".into()));
}

// C15, C23
#[tokio::test(start_paused = true)]
async fn a_sequence_asks_one_after_the_other_and_never_sleeps_between() {
    let (fleet, [a, b, c]) = fleet();
    a.usually(status(503).after(10));
    b.usually(status(429).after(10).header("retry-after", "30"));
    c.usually(status(200).after(10));
    let began = Instant::now();
    let layer = FailoverLayer::builder().mode(Mode::Sequential).same_backend_delay(Duration::from_secs(9));
    let answer = ask(&layer, &fleet, get()).await;
    assert_took(began, 30);
    assert_eq!(story(&answer), "a:status(status 503) b:status(status 429, retry after 30s) c:served");
}

// C23
#[tokio::test(start_paused = true)]
async fn attempts_per_backend_are_total_attempts_with_a_delay_between_them() {
    for strategy in ["failover", "round_robin", "weighted_round_robin", "shuffle"] {
        let (a, b) = (mock("a").1, mock("b").1);
        let fleet = Fleet::builder().backends([backend(&a), backend(&b)]).build().unwrap();
        a.usually(status(503));
        b.usually(status(503));
        let strategy: StrategyName = strategy.parse().unwrap();
        let layer = FailoverLayer::builder()
            .strategy_named(strategy)
            .mode(Mode::Sequential)
            .attempts_per_backend(3)
            .same_backend_delay(millis(100));
        let began = Instant::now();
        let answer = ask(&layer, &fleet, get()).await;
        assert_took(began, 400);
        let names: Vec<_> = ledger(&answer).attempts().iter().map(|one| one.backend.to_string()).collect();
        let (one, two) = if names[0] == "a" { ("a", "b") } else { ("b", "a") };
        assert_eq!(names, [one, one, one, two, two, two], "{strategy:?}");
        assert_eq!((a.calls(), b.calls()), (3, 3));
    }
}

// C10, C23: a request that waits for its second attempt at a full backend takes its turn when it comes.
#[tokio::test(start_paused = true)]
async fn second_attempts_keep_their_place_in_the_line_of_a_full_backend() {
    let (a, b) = (mock("a").1, mock("b").1);
    let fleet = [backend(&a).priority(1), backend(&b)].map(|one| one.map(|mock| ConcurrencyLimit::new(mock, 1)));
    let fleet = Fleet::builder().backends(fleet).build().unwrap();
    for remote in [&a, &b] {
        remote.usually(status(503).after(10));
    }
    let layer = FailoverLayer::builder().mode(Mode::Sequential).attempts_per_backend(2).error_when_exhausted();
    let mut asked = Box::pin(join_all((0..6).map(|_| ask(&layer, &fleet, get()))));
    // Time is paused, and stands still for ever while one request wakes the next.
    let mut polls = 0;
    let answers = poll_fn(|cx| {
        polls += 1;
        assert!(polls < 10_000, "they wake each other without an end");
        asked.as_mut().poll(cx)
    });
    assert!(answers.await.iter().all(|answer| ledger(answer).attempts().len() == 4));
    assert_eq!((a.calls(), b.calls()), (12, 12));
    assert_idle(&fleet);
}

// C15
#[tokio::test(start_paused = true)]
async fn a_hedge_is_sent_after_each_delay_to_somebody_else() {
    for attempts in [1, 2] {
        let (fleet, [a, b, c]) = fleet();
        a.usually(hang());
        b.usually(hang());
        c.usually(status(200).after(30));
        let began = Instant::now();
        let layer = FailoverLayer::builder().mode(Mode::hedged(millis(100))).attempts_per_backend(attempts);
        let answer = ask(&layer, &fleet, get()).await;
        assert_took(began, 230);
        assert_eq!(story(&answer), "a:dropped b:dropped c:served");
        assert!((100..103).contains(&b.times(began)[0]) && (200..204).contains(&c.times(began)[0]));
        assert_eq!((a.calls(), b.calls(), c.calls()), (1, 1, 1));
    }
}

// C15
#[tokio::test(start_paused = true)]
async fn an_instant_failure_does_not_wait_for_the_hedge() {
    let (fleet, [a, b, c]) = fleet();
    a.usually(status(503));
    b.usually(status(503));
    c.usually(status(200).after(7));
    let began = Instant::now();
    let answer = ask(&FailoverLayer::builder().mode(Mode::hedged(Duration::from_secs(10))), &fleet, get()).await;
    assert_took(began, 7);
    assert_eq!(told(answer).await, (200, "c".into()));
}

// C15: the first may still win, and a trip of one leaves the others alone.
#[tokio::test(start_paused = true)]
async fn a_hedged_primary_may_still_win() {
    let (fleet, [a, b]) = fleet();
    a.usually(status(200).after(300));
    b.usually(status(500).after(10));
    let began = Instant::now();
    let answer = ask(&FailoverLayer::builder().mode(Mode::hedged(millis(100))), &fleet, get()).await;
    assert_took(began, 300);
    assert_eq!(story(&answer), "a:served b:status(status 500)");
}

// C18
#[tokio::test(start_paused = true)]
async fn one_backend_gets_one_plain_attempt() {
    for attempts in [1, 3] {
        let (fleet, [a]) = fleet();
        a.usually(status(503));
        let answer = ask(&FailoverLayer::builder().attempts_per_backend(attempts), &fleet, get()).await;
        assert_eq!(told(answer).await, (503, "a".into()));
        assert_eq!(a.calls(), 1, "no race of one");
    }
}

// C19
#[tokio::test(start_paused = true)]
async fn the_last_response_is_passed_through() {
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(millis(100))] {
        let (fleet, [a, b, c]) = fleet();
        a.usually(status(503));
        b.usually(status(429).after(10).header("retry-after", "17").body(vec![data("slow down")]));
        c.usually(fail("broken").after(20));
        let answer = ask(&FailoverLayer::builder().mode(mode), &fleet, get()).await;
        assert_eq!(answer.as_ref().unwrap().headers()["retry-after"], "17");
        assert_eq!(told(answer).await, (429, "slow down".into()), "{mode:?}");
    }
}

// C19
#[tokio::test(start_paused = true)]
async fn without_a_response_the_error_names_everybody() {
    let (fleet, [a, b]) = fleet();
    a.usually(io(std::io::ErrorKind::ConnectionRefused).after(10));
    b.usually(io(std::io::ErrorKind::ConnectionReset).after(20));
    let error = ask(&FailoverLayer::builder().mode(Mode::Sequential), &fleet, get()).await.unwrap_err();
    let ErrorKind::Exhausted { fleet, source, .. } = error.kind() else { panic!("{error:?}") };
    assert_eq!(&**fleet, "apis");
    assert!(source.as_ref().unwrap().is::<std::io::Error>());
    let text = error.to_string();
    for part in ["`apis`", "`a`: connection not established (1", "`b`: transport error (2"] {
        assert!(text.contains(part), "{text}");
    }
}

// C19
#[tokio::test(start_paused = true)]
async fn on_request_exhausted_is_always_an_error() {
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(millis(100))] {
        let (fleet, [a, b]) = fleet();
        a.usually(status(503));
        b.usually(status(429));
        let layer = FailoverLayer::builder().mode(mode).error_when_exhausted();
        let error = ask(&layer, &fleet, get()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`a`: status 503") && text.contains("`b`: status 429"), "{text}");
        assert!(std::error::Error::source(&error).is_some());
    }
}

// C1, C19
#[tokio::test(start_paused = true)]
async fn nobody_is_an_error_at_once() {
    let error = ask(&FailoverLayer::builder(), &Fleet::<Mock>::new(), get()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NoBackends));

    let (fleet, [a, b]) = fleet();
    fleet.set_status("a", AdminStatus::Degraded);
    fleet.set_status("b", AdminStatus::Degraded);
    let error = ask(&FailoverLayer::builder(), &fleet, get()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NoneAvailable { backends: 2, .. }), "{error:?}");
    assert_eq!(a.calls() + b.calls(), 0);
}

// C22
#[tokio::test(start_paused = true)]
async fn the_primary_is_first_again_after_it_recovered() {
    let (fleet, [a, b]) = fleet();
    a.then([status(503), status(503)]);
    for (mode, served) in [(Mode::Sequential, "b"), (Mode::Sequential, "b"), (Mode::Sequential, "a")] {
        let answer = ask(&FailoverLayer::builder().mode(mode), &fleet, get()).await;
        assert_eq!(told(answer).await, (200, served.into()));
    }
    assert_eq!((a.calls(), b.calls()), (3, 2));
}

// C22, C44
#[tokio::test(start_paused = true)]
async fn with_breakers_an_open_primary_is_left_out_and_then_probed() {
    let (a, b) = (mock("a").1, mock("b").1);
    let policy = CircuitPolicy::new().consecutive(2).open_for(millis(40));
    let fleet =
        Fleet::builder().backends([backend(&a).priority(1), backend(&b)]).circuit_breaker(policy).build().unwrap();
    let door = FailoverLayer::builder().mode(Mode::Sequential).build().unwrap().layer(fleet.clone());
    a.then([status(503), status(503)]);
    let ask = async || door.clone().oneshot(get()).await.unwrap();
    for _ in 0..2 {
        drop(ask().await);
    }
    let answer = ask().await;
    assert_eq!(a.calls(), 2, "open: not asked");
    drop(answer);
    tokio::time::advance(millis(40)).await;
    let answer = ask().await;
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "a");
    assert_eq!(a.calls(), 3);
    assert_idle(&fleet);
}

// C10, C15: who will never be ready is left out, and the race is the called one's.
#[tokio::test(start_paused = true)]
async fn a_backend_that_is_never_ready_is_left_out_of_the_race() {
    let (fleet, [a, b, c]) = fleet();
    a.close();
    b.then([status(503)]);
    b.usually(status(200).after(10));
    c.usually(hang());
    let answer = ask(&FailoverLayer::builder(), &fleet, get()).await;
    assert_eq!(story(&answer), "a:not ready b:status(status 503) b:served c:dropped");
    assert_eq!((a.calls(), b.calls(), c.calls()), (0, 2, 1));
}

// C1, C19: a total outage with circuits on trial leaves nobody untried.
#[tokio::test(start_paused = true)]
async fn those_who_are_to_be_probed_are_somebody_to_try() {
    let (a, b) = (mock("a").1, mock("b").1);
    let fleet = Fleet::builder()
        .backends([backend(&a), backend(&b)])
        .circuit_breaker(CircuitPolicy::new().consecutive(1).open_for(millis(100)))
        .build()
        .unwrap();
    let door = FailoverLayer::builder().mode(Mode::Sequential).build().unwrap().layer(fleet.clone());
    a.then([status(503), status(503)]);
    b.then([status(503)]);
    assert_eq!(door.clone().oneshot(get()).await.unwrap().status(), 503);
    tokio::time::advance(millis(100)).await;
    assert_eq!(door.clone().oneshot(get()).await.unwrap().status(), 200);
    assert_eq!((a.calls(), b.calls()), (2, 2));
}

// C57
#[tokio::test(start_paused = true)]
async fn a_hundred_at_once_outlive_the_primary() {
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(millis(20))] {
        for fault in [status(429), status(503), fail("reset").after(30), panics().after(15), hang()] {
            let (fleet, [a, b, c]) = fleet();
            a.then(vec![status(200).after(10); 20]);
            a.usually(fault);
            b.usually(status(200).after(10));
            c.usually(status(500).after(5));
            // The requests are POSTs.
            let layer = FailoverLayer::builder().mode(mode).hedge_methods(Methods::All).timeout(millis(500));
            let door = layer.build().unwrap().layer(fleet.clone());
            let one = async |id: u64| {
                tokio::time::sleep(millis(id % 7)).await;
                told(door.clone().oneshot(post(full(&id.to_string()))).await).await
            };
            let began = Instant::now();
            for (code, name) in futures::future::join_all((0..100).map(one)).await {
                assert_eq!(code, 200, "{mode:?}");
                assert!(name == "a" || name == "b");
            }
            assert!(began.elapsed() < Duration::from_secs(2));
            assert_idle(&fleet);
        }
    }
}
