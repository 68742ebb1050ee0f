//! Limits on the calls in flight, as their users meet them: full backends are not selected, and requests wait, are
//! refused, or are sent elsewhere. Services are strict mocks, and time is paused, but for the test with threads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adaptive;
mod changes;
mod failover;
#[cfg(feature = "http")]
mod http;
#[path = "../support/mock.rs"]
mod mock;
mod probes;
mod queue;
mod refuse;
mod threads;
mod wait;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tower::Service;
use tower_fleet::{Backend, Balance, Fleet, Limit, RoundRobin, WhenFull, fleet::FleetBuilder, outcome::ErrorsOnly};

use crate::mock::{Mock, Remote};

type Plain = Fleet<Mock, ErrorsOnly>;
type Door = Balance<Mock, RoundRobin, ErrorsOnly>;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Backends `a`, `b` … with these limits.
fn builder<const N: usize>(limits: [u32; N]) -> (FleetBuilder<Mock, ErrorsOnly>, [Arc<Remote>; N]) {
    let names = ["a", "b", "c", "d"];
    let mocks: [_; N] = std::array::from_fn(|index| Mock::new(names[index]));
    let backends = mocks
        .iter()
        .enumerate()
        .map(|(index, (mock, _))| Backend::new(names[index], mock.clone()).limit(limits[index]));
    let builder = Fleet::plain().backends(backends.collect::<Vec<_>>());
    (builder, mocks.map(|(_, remote)| remote))
}

fn fleet<const N: usize>(limits: [u32; N], when_full: WhenFull) -> (Plain, [Arc<Remote>; N]) {
    let (builder, remotes) = builder(limits);
    (builder.when_full(when_full).build().unwrap(), remotes)
}

fn door(fleet: &Plain) -> Door {
    Balance::new(fleet, RoundRobin)
}

fn in_flight(fleet: &Plain) -> Vec<usize> {
    fleet.snapshot().iter().map(|backend| backend.in_flight).collect()
}

/// A waker that counts.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A door that waits, polled by hand.
struct Waiting {
    door: Door,
    wakes: Arc<Wakes>,
}

impl Waiting {
    fn new(fleet: &Plain) -> Self {
        Self { door: door(fleet), wakes: Arc::default() }
    }

    fn poll(&mut self) -> bool {
        let waker = Waker::from(Arc::clone(&self.wakes));
        match self.door.poll_ready(&mut Context::from_waker(&waker)) {
            Poll::Ready(ready) => {
                ready.unwrap();
                true
            }
            Poll::Pending => false,
        }
    }

    fn wakes(&self) -> usize {
        self.wakes.count()
    }
}

const NO_LIMIT: Option<Limit> = None;
