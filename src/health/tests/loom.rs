//! All interleavings of the circuit's atomics and its lock:
//! `RUSTFLAGS="--cfg fleet_loom" cargo test --release --lib tests::loom`.

use std::time::Duration;

use loom::{sync::Arc, thread};

use crate::{
    health::{Admission, CallResult, Circuit, CircuitPolicy, CircuitState, Rate, Ticket},
    time::Moment,
};

const fn at(seconds: u64) -> Moment {
    Moment::since_epoch(Duration::from_secs(seconds))
}

/// A circuit that opens at the first failure, for 30 s, with this many permits of 60 s.
fn circuit(probes: u32) -> Arc<Circuit> {
    let policy = CircuitPolicy::new().consecutive(1).probes(probes);
    Arc::new(Circuit::new(policy.checked().unwrap()))
}

fn admit(circuit: &Circuit, now: u64) -> Option<Ticket> {
    match circuit.admit(|| at(now)) {
        Admission::Admitted(ticket, _) => Some(ticket),
        Admission::Rejected { .. } => None,
    }
}

fn record(circuit: &Circuit, ticket: Ticket, result: CallResult, now: u64) -> Option<CircuitState> {
    let transition = circuit.record(ticket, result, || at(now), || 0);
    transition.map(|transition| transition.to)
}

/// A circuit that opens after this many calls that took longer than a second.
fn timed_circuit(slow: u32) -> Arc<Circuit> {
    let policy = CircuitPolicy::new()
        .slow_calls(Duration::from_secs(1), Rate::new(1.0).window(Duration::from_secs(60)).minimum_calls(slow))
        .probes(2);
    Arc::new(Circuit::new(policy.checked().unwrap()))
}

/// Opens the circuit at second 0, so that its open time is over at second 30.
fn open(circuit: &Circuit) {
    let ticket = admit(circuit, 0).unwrap();
    assert_eq!(record(circuit, ticket, CallResult::Failure, 0), Some(CircuitState::Open));
}

/// Runs `body` in another thread of the model.
fn beside<T: 'static>(circuit: &Arc<Circuit>, body: impl FnOnce(&Circuit) -> T + 'static) -> thread::JoinHandle<T> {
    let circuit = Arc::clone(circuit);
    thread::spawn(move || body(&circuit))
}

#[test]
fn one_permit_is_acquired_by_one_of_three_racing_calls() {
    // C38
    loom::model(|| {
        let circuit = circuit(1);
        open(&circuit);
        let turn = |circuit: &Circuit| match circuit.admit(|| at(30)) {
            Admission::Admitted(_, transition) => (1, u32::from(transition.is_some())),
            Admission::Rejected { .. } => (0, 0),
        };
        let others = [beside(&circuit, turn), beside(&circuit, turn)];
        let (mut admitted, mut transitions) = turn(&circuit);
        for other in others {
            let (more, turned) = other.join().unwrap();
            admitted += more;
            transitions += turned;
        }
        assert_eq!((admitted, transitions), (1, 1));
        assert_eq!(circuit.eligible_at(), at(90));
    });
}

#[test]
fn two_permits_are_acquired_by_two_of_three_racing_calls() {
    // C38
    loom::model(|| {
        let circuit = circuit(2);
        open(&circuit);
        let turn = |circuit: &Circuit| usize::from(admit(circuit, 30).is_some());
        let others = [beside(&circuit, turn), beside(&circuit, turn)];
        let mine = turn(&circuit);
        let sum: usize = others.into_iter().map(|other| other.join().unwrap()).sum();
        assert_eq!(mine + sum, 2);
    });
}

#[test]
fn a_late_result_that_races_a_transition_changes_nothing() {
    // C39
    loom::model(|| {
        let circuit = circuit(1);
        let early = admit(&circuit, 0).unwrap();
        open(&circuit);
        let late = beside(&circuit, move |circuit| record(circuit, early, CallResult::Failure, 30));
        let probe = admit(&circuit, 30).unwrap();
        let closed = record(&circuit, probe, CallResult::Success, 30);
        assert_eq!(closed, Some(CircuitState::Closed));
        assert_eq!(late.join().unwrap(), None);
        assert_eq!(circuit.state(at(30)), CircuitState::Closed);
        assert_eq!(circuit.generation(), 3);
    });
}

#[test]
fn racing_failures_open_the_circuit_once() {
    // C39
    loom::model(|| {
        let circuit = circuit(1);
        let tickets = [admit(&circuit, 0).unwrap(), admit(&circuit, 0).unwrap()];
        let other = beside(&circuit, move |circuit| record(circuit, tickets[0], CallResult::Failure, 0));
        let mine = record(&circuit, tickets[1], CallResult::Failure, 0);
        let both = [mine, other.join().unwrap()];
        assert_eq!(both.iter().flatten().count(), 1);
        assert_eq!(circuit.generation(), 1);
    });
}

