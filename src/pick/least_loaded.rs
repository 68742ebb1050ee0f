//! The least loaded of several backends.

use std::time::Duration;

use super::{
    Candidates, Needs, Pick, PickContext, Strategy,
    choices::Choices,
    needs::{FAILURE_PENALTY, checked_time},
};
use crate::{health::Decay, setting::InvalidSetting};

/// Selects the candidate with the fewest calls in flight, by weight; of several, one at random.
///
/// A set of up to 8 candidates is compared whole. Of a larger one, two are drawn at random and compared ("the power of
/// two choices", Mitzenmacher 1996). With weights, calls in flight count per unit of weight, as in Envoy's
/// `LEAST_REQUEST` with its default bias.
///
/// A call is in flight up to the end of its body. **A failed call counts [longer](Self::failure_penalty)**, so that a
/// backend that fails fast does not look idle and gets no more than its share.
///
/// ```
/// # use tower_fleet::{BalanceLayer, pick::LeastLoaded};
/// let layer = BalanceLayer::new(LeastLoaded::new().choices(3)?);
/// # let _ = layer;
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeastLoaded {
    choices: Choices,
    penalty: Duration,
}

impl Default for LeastLoaded {
    fn default() -> Self {
        Self { choices: Choices { scan: 8, draw: 2 }, penalty: FAILURE_PENALTY }
    }
}

impl LeastLoaded {
    /// Creates the strategy with its defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many candidates are drawn at random from a set that is too large to be compared whole, from 2 to 16.
    /// Default 2.
    ///
    /// # Errors
    ///
    /// Another number.
    pub fn choices(self, number: usize) -> Result<Self, InvalidSetting> {
        Ok(Self { choices: self.choices.drawing("least loaded", number)?, ..self })
    }

    /// Sets up to which number of candidates all are compared, at most 256. Default 8. A pick costs time in proportion.
    ///
    /// # Errors
    ///
    /// A larger number.
    pub fn scan(self, number: usize) -> Result<Self, InvalidSetting> {
        Ok(Self { choices: self.choices.scanning("least loaded", number)?, ..self })
    }

    /// Sets for how long a failed call counts as a call in flight, from 1 ms to a day. Default 1 s: set it to more than
    /// a call usually takes, if that is longer.
    ///
    /// # Errors
    ///
    /// Another time.
    pub fn failure_penalty(self, time: Duration) -> Result<Self, InvalidSetting> {
        Ok(Self { penalty: checked_time("least loaded", "failure_penalty", time)?, ..self })
    }
}

impl Strategy for LeastLoaded {
    type Pick = LeastLoadedPick;

    fn needs(&self) -> Needs {
        Needs::NOTHING.in_flight().failures(self.penalty).shares()
    }

    fn make(&self, _: &Candidates<'_>, _: Option<(&LeastLoadedPick, &Candidates<'_>)>) -> LeastLoadedPick {
        LeastLoadedPick { choices: self.choices, decay: Decay::over(self.penalty) }
    }
}

/// The pick of [`LeastLoaded`].
#[derive(Clone, Copy, Debug)]
pub struct LeastLoadedPick {
    choices: Choices,
    decay: Decay,
}

impl Pick for LeastLoadedPick {
    #[inline]
    fn pick(&self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize {
        let compared = self.choices.compared(candidates, cx);
        compared.least(candidates, cx, |number, cx| {
            let load = candidates[number].0.load();
            let failed = if load.has_failed() { load.failures(cx.moment(), self.decay) } else { 0.0 };
            (load.in_flight() as f32 + failed + 1.0) / load.capacity()
        })
    }
}
