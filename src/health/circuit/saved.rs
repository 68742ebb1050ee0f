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

#[cfg(all(test, not(fleet_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::super::{Admission, CallResult, CircuitPolicy},
        *,
    };

    fn circuit() -> Circuit {
        let policy = CircuitPolicy::new().consecutive(1).open_for(Duration::from_secs(10)).growth(2.0);
        let policy = policy.max_open_for(Duration::from_secs(50)).backoff_reset_after(Duration::from_secs(20));
        Circuit::new(policy.checked().expect("a valid policy"))
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Call(CallResult),
        Reset,
        ForceOpen,
        ForceClosed,
        ProbeNow,
    }

    /// Applies an event. Returns the state before and after it.
    fn apply(circuit: &Circuit, event: Event, now: Moment) -> [CircuitState; 2] {
        let before = circuit.state(now);
        match event {
            Event::Call(result) => {
                if let Admission::Admitted(ticket, _) = circuit.admit(|| now) {
                    circuit.record(ticket, result, || now, || 0);
                }
            }
            Event::Reset => drop(circuit.reset(now)),
            Event::ForceOpen => drop(circuit.force_open(now)),
            Event::ForceClosed => drop(circuit.force_closed(now)),
            Event::ProbeNow => drop(circuit.probe_now(now)),
        }
        [before, circuit.state(now)]
    }

    fn events() -> impl Strategy<Value = Vec<(Duration, Event)>> {
        let event = prop_oneof![
            4 => Just(Event::Call(CallResult::Failure)),
            3 => Just(Event::Call(CallResult::Success)),
            1 => Just(Event::Reset),
            1 => Just(Event::ForceOpen),
            1 => Just(Event::ForceClosed),
            1 => Just(Event::ProbeNow),
        ];
        let pause = (0..30_000_u64).prop_map(Duration::from_millis);
        proptest::collection::vec((pause, event), 0..30)
    }

    proptest! {
        // C54: the open time, the growth and its decay go on where they were.
        #[test]
        fn a_restored_circuit_behaves_like_the_saved_one(
            past in events(), pause in 0..60_u64, start in 1..100_u64, future in events(),
        ) {
            let (saved, restored) = (circuit(), circuit());
            let mut now = Moment::from_nanos(1);
            for (pause, event) in past {
                now = now.after(pause);
                apply(&saved, event, now);
            }
            // The restart takes some time, and the clock begins anew.
            let pause = Duration::from_secs(pause);
            let kept = saved.saved(now).map(|kept| kept.aged(pause));
            let mut later = Moment::since_epoch(Duration::from_secs(start));
            if let Some(kept) = kept {
                restored.restore(kept, later);
            }
            now = now.after(pause);
            prop_assert_eq!(restored.saved(later), saved.saved(now));
            for (pause, event) in future {
                (now, later) = (now.after(pause), later.after(pause));
                prop_assert_eq!(apply(&restored, event, later), apply(&saved, event, now));
            }
        }
    }

    // C54: what happened in this process is newer.
    #[test]
    fn a_circuit_that_has_moved_or_was_reset_is_not_restored() {
        let at = |seconds| Moment::since_epoch(Duration::from_secs(seconds));
        let open = SavedCircuit::Open { openings: 7, remaining: Duration::from_secs(9) };
        for event in [Event::Call(CallResult::Failure), Event::Reset, Event::ForceClosed] {
            let circuit = circuit();
            let [_, state] = apply(&circuit, event, at(1));
            assert_eq!(circuit.restore(open, at(1)), None);
            assert_eq!(circuit.state(at(1)), state);
        }
    }

    // C54
    #[test]
    fn an_open_time_is_cut_to_the_longest_one_of_the_policy() {
        let at = |seconds| Moment::since_epoch(Duration::from_secs(seconds));
        let circuit = circuit();
        circuit.restore(SavedCircuit::Open { openings: u32::MAX, remaining: Duration::MAX }, at(1));
        assert_eq!([50, 51].map(|now| circuit.state(at(now))), [CircuitState::Open, CircuitState::HalfOpen]);
        assert_eq!(circuit.eligible_at(), at(51));
    }
}
