//! The limits of attempts and requests while the caller is slow.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::Response;
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::Service;
use tower_fleet::{
    Backend, FailoverLayer, TimeLimit, TimedOut,
    body::{ReplayBody, ReplayLayer},
    failover::{Backoff, CommitPoint, Ending, FailoverBuilder, Methods, Mode, Stopped},
};
use tower_layer::Layer;

use super::*;

fn sequential() -> FailoverBuilder {
    FailoverLayer::builder().mode(Mode::Sequential)
}

// C50: issue 11.4
#[tokio::test(start_paused = true)]
async fn a_backend_that_hangs_after_the_upload_has_its_whole_limit() {
    for own in [true, false] {
        let (fleet, [a, b]) = fleet();
        a.usually(hang());
        fleet.set_timeout("a", own.then_some(secs(2))).unwrap();
        let layer = if own { sequential() } else { sequential().timeout(secs(2)) };
        let began = Instant::now();
        let answer = ask(&layer, &fleet, upload(30)).await;
        assert_took(began, 32_000);
        assert_eq!((&*story(&answer), b.calls()), ("a:timeout(timeout) b:served", 1));
        assert_eq!(b.bodies(), [Ok((b"some".to_vec(), None))]);
        let ended = ask(&layer.clone().triggers([]), &fleet, upload(30)).await.unwrap_err().into_source().unwrap();
        let TimedOut { timeout, limit, .. } = ended.downcast_ref().unwrap();
        assert_eq!((*timeout, *limit), (secs(2), if own { TimeLimit::Backend } else { TimeLimit::Attempt }));
    }
}

// C50: issue 11.4. Its time is what is left of its own, between the waits as well as after them.
#[tokio::test(start_paused = true)]
async fn the_time_that_a_backend_takes_between_frames_adds_up() {
    let (fleet, [a, _]) = fleet();
    let layer = sequential().timeout(secs(2)).commit(CommitPoint::first_frame());
    a.usually(status(200).after(1_500).body(vec![Piece::Wait(600), data("late")]));
    let began = Instant::now();
    let answer = ask(&layer, &fleet, upload(10)).await;
    assert_eq!(story(&answer), "a:timeout(timeout) b:served");
    assert_took(began, 12_000);
}

// C50: issue 11.4. The caller is not the cause, as slow as it may be.
#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_read_the_upload_has_its_limit_from_the_start() {
    for pieces in [vec![Piece::Stall], vec![data("some"), Piece::Wait(30_000)], vec![data("some")]] {
        let (fleet, [a, b]) = fleet();
        a.usually(hang().deaf());
        b.usually(status(200).deaf());
        let began = Instant::now();
        let answer = ask(&sequential().timeout(secs(2)), &fleet, put(pieces)).await;
        assert_took(began, 2_000);
        assert_eq!(story(&answer), "a:timeout(timeout) b:served");
    }
}

// C51: issue 11.4. The deadline is the time of the whole request, and no fault of a backend.
#[tokio::test(start_paused = true)]
async fn the_deadline_includes_the_upload() {
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(secs(1))] {
        let (a, b) = (mock("a").1, mock("b").1);
        let backends = [backend(&a).priority(1), backend(&b)];
        let fleet = Fleet::builder().backends(backends).circuit_breaker(strict()).build().unwrap();
        let began = Instant::now();
        let layer = FailoverLayer::builder().mode(mode).deadline(secs(10));
        let failed = ask(&layer, &fleet, upload(30)).await.unwrap_err();
        assert_took(began, 10_000);
        assert_eq!((failed.ledger().stopped(), failed.status().as_u16()), (Some(Stopped::OutOfTime), 504));
        assert_states(&fleet, CircuitState::Closed);
        assert_eq!(b.calls(), 0, "{mode:?}: another backend would have waited for the same caller");
    }
}

// C51: issue 11.4
#[tokio::test(start_paused = true)]
async fn the_share_of_a_deadline_stands_still_too() {
    let (fleet, [a, b]) = fleet();
    a.usually(hang());
    b.usually(status(200).after(900));
    let began = Instant::now();
    // Half of it for `a`, after the upload.
    let answer = ask(&sequential().deadline(secs(8)), &fleet, upload(3)).await;
    assert_eq!(story(&answer), "a:timeout(timeout) b:served");
    assert_took(began, 3_000 + 4_000 + 900);
}

