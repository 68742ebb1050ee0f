//! The circuit by example: its rules, its states, its probes and its forced states.

use std::{
    cell::Cell,
    sync::{
        Barrier, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use CallResult::{BodyEnded, BodyFailed, Failure, GivenUp, Neutral, Success};

use crate::{
    health::{Admission, CallResult, Circuit, CircuitPolicy, CircuitState, Rate, Ticket},
    time::Moment,
};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Seconds after the epoch.
const fn at(seconds: u64) -> Moment {
    Moment::since_epoch(secs(seconds))
}

fn circuit(policy: CircuitPolicy) -> Circuit {
    Circuit::new(policy.checked().unwrap())
}

fn admit(circuit: &Circuit, now: u64) -> Ticket {
    match circuit.admit(|| at(now)) {
        Admission::Admitted(ticket, _) => ticket,
        rejected @ Admission::Rejected { .. } => panic!("{rejected:?} at {now}"),
    }
}

fn rejected(circuit: &Circuit, now: u64) -> (CircuitState, Option<Duration>) {
    match circuit.admit(|| at(now)) {
        Admission::Rejected { state, retry_after } => (state, retry_after),
        admitted @ Admission::Admitted(..) => panic!("{admitted:?} at {now}"),
    }
}

fn record(circuit: &Circuit, ticket: Ticket, result: CallResult, now: u64) -> Option<CircuitState> {
    let transition = circuit.record(ticket, result, || at(now), || 0);
    transition.map(|transition| transition.to)
}

fn call(circuit: &Circuit, result: CallResult, now: u64) -> Option<CircuitState> {
    record(circuit, admit(circuit, now), result, now)
}

fn no_clock() -> Moment {
    panic!("the clock was read")
}

fn no_random() -> u64 {
    panic!("a random number was drawn")
}

#[test]
fn a_default_circuit_opens_probes_and_closes() {
    // C35, C36
    let circuit = Circuit::new(CircuitPolicy::default());
    for second in 0..4 {
        assert_eq!(call(&circuit, Failure, second), None);
    }
    assert_eq!(call(&circuit, Failure, 4), Some(CircuitState::Open));
    assert_eq!(rejected(&circuit, 33), (CircuitState::Open, Some(secs(1))));
    let probe = admit(&circuit, 34);
    assert_eq!(rejected(&circuit, 34).0, CircuitState::HalfOpen);
    assert_eq!(record(&circuit, probe, Success, 35), Some(CircuitState::Closed));
    assert_eq!(call(&circuit, Success, 35), None);
}

#[test]
fn a_custom_circuit_lengthens_its_open_time_and_needs_two_successful_probes() {
    // C36
    let circuit = circuit(
        CircuitPolicy::new()
            .consecutive(2)
            .open_for(secs(10))
            .growth(2.0)
            .max_open_for(secs(30))
            .probes(2)
            .successes_to_close(2),
    );
    assert_eq!(call(&circuit, Failure, 0), None);
    assert_eq!(call(&circuit, Failure, 0), Some(CircuitState::Open));
    assert_eq!(call(&circuit, Failure, 10), Some(CircuitState::Open));
    assert_eq!(rejected(&circuit, 10), (CircuitState::Open, Some(secs(20))));
    assert_eq!(call(&circuit, Failure, 30), Some(CircuitState::Open));
    assert_eq!(rejected(&circuit, 30), (CircuitState::Open, Some(secs(30))));
    let probes = [admit(&circuit, 60), admit(&circuit, 60)];
    assert_eq!(record(&circuit, probes[0], Success, 61), None);
    assert_eq!(record(&circuit, probes[1], Success, 62), Some(CircuitState::Closed));
}

#[test]
fn failures_count_in_a_sliding_window_despite_successes_between_them() {
    // C36
    let circuit = Circuit::new(CircuitPolicy::default());
    for second in [0, 50, 55, 58] {
        assert_eq!(call(&circuit, Failure, second), None);
        for _ in 0..100 {
            assert_eq!(call(&circuit, Success, second), None);
        }
    }
    assert_eq!(call(&circuit, Failure, 61), None, "the first is 61 s old");
    assert_eq!(call(&circuit, Failure, 110), Some(CircuitState::Open), "the second is 60 s old");
}

#[test]
fn a_success_ends_a_streak() {
    // C36
    let circuit = circuit(CircuitPolicy::new().consecutive(3));
    for _ in 0..10 {
        assert_eq!(call(&circuit, Failure, 0), None);
        assert_eq!(call(&circuit, Neutral, 0), None);
        assert_eq!(call(&circuit, Failure, 0), None);
        assert_eq!(call(&circuit, Success, 0), None);
    }
    assert_eq!(call(&circuit, Failure, 0), None);
    assert_eq!(call(&circuit, Failure, 0), None);
    assert_eq!(call(&circuit, Failure, 0), Some(CircuitState::Open));
}

#[test]
fn a_failure_rate_opens_the_circuit() {
    // C36
    let circuit = circuit(CircuitPolicy::new().failure_rate(Rate::new(0.5).window(secs(10)).minimum_calls(10)));
    for _ in 0..5 {
        assert_eq!(call(&circuit, Success, 0), None);
    }
    for _ in 0..4 {
        assert_eq!(call(&circuit, Failure, 1), None);
        assert_eq!(call(&circuit, Neutral, 1), None);
    }
    assert_eq!(call(&circuit, Failure, 1), Some(CircuitState::Open));
}

#[test]
fn slow_calls_open_the_circuit_and_a_slow_probe_opens_it_again() {
    // C36
    let circuit = circuit(CircuitPolicy::new().slow_calls(secs(2), Rate::new(0.5).window(secs(60)).minimum_calls(4)));
    assert!(circuit.needs_clock());
    for end in [2, 1] {
        let ticket = admit(&circuit, 0);
        assert_eq!(record(&circuit, ticket, Success, end), None, "not slower than 2 s");
    }
    let tickets = [admit(&circuit, 0), admit(&circuit, 0)];
    assert_eq!(record(&circuit, tickets[0], Success, 3), None);
    assert_eq!(record(&circuit, tickets[1], Success, 3), Some(CircuitState::Open));
    let slow = admit(&circuit, 33);
    assert_eq!(record(&circuit, slow, Success, 36), Some(CircuitState::Open));
    let late_start = admit(&circuit, 66).started_at(at(68));
    assert_eq!(record(&circuit, late_start, Success, 70), Some(CircuitState::Closed));
}

#[test]
fn a_cancelled_call_counts_as_slow_if_it_was_slow() {
    // C36, C37
    let circuit = circuit(CircuitPolicy::new().slow_calls(secs(1), Rate::new(0.5).window(secs(60)).minimum_calls(4)));
    for _ in 0..100 {
        let ticket = admit(&circuit, 0);
        assert_eq!(record(&circuit, ticket, GivenUp, 1), None, "neutral, since it was not slow");
    }
    assert_eq!([call(&circuit, Success, 1), call(&circuit, Success, 1)], [None; 2]);
    let tickets = [admit(&circuit, 1), admit(&circuit, 1)];
    assert_eq!(record(&circuit, tickets[0], GivenUp, 3), None);
    assert_eq!(record(&circuit, tickets[1], GivenUp, 3), Some(CircuitState::Open), "two of four");
    // Cancelled early, a probe releases its permit; cancelled when it was slow, it failed.
    let probe = admit(&circuit, 33);
    assert_eq!(record(&circuit, probe, GivenUp, 34), None);
    let probe = admit(&circuit, 34);
    assert_eq!(record(&circuit, probe, GivenUp, 36), Some(CircuitState::Open));
}

#[test]
fn a_slow_cancelled_call_is_neither_failure_nor_success() {
    // C37
    let slow = || CircuitPolicy::new().slow_calls(secs(1), Rate::new(1.0).window(secs(60)).minimum_calls(1_000));
    let cancel = |circuit: &Circuit| record(circuit, admit(circuit, 0), GivenUp, 2);
    let streak = circuit(slow().consecutive(2));
    assert_eq!(call(&streak, Failure, 2), None);
    assert_eq!([cancel(&streak), cancel(&streak)], [None; 2], "it does not lengthen the streak");
    assert_eq!(call(&streak, Failure, 2), Some(CircuitState::Open), "and does not end it");
    let log = circuit(slow().failures(1));
    assert_eq!(cancel(&log), None);
    let rate = circuit(slow().failure_rate(Rate::new(1.0).window(secs(60)).minimum_calls(2)));
    assert_eq!([cancel(&rate), cancel(&rate), call(&rate, Failure, 2)], [None; 3]);
    assert_eq!(call(&rate, Failure, 2), Some(CircuitState::Open), "two of two");
}

#[test]
fn without_a_rule_on_slow_calls_a_cancellation_reads_no_clock() {
    // C37
    let circuit = circuit(
        CircuitPolicy::new().failures(1).consecutive(1).failure_rate(Rate::new(0.1).window(secs(60)).minimum_calls(1)),
    );
    let ticket = admit(&circuit, 0);
    assert_eq!(circuit.record(ticket, GivenUp, no_clock, no_random), None);
    assert_eq!(call(&circuit, Failure, 0), Some(CircuitState::Open));
    let probe = admit(&circuit, 30);
    assert_eq!(circuit.record(probe, GivenUp, no_clock, no_random), None);
    let next = admit(&circuit, 30);
    assert_eq!(record(&circuit, next, Success, 90), Some(CircuitState::Closed), "the permit was released");
}

#[test]
fn a_late_cancellation_of_a_slow_call_changes_nothing() {
    // C39
    let circuit = circuit(CircuitPolicy::new().slow_calls(secs(1), Rate::new(1.0).window(secs(60)).minimum_calls(1)));
    let early = [admit(&circuit, 0), admit(&circuit, 0), admit(&circuit, 0)];
    assert!(circuit.trip(at(0), || 0).is_some());
    assert_eq!(record(&circuit, early[0], GivenUp, 5), None, "open");
    let probe = admit(&circuit, 30);
    assert_eq!(record(&circuit, early[1], GivenUp, 31), None, "half-open");
    assert_eq!(record(&circuit, probe, Success, 31), Some(CircuitState::Closed));
    assert_eq!(record(&circuit, early[2], GivenUp, 60), None, "closed again");
}

/// Records a good head. Returns the ticket with which its body is recorded.
fn good_head(circuit: &Circuit, now: u64) -> Ticket {
    let ticket = admit(circuit, now);
    assert_eq!(record(circuit, ticket, Success, now), None);
    ticket
}

#[test]
fn a_failed_body_counts_as_a_failure_in_the_window() {
    // C34, C36
    let circuit = circuit(CircuitPolicy::new().failures(3).within(secs(10)));
    let mixed = [call(&circuit, Failure, 0), record(&circuit, good_head(&circuit, 0), BodyFailed, 5)];
    assert_eq!(mixed, [None; 2]);
    assert_eq!(record(&circuit, good_head(&circuit, 0), BodyFailed, 11), None, "the first failure is 11 s old");
    assert_eq!(
        record(&circuit, good_head(&circuit, 0), BodyFailed, 15),
        Some(CircuitState::Open),
        "the failure counts from the end of the body"
    );
}

#[test]
fn failed_bodies_have_a_streak_of_their_own() {
    // C34, C36: good heads end the streak of failed calls.
    let circuit = circuit(CircuitPolicy::new().consecutive(3));
    let body = |result| record(&circuit, good_head(&circuit, 0), result, 1);
    assert_eq!([body(BodyFailed), body(BodyFailed)], [None; 2]);
    assert_eq!(call(&circuit, Success, 1), None, "a good head does not end the streak of bodies");
    assert_eq!([body(BodyEnded), body(BodyFailed), body(BodyFailed)], [None; 3], "a good body ends it");
    // Failed calls and failed bodies do not add up.
    assert_eq!([call(&circuit, Failure, 1), call(&circuit, Failure, 1)], [None; 2]);
    assert_eq!(body(BodyFailed), Some(CircuitState::Open));
    // The next closed generation begins a new streak.
    assert_eq!(call(&circuit, Success, 31), Some(CircuitState::Closed));
    assert_eq!([body(BodyFailed), body(BodyFailed)], [None; 2]);
    circuit.reset(at(31));
    assert_eq!([body(BodyFailed), body(BodyFailed), body(BodyFailed)], [None, None, Some(CircuitState::Open)]);
}

#[test]
fn a_failed_body_turns_one_call_of_the_rate_into_a_failure() {
    // C34, C62
    let circuit = circuit(CircuitPolicy::new().failure_rate(Rate::new(0.5).window(secs(64)).minimum_calls(4)));
    let heads: Vec<_> = (0..4).map(|_| good_head(&circuit, 0)).collect();
    assert_eq!(record(&circuit, heads[0], BodyEnded, 1), None);
    assert_eq!(record(&circuit, heads[1], BodyFailed, 1), None, "one of four, not of five");
    assert_eq!(record(&circuit, heads[2], BodyFailed, 1), Some(CircuitState::Open), "two of four");
    assert_eq!(record(&circuit, heads[3], BodyFailed, 1), None, "late (C39)");
}

#[test]
fn a_failed_body_does_not_count_as_slow() {
    // C34, C36: its head was counted as a quick call.
    let circuit = circuit(CircuitPolicy::new().slow_calls(secs(1), Rate::new(0.5).window(secs(60)).minimum_calls(2)));
    let heads: Vec<_> = (0..4).map(|_| good_head(&circuit, 0)).collect();
    assert!(heads.into_iter().all(|head| record(&circuit, head, BodyFailed, 50).is_none()));
    let ticket = admit(&circuit, 50);
    assert_eq!(record(&circuit, ticket, Success, 50), None);
}

#[test]
fn a_body_of_an_earlier_generation_changes_nothing() {
    // C34, C39
    let circuit = circuit(CircuitPolicy::new().consecutive(1));
    let early = [good_head(&circuit, 0), good_head(&circuit, 0), good_head(&circuit, 0)];
    assert!(circuit.trip(at(0), || 0).is_some());
    assert_eq!(record(&circuit, early[0], BodyFailed, 1), None, "open");
    let probe = admit(&circuit, 30);
    assert_eq!(record(&circuit, early[1], BodyFailed, 31), None, "half-open");
    assert_eq!(record(&circuit, probe, Success, 31), Some(CircuitState::Closed));
    assert_eq!(record(&circuit, early[2], BodyFailed, 32), None, "closed again");
    assert_eq!(record(&circuit, probe, BodyFailed, 32), None, "the head of the probe closed the circuit");
    let forced = good_head(&circuit, 33);
    circuit.force_closed(at(33));
    assert_eq!(record(&circuit, forced, BodyFailed, 33), None);
}

#[test]
fn a_probe_whose_body_fails_opens_the_circuit_if_more_probes_are_needed() {
    // C34, C38
    let circuit = circuit(CircuitPolicy::new().consecutive(1).probes(2).successes_to_close(3));
    call(&circuit, Failure, 0);
    let (ended, failed) = (good_head(&circuit, 30), good_head(&circuit, 30));
    assert_eq!(circuit.record(ended, BodyEnded, no_clock, no_random), None);
    let running = admit(&circuit, 30);
    assert_eq!(record(&circuit, failed, BodyFailed, 31), Some(CircuitState::Open));
    assert_eq!(record(&circuit, running, Success, 32), None, "late (C39)");
    assert_eq!(rejected(&circuit, 32), (CircuitState::Open, Some(secs(29))));
}

#[test]
fn a_body_that_ends_well_takes_no_lock_and_reads_no_clock() {
    for policy in [
        CircuitPolicy::new(),
        CircuitPolicy::new().consecutive(3).failure_rate(Rate::new(0.5).window(secs(60)).minimum_calls(1)),
    ] {
        let circuit = circuit(policy);
        let head = good_head(&circuit, 0);
        let _held = circuit.lock();
        assert_eq!(circuit.record(head, BodyEnded, no_clock, no_random), None);
    }
}

#[test]
fn any_of_several_rules_opens_the_circuit() {
    // C36
    let policy = || CircuitPolicy::new().failures(4).consecutive(2);
    let streak = circuit(policy());
    assert_eq!(call(&streak, Failure, 0), None);
    assert_eq!(call(&streak, Failure, 0), Some(CircuitState::Open));
    let spread = circuit(policy());
    for second in 0..3 {
        assert_eq!(call(&spread, Failure, second), None);
        assert_eq!(call(&spread, Success, second), None);
    }
    assert_eq!(call(&spread, Failure, 3), Some(CircuitState::Open));
}

#[test]
fn a_closed_success_reads_no_clock() {
    for policy in [CircuitPolicy::new(), CircuitPolicy::new().consecutive(3)] {
        let circuit = circuit(policy);
        assert!(!circuit.needs_clock());
        let Admission::Admitted(ticket, None) = circuit.admit(no_clock) else {
            panic!("a closed circuit admits every call");
        };
        assert_eq!(circuit.record(ticket, Success, no_clock, no_random), None);
        assert_eq!(circuit.record(ticket, Neutral, no_clock, no_random), None);
        assert!(circuit.would_admit(no_clock));
    }
}

#[test]
fn a_closed_success_takes_no_lock() {
    let circuit = circuit(CircuitPolicy::new().consecutive(3).failures(3));
    let _held = circuit.lock();
    let Admission::Admitted(ticket, None) = circuit.admit(no_clock) else {
        panic!("a closed circuit admits every call");
    };
    assert_eq!(circuit.record(ticket, Success, no_clock, no_random), None);
}

#[test]
fn an_open_circuit_rejects_calls_without_the_lock() {
    // C35
    let circuit = circuit(CircuitPolicy::new().consecutive(1));
    call(&circuit, Failure, 0);
    let _held = circuit.lock();
    assert_eq!(rejected(&circuit, 10), (CircuitState::Open, Some(secs(20))));
    assert_eq!(circuit.state(at(10)), CircuitState::Open);
    assert_eq!(circuit.eligible_at(), at(30));
}

#[test]
fn an_idle_open_circuit_shows_half_open_after_its_open_time() {
    // C40
    let circuit = circuit(CircuitPolicy::new().consecutive(1));
    call(&circuit, Failure, 0);
    assert_eq!(circuit.state(at(29)), CircuitState::Open);
    assert!(!circuit.would_admit(|| at(29)));
    assert_eq!(circuit.state(at(30)), CircuitState::HalfOpen);
    assert!(circuit.would_admit(|| at(30)));
    assert_eq!(circuit.generation(), 1, "reading the state is no transition");
}

#[test]
fn the_last_moment_neither_panics_nor_admits_every_call() {
    // C40
    let circuit = circuit(CircuitPolicy::new().consecutive(1));
    let end = || Moment::from_nanos(u64::MAX);
    let ticket = admit(&circuit, 0);
    assert!(circuit.record(ticket, Failure, end, || 0).is_some());
    let rejected = circuit.admit(end);
    assert!(matches!(rejected, Admission::Rejected { retry_after: None, .. }), "{rejected:?}");
    circuit.probe_now(end());
    assert!(matches!(circuit.admit(end), Admission::Admitted(..)));
    assert!(matches!(circuit.admit(end), Admission::Rejected { .. }));
    assert!(matches!(circuit.admit(|| at(0)), Admission::Rejected { .. }));
}

#[test]
fn half_open_admits_one_probe() {
    // C38
    let circuit = circuit(CircuitPolicy::new().consecutive(1));
    call(&circuit, Failure, 0);
    let Admission::Admitted(probe, Some(transition)) = circuit.admit(|| at(30)) else {
        panic!("the open time is over");
    };
    assert!(probe.is_probe());
    assert_eq!((transition.from, transition.to), (CircuitState::Open, CircuitState::HalfOpen));
    assert_eq!((transition.at, transition.generation), (at(30), 2));
    assert_eq!(rejected(&circuit, 40), (CircuitState::HalfOpen, Some(secs(50))));
    assert_eq!(circuit.eligible_at(), at(90));
}

#[test]
fn a_cancelled_probe_releases_its_permit_and_counts_nothing() {
    // C37, C38
    let circuit = circuit(CircuitPolicy::new().consecutive(1));
    call(&circuit, Failure, 0);
    for _ in 0..100 {
        let probe = admit(&circuit, 30);
        assert_eq!(circuit.record(probe, Neutral, no_clock, no_random), None);
        assert_eq!(circuit.state(at(30)), CircuitState::HalfOpen);
        assert_eq!(circuit.eligible_at(), Moment::EPOCH);
    }
}

#[test]
fn an_expired_permit_is_acquired_again_and_its_late_release_has_no_effect() {
    // C38
    let circuit = circuit(CircuitPolicy::new().consecutive(1).successes_to_close(2));
    call(&circuit, Failure, 0);
    let lost = admit(&circuit, 30);
    assert_eq!(rejected(&circuit, 89).0, CircuitState::HalfOpen);
    let second = admit(&circuit, 90);
    assert_eq!(record(&circuit, lost, Neutral, 91), None);
    assert_eq!(rejected(&circuit, 92), (CircuitState::HalfOpen, Some(secs(58))));
    assert_eq!(record(&circuit, second, Success, 93), None);
    assert_eq!(call(&circuit, Success, 94), Some(CircuitState::Closed));
}

#[test]
fn probes_that_always_outlast_their_permit_still_close_the_circuit() {
    // C38: or a backend with calls of 90 s would stay half-open forever.
    let circuit = circuit(CircuitPolicy::new().consecutive(1));
    call(&circuit, Failure, 0);
    let slow = admit(&circuit, 30);
    let next = admit(&circuit, 90);
    assert_eq!(record(&circuit, slow, Success, 120), Some(CircuitState::Closed));
    assert_eq!(record(&circuit, next, Failure, 180), None, "late (C39)");
    assert_eq!(circuit.state(at(180)), CircuitState::Closed);
}

#[test]
fn a_failed_probe_opens_the_circuit_and_the_other_probes_are_late() {
    // C39
    let circuit = circuit(CircuitPolicy::new().consecutive(1).probes(3).growth(2.0));
    call(&circuit, Failure, 0);
    let probes = [admit(&circuit, 30), admit(&circuit, 30), admit(&circuit, 30)];
    assert_eq!(record(&circuit, probes[0], Failure, 31), Some(CircuitState::Open));
    assert_eq!(record(&circuit, probes[1], Success, 32), None);
    assert_eq!(record(&circuit, probes[2], Failure, 33), None);
    assert_eq!(rejected(&circuit, 34), (CircuitState::Open, Some(secs(57))));
}

#[test]
fn results_of_calls_from_before_the_opening_change_nothing() {
    // C39
    let circuit = circuit(CircuitPolicy::new().consecutive(1));
    let early = [admit(&circuit, 0), admit(&circuit, 0), admit(&circuit, 0)];
    call(&circuit, Failure, 0);
    assert_eq!(record(&circuit, early[0], Success, 1), None);
    let probe = admit(&circuit, 30);
    assert_eq!(record(&circuit, early[1], Success, 31), None, "it is not a probe, so it does not close the circuit");
    assert_eq!(circuit.state(at(31)), CircuitState::HalfOpen);
    assert_eq!(record(&circuit, probe, Success, 32), Some(CircuitState::Closed));
    assert_eq!(record(&circuit, early[2], Failure, 33), None, "its generation is over");
}

#[test]
fn a_closed_generation_begins_with_empty_counters() {
    // C39
    for policy in [
        CircuitPolicy::new().failures(3),
        CircuitPolicy::new().consecutive(3),
        CircuitPolicy::new().failure_rate(Rate::new(0.5).window(secs(60)).minimum_calls(3)),
    ] {
        let circuit = circuit(policy);
        for _ in 0..2 {
            assert_eq!(call(&circuit, Failure, 0), None);
        }
        assert_eq!(circuit.reset(at(0)), None, "it was closed already");
        for _ in 0..2 {
            assert_eq!(call(&circuit, Failure, 0), None);
        }
        assert_eq!(call(&circuit, Failure, 0), Some(CircuitState::Open));
        circuit.probe_now(at(1));
        assert_eq!(call(&circuit, Success, 1), Some(CircuitState::Closed));
        assert_eq!(call(&circuit, Failure, 1), None);
    }
}

#[test]
fn open_times_grow_while_a_backend_flaps_and_shrink_after_a_quiet_time() {
    // C36
    let circuit = circuit(CircuitPolicy::new().consecutive(1).open_for(secs(10)).growth(2.0));
    let remaining = |now| rejected(&circuit, now).1.unwrap().as_secs();
    assert_eq!(call(&circuit, Failure, 0), Some(CircuitState::Open));
    assert_eq!(remaining(0), 10);
    assert_eq!(call(&circuit, Success, 10), Some(CircuitState::Closed));
    assert_eq!(call(&circuit, Failure, 69), Some(CircuitState::Open));
    assert_eq!(remaining(69), 20, "closed for less than backoff_reset_after");
    assert_eq!(call(&circuit, Failure, 89), Some(CircuitState::Open));
    assert_eq!(remaining(89), 40);
    assert_eq!(call(&circuit, Success, 129), Some(CircuitState::Closed));
    assert_eq!(call(&circuit, Failure, 189), Some(CircuitState::Open));
    assert_eq!(remaining(189), 20, "three openings, halved once");
    assert_eq!(call(&circuit, Success, 209), Some(CircuitState::Closed));
    assert_eq!(call(&circuit, Failure, 10_000), Some(CircuitState::Open));
    assert_eq!(remaining(10_000), 10, "all openings are forgotten");
}

#[test]
fn forced_states_ignore_results_until_reset() {
    // C41
    let circuit = circuit(CircuitPolicy::new().consecutive(1));
    let before = admit(&circuit, 0);
    let forced = circuit.force_closed(at(0)).unwrap();
    assert_eq!((forced.from, forced.to), (CircuitState::Closed, CircuitState::ForcedClosed));
    assert_eq!(circuit.force_closed(at(0)), None, "it is forced closed already");
    assert_eq!(record(&circuit, before, Failure, 0), None);
    for _ in 0..10 {
        assert_eq!(call(&circuit, Failure, 0), None);
    }
    assert_eq!(circuit.trip(at(0), no_random), None);
    assert_eq!(circuit.state(at(0)), CircuitState::ForcedClosed);

    assert_eq!(circuit.force_open(at(1)).unwrap().from, CircuitState::ForcedClosed);
    assert_eq!(rejected(&circuit, u64::MAX), (CircuitState::ForcedOpen, None));
    assert_eq!(circuit.probe_now(at(2)), None);
    assert_eq!(circuit.trip(at(2), no_random), None);
    assert_eq!(circuit.eligible_at(), Moment::NEVER);
    assert!(!circuit.would_admit(|| Moment::NEVER));

    assert_eq!(circuit.reset(at(3)).unwrap().to, CircuitState::Closed);
    assert_eq!(record(&circuit, before, Failure, 3), None, "from before it was forced");
    assert_eq!(call(&circuit, Failure, 3), Some(CircuitState::Open));
}

#[test]
fn a_tripped_circuit_is_probed_after_the_usual_open_time() {
    // C41
    let circuit = Circuit::new(CircuitPolicy::default());
    assert_eq!(circuit.trip(at(0), || 0).unwrap().to, CircuitState::Open);
    assert_eq!(circuit.trip(at(1), no_random), None);
    assert_eq!(call(&circuit, Success, 30), Some(CircuitState::Closed));
}

#[test]
fn probe_now_ends_the_open_time() {
    // C43
    let circuit = circuit(CircuitPolicy::new().consecutive(1));
    assert_eq!(circuit.probe_now(at(0)), None, "it is closed");
    call(&circuit, Failure, 0);
    let transition = circuit.probe_now(at(5)).unwrap();
    assert_eq!((transition.from, transition.to), (CircuitState::Open, CircuitState::HalfOpen));
    assert_eq!(circuit.probe_now(at(5)), None);
    assert!(circuit.would_admit(no_clock));
    assert_eq!(call(&circuit, Success, 5), Some(CircuitState::Closed));
}

#[test]
fn a_panic_of_the_random_source_does_not_block_the_circuit() {
    // C58
    let circuit = circuit(CircuitPolicy::new().consecutive(1).jitter(0.5));
    let ticket = admit(&circuit, 0);
    let panicked =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| circuit.record(ticket, Failure, || at(0), no_random)));
    assert!(panicked.is_err());
    assert_eq!(call(&circuit, Failure, 0), Some(CircuitState::Open));
}

