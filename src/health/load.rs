//! The load of a backend: its calls in flight and its latencies, as far as a strategy or a limit needs them.

#[cfg(feature = "file-state")]
mod saved;

use std::{sync::OnceLock, time::Duration};

#[cfg(feature = "file-state")]
pub(crate) use self::saved::SavedLoad;
use super::{
    estimate::{Decay, Estimate},
    latency::{LatencySettings, LatencyWindow},
    sync::{AtomicU32, AtomicU64, Ordering},
};
use crate::time::Moment;

/// A set of quantities that a backend measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measures(u32);

impl Measures {
    pub(crate) const NOTHING: Self = Self(0);
    /// Calls in flight, in one number for all threads.
    pub(crate) const IN_FLIGHT: Self = Self(1);
    /// The decaying peak of the time to the first byte.
    pub(crate) const PEAK: Self = Self(2);
    /// The mean of the time to the first byte.
    pub(crate) const MEAN: Self = Self(4);
    /// The failures of the last time.
    pub(crate) const FAILURES: Self = Self(8);
    /// Calls in flight are limited, so that a call takes a slot before it begins.
    pub(crate) const LIMIT: Self = Self(16);
    /// The limit follows the time to the first byte.
    pub(crate) const ADAPTS: Self = Self(32);
    /// The outcomes of calls, for the detection of outliers.
    pub(crate) const OUTCOMES: Self = Self(64);

    #[inline(always)]
    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    #[inline(always)]
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    /// Returns the quantities of both.
    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[inline(always)]
    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether calls are timed.
    #[inline(always)]
    pub(crate) const fn times(self) -> bool {
        self.0 & !(Self::IN_FLIGHT.0 | Self::FAILURES.0 | Self::LIMIT.0) != 0
    }
}

/// The quantities that the backends of a fleet measure, and how. Grows with what doors and settings need.
#[derive(Debug)]
pub(crate) struct Metering {
    measures: AtomicU32,
    /// The decays, as [`Decay::bits`], so that no sample computes them.
    peak: AtomicU32,
    mean: AtomicU32,
    failures: AtomicU32,
    /// The penalty of a failure, in nanoseconds.
    penalty: AtomicU64,
}

/// How the estimates of a backend follow its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Smoothing {
    /// The time constant.
    pub(crate) over: Duration,
    /// The least sample for a failed call.
    pub(crate) penalty: Duration,
}

