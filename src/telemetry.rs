//! The `tracing` events of the crate, one function per event.

use std::{fmt, time::Duration};

/// The backends of a fleet, or the settings of one, changed.
pub(crate) fn fleet_changed(change: &dyn fmt::Debug) {
    tracing::info!(target: "tower_fleet", ?change, "fleet changed");
}

/// The fleet rejected a backend that discovery found.
pub(crate) fn discovered_backend_rejected(error: &dyn fmt::Display) {
    tracing::warn!(target: "tower_fleet", %error, "discovered backend rejected");
}

/// The fleet refused a list of backends that a source yielded.
pub(crate) fn list_refused(error: &dyn fmt::Display) {
    tracing::warn!(target: "tower_fleet", %error, "list of backends refused; the previous one stays");
}

/// A backend rejects what the operator has to mend, such as a key. Once per request, until its circuit opens.
pub(crate) fn rejected(backend: &str, rule: &'static str) {
    tracing::warn!(target: "tower_fleet", backend, rule, "backend rejects requests");
}

/// A backend of a list has the name of one that did not come from the same source.
pub(crate) fn listed_name_taken(backend: &str) {
    tracing::warn!(target: "tower_fleet", backend, "listed backend skipped; its name is taken");
}

/// A lookup of a source failed, wholly or in part; the one before did not.
#[cfg(feature = "dns")]
pub(crate) fn dns_failed(source: &str, error: &(dyn std::error::Error + 'static), endpoints: usize) {
    let cause = error.source().map(tracing::field::display);
    tracing::warn!(
        target: "tower_fleet",
        source,
        %error,
        cause,
        endpoints,
        "DNS lookup failed; the last good endpoints stay"
    );
}

/// A lookup of a source succeeded after failures.
#[cfg(feature = "dns")]
pub(crate) fn dns_recovered(source: &str, failures: u32) {
    tracing::info!(target: "tower_fleet", source, failures, "DNS lookup succeeded again");
}

/// A source has more endpoints than are allowed.
#[cfg(feature = "dns")]
pub(crate) fn dns_answer_cut(source: &str, found: usize, kept: usize) {
    tracing::warn!(target: "tower_fleet", source, found, kept, "too many endpoints in DNS; the surplus is left out");
}

/// The detection of outliers changed the traffic of a backend.
pub(crate) fn outlier_changed(backend: &str, change: &dyn fmt::Debug) {
    tracing::info!(target: "tower_fleet", backend, ?change, "outlier changed");
}

/// The exchange of the replicas is lost. Once per outage.
pub(crate) fn sharing_interrupted(fleet: &str, error: &dyn fmt::Display) {
    tracing::warn!(target: "tower_fleet", fleet, %error, "sharing interrupted; this replica decides alone");
}

/// The exchange of the replicas is back.
pub(crate) fn sharing_resumed(fleet: &str, after: Duration) {
    tracing::info!(target: "tower_fleet", fleet, ?after, "sharing resumed");
}

/// The exchange of the replicas delivered something else than a report. Once.
pub(crate) fn report_garbled(fleet: &str) {
    tracing::warn!(target: "tower_fleet", fleet, "garbled report of a replica ignored; further ones are ignored silently");
}

/// So many probes of a backend in a row failed that it is down.
pub(crate) fn probes_fail(backend: &str, reason: &dyn fmt::Display) {
    tracing::warn!(target: "tower_fleet", backend, %reason, "probes fail");
}

/// So many probes of a backend in a row succeeded that it is up.
pub(crate) fn probes_succeed(backend: &str) {
    tracing::info!(target: "tower_fleet", backend, "probes succeed");
}

/// A circuit changed its state.
pub(crate) fn circuit_changed(backend: &str, from: &dyn fmt::Debug, to: &dyn fmt::Debug) {
    tracing::info!(target: "tower_fleet", backend, ?from, ?to, "circuit changed state");
}

/// The code of a strategy panicked while it made the pick for a changed set.
pub(crate) fn strategy_panicked(fleet: &str) {
    tracing::error!(
        target: "tower_fleet",
        fleet,
        "strategy panicked; backends are selected at random until the next change"
    );
}

/// A response body broke off after so many bytes, and goes on at another backend.
#[cfg(feature = "http")]
pub(crate) fn body_resumed(bytes: u64, ledger: Option<&dyn fmt::Display>) {
    tracing::info!(target: "tower_fleet", bytes, ledger = ledger.map(tracing::field::display), "body resumed");
}

/// A response body broke off after so many bytes, and does not go on.
#[cfg(feature = "http")]
pub(crate) fn body_not_resumed(bytes: u64, reason: &str, ledger: Option<&dyn fmt::Display>) {
    tracing::info!(
        target: "tower_fleet",
        bytes,
        reason,
        ledger = ledger.map(tracing::field::display),
        "body not resumed"
    );
}

/// A changed configuration was applied to its fleet.
#[cfg(feature = "serde")]
pub(crate) fn config_applied(change: &dyn fmt::Debug, needs_restart: &[String]) {
    match needs_restart {
        [] => tracing::info!(target: "tower_fleet", ?change, "configuration applied"),
        keys => tracing::warn!(target: "tower_fleet", ?change, needs_restart = ?keys, "configuration applied in part"),
    }
}

/// A changed configuration was refused, and the fleet stays as it is.
#[cfg(feature = "serde")]
pub(crate) fn config_refused(error: &dyn fmt::Display) {
    tracing::warn!(target: "tower_fleet", %error, "configuration refused");
}

/// A fleet continues from a saved state, with what is known of so many backends.
#[cfg(feature = "file-state")]
pub(crate) fn state_restored(fleet: &str, store: &str, backends: usize) {
    tracing::info!(target: "tower_fleet", fleet, store, backends, "state restored");
}

/// The state of a fleet, or a part of it, was not restored.
#[cfg(feature = "file-state")]
pub(crate) fn state_not_restored(fleet: &str, store: &str, reason: &str) {
    tracing::warn!(target: "tower_fleet", fleet, store, reason, "state not restored");
}

/// The state of a fleet cannot be saved. Reported once until it is saved again.
#[cfg(feature = "file-state")]
pub(crate) fn state_not_saved(fleet: &str, store: &str, error: &dyn fmt::Display) {
    tracing::warn!(target: "tower_fleet", fleet, store, %error, "state not saved");
}

/// The state of a fleet was saved after it could not be.
#[cfg(feature = "file-state")]
pub(crate) fn state_saved_again(fleet: &str, store: &str) {
    tracing::info!(target: "tower_fleet", fleet, store, "state saved again");
}
