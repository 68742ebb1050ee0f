//! The edges of streams, limits and rejections: what a body may be besides a stream with a clear end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Method, Request};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower_fleet::{
    CircuitPolicy, CircuitState, FailoverLayer, Fleet, TimeLimits,
    body::ReplayMemory,
    content::{EventClass, EventRules},
    failover::{CommitPoint, FailoverBuilder, Follow, Mode, Rejection, Rejections},
    outcome::{HttpClassifier, Statuses},
};

use crate::{
    content::{DONE, ERROR, ONE, PING, ROLE, TWO, first_content, layer, read, rules, stream, until_end},
    mock::*,
};

fn rule(name: &'static str, statuses: &str) -> Rejection {
    Rejection::new(name).statuses(statuses.parse::<Statuses>().unwrap())
}

fn with_rules(mode: Mode, rules: impl IntoIterator<Item = Rejection>) -> FailoverBuilder {
    FailoverLayer::builder().mode(mode).rejections(Rejections::new(rules).unwrap())
}

/// A fleet of backend a, whose circuit opens at the first failure, and then b.
fn strict(classifier: HttpClassifier) -> (Fleet<Mock>, [Arc<Remote>; 2]) {
    let (_, remotes) = fleet::<2>();
    let backends = remotes.iter().zip([1, 0]).map(|(remote, priority)| backend(remote).priority(priority));
    let policy = CircuitPolicy::new().failures(1);
    (Fleet::builder().classify(classifier).circuit_breaker(policy).backends(backends).build().unwrap(), remotes)
}

const SECOND: Duration = Duration::from_secs(1);

// C32, C74: the frame with the error may be known as the last one.
#[tokio::test(start_paused = true)]
async fn an_error_event_in_the_last_frame_moves_on() {
    for layer in [first_content(), until_end()] {
        for beginning in [vec![data(ERROR)], vec![data(PING), data(ERROR)]] {
            let (fleet, [a, b]) = strict(rules());
            a.usually(stream([vec![Piece::KnowsEnd], beginning].concat()));
            b.usually(stream(vec![data(ONE), data(DONE)]));
            let answer = ask(&layer, &fleet, get()).await.unwrap();
            assert_eq!(read(answer.into_body()).await, ([ONE, DONE].concat(), None));
            assert_eq!(fleet.snapshot()[0].state, CircuitState::Open);
            assert_eq!((a.calls(), b.calls()), (1, 1));
            assert_idle(&fleet);
        }
    }
}

// C37, C72: a rejection that counts does so when its body was read to the end, too.
#[tokio::test(start_paused = true)]
async fn a_rejection_told_by_its_whole_body_counts() {
    let key = || rule("wrong key", "401").contains(["invalid key"]).counts(true);
    for point in [CommitPoint::head(), CommitPoint::first_frame(), CommitPoint::whole(100)] {
        for pieces in [vec![data("invalid key")], vec![Piece::KnowsEnd, data("invalid key")]] {
            let (fleet, [a, b]) = strict(HttpClassifier::new());
            a.usually(status(401).body(pieces));
            let layer = with_rules(Mode::Sequential, [key()]).commit(point.clone());
            assert_eq!(told(ask(&layer, &fleet, get()).await).await, (200, "b".into()));
            assert_eq!(fleet.snapshot()[0].state, CircuitState::Open, "{point:?}");
            assert_eq!(b.calls(), 1);
            assert_idle(&fleet);
        }
    }
}

// C37, C72
#[tokio::test(start_paused = true)]
async fn a_rejection_without_a_body_counts() {
    let (fleet, [a, _]) = strict(HttpClassifier::new());
    a.usually(status(401).body(vec![Piece::KnowsEnd]));
    let layer = with_rules(Mode::Race, [rule("wrong key", "401").counts(true)]);
    assert_eq!(told(ask(&layer, &fleet, get()).await).await, (200, "b".into()));
    assert_eq!(fleet.snapshot()[0].state, CircuitState::Open);
    assert_idle(&fleet);
}

