//! Interleavings, all of them: `RUSTFLAGS="--cfg fleet_loom" cargo test --release --lib loom`.

use crate::time::Moment;
use std::time::Duration;

use loom::{sync::Arc, thread};

use super::*;

const fn at(seconds: u64) -> Moment {
    Moment::since_epoch(Duration::from_secs(seconds))
}

/// Opens at the first failure, for 30 s; `probes` permits, which last 60 s.
fn circuit(probes: u32) -> Arc<Circuit> {
    let draft = Policy::draft().consecutive(1).probes(probes);
    Arc::new(Circuit::new(draft.build().unwrap()))
}

fn admit(circuit: &Circuit, now: u64) -> Option<Ticket> {
    match circuit.admit(|| at(now)) {
        Admission::Admitted(ticket, _) => Some(ticket),
        Admission::Rejected { .. } => None,
    }
}

fn record(circuit: &Circuit, ticket: Ticket, verdict: Verdict, now: u64) -> Option<State> {
    let transition = circuit.record(ticket, verdict, || at(now), || 0);
    transition.map(|transition| transition.to)
}

/// Opens at so many calls that took longer than a second.
fn timing(slow: u32) -> Arc<Circuit> {
    let draft = Policy::draft().slow_calls(1.0, Duration::from_secs(1), Duration::from_secs(60), slow).probes(2);
    Arc::new(Circuit::new(draft.build().unwrap()))
}

/// Opens at second 0, so its time is up at second 30.
fn open(circuit: &Circuit) {
    let ticket = admit(circuit, 0).unwrap();
    assert_eq!(record(circuit, ticket, Verdict::Failure, 0), Some(State::Open));
}

/// Runs `body` in another thread of the model.
fn beside<T: 'static>(circuit: &Arc<Circuit>, body: impl FnOnce(&Circuit) -> T + 'static) -> thread::JoinHandle<T> {
    let circuit = Arc::clone(circuit);
    thread::spawn(move || body(&circuit))
}

