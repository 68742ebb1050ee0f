//! What the gateway counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tower_fleet::failover::{Ending, Ledger};

/// Counts since the start.
#[derive(Default)]
pub(crate) struct Tally {
    failovers: AtomicU64,
}

impl Tally {
    /// Counts a request with a response of a backend.
    pub(crate) fn answered(&self, ledger: &Ledger) {
        // Another backend served: a hedge that lost does not count, nor does a failure that was passed on.
        if ledger.attempts().iter().skip(1).any(|attempt| attempt.ending == Ending::Served) {
            self.failovers.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn failovers(&self) -> u64 {
        self.failovers.load(Relaxed)
    }
}
