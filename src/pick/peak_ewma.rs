//! The backend with the lowest expected latency.

use std::time::Duration;

use super::{
    Candidates, Needs, Pick, PickContext, Strategy,
    choices::{Choices, Compared, in_range},
    needs::{FAILURE_PENALTY, checked_time},
};
use crate::{health::Decay, setting::InvalidSetting, time::Moment};

/// Selects the candidate with the lowest expected latency: the decaying peak of its time to the first byte, times a
/// power of its calls in flight.
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
            over: Duration::from_secs(2),
            exponent: 2.0,
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
        Ok(Self { choices: self.choices.drawing(number)?, ..self })
    }

    /// Sets up to which number of candidates all are compared, at most 256. Default 20. A pick costs time in proportion.
    ///
    /// # Errors
    ///
    /// A larger number.
    pub fn scan(self, number: usize) -> Result<Self, InvalidSetting> {
        Ok(Self { choices: self.choices.scanning(number)?, ..self })
    }

    /// Sets the time in which a peak loses two thirds of its value, from 1 ms to a day. Default 2 s.
    ///
    /// # Errors
    ///
    /// Another time.
    pub fn time_constant(self, time: Duration) -> Result<Self, InvalidSetting> {
        Ok(Self { over: checked_time("time_constant", time)?, ..self })
    }

    /// Sets the power to which the calls in flight are raised, from 0 to 4. Default 2: a backend with twice the calls in
    /// flight has to be four times as fast.
    ///
    /// # Errors
    ///
    /// Another exponent, or NaN.
    pub fn exponent(self, exponent: f32) -> Result<Self, InvalidSetting> {
        let exponent = in_range("exponent", exponent, 0.0..=4.0, "must be from 0 to 4")?;
        Ok(Self { exponent, ..self })
    }

    /// Sets the least latency that a failed call counts as, from 1 ms to a day. Default 1 s.
    ///
    /// # Errors
    ///
    /// Another time.
    pub fn failure_penalty(self, penalty: Duration) -> Result<Self, InvalidSetting> {
        Ok(Self { penalty: checked_time("failure_penalty", penalty)?, ..self })
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
        let (mut best, mut has_newcomer) = (f32::INFINITY, false);
        compared.each(candidates, cx, |number, _| match candidates[number].0.load().peak(now, self.decay) {
            Some((value, _)) => best = best.min(value),
            None => has_newcomer = true,
        });
        let newcomer = if has_newcomer { self.median(&compared, candidates, cx, now) } else { 0.0 };
        compared.least(candidates, cx, |number, _| {
            let load = candidates[number].0.load();
            let expected = match load.peak(now, self.decay) {
                // No backend is expected to be faster than the fastest one that was measured: estimates decay to that,
                // and not to zero.
                Some((value, left)) => (value * left).max(best),
                None if load.in_flight() > 0 => BUSY_NEWCOMER,
                None => newcomer,
            };
            expected * self.raised((load.in_flight() as f32 + 1.0) / load.capacity())
        })
    }
}

/// The expected latency of a newcomer with a call in flight: no further one is sent before its first sample, while there
/// is another backend.
const BUSY_NEWCOMER: f32 = 1e24;

impl PeakEwmaPick {
    #[inline]
    fn raised(&self, calls: f32) -> f32 {
        match self.exponent {
            2.0 => calls * calls,
            1.0 => calls,
            exponent => calls.powf(exponent),
        }
    }

    /// The median of the estimates, which a newcomer starts with.
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
        estimates.get(len / 2).copied().unwrap_or(1.0)
    }
}
