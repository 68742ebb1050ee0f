//! Tests of the adaptive limit against a synthetic server.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::{AdaptiveLimit, Controller, Ended, Limit};
use crate::{rng::Rng, setting::InvalidSetting, time::Moment};

/// A server with this many workers and a queue, kept busy by clients that use the whole limit.
struct Server {
    workers: usize,
    service: f64,
    rng: Rng,
    now: u64,
    /// When each worker is free.
    free: BinaryHeap<Reverse<u64>>,
    /// The ends and the begins of the calls in flight.
    running: BinaryHeap<Reverse<(u64, u64)>>,
}

impl Server {
    fn new(workers: usize, service: Duration, seed: u64) -> Self {
        let free = (0..workers).map(|_| Reverse(0)).collect();
        let service = service.as_nanos() as f64;
        Self { workers, service, rng: Rng::seeded(seed), now: 0, free, running: BinaryHeap::new() }
    }

    /// Serves for this long, with at most `clients` at a time.
    fn run(&mut self, controller: &mut Controller, clients: usize, time: Duration) {
        let until = self.now + time.as_nanos() as u64;
        while self.now < until {
            while self.running.len() < (controller.limit() as usize).min(clients) {
                let Reverse(free) = self.free.pop().expect("as many as workers");
                let unit = self.rng.below(1 << 20) as f64 / f64::from(1 << 20);
                // From half to one and a half of the mean.
                let ends = free.max(self.now) + (self.service * (0.5 + unit)) as u64;
                self.free.push(Reverse(ends));
                self.running.push(Reverse((ends, self.now)));
            }
            let in_flight = self.running.len() as u32;
            let Reverse((ends, began)) = self.running.pop().expect("at least one client");
            self.now = self.now.max(ends);
            let took = Duration::from_nanos(ends - began);
            controller.add(Ended::Well(took), in_flight, Moment::from_nanos(self.now));
        }
        assert_eq!(self.free.len(), self.workers);
    }
}

const ALL: usize = usize::MAX;