#[test]
fn racing_slow_cancellations_open_the_circuit_once() {
    // C37, C39
    loom::model(|| {
        let circuit = timed_circuit(2);
        let tickets = [admit(&circuit, 0).unwrap(), admit(&circuit, 0).unwrap(), admit(&circuit, 0).unwrap()];
        let others = [tickets[0], tickets[1]]
            .map(|ticket| beside(&circuit, move |circuit| record(circuit, ticket, CallResult::GivenUp, 2)));
        let mine = record(&circuit, tickets[2], CallResult::GivenUp, 2);
        let opened = others.into_iter().filter_map(|other| other.join().unwrap()).chain(mine).count();
        assert_eq!((opened, circuit.generation()), (1, 1));
        assert_eq!(circuit.state(at(2)), CircuitState::Open);
    });
}

#[test]
fn a_late_cancellation_that_races_a_transition_changes_nothing() {
    // C39
    loom::model(|| {
        let circuit = timed_circuit(1);
        let early = admit(&circuit, 0).unwrap();
        circuit.trip(at(0), || 0).unwrap();
        let late = beside(&circuit, move |circuit| record(circuit, early, CallResult::GivenUp, 30));
        let probe = admit(&circuit, 30).unwrap();
        assert_eq!(record(&circuit, probe, CallResult::Success, 30), Some(CircuitState::Closed));
        assert_eq!(late.join().unwrap(), None);
        assert_eq!((circuit.state(at(30)), circuit.generation()), (CircuitState::Closed, 3));
    });
}

#[test]
fn of_a_successful_and_a_slow_cancelled_probe_the_first_decides() {
    // C38, C39
    loom::model(|| {
        let circuit = timed_circuit(1);
        circuit.trip(at(0), || 0).unwrap();
        let [good, slow] = [admit(&circuit, 30).unwrap(), admit(&circuit, 30).unwrap()];
        let slow = beside(&circuit, move |circuit| record(circuit, slow, CallResult::GivenUp, 32));
        let closed = record(&circuit, good, CallResult::Success, 30);
        let opened = slow.join().unwrap();
        assert!(closed.is_some() != opened.is_some(), "exactly one decides: {closed:?} {opened:?}");
        assert_eq!(circuit.state(at(32)), closed.or(opened).unwrap());
        assert_eq!(circuit.generation(), 3);
    });
}

#[test]
fn a_late_success_does_not_end_the_next_streak() {
    // C39
    loom::model(|| {
        let policy = CircuitPolicy::new().consecutive(2).checked().unwrap();
        let circuit = Arc::new(Circuit::new(policy));
        let early = admit(&circuit, 0).unwrap();
        let failed = admit(&circuit, 0).unwrap();
        assert_eq!(record(&circuit, failed, CallResult::Failure, 0), None);
        let late = beside(&circuit, move |circuit| record(circuit, early, CallResult::Success, 0));
        circuit.reset(at(0));
        let first = admit(&circuit, 0).unwrap();
        assert_eq!(record(&circuit, first, CallResult::Failure, 0), None);
        late.join().unwrap();
        let second = admit(&circuit, 0).unwrap();
        assert_eq!(record(&circuit, second, CallResult::Failure, 0), Some(CircuitState::Open));
    });
}

#[test]
fn a_released_permit_is_acquired_at_most_once() {
    // C38
    loom::model(|| {
        let circuit = circuit(1);
        open(&circuit);
        let probe = admit(&circuit, 30).unwrap();
        let take = |circuit: &Circuit| usize::from(admit(circuit, 31).is_some());
        let others = [
            beside(&circuit, move |circuit| {
                record(circuit, probe, CallResult::Neutral, 31);
                0
            }),
            beside(&circuit, take),
        ];
        let mine = take(&circuit);
        let sum: usize = others.into_iter().map(|other| other.join().unwrap()).sum();
        assert!(mine + sum <= 1);
        // Nor is it lost: it is free unless one of the calls acquired it.
        assert_eq!(admit(&circuit, 31).is_some(), mine + sum == 0);
    });
}

#[test]
fn the_late_release_of_an_expired_permit_does_not_free_its_slot() {
    // C38
    loom::model(|| {
        let circuit = circuit(1);
        open(&circuit);
        let lost = admit(&circuit, 30).unwrap();
        let late = beside(&circuit, move |circuit| {
            record(circuit, lost, CallResult::Neutral, 90);
        });
        let second = beside(&circuit, |circuit| admit(circuit, 90).is_some());
        let third = admit(&circuit, 90).is_some();
        late.join().unwrap();
        assert!(third != second.join().unwrap(), "the permit expires at 90, and one call acquires it");
        assert!(admit(&circuit, 91).is_none());
    });
}

