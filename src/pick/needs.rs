//! What a strategy needs to know of the backends.

use std::{fmt, time::Duration};

use crate::{
    health::{Measures, Metering, Smoothing},
    setting::InvalidSetting,
};

/// What a strategy needs to know of the backends and of the request. A fleet measures what the strategy of some door
/// needs, and nothing else.
///
/// Returned by [`Strategy::needs`](super::Strategy::needs):
///
/// ```
/// # use std::time::Duration;
/// use tower_fleet::pick::Needs;
///
/// let needs = Needs::NOTHING.in_flight().latency(Duration::from_secs(10), Duration::from_secs(1)).shares();
/// # let _ = needs;
/// ```
#[derive(Clone, Copy, PartialEq)]
#[must_use]
pub struct Needs {
    measures: Measures,
    peak: Option<Smoothing>,
    mean: Option<Smoothing>,
    failures: Option<Duration>,
    honours_shares: bool,
}

/// The least latency that a failed call counts as. Long beside most calls, and short enough that a backend is tried
/// again within seconds.
pub(super) const FAILURE_PENALTY: Duration = Duration::from_secs(1);

impl Needs {
    /// Nothing is measured.
    pub const NOTHING: Self =
        Self { measures: Measures::NOTHING, peak: None, mean: None, failures: None, honours_shares: false };

    /// The calls in flight, as [`Candidate::load`](super::Candidate::load).
    ///
    /// Written by all threads, in one number per backend.
    pub const fn in_flight(mut self) -> Self {
        self.measures = self.measures.or(Measures::IN_FLIGHT);
        self
    }

    /// The decaying peak of the time to the first byte, as [`Candidate::peak`](super::Candidate::peak), which loses two
    /// thirds of its value in `time`. A failed call counts as one of at least `penalty`.
    ///
    /// All doors of a fleet share one peak per backend, with the shortest `time`; and one penalty with the
    /// [mean](Self::latency), the longest. A fleet goes on measuring when the door is dropped.
    pub const fn peak(mut self, time: Duration, penalty: Duration) -> Self {
        self.measures = self.measures.or(Measures::PEAK);
        self.peak = Some(Smoothing { over: time, penalty });
        self
    }

    /// The mean time to the first byte over the last `time`, as [`Candidate::latency`](super::Candidate::latency). A
    /// failed call counts as one of at least `penalty`.
    ///
    /// All doors of a fleet share one mean per backend, with the shortest `time`; and one penalty with the
    /// [peak](Self::peak), the longest.
    pub const fn latency(mut self, time: Duration, penalty: Duration) -> Self {
        self.measures = self.measures.or(Measures::MEAN);
        self.mean = Some(Smoothing { over: time, penalty });
        self
    }

    /// The failures of about the last `time`, which [`LeastLoaded`](super::LeastLoaded) counts as calls in flight.
    pub(super) const fn failures(mut self, time: Duration) -> Self {
        self.measures = self.measures.or(Measures::FAILURES);
        self.failures = Some(time);
        self
    }

    /// The strategy honours [`Candidate::share`](super::Candidate::share) by itself. Without it, the door passes over a
    /// selected backend with the probability that its share leaves.
    pub const fn shares(mut self) -> Self {
        self.honours_shares = true;
        self
    }

    pub(crate) fn honours_shares(self) -> bool {
        self.honours_shares
    }

    pub(crate) fn measures(self) -> Measures {
        self.measures
    }

    /// Sets how the backends measure.
    pub(crate) fn apply(self, metering: &Metering) {
        if let Some(peak) = self.peak {
            metering.smooth_peak(peak);
        }
        if let Some(time) = self.failures {
            metering.remember_failures(time);
        }
        if let Some(mean) = self.mean {
            metering.smooth_mean(mean);
        }
    }
}

impl fmt::Debug for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Needs").field("measures", &self.measures).finish_non_exhaustive()
    }
}

/// Checks a time of a strategy.
pub(super) fn checked_time(
    strategy: &'static str,
    field: &'static str,
    time: Duration,
) -> Result<Duration, InvalidSetting> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    match (Duration::from_millis(1)..=DAY).contains(&time) {
        true => Ok(time),
        false => Err(InvalidSetting::of(strategy, field, format_args!("{time:?}"), "must be from 1 ms to a day")),
    }
}
