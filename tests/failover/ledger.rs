//! What is told afterwards, and what is left when the caller goes.

use std::{
    convert::Infallible,
    future::{Future, poll_fn, ready},
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures::FutureExt;
use http::{Request, Response};
use tower::{Service, ServiceExt, service_fn};
use tower_fleet::{
    AdminStatus, Backend, CircuitPolicy, CircuitState, FailoverLayer, Fleet,
    body::{ReplayBody, Unreplayable, replay_fn},
    failover::{Ending, Methods, Mode, Plain, Stopped, Trigger},
    outcome::{FailureKind, Outcome},
};
use tower_layer::Layer;

use crate::mock::*;

// C20
#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_ends_everything() {
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(millis(5))] {
        let (fleet, [a, b, c]) = fleet();
        a.then([status(503).after(1)]);
        for remote in [&a, &b, &c] {
            remote.usually(hang());
        }
        let mut door = FailoverLayer::builder().mode(mode).build().unwrap().layer(fleet.clone());
        let call = door.ready().await.unwrap().call(get());
        assert!(tokio::time::timeout(millis(500), call).await.is_err());
        assert_eq!((a.running(), b.running(), c.running()), (0, 0, 0), "{mode:?}");
        assert!(b.cut_off() > 0);
        assert_idle(&fleet);
    }
}

// C20: in every moment of it.
#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_request_given_up_at_any_time() {
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(millis(7))] {
        for given_up_after in 0..40 {
            let (fleet, remotes @ [_, _, _]) = fleet();
            remotes[0].then([fail("broken").after(10)]);
            remotes[0].usually(status(200).after(20));
            remotes[1].usually(status(500).after(5));
            remotes[2].ready_after(12);
            remotes[2].usually(hang());
            let layer = FailoverLayer::builder().mode(mode).hedge_methods(Methods::All);
            let door = layer.build().unwrap().layer(fleet.clone());
            drop(tokio::time::timeout(millis(given_up_after), door.oneshot(post(full("hello")))).await);
            assert!(remotes.iter().all(|remote| remote.running() == 0), "{mode:?} after {given_up_after}");
            assert_idle(&fleet);
        }
    }
}

// C20, C38
#[tokio::test(start_paused = true)]
async fn the_permit_of_a_probe_comes_back() {
    let (a, b) = (mock("a").1, mock("b").1);
    let policy = CircuitPolicy::new().consecutive(1).open_for(millis(100)).probe_timeout(Duration::from_secs(900));
    let fleet =
        Fleet::builder().backends([backend(&a).priority(1), backend(&b)]).circuit_breaker(policy).build().unwrap();
    let layer = FailoverLayer::builder().mode(Mode::Sequential);
    a.then([status(503), hang(), hang()]);
    let door = layer.build().unwrap().layer(fleet.clone());
    drop(door.clone().oneshot(get()).await.unwrap());
    tokio::time::advance(millis(100)).await;
    for probes in [2, 3] {
        // It probes a and is given up; the next one may probe again.
        assert!(tokio::time::timeout(millis(50), door.clone().oneshot(get())).await.is_err());
        assert_eq!(a.calls(), probes);
        assert_idle(&fleet);
    }
    drop(door.clone().oneshot(get()).await.unwrap());
    assert_eq!((a.calls(), fleet.snapshot()[0].state), (4, CircuitState::Closed));
}

// C38: nor does it stay taken by a request of which no further copy can be made.
#[tokio::test(start_paused = true)]
async fn the_permit_of_a_probe_comes_back_when_there_is_no_copy_to_send() {
    let services = [("a", false), ("b", true)].map(|(name, is_good)| {
        let call = move |_: u8| async move {
            // As long as the circuit of b is open.
            tokio::time::sleep(if is_good { Duration::ZERO } else { millis(100) }).await;
            if is_good { Ok(()) } else { Err(io::Error::from(io::ErrorKind::ConnectionReset)) }
        };
        Backend::new(name, service_fn(call)).priority(i32::from(!is_good))
    });
    let policy = CircuitPolicy::new().consecutive(1).open_for(millis(100));
    let policy = policy.probe_timeout(Duration::from_secs(900));
    let fleet = Fleet::plain().backends(services).circuit_breaker(policy).build().unwrap();
    fleet.switch("b").unwrap().trip();

    // A copy for the first attempt, and none for a further one.
    let copies = Arc::new(AtomicUsize::new(1));
    let replay = replay_fn(move |request: &u8| {
        let left = copies.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.is_ok().then_some(*request)
    });
    let failover = FailoverLayer::with_protocol(Plain::new(replay)).mode(Mode::Sequential).attempts_per_backend(2);
    let door = failover.build().unwrap().layer(fleet.clone());
    let failed = door.clone().oneshot(1).await.unwrap_err();
    assert_eq!(failed.ledger().stopped(), Some(Stopped::Unreplayable(Unreplayable::NoCopy)));
    assert_eq!(
        fleet.snapshot().iter().map(|one| one.state).collect::<Vec<_>>(),
        [CircuitState::Open, CircuitState::HalfOpen]
    );
    door.oneshot(2).await.unwrap();
    assert_eq!(fleet.snapshot()[1].state, CircuitState::Closed);
}

