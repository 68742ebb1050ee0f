use tower_layer::Layer;

use super::Balance;
use crate::{
    fleet::Fleet,
    pick::{AnyStrategy, RoundRobin, Shuffle, Strategy, StrategyName, Weighted},
};

/// Puts a [`Balance`] on a [`Fleet`].
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is given a fleet"]
pub struct BalanceLayer<P = RoundRobin> {
    strategy: P,
}

impl BalanceLayer {
    /// One after the other.
    pub fn round_robin() -> Self {
        Self::new(RoundRobin)
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
        Self::new(Weighted)
    }
}

impl BalanceLayer<AnyStrategy> {
    /// A strategy that is chosen at run time. `failover` and `weighted_failover` name the first choice here; it is a
    /// [`FailoverLayer`](crate::FailoverLayer) that goes on to other backends.
    pub fn named(strategy: StrategyName) -> Self {
        Self::new(strategy.into())
    }
}

impl<P: Strategy> BalanceLayer<P> {
    /// A strategy of your own. Every door this layer makes has its own rotation; the clones of a door share it.
    pub fn new(strategy: P) -> Self {
        Self { strategy }
    }
}

impl<S, C, P> Layer<Fleet<S, C>> for BalanceLayer<P>
where
    S: Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
    P: Strategy,
{
    type Service = Balance<S, P, C>;

    fn layer(&self, fleet: Fleet<S, C>) -> Balance<S, P, C> {
        Balance::new(&fleet, self.strategy.clone())
    }
}
