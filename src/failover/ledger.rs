//! The record of the attempts of one request.

use std::{fmt, slice, time::Duration};

use tokio::time::Instant;

use crate::{
    body::Unreplayable,
    name::{BackendId, BackendName},
    outcome::{Note, Outcome},
};

/// The record of one request: which backends were attempted, in which order, how each attempt ended, and which backend
/// served.
///
/// A [`Failover`](super::Failover) puts it into the extensions of every HTTP response and into every
/// [`Error`](super::Error). Formatted with `Display`, it is one line for a log:
///
/// ```text
/// `openai`: status 429, retry after 30s (112.0ms); `azure`: timeout (5.0s); `spare` served (80.0ms)
/// ```
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub(super) entries: Entries,
    /// The entry whose response was passed through although it had tripped.
    pub(super) passed_through: Option<usize>,
    pub(super) stopped: Option<Stopped>,
    /// When the time of the request is up, for the request that goes on when the response body breaks off.
    pub(super) deadline: Option<Instant>,
}

/// The entries of a ledger. Most requests have one entry, which costs no allocation.
#[derive(Clone, Debug, Default)]
pub(super) enum Entries {
    #[default]
    Empty,
    One(Attempted),
    Many(Vec<Attempted>),
}

impl Entries {
    pub(super) fn as_slice(&self) -> &[Attempted] {
        match self {
            Self::Empty => &[],
            Self::One(entry) => slice::from_ref(entry),
            Self::Many(entries) => entries,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Attempted] {
        match self {
            Self::Empty => &mut [],
            Self::One(entry) => slice::from_mut(entry),
            Self::Many(entries) => entries,
        }
    }

    pub(super) fn push(&mut self, entry: Attempted) {
        *self = match std::mem::take(self) {
            Self::Empty => Self::One(entry),
            Self::One(first) => Self::Many(vec![first, entry]),
            Self::Many(mut entries) => {
                entries.push(entry);
                Self::Many(entries)
            }
        };
    }
}

/// One entry of a [`Ledger`]: an attempt at a backend.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempted {
    /// The name of the backend.
    pub backend: BackendName,
    /// How the attempt ended.
    pub ending: Ending,
    /// How long the attempt took, from the moment the backend was ready; zero if it never was.
    pub took: Duration,
    /// What a service in front of the backend noted of the attempt that served: see [`Note`].
    pub note: Option<Note>,
    /// The identity of the backend, since a name may be used again after a removal.
    pub(super) id: BackendId,
    /// The position of the backend in the fleet, by which its row is found.
    pub(super) position: u64,
}

#[cfg(feature = "http")]
impl Attempted {
    /// Whether the request was not sent, since it does not suit the backend.
    pub(super) fn is_unsuitable(&self) -> bool {
        let Ending::Tripped { outcome, .. } = self.ending else { return false };
        outcome.failure().is_some_and(|failure| failure.kind().is_neutral())
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// Its response or error was returned to the caller.
    Served,
    /// It failed, and a trigger fired.
    #[non_exhaustive]
    Tripped {
        /// The name of the trigger.
        trigger: &'static str,
        /// The outcome that fired it.
        outcome: Outcome,
    },
    /// The backend failed to become ready, so it was not called.
    #[non_exhaustive]
    NotReady {
        /// The outcome of its `poll_ready`.
        outcome: Outcome,
    },
    /// It was aborted on our side, without a fault of the backend. For example, it fell behind in reading a request
    /// body that is too large to be kept.
    #[non_exhaustive]
    BrokenOff {
        /// The outcome of its error.
        outcome: Outcome,
    },
    /// It was cancelled: another response was final first, or the time of the request ran out.
    Dropped,
    /// Its response was returned to the caller, and its body failed later. A [resumption](crate::resume) went on from
    /// there, or tried to.
    #[non_exhaustive]
    Cut {
        /// How many bytes of the body the caller has got by then, those of earlier responses included.
        after: u64,
    },
    /// Its response does not go on where the body of an earlier one failed, so it was dropped.
    #[non_exhaustive]
    NotJoined {
        /// Why it does not.
        reason: &'static str,
    },
}

/// Why no further attempt was made although there was a backend to attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// The request cannot be sent again.
    Unreplayable(Unreplayable),
    /// Its method is not idempotent, and a backend may have begun to work on it.
    NotIdempotent,
    /// A backend responded that the request must not be sent again: with a negative or invalid
    /// `grpc-retry-pushback-ms`, or with [`Failure::no_retry`](crate::outcome::Failure::no_retry).
    Pushback,
    /// The retry budget is used up.
    OverBudget,
    /// The time of the request ran out.
    OutOfTime,
    /// The backends that could be attempted again named a later time than the request may wait for: its deadline, or the
    /// [longest wait](super::FailoverBuilder::retry_after_cap).
    RetryAfter,
}

