//! What two threads serve in total beside one: with a door that each thread keeps, and with a clone for each call.

use std::{
    task::{Context, Poll, Waker},
    time::Instant,
};

use tower::{Layer, Service};
use tower_fleet::{
    BalanceLayer, CircuitPolicy,
    breaker::Rate,
    pick::{LeastLoaded, PeakEwma},
};

use crate::breaker::{breaker, failover, guarded, plain};

const CALLS: u32 = 400_000;
const ROUNDS: u32 = 7;

/// Prints a table: calls per second of one thread and of two, in millions, and their ratio.
pub(crate) fn print() {
    println!("\n{:<44} {:<7} {:>10} {:>10} {:>7}", "threads", "door", "one, M/s", "two, M/s", "ratio");
    // The second core may sleep.
    rate(&BalanceLayer::round_robin().layer(plain()), 2, true);
    row("round robin", BalanceLayer::round_robin().layer(plain()));
    row("weighted", BalanceLayer::weighted().layer(plain()));
    row("shuffle", BalanceLayer::shuffle().layer(plain()));
    row("least loaded", BalanceLayer::new(LeastLoaded::new()).layer(plain()));
    row("peak ewma", BalanceLayer::new(PeakEwma::new()).layer(plain()));
    row("round robin over breakers", BalanceLayer::round_robin().layer(guarded(false)));
    row("failover", failover(plain()));
    row("failover over breakers", failover(guarded(false)));
    row("failover over breakers, timeouts", failover(guarded(true)));
    row("breaker, consecutive", breaker(CircuitPolicy::new().consecutive(5)));
    // One number that all calls write: it is a rate over all of them.
    row("breaker, failure rate", breaker(CircuitPolicy::new().failure_rate(Rate::new(0.5).minimum_calls(100))));
}

fn row<D>(name: &str, door: D)
where
    D: Service<()> + Clone + Send + Sync,
{
    for (kind, is_kept) in [("kept", true), ("cloned", false)] {
        let best = |threads| (0..ROUNDS).map(|_| rate(&door, threads, is_kept)).fold(0.0, f64::max);
        let (one, two) = (best(1), best(2));
        println!("{name:<44} {kind:<7} {:>10.1} {:>10.1} {:>7.2}", one / 1e6, two / 1e6, two / one);
    }
}

/// Calls per second in total.
fn rate<D>(door: &D, threads: u32, is_kept: bool) -> f64
where
    D: Service<()> + Clone + Send + Sync,
{
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(move || {
                let mut kept = door.clone();
                for _ in 0..CALLS {
                    if is_kept { call(&mut kept) } else { call(&mut door.clone()) }
                }
            });
        }
    });
    f64::from(threads * CALLS) / start.elapsed().as_secs_f64()
}

#[inline]
fn call<D: Service<()>>(door: &mut D) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(door.poll_ready(&mut cx), Poll::Ready(Ok(()))), "every backend is ready");
    let response = std::pin::pin!(door.call(())).poll(&mut cx);
    assert!(matches!(response, Poll::Ready(Ok(_))), "every backend answers");
}