// C37, C72: without a rule that matches, a response with an error status is still no failure.
#[tokio::test(start_paused = true)]
async fn a_response_that_no_rule_matches_is_recorded_as_without_rules() {
    let (fleet, [a, b]) = strict(HttpClassifier::new());
    a.usually(status(401).body(vec![data("expired")]));
    let layer = with_rules(Mode::Race, [rule("wrong key", "401").contains(["invalid key"]).counts(true)]);
    assert_eq!(told(ask(&layer, &fleet, get()).await).await, (401, "expired".into()));
    assert_eq!(fleet.snapshot()[0].state, CircuitState::Closed);
    assert_eq!(b.calls(), 0);
    assert_idle(&fleet);
}

// C32, C74: a response that has no body cannot have an end marker.
#[tokio::test(start_paused = true)]
async fn a_response_without_a_body_is_no_stream() {
    let empties = [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 205), (Method::HEAD, 206)];
    for (method, code) in empties {
        for layer in [first_content(), until_end(), layer(CommitPoint::until("#end", 100)), FailoverLayer::builder()] {
            for pieces in [vec![], vec![Piece::KnowsEnd]] {
                let (fleet, [a, b]) = strict(rules());
                let reply = status(code).header("content-type", "text/event-stream").header("content-length", "70");
                a.usually(reply.body(pieces));
                let request = Request::builder().method(method.clone()).body(full("")).unwrap();
                let answer = ask(&layer, &fleet, request).await.unwrap();
                assert_eq!((answer.status().as_u16(), answer.headers().contains_key("content-length")), (code, true));
                assert_eq!(read(answer.into_body()).await, (String::new(), None), "{method} {code}");
                assert_eq!(fleet.snapshot()[0].state, CircuitState::Closed);
                assert_eq!((a.calls(), b.calls()), (1, 0), "{method} {code}");
            }
        }
    }
}

// C14, C32: only a good response owes its marker.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_success_owes_no_marker() {
    for code in [304, 400, 404] {
        let (fleet, [a, b]) = strict(HttpClassifier::new());
        a.usually(status(code).body(vec![data("no such thing")]));
        let answer = ask(&layer(CommitPoint::until("#end", 100)), &fleet, get()).await;
        assert_eq!(told(answer).await, (code, "no such thing".into()));
        assert_eq!((b.calls(), fleet.snapshot()[0].state), (0, CircuitState::Closed));
    }
}

// C32: without rules, and where they cannot be applied, each byte of a stream is content.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_is_final_with_its_first_byte() {
    let plain = || stream(vec![data(""), data(PING), Piece::Wait(90_000), data(ONE)]);
    let (without_rules, with_rules) = (HttpClassifier::new(), rules());
    for (classifier, reply) in [(without_rules, plain()), (with_rules, plain().header("content-encoding", "gzip"))] {
        let (fleet, [a, b]) = fleet_with(classifier);
        a.usually(reply);
        let began = Instant::now();
        let answer = ask(&first_content(), &fleet, get()).await.unwrap();
        assert_took(began, 0);
        assert_eq!(read(answer.into_body()).await, ([PING, ONE].concat(), None));
        assert_eq!(b.calls(), 0);
    }
}

// C32, C74: a stream may be complete without content.
#[tokio::test(start_paused = true)]
async fn a_stream_without_content_is_final_with_its_end_marker() {
    let (fleet, [a, b]) = fleet_with(rules());
    a.usually(stream(vec![data(ROLE), Piece::Wait(20), data(DONE), Piece::Stall]));
    let began = Instant::now();
    let answer = ask(&first_content(), &fleet, get()).await.unwrap();
    assert_took(began, 20);
    let mut body = answer.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), ROLE);
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), DONE);
    assert_eq!(b.calls(), 0);
    drop(body);
    assert_idle(&fleet);
}

// C74: what follows a complete stream, or the error event of the backend, is neither a failure nor a second error.
#[tokio::test(start_paused = true)]
async fn what_follows_the_end_of_a_stream_is_passed_on() {
    const JUNK: &str = "data: {\"x\"\n\n";
    for layer in [first_content(), until_end(), FailoverLayer::builder()] {
        for pieces in [vec![data(ONE), data(&[DONE, JUNK].concat())], vec![data(ONE), data(DONE), data(JUNK)]] {
            let (fleet, [a, b]) = strict(rules());
            a.usually(stream(pieces));
            let answer = ask(&layer, &fleet, get()).await.unwrap();
            assert_eq!(read(answer.into_body()).await, ([ONE, DONE, JUNK].concat(), None));
            assert_eq!((b.calls(), fleet.snapshot()[0].state), (0, CircuitState::Closed));
        }
    }
    let (fleet, [a, _]) = strict(rules());
    a.usually(stream(vec![data(ONE), data(&[ERROR, JUNK].concat()), data(JUNK)]));
    let answer = ask(&first_content(), &fleet, get()).await.unwrap();
    assert_eq!(read(answer.into_body()).await, ([ONE, ERROR, JUNK, JUNK].concat(), None));
    assert_eq!(fleet.snapshot()[0].state, CircuitState::Open);
}

