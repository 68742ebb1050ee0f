//! One function per event: the only place that knows how events are told.

use crate::{
    fleet::{Change, InvalidSetting},
    health::Transition,
};

/// A fleet has a new view.
pub(crate) fn fleet_changed(change: &Change) {
    match change {
        Change::Circuit(name, transition) => circuit_moved(name, transition),
        change => tracing::info!(target: "tower_fleet", ?change, "fleet changed"),
    }
}

/// Discovery found a backend that the fleet does not take.
pub(crate) fn discovered_backend_refused(refused: &InvalidSetting) {
    tracing::warn!(target: "tower_fleet", error = %refused, "discovered backend left out");
}

/// A circuit moved.
pub(crate) fn circuit_moved(name: &str, transition: &Transition) {
    tracing::info!(target: "tower_fleet", backend = name, from = ?transition.from, to = ?transition.to, "circuit moved");
}