#[test]
fn three_racing_callers_share_one_permit() {
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
fn two_permits_for_three_racing_callers() {
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
fn a_late_outcome_races_the_transition_and_changes_nothing() {
    // C39
    loom::model(|| {
        let circuit = circuit(1);
        let early = admit(&circuit, 0).unwrap();
        open(&circuit);
        let late = beside(&circuit, move |circuit| record(circuit, early, Verdict::Failure, 30));
        let probe = admit(&circuit, 30).unwrap();
        let closed = record(&circuit, probe, Verdict::Success, 30);
        assert_eq!(closed, Some(State::Closed));
        assert_eq!(late.join().unwrap(), None);
        assert_eq!(circuit.state(at(30)), State::Closed);
        assert_eq!(circuit.generation(), 3);
    });
}

#[test]
fn racing_failures_open_once_and_the_second_is_late() {
    // C39
    loom::model(|| {
        let circuit = circuit(1);
        let tickets = [admit(&circuit, 0).unwrap(), admit(&circuit, 0).unwrap()];
        let other = beside(&circuit, move |circuit| record(circuit, tickets[0], Verdict::Failure, 0));
        let mine = record(&circuit, tickets[1], Verdict::Failure, 0);
        let both = [mine, other.join().unwrap()];
        assert_eq!(both.iter().flatten().count(), 1);
        assert_eq!(circuit.generation(), 1);
    });
}

#[test]
fn racing_callers_that_leave_after_long_open_once() {
    // C37, C39
    loom::model(|| {
        let circuit = timing(2);
        let tickets = [admit(&circuit, 0).unwrap(), admit(&circuit, 0).unwrap(), admit(&circuit, 0).unwrap()];
        let others = [tickets[0], tickets[1]]
            .map(|ticket| beside(&circuit, move |circuit| record(circuit, ticket, Verdict::GivenUp, 2)));
        let mine = record(&circuit, tickets[2], Verdict::GivenUp, 2);
        let opened = others.into_iter().filter_map(|other| other.join().unwrap()).chain(mine).count();
        assert_eq!((opened, circuit.generation()), (1, 1));
        assert_eq!(circuit.state(at(2)), State::Open);
    });
}

#[test]
fn a_caller_that_leaves_late_races_the_transition_and_changes_nothing() {
    // C39
    loom::model(|| {
        let circuit = timing(1);
        let early = admit(&circuit, 0).unwrap();
        circuit.trip(at(0), || 0).unwrap();
        let late = beside(&circuit, move |circuit| record(circuit, early, Verdict::GivenUp, 30));
        let probe = admit(&circuit, 30).unwrap();
        assert_eq!(record(&circuit, probe, Verdict::Success, 30), Some(State::Closed));
        assert_eq!(late.join().unwrap(), None);
        assert_eq!((circuit.state(at(30)), circuit.generation()), (State::Closed, 3));
    });
}

#[test]
fn a_probe_left_after_long_races_a_good_one() {
    // C38, C39
    loom::model(|| {
        let circuit = timing(1);
        circuit.trip(at(0), || 0).unwrap();
        let [good, left] = [admit(&circuit, 30).unwrap(), admit(&circuit, 30).unwrap()];
        let left = beside(&circuit, move |circuit| record(circuit, left, Verdict::GivenUp, 32));
        let closed = record(&circuit, good, Verdict::Success, 30);
        let opened = left.join().unwrap();
        assert!(closed.is_some() != opened.is_some(), "whoever is first decides: {closed:?} {opened:?}");
        assert_eq!(circuit.state(at(32)), closed.or(opened).unwrap());
        assert_eq!(circuit.generation(), 3);
    });
}

#[test]
fn a_late_success_does_not_end_the_next_streak() {
    // C39
    loom::model(|| {
        let policy = Policy::draft().consecutive(2).build().unwrap();
        let circuit = Arc::new(Circuit::new(policy));
        let early = admit(&circuit, 0).unwrap();
        let failed = admit(&circuit, 0).unwrap();
        assert_eq!(record(&circuit, failed, Verdict::Failure, 0), None);
        let late = beside(&circuit, move |circuit| record(circuit, early, Verdict::Success, 0));
        circuit.reset(at(0));
        let first = admit(&circuit, 0).unwrap();
        assert_eq!(record(&circuit, first, Verdict::Failure, 0), None);
        late.join().unwrap();
        let second = admit(&circuit, 0).unwrap();
        assert_eq!(record(&circuit, second, Verdict::Failure, 0), Some(State::Open));
    });
}

#[test]
fn a_returned_permit_is_taken_by_at_most_one() {
    // C38
    loom::model(|| {
        let circuit = circuit(1);
        open(&circuit);
        let probe = admit(&circuit, 30).unwrap();
        let take = |circuit: &Circuit| usize::from(admit(circuit, 31).is_some());
        let others = [
            beside(&circuit, move |circuit| {
                record(circuit, probe, Verdict::Neutral, 31);
                0
            }),
            beside(&circuit, take),
        ];
        let mine = take(&circuit);
        let sum: usize = others.into_iter().map(|other| other.join().unwrap()).sum();
        assert!(mine + sum <= 1);
        // Nothing is lost either: free, unless somebody has it.
        assert_eq!(admit(&circuit, 31).is_some(), mine + sum == 0);
    });
}

#[test]
fn a_lapsed_permit_returned_late_frees_nobody_elses() {
    // C38
    loom::model(|| {
        let circuit = circuit(1);
        open(&circuit);
        let lost = admit(&circuit, 30).unwrap();
        let late = beside(&circuit, move |circuit| {
            record(circuit, lost, Verdict::Neutral, 90);
        });
        let second = beside(&circuit, |circuit| admit(circuit, 90).is_some());
        let third = admit(&circuit, 90).is_some();
        late.join().unwrap();
        assert!(third != second.join().unwrap(), "it is free at 90, for one");
        assert!(admit(&circuit, 91).is_none());
    });
}

#[test]
fn a_forced_state_outlasts_a_racing_outcome() {
    // C41
    loom::model(|| {
        let circuit = circuit(1);
        let ticket = admit(&circuit, 0).unwrap();
        let failure = beside(&circuit, move |circuit| record(circuit, ticket, Verdict::Failure, 0));
        let forced = circuit.force_closed(at(0)).unwrap();
        let opened = failure.join().unwrap();
        let before = opened.unwrap_or(State::Closed);
        assert_eq!((forced.from, forced.to), (before, State::ForcedClosed));
        assert_eq!(circuit.state(at(0)), State::ForcedClosed);
    });
}

#[test]
fn a_forced_opening_outlasts_a_racing_probe() {
    // C41
    loom::model(|| {
        let circuit = circuit(1);
        open(&circuit);
        let probe = beside(&circuit, |circuit| {
            admit(circuit, 30).and_then(|probe| record(circuit, probe, Verdict::Success, 30))
        });
        assert!(circuit.force_open(at(30)).is_some());
        probe.join().unwrap();
        assert_eq!(circuit.state(at(1_000)), State::ForcedOpen);
        assert_eq!(circuit.eligible_at(), Moment::NEVER);
        assert!(admit(&circuit, 1_000).is_none());
    });
}

/// Reads without the lock beside `writer`, which leaves the state open, due at 30, for forced open.
fn assert_pairs_are_whole(writer: fn(&Circuit)) {
    loom::model(move || {
        let circuit = circuit(1);
        open(&circuit);
        let writer = beside(&circuit, writer);
        if let Admission::Rejected { state, retry_after } = circuit.admit(|| at(29)) {
            let seen = (state, retry_after.map(|wait| wait.as_secs()));
            let whole = [(State::Open, Some(1)), (State::ForcedOpen, None)];
            assert!(whole.contains(&seen), "{seen:?}");
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_reader_beside_one_transition_sees_a_true_pair() {
    // C40: the next generation has a place of its own.
    assert_pairs_are_whole(|circuit| {
        circuit.force_open(at(29));
    });
}

#[test]
fn a_reader_beside_two_transitions_sees_a_true_pair() {
    // C40: the one after that does not, but its word gives it away.
    assert_pairs_are_whole(|circuit| {
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
            record(circuit, ticket, Verdict::Failure, 0);
        });
        let seen = circuit.state(at(29));
        assert!([State::Closed, State::Open].contains(&seen), "{seen:?}");
        writer.join().unwrap();
    });
}

#[test]
fn racing_failed_bodies_open_once_and_the_second_is_late() {
    // C34, C39
    loom::model(|| {
        let circuit = circuit(1);
        let heads = [admit(&circuit, 0).unwrap(), admit(&circuit, 0).unwrap()];
        for head in heads {
            assert_eq!(record(&circuit, head, Verdict::Success, 0), None);
        }
        let other = beside(&circuit, move |circuit| record(circuit, heads[0], Verdict::BodyFailed, 0));
        let mine = record(&circuit, heads[1], Verdict::BodyFailed, 0);
        let both = [mine, other.join().unwrap()];
        assert_eq!(both.iter().flatten().count(), 1);
        assert_eq!(circuit.generation(), 1);
    });
}

#[test]
fn a_late_good_body_does_not_end_the_next_streak() {
    // C34, C39
    loom::model(|| {
        let policy = Policy::draft().consecutive(2).build().unwrap();
        let circuit = Arc::new(Circuit::new(policy));
        let early = [admit(&circuit, 0).unwrap(), admit(&circuit, 0).unwrap()];
        assert_eq!(record(&circuit, early[0], Verdict::BodyFailed, 0), None);
        let late = beside(&circuit, move |circuit| record(circuit, early[1], Verdict::BodyEnded, 0));
        circuit.reset(at(0));
        let first = admit(&circuit, 0).unwrap();
        assert_eq!(record(&circuit, first, Verdict::BodyFailed, 0), None);
        late.join().unwrap();
        let second = admit(&circuit, 0).unwrap();
        assert_eq!(record(&circuit, second, Verdict::BodyFailed, 0), Some(State::Open));
    });
}
