//! What is saved of a circuit for the next start of the process.

use std::time::Duration;

use super::{
    super::state::{CircuitState, Transition, Word},
    Circuit,
};
use crate::time::Moment;

/// A circuit as it is saved. Calls that a window counts are not: they are of the last minute, mostly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SavedCircuit {
    /// The openings that lengthen the next one, and for how long the circuit was closed, which makes it forget them.
    Closed {
        openings: u32,
        closed_for: Duration,
    },
    /// The rest of the open time. Of a half-open circuit it is zero: the next start probes again.
    Open {
        openings: u32,
        remaining: Duration,
    },
    ForcedOpen,
    ForcedClosed,
}

impl SavedCircuit {
    /// Returns the circuit as it is after some time without calls.
    pub(crate) fn aged(self, by: Duration) -> Self {
        match self {
            Self::Closed { openings, closed_for } => {
                Self::Closed { openings, closed_for: closed_for.saturating_add(by) }
            }
            Self::Open { openings, remaining } => Self::Open { openings, remaining: remaining.saturating_sub(by) },
            forced => forced,
        }
    }
}

impl Circuit {
    /// Returns what is to be saved. `None` if a new circuit is the same.
    pub(crate) fn saved(&self, now: Moment) -> Option<SavedCircuit> {
        let counters = self.lock();
        let (word, eligible_at) = self.read();
        let openings = counters.openings;
        match word.state() {
            CircuitState::Closed => {
                let closed_for = counters.closed_for(now);
                let counts = counters.decayed_openings(now, self.policy.backoff_reset_after) > 0;
                counts.then_some(SavedCircuit::Closed { openings, closed_for })
            }
            CircuitState::Open => Some(SavedCircuit::Open { openings, remaining: eligible_at.since(now) }),
            CircuitState::HalfOpen => Some(SavedCircuit::Open { openings, remaining: Duration::ZERO }),
            CircuitState::ForcedOpen => Some(SavedCircuit::ForcedOpen),
            CircuitState::ForcedClosed => Some(SavedCircuit::ForcedClosed),
        }
    }

    /// Continues from what was saved, within the present policy. Has no effect after a transition or a reset: what
    /// happened in this process is newer.
    pub(crate) fn restore(&self, saved: SavedCircuit, now: Moment) -> Option<Transition> {
        let mut counters = self.lock();
        if self.word() != Word::FIRST {
            return None;
        }
        match saved {
            SavedCircuit::Closed { openings, closed_for } => {
                (counters.openings, counters.closed_at, counters.closed_before) = (openings, now, closed_for);
                None
            }
            SavedCircuit::Open { openings, remaining } => {
                counters.openings = openings.max(1);
                let remaining = remaining.min(self.policy.longest_open());
                Some(self.publish(CircuitState::Open, now.after(remaining), now))
            }
            SavedCircuit::ForcedOpen => Some(self.publish(CircuitState::ForcedOpen, Moment::NEVER, now)),
            SavedCircuit::ForcedClosed => Some(self.publish(CircuitState::ForcedClosed, Moment::EPOCH, now)),
        }
    }
}
