//! One function per event: the only place that knows how events are told.

use std::fmt;

/// A fleet has changed.
pub(crate) fn fleet_changed(change: &dyn fmt::Debug) {
    tracing::info!(target: "tower_fleet", ?change, "fleet changed");
}

/// Discovery found a backend that the fleet does not take.
pub(crate) fn discovered_backend_refused(refused: &dyn fmt::Display) {
    tracing::warn!(target: "tower_fleet", error = %refused, "discovered backend left out");
}

/// A circuit went from one state to another.
pub(crate) fn circuit_moved(backend: &str, from: &dyn fmt::Debug, to: &dyn fmt::Debug) {
    tracing::info!(target: "tower_fleet", backend, ?from, ?to, "circuit moved");
}

/// A strategy panicked while it was made for a changed set.
pub(crate) fn strategy_panicked(fleet: &str) {
    tracing::error!(target: "tower_fleet", fleet, "strategy panicked; backends are chosen by chance until the next change");
}
