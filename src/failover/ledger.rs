use std::{fmt, slice, time::Duration};

use crate::{
    body::Unreplayable,
    name::{BackendId, BackendName},
    outcome::Outcome,
};

/// What happened to one request: who was tried, in which order, why it was left, and who served.
///
/// In the extensions of a response, and in every error of a failover.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub(super) lines: Lines,
    /// The line whose response was passed through, although it had tripped.
    pub(super) passed_through: Option<usize>,
    pub(super) stopped: Option<Stopped>,
}

/// The lines of a ledger: the first without an allocation, since most requests have no other.
#[derive(Clone, Debug, Default)]
pub(super) enum Lines {
    #[default]
    None,
    One(Attempted),
    Many(Vec<Attempted>),
}

impl Lines {
    pub(super) fn as_slice(&self) -> &[Attempted] {
        match self {
            Self::None => &[],
            Self::One(line) => slice::from_ref(line),
            Self::Many(lines) => lines,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Attempted] {
        match self {
            Self::None => &mut [],
            Self::One(line) => slice::from_mut(line),
            Self::Many(lines) => lines,
        }
    }

    pub(super) fn push(&mut self, line: Attempted) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(line),
            Self::One(first) => Self::Many(vec![first, line]),
            Self::Many(mut lines) => {
                lines.push(line);
                Self::Many(lines)
            }
        };
    }
}

/// One attempt.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempted {
    /// Who was tried.
    pub backend: BackendName,
    /// What it came to.
    pub ending: Ending,
    /// How long it took, from the moment the backend was ready; zero when it never was.
    pub took: Duration,
    /// Which backend of that name.
    pub(super) id: BackendId,
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// Its answer, response or error, went to the caller.
    Served,
    /// Its answer was not good enough.
    #[non_exhaustive]
    Tripped {
        /// The name of the trigger that said so.
        trigger: &'static str,
        /// What it said it of.
        outcome: Outcome,
    },
    /// The backend would not get ready, so that it was not called.
    #[non_exhaustive]
    NotReady {
        /// What it said.
        outcome: Outcome,
    },
    /// It was broken off on our side, for no fault of the backend: it fell behind in a body that is too large to be kept
    /// for it, say.
    #[non_exhaustive]
    BrokenOff {
        /// What the error said.
        outcome: Outcome,
    },
    /// It was dropped: another was first, or time was up.
    Dropped,
}

/// Why no further attempt was made, when there was a backend left to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// The request cannot be sent again.
    Unreplayable(Unreplayable),
    /// Its method is not idempotent, and the backend may have begun to work on it.
    NotIdempotent,
    /// The retry budget is used up.
    OverBudget,
    /// No time was left.
    OutOfTime,
}

impl Ledger {
    /// The attempts, in the order they were begun.
    pub fn attempts(&self) -> &[Attempted] {
        self.lines.as_slice()
    }

    pub(super) fn took(&mut self, line: usize, took: Duration) {
        self.lines.as_mut_slice()[line].took = took;
    }

    pub(super) fn end(&mut self, line: usize, ending: Ending) {
        self.lines.as_mut_slice()[line].ending = ending;
    }

    /// Who gave the answer. When all failed it is the one whose response was passed through, which then has
    /// [tripped](Ending::Tripped) too.
    pub fn served(&self) -> Option<&BackendName> {
        let served = self.attempts().iter().find(|attempt| attempt.ending == Ending::Served);
        let passed_through = || self.attempts().get(self.passed_through?);
        served.or_else(passed_through).map(|attempt| &attempt.backend)
    }

    /// Why nobody else was tried, if somebody might have been.
    pub fn stopped(&self) -> Option<Stopped> {
        self.stopped
    }

    /// The last failure that moved the request on.
    pub fn last_failure(&self) -> Option<Outcome> {
        self.attempts().iter().rev().find_map(|attempt| match attempt.ending {
            Ending::Tripped { outcome, .. } | Ending::NotReady { outcome } => Some(outcome),
            Ending::Served | Ending::BrokenOff { .. } | Ending::Dropped => None,
        })
    }
}

/// `` `openai`: status 429, retry after 30s (112ms); `azure`: timeout (5s); `spare` served (80ms) ``
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Attempted { backend, ending, took, .. }) in self.attempts().iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "; " })?;
            match ending {
                Ending::Served => write!(f, "`{backend}` served ({took:.1?})")?,
                Ending::Tripped { outcome, .. } => write!(f, "`{backend}`: {outcome} ({took:.1?})")?,
                Ending::NotReady { outcome } => write!(f, "`{backend}` not ready: {outcome}")?,
                Ending::BrokenOff { .. } => write!(f, "`{backend}` broken off ({took:.1?})")?,
                Ending::Dropped => write!(f, "`{backend}` dropped ({took:.1?})")?,
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
            Self::OverBudget => f.write_str("not sent again: over the retry budget"),
            Self::OutOfTime => f.write_str("not sent again: out of time"),
        }
    }
}
