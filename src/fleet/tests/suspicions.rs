//! What active probes and other replicas report.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};

use crate::{
    AdminStatus, Backend, CircuitPolicy, CircuitState, Fleet,
    fleet::{Change, MemberInfo, Snapshot},
    outcome::ErrorsOnly,
};

const MINUTE: Duration = Duration::from_secs(60);

fn fleet(names: &[&str], policy: Option<CircuitPolicy>, max_ejected: f64) -> Fleet<(), ErrorsOnly> {
    let mut fleet = Fleet::plain().backends(names.iter().map(|name| Backend::new(*name, ()))).max_ejected(max_ejected);
    if let Some(policy) = policy {
        fleet = fleet.circuit_breaker(policy);
    }
    fleet.build().unwrap()
}

fn with_circuits(names: &[&str]) -> Fleet<(), ErrorsOnly> {
    fleet(names, Some(CircuitPolicy::new().open_for(Duration::from_secs(10))), 1.0)
}

fn member(fleet: &Fleet<(), ErrorsOnly>, name: &str) -> Arc<MemberInfo> {
    fleet.shared.core.find(name).unwrap()
}

fn snapshot(fleet: &Fleet<(), ErrorsOnly>, name: &str) -> Snapshot {
    fleet.snapshot().into_iter().find(|backend| backend.name == name).unwrap()
}

fn eligible(fleet: &Fleet<(), ErrorsOnly>) -> Vec<String> {
    fleet.shared.core.process_due();
    let members = fleet.shared.core.members();
    members.iter().filter(|member| member.health.is_eligible()).map(|member| member.name.to_string()).collect()
}

// C43
#[tokio::test(start_paused = true)]
async fn failed_probes_keep_a_backend_out_until_one_succeeds() {
    let fleet = fleet(&["a", "b"], None, 1.0);
    let mut changes = fleet.changes();
    let core = &fleet.shared.core;
    core.probe_failed(&member(&fleet, "a"), MINUTE);
    core.probe_failed(&member(&fleet, "a"), MINUTE);
    assert_eq!(eligible(&fleet), ["b"]);
    assert!(snapshot(&fleet, "a").is_failing);
    core.probe_succeeded(&member(&fleet, "a"), false);
    assert_eq!(eligible(&fleet), ["a", "b"]);
    let name = snapshot(&fleet, "a").name;
    assert_eq!(changes.next().now_or_never(), Some(Some(Change::Probe(name.clone(), false))));
    assert_eq!(changes.next().now_or_never(), Some(Some(Change::Probe(name, true))));
    assert_eq!(changes.next().now_or_never(), None, "each change is announced once");
}

// C43: a prober that is dropped leaves nothing behind.
#[tokio::test(start_paused = true)]
async fn failing_probes_count_for_their_time_only() {
    let fleet = fleet(&["a"], None, 1.0);
    fleet.shared.core.probe_failed(&member(&fleet, "a"), MINUTE);
    tokio::time::advance(MINUTE / 2).await;
    fleet.shared.core.probe_failed(&member(&fleet, "a"), MINUTE);
    tokio::time::advance(MINUTE * 3 / 4).await;
    assert!(eligible(&fleet).is_empty(), "the second failure extended it");
    tokio::time::advance(MINUTE / 4).await;
    assert_eq!(eligible(&fleet), ["a"]);
}

// C42, C43
#[tokio::test(start_paused = true)]
async fn failing_probes_count_as_ejections() {
    let fleet = fleet(&["a", "b", "c", "d"], None, 0.5);
    for name in ["a", "b", "c"] {
        fleet.shared.core.probe_failed(&member(&fleet, name), MINUTE);
    }
    assert_eq!(eligible(&fleet), ["c", "d"], "the last one stays in rotation");
    fleet.shared.core.probe_succeeded(&member(&fleet, "a"), false);
    assert_eq!(eligible(&fleet), ["a", "d"]);
}

