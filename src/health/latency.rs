//! How long the calls of a backend took lately: a histogram in a sliding window, and percentiles of it.

use std::time::Duration;

use super::{
    slowness::Slowness,
    sync::{AtomicU32, AtomicU64, Ordering},
};
use crate::time::Moment;

/// How a [`LatencyWindow`] measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LatencySettings {
    /// The time after which a call has no effect any more. The calls of the last half of it always have one.
    pub(crate) window: Duration,
    /// The number of calls below which there is no percentile.
    pub(crate) min_samples: u32,
}

/// The times that the calls of a backend took in a sliding window, as a histogram with logarithmic buckets.
///
/// Each power of two is divided into eight buckets, as in `HdrHistogram`: a bucket is at most an eighth as wide as the
/// times in it, and a percentile, which is interpolated, is exact to a few percent. The window is made of two halves:
/// the one that is being filled, and the one before. A decaying histogram, such as that of Finagle or Codahale, would
/// remember a slow minute for several more, since the highest percentiles are made of few calls.
///
/// To record a call is one relaxed addition. Only the first call of a new half does more: it empties the older one.
#[derive(Debug)]
pub(crate) struct LatencyWindow {
    halves: [Half; 2],
    /// The length of a half in nanoseconds.
    width: u64,
    min_samples: u32,
    /// The percentiles that were computed last.
    cached: [AtomicU64; CACHED],
    /// Whether the backend is slow now.
    pub(crate) slowness: Slowness,
}

#[derive(Debug)]
struct Half {
    /// Its number, counted from 1 at the epoch. 0 before its first call, [`EMPTYING`] while it is being emptied.
    number: AtomicU64,
    buckets: [AtomicU32; BUCKETS],
}

const EMPTYING: u64 = u64::MAX;

/// Times are counted in units of 2^12 ns, about 4 µs. The buckets below eight units are linear.
const UNIT: u32 = 12;
/// Times from 2^37 ns, about 137 s, on share the last bucket.
const MAX_BITS: u32 = 37;
/// The buckets of each power of two, as a power of two.
const FINE: u32 = 3;
const BUCKETS: usize = ((MAX_BITS - UNIT - FINE + 1) << FINE) as usize;

/// Doors with different percentiles seldom share an entry.
const CACHED: usize = 4;
/// How often in a half a percentile is computed anew.
const TICKS: u64 = 1024;

impl LatencyWindow {
    pub(crate) fn new(settings: LatencySettings) -> Self {
        let LatencySettings { window, min_samples } = settings;
        let half = || Half { number: AtomicU64::new(0), buckets: std::array::from_fn(|_| AtomicU32::new(0)) };
        Self {
            halves: [half(), half()],
            width: (Moment::since_epoch(window).as_nanos() / 2).max(1),
            min_samples,
            cached: std::array::from_fn(|_| AtomicU64::new(0)),
            // So that a backend that was slow has the chance to prove that it is not, several times in a window.
            slowness: Slowness::new(window / 8),
        }
    }

