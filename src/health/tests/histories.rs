//! Histories that are made for late outcomes, and shrink: many calls run at once, and end long after, in any order.

use std::{collections::HashMap, time::Duration};

use proptest::{collection::vec, prelude::*, sample::Index};

use super::reference::{Pair, Settings};
use crate::{
    health::{Admission, CallResult, Circuit, CircuitState, Ticket},
    time::Moment,
};

#[derive(Clone, Debug)]
enum Action {
    /// So many calls at once.
    Admit(u8),
    /// A running call ends.
    Record(Which, CallResult, bool),
    /// A body ends whose head was a success.
    RecordBody(Which, bool, bool),
    /// An admitted call begins only now.
    BeginLate(Which),
    /// All running calls are dropped, the newest or the oldest first.
    DropAll(bool),
    Pass(Duration),
    /// To the moment from which on a call is admitted, and up to 1 ns beyond it.
    PassDeadline(u8),
    Operate(u8),
}

/// Which of the running calls.
#[derive(Clone, Debug)]
enum Which {
    /// The one that runs longest, whose generation is often over.
    Oldest,
    Newest,
    Any(Index),
}

impl Which {
    fn of(&self, len: usize) -> Option<usize> {
        match self {
            _ if len == 0 => None,
            Self::Oldest => Some(0),
            Self::Newest => Some(len - 1),
            Self::Any(index) => Some(index.index(len)),
        }
    }
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![2 => Just(Which::Oldest), 2 => Just(Which::Newest), 1 => any::<Index>().prop_map(Which::Any)]
}

