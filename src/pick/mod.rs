//! How one of the eligible backends is chosen.
//!
//! A [`Strategy`] holds the settings. For each set of candidates it makes a [`Pick`], going on from the one before, and
//! that is asked once per request; what takes long belongs to the first, what happens often to the second.
//!
//! | strategy | order | a choice costs |
//! |---|---|---|
//! | [`RoundRobin`] | A, B, C, A … | one counter |
//! | [`Shuffle`] | every backend once, in random order, then again | one counter, some arithmetic |
//! | [`Weighted`] | smooth weighted round robin: 3, 2, 1 gives `abacba` | one counter, one table look-up |
//! | [`Primary`] | always the first | nothing |
//!
//! Counters are kept per thread: the order is exact for what one thread sends through a door and its clones, and up to
//! 64 threads never write to the same memory.
//!
//! Chosen by type a strategy costs what its code costs; chosen by name at run time, [`StrategyName`] and [`AnyStrategy`]
//! add one indirect call. A strategy of your own is a closure in [`pick_fn`], or an implementation of [`Strategy`]:
//!
//! ```
//! # use tower_fleet::{BalanceLayer, pick::pick_fn};
//! // Two choices at random, the less busy one wins.
//! let layer = BalanceLayer::new(pick_fn(|candidates, cx| {
//!     let (a, b) = (cx.rng().below(candidates.len()), cx.rng().below(candidates.len()));
//!     if candidates[b].in_flight() < candidates[a].in_flight() { b } else { a }
//! }));
//! ```

mod context;
mod custom;
mod primary;
mod rotation;
mod round_robin;
mod shuffle;
mod strategy;
mod weighted;

use std::any::Any;

pub(crate) use self::context::{SKIP_NONE, Skip};
pub use self::{
    context::PickContext,
    custom::{PickFn, pick_fn},
    primary::Primary,
    round_robin::{RoundRobin, RoundRobinPick},
    shuffle::{Shuffle, ShufflePick},
    strategy::{AnyPick, AnyStrategy, StrategyName, UnknownStrategy},
    weighted::{Weighted, WeightedPick},
};
pub use crate::{
    fleet::{Candidate, Candidates},
    rng::Rng,
};

/// A way to choose one of several eligible backends: its settings.
pub trait Strategy: Clone + Send + Sync + 'static {
    /// What chooses among one set of candidates.
    type Pick: Pick;

    /// Makes the pick for a set of candidates, which all have the same priority, going on where the one `before` has come
    /// to with the candidates that it was made for.
    ///
    /// Called by the first request after a change of the set or of its weights, once for all clones of a door. What takes
    /// long to compute and depends on the [whole tier](Candidates::tier) only is taken over from the one before. When
    /// this panics, the requests of its door go to random backends until the next change.
    fn make(&self, candidates: &Candidates<'_>, before: Option<(&Self::Pick, &Candidates<'_>)>) -> Self::Pick;
}

/// Chooses among one set of candidates, for all requests at once: what it remembers is shared, and kept without a lock.
pub trait Pick: Any + Send + Sync {
    /// The number of the candidate for the next request. `candidates` are those it was made for, never none.
    ///
    /// A number beyond the candidates leaves the choice to chance.
    fn pick(&self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize;
}

#[cfg(test)]
mod tests;
