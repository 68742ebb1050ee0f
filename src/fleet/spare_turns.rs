//! When a request of the serving tier probes a circuit of a lower one.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::time::Moment;

/// The turns in which a request of the serving tier is sent to a backend of a lower tier, to probe its circuit. Rare
/// enough for few callers to notice, and frequent enough for a spare to be back before it is needed.
#[derive(Debug, Default)]
pub(super) struct SpareTurns {
    /// The moment of the next one, in nanoseconds.
    next: AtomicU64,
}

impl SpareTurns {
    /// Returns whether there is a turn now.
    pub(super) fn is_next(&self, now: Moment) -> bool {
        now.reached(Moment::from_nanos(self.next.load(Ordering::Relaxed)))
    }

    /// Takes the turn. Returns false if there is none, or if another request has taken it.
    pub(super) fn take(&self, now: Moment) -> bool {
        let next = now.after(INTERVAL).as_nanos();
        let take = |turn| now.reached(Moment::from_nanos(turn)).then_some(next);
        self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

const INTERVAL: Duration = Duration::from_millis(100);
