//! The circuit breaker as its users meet it: alone, keyed, waiting, and around each backend of a fleet.
//!
//! The rules of the circuit itself are tested where it lives; here is what callers see of them. Services are strict
//! mocks that panic when they are called unready, and time is paused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alone;
mod bounds;
mod fleet;
mod given_up;
mod half_open;
mod herd;
mod idle;
mod keyed;
#[path = "../support/mock.rs"]
mod mock;
#[cfg(feature = "http")]
mod outcomes;
mod pending;
mod refusal;
mod sharing;
mod soak;
mod tiers;
mod waiting;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
    time::Duration,
};

use tower::{BoxError, Service, ServiceExt};
use tower_fleet::{CircuitBreakerLayer, CircuitPolicy, breaker::CircuitOpen, outcome::ErrorsOnly};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn policy() -> CircuitPolicy {
    CircuitPolicy::new()
}

/// A breaker for services that are not HTTP.
fn breaker(policy: CircuitPolicy) -> CircuitBreakerLayer<ErrorsOnly> {
    CircuitBreakerLayer::plain(policy).unwrap()
}

async fn ask<S: Service<()> + Clone>(service: &S) -> Result<S::Response, S::Error> {
    // So that a lost wake-up fails its test instead of hanging it.
    tokio::time::timeout(secs(86_400), service.clone().oneshot(())).await.expect("an answer within a day")
}

async fn pass(time: Duration) {
    tokio::time::advance(time).await;
}

/// Lets everybody run who can.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn circuit_open(error: &BoxError) -> &CircuitOpen {
    error.downcast_ref().unwrap_or_else(|| panic!("{error} is not from an open circuit"))
}

/// Counts how often a task is woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn waker(self: &Arc<Self>) -> Waker {
        Arc::clone(self).into()
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
