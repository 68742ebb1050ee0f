//! How one of the eligible backends is chosen.
//!
//! A strategy is a value that implements [`Pick`]. It is made anew whenever the set it chooses from changes, and then
//! asked once per request; what takes long belongs to the first, what happens often to the second.
//!
//! | strategy | order | a choice costs |
//! |---|---|---|
//! | [`RoundRobin`] | A, B, C, A … | one counter |
//! | [`Shuffle`] | every backend once, in random order, then again | one counter, some arithmetic |
//! | [`Weighted`] | smooth weighted round robin: 3, 2, 1 gives `abacba` | one counter, one table look-up |
//! | [`Primary`] | always the first | nothing |
//!
//! Chosen by type it costs what its code costs; chosen by name at run time, [`Strategy`] and [`AnyPick`] add one branch.
//! A strategy of your own is a closure in [`pick_fn`], or an implementation of [`Pick`]:
//!
//! ```
//! # use tower_fleet::{BalanceLayer, pick::pick_fn};
//! // Two choices at random, the less busy one wins.
//! let layer = BalanceLayer::new(pick_fn(|candidates, rng| {
//!     let (a, b) = (rng.below(candidates.len()), rng.below(candidates.len()));
//!     if candidates[b].in_flight() < candidates[a].in_flight() { b } else { a }
//! }));
//! ```

mod custom;
mod desk;
mod primary;
mod round_robin;
mod shuffle;
mod strategy;
mod weighted;

pub(crate) use self::desk::{DEALT, Desk, Plan, Source};
pub use self::{
    custom::{PickFn, pick_fn},
    primary::Primary,
    round_robin::RoundRobin,
    shuffle::Shuffle,
    strategy::{AnyPick, Strategy, UnknownStrategy, UnsupportedStrategy},
    weighted::Weighted,
};
pub use crate::{fleet::Candidate, rng::Rng};

/// A way to choose one of several eligible backends.
///
/// One value chooses among one set of candidates, for all requests at once: what it remembers is shared, and kept
/// without a lock.
pub trait Pick: Send + Sync + 'static {
    /// The strategy for the candidates `now`, going on where this one, which chose among `before`, has come to.
    ///
    /// Called once per change, with candidates that all have the same priority. `before` is empty for the first set;
    /// both are when a door is made, to begin a value of its own.
    ///
    /// The fleet is locked meanwhile: this may take a moment, and must not ask the fleet for anything.
    fn renew(&self, before: &[Candidate], now: &[Candidate]) -> Self
    where
        Self: Sized;

    /// The index of the backend for the next request. `candidates` are those it was made for.
    ///
    /// An index beyond the candidates leaves the choice to chance.
    fn pick(&self, candidates: &[Candidate], rng: &mut Rng) -> usize;
}

#[cfg(test)]
mod tests;
