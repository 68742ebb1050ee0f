//! The state of a source of endpoints.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::error::ResolveError;

/// A handle that shows the state of [`Endpoints`](super::Endpoints) while these are followed. Cheap to clone.
///
/// From [`Endpoints::status`](super::Endpoints::status).
#[derive(Clone, Debug, Default)]
pub struct DnsStatus(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    endpoints: usize,
    answered: Option<Instant>,
    failures: u32,
    error: Option<ResolveError>,
}

impl DnsStatus {
    /// Returns the number of endpoints of the current set, which is that of the last good answer.
    pub fn endpoints(&self) -> usize {
        self.state().endpoints
    }

    /// Returns the time since the last good answer. `None` before the first.
    pub fn age(&self) -> Option<Duration> {
        self.state().answered.map(|answered| answered.elapsed())
    }

    /// Returns the number of lookups since the last complete answer.
    pub fn failures(&self) -> u32 {
        self.state().failures
    }

    /// Returns the error of the last lookup. `None` if its answer was complete.
    pub fn error(&self) -> Option<ResolveError> {
        self.state().error.clone()
    }

    /// Notes an answer, and the error if something is missing in it.
    pub(super) fn answered(&self, endpoints: usize, error: Option<ResolveError>) {
        let mut state = self.state();
        (state.endpoints, state.answered) = (endpoints, Some(Instant::now()));
        state.failures = if error.is_some() { state.failures.saturating_add(1) } else { 0 };
        state.error = error;
    }

    pub(super) fn failed(&self, error: ResolveError) {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        state.error = Some(error);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
