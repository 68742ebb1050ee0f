//! The admission of a call, its ticket and its result.

use std::time::Duration;

use super::{
    permits::Permit,
    state::{CircuitState, Transition, Word},
};
use crate::time::Moment;

/// Proof that a circuit admitted a call.
///
/// It is passed to [`Circuit::record`](super::Circuit::record) with the result of the call, and once more if the end of
/// the body amends that result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a probe that is not recorded keeps its permit until that times out"]
pub(crate) struct Ticket {
    /// The word at the admission. The result counts only in the same generation.
    pub(super) word: Word,
    /// The permit of a probe.
    pub(super) permit: Option<Permit>,
    pub(super) started: Moment,
}

impl Ticket {
    /// The ticket of a call that no circuit admitted. Its generation never occurs, so its result is ignored.
    pub(crate) const VOID: Self = Self { word: Word(u64::MAX), permit: None, started: Moment::EPOCH };

    /// Sets the start of the call to `now`, for a caller that waits between admission and call.
    ///
    /// Has no effect unless [`Circuit::needs_clock`](super::Circuit::needs_clock).
    pub(crate) fn started_at(mut self, now: Moment) -> Self {
        self.started = now;
        self
    }

    /// Moves the start of the call to later, by a time in which it did not wait for the backend.
    pub(crate) fn delayed(mut self, by: Duration) -> Self {
        self.started = self.started.after(by);
        self
    }

    /// Whether the start of the call is set.
    #[inline]
    pub(crate) fn is_timed(&self) -> bool {
        self.started != Moment::EPOCH
    }

    /// Returns the time since the start of the call.
    #[inline]
    pub(crate) fn elapsed(&self, now: Moment) -> Duration {
        now.since(self.started)
    }

    /// Whether the call is a probe, which holds a permit.
    #[inline]
    pub(crate) fn is_probe(&self) -> bool {
        self.permit.is_some()
    }
}

/// Whether a circuit admits a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Admission {
    /// The call may be made. The transition is set if this call moved the circuit to half-open.
    Admitted(Ticket, Option<Transition>),
    /// The call must not be made.
    Rejected {
        /// The state that rejects: open, half-open with all permits taken, or forced open.
        state: CircuitState,
        /// The time until a call may be admitted. Exact while open. An upper bound while half-open, since a permit may
        /// be released before it times out. `None` while forced open.
        retry_after: Option<Duration>,
    },
}

/// The result of a call, as its circuit counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallResult {
    /// The backend did its work.
    Success,
    /// The backend, or the way to it, failed.
    Failure,
    /// The call counts neither for nor against the backend, or was never sent. Releases the permit and counts nothing.
    Neutral,
    /// The call was cancelled. Neutral unless it was already slow; then it counts as slow.
    GivenUp,
    /// The body failed after the call was recorded as a success. Counts in place of that success.
    BodyFailed,
    /// The body ended well after the call was recorded as a success.
    BodyEnded,
}
