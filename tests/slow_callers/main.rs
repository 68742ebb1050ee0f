//! Callers that upload slowly, stall, or break off: no failure of a backend, whichever door they use.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod circuits;
mod limits;
#[path = "../support/http.rs"]
#[allow(dead_code, reason = "each suite uses a part of it")]
mod mock;
mod wire;

use std::{future::Future, time::Duration};

use http::Request;
use tower_fleet::{CircuitPolicy, CircuitState, Fleet, breaker::Rate};

use crate::mock::*;

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A request whose body takes this many seconds, in two parts.
fn upload(seconds: u64) -> Request<Body> {
    let half = seconds * 500;
    put(vec![data("so"), Piece::Wait(half), data("me"), Piece::Wait(half)])
}

/// A request that may be sent again, and hedged.
fn put(pieces: Vec<Piece>) -> Request<Body> {
    Request::put("/v1/things").body(body(pieces)).unwrap()
}

/// A policy that counts calls of more than half a second: five of them open the circuit.
fn slow_calls() -> CircuitPolicy {
    CircuitPolicy::new().slow_calls(millis(500), Rate::new(0.5).minimum_calls(5).window(secs(3_600)))
}

/// Opened by the first failure.
fn strict() -> CircuitPolicy {
    CircuitPolicy::new().consecutive(1)
}

#[track_caller]
fn assert_states<S, C>(fleet: &Fleet<S, C>, state: CircuitState)
where
    S: Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    for backend in fleet.snapshot() {
        assert_eq!(backend.state, state, "{}", backend.name);
    }
    assert_idle(fleet);
}

/// Gives a future this long, and then drops it.
async fn give_up_after(time: Duration, future: impl Future) {
    assert!(tokio::time::timeout(time, future).await.is_err(), "it was to be dropped");
}
