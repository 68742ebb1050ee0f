//! What an edit of a fleet published, and which tasks it concerns.

use super::{changes::Change, feed::Wakeup};
use crate::telemetry;

/// The tasks that an edit concerns, of those that wait for a backend.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wakes {
    /// Another set of backends is eligible, or they are in other tiers.
    pub(super) all: bool,
    /// This many tasks may each send a probe, or have to note an earlier deadline.
    pub(super) some: usize,
}

/// What an edit published, to be passed on when the lock is released.
pub(super) struct Published {
    pub(super) changes: Vec<Change>,
    pub(super) wakeups: Vec<Wakeup<Change>>,
}

/// Reports a change to the subscriber of `tracing`.
pub(super) fn report(change: &Change) {
    match change {
        Change::Circuit(name, transition) => telemetry::circuit_changed(name, &transition.from, &transition.to),
        Change::Outlier(name, change) => telemetry::outlier_changed(name, change),
        // The prober reports it, with the reason.
        Change::Probe(..) => {}
        change => telemetry::fleet_changed(change),
    }
}
