//! What moves a request on.

use std::{io::ErrorKind as Io, sync::Arc};

use tower_fleet::{
    CircuitPolicy, CircuitState, FailoverLayer, Fleet,
    failover::{ErrorKind, FailoverBuilder, HedgeDelay, Mode, Trigger},
    outcome::{FailureKind, HttpClassifier, Statuses},
};

use tower_layer::Layer;

use crate::mock::*;

const MODES: [Mode; 3] =
    [Mode::Race, Mode::Sequential, Mode::Hedged(HedgeDelay::After(std::time::Duration::from_millis(5)))];

/// A fleet of two, and their other ends.
type Two = (Fleet<Mock>, [Arc<Remote>; 2]);

/// Whether the second backend was asked, and the story.
async fn moves_on(layer: &FailoverBuilder, reply: Reply) -> (bool, String) {
    moves_on_in(fleet(), layer, reply).await
}

/// The same in this fleet.
async fn moves_on_in((fleet, [a, b]): Two, layer: &FailoverBuilder, reply: Reply) -> (bool, String) {
    a.usually(reply);
    let answer = ask(layer, &fleet, get()).await;
    assert_eq!(a.running() + b.running(), 0);
    assert_only_in_flight(&answer, &fleet);
    let story = story(&answer);
    drop(answer);
    assert_idle(&fleet);
    (b.calls() > 0, story)
}

// C27
#[tokio::test(start_paused = true)]
async fn by_default_429_and_5xx_a_timeout_and_the_network_trip() {
    let layer = FailoverLayer::builder().mode(Mode::Sequential).timeout(millis(100));
    for code in [429, 500, 501, 502, 503, 504, 529, 599] {
        let (moved, story) = moves_on(&layer, status(code)).await;
        assert!(moved && story.starts_with("a:status("), "{code} {story}");
    }
    for code in [200, 204, 301, 304, 400, 401, 403, 404, 408, 409, 422, 428, 430, 499, 600] {
        assert_eq!(moves_on(&layer, status(code)).await, (false, "a:served".into()), "{code}");
    }
    for (reply, name) in [
        (hang(), "timeout"),
        (io(Io::TimedOut), "timeout"),
        (kind(FailureKind::Timeout), "timeout"),
        (io(Io::ConnectionRefused), "network"),
        (io(Io::ConnectionReset), "network"),
        (io(Io::UnexpectedEof), "network"),
        (kind(FailureKind::Overloaded), "network"),
        (fail("who knows"), "network"),
        (kind(FailureKind::Custom("quota")), "custom"),
    ] {
        let (moved, story) = moves_on(&layer, reply).await;
        assert!(moved && story.starts_with(&format!("a:{name}(")), "{name}: {story}");
    }
}

// C27
#[tokio::test(start_paused = true)]
async fn a_list_of_statuses_replaces_the_default_one() {
    let layer = FailoverLayer::builder().statuses("418, 502".parse().unwrap());
    for (code, moved) in [(418, true), (502, true), (429, false), (500, false), (503, false)] {
        assert_eq!(moves_on(&layer, status(code)).await.0, moved, "{code}");
    }
    let none = FailoverLayer::builder().statuses(Statuses::none());
    assert!(!moves_on(&none, status(503)).await.0);
}

// C28
#[tokio::test(start_paused = true)]
async fn network_errors_switched_off_really_do_not_trip() {
    for mode in MODES {
        let by_trigger = FailoverLayer::builder().mode(mode).triggers([Trigger::status(), Trigger::timeout()]);
        let by_classifier = FailoverLayer::builder().mode(mode);
        let classifier = HttpClassifier::new();
        for (layer, classifier) in [(by_trigger, classifier.clone()), (by_classifier, classifier.network_errors(false))]
        {
            for error in [Io::ConnectionRefused, Io::ConnectionReset, Io::BrokenPipe] {
                let (fleet, [a, b]) = fleet_with(classifier.clone());
                a.usually(io(error));
                let failed = ask(&layer, &fleet, get()).await.unwrap_err();
                assert!(matches!(failed.kind(), ErrorKind::Failed { .. }), "{failed:?}");
                let source = failed.into_source().unwrap();
                assert_eq!(source.downcast_ref::<std::io::Error>().unwrap().kind(), error);
                assert_eq!((a.calls(), b.calls()), (1, 0), "{mode:?}");
            }
            assert!(moves_on_in(fleet_with(classifier), &layer, status(503)).await.0);
        }
    }
}