// C73: limits are for every response, that of an error too.
#[tokio::test(start_paused = true)]
async fn the_body_of_an_error_has_limits() {
    let limits = TimeLimits::new().idle(9 * SECOND);
    for code in [404, 500] {
        let (_, [a]) = fleet::<1>();
        a.usually(status(code).body(vec![data("half"), Piece::Stall]));
        let fleet = Fleet::builder().backend(backend(&a)).build().unwrap();
        let began = Instant::now();
        let answer = ask(&FailoverLayer::builder().time_limits(limits), &fleet, get()).await.unwrap();
        assert_eq!(answer.status(), code);
        let (text, error) = tokio::time::timeout(60 * SECOND, read(answer.into_body())).await.expect("a limit");
        assert_took(began, 9_000);
        assert_eq!((&*text, error.is_some()), ("half", true));

        // Before it is known which rule it matches, too.
        let began = Instant::now();
        let layer = with_rules(Mode::Sequential, [rule("any", "404,500").contains(["x"])]).time_limits(limits);
        let answer = ask(&layer, &fleet, get()).await.unwrap();
        assert_took(began, 1_000);
        assert_eq!(answer.status(), code, "by its status then");
        drop(answer);
        assert_idle(&fleet);
    }
}

// C71, C72: "later" is not earlier than the time that the backend named.
#[tokio::test(start_paused = true)]
async fn a_rejection_later_waits_for_the_time_that_the_backend_named() {
    let later = rule("busy", "429").contains(["busy"]).then(Follow::Later);
    let (fleet, [a]) = fleet();
    a.then([status(429).header("retry-after", "2").body(vec![data("busy")]), status(200)]);
    let layer = with_rules(Mode::Sequential, [later]).attempts_per_backend(2);
    let began = Instant::now();
    assert_eq!(told(ask(&layer, &fleet, get()).await).await, (200, "a".into()));
    assert_took(began, 2_000);
}

// C72
#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_compressed_is_read_whatever_its_header_is() {
    let (fleet, [a, _]) = fleet();
    a.usually(status(400).header("content-encoding", "identity").body(vec![data("too long")]));
    let layer = with_rules(Mode::Sequential, [rule("length", "400").contains(["too long"])]);
    assert_eq!(told(ask(&layer, &fleet, get()).await).await, (200, "b".into()));
}

// C37, C58: closures of the caller that panic lose no permit, no memory and no failure.
#[tokio::test(start_paused = true)]
async fn rules_that_panic_leave_nothing_behind() {
    let memory = ReplayMemory::new(10_000);
    let panics = EventRules::new().end_data("[DONE]").classify(|event| match event.data {
        b"x" => panic!("scripted"),
        _ => EventClass::Empty,
    });
    for point in [CommitPoint::first_content(1_000), CommitPoint::until_end(1_000)] {
        let (fleet, [a, _]) = fleet_with(HttpClassifier::new().events(panics.clone()));
        a.usually(stream(vec![data("data: y\n\n"), data("data: x\n\n")]));
        assert_eq!(told(ask(&layer(point.memory(memory.clone())), &fleet, get()).await).await, (200, "b".into()));
        assert_eq!(memory.used(), 0);
        assert_idle(&fleet);
    }
    let (fleet, [a, _]) = strict(HttpClassifier::new().events(EventRules::new().end_data("x").error_form(|_| {
        panic!("scripted");
    })));
    a.usually(stream(vec![data(ONE), Piece::Error("reset")]));
    let answer = ask(&first_content(), &fleet, get()).await.unwrap();
    let task = tokio::spawn(futures::future::ready(()));
    task.await.unwrap();
    let read = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(read(answer.into_body()))).await;
    assert!(read.is_err());
    assert_eq!(fleet.snapshot()[0].state, CircuitState::Open, "the stream broke off");
    assert_idle(&fleet);
}