// C41, C43: a good probe moves an open circuit to half-open, or closes it, and leaves the operator's word.
#[tokio::test(start_paused = true)]
async fn a_good_probe_does_not_undo_what_an_operator_set() {
    let fleet = with_circuits(&["a", "b"]);
    let (core, switch) = (&fleet.shared.core, fleet.switch("a").unwrap());
    switch.trip();
    core.probe_succeeded(&member(&fleet, "a"), false);
    assert_eq!(switch.state(), CircuitState::HalfOpen);
    core.probe_succeeded(&member(&fleet, "a"), true);
    assert_eq!(switch.state(), CircuitState::Closed);
    fleet.set_status("a", AdminStatus::Draining);
    switch.force_open();
    for closes in [false, true] {
        core.probe_succeeded(&member(&fleet, "a"), closes);
        assert_eq!((switch.state(), snapshot(&fleet, "a").status), (CircuitState::ForcedOpen, AdminStatus::Draining));
    }
}

// C69: when a hint ends, a few probes are sent first.
#[tokio::test(start_paused = true)]
async fn a_hint_ends_in_a_half_open_circuit() {
    let fleet = with_circuits(&["a", "b", "c"]);
    let core = &fleet.shared.core;
    let mut changes = fleet.changes();
    assert!(core.hint(&member(&fleet, "a"), MINUTE, true));
    assert!(core.hint(&member(&fleet, "a"), MINUTE / 2, true), "the longest deadline counts");
    assert_eq!(eligible(&fleet), ["b", "c"]);
    assert_eq!(snapshot(&fleet, "a").hinted_for, Some(MINUTE));
    tokio::time::advance(MINUTE).await;
    assert_eq!(eligible(&fleet), ["b", "c"]);
    assert_eq!((snapshot(&fleet, "a").state, snapshot(&fleet, "a").hinted_for), (CircuitState::HalfOpen, None));
    assert!(member(&fleet, "a").may_probe());
    let announced = [changes.next().await, changes.next().await, changes.next().await].map(Option::unwrap);
    let name = snapshot(&fleet, "a").name;
    assert_eq!(announced[..2], [Change::Hint(name.clone(), Some(MINUTE)), Change::Hint(name, None)]);
    assert!(matches!(&announced[2], Change::Circuit(_, moved) if moved.to == CircuitState::HalfOpen));
}

// C69: another replica's good probe lets this one probe.
#[tokio::test(start_paused = true)]
async fn a_reported_recovery_lets_this_replica_probe() {
    let fleet = with_circuits(&["a", "b", "c"]);
    let core = &fleet.shared.core;
    core.hint(&member(&fleet, "a"), MINUTE, true);
    core.end_hint(&member(&fleet, "a"));
    assert_eq!(fleet.switch("a").unwrap().state(), CircuitState::HalfOpen);
    fleet.switch("b").unwrap().trip();
    core.end_hint(&member(&fleet, "b"));
    assert_eq!(fleet.switch("b").unwrap().state(), CircuitState::HalfOpen);
    core.end_hint(&member(&fleet, "c"));
    assert_eq!(eligible(&fleet), ["c"], "a healthy backend is not put on probation");
}

// C69: a hint without probation is a pause.
#[tokio::test(start_paused = true)]
async fn a_hinted_cool_down_ends_with_a_closed_circuit() {
    let fleet = with_circuits(&["a", "b"]);
    assert!(fleet.shared.core.hint(&member(&fleet, "a"), MINUTE, false));
    tokio::time::advance(MINUTE).await;
    assert_eq!(eligible(&fleet), ["a", "b"]);
}

