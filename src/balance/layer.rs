use tower_layer::Layer;

use super::Balance;
use crate::{
    fleet::Fleet,
    pick::{AnyPick, Pick, RoundRobin, Shuffle, Strategy, UnsupportedStrategy, Weighted},
};

/// Puts a [`Balance`] on a [`Fleet`].
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is given a fleet"]
pub struct BalanceLayer<P> {
    pick: P,
}

impl BalanceLayer<RoundRobin> {
    /// One after the other.
    pub fn round_robin() -> Self {
        Self::new(RoundRobin::new())
    }
}

impl BalanceLayer<Shuffle> {
    /// Every backend once in random order, then again.
    pub fn shuffle() -> Self {
        Self::new(Shuffle::new())
    }
}

impl BalanceLayer<Weighted> {
    /// In proportion to the weights, evenly spread.
    pub fn weighted() -> Self {
        Self::new(Weighted::new())
    }
}

impl BalanceLayer<AnyPick> {
    /// A strategy that is chosen at run time. `failover` and `weighted_failover` name the first choice here; who goes on
    /// to others is a [`FailoverLayer`](crate::FailoverLayer).
    pub fn named(strategy: Strategy) -> Result<Self, UnsupportedStrategy> {
        Ok(Self::new(AnyPick::try_from(strategy)?))
    }
}

impl<P: Pick> BalanceLayer<P> {
    /// A strategy of your own. Every door this layer makes has its own rotation; the clones of a door share it.
    pub fn new(pick: P) -> Self {
        Self { pick }
    }
}

impl<S: Send + Sync + 'static, R, P: Pick> Layer<Fleet<S, R>> for BalanceLayer<P> {
    type Service = Balance<S, P>;

    fn layer(&self, fleet: Fleet<S, R>) -> Balance<S, P> {
        Balance::new(&fleet, self.pick.renew(&[], &[]))
    }
}
