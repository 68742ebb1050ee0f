use std::fmt;

use super::{Candidates, Pick, PickContext, Strategy};

/// A strategy made of a closure.
///
/// It gets the candidates, never none of them, and a context, and returns the number of one of them.
pub fn pick_fn<F>(choose: F) -> PickFn<F>
where
    F: Fn(&Candidates<'_>, &mut PickContext<'_>) -> usize + Clone + Send + Sync + 'static,
{
    PickFn(choose)
}

/// See [`pick_fn`].
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
