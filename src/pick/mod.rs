//! Strategies, which select one of the eligible backends for a request.
//!
//! | strategy | order | cost of a pick |
//! |---|---|---|
//! | [`RoundRobin`] | A, B, C, A … | one counter |
//! | [`Shuffle`] | every backend once in random order, then again | one counter, some arithmetic |
//! | [`Weighted`] | smooth weighted round robin: 3, 2, 1 gives `abacba` | one counter, one table look-up |
//! | [`Primary`] | always the first | nothing |
//! | [`LeastLoaded`] | the fewest calls in flight by weight, of all of a few or of two | one shared counter per backend |
//! | [`PeakEwma`] | the lowest expected latency, of all of a few or of five | the same, and three readings of the clock |
//! | [`Latency`] | the lowest time to the first byte | the same |
//! | [`Hash`](struct@Hash) | the backend of the request's key | a hash of the key; one of each name, or a table look-up |
//!
//! The counters of the first three are kept per thread: the order is exact among the requests that one thread sends
//! through a door and its clones, and up to 64 threads never write to the same cache line.
//!
//! [`LeastLoaded`], [`PeakEwma`] and [`Latency`] measure: calls in flight up to the end of the body, and the time to the
//! first byte, which over HTTP is the first frame of the body with data. A fleet measures only
//! [what a strategy needs](Needs). None of them takes a backend that fails fast for a fast one. For advice on which to
//! choose see `docs/strategies.md`.
//!
//! A [`Strategy`] holds the settings. It makes a [`Pick`] for each set of candidates, which continues from the one
//! before and is called once per request:
//!
//! ```text
//!  the set or its weights changed ─► Strategy::make ─► Pick ──┐
//!                       request ─► Candidates, PickContext ───┴─► Pick::pick ─► number of a candidate
//! ```
//!
//! # When not to use it
//!
//! Of the request, a strategy sees its key only. To send some requests to some of the backends only, use a fleet per
//! group of backends, and a router such as `tower::steer` in front of their doors.
//!
//! # Examples
//!
//! [`BalanceLayer::weighted`](crate::BalanceLayer::weighted) uses [`Weighted`], and
//! [`FailoverLayer`](crate::FailoverLayer) uses [`Primary`] by default. Set another strategy by its type, or by its name
//! at run time. The latter costs one indirect call per request:
//!
//! ```
//! # use tower_fleet::{BalanceLayer, RoundRobin, pick::{AnyStrategy, StrategyName}};
//! let layer = BalanceLayer::new(RoundRobin::new());
//! let name: StrategyName = "round_robin".parse()?;
//! let layer = BalanceLayer::new(AnyStrategy::try_from(name)?);
//! # Ok::<_, tower_fleet::InvalidSetting>(())
//! ```
//!
//! A custom strategy is a closure in [`pick_fn`], or an implementation of [`Strategy`]:
//!
//! ```
//! # use tower_fleet::{BalanceLayer, pick::pick_fn};
//! // Power of two choices: of two random candidates, the one with fewer calls in flight.
//! let layer = BalanceLayer::new(pick_fn(|candidates, cx| {
//!     let (a, b) = (cx.random_below(candidates.len()), cx.random_below(candidates.len()));
//!     if candidates[b].in_flight() < candidates[a].in_flight() { b } else { a }
//! }));
//! ```

mod choices;
mod context;
mod custom;
mod hash;
mod latency;
mod least_loaded;
mod needs;
mod peak_ewma;
mod primary;
mod rotation;
mod round_robin;
mod shuffle;
mod strategy;
mod weighted;

use std::any::Any;

pub(crate) use self::context::{Prefix, SKIP_NONE, Skip, Skipped};
pub use self::{
    context::PickContext,
    custom::{PickFn, pick_fn},
    hash::{Hash, HashPick},
    latency::{Latency, LatencyPick},
    least_loaded::{LeastLoaded, LeastLoadedPick},
    needs::Needs,
    peak_ewma::{PeakEwma, PeakEwmaPick},
    primary::Primary,
    round_robin::{RoundRobin, RoundRobinPick},
    shuffle::{Shuffle, ShufflePick},
    strategy::{AnyPick, AnyStrategy, StrategyName},
    weighted::{Weighted, WeightedPick},
};
#[cfg(feature = "http")]
pub use crate::key::{Head, Peer};
pub use crate::{
    fleet::{Candidate, Candidates},
    key::{KeySource, hash_key},
};

/// A way to select one of several eligible backends: the settings, from which a [`Pick`] is made.
///
/// A closure is enough for a strategy without state between requests: see [`pick_fn`].
pub trait Strategy: Clone + Send + Sync + 'static {
    /// The pick for one set of candidates.
    type Pick: Pick;

    /// Returns what the strategy needs to know. Called once for each door. Default [`Needs::NOTHING`].
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    /// Returns where the key of a request is, which a pick gets as [`PickContext::key`]. Default `None`: the strategy
    /// needs none.
    ///
    /// A door whose strategy needs a key selects the backend in `call`, and is always ready.
    fn key(&self) -> Option<&KeySource> {
        None
    }

    /// Makes the pick for a set of candidates, which all have the same priority.
    ///
    /// Called by the first request after a change of the set, its weights or its shares, once for all clones of a door.
    /// `before` is the last pick and the candidates that it was made for, so that the new pick can continue from it.
    /// Reuse what is expensive to compute and depends on the [whole tier](Candidates::tier) only, since that changes
    /// more rarely.
    ///
    /// The other requests of the door wait until it returns, so it must not send a request through the same door.
    ///
    /// # Panics
    ///
    /// A panic is caught and logged. The requests of the door are then sent to random candidates until the next change.
    fn make(&self, candidates: &Candidates<'_>, before: Option<(&Self::Pick, &Candidates<'_>)>) -> Self::Pick;
}

/// Selects a backend from one set of candidates, for each request.
///
/// Concurrent requests call it at the same time, so it should keep its state in atomics rather than behind a lock.
pub trait Pick: Any + Send + Sync {
    /// Returns the number of the candidate for the next request.
    ///
    /// `candidates` are those that the pick was made for, at least one. If the number is out of range, a candidate is
    /// selected at random.
    ///
    /// # Panics
    ///
    /// A panic is passed to the caller of the request.
    fn pick(&self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize;

    /// Returns whether the request may probe the circuit of the backend at this place of the [tier](Candidates::tier),
    /// which is not eligible. Default `true`.
    ///
    /// Called only if the strategy needs a [key](Strategy::key).
    fn may_probe(&self, place: usize, cx: &PickContext<'_>) -> bool {
        let _ = (place, cx);
        true
    }
}

#[cfg(test)]
mod tests;