// C69: at most half of the backends, and never the only one.
#[tokio::test(start_paused = true)]
async fn hints_cannot_take_a_fleet_down() {
    let alone = with_circuits(&["a"]);
    assert!(!alone.shared.core.hint(&member(&alone, "a"), MINUTE, true));
    let fleet = with_circuits(&["a", "b", "c", "d", "e"]);
    let hints = ["a", "b", "c", "d", "e"].map(|name| fleet.shared.core.hint(&member(&fleet, name), MINUTE, true));
    assert_eq!(hints, [true, true, false, false, false]);
    assert_eq!(eligible(&fleet), ["c", "d", "e"]);
    // What this replica finds itself counts first.
    fleet.switch("e").unwrap().trip();
    assert_eq!(eligible(&fleet), ["b", "c", "d"], "the last hint ends");
    assert_eq!(fleet.switch("b").unwrap().state(), CircuitState::Closed, "and is not on probation");
    fleet.switch("d").unwrap().trip();
    assert_eq!(eligible(&fleet), ["a", "b", "c"]);
    assert!(!fleet.shared.core.hint(&member(&fleet, "a"), MINUTE, true));
}

// C69: never beyond `max_ejected`.
#[tokio::test(start_paused = true)]
async fn hints_count_as_ejections() {
    let names = ["a", "b", "c", "d", "e"];
    let fleet = fleet(&names, Some(CircuitPolicy::new()), 0.2);
    let hints = names.map(|name| fleet.shared.core.hint(&member(&fleet, name), MINUTE, true));
    assert_eq!(hints, [true, false, false, false, false]);
    fleet.switch("b").unwrap().trip();
    assert_eq!(eligible(&fleet), ["a", "c", "d", "e"], "a hint ends before a circuit is exempt");
}

// C69: the operator's word and a good probe here are worth more.
#[tokio::test(start_paused = true)]
async fn a_hint_ends_by_the_operator_and_by_a_good_probe() {
    let fleet = with_circuits(&["a", "b"]);
    let (core, switch) = (&fleet.shared.core, fleet.switch("a").unwrap());
    core.hint(&member(&fleet, "a"), MINUTE, true);
    switch.force_closed();
    assert_eq!(eligible(&fleet), ["a", "b"]);
    assert!(!core.hint(&member(&fleet, "a"), MINUTE, true));
    switch.reset();
    core.hint(&member(&fleet, "a"), MINUTE, true);
    switch.reset();
    assert_eq!(eligible(&fleet), ["a", "b"]);
    core.hint(&member(&fleet, "a"), MINUTE, true);
    core.probe_succeeded(&member(&fleet, "a"), true);
    assert_eq!(eligible(&fleet), ["a", "b"]);
}

// C55: permits of all replicas. The operator's word is not delayed.
#[tokio::test(start_paused = true)]
async fn a_deferred_circuit_is_due_later() {
    let fleet = with_circuits(&["a", "b"]);
    let switch = fleet.switch("a").unwrap();
    switch.trip();
    fleet.shared.core.defer_probe(&member(&fleet, "a"), MINUTE);
    fleet.shared.core.defer_probe(&member(&fleet, "a"), MINUTE / 2);
    tokio::time::advance(Duration::from_secs(59)).await;
    fleet.shared.core.process_due();
    assert_eq!((switch.state(), member(&fleet, "a").may_probe()), (CircuitState::Open, false));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!((switch.state(), member(&fleet, "a").may_probe()), (CircuitState::HalfOpen, true));
    switch.force_open();
    fleet.shared.core.defer_probe(&member(&fleet, "a"), MINUTE);
    assert_eq!(switch.state(), CircuitState::ForcedOpen);
}

// C11, C69
#[tokio::test(start_paused = true)]
async fn a_removed_backend_takes_its_hint_along() {
    let fleet = with_circuits(&["a", "b", "c", "d"]);
    let core = &fleet.shared.core;
    let removed = member(&fleet, "a");
    core.hint(&removed, MINUTE, true);
    core.hint(&member(&fleet, "b"), MINUTE, true);
    fleet.remove("a");
    assert!(!core.hint(&removed, MINUTE, true));
    core.probe_failed(&removed, MINUTE);
    core.probe_succeeded(&removed, true);
    core.end_hint(&removed);
    // One of three.
    assert_eq!(eligible(&fleet), ["c", "d"]);
    tokio::time::advance(MINUTE).await;
    assert_eq!(fleet.snapshot().len(), 3);
}
