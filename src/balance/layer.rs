//! The layer of a balancer, and its strategy.

use tower_layer::Layer;

use super::Balance;
use crate::{
    fleet::IsFleet,
    pick::{AnyStrategy, LeastLoaded, PeakEwma, RoundRobin, Shuffle, Strategy, StrategyName, Weighted},
    setting::InvalidSetting,
};

/// A [`Layer`] that puts a [`Balance`] on a [`Fleet`](crate::Fleet).
///
/// Each balancer that it makes has a rotation of its own. Clones of a balancer share its rotation.
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is given a fleet"]
pub struct BalanceLayer<P = RoundRobin> {
    strategy: P,
}

impl BalanceLayer {
    /// Selects one backend after the other.
    pub fn round_robin() -> Self {
        Self::new(RoundRobin)
    }
}

impl BalanceLayer<Shuffle> {
    /// Selects every backend once in random order, then again in another order.
    pub fn shuffle() -> Self {
        Self::new(Shuffle::new())
    }
}

impl BalanceLayer<Weighted> {
    /// Selects backends in proportion to their weights, evenly spread.
    pub fn weighted() -> Self {
        Self::new(Weighted)
    }
}

impl BalanceLayer<LeastLoaded> {
    /// Selects the backend with the fewest calls in flight by weight, of all of a few or of two.
    pub fn least_loaded() -> Self {
        Self::new(LeastLoaded::new())
    }
}

impl BalanceLayer<PeakEwma> {
    /// Selects the backend with the lowest expected latency: the decaying peak of its time to the first byte, times its
    /// calls in flight.
    pub fn peak_ewma() -> Self {
        Self::new(PeakEwma::new())
    }
}

impl BalanceLayer<AnyStrategy> {
    /// Selects backends with a strategy whose name is known at run time only.
    ///
    /// The names `failover` and `weighted_failover` select the first backend only. To send a failed request to another
    /// one, use a [`FailoverLayer`](crate::FailoverLayer).
    ///
    /// # Errors
    ///
    /// The name is [`StrategyName::Hash`], which needs a key: use [`new`](Self::new) with a [`Hash`](crate::pick::Hash).
    pub fn named(strategy: StrategyName) -> Result<Self, InvalidSetting> {
        AnyStrategy::try_from(strategy).map(Self::new).map_err(|error| InvalidSetting::in_part("balance", error))
    }
}

impl<P: Strategy> BalanceLayer<P> {
    /// Selects backends with any [`Strategy`], such as one of your own.
    pub fn new(strategy: P) -> Self {
        Self { strategy }
    }
}

impl<F: IsFleet, P: Strategy> Layer<F> for BalanceLayer<P> {
    type Service = Balance<F::Service, P, F::Classifier>;

    fn layer(&self, fleet: F) -> Self::Service {
        Balance::new(fleet.as_fleet(), self.strategy.clone())
    }
}
