//! Active probes, as their users meet them (C43). Services are strict mocks that panic when they are called unready, and
//! time is paused, but for the test with real servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod all;
mod bounds;
mod circuits;
mod gate;
#[cfg(feature = "http")]
mod grpc;
#[cfg(feature = "http")]
mod http;
mod members;
#[path = "../support/mock.rs"]
mod mock;
mod operator;
mod orders;
mod panics;
mod tcp;
#[cfg(feature = "http")]
mod wire;

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinHandle, time::sleep};
use tower::ServiceExt;
use tower_fleet::{
    Backend, CircuitPolicy, CircuitState, Fleet,
    fleet::{BackendName, Snapshot},
    outcome::ErrorsOnly,
    probe::{Probe, ProbeError, Probes, probe_fn},
};

use crate::mock::{Answer, Mock, Remote};

type Plain = Fleet<Mock, ErrorsOnly>;

const HOUR: Duration = Duration::from_secs(3_600);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Backends `a`, `b` …, with circuits that stay open for an hour.
fn fleet<const N: usize>() -> (Plain, [Arc<Remote>; N]) {
    let names = ["a", "b", "c", "d"];
    let mocks: [_; N] = std::array::from_fn(|index| Mock::new(names[index]));
    let backends: Vec<_> = mocks.iter().zip(names).map(|((mock, _), name)| Backend::new(name, mock.clone())).collect();
    let policy = CircuitPolicy::new().consecutive(1).open_for(HOUR);
    let fleet = Fleet::plain().circuit_breaker(policy).backends(backends).build().unwrap();
    (fleet, mocks.map(|(_, remote)| remote))
}

/// Sends one request with the service.
fn ping() -> impl Probe<Mock> {
    probe_fn(|_: BackendName, service: Mock| async move { service.oneshot(()).await.map(drop) })
}

fn probes() -> Probes<impl Probe<Mock>> {
    Probes::new(ping())
}

fn spawn(fleet: &Plain, probes: Probes<impl Probe<Mock>>) -> JoinHandle<()> {
    tokio::spawn(fleet.probe(probes).unwrap())
}

fn trip(fleet: &Plain, name: &str) {
    fleet.switch(name).unwrap().trip();
}

fn state(fleet: &Plain, name: &str) -> CircuitState {
    fleet.switch(name).unwrap().state()
}

fn shown(fleet: &Plain, name: &str) -> Snapshot {
    fleet.snapshot().into_iter().find(|backend| backend.name == *name).unwrap()
}

/// A probe that is never to be sent.
fn none() -> Probes<impl Probe<Mock>> {
    Probes::new(probe_fn(|name: BackendName, _: Mock| async move {
        Err::<(), _>(ProbeError::new(format!("{name} was probed")))
    }))
}

async fn pass(time: Duration) {
    sleep(time).await;
}

fn broken(remote: &Remote) {
    remote.answer(Answer::Error);
}