fn result() -> impl Strategy<Value = CallResult> {
    prop_oneof![
        4 => Just(CallResult::Success),
        4 => Just(CallResult::Failure),
        2 => Just(CallResult::GivenUp),
        1 => Just(CallResult::Neutral),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let pass = prop_oneof![
        4 => (0..8_u64).prop_map(Duration::from_millis),
        1 => (0..400_u64).prop_map(Duration::from_millis),
        1 => (0..1_000_000_u64).prop_map(Duration::from_nanos),
    ];
    prop_oneof![
        8 => (1..6_u8).prop_map(Action::Admit),
        10 => (which(), result(), any::<bool>()).prop_map(|(which, result, coin)| Action::Record(which, result, coin)),
        6 => (which(), any::<bool>(), any::<bool>()).prop_map(|(which, good, coin)| Action::RecordBody(which, good, coin)),
        2 => which().prop_map(Action::BeginLate),
        1 => any::<bool>().prop_map(Action::DropAll),
        5 => pass.prop_map(Action::Pass),
        4 => (0..2_u8).prop_map(Action::PassDeadline),
        2 => (0..5_u8).prop_map(Action::Operate),
    ]
}

fn random(coin: bool) -> u64 {
    u64::from(coin) << 63
}

impl Pair {
    fn act(&mut self, action: &Action) {
        match action {
            Action::Admit(calls) => (0..*calls).for_each(|_| self.admit()),
            Action::Record(which, result, coin) => {
                if let Some(index) = which.of(self.tickets.len()) {
                    self.record(index, *result, random(*coin));
                }
            }
            Action::RecordBody(which, is_good, coin) => {
                if let Some(index) = which.of(self.bodies.len()) {
                    self.record_body(index, *is_good, random(*coin));
                }
            }
            Action::BeginLate(which) => {
                if let Some(index) = which.of(self.tickets.len()) {
                    self.begin_late(index);
                }
            }
            Action::DropAll(newest_first) => {
                while !self.tickets.is_empty() {
                    let index = if *newest_first { self.tickets.len() - 1 } else { 0 };
                    self.record(index, CallResult::GivenUp, 0);
                }
            }
            Action::Pass(time) => self.now += *time,
            Action::PassDeadline(nanos) => self.pass_deadline(Duration::from_nanos(u64::from(*nanos))),
            Action::Operate(what) => self.operate(*what),
        }
        self.compare();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    // C34, C36 to C41
    #[test]
    fn late_outcomes_agree_with_the_reference(seed in any::<u64>(), actions in vec(action(), 1..80)) {
        let settings = Settings::random(&mut fastrand::Rng::with_seed(seed));
        let mut pair = Pair::new(settings, Duration::from_millis(seed % 1_000));
        actions.iter().for_each(|action| pair.act(action));
        // What still runs ends at last, each call once.
        while !pair.tickets.is_empty() {
            pair.act(&Action::Record(Which::Oldest, CallResult::Neutral, false));
        }
        while !pair.bodies.is_empty() {
            pair.act(&Action::RecordBody(Which::Oldest, true, false));
        }
    }

    // C38, C40, C58: threads read the clock and then come to the circuit in another order, so that the time goes back.
    #[test]
    fn a_clock_that_goes_back_breaks_no_invariant(
        seed in any::<u64>(), actions in vec((action(), 0..30_u64, 0..40_u64), 1..120),
    ) {
        let settings = Settings::random(&mut fastrand::Rng::with_seed(seed));
        let policy = settings.policy();
        let circuit = Circuit::new(policy.clone());
        let (mut latest, mut state) = (Duration::from_millis(50), CircuitState::Closed);
        let (mut tickets, mut bodies) = (Vec::<(Ticket, u64)>::new(), Vec::<(Ticket, u64)>::new());
        // When the permit of each probe of the current generation ends at the latest.
        let mut permits = HashMap::<u64, Duration>::new();
        let (mut calls, mut generation) = (0, 0);
        for (action, forward, back) in actions {
            latest += Duration::from_millis(forward);
            let now = Moment::since_epoch(latest - Duration::from_millis(back));
            let transition = match action {
                Action::Admit(_) => match circuit.admit(|| now) {
                    Admission::Admitted(ticket, transition) => {
                        calls += 1;
                        tickets.push((ticket, calls));
                        if transition.is_some() {
                            permits.clear();
                        }
                        if ticket.is_probe() {
                            permits.insert(calls, now.since(Moment::EPOCH) + policy.probe_timeout);
                        }
                        transition
                    }
                    Admission::Rejected { state, .. } => {
                        prop_assert!(!state.serves());
                        None
                    }
                },
                Action::Record(which, result, coin) => which.of(tickets.len()).and_then(|index| {
                    let (ticket, call) = tickets.remove(index);
                    if result == CallResult::Success {
                        bodies.push((ticket, call));
                    }
                    permits.remove(&call);
                    circuit.record(ticket, result, || now, || random(coin))
                }),
                Action::RecordBody(which, is_good, coin) => which.of(bodies.len()).and_then(|index| {
                    let (ticket, _) = bodies.remove(index);
                    let result = if is_good { CallResult::BodyEnded } else { CallResult::BodyFailed };
                    circuit.record(ticket, result, || now, || random(coin))
                }),
                Action::Operate(0) => circuit.force_open(now),
                Action::Operate(1) => circuit.force_closed(now),
                Action::Operate(2) => circuit.reset(now),
                Action::Operate(3) => circuit.probe_now(now),
                Action::Operate(_) => circuit.trip(now, || 0),
                _ => None,
            };
            if let Some(transition) = transition {
                // Every transition starts where the one before ended, and is counted.
                prop_assert_eq!(transition.from, state);
                prop_assert!(transition.from != transition.to && transition.generation > generation);
                (state, generation) = (transition.to, transition.generation);
                if transition.to != CircuitState::HalfOpen {
                    permits.clear();
                }
            }
            // At every moment that any thread has reached, no more probes run than configured.
            let end = latest;
            prop_assert!(permits.values().filter(|expires_at| **expires_at > end).count() <= policy.probes as usize);
        }
        // No permit and no open time lasts for ever.
        let forced_open = state == CircuitState::ForcedOpen;
        let far = Moment::since_epoch(latest + Duration::from_secs(3_600));
        prop_assert_eq!(circuit.would_admit(|| far), !forced_open);
    }
}
