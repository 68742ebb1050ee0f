use std::fmt;

use super::{Candidate, Pick, Rng};

/// A strategy made of a closure.
///
/// It gets the candidates, never none of them, and rng, and returns an index.
pub fn pick_fn<F>(choose: F) -> PickFn<F>
where
    F: Fn(&[Candidate], &mut Rng) -> usize + Clone + Send + Sync + 'static,
{
    PickFn(choose)
}

/// See [`pick_fn`].
#[derive(Clone)]
pub struct PickFn<F>(F);

impl<F> Pick for PickFn<F>
where
    F: Fn(&[Candidate], &mut Rng) -> usize + Clone + Send + Sync + 'static,
{
    fn renew(&self, _: &[Candidate], _: &[Candidate]) -> Self {
        self.clone()
    }

    fn pick(&self, candidates: &[Candidate], rng: &mut Rng) -> usize {
        (self.0)(candidates, rng)
    }
}

impl<F> fmt::Debug for PickFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PickFn").field(&std::any::type_name::<F>()).finish()
    }
}
