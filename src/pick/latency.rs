//! The backend that lately answered first.

use std::time::Duration;

use super::{
    Candidates, Needs, Pick, PickContext, Strategy,
    choices::{Choices, in_range},
    needs::{FAILURE_PENALTY, checked_time},
};
use crate::{health::Decay, setting::InvalidSetting};

/// Selects the candidate with the lowest mean time to its first byte: for streams of tokens, and for backends whose
/// speed does not depend on how many requests they get from here.
///
/// Candidates within a tenth of the lowest time are equals: of those, the one with the fewest calls in flight by weight
/// is selected. One with more than its share of the load is [passed over](Self::load_bound). One that is slower than the
/// [threshold](Self::threshold) is selected only if no other is left, whatever the load of those. A failed call counts as one of at least a
/// [second](Self::failure_penalty).
///
/// A candidate without a recent sample is tried: with one call at a time, and with at most a
/// [share](Self::exploration) of the requests. So a backend that was slow is found to be fast again.
///
/// A set of up to 32 candidates is compared whole; of a larger one, eight are drawn at random.
///
/// ```
/// # use std::time::Duration;
/// # use tower_fleet::{BalanceLayer, pick::Latency};
/// let layer = BalanceLayer::new(Latency::new().threshold(Duration::from_millis(500))?);
/// # let _ = layer;
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
///
/// To share the load among servers that get slower with it, use [`PeakEwma`](super::PeakEwma).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    threshold: Duration,
    over: Duration,
    exploration: f32,
    load_bound: f32,
    penalty: Duration,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            threshold: Duration::from_secs(2),
            // Some calls of a backend that gets one each second.
            over: Duration::from_secs(10),
            exploration: 0.05,
            // With more, the fastest backend is overloaded before its mean shows it.
            load_bound: 1.25,
            penalty: FAILURE_PENALTY,
        }
    }
}

impl Latency {
    /// Creates the strategy with its defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the time to the first byte above which a backend is used only if no other is left, from 1 ms to a day.
    /// Default 2 s.
    ///
    /// # Errors
    ///
    /// Another time.
    pub fn threshold(self, time: Duration) -> Result<Self, InvalidSetting> {
        Ok(Self { threshold: checked_time("latency", "threshold", time)?, ..self })
    }

    /// Sets the time constant of the mean, from 1 ms to a day. Default 10 s. After three times as long without a sample,
    /// a backend is tried again.
    ///
    /// # Errors
    ///
    /// Another time.
    pub fn time_constant(self, time: Duration) -> Result<Self, InvalidSetting> {
        Ok(Self { over: checked_time("latency", "time_constant", time)?, ..self })
    }

    /// Sets the largest share of the requests that try backends without a recent sample, from 0 to 1. Default 0.05.
    ///
    /// # Errors
    ///
    /// Another share, or NaN.
    pub fn exploration(self, share: f32) -> Result<Self, InvalidSetting> {
        let exploration = in_range("latency", "exploration", share, 0.0..=1.0, "must be a share from 0 to 1")?;
        Ok(Self { exploration, ..self })
    }

    /// Sets the least time that a failed call counts as, from 1 ms to a day. Default 1 s.
    ///
    /// # Errors
    ///
    /// Another time.
    pub fn failure_penalty(self, penalty: Duration) -> Result<Self, InvalidSetting> {
        Ok(Self { penalty: checked_time("latency", "failure_penalty", penalty)?, ..self })
    }

    /// Sets how many calls in flight a backend may have: this many times the average by weight, from 1 to 1000. Default
    /// 1.25. At its bound, it is passed over for the next fastest one.
    ///
    /// The mean of a backend shows an overload only after it has begun. Without a bound, all requests would move from one
    /// backend to the next. Set a higher one for backends whose latency does not depend on the load.
    ///
    /// # Errors
    ///
    /// Another factor, or NaN.
    pub fn load_bound(self, factor: f32) -> Result<Self, InvalidSetting> {
        let load_bound = in_range("latency", "load_bound", factor, 1.0..=1000.0, "must be from 1 to 1000")?;
        Ok(Self { load_bound, ..self })
    }
}

/// The pick of [`Latency`].
#[derive(Clone, Copy, Debug)]
pub struct LatencyPick {
    /// In nanoseconds.
    threshold: f32,
    decay: Decay,
    exploration: f32,
    load_bound: f32,
}

