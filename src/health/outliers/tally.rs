//! The calls of a backend in an interval: how many failed, and how long they took.

use std::time::Duration;

use super::super::sync::{AtomicU64, Ordering};
use crate::time::Moment;

/// Counts the calls of a backend in the current interval. Exact between two evaluations, without a lock.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Tally {
    /// Failed calls in the upper half, and in the lower half those that were counted as successful before.
    failed: AtomicU64,
    /// The number of times in the upper [`64 - SUM_BITS`](SUM_BITS) bits, and the sum of their logarithms. In one word,
    /// so that each evaluation reads as many times as it reads logarithms.
    times: AtomicU64,
    /// The sum of the squares of the logarithms, from [`CENTRE`].
    squares: AtomicU64,
}

/// Logarithms have 12 bits, so the sum of 2^24 of them has 36.
const SUM_BITS: u32 = 40;
/// The most calls of an interval. Further ones are not counted: they would change nothing.
const MAX_CALLS: u64 = 1 << 22;
/// The logarithm of 4 ms. Squares of differences are small numbers near it, so that it matters little if an evaluation
/// reads the square of a call whose logarithm it does not read.
const CENTRE: i64 = 22 * PER_OCTAVE as i64;
/// Logarithms are to the base two, in this many parts.
pub(super) const PER_OCTAVE: u64 = 64;

impl Tally {
    /// Counts a successful call, by the time to its first byte.
    pub(crate) fn succeeded(&self, took: Duration) {
        // A single writer would do with less, but a call may end on any thread.
        if self.times.load(Ordering::Relaxed) >> SUM_BITS >= MAX_CALLS {
            return;
        }
        let log = log(Moment::since_epoch(took).as_nanos());
        let distance = log as i64 - CENTRE;
        self.times.fetch_add(1 << SUM_BITS | log, Ordering::Relaxed);
        self.squares.fetch_add((distance * distance) as u64, Ordering::Relaxed);
    }

    /// Counts a failed call.
    pub(crate) fn failed(&self) {
        if self.failed.load(Ordering::Relaxed) >> 32 < MAX_CALLS {
            self.failed.fetch_add(1 << 32, Ordering::Relaxed);
        }
    }

    /// Turns a call that was counted as successful into a failed one.
    pub(crate) fn failed_late(&self) {
        if self.failed.load(Ordering::Relaxed) as u32 as u64 <= MAX_CALLS {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the counts, and begins another interval.
    pub(crate) fn take(&self) -> Counts {
        let failed = self.failed.swap(0, Ordering::Relaxed);
        let times = self.times.swap(0, Ordering::Relaxed);
        let squares = self.squares.swap(0, Ordering::Relaxed);
        let timed = (times >> SUM_BITS) as u32;
        let (failed, late) = ((failed >> 32) as u32, failed as u32);
        Counts {
            calls: timed.saturating_add(failed),
            // A call of the interval before may have failed late.
            failed: failed + late.min(timed),
            timed,
            logs: times & ((1 << SUM_BITS) - 1),
            squares,
        }
    }
}

/// The calls of a backend in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub(super) calls: u32,
    pub(super) failed: u32,
    /// The calls whose time counts.
    pub(super) timed: u32,
    logs: u64,
    squares: u64,
}

impl Counts {
    /// Returns the mean logarithm of the times, and the square of its standard error. Of at least one call.
    pub(super) fn latency(&self) -> (f64, f64) {
        let calls = f64::from(self.timed.max(1));
        let from_centre = self.logs as f64 / calls - CENTRE as f64;
        // At least that of the rounding.
        let variance = (self.squares as f64 / calls - from_centre * from_centre).max(1.0);
        (self.logs as f64 / calls, variance / calls)
    }
}

/// Returns the logarithm of a number of nanoseconds, in parts of an octave. Within an octave it is linear, at most 0.09
/// of an octave off.
fn log(nanos: u64) -> u64 {
    let nanos = nanos.max(1);
    let octave = u64::from(nanos.ilog2());
    let mantissa = nanos << nanos.leading_zeros() << 1;
    octave * PER_OCTAVE + (mantissa >> (64 - PER_OCTAVE.ilog2()))
}

/// Returns the time of a logarithm.
pub(super) fn time(log: f64) -> Duration {
    let octaves = (log / PER_OCTAVE as f64).clamp(0.0, 63.0);
    Duration::from_nanos((octaves.floor().exp2() * (1.0 + octaves.fract())) as u64)
}

#[cfg(all(test, not(fleet_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // C67
    #[test]
    fn each_call_is_counted_once() {
        let tally = Tally::default();
        (0..7).for_each(|_| tally.succeeded(Duration::from_millis(3)));
        (0..2).for_each(|_| tally.failed());
        tally.failed_late();
        let counts = tally.take();
        assert_eq!((counts.calls, counts.failed, counts.timed), (9, 3, 7));
        assert_eq!(tally.take(), Counts::default(), "the next interval");
        tally.failed_late();
        assert_eq!(tally.take().failed, 0, "a call of the interval before");
    }

    // C67
    #[test]
    fn concurrent_calls_and_evaluations_lose_nothing() {
        let tally = Tally::default();
        let taken = std::thread::scope(|scope| {
            let add = || {
                for call in 0..20_000_u64 {
                    if call % 4 == 0 { tally.failed() } else { tally.succeeded(Duration::from_millis(call % 50)) }
                }
            };
            let threads = [scope.spawn(add), scope.spawn(add)];
            let mut taken = Vec::new();
            while !threads.iter().all(|thread| thread.is_finished()) {
                taken.push(tally.take());
            }
            taken.push(tally.take());
            taken
        });
        let sum = |count: fn(&Counts) -> u32| taken.iter().map(count).sum::<u32>();
        assert_eq!((sum(|it| it.calls), sum(|it| it.timed)), (40_000, 30_000));
    }

    // C67: the answer to a hundred million calls is that to four million.
    #[test]
    fn counts_do_not_overflow() {
        let tally = Tally::default();
        tally.times.store(MAX_CALLS << SUM_BITS | 17, Ordering::Relaxed);
        tally.failed.store(MAX_CALLS << 32 | (MAX_CALLS + 1), Ordering::Relaxed);
        tally.succeeded(Duration::MAX);
        tally.failed();
        tally.failed_late();
        let counts = tally.take();
        assert_eq!((counts.calls, counts.timed, counts.logs), (2 * MAX_CALLS as u32, MAX_CALLS as u32, 17));
    }

    // C67
    #[test]
    fn one_slow_call_changes_the_mean_little() {
        let tally = Tally::default();
        (0..99).for_each(|_| tally.succeeded(Duration::from_millis(10)));
        tally.succeeded(Duration::from_secs(1));
        let took = time(tally.take().latency().0).as_secs_f64();
        assert!((0.010..0.0106).contains(&took), "{took}");
    }

    proptest! {
        #[test]
        fn the_time_of_a_logarithm_is_that_of_the_call(nanos in 1..=u64::MAX / 4) {
            let back = time(log(nanos) as f64).as_nanos() as f64 / nanos as f64;
            prop_assert!((0.98..=1.001).contains(&back), "{} of {nanos}", back);
            prop_assert!(log(nanos) <= log(nanos + 1));
        }

        // C58
        #[test]
        fn every_time_has_a_logarithm(nanos: u64) {
            prop_assert!(log(nanos) < 64 * PER_OCTAVE);
        }
    }
}
