//! What it costs when circuits move, with ten thousand backends.

use std::{
    future::{Ready, ready},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tower::{Layer, Service};
use tower_fleet::{
    Backend, Balance, BalanceLayer, CircuitPolicy, Fleet,
    outcome::ErrorsOnly,
    pick::{RoundRobin, Strategy, Weighted},
};

const BACKENDS: u32 = 10_000;

/// Fails when it is told to.
#[derive(Clone)]
struct Failing(Arc<AtomicBool>);

impl Service<()> for Failing {
    type Response = ();
    type Error = io::Error;
    type Future = Ready<io::Result<()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let fails = self.0.load(Ordering::Relaxed);
        ready(if fails { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) })
    }
}

/// Prints a table: what one transition costs the call that brings it about and the next pick, and how long ten thousand
/// openings take under traffic.
pub(crate) fn print() {
    println!(
        "\n{:<28} {:<10} {:>6} {:>14} {:>14} {:>14}",
        "transitions, 10,000 backends", "weights", "doors", "record, us", "next pick, us", "all open, ms"
    );
    for doors in [1, 16] {
        row("round robin", "equal", doors, RoundRobin, |_| 1);
        row("weighted", "equal", doors, Weighted, |_| 1);
        row("weighted", "irregular", doors, Weighted, |index| 1 + index * 7919 % 997);
    }
}

fn row<P: Strategy>(name: &str, weights: &str, doors: usize, strategy: P, weight: fn(u32) -> u32) {
    let fails = Arc::new(AtomicBool::new(false));
    let service = |_| Failing(Arc::clone(&fails));
    let backends = (0..BACKENDS).map(|index| Backend::new(index.to_string(), service(index)).weight(weight(index)));
    let policy = CircuitPolicy::new().consecutive(1).open_for(Duration::from_secs(3600));
    let fleet = Fleet::plain().circuit_breaker(policy).backends(backends).build().expect("a valid fleet");
    let mut doors: Vec<_> = (0..doors).map(|_| BalanceLayer::new(strategy.clone()).layer(fleet.clone())).collect();
    doors.iter_mut().for_each(|door| assert!(call(door)));
    let (mut record, mut pick) = (Vec::new(), Vec::new());
    for index in 0..200 {
        let switch = fleet.switch(&(index * 37).to_string()).expect("a circuit");
        let start = Instant::now();
        switch.trip();
        record.push(start.elapsed());
        let start = Instant::now();
        assert!(call(&mut doors[0]));
        pick.push(start.elapsed());
        switch.reset();
        doors.iter_mut().for_each(|door| assert!(call(door)));
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e6
    };
    fails.store(true, Ordering::Relaxed);
    let start = Instant::now();
    let mut served = 0;
    while fleet.switch("0").is_some() && served < BACKENDS {
        let index = served as usize % doors.len();
        if !call(&mut doors[index]) {
            served += 1;
        }
    }
    let all = start.elapsed().as_secs_f64() * 1e3;
    let (record, pick) = (median(&mut record), median(&mut pick));
    println!("{name:<28} {weights:<10} {:>6} {record:>14.1} {pick:>14.1} {all:>14.0}", doors.len());
}

/// Whether the call succeeded.
fn call<P: Strategy>(door: &mut Balance<Failing, P, ErrorsOnly>) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(door.poll_ready(&mut cx), Poll::Ready(Ok(()))), "every backend is ready");
    matches!(std::pin::pin!(door.call(())).poll(&mut cx), Poll::Ready(Ok(())))
}