#[test]
fn racing_calls_acquire_no_more_permits_than_configured() {
    // C38
    for probes in [1, 3] {
        let circuit = circuit(CircuitPolicy::new().consecutive(1).probes(probes));
        for round in 0..50 {
            let now = round * 1_000;
            assert_eq!(call(&circuit, Failure, now), Some(CircuitState::Open));
            let admitted = Mutex::new(Vec::new());
            let transitions = Mutex::new(0);
            let start = Barrier::new(8);
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        start.wait();
                        for _ in 0..125 {
                            if let Admission::Admitted(ticket, turned) = circuit.admit(|| at(now + 30)) {
                                admitted.lock().unwrap().push(ticket);
                                *transitions.lock().unwrap() += u32::from(turned.is_some());
                            }
                        }
                    });
                }
            });
            let admitted = admitted.into_inner().unwrap();
            assert_eq!(admitted.len(), probes as usize);
            assert_eq!(transitions.into_inner().unwrap(), 1);
            assert_eq!(record(&circuit, admitted[0], Success, now + 31), Some(CircuitState::Closed));
        }
    }
}

#[test]
fn probes_never_outnumber_their_permits() {
    // C38
    let never = u32::MAX;
    let circuit = circuit(CircuitPolicy::new().probes(2).successes_to_close(never));
    circuit.trip(at(0), || 0);
    let running = AtomicU32::new(0);
    thread::scope(|scope| {
        for result in [Success, Neutral, Success, Neutral] {
            let (circuit, running) = (&circuit, &running);
            scope.spawn(move || {
                for _ in 0..20_000 {
                    if let Admission::Admitted(ticket, _) = circuit.admit(|| at(30)) {
                        assert!(running.fetch_add(1, Ordering::SeqCst) < 2);
                        running.fetch_sub(1, Ordering::SeqCst);
                        record(circuit, ticket, result, 30);
                    }
                }
            });
        }
    });
    let probes = [admit(&circuit, 30), admit(&circuit, 30)];
    assert_ne!(probes[0], probes[1]);
    assert_eq!(rejected(&circuit, 30).0, CircuitState::HalfOpen, "no permit is lost");
}