#[test]
fn a_forced_state_outlasts_a_racing_result() {
    // C41
    loom::model(|| {
        let circuit = circuit(1);
        let ticket = admit(&circuit, 0).unwrap();
        let failure = beside(&circuit, move |circuit| record(circuit, ticket, CallResult::Failure, 0));
        let forced = circuit.force_closed(at(0)).unwrap();
        let opened = failure.join().unwrap();
        let before = opened.unwrap_or(CircuitState::Closed);
        assert_eq!((forced.from, forced.to), (before, CircuitState::ForcedClosed));
        assert_eq!(circuit.state(at(0)), CircuitState::ForcedClosed);
    });
}

#[test]
fn a_forced_opening_outlasts_a_racing_probe() {
    // C41
    loom::model(|| {
        let circuit = circuit(1);
        open(&circuit);
        let probe = beside(&circuit, |circuit| {
            admit(circuit, 30).and_then(|probe| record(circuit, probe, CallResult::Success, 30))
        });
        assert!(circuit.force_open(at(30)).is_some());
        probe.join().unwrap();
        assert_eq!(circuit.state(at(1_000)), CircuitState::ForcedOpen);
        assert_eq!(circuit.eligible_at(), Moment::NEVER);
        assert!(admit(&circuit, 1_000).is_none());
    });
}

/// Reads without the lock while `writer` changes the state from open, with a probe due at 30, to forced open.
fn assert_pairs_are_consistent(writer: fn(&Circuit)) {
    loom::model(move || {
        let circuit = circuit(1);
        open(&circuit);
        let writer = beside(&circuit, writer);
        if let Admission::Rejected { state, retry_after } = circuit.admit(|| at(29)) {
            let seen = (state, retry_after.map(|wait| wait.as_secs()));
            let consistent = [(CircuitState::Open, Some(1)), (CircuitState::ForcedOpen, None)];
            assert!(consistent.contains(&seen), "{seen:?}");
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_reader_during_one_transition_sees_a_consistent_pair() {
    // C40: the next generation has a slot of its own.
    assert_pairs_are_consistent(|circuit| {
        circuit.force_open(at(29));
    });
}

#[test]
fn a_reader_during_two_transitions_sees_a_consistent_pair() {
    // C40: the generation after the next reuses the slot, and its word shows that.
    assert_pairs_are_consistent(|circuit| {
        circuit.force_closed(at(29));
        circuit.force_open(at(29));
    });
}

#[test]
fn an_open_state_is_never_seen_without_its_deadline() {
    // C40
    loom::model(|| {
        let circuit = circuit(1);
        let ticket = admit(&circuit, 0).unwrap();
        let writer = beside(&circuit, move |circuit| {
            record(circuit, ticket, CallResult::Failure, 0);
        });
        let seen = circuit.state(at(29));
        assert!([CircuitState::Closed, CircuitState::Open].contains(&seen), "{seen:?}");
        writer.join().unwrap();
    });
}

#[test]
fn racing_failed_bodies_open_the_circuit_once() {
    // C34, C39
    loom::model(|| {
        let circuit = circuit(1);
        let heads = [admit(&circuit, 0).unwrap(), admit(&circuit, 0).unwrap()];
        for head in heads {
            assert_eq!(record(&circuit, head, CallResult::Success, 0), None);
        }
        let other = beside(&circuit, move |circuit| record(circuit, heads[0], CallResult::BodyFailed, 0));
        let mine = record(&circuit, heads[1], CallResult::BodyFailed, 0);
        let both = [mine, other.join().unwrap()];
        assert_eq!(both.iter().flatten().count(), 1);
        assert_eq!(circuit.generation(), 1);
    });
}

#[test]
fn a_late_good_body_does_not_end_the_next_streak() {
    // C34, C39
    loom::model(|| {
        let policy = CircuitPolicy::new().consecutive(2).checked().unwrap();
        let circuit = Arc::new(Circuit::new(policy));
        let early = [admit(&circuit, 0).unwrap(), admit(&circuit, 0).unwrap()];
        assert_eq!(record(&circuit, early[0], CallResult::BodyFailed, 0), None);
        let late = beside(&circuit, move |circuit| record(circuit, early[1], CallResult::BodyEnded, 0));
        circuit.reset(at(0));
        let first = admit(&circuit, 0).unwrap();
        assert_eq!(record(&circuit, first, CallResult::BodyFailed, 0), None);
        late.join().unwrap();
        let second = admit(&circuit, 0).unwrap();
        assert_eq!(record(&circuit, second, CallResult::BodyFailed, 0), Some(CircuitState::Open));
    });
}