// C20, C32, C45: wherever a request is cancelled, nothing stays behind.
#[tokio::test(start_paused = true)]
async fn a_cancelled_request_leaves_nothing_behind_at_any_moment() {
    let memory = ReplayMemory::new(100_000);
    let points = [CommitPoint::first_content(1_000), CommitPoint::until_end(1_000), CommitPoint::whole(1_000)];
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(millis(15))] {
        for point in points.clone() {
            for at in (0..100).step_by(3) {
                let (fleet, [a, b, c]) = fleet_with::<_, 3>(rules());
                let slow = |pieces: [&'static str; 4]| {
                    stream(pieces.iter().flat_map(|text| [data(text), Piece::Wait(10)]).collect()).after(5)
                };
                a.usually(slow([PING, ROLE, ERROR, DONE]));
                b.usually(slow([PING, ROLE, ONE, "data: nonsense\n\n"]));
                c.usually(slow([PING, ONE, TWO, DONE]));
                let layer = layer(point.clone().memory(memory.clone())).mode(mode);
                let _ = tokio::time::timeout(millis(at), async {
                    let answer = ask(&layer, &fleet, get()).await.unwrap();
                    read(answer.into_body()).await
                })
                .await;
                assert_idle(&fleet);
                assert_eq!(memory.used(), 0, "{mode:?} {point:?} {at}");
                for remote in [&a, &b, &c] {
                    assert_eq!(remote.running(), 0);
                }
            }
        }
    }
}

// C38: the permit of a probe comes back when the held stream is dropped, fails, or ends.
#[tokio::test(start_paused = true)]
async fn the_permit_of_a_probe_comes_back_from_every_stage() {
    for (pieces, at, state) in [
        (vec![data(PING), Piece::Stall], 1, CircuitState::HalfOpen),
        (vec![data(ONE), Piece::Stall], 1, CircuitState::HalfOpen),
        (vec![data(ONE), data(DONE), Piece::Stall], 1, CircuitState::Closed),
        (vec![data(ERROR)], 1, CircuitState::Open),
        (vec![data(ONE)], 1, CircuitState::Open),
    ] {
        let (_, [a]) = fleet::<1>();
        let policy = CircuitPolicy::new().failures(1).open_for(SECOND);
        let fleet = Fleet::builder().classify(rules()).circuit_breaker(policy).backend(backend(&a)).build().unwrap();
        a.then([status(500)]);
        assert_eq!(told(ask(&until_end(), &fleet, get()).await).await.0, 500);
        tokio::time::advance(2 * SECOND).await;
        a.then([stream(pieces.clone())]);
        let _ = tokio::time::timeout(millis(at), ask(&until_end(), &fleet, get())).await;
        assert_eq!(fleet.snapshot()[0].state, state, "{pieces:?}");
        assert_idle(&fleet);
        if state == CircuitState::HalfOpen {
            a.usually(stream(vec![data(DONE)]));
            assert_eq!(told(ask(&until_end(), &fleet, get()).await).await, (200, DONE.into()));
            assert_eq!(fleet.snapshot()[0].state, CircuitState::Closed);
        }
    }
}

// C58, C73: a body that is always ready with nothing does not keep the task from its timers.
#[tokio::test(start_paused = true)]
async fn a_body_that_never_pauses_is_bounded() {
    let endless = Arc::new(AtomicUsize::new(0));
    for text in ["", ": p\n\n", "x", ":"] {
        let counter = Arc::clone(&endless);
        let classifier = HttpClassifier::new().events(EventRules::new().end_data("[DONE]").classify(move |_| {
            counter.fetch_add(1, SeqCst);
            EventClass::Empty
        }));
        let (fleet, [a, _]) = fleet_with(classifier);
        let mut pieces = vec![data(text); 20_000];
        pieces.push(Piece::Stall);
        a.usually(stream(pieces));
        let answer = ask(&first_content().timeout(SECOND), &fleet, get()).await.unwrap();
        assert_eq!(answer.status(), 200, "{text}");
        drop(answer);
        assert_idle(&fleet);
    }
}