    /// Adds a call that took this long.
    #[inline]
    pub(crate) fn record(&self, took: Duration, now: Moment) {
        let number = self.number(now);
        let half = &self.halves[(number & 1) as usize];
        let is_current = half.number.load(Ordering::Acquire) == number || half.begin(number);
        // While another thread empties this half, the call counts in the other one. So no call is lost.
        let half = if is_current { half } else { &self.halves[(number & 1 ^ 1) as usize] };
        half.buckets[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the time that this share of the calls took at most, from 0 to 1. `None` if there are too few calls.
    ///
    /// It is computed again a thousand times in a window at most.
    #[inline]
    pub(crate) fn percentile(&self, share: f64, now: Moment) -> Option<Duration> {
        let tick = now.as_nanos() / (self.width / TICKS).max(1);
        // An entry is the tick and the share that it is for, and the percentile in units plus one, or 0 for none.
        let code = (share * f64::from(1 << SHARE_BITS)) as u64 & mask(SHARE_BITS);
        let key = (tick << SHARE_BITS | code) & mask(64 - VALUE_BITS);
        let cached = &self.cached[code as usize % CACHED];
        let entry = cached.load(Ordering::Relaxed);
        let value = if entry >> VALUE_BITS == key && entry != 0 {
            entry & mask(VALUE_BITS)
        } else {
            let value = self.compute(share, now).map_or(0, |nanos| (nanos >> UNIT) + 1);
            cached.store(key << VALUE_BITS | value, Ordering::Relaxed);
            value
        };
        value.checked_sub(1).map(|units| Duration::from_nanos(units << UNIT))
    }

    /// Computes a percentile in nanoseconds.
    #[cold]
    fn compute(&self, share: f64, now: Moment) -> Option<u64> {
        let number = self.number(now);
        let is_recent = |half: &&Half| matches!(number.saturating_sub(half.number.load(Ordering::Acquire)), 0 | 1);
        let mut counts = [0_u64; BUCKETS];
        for half in self.halves.iter().filter(is_recent) {
            for (count, bucket) in counts.iter_mut().zip(&half.buckets) {
                *count += u64::from(bucket.load(Ordering::Relaxed));
            }
        }
        let calls: u64 = counts.iter().sum();
        if calls < u64::from(self.min_samples.max(1)) {
            return None;
        }
        let (rank, mut below) = (share * calls as f64, 0.0);
        for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let part = (rank - below) / *count as f64;
            if part <= 1.0 {
                let (from, to) = (start(bucket), start(bucket + 1));
                return Some(from + ((to - from) as f64 * part.max(0.0)) as u64);
            }
            below += *count as f64;
        }
        Some(start(BUCKETS))
    }

    /// The number of the half that this moment is in.
    fn number(&self, now: Moment) -> u64 {
        // Below `EMPTYING` by far, unless the width is a nanosecond.
        (now.as_nanos() / self.width).saturating_add(1).min(EMPTYING - 1)
    }
}

impl Half {
    /// Empties the half for the calls of a new number. Returns false if another thread does so, or if the half is of a
    /// later number already: then a call is late by the clock, and counts in either.
    #[cold]
    fn begin(&self, number: u64) -> bool {
        let before = self.number.load(Ordering::Relaxed);
        if before >= number {
            return before != EMPTYING;
        }
        if self.number.compare_exchange(before, EMPTYING, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return false;
        }
        for bucket in &self.buckets {
            bucket.store(0, Ordering::Relaxed);
        }
        self.number.store(number, Ordering::Release);
        true
    }
}

const SHARE_BITS: u32 = 16;
const VALUE_BITS: u32 = MAX_BITS - UNIT + 1;

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// The bucket of a time.
fn bucket(took: Duration) -> usize {
    let units = Moment::since_epoch(took).as_nanos().min(mask(MAX_BITS)) >> UNIT;
    // 0 for all times below 16 units.
    let octave = (units | 1 << FINE).ilog2() - FINE;
    ((units >> octave) + (u64::from(octave) << FINE)) as usize
}

/// The lower bound of a bucket in nanoseconds.
fn start(bucket: usize) -> u64 {
    let octave = (bucket >> FINE).saturating_sub(1);
    ((bucket - (octave << FINE)) as u64) << (octave as u32 + UNIT)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use proptest::{collection::vec, prelude::*};

    use super::*;

    const SETTINGS: LatencySettings = LatencySettings { window: Duration::from_secs(60), min_samples: 1 };

    fn at(seconds: u64) -> Moment {
        Moment::since_epoch(Duration::from_secs(seconds))
    }

    fn window(min_samples: u32) -> LatencyWindow {
        LatencyWindow::new(LatencySettings { min_samples, ..SETTINGS })
    }

    /// The calls that have an effect at this time.
    fn calls(window: &LatencyWindow, now: Moment) -> u64 {
        let number = window.number(now);
        let halves = window.halves.iter().filter(|half| number - half.number.load(Ordering::Relaxed).min(number) < 2);
        halves.flat_map(|half| &half.buckets).map(|bucket| u64::from(bucket.load(Ordering::Relaxed))).sum()
    }

    /// Times from 1 µs to several minutes, each power of ten as likely as the next.
    fn time() -> impl Strategy<Value = Duration> {
        (3.0..11.5_f64).prop_map(|exponent| Duration::from_nanos(10_f64.powf(exponent) as u64))
    }

    proptest! {
        // C68
        #[test]
        fn a_percentile_lies_within_a_bucket_of_the_sorted_list(
            mut times in vec(time(), 1..400), share in 0.01..0.999_f64,
        ) {
            let window = window(1);
            times.iter().for_each(|took| window.record(*took, at(1)));
            times.sort_unstable();
            let exact = times[((share * times.len() as f64).ceil() as usize).clamp(1, times.len()) - 1];
            let found = window.percentile(share, at(1)).unwrap();
            let (exact, found) = (exact.as_nanos().min(1 << MAX_BITS) as f64, found.as_nanos() as f64);
            // A bucket is an eighth of its start wide; the result is rounded down to 4 µs.
            prop_assert!((found - exact).abs() <= exact / 8.0 + 8_192.0, "{found} for {exact}");
        }

        #[test]
        fn the_buckets_are_in_order_without_gaps(took in time()) {
            let bucket = bucket(took);
            let nanos = took.as_nanos() as u64;
            prop_assert!(bucket < BUCKETS && start(bucket) <= nanos);
            prop_assert!(nanos < start(bucket + 1) || bucket == BUCKETS - 1);
            prop_assert!(bucket < 8 || start(bucket + 1) - start(bucket) <= start(bucket) / 8);
        }

        // C58
        #[test]
        fn any_time_any_moment_and_any_share_are_accepted(
            events in vec((any::<u64>(), any::<u64>(), any::<f64>()), 1..20), width in 0..3_u64,
        ) {
            let settings = LatencySettings { window: Duration::from_nanos(width), min_samples: 0 };
            let window = LatencyWindow::new(settings);
            for (took, now, share) in events {
                window.record(Duration::from_nanos(took), Moment::from_nanos(now));
                window.percentile(share, Moment::from_nanos(now));
            }
        }
    }

    // C68
    #[test]
    fn a_call_counts_for_at_least_half_of_the_window_and_never_longer() {
        for second in [0, 29, 30, 59, 61] {
            let window = window(1);
            window.record(Duration::from_secs(1), at(second));
            for age in 0..100 {
                let found = window.percentile(0.5, at(second + age));
                match age {
                    ..=30 => assert!(found.is_some(), "{age} s after {second}"),
                    60.. => assert!(found.is_none(), "{age} s after {second}"),
                    _ => {}
                }
            }
        }
    }

    // C68
    #[test]
    fn there_is_no_percentile_of_too_few_calls() {
        let window = window(3);
        for second in 1..=3 {
            assert_eq!(window.percentile(0.5, at(second)), None);
            window.record(Duration::from_secs(1), at(second));
        }
        assert!(window.percentile(0.5, at(4)).is_some());
        assert_eq!(window.percentile(0.5, at(100)), None, "they are forgotten");
    }

    // C68
    #[test]
    fn a_percentile_is_computed_once_for_a_short_time() {
        let window = window(1);
        window.record(Duration::from_secs(1), at(1));
        let before = window.percentile(0.5, at(1));
        (0..9).for_each(|_| window.record(Duration::from_secs(9), at(1)));
        assert_eq!(window.percentile(0.5, at(1)), before);
        assert!(window.percentile(0.9, at(1)) > before, "another share is another percentile");
        assert!(window.percentile(0.5, at(2)) > before);
    }

    #[test]
    fn a_window_takes_two_kibibytes_at_most() {
        assert!(size_of::<LatencyWindow>() <= 2_048, "{}", size_of::<LatencyWindow>());
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    // C68: rule 26, a half is emptied while others record.
    #[test]
    fn no_call_is_lost_or_invented_while_a_half_is_emptied() {
        const CALLS: u64 = 2_000;
        for round in 0..50 {
            let (window, has_begun) = (window(1), AtomicBool::new(false));
            // Old calls in the half that is to be emptied.
            (0..1_000).for_each(|_| window.record(Duration::from_secs(1), at(1)));
            window.record(Duration::from_secs(1), at(31));
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let (window, has_begun) = (&window, &has_begun);
                    scope.spawn(move || {
                        if thread > 0 {
                            while !has_begun.load(Ordering::Relaxed) {
                                std::hint::spin_loop();
                            }
                        }
                        has_begun.store(true, Ordering::Relaxed);
                        // Half 2, then half 3, which is where the old calls are.
                        for call in 0..CALLS {
                            window.record(Duration::from_secs(1), at(59 + call / (CALLS / 2)));
                        }
                    });
                }
            });
            assert_eq!(calls(&window, at(60)), 4 * CALLS + 1, "round {round}");
        }
    }
}
