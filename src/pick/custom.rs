//! A strategy made from a closure.

use std::fmt;

use super::{Candidates, Pick, PickContext, Strategy};

/// Makes a strategy from a closure.
///
/// The closure receives the candidates, of which there is at least one, and returns the number of one of them, as
/// [`Pick::pick`] does. It must not select a candidate that [`PickContext::skips`].
///
/// ```
/// # use tower_fleet::{BalanceLayer, pick::pick_fn};
/// // The candidate with the fewest calls in flight.
/// let layer = BalanceLayer::new(pick_fn(|candidates, cx| {
///     let eligible = (0..candidates.len()).filter(|number| !cx.skips(&candidates[*number]));
///     eligible.min_by_key(|number| candidates[*number].in_flight()).unwrap_or(0)
/// }));
/// ```
pub fn pick_fn<F>(choose: F) -> PickFn<F>
where
    F: Fn(&Candidates<'_>, &mut PickContext<'_>) -> usize + Clone + Send + Sync + 'static,
{
    PickFn(choose)
}

/// A strategy made from a closure by [`pick_fn`].
#[derive(Clone)]
pub struct PickFn<F>(F);

impl<F> Strategy for PickFn<F>
where
    F: Fn(&Candidates<'_>, &mut PickContext<'_>) -> usize + Clone + Send + Sync + 'static,
{
    type Pick = Self;

    fn make(&self, _: &Candidates<'_>, _: Option<(&Self, &Candidates<'_>)>) -> Self {
        self.clone()
    }
}

impl<F> Pick for PickFn<F>
where
    F: Fn(&Candidates<'_>, &mut PickContext<'_>) -> usize + Send + Sync + 'static,
{
    fn pick(&self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize {
        (self.0)(candidates, cx)
    }
}

impl<F> fmt::Debug for PickFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PickFn").field(&std::any::type_name::<F>()).finish()
    }
}