// C15, C50: issue 11.4
#[tokio::test(start_paused = true)]
async fn a_hedge_is_not_sent_because_the_caller_is_slow() {
    let (fleet, [a, b]) = fleet();
    a.usually(status(200).after(90));
    let layer = FailoverLayer::builder().mode(Mode::hedged(millis(100)));
    assert_eq!(story(&ask(&layer, &fleet, upload(30)).await), "a:served");
    assert_eq!(b.calls(), 0);
    // It is sent when the backend is slow: its own time adds up.
    a.usually(hang());
    let began = Instant::now();
    assert_eq!(story(&ask(&layer, &fleet, upload(30)).await), "a:dropped b:served");
    assert_eq!(b.times(began), [30_100]);
    // And at once, if the backend does not even read.
    a.usually(hang().deaf());
    b.usually(status(200).deaf());
    let began = Instant::now();
    assert_eq!(story(&ask(&layer, &fleet, upload(30)).await), "a:dropped b:served");
    assert_took(began, 100);
}

// C15: issue 11.4. With a caller that goes on after the hedge was sent.
#[tokio::test(start_paused = true)]
async fn a_second_hedge_waits_for_the_caller_as_the_first_one_does() {
    let (fleet, [a, b, c]) = fleet();
    a.usually(hang().deaf());
    b.usually(hang());
    let layer = FailoverLayer::builder().mode(Mode::hedged(millis(100)));
    let began = Instant::now();
    let answer = ask(&layer, &fleet, put(vec![data("some"), Piece::Wait(30_000)])).await;
    assert_eq!(story(&answer), "a:dropped b:dropped c:served");
    assert_eq!((b.times(began), c.times(began)), (vec![100], vec![30_200]), "from 100 ms on, `b` waits");
}

// C16: issue 11.4
#[tokio::test(start_paused = true)]
async fn the_bound_of_a_race_leaves_out_what_its_attempts_wait_for_the_caller() {
    for (first, slow, took) in [
        (hang(), false, 30_000),
        (hang(), true, 30_000 + 5_000),
        // The bound is for the race: an attempt that waits for nothing may still win it.
        (hang().deaf(), false, 30_000),
        (hang().deaf(), true, 30_000 + 5_000),
    ] {
        let (fleet, [a, b]) = fleet();
        // The race begins before the upload is done.
        a.then([status(503).deaf()]);
        a.usually(first);
        b.usually(if slow { hang() } else { status(200) });
        let began = Instant::now();
        let answer = ask(&FailoverLayer::builder(), &fleet, upload(30)).await;
        assert_took(began, took);
        let expected =
            if slow { "a:status(status 503) a:dropped b:dropped" } else { "a:status(status 503) a:dropped b:served" };
        assert_eq!(story(&answer), expected);
        assert_eq!(ledger(&answer).stopped(), slow.then_some(Stopped::OutOfTime));
        assert_only_in_flight(&answer, &fleet);
    }
}

// C50: issue 11.4. Each attempt by what it does itself.
#[tokio::test(start_paused = true)]
async fn of_two_racers_only_the_one_that_waits_for_the_caller_is_given_its_time() {
    let (a, b) = (mock("a").1, mock("b").1);
    let backends = [&a, &b].map(|remote| backend(remote).timeout(secs(1)));
    let fleet = Fleet::builder().backends(backends).circuit_breaker(CircuitPolicy::new().failures(2)).build().unwrap();
    a.then([status(503).deaf()]);
    // Has what it needs, and does nothing with it.
    a.usually(hang().deaf());
    b.usually(status(200).after(900));
    let layer = FailoverLayer::builder();
    let began = Instant::now();
    let answer = ask(&layer, &fleet, upload(30)).await;
    assert_took(began, 30_900);
    assert_eq!(story(&answer), "a:status(status 503) a:timeout(timeout) b:served");
    assert_eq!(ledger(&answer).attempts()[1].took.as_secs(), 1);
    assert_eq!(fleet.snapshot()[0].state, CircuitState::Open, "the second failure of `a`");
    assert_eq!(fleet.snapshot()[1].state, CircuitState::Closed);
}

