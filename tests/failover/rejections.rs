//! Responses that are rejections by their status and body: which backend gets the request next.

use std::time::Duration;

use tokio::time::Instant;
use tower_fleet::{
    CircuitPolicy, CircuitState, FailoverLayer, Fleet,
    failover::{FailoverBuilder, Follow, Mode, Rejection, Rejections},
    outcome::Statuses,
};

use crate::mock::*;

fn layer(mode: Mode, rules: impl IntoIterator<Item = Rejection>) -> FailoverBuilder {
    FailoverLayer::builder().mode(mode).rejections(Rejections::new(rules).unwrap())
}

fn rule(name: &'static str, statuses: &str) -> Rejection {
    Rejection::new(name).statuses(statuses.parse::<Statuses>().unwrap())
}

fn too_long() -> Rejection {
    rule("context length", "400").contains(["too long"]).then(Follow::Tagged("larger-context"))
}

fn rejects(code: u16, text: &str) -> Reply {
    status(code).body(vec![data(text)])
}

const MODES: [Mode; 2] = [Mode::Race, Mode::Sequential];

// C72: to where it fits, and never to the same backend again.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_too_long_is_sent_to_a_backend_with_the_tag() {
    for mode in MODES {
        let (_, [a, b, c]) = fleet::<3>();
        let backends = [backend(&a).priority(9), backend(&b).priority(8), backend(&c).tag("larger-context")];
        let fleet = Fleet::builder().backends(backends).build().unwrap();
        a.usually(rejects(400, "{\"error\": \"prompt is too long\"}"));
        let layer = layer(mode, [too_long()]).attempts_per_backend(3);
        let answer = ask(&layer, &fleet, get()).await.unwrap();
        let ledger = answer.extensions().get::<tower_fleet::Ledger>().unwrap().to_string();
        assert!(ledger.starts_with("`a`: rejected: context length ("), "{ledger}");
        assert_eq!(told(Ok(answer)).await, (200, "c".into()), "{mode:?}");
        assert_eq!((a.calls(), b.calls(), c.calls()), (1, 0, 1), "{mode:?}");
        assert_idle(&fleet);
    }
}

// C72: the caller gets what the backend says if no backend has the tag, or if no rule matches.
#[tokio::test(start_paused = true)]
async fn a_rejection_that_no_backend_can_serve_is_the_answer() {
    let text = "{\"error\": \"prompt is too long\"}";
    for mode in MODES {
        let (fleet, [a, b]) = fleet();
        a.usually(rejects(400, text));
        assert_eq!(told(ask(&layer(mode, [too_long()]), &fleet, get()).await).await, (400, text.into()));
        a.usually(rejects(400, "temperature must be a number"));
        let answer = told(ask(&layer(mode, [too_long()]), &fleet, get()).await).await;
        assert_eq!(answer, (400, "temperature must be a number".into()));
        assert_eq!(b.calls(), 0);
    }
}

// C72: content policy: never around it, although its status would move on.
#[tokio::test(start_paused = true)]
async fn a_refusal_by_policy_is_the_answer_whatever_its_status_is() {
    for mode in MODES {
        let (fleet, [a, b]) = fleet();
        a.usually(rejects(500, "content_filter"));
        let policy = rule("content policy", "500").contains(["content_filter"]).then(Follow::Answer);
        let answer = ask(&layer(mode, [policy.clone()]), &fleet, get()).await;
        assert_eq!(told(answer).await, (500, "content_filter".into()));
        assert_eq!(b.calls(), 0);
        a.usually(rejects(500, "out of order"));
        assert_eq!(told(ask(&layer(mode, [policy]), &fleet, get()).await).await, (200, "b".into()), "as without rules");
    }
}

// C72, C37: a wrong key is a failure of the backend, a request that is too long is none.
#[tokio::test(start_paused = true)]
async fn only_rejections_that_count_open_a_circuit() {
    let (_, [a, b]) = fleet::<2>();
    let fleet = Fleet::builder()
        .circuit_breaker(CircuitPolicy::new().failures(2))
        .backends([backend(&a).priority(1), backend(&b).tag("larger-context")])
        .build()
        .unwrap();
    let key = rule("wrong key", "401").counts(true);
    let layer = layer(Mode::Sequential, [too_long(), key]);
    a.usually(rejects(400, "too long"));
    for _ in 0..5 {
        assert_eq!(told(ask(&layer, &fleet, get()).await).await, (200, "b".into()));
    }
    assert_eq!(fleet.snapshot()[0].state, CircuitState::Closed);
    a.usually(rejects(401, ""));
    for _ in 0..2 {
        assert_eq!(told(ask(&layer, &fleet, get()).await).await, (200, "b".into()));
    }
    assert_eq!(fleet.snapshot()[0].state, CircuitState::Open);
}

// C72
#[tokio::test(start_paused = true)]
async fn a_rejection_may_be_retried_at_the_same_backend_later() {
    let (fleet, [a, b]) = fleet();
    a.then([rejects(409, "loading"), status(200)]);
    let later = rule("loading", "409").then(Follow::Later);
    let pause = Duration::from_secs(3);
    let layer = layer(Mode::Sequential, [later]).attempts_per_backend(2).same_backend_delay(pause);
    let began = Instant::now();
    assert_eq!(told(ask(&layer, &fleet, get()).await).await, (200, "a".into()));
    assert_took(began, 3_000);
    assert_eq!(b.calls(), 0);
}

// C58, C72: hostile error bodies.
#[tokio::test(start_paused = true)]
async fn an_error_body_that_cannot_be_read_matches_no_rule() {
    let endless = || (0..2_000).map(|_| data(&"too long ".repeat(100))).collect::<Vec<_>>();
    for pieces in [
        vec![data("too long"), Piece::Error("reset")],
        vec![data("too long"), Piece::Stall],
        endless(),
        vec![Piece::Size(1 << 40), data("too long")],
    ] {
        let (_, [a, b]) = fleet::<2>();
        let backends = [backend(&a).priority(1), backend(&b).tag("larger-context")];
        let fleet = Fleet::builder().backends(backends).build().unwrap();
        a.usually(status(400).body(pieces));
        let layer = layer(Mode::Sequential, [too_long()]).timeout(Duration::from_secs(5));
        let began = Instant::now();
        let answer = ask(&layer, &fleet, get()).await.unwrap();
        assert!(began.elapsed() <= Duration::from_secs(1), "an error is not waited for");
        assert_eq!((answer.status().as_u16(), b.calls()), (400, 0));
        drop(answer);
        assert_idle(&fleet);
    }
    let (fleet, [a, b]) = fleet();
    a.usually(status(400).header("content-encoding", "gzip").body(vec![data("too long")]));
    assert_eq!(told(ask(&layer(Mode::Race, [too_long()]), &fleet, get()).await).await.0, 400);
    assert_eq!(b.calls(), 0);
}
