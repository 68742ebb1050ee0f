//! The least loaded of several backends.

use super::{Candidates, Needs, Pick, PickContext, Strategy, choices::Choices};
use crate::setting::InvalidSetting;

/// Selects the candidate with the fewest calls in flight, by weight; of several, one at random.
///
/// A set of up to 8 candidates is compared whole. Of a larger one, two are drawn at random and compared ("the power of
/// two choices", Mitzenmacher 1996). With weights, calls in flight count per unit of weight, as in Envoy's
/// `LEAST_REQUEST` with its default bias.
///
/// A call is in flight up to the end of its body. **A failed call counts for about a second longer**, so that a backend
/// that fails fast does not look idle and gets no more than its share.
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
}

impl Default for LeastLoaded {
    fn default() -> Self {
        Self { choices: Choices { scan: 8, draw: 2 } }
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
        Ok(Self { choices: self.choices.drawing(number)? })
    }

    /// Sets up to which number of candidates all are compared, at most 256. Default 8. A pick costs time in proportion.
    ///
    /// # Errors
    ///
    /// A larger number.
    pub fn scan(self, number: usize) -> Result<Self, InvalidSetting> {
        Ok(Self { choices: self.choices.scanning(number)? })
    }
}

impl Strategy for LeastLoaded {
    type Pick = Self;

    fn needs(&self) -> Needs {
        Needs::NOTHING.in_flight().shares()
    }

    fn make(&self, _: &Candidates<'_>, _: Option<(&Self, &Candidates<'_>)>) -> Self {
        *self
    }
}

impl Pick for LeastLoaded {
    #[inline]
    fn pick(&self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize {
        let compared = self.choices.compared(candidates, cx);
        compared.least(candidates, cx, |number, cx| {
            let load = candidates[number].0.load();
            let failed = if load.has_failed() { load.failures(cx.moment()) } else { 0.0 };
            (load.in_flight() as f32 + failed + 1.0) / load.capacity()
        })
    }
}