// C25, C37: issue 11.4
#[tokio::test(start_paused = true)]
async fn the_ledger_shows_that_the_caller_stalled() {
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(secs(1))] {
        let (fleet, [a, b]) = fleet();
        a.usually(fail("the upload broke"));
        let failed = ask(&FailoverLayer::builder().mode(mode), &fleet, put(vec![data("so"), Piece::Stall])).await;
        let failed = failed.unwrap_err();
        assert_eq!(failed.status().as_u16(), 408, "{failed}");
        assert_eq!(failed.ledger().to_string(), "`a` broken off (60.0s); not sent again: request body stalled");
        assert!(matches!(failed.ledger().attempts()[0].ending, Ending::BrokenOff { .. }));
        assert!(failed.to_string().contains("request body stalled"), "{failed}");
        assert_eq!((a.running(), b.calls()), (0, 0), "{mode:?}");
        assert_idle(&fleet);
    }
}

// C37: issue 11.4. In a race, every attempt is broken off.
#[tokio::test(start_paused = true)]
async fn a_caller_that_stalls_during_a_race_is_no_failure_of_the_racers() {
    let remotes = [mock("a").1, mock("b").1];
    let fleet =
        Fleet::builder().backends(remotes.each_ref().map(backend)).circuit_breaker(CircuitPolicy::new().failures(2));
    let fleet = fleet.build().unwrap();
    remotes.iter().for_each(|remote| remote.usually(fail("the upload broke")));
    remotes[0].then([io(std::io::ErrorKind::ConnectionReset).deaf()]);
    let request = put(vec![data("so"), Piece::Stall]);
    let failed = ask(&FailoverLayer::builder().hedge_methods(Methods::All), &fleet, request).await.unwrap_err();
    assert_eq!(failed.status().as_u16(), 408, "{failed}");
    assert!(failed.ledger().to_string().ends_with("not sent again: request body stalled"), "{}", failed.ledger());
    assert_states(&fleet, CircuitState::Closed);
}

// C50: issue 11.4. An unknown end of a body is waited for with a timer only when one is due.
#[tokio::test(start_paused = true)]
async fn a_caller_that_drips_causes_no_storm_of_polls() {
    let (fleet, [a, _]) = fleet();
    a.usually(hang());
    let drip = (0..10_000).flat_map(|_| [Piece::Wait(9), data("x")]).collect();
    let layer = sequential().timeout(secs(1));
    let mut polls = 0;
    let mut answer = std::pin::pin!(ask(&layer, &fleet, put(drip)));
    let began = Instant::now();
    let answer = std::future::poll_fn(|cx| {
        polls += 1;
        answer.as_mut().poll(cx)
    })
    .await;
    assert_took(began, 90_000 + 1_000);
    assert_eq!(story(&answer), "a:timeout(timeout) b:served");
    // The mock reads the body in the task of the door: a poll for each frame. Besides, one for each time of the timer.
    assert!(polls < 2 * 10_000 + 2_000, "{polls}");
}

/// Responds with a 503 at once, and goes on to read the request, as a client may whose response has come early. Its
/// later calls neither respond nor read.
#[derive(Clone)]
struct ReadsOn(Arc<AtomicBool>);

impl Service<Request<ReplayBody<Body>>> for ReadsOn {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReplayBody<Body>>) -> Self::Future {
        if self.0.swap(true, Ordering::SeqCst) {
            return Box::pin(std::future::pending());
        }
        tokio::spawn(request.into_body().collect());
        Box::pin(async { Ok(Response::builder().status(503).body(full("")).unwrap()) })
    }
}

// C16, C50: issue 11.4
#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_over_is_not_waited_for() {
    // The bound of the race; or the pause, and the timeout of the second attempt.
    let pause = Backoff::new(secs(5), secs(5)).jitter(0.0);
    for (layer, took) in
        [(FailoverLayer::builder().timeout(None), 5_000), (sequential().backoff(pause).timeout(secs(1)), 5_000 + 1_000)]
    {
        let service = ReadsOn(Arc::default());
        let fleet = Fleet::builder().backends(["a", "b"].map(|name| Backend::new(name, service.clone()))).build();
        let replay = ReplayLayer::new().idle_timeout(None);
        let door = layer.replay(replay).build().unwrap().layer(fleet.unwrap());
        let began = Instant::now();
        let answer = door.oneshot(put(vec![data("so"), Piece::Stall]));
        let answer = tokio::time::timeout(secs(60), answer).await.expect("it does not wait for the caller");
        assert_eq!(answer.unwrap().status(), 503);
        assert_took(began, took);
    }
}