impl Default for Metering {
    fn default() -> Self {
        Self {
            measures: AtomicU32::new(0),
            peak: AtomicU32::new(Decay::NONE.bits()),
            mean: AtomicU32::new(Decay::NONE.bits()),
            failures: AtomicU32::new(Decay::INSTANT.bits()),
            penalty: AtomicU64::new(0),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Metering {
    /// Adds quantities to measure. Returns whether any is new.
    pub(crate) fn add(&self, measures: Measures) -> bool {
        self.measures.fetch_or(measures.0, Ordering::Relaxed) & measures.0 != measures.0
    }

    /// Sets how the peak follows its samples. Of several doors, the shortest time constant and the longest penalty
    /// count.
    pub(crate) fn smooth_peak(&self, Smoothing { over, penalty }: Smoothing) {
        self.peak.fetch_max(Decay::over(over).bits(), Ordering::Relaxed);
        self.penalty.fetch_max(nanos(penalty), Ordering::Relaxed);
    }

    /// Sets how the mean follows its samples, in the same way.
    pub(crate) fn smooth_mean(&self, Smoothing { over, penalty }: Smoothing) {
        self.mean.fetch_max(Decay::over(over).bits(), Ordering::Relaxed);
        self.penalty.fetch_max(nanos(penalty), Ordering::Relaxed);
    }

    /// Sets for how long a failure counts. Of several doors, the longest time counts.
    pub(crate) fn remember_failures(&self, time: Duration) {
        self.failures.fetch_min(Decay::over(time).bits(), Ordering::Relaxed);
    }

    pub(crate) fn measures(&self) -> Measures {
        Measures(self.measures.load(Ordering::Relaxed))
    }

    fn decay(&self, bits: &AtomicU32) -> Decay {
        Decay::from_bits(bits.load(Ordering::Relaxed))
    }
}

/// How the time of a call to its first byte became known. One per call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sample {
    /// The first byte was received.
    FirstByte,
    /// The call was cancelled before it. So it would have taken at least as long.
    Cancelled,
    /// The call failed before it, perhaps with a time before which it must not be repeated.
    Failed { retry_after: Option<Duration> },
    /// The call failed after its first byte. This follows `FirstByte`.
    BodyFailed,
}

/// The load of one backend. On a cache line of its own, since all threads write to it.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Load {
    in_flight: AtomicU32,
    /// The bits of an `f32`.
    capacity: AtomicU32,
    /// The failures that are not forgotten yet.
    failures: Estimate,
    peak: Estimate,
    mean: Estimate,
    /// Made for the first attempt of a failover that measures.
    latency: OnceLock<Box<LatencyWindow>>,
}

impl Load {
    pub(crate) fn new(capacity: f32) -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            capacity: AtomicU32::new(capacity.to_bits()),
            failures: Estimate::default(),
            peak: Estimate::default(),
            mean: Estimate::default(),
            latency: OnceLock::new(),
        }
    }

    /// Returns how long the attempts of failovers took lately, if they are measured.
    #[inline]
    pub(crate) fn latency(&self) -> Option<&LatencyWindow> {
        self.latency.get().map(|latency| &**latency)
    }

    /// The same; made by these settings if there is none.
    #[inline]
    pub(crate) fn measured(&self, settings: LatencySettings) -> &LatencyWindow {
        self.latency.get_or_init(|| Box::new(LatencyWindow::new(settings)))
    }

    /// Returns the weight of the backend times its share, which strategies divide its load by.
    #[inline]
    pub(crate) fn capacity(&self) -> f32 {
        f32::from_bits(self.capacity.load(Ordering::Relaxed))
    }

    /// Sets the capacity. It is a copy on the line that strategies read.
    pub(crate) fn set_capacity(&self, capacity: f32) {
        self.capacity.store(capacity.to_bits(), Ordering::Relaxed);
    }

    /// Returns the number of calls in flight of those that were counted.
    #[inline]
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Returns whether fewer than `limit` calls are in flight. Sequentially consistent; see [`end`](Self::end).
    #[inline]
    pub(crate) fn is_below(&self, limit: u32) -> bool {
        self.in_flight.load(Ordering::SeqCst) < limit
    }

    /// Counts a call that begins.
    #[inline]
    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call that begins, if fewer than `limit` are in flight. Returns whether it was counted.
    #[inline]
    pub(crate) fn begin_below(&self, limit: u32) -> bool {
        let one_more = |calls: u32| (calls < limit).then(|| calls + 1);
        self.in_flight.fetch_update(Ordering::SeqCst, Ordering::Relaxed, one_more).is_ok()
    }

    /// Counts the end of a call that was counted. Returns the number with it.
    ///
    /// Sequentially consistent, like the reads of a task before it waits for a slot: one of both notices the other.
    #[inline]
    pub(crate) fn end(&self) -> u32 {
        self.in_flight.fetch_sub(1, Ordering::SeqCst)
    }

    /// Returns whether there was a failure that still counts.
    #[inline]
    pub(crate) fn has_failed(&self) -> bool {
        self.failures.has_samples()
    }

    /// Returns the number of failures that still count.
    pub(crate) fn failures(&self, now: Moment, decay: Decay) -> f32 {
        self.failures.counted(now, decay)
    }

    /// Returns the last peak in nanoseconds. `None` before the first sample.
    #[inline]
    pub(crate) fn last_peak(&self) -> Option<f32> {
        self.peak.last()
    }

    /// Returns the last peak in nanoseconds, and the part of it that is left now. `None` before the first sample.
    #[inline]
    pub(crate) fn peak(&self, now: Moment, decay: Decay) -> Option<(f32, f32)> {
        self.peak.read(now, decay)
    }

    /// Returns how long the calls of a backend without a sample have taken at least, in nanoseconds.
    pub(crate) fn peak_bound(&self, now: Moment, decay: Decay) -> f32 {
        self.peak.bound(now, decay)
    }

    /// Returns the mean in nanoseconds, and the part of its weight that is left now. `None` before the first sample.
    #[inline]
    pub(crate) fn mean(&self, now: Moment, decay: Decay) -> Option<(f32, f32)> {
        self.mean.read(now, decay)
    }

    /// Adds the sample of a call that took this long.
    #[inline]
    pub(crate) fn sample(&self, measures: Measures, sample: Sample, took: Duration, now: Moment, metering: &Metering) {
        if measures.has(Measures::FAILURES) && matches!(sample, Sample::Failed { .. } | Sample::BodyFailed) {
            self.failures.count(now, metering.decay(&metering.failures));
        }
        let penalty = |named: Option<Duration>, took: Duration| {
            let least = Duration::from_nanos(metering.penalty.load(Ordering::Relaxed));
            least.max(took).max(named.unwrap_or_default())
        };
        if measures.has(Measures::PEAK) {
            let decay = metering.decay(&metering.peak);
            match sample {
                Sample::FirstByte => self.peak.peak(took, now, decay),
                Sample::Cancelled => self.peak.at_least(took, now, decay),
                Sample::Failed { retry_after } => self.peak.penalize(penalty(retry_after, took), now, decay),
                Sample::BodyFailed => self.peak.penalize(penalty(None, took), now, decay),
            }
        }
        if measures.has(Measures::MEAN) {
            let decay = metering.decay(&metering.mean);
            match sample {
                Sample::FirstByte => self.mean.mean(took, now, decay),
                Sample::Cancelled => self.mean.at_least(took, now, decay),
                Sample::Failed { retry_after } => self.mean.penalize(penalty(retry_after, took), now, decay),
                Sample::BodyFailed => self.mean.penalize(penalty(None, took), now, decay),
            }
        }
    }
}