// C11, C38, C39: the late end of a call changes nothing about the backends that are still there.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_probe_of_a_removed_backend_takes_no_other_out() {
    let (a, b) = (mock("a").1, mock("b").1);
    let policy = CircuitPolicy::new().consecutive(1).open_for(millis(100));
    let fleet =
        Fleet::builder().backends([backend(&a).priority(1), backend(&b)]).circuit_breaker(policy).build().unwrap();
    let door = FailoverLayer::builder().mode(Mode::Sequential).build().unwrap().layer(fleet.clone());
    a.then([status(503), hang()]);
    drop(door.clone().oneshot(get()).await.unwrap());
    tokio::time::advance(millis(100)).await;
    let mut probe = Box::pin(door.clone().oneshot(get()));
    assert!(tokio::time::timeout(millis(50), &mut probe).await.is_err());
    assert_eq!(a.calls(), 2);
    assert!(fleet.remove("a"));
    assert_eq!(told(door.clone().oneshot(get()).await).await, (200, "b".into()));
    drop(probe);
    assert_eq!(told(door.clone().oneshot(get()).await).await, (200, "b".into()));
}

// C11, C71
#[tokio::test(start_paused = true)]
async fn the_end_of_a_cool_down_of_a_removed_backend_takes_no_other_out() {
    let (fleet, [_, b]) = fleet();
    let door = FailoverLayer::new().layer(fleet.clone());
    assert!(fleet.cool_down("a", millis(100)));
    assert_eq!(told(door.clone().oneshot(get()).await).await, (200, "b".into()));
    assert!(fleet.remove("a") && fleet.drain("b"));
    let failed = door.clone().oneshot(get()).await.unwrap_err();
    assert_eq!(failed.retry_after(), None, "a removed backend does not come back");
    assert!(fleet.set_status("b", AdminStatus::Healthy));
    for calls in [2, 3] {
        assert_eq!(told(door.clone().oneshot(get()).await).await, (200, "b".into()));
        assert_eq!(b.calls(), calls);
        tokio::time::advance(millis(100)).await;
    }
}

// C25
#[tokio::test(start_paused = true)]
async fn the_ledger_tells_who_why_and_how_long() {
    let (fleet, [a, b, c]) = fleet();
    a.usually(status(503).after(10));
    b.usually(io(std::io::ErrorKind::ConnectionReset).after(20));
    c.usually(status(200).after(30));
    let answer = ask(&FailoverLayer::builder().mode(Mode::Sequential), &fleet, get()).await;
    let ledger = ledger(&answer);
    assert_eq!(ledger.served().unwrap(), "c");
    assert_eq!(ledger.stopped(), None);
    let [one, two, three] = ledger.attempts() else { panic!("{ledger}") };
    assert_eq!((&*one.backend, &*two.backend, &*three.backend), ("a", "b", "c"));
    let Ending::Tripped { trigger: "status", outcome, .. } = one.ending else { panic!("{ledger}") };
    assert_eq!(outcome, Outcome::from(FailureKind::Status(503)));
    let Ending::Tripped { trigger: "network", outcome, .. } = two.ending else { panic!("{ledger}") };
    assert_eq!(outcome, Outcome::from(FailureKind::Transport));
    assert_eq!(three.ending, Ending::Served);
    for (attempt, took) in [(one, 10), (two, 20), (three, 30)] {
        assert!((took..took + 3).contains(&attempt.took.as_millis()), "{ledger}");
    }
}

// C25: those who were dropped took their time as well.
#[tokio::test(start_paused = true)]
async fn the_ledger_tells_how_long_losers_had() {
    let (fleet, [a, b, c]) = fleet();
    a.usually(hang());
    b.usually(hang());
    c.usually(status(200).after(50));
    let answer = ask(&FailoverLayer::builder().mode(Mode::hedged(millis(100))), &fleet, get()).await;
    let ledger = ledger(&answer);
    for (attempt, took) in ledger.attempts().iter().zip([250, 150, 50]) {
        assert!((took..took + 5).contains(&attempt.took.as_millis()), "{ledger}");
    }
    assert_eq!(ledger.attempts()[1].ending, Ending::Dropped);
}

