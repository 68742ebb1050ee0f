//! The state of one search between its polls: the pending instances, and the backends that are not ready.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use super::{
    ready::{Pending, Ready, Refusal},
    scan::Scan,
    wait::Wakeups,
};
use crate::{foreign, name::BackendId, pick::Skip, time::Moment};

/// How long a backend that failed to become ready is not polled again by the same request or door.
pub(super) const REFUSED_FOR: Duration = Duration::from_secs(1);

/// The state of one search between its polls.
pub(super) struct SearchState<S, C> {
    pub(super) scan: Scan,
    /// The backends that were polled: each is pending, or failed to become ready.
    pub(super) polled: Skip,
    /// Those in `polled` that were not eligible when it was their turn. The next scan considers them again.
    pub(super) ineligible: Vec<BackendId>,
    /// Those in `polled` that were full. The next scan considers them again.
    pub(super) full: Vec<BackendId>,
    /// Those in `polled` that failed to become ready, in order.
    refused: VecDeque<(Moment, BackendId)>,
    pub(super) pending: VecDeque<Pending<S, C>>,
    /// Not yet reported.
    pub(super) refusals: Vec<Refusal>,
    /// For a fleet that is too large for one poll.
    pub(super) wakeups: Option<Arc<Wakeups>>,
    /// Whether the scan took more than one poll, so that a wake-up may have been missed.
    pub(super) is_split: bool,
}

/// The result of one poll of a search.
pub(super) enum Scanned<S, C> {
    Ready(Ready<S, C>),
    /// No instance is ready.
    Nothing,
    /// There is more to poll, in the next poll of the task.
    Unfinished,
}

impl<S, C> Default for SearchState<S, C> {
    fn default() -> Self {
        Self {
            scan: Scan::new(),
            polled: Skip::default(),
            ineligible: Vec::new(),
            full: Vec::new(),
            refused: VecDeque::new(),
            pending: VecDeque::new(),
            refusals: Vec::new(),
            wakeups: None,
            is_split: false,
        }
    }
}

/// Drops the pending instances one by one. A panic in a destructor must not cost a response.
impl<S, C> Drop for SearchState<S, C> {
    fn drop(&mut self) {
        foreign::discard(mem::take(&mut self.pending));
    }
}

impl<S, C> SearchState<S, C>
where
    S: Clone + Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether an instance of this backend is pending.
    pub(super) fn has_pending(&self, id: BackendId) -> bool {
        self.pending.iter().any(|pending| pending.id == id)
    }

    /// Whether a backend was full.
    pub(super) fn has_full(&self) -> bool {
        self.scan.has_full
    }

    /// Returns whether this backend was polled, so that the search is done with it.
    pub(super) fn has_polled(&self, id: BackendId) -> bool {
        self.polled.contains(id) && !self.ineligible.contains(&id)
    }

    /// Goes on for another attempt of the same request.
    pub(super) fn go_on(&mut self) {
        if self.scan.has_full { self.scan.reset() } else { self.scan.go_on() }
    }

    /// Scans all backends again with the next poll.
    pub(super) fn scan_again(&mut self) {
        self.scan.reset();
    }

    /// Excludes a backend that has just failed to become ready.
    pub(super) fn exclude(&mut self, refusal: Refusal) {
        self.polled.insert(refusal.id);
        self.refused.push_back((refusal.at, refusal.id));
        self.refusals.push(refusal);
    }

    /// Considers the backends again that failed to become ready some time ago.
    pub(super) fn forgive(&mut self, now: Moment) {
        while let Some((at, id)) = self.refused.front().copied()
            && now.reached(at.after(REFUSED_FOR))
        {
            self.refused.pop_front();
            self.polled.remove(id);
            self.scan.reset();
        }
    }

    /// Returns when the next backend is considered again.
    pub(super) fn forgives_at(&self) -> Option<Moment> {
        self.refused.front().map(|(at, _)| at.after(REFUSED_FOR))
    }

    /// Drops the pending instances: no task waits for them any more.
    pub(super) fn drop_pending(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        self.pending.iter().for_each(|pending| self.polled.remove(pending.id));
        foreign::discard(mem::take(&mut self.pending));
        self.scan.reset();
    }
}