// C28
#[tokio::test(start_paused = true)]
async fn a_cancellation_never_trips() {
    let everything = || Trigger::new("everything", |_| true);
    let classifier = tower_fleet::outcome::classify_fn(|result: Result<&http::Response<Body>, _>| match result {
        Ok(_) => tower_fleet::outcome::Outcome::Success,
        Err(_) => tower_fleet::outcome::Outcome::Neutral,
    });
    let layer = FailoverLayer::builder().triggers([everything()]);
    let (fleet, [a, b]) = fleet_with(classifier);
    a.usually(fail("the caller's side broke off"));
    let failed = ask(&layer, &fleet, get()).await.unwrap_err();
    assert!(matches!(failed.kind(), ErrorKind::Failed { .. }));
    assert_eq!(b.calls(), 0);
    // Nor does a success.
    assert_eq!(moves_on(&layer, status(200)).await, (false, "a:served".into()));
    assert!(moves_on(&layer, status(503)).await.1.starts_with("a:everything(status 503)"));
}

// C29
#[tokio::test(start_paused = true)]
async fn triggers_are_closures_with_names() {
    let busy = Trigger::new("busy", |outcome| {
        outcome.failure().is_some_and(|failure| failure.kind() == FailureKind::Status(503))
    });
    let layer = FailoverLayer::builder().mode(Mode::Sequential).triggers([busy, Trigger::timeout()]);
    assert_eq!(moves_on(&layer, status(503)).await, (true, "a:busy(status 503) b:served".into()));
    assert_eq!(moves_on(&layer, status(500)).await, (false, "a:served".into()));
    assert!(!moves_on(&layer, fail("broken")).await.0);
    let names: Vec<_> = Trigger::defaults().iter().map(Trigger::name).collect();
    assert_eq!(names, ["status", "timeout", "network", "custom"]);
}

// C29
#[tokio::test(start_paused = true)]
async fn an_empty_list_never_fires() {
    for mode in [Mode::Race, Mode::Sequential] {
        let layer = FailoverLayer::builder().mode(mode).triggers([]).timeout(millis(50));
        for reply in [status(503), status(429), fail("broken"), panics(), panics_in_call(), hang()] {
            assert_eq!(moves_on(&layer, reply).await, (false, "a:served".into()));
        }
    }
}

// C28, C50: what trips nothing is still told as what it is.
#[tokio::test(start_paused = true)]
async fn a_timeout_that_trips_nothing_names_its_backend() {
    let (fleet, [a]) = fleet();
    a.usually(hang());
    let layer = FailoverLayer::builder().triggers([]).timeout(millis(50));
    let source = ask(&layer, &fleet, get()).await.unwrap_err().into_source().unwrap();
    let timed_out = source.downcast_ref::<tower_fleet::TimedOut>().unwrap();
    assert_eq!((&*timed_out.backend, timed_out.timeout), ("a", millis(50)));
}

// C58
#[tokio::test(start_paused = true)]
async fn a_panic_is_one_failed_attempt() {
    for mode in MODES {
        for reply in [panics(), panics().after(3), panics_in_call()] {
            let (fleet, [a, b]) = fleet();
            a.usually(reply);
            b.usually(status(200).after(20));
            let answer = ask(&FailoverLayer::builder().mode(mode), &fleet, post(full("x"))).await;
            assert!(story(&answer).starts_with("a:network(panic)"), "{}", story(&answer));
            assert_eq!(told(answer).await, (200, "b".into()), "{mode:?}");
            assert_idle(&fleet);
        }
    }
}

// C37, C58
#[tokio::test(start_paused = true)]
async fn a_panic_counts_once_for_the_breaker() {
    for reply in [panics(), panics_in_call()] {
        let (a, b) = (mock("a").1, mock("b").1);
        let fleet = Fleet::builder()
            .backends([backend(&a).priority(1), backend(&b)])
            .circuit_breaker(CircuitPolicy::new().consecutive(2))
            .build()
            .unwrap();
        a.usually(reply);
        for state in [CircuitState::Closed, CircuitState::Open] {
            let door = FailoverLayer::builder().mode(Mode::Sequential).build().unwrap().layer(fleet.clone());
            drop(door.oneshot(get()).await.unwrap());
            assert_eq!(fleet.snapshot()[0].state, state);
        }
    }
}

// C58: a backend that panics while it is asked whether it is ready is left out.
#[tokio::test(start_paused = true)]
async fn a_panic_while_getting_ready_is_no_end() {
    let (fleet, [a, b, c]) = fleet();
    a.usually(status(503));
    b.panic_when_asked();
    let answer = ask(&FailoverLayer::builder().mode(Mode::Sequential), &fleet, get()).await;
    assert_eq!(story(&answer), "a:status(status 503) b:not ready c:served");
    assert_eq!((b.calls(), c.calls()), (0, 1));
}