#[test]
fn no_policy_and_no_moment_make_it_panic() {
    // C58, with moments that jump back and forth.
    let mut rng = fastrand::Rng::with_seed(58);
    for _ in 0..5_000 {
        let mut count = || [1, 2, 3, 1_000][rng.usize(..4)];
        let (failures, consecutive, minimum) = (count(), count(), count());
        let (probes, successes) = (count(), count());
        let mut duration = || {
            let nanos = [1, 31, 1_000, 2_592_000_000_000_000][rng.usize(..4)];
            Duration::from_nanos(nanos)
        };
        let (within, window, slow) = (duration(), duration(), duration());
        let (open_for, quiet, timeout) = (duration(), duration(), duration());
        let mut float = || [f64::MIN_POSITIVE, 0.5, 1.0][rng.usize(..3)];
        let policy = CircuitPolicy::new()
            .failures(failures)
            .within(within)
            .consecutive(consecutive)
            .failure_rate(Rate::new(float()).window(window).minimum_calls(minimum))
            .slow_calls(slow, Rate::new(float()).window(window).minimum_calls(minimum))
            .growth(float() / f64::MIN_POSITIVE)
            .jitter(float())
            .open_for(open_for)
            .backoff_reset_after(quiet)
            .probes(probes)
            .probe_timeout(timeout)
            .successes_to_close(successes);
        let circuit = circuit(policy);
        for _ in 0..50 {
            let now = Moment::from_nanos([0, 1, 1 << 40, u64::MAX - 1, u64::MAX][rng.usize(..5)]);
            let random = rng.u64(..);
            if let Admission::Admitted(ticket, _) = circuit.admit(|| now) {
                let result = [Success, Failure, Failure, Neutral][rng.usize(..4)];
                circuit.record(ticket, result, || now, || random);
                let result = [BodyEnded, BodyFailed][rng.usize(..2)];
                circuit.record(ticket, result, || now, || random);
            }
            match rng.u8(..40) {
                0 => circuit.trip(now, || random),
                1 => circuit.probe_now(now),
                2 => circuit.reset(now),
                _ => None,
            };
            circuit.state(now);
        }
    }
}

