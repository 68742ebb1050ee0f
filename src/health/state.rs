//! The state of a circuit, and its packed form with the generation.

use std::fmt;

use crate::time::Moment;

/// The state of a circuit: what it does with the next call.
///
/// [`Snapshot::state`](crate::fleet::Snapshot::state) and [`Switch::state`](crate::fleet::Switch::state) return it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CircuitState {
    /// Admits every call and counts its result.
    Closed,
    /// Admits every call whatever its result, until an operator resets the circuit.
    ForcedClosed,
    /// Rejects every call until the open time is over.
    Open,
    /// Admits a few calls as probes, to find out whether the backend has recovered.
    HalfOpen,
    /// Rejects every call until an operator resets the circuit.
    ForcedOpen,
}

impl CircuitState {
    /// Returns whether every call is admitted: closed, by the rules or forced.
    #[inline(always)]
    pub fn serves(self) -> bool {
        matches!(self, Self::Closed | Self::ForcedClosed)
    }

    /// Returns whether an operator forced the state.
    pub fn is_forced(self) -> bool {
        matches!(self, Self::ForcedClosed | Self::ForcedOpen)
    }
}

impl fmt::Display for CircuitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::ForcedClosed => "forced closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
            Self::ForcedOpen => "forced open",
        })
    }
}

/// A change of a circuit from one state to another.
///
/// Observed with [`Switch::transitions`](crate::fleet::Switch::transitions).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The state before; equal to `to` of the previous transition.
    pub from: CircuitState,
    /// The state after.
    pub to: CircuitState,
    /// Rises with every transition, so that transitions from several threads can be ordered.
    pub generation: u64,
    /// When the event happened that caused it.
    pub(crate) at: Moment,
}

const STATE_BITS: u32 = 3;

/// State and generation in one word, so that one load reads both.
///
/// Each transition begins a new generation. 61 bits of them last 73 years at one transition per nanosecond, so two
/// equal words mean that no transition happened between the two loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    pub(super) const FIRST: Self = Self(0);

    #[inline(always)]
    pub(super) fn state(self) -> CircuitState {
        match self.0 & ((1 << STATE_BITS) - 1) {
            0 => CircuitState::Closed,
            1 => CircuitState::ForcedClosed,
            2 => CircuitState::Open,
            3 => CircuitState::HalfOpen,
            _ => CircuitState::ForcedOpen,
        }
    }

    pub(super) fn generation(self) -> u64 {
        self.0 >> STATE_BITS
    }

    /// The word of the next generation, in this state.
    pub(super) fn next(self, state: CircuitState) -> Self {
        let state = match state {
            CircuitState::Closed => 0,
            CircuitState::ForcedClosed => 1,
            CircuitState::Open => 2,
            CircuitState::HalfOpen => 3,
            CircuitState::ForcedOpen => 4,
        };
        Self(self.generation().wrapping_add(1) << STATE_BITS | state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_its_state_and_generation() {
        let mut word = Word::FIRST;
        assert_eq!((word.state(), word.generation()), (CircuitState::Closed, 0));
        let all = [
            CircuitState::Open,
            CircuitState::HalfOpen,
            CircuitState::ForcedOpen,
            CircuitState::ForcedClosed,
            CircuitState::Closed,
        ];
        for (state, generation) in all.into_iter().zip(1..) {
            word = word.next(state);
            assert_eq!((word.state(), word.generation()), (state, generation));
        }
    }
}