impl Attempted {
    /// Whether its response body broke off.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self.ending, Ending::Cut { .. })
    }
}

impl Ledger {
    /// Returns the attempts, in the order in which they started.
    pub fn attempts(&self) -> &[Attempted] {
        self.entries.as_slice()
    }

    pub(super) fn set_took(&mut self, entry: usize, took: Duration) {
        self.entries.as_mut_slice()[entry].took = took;
    }

    pub(super) fn set_ending(&mut self, entry: usize, ending: Ending) {
        self.entries.as_mut_slice()[entry].ending = ending;
    }

    /// Sets the note of the attempt whose response is returned to the caller.
    #[cfg(feature = "http")]
    pub(super) fn set_note(&mut self, note: Note) {
        let served = self.attempts().iter().position(|attempt| attempt.ending == Ending::Served);
        if let Some(entry) = served.or(self.passed_through) {
            self.entries.as_mut_slice()[entry].note = Some(note);
        }
    }

    /// Returns the backend whose response or error was returned to the caller.
    ///
    /// If every attempt failed and a response was passed through, this is the backend of that response, although its
    /// attempt [tripped](Ending::Tripped).
    pub fn served(&self) -> Option<&BackendName> {
        let served = self.attempts().iter().find(|attempt| attempt.ending == Ending::Served);
        let passed_through = || self.attempts().get(self.passed_through?);
        served.or_else(passed_through).map(|attempt| &attempt.backend)
    }

    /// Records that the body of the response broke off when the caller had this many bytes.
    pub(crate) fn cut(&mut self, after: u64) {
        self.end_served(Ending::Cut { after });
    }

    /// Records why a response does not go on where an earlier one broke off.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only HTTP bodies are resumed"))]
    pub(crate) fn not_joined(&mut self, reason: &'static str) {
        self.end_served(Ending::NotJoined { reason });
    }

    fn end_served(&mut self, ending: Ending) {
        let served = self.attempts().iter().position(|attempt| attempt.ending == Ending::Served);
        if let Some(entry) = served.or(self.passed_through.take()) {
            self.set_ending(entry, ending);
        }
    }

    /// Returns why no further attempt was made; `None` if there was no backend to attempt, or no need.
    pub fn stopped(&self) -> Option<Stopped> {
        self.stopped
    }

    /// Returns the last failure that moved the request on.
    pub fn last_failure(&self) -> Option<Outcome> {
        self.attempts().iter().rev().find_map(|attempt| match attempt.ending {
            Ending::Tripped { outcome, .. } | Ending::NotReady { outcome } => Some(outcome),
            Ending::Served | Ending::BrokenOff { .. } | Ending::Dropped => None,
            Ending::Cut { .. } | Ending::NotJoined { .. } => None,
        })
    }
}

/// One line, an entry after the other: `` `openai`: status 429 (112.0ms); `azure` served (80.0ms) ``.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Attempted { backend, ending, took, note, .. }) in self.attempts().iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "; " })?;
            match ending {
                Ending::Served => write!(f, "`{backend}` served ({took:.1?})")?,
                Ending::Tripped { outcome, .. } => write!(f, "`{backend}`: {outcome} ({took:.1?})")?,
                Ending::NotReady { outcome } => write!(f, "`{backend}` not ready: {outcome}")?,
                Ending::BrokenOff { .. } => write!(f, "`{backend}` broken off ({took:.1?})")?,
                Ending::Dropped => write!(f, "`{backend}` dropped ({took:.1?})")?,
                Ending::Cut { after } => write!(f, "`{backend}` cut after {after} bytes ({took:.1?})")?,
                Ending::NotJoined { reason } => write!(f, "`{backend}` not joined: {reason} ({took:.1?})")?,
            }
            if let Some(note) = note {
                write!(f, ": {note}")?;
            }
        }
        match self.stopped {
            Some(stopped) => write!(f, "; {stopped}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreplayable(reason) => write!(f, "not sent again: {reason}"),
            Self::NotIdempotent => f.write_str("not sent again: not idempotent"),
            Self::Pushback => f.write_str("not sent again: pushback of a backend"),
            Self::OverBudget => f.write_str("not sent again: over the retry budget"),
            Self::OutOfTime => f.write_str("not sent again: out of time"),
            Self::RetryAfter => f.write_str("not sent again: retry-after of a backend is too long"),
        }
    }
}