// C25: what a service does before it hands out its future is part of the attempt.
#[tokio::test(start_paused = true)]
async fn the_time_of_the_call_itself_is_told() {
    let busy = service_fn(|_: Request<ReplayBody<Body>>| {
        let _ = tokio::time::advance(millis(30)).now_or_never();
        ready(Ok::<_, Infallible>(Response::new(full(""))))
    });
    let fleet = Fleet::builder().backend(Backend::new("busy", busy)).build().unwrap();
    let answer = ask(&FailoverLayer::builder(), &fleet, get()).await;
    assert_eq!(ledger(&answer).attempts()[0].took, millis(30));
}

// C25
#[tokio::test(start_paused = true)]
async fn errors_bring_the_ledger_along() {
    let (fleet, [a, b]) = fleet();
    a.usually(fail("broken"));
    b.usually(panics());
    let answer = ask(&FailoverLayer::builder().mode(Mode::Sequential), &fleet, get()).await;
    assert!(answer.is_err());
    assert_eq!(story(&answer), "a:network(error) b:network(panic)");
    assert_eq!(ledger(&answer).served(), None);
}

// C25
#[tokio::test(start_paused = true)]
async fn headers_of_one_attempt_never_leak_into_another() {
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(millis(5))] {
        let (fleet, [a, b]) = fleet();
        a.usually(status(503).header("set-cookie", "a=1").header("x-a", "1").header("x-served-by", "evil"));
        b.usually(status(200).header("x-b", "1").after(10));
        let layer = FailoverLayer::builder().mode(mode).served_by("x-served-by".parse().unwrap());
        let response = ask(&layer, &fleet, get()).await.unwrap();
        let names: Vec<_> = response.headers().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["x-b", "x-served-by"]);
        assert_eq!(response.headers()["x-served-by"], "b");
    }
}

// C25: one value, whatever the backend says of itself.
#[tokio::test(start_paused = true)]
async fn who_served_is_said_once() {
    let (fleet, [a]) = fleet();
    a.usually(status(200).header("x-served-by", "evil").header("x-served-by", "twice"));
    let layer = FailoverLayer::builder().served_by("x-served-by".parse().unwrap());
    let response = ask(&layer, &fleet, get()).await.unwrap();
    assert_eq!(response.headers().get_all("x-served-by").iter().collect::<Vec<_>>(), ["a"]);
    let plain = ask(&FailoverLayer::builder(), &fleet, get()).await.unwrap();
    assert_eq!(plain.headers()["x-served-by"], "evil");
}

// C20: a future that is kept after its answer keeps nothing else.
#[tokio::test(start_paused = true)]
async fn an_answered_future_holds_nothing() {
    let (fleet, [a, b, c]) = fleet();
    a.usually(status(503));
    c.usually(hang());
    let door = FailoverLayer::builder().mode(Mode::Sequential).build().unwrap().layer(fleet.clone());
    let mut future = pin!(door.oneshot(get()));
    let answer = poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(answer),
        Poll::Pending => Poll::Pending,
    })
    .await;
    assert_eq!((b.running(), c.calls()), (0, 0));
    assert_only_in_flight(&answer, &fleet);
    assert_eq!(told(answer).await, (200, "b".into()));
    assert_idle(&fleet);
}

// C19
#[tokio::test(start_paused = true)]
async fn an_error_knows_the_status_and_the_time_for_a_client() {
    let door = || FailoverLayer::builder().mode(Mode::Sequential).error_when_exhausted();
    let refused = || io(std::io::ErrorKind::ConnectionRefused);
    for (last, layer, expected, wait) in [
        (refused(), door(), 502, None),
        (status(503).header("retry-after", "7"), door(), 502, Some(Duration::from_secs(7))),
        (hang(), door().timeout(millis(900)), 504, None),
        (hang(), door().deadline(millis(900)), 504, None),
        // What trips nothing goes to the caller as it is.
        (hang(), door().timeout(millis(900)).triggers([Trigger::network()]), 504, None),
        (kind(FailureKind::Overloaded), door(), 503, None),
    ] {
        let (fleet, [a, b]) = fleet();
        a.usually(refused());
        b.usually(last);
        let error = ask(&layer, &fleet, get()).await.unwrap_err();
        assert_eq!((error.status().as_u16(), error.retry_after()), (expected, wait), "{error}");
        // DEADLINE_EXCEEDED or UNAVAILABLE.
        assert_eq!(error.grpc_code() as i32, if expected == 504 { 4 } else { 14 }, "{error}");
    }
    let (fleet, [a, b]) = fleet();
    [&a, &b].iter().for_each(|broken| broken.close());
    assert_eq!(ask(&door(), &fleet, get()).await.unwrap_err().status(), 503);
    [a, b].iter().for_each(|gone| assert!(fleet.drain(gone.name)));
    let error = ask(&door(), &fleet, get()).await.unwrap_err();
    assert_eq!((error.status().as_u16(), error.retry_after()), (503, None), "{error}");
    assert_eq!(error.grpc_code() as i32, 14, "{error}");
}
