//! A search between its polls.

use std::sync::Arc;

use super::{
    ready::{Refusal, Turn, record},
    state::SearchState,
    wait::Wait,
};
use crate::{fleet::Shard, outcome::FailureKind, time::Moment};

/// A search that is under way.
pub(super) struct Underway<S, C> {
    pub(super) state: SearchState<S, C>,
    /// Whether it has found an instance, so that its next poll is for another attempt.
    pub(super) has_found: bool,
    /// When it began.
    pub(super) since: Option<Moment>,
    /// `Some` once all backends were pending.
    pub(super) wait: Option<Wait>,
    /// `Some` once a backend was full, and the search waits for a slot.
    pub(super) turn: Option<Box<Turn>>,
    /// When the search scans the full backends again by itself.
    pub(super) rescans_at: Option<Moment>,
    /// Whether the serving tier was full for as long as the search may wait for it.
    pub(super) overflows: bool,
}

impl<S, C> Default for Underway<S, C> {
    fn default() -> Self {
        Self {
            state: SearchState::default(),
            has_found: false,
            since: None,
            wait: None,
            turn: None,
            rescans_at: None,
            overflows: false,
        }
    }
}

/// While the `poll_ready` of a backend unwinds, records its panic and excludes it from the search. Costs nothing if there
/// is no panic.
pub(super) struct RecordPanic<'a, S, C>
where
    S: Clone + Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    pub(super) shard: &'a Arc<Shard<S, C>>,
    pub(super) underway: &'a mut Option<Box<Underway<S, C>>>,
}

impl<S, C> Drop for RecordPanic<'_, S, C>
where
    S: Clone + Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    #[cold]
    fn drop(&mut self) {
        record(self.shard, &FailureKind::Panic.into());
        self.underway.get_or_insert_default().state.exclude(Refusal::new(self.shard, None));
    }
}
