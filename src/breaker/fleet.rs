use super::CircuitBreakerLayer;
use crate::fleet::FleetBuilder;

impl<S, C> FleetBuilder<S, C> {
    /// Gives each backend, those that are inserted later too, a circuit of its own, and the fleet the classifier of the
    /// layer. A backend whose circuit is open is not eligible, so that no door picks it; when its time is up a request
    /// probes it.
    ///
    /// [`CircuitBreakerLayer::waiting`], [`CircuitBreakerLayer::separate`] and [`CircuitBreakerLayer::name`] mean nothing
    /// here. A bad value of the layer is an error of [`build`](Self::build).
    pub fn circuit_breaker<D>(self, layer: CircuitBreakerLayer<D>) -> FleetBuilder<S, D> {
        self.circuits(layer.policy(), layer.into_classifier())
    }
}