const CHOICES: Choices = Choices { scan: 32, draw: 8 };

/// Times within this factor of the lowest are equal: a mean is not more exact.
const TOLERANCE: f32 = 1.1;

/// The rank of a candidate that is selected if there is no other one, times its calls in flight.
const UNWANTED: f32 = 1e30;

/// A sample is recent while this part of its weight is left: three time constants.
const RECENT: f32 = 0.05;

impl Strategy for Latency {
    type Pick = LatencyPick;

    fn needs(&self) -> Needs {
        Needs::NOTHING.in_flight().latency(self.over, self.penalty).shares()
    }

    fn make(&self, _: &Candidates<'_>, _: Option<(&LatencyPick, &Candidates<'_>)>) -> LatencyPick {
        let threshold = self.threshold.as_nanos() as f32;
        let Self { over, exploration, load_bound, .. } = *self;
        LatencyPick { threshold, decay: Decay::over(over), exploration, load_bound }
    }
}

/// What a pick expects of a candidate.
#[derive(Clone, Copy, PartialEq)]
enum Expected {
    /// This time to the first byte, in nanoseconds.
    Time(f32),
    /// Not known: it has no call in flight and may be tried.
    Untried,
    /// Not known: a call that tries it is in flight.
    BeingTried,
    /// It has as many calls in flight as it may have.
    Full,
    /// Over the threshold, and another candidate is not.
    Slow,
}

impl Pick for LatencyPick {
    fn pick(&self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize {
        let (compared, now) = (CHOICES.compared(candidates, cx), cx.moment());
        let recent = |number: usize| {
            let mean = candidates[number].0.load().mean(now, self.decay);
            mean.and_then(|(time, left)| (left >= RECENT).then_some(time))
        };
        // The calls and the capacity of the slow ones, and of the others.
        let (mut slow, mut others, mut has_fast) = ((0.0, 0.0), (1.0, 0.0), false);
        compared.each(candidates, cx, |number, _| {
            let (load, time) = (candidates[number].0.load(), recent(number));
            let sums = if time.is_some_and(|time| time > self.threshold) { &mut slow } else { &mut others };
            *sums = (sums.0 + load.in_flight() as f32, sums.1 + load.capacity());
            has_fast |= time.is_some_and(|time| time <= self.threshold);
        });
        // While a candidate is fast enough, the slow ones take no part of the load, however much there is.
        let average = if has_fast { others.0 / others.1 } else { (others.0 + slow.0) / (others.1 + slow.1) };
        let bound = self.load_bound * average;
        let expected = |number: usize| {
            let load = candidates[number].0.load();
            match recent(number) {
                Some(time) if has_fast && time > self.threshold => Expected::Slow,
                _ if load.in_flight() as f32 >= (bound * load.capacity()).ceil() => Expected::Full,
                Some(time) => Expected::Time(time),
                _ if load.in_flight() == 0 => Expected::Untried,
                _ => Expected::BeingTried,
            }
        };
        let (mut lowest, mut has_untried) = (f32::INFINITY, false);
        compared.each(candidates, cx, |number, _| match expected(number) {
            Expected::Time(time) => lowest = lowest.min(time),
            Expected::Untried => has_untried = true,
            Expected::BeingTried | Expected::Full | Expected::Slow => {}
        });
        let explores = has_untried && (lowest == f32::INFINITY || cx.random_share() < self.exploration);
        // If even the fastest one is too slow, it is the best all the same.
        let equal_to = if lowest > self.threshold { lowest } else { (lowest * TOLERANCE).min(self.threshold) };
        compared.least(candidates, cx, |number, _| {
            let load = candidates[number].0.load();
            let calls = (load.in_flight() as f32 + 1.0) / load.capacity();
            // Between 0 and 1, so that it decides among equals only.
            let within = calls / (1.0 + calls) * 0.99;
            match expected(number) {
                Expected::Untried if explores => within,
                Expected::Time(time) if time <= equal_to => 1.0 + within,
                Expected::Time(time) => 2.0 + time,
                Expected::Untried | Expected::BeingTried | Expected::Full => UNWANTED * calls,
                Expected::Slow => f32::INFINITY,
            }
        })
    }
}