fn controller(settings: AdaptiveLimit) -> Controller {
    Controller::new(settings, Moment::EPOCH)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

// C68
#[test]
fn the_limit_converges_to_the_capacity_from_both_sides_and_stays_there() {
    for (initial, workers, seed) in [(2, 40, 1), (20, 40, 2), (600, 40, 3), (20, 4, 4), (20, 200, 5)] {
        let (mut controller, mut server) =
            (controller(AdaptiveLimit::new().initial(initial)), Server::new(workers, Duration::from_millis(200), seed));
        server.run(&mut controller, ALL, secs(600));
        for minute in 10..18 {
            server.run(&mut controller, ALL, secs(60));
            let limit = controller.limit() as usize;
            // Up to half the capacity may queue, and a few calls more.
            let most = workers * 3 / 2 + 2 * workers.isqrt() + 6;
            assert!((workers / 2..=most).contains(&limit), "{limit} for {workers} workers, minute {minute}");
        }
    }
}

// C68
#[test]
fn the_limit_shrinks_when_latency_doubles_and_recovers_when_that_stays_so() {
    let mut controller = controller(AdaptiveLimit::new().initial(100).max(120));
    let mut server = Server::new(500, Duration::from_millis(50), 7);
    server.run(&mut controller, ALL, secs(30));
    assert_eq!(controller.limit(), 120);
    server.service *= 2.0;
    server.run(&mut controller, ALL, secs(10));
    assert!(controller.limit() < 60, "{}", controller.limit());
    server.run(&mut controller, ALL, secs(120));
    assert_eq!(controller.limit(), 120, "the new latency is that of the backend itself");
}

// C68
#[test]
fn the_limit_does_not_grow_while_it_is_not_in_use() {
    let mut controller = controller(AdaptiveLimit::new());
    let mut server = Server::new(500, Duration::from_millis(50), 7);
    server.run(&mut controller, 9, secs(600));
    assert_eq!(controller.limit(), 20);
    server.run(&mut controller, 15, secs(600));
    assert!((21..=33).contains(&controller.limit()), "{}", controller.limit());
}

// C68
#[test]
fn failures_shrink_the_limit_down_to_the_minimum_and_successes_restore_it() {
    let mut controller = controller(AdaptiveLimit::new().initial(64).min(3));
    let mut limits = Vec::new();
    for second in 1..=8 {
        for _ in 0..20 {
            controller.add(Ended::Failed, 64, Moment::since_epoch(secs(second)));
        }
        limits.push(controller.limit());
    }
    assert_eq!(limits, [32, 16, 8, 4, 3, 3, 3, 3]);
    let mut server = Server::new(500, Duration::from_millis(50), 7);
    server.now = secs(8).as_nanos() as u64;
    server.run(&mut controller, ALL, secs(60));
    assert!(controller.limit() > 64, "{}", controller.limit());
}

// C68
#[test]
fn a_few_failures_that_load_does_not_cause_leave_most_of_the_limit() {
    let mut controller = controller(AdaptiveLimit::new().max(100));
    for call in 0..120_000_u64 {
        let now = Moment::since_epoch(Duration::from_millis(call));
        let ended = if call % 50 == 0 { Ended::Failed } else { Ended::Well(Duration::from_millis(50)) };
        controller.add(ended, controller.limit(), now);
    }
    assert!(controller.limit() > 90, "{}", controller.limit());
}

// C68
#[test]
fn a_backend_that_is_slow_from_its_first_call_is_not_stuck_at_the_minimum() {
    let mut controller = controller(AdaptiveLimit::new().initial(2));
    controller.add(Ended::Well(Duration::from_micros(1)), 2, Moment::since_epoch(secs(1)));
    let mut server = Server::new(500, Duration::from_millis(400), 7);
    server.now = secs(1).as_nanos() as u64;
    server.run(&mut controller, ALL, secs(300));
    assert!(controller.limit() > 20, "{}", controller.limit());
}

// C68
#[test]
fn extreme_times_and_counts_keep_the_limit_within_its_bounds() {
    let mut controller = controller(AdaptiveLimit::new().min(1).max(50));
    let mut rng = Rng::seeded(3);
    for _ in 0..20_000 {
        let now = Moment::from_nanos(rng.next_u64() >> rng.below(64));
        let ended = match rng.below(4) {
            0 => Ended::Failed,
            1 => Ended::Well(Duration::MAX),
            2 => Ended::Well(Duration::ZERO),
            _ => Ended::Well(Duration::from_nanos(rng.next_u64())),
        };
        controller.add(ended, rng.next_u64() as u32, now);
        assert!((1..=50).contains(&controller.limit()));
    }
}

// C58, C68
#[test]
fn invalid_limits_are_refused_by_name() {
    let refused = |limit: Limit| {
        let refuse = |field, value, reason| InvalidSetting::of("fleet", field, value, reason);
        limit.checked(refuse).map_err(|error| error.to_string()).unwrap_err()
    };
    let adaptive = AdaptiveLimit::new();
    assert_eq!(refused(Limit::Fixed(0)), "fleet: limit 0 must be at least 1: to send a backend no requests, drain it");
    assert_eq!(refused(adaptive.min(0).into()), "fleet: limit.min 0 must be at least 1");
    assert_eq!(refused(adaptive.max(1).into()), "fleet: limit.max 1 must be at least limit.min");
    assert_eq!(refused(adaptive.max(u32::MAX).into()), "fleet: limit.max 4294967295 must be at most 1000000");
    assert_eq!(refused(adaptive.initial(1).into()), "fleet: limit.initial 1 must be from limit.min to limit.max");
    for tolerance in [f64::NAN, 0.9, -1.0, f64::INFINITY, 10.1] {
        let error = refused(adaptive.tolerance(tolerance).into());
        assert_eq!(error, format!("fleet: limit.tolerance {tolerance} must be a factor from 1 to 10"));
    }
    assert_eq!(refused(adaptive.window(Duration::ZERO).into()), "fleet: limit.window 0ns must be from 10 ms to 1 h");
    assert_eq!(
        refused(adaptive.recheck_after(Duration::from_millis(1)).into()),
        "fleet: limit.recheck_after 1ms must be from limit.window to 1 day"
    );
}
