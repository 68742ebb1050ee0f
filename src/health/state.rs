//! The state of a circuit, alone and packed into a word with its generation.

use std::fmt;

use crate::time::Moment;

/// What a circuit does with the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Serves, and counts what comes of it.
    Closed,
    /// Serves whatever happens, until it is reset: an operator said so.
    ForcedClosed,
    /// Rejects until its time is up.
    Open,
    /// Lets a few probes through, to learn whether the backend is back.
    HalfOpen,
    /// Rejects until it is reset: an operator said so.
    ForcedOpen,
}

impl State {
    /// Whether every call is served.
    #[inline(always)]
    pub fn serves(self) -> bool {
        matches!(self, Self::Closed | Self::ForcedClosed)
    }

    /// Whether an operator holds it there.
    pub fn is_forced(self) -> bool {
        matches!(self, Self::ForcedClosed | Self::ForcedOpen)
    }
}

impl fmt::Display for State {
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

/// A circuit went from one state to another. Each one is handed out once, to the caller that brought it about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The state it left; the `to` of the transition before.
    pub from: State,
    /// The state it is in now.
    pub to: State,
    /// Rises with every transition, so that an observer can put several threads' transitions into order.
    pub generation: u64,
    /// When the cause of it happened.
    pub(crate) at: Moment,
}

const STATE_BITS: u32 = 3;

/// State and generation in one word, so that one load tells both.
///
/// Each transition begins a new generation. 61 bits of them last 73 years at one transition per nanosecond, so two equal
/// words mean that nothing has happened in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    pub(super) const FIRST: Self = Self(0);

    #[inline(always)]
    pub(super) fn state(self) -> State {
        match self.0 & ((1 << STATE_BITS) - 1) {
            0 => State::Closed,
            1 => State::ForcedClosed,
            2 => State::Open,
            3 => State::HalfOpen,
            _ => State::ForcedOpen,
        }
    }

    pub(super) fn generation(self) -> u64 {
        self.0 >> STATE_BITS
    }

    /// The word of the next generation.
    pub(super) fn next(self, state: State) -> Self {
        let state = match state {
            State::Closed => 0,
            State::ForcedClosed => 1,
            State::Open => 2,
            State::HalfOpen => 3,
            State::ForcedOpen => 4,
        };
        Self(self.generation().wrapping_add(1) << STATE_BITS | state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_tells_its_state_and_generation() {
        let mut word = Word::FIRST;
        assert_eq!((word.state(), word.generation()), (State::Closed, 0));
        let all = [State::Open, State::HalfOpen, State::ForcedOpen, State::ForcedClosed, State::Closed];
        for (state, generation) in all.into_iter().zip(1..) {
            word = word.next(state);
            assert_eq!((word.state(), word.generation()), (state, generation));
        }
    }
}
