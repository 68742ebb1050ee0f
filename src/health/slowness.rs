//! Whether a backend is slow now.

use std::time::Duration;

use super::sync::{AtomicU64, Ordering};
use crate::time::Moment;

/// Whether most of the last calls of a backend took longer than expected of it.
///
/// A counter from 0 to 32: a late call adds one, and a call in time takes one away. At 16 the backend is slow, so that
/// takes at least 16 calls, and more than half of them late. A backend that stays as slow as that is expected to be so
/// after a while, and is not slow any more.
///
/// A backend that is slow is not used, perhaps. So it counts as slow only for some time after its last late call.
#[derive(Debug)]
pub(crate) struct Slowness {
    /// The moment of the last late call, rounded down, in units of 64 ns; and below it six bits of the counter.
    packed: AtomicU64,
    lasts: Duration,
}

const BITS: u32 = 6;
const COUNT: u64 = (1 << BITS) - 1;
const MAX: u64 = 32;
const SLOW: u64 = 16;

impl Slowness {
    /// Creates the state of a backend that is not slow. If it becomes so, it is for this time after its last late call.
    pub(super) fn new(lasts: Duration) -> Self {
        Self { packed: AtomicU64::new(0), lasts }
    }

    /// Counts a call that has taken longer than expected.
    pub(crate) fn late(&self, now: Moment) {
        let stamp = now.as_nanos() & !COUNT;
        self.update(|packed| Some(stamp.max(packed & !COUNT) | ((packed & COUNT) + 1).min(MAX)));
    }

    /// Counts a call that has ended in time.
    #[inline]
    pub(crate) fn in_time(&self) {
        // The counter of a backend is 0 nearly always. Then it is not written to, and threads do not contend for it.
        if self.packed.load(Ordering::Relaxed) & COUNT > 0 {
            self.update(|packed| (packed & COUNT > 0).then(|| packed - 1));
        }
    }

    /// Whether the backend is slow now.
    pub(crate) fn is_slow(&self, now: Moment) -> bool {
        let packed = self.packed.load(Ordering::Relaxed);
        packed & COUNT >= SLOW && now.since(Moment::from_nanos(packed & !COUNT)) <= self.lasts
    }

    fn update(&self, next: impl FnMut(u64) -> Option<u64>) {
        let _ = self.packed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::since_epoch(Duration::from_secs(seconds))
    }

    fn after(late: u64) -> Slowness {
        let slowness = Slowness::new(Duration::from_secs(5));
        (0..late).for_each(|_| slowness.late(at(1)));
        slowness
    }

    // C68
    #[test]
    fn sixteen_late_calls_in_a_row_make_a_backend_slow() {
        assert!(!after(15).is_slow(at(1)));
        assert!(after(16).is_slow(at(1)));
    }

    // C68
    #[test]
    fn a_tenth_of_late_calls_never_does() {
        let slowness = after(0);
        for call in 0..10_000 {
            if call % 10 == 0 {
                slowness.late(at(1));
            } else {
                slowness.in_time();
            }
            assert!(!slowness.is_slow(at(1)));
        }
    }

    // C68
    #[test]
    fn calls_in_time_end_it_after_any_number_of_late_ones() {
        let slowness = after(1_000);
        (0..16).for_each(|_| slowness.in_time());
        assert!(slowness.is_slow(at(1)));
        slowness.in_time();
        assert!(!slowness.is_slow(at(1)));
        (0..100).for_each(|_| slowness.in_time());
        (0..16).for_each(|_| slowness.late(at(1)));
        assert!(slowness.is_slow(at(1)));
    }

    // C68
    #[test]
    fn a_backend_without_calls_is_slow_for_some_time_only() {
        let slowness = after(40);
        assert!(slowness.is_slow(at(5)) && !slowness.is_slow(at(7)));
        slowness.late(at(8));
        assert!(slowness.is_slow(at(9)), "one late call renews it");
    }

    // C68: rule 26
    #[test]
    fn threads_count_every_call() {
        let slowness = after(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..4).for_each(|_| slowness.late(at(1))));
            }
        });
        assert!(slowness.is_slow(at(1)));
        slowness.in_time();
        assert!(!slowness.is_slow(at(1)));
    }

    // C58
    #[test]
    fn any_moment_is_accepted() {
        let slowness = Slowness::new(Duration::MAX);
        for now in [Moment::NEVER, Moment::EPOCH] {
            slowness.late(now);
            slowness.in_time();
            assert!(!slowness.is_slow(now));
        }
    }
}