#[test]
fn every_transition_is_returned_once() {
    // C41
    let circuit = circuit(CircuitPolicy::new().consecutive(2).probes(2));
    let seen = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for seed in 0..4 {
            let (circuit, seen) = (&circuit, &seen);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let clock = Cell::new(0);
                let now = || {
                    clock.set(clock.get() + 7);
                    at(clock.get())
                };
                let mut mine = Vec::new();
                for _ in 0..5_000 {
                    if let Admission::Admitted(ticket, transition) = circuit.admit(now) {
                        mine.extend(transition);
                        let result = random.choice([Success, Failure, Neutral]).unwrap();
                        mine.extend(circuit.record(ticket, result, now, || 0));
                    }
                    match random.u8(..) {
                        0 => mine.extend(circuit.force_open(now())),
                        1 => mine.extend(circuit.force_closed(now())),
                        2..8 => mine.extend(circuit.probe_now(now())),
                        8..16 if circuit.state(now()).is_forced() => {
                            mine.extend(circuit.reset(now()));
                        }
                        _ => {}
                    }
                }
                seen.lock().unwrap().extend(mine);
            });
        }
    });
    let mut seen = seen.into_inner().unwrap();
    seen.sort_by_key(|transition| transition.generation);
    let mut state = CircuitState::Closed;
    let mut resets = 0;
    for (transition, place) in seen.iter().zip(1..) {
        assert_eq!(transition.from, state, "{transition:?}");
        // A reset that finds the circuit closed begins a generation without a transition.
        resets = transition.generation - place;
        state = transition.to;
    }
    assert!(seen.len() > 1_000 && resets < 100, "{} with {resets}", seen.len());
}
