//! What goes back and forth with each call: admission, ticket, verdict.

use crate::time::Moment;
use std::time::Duration;

use super::{
    permits::Permit,
    state::{State, Transition, Word},
};

/// Proof of an admission, to be handed to [`Circuit::record`](super::Circuit::record) once, and once more where a body
/// amends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an admission that is not recorded keeps its permit until that times out"]
pub(crate) struct Ticket {
    /// That of the admission: its generation is the one in which the outcome counts.
    pub(super) word: Word,
    pub(super) permit: Option<Permit>,
    pub(super) started: Moment,
}

impl Ticket {
    /// Of a call that the circuit did not admit, and whose outcome is nothing to it: no generation is this one.
    pub(crate) const VOID: Self = Self { word: Word(u64::MAX), permit: None, started: Moment::EPOCH };

    /// Starts the call's clock anew, for callers that wait between admission and call.
    ///
    /// Without effect unless [`Circuit::needs_clock`](super::Circuit::needs_clock).
    pub(crate) fn started_at(mut self, now: Moment) -> Self {
        self.started = now;
        self
    }

    /// Whether it is a probe's: one of few, at a time.
    #[inline]
    pub(crate) fn is_probe(&self) -> bool {
        self.permit.is_some()
    }
}

/// Whether a call is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Admission {
    /// It is; here is its ticket, and the transition to half-open when this call brought it about.
    Admitted(Ticket, Option<Transition>),
    /// It is not.
    Rejected {
        /// Why not: open, half-open with all permits taken, or forced open.
        state: State,
        /// After how long a call may be admitted: exact while open; while half-open the latest, for a probe may come
        /// back before it times out; unknown while forced open.
        retry_after: Option<Duration>,
    },
}

/// What a call says about its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It did its work.
    Success,
    /// It did not.
    Failure,
    /// Nothing: cancelled, or never sent. Returns the permit, counts nothing.
    Neutral,
    /// Nothing: the call was cancelled. Neutral, unless it was slow already.
    GivenUp,
    /// The body failed after the call was recorded as a success: counts in place of that.
    BodyFailed,
    /// The body ended well after the call was recorded as a success.
    BodyEnded,
}
