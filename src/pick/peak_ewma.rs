//! The backend with the lowest expected latency.

use std::time::Duration;

use super::{
    Candidates, Needs, Pick, PickContext, Strategy,
    choices::{Choices, Compared, in_range},
    needs::{FAILURE_PENALTY, checked_time},
};
use crate::{health::Decay, setting::InvalidSetting, time::Moment};

/// Selects the candidate with the lowest expected latency: the decaying peak of its time to the first byte, times its
/// calls in flight by weight.
///
/// The best choice for replicas that get slower with their load, and of which some are slow for a while. A set of up to
/// 20 candidates is compared whole; of a larger one, five are drawn at random.
///
/// - A slower sample raises the peak at once. It falls with the time, also while there is no sample: two thirds of the
///   difference in the [time constant](Self::time_constant). It does not fall below the fastest backend compared, so an
///   idle backend is tried again, and is not flooded.
/// - **A failure is no fast answer.** It counts as at least the [penalty](Self::failure_penalty), as its `Retry-After`,
///   or as four times the present estimate, whichever is longest.
/// - **A cancelled call took at least as long** as it ran, so a backend that loses to hedges is not taken for a fast one.
/// - A newcomer starts at the median of the backends that it is compared with. It gets one request until its first
///   sample. If that is cancelled, the newcomer counts as at least as slow as it ran.
///
/// ```
/// # use std::time::Duration;
/// # use tower_fleet::{BalanceLayer, pick::PeakEwma};
/// let layer = BalanceLayer::new(PeakEwma::new().time_constant(Duration::from_secs(10))?);
/// # let _ = layer;
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
///
/// # Where it is from
///
/// Peak EWMA is Finagle's, and that of `tower::load` and linkerd, which draw two candidates. The penalty of a failure is
/// after linkerd's load biaser. The number of choices, the constants and the floor of the decay were chosen by the
/// simulation in `benches/sim`; `docs/strategies.md` shows its results.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakEwma {
    choices: Choices,
    over: Duration,
    exponent: f32,
    penalty: Duration,
}

impl Default for PeakEwma {
    fn default() -> Self {
        Self {
            choices: Choices { scan: 20, draw: 5 },
            // Short enough for servers that are slow for seconds, long enough for services with few requests.
            over: Duration::from_secs(5),
            exponent: 1.0,
            penalty: FAILURE_PENALTY,
        }
    }
}

impl PeakEwma {
    /// Creates the strategy with its defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many candidates are drawn at random from a set that is too large to be compared whole, from 2 to 16.
    /// Default 5.
    ///
    /// # Errors
    ///
    /// Another number.
    pub fn choices(self, number: usize) -> Result<Self, InvalidSetting> {
        Ok(Self { choices: self.choices.drawing("peak ewma", number)?, ..self })
    }

    /// Sets up to which number of candidates all are compared, at most 256. Default 20. A pick costs time in proportion.
    ///
    /// # Errors
    ///
    /// A larger number.
    pub fn scan(self, number: usize) -> Result<Self, InvalidSetting> {
        Ok(Self { choices: self.choices.scanning("peak ewma", number)?, ..self })
    }

    /// Sets the time in which a peak loses two thirds of its value, from 1 ms to a day. Default 5 s. Set a
    /// longer one if there are seconds between requests.
    ///
    /// # Errors
    ///
    /// Another time.
    pub fn time_constant(self, time: Duration) -> Result<Self, InvalidSetting> {
        Ok(Self { over: checked_time("peak ewma", "time_constant", time)?, ..self })
    }

    /// Sets the power to which the calls in flight are raised, from 0 to 4. Default 1. With 2, a backend with twice the
    /// calls in flight has to be four times as fast.
    ///
    /// # Errors
    ///
    /// Another exponent, or NaN.
    pub fn exponent(self, exponent: f32) -> Result<Self, InvalidSetting> {
        let exponent = in_range("peak ewma", "exponent", exponent, 0.0..=4.0, "must be from 0 to 4")?;
        Ok(Self { exponent, ..self })
    }

    /// Sets the least latency that a failed call counts as, from 1 ms to a day. Default 1 s.
    ///
    /// # Errors
    ///
    /// Another time.
    pub fn failure_penalty(self, penalty: Duration) -> Result<Self, InvalidSetting> {
        Ok(Self { penalty: checked_time("peak ewma", "failure_penalty", penalty)?, ..self })
    }
}

/// The pick of [`PeakEwma`].
#[derive(Clone, Copy, Debug)]
pub struct PeakEwmaPick {
    choices: Choices,
    decay: Decay,
    exponent: f32,
}

impl Strategy for PeakEwma {
    type Pick = PeakEwmaPick;

    fn needs(&self) -> Needs {
        Needs::NOTHING.in_flight().peak(self.over, self.penalty).shares()
    }

    fn make(&self, _: &Candidates<'_>, _: Option<(&PeakEwmaPick, &Candidates<'_>)>) -> PeakEwmaPick {
        PeakEwmaPick { choices: self.choices, decay: Decay::over(self.over), exponent: self.exponent }
    }
}

impl Pick for PeakEwmaPick {
    #[inline]
    fn pick(&self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize {
        let (compared, now) = (self.choices.compared(candidates, cx), cx.moment());
        // No backend is expected to be faster than the fastest one that was measured: an estimate decays to that, and
        // not to zero.
        let (mut fastest, mut has_newcomer) = (f32::INFINITY, false);
        compared.each(candidates, cx, |number, _| match candidates[number].0.load().last_peak() {
            Some(peak) => fastest = fastest.min(peak),
            None => has_newcomer = true,
        });
        let newcomer = if has_newcomer { self.median(&compared, candidates, cx, now) } else { BUSY_NEWCOMER };
        compared.least(candidates, cx, |number, _| {
            let load = candidates[number].0.load();
            let calls = load.in_flight();
            let expected = match load.peak(now, self.decay) {
                Some((peak, left)) => (peak * left).max(fastest),
                None if calls > 0 => BUSY_NEWCOMER,
                None => newcomer.max(load.peak_bound(now, self.decay)),
            };
            expected * self.raised((calls as f32 + 1.0) / load.capacity())
        })
    }
}

/// The expected latency of a newcomer with a call in flight: no further one is sent before its first sample, while there
/// is another backend.
const BUSY_NEWCOMER: f32 = 1e24;

impl PeakEwmaPick {
    #[inline]
    fn raised(&self, calls: f32) -> f32 {
        if self.exponent == 1.0 { calls } else { calls.powf(self.exponent) }
    }

    /// The median of the estimates, which a newcomer starts with; of two, the lower one. With the higher one, a newcomer
    /// beside a slow backend would get no request while the fast one is idle.
    #[cold]
    fn median(&self, compared: &Compared, candidates: &Candidates<'_>, cx: &mut PickContext<'_>, now: Moment) -> f32 {
        let (mut estimates, mut len) = ([0.0; 32], 0);
        compared.each(candidates, cx, |number, _| {
            if let Some((value, left)) = candidates[number].0.load().peak(now, self.decay)
                && len < estimates.len()
            {
                estimates[len] = value * left;
                len += 1;
            }
        });
        let estimates = &mut estimates[..len];
        estimates.sort_unstable_by(f32::total_cmp);
        estimates.get(len.saturating_sub(1) / 2).copied().unwrap_or(1.0)
    }
}
