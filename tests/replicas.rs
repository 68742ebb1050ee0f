//! What replicas tell each other, through an exchange in memory and under paused time.

use std::time::Duration;

use tower_fleet::{
    AdminStatus, Backend, CircuitPolicy, CircuitState, Fleet,
    fleet::Snapshot,
    outcome::ErrorsOnly,
    replicas::{MemoryExchange, Share, Sharing},
};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

type Replica = Fleet<(), ErrorsOnly>;

fn fleet(names: &[&str]) -> Replica {
    let policy = CircuitPolicy::new().open_for(10 * SECOND);
    let backends = names.iter().map(|name| Backend::new(*name, ()));
    Fleet::plain().name("search").backends(backends).circuit_breaker(policy).build().unwrap()
}

/// A replica that shares by an exchange, in a task of its own.
fn replica(exchange: &MemoryExchange, names: &[&str]) -> Replica {
    let fleet = fleet(names);
    tokio::spawn(sharing(&fleet, exchange));
    fleet
}

fn sharing(fleet: &Replica, exchange: &MemoryExchange) -> Sharing {
    fleet.share(Share::new(exchange.clone())).unwrap()
}

fn backend(fleet: &Replica, name: &str) -> Snapshot {
    fleet.snapshot().into_iter().find(|backend| backend.name == name).unwrap()
}

fn hinted(fleet: &Replica) -> Vec<String> {
    let hinted = fleet.snapshot().into_iter().filter(|backend| backend.hinted_for.is_some());
    hinted.map(|backend| backend.name.to_string()).collect()
}

fn trip(fleet: &Replica, name: &str) {
    fleet.switch(name).unwrap().trip();
}

/// Lets the replicas tell each other what there is.
async fn settle() {
    tokio::time::sleep(10 * MS).await;
}

// C55, C69
#[tokio::test(start_paused = true)]
async fn an_opening_is_a_hint_at_the_other_replicas() {
    let exchange = MemoryExchange::new();
    let [one, two, three] = [(); 3].map(|()| replica(&exchange, &["a", "b", "c"]));
    settle().await;
    trip(&one, "a");
    settle().await;
    for other in [&two, &three] {
        assert_eq!(hinted(other), ["a"]);
        assert_eq!(backend(other, "a").state, CircuitState::Closed, "a hint is not an opening");
        let left = backend(other, "a").hinted_for.unwrap();
        assert!(left > 9 * SECOND && left <= 10 * SECOND, "{left:?}");
    }
    assert_eq!(hinted(&one), [""; 0], "what a replica found itself is no hint to it");
}

// C55: a replica that starts later reads it.
#[tokio::test(start_paused = true)]
async fn a_new_replica_reads_what_was_reported_before() {
    let exchange = MemoryExchange::new();
    let one = replica(&exchange, &["a", "b"]);
    settle().await;
    trip(&one, "a");
    settle().await;
    let two = replica(&exchange, &["a", "b"]);
    settle().await;
    assert_eq!(hinted(&two), ["a"]);
    // And so does a backend that is added later.
    let three = replica(&exchange, &["b", "c"]);
    settle().await;
    three.insert(Backend::new("a", ())).unwrap();
    settle().await;
    assert_eq!(hinted(&three), ["a"]);
}

// C55: an opening before the first connection counts too.
#[tokio::test(start_paused = true)]
async fn an_opening_before_the_start_is_reported() {
    let exchange = MemoryExchange::new();
    let (one, two) = (fleet(&["a", "b"]), replica(&exchange, &["a", "b"]));
    trip(&one, "a");
    tokio::time::sleep(SECOND).await;
    tokio::spawn(sharing(&one, &exchange));
    settle().await;
    let left = backend(&two, "a").hinted_for.unwrap();
    assert!(left > 8 * SECOND && left <= 9 * SECOND, "{left:?}");
}

// C55: one recovery is told to all, and they probe at once.
#[tokio::test(start_paused = true)]
async fn a_recovery_ends_the_hints_and_open_circuits_are_probed() {
    let exchange = MemoryExchange::new();
    let [one, two, three] = [(); 3].map(|()| replica(&exchange, &["a", "b"]));
    settle().await;
    trip(&one, "a");
    trip(&two, "a");
    settle().await;
    assert_eq!(hinted(&three), ["a"]);
    one.switch("a").unwrap().reset();
    settle().await;
    assert_eq!(backend(&one, "a").state, CircuitState::Closed);
    assert_eq!(backend(&two, "a").state, CircuitState::HalfOpen, "its own opening is probed now");
    assert_eq!((backend(&three, "a").state, hinted(&three)), (CircuitState::HalfOpen, vec![]));
    // An opening after the recovery counts again.
    trip(&two, "a");
    settle().await;
    assert_eq!((hinted(&one), hinted(&three)), (vec!["a".to_owned()], vec!["a".to_owned()]));
}

// C69: what was reported before a recovery and is repeated later changes nothing.
#[tokio::test(start_paused = true)]
async fn nothing_is_hinted_again_after_a_recovery() {
    let exchange = MemoryExchange::new();
    let [one, two] = [(); 2].map(|()| replica(&exchange, &["a", "b"]));
    settle().await;
    trip(&one, "a");
    settle().await;
    one.switch("a").unwrap().reset();
    for _ in 0..9 {
        tokio::time::sleep(5 * SECOND).await;
        assert_eq!((hinted(&one), hinted(&two)), (vec![], vec![]));
    }
}

// C55, C71
#[tokio::test(start_paused = true)]
async fn a_cool_down_is_shared_and_ends_without_probes() {
    let exchange = MemoryExchange::new();
    let [one, two] = [(); 2].map(|()| replica(&exchange, &["a", "b"]));
    settle().await;
    one.cool_down("a", 20 * SECOND);
    settle().await;
    let left = backend(&two, "a").hinted_for.unwrap();
    assert!(left > 19 * SECOND && left <= 20 * SECOND, "{left:?}");
    assert_eq!(backend(&two, "a").cools_for, None);
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!((hinted(&two), backend(&two, "a").state), (vec![], CircuitState::Closed));
}

// C55: the latest word of an operator counts everywhere.
#[tokio::test(start_paused = true)]
async fn what_an_operator_sets_is_set_everywhere() {
    let exchange = MemoryExchange::new();
    let [one, two, three] = [(); 3].map(|()| replica(&exchange, &["a", "b"]));
    settle().await;
    one.drain("a");
    one.switch("a").unwrap().force_open();
    settle().await;
    for fleet in [&one, &two, &three] {
        let a = backend(fleet, "a");
        assert_eq!((a.status, a.state), (AdminStatus::Draining, CircuitState::ForcedOpen));
    }
    two.set_status("a", AdminStatus::Healthy);
    settle().await;
    three.switch("a").unwrap().reset();
    settle().await;
    for fleet in [&one, &two, &three] {
        let a = backend(fleet, "a");
        assert_eq!((a.status, a.state), (AdminStatus::Healthy, CircuitState::Closed));
    }
    // Nor does it come back.
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(backend(&one, "a").status, AdminStatus::Healthy);
}

// C55: a status is kept by the replicas, beyond the end of the one where it was set.
#[tokio::test(start_paused = true)]
async fn a_status_outlives_its_replica_and_reaches_new_ones() {
    let exchange = MemoryExchange::new();
    let [one, two] = [(); 2].map(|()| replica(&exchange, &["a", "b"]));
    settle().await;
    one.drain("a");
    settle().await;
    drop(one);
    tokio::time::sleep(60 * SECOND).await;
    let three = replica(&exchange, &["a", "b"]);
    settle().await;
    assert_eq!(backend(&two, "a").status, AdminStatus::Draining);
    assert_eq!(backend(&three, "a").status, AdminStatus::Draining);
    // What a replica starts with is older than all that was set since.
    let four = Fleet::plain().name("search").backends([Backend::new("a", ()), Backend::new("b", ())]);
    let four = four.circuit_breaker(CircuitPolicy::new()).build().unwrap();
    two.set_status("a", AdminStatus::Healthy);
    settle().await;
    four.drain("a");
    tokio::spawn(sharing(&four, &exchange));
    settle().await;
    assert_eq!((backend(&four, "a").status, backend(&two, "a").status), (AdminStatus::Healthy, AdminStatus::Healthy));
}

// C69: settings per replica.
#[tokio::test(start_paused = true)]
async fn overrides_stay_local_where_they_are_not_shared() {
    let exchange = MemoryExchange::new();
    let (one, two) = (fleet(&["a", "b"]), replica(&exchange, &["a", "b"]));
    tokio::spawn(one.share(Share::new(exchange.clone()).overrides(false)).unwrap());
    settle().await;
    one.drain("a");
    two.drain("b");
    settle().await;
    assert_eq!((backend(&two, "a").status, backend(&one, "b").status), (AdminStatus::Healthy, AdminStatus::Healthy));
}

// C69: a hint is capped, and the operator here knows better.
#[tokio::test(start_paused = true)]
async fn a_replica_that_sees_everything_fail_takes_no_fleet_down() {
    let exchange = MemoryExchange::new();
    let names = ["a", "b", "c", "d", "e"];
    let [one, two] = [(); 2].map(|()| replica(&exchange, &names));
    settle().await;
    names.iter().for_each(|name| trip(&one, name));
    settle().await;
    assert_eq!(hinted(&two).len(), 2, "at most half");
    // Where a circuit is forced closed, the hint ends, and another backend is hinted instead.
    let first = hinted(&two)[0].clone();
    two.switch(&first).unwrap().force_closed();
    tokio::time::sleep(SECOND).await;
    assert!(!hinted(&two).contains(&first));
    assert_eq!(hinted(&two).len(), 2, "what was refused is tried again");
    assert!(names.iter().all(|name| one.drain(name)));
    settle().await;
    let drained = two.snapshot().into_iter().filter(|backend| backend.status != AdminStatus::Healthy).count();
    assert_eq!(drained, 2, "at most half");
}

// C69: ended by what this replica finds itself.
#[tokio::test(start_paused = true)]
async fn a_good_probe_here_ends_the_hint() {
    let exchange = MemoryExchange::new();
    let [one, two] = [(); 2].map(|()| replica(&exchange, &["a", "b", "c"]));
    settle().await;
    trip(&two, "a");
    settle().await;
    trip(&one, "a");
    one.switch("a").unwrap().reset();
    settle().await;
    assert_eq!(hinted(&one), [""; 0]);
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(hinted(&one), [""; 0]);
}

// C55: nothing is left behind, and nothing runs on.
#[tokio::test(start_paused = true)]
async fn sharing_ends_with_the_fleet_and_may_be_dropped_at_any_time() {
    let exchange = MemoryExchange::new();
    let fleet = fleet(&["a", "b"]);
    let running = tokio::spawn(sharing(&fleet, &exchange));
    settle().await;
    drop(sharing(&fleet, &exchange));
    let other = tokio::spawn(sharing(&fleet, &exchange));
    settle().await;
    other.abort();
    drop(fleet);
    running.await.unwrap();
}

// C55: one permit for all replicas.
#[tokio::test(start_paused = true)]
async fn one_replica_of_two_hundred_probes() {
    let exchange = MemoryExchange::new();
    let fleets: Vec<_> = (0..200).map(|_| replica(&exchange, &["a", "b"])).collect();
    settle().await;
    fleets.iter().for_each(|fleet| trip(fleet, "a"));
    let due = |fleet: &&Replica| backend(fleet, "a").state == CircuitState::HalfOpen;
    let mut most = 0;
    for _ in 0..100 {
        tokio::time::sleep(149 * MS).await;
        most = most.max(fleets.iter().filter(due).count());
    }
    assert_eq!(most, 1, "one circuit was due, in 15 s with an open time of 10 s");
    // Its probe is good: all the others probe at once.
    let prober = fleets.iter().find(due).unwrap();
    prober.switch("a").unwrap().reset();
    settle().await;
    assert_eq!(fleets.iter().filter(due).count(), 199);
}

// C55: a permit that is not used passes on.
#[tokio::test(start_paused = true)]
async fn another_replica_probes_when_the_lease_is_over() {
    let exchange = MemoryExchange::new();
    let fleets: Vec<_> = (0..3).map(|_| replica(&exchange, &["a", "b"])).collect();
    settle().await;
    fleets.iter().for_each(|fleet| trip(fleet, "a"));
    let due = |fleet: &Replica| backend(fleet, "a").state == CircuitState::HalfOpen;
    tokio::time::sleep(11 * SECOND).await;
    let first: Vec<_> = (0..3).filter(|at| due(&fleets[*at])).collect();
    assert_eq!(first.len(), 1);
    trip(&fleets[first[0]], "a");
    let others = (0..3).filter(|at| *at != first[0]);
    let mut served = false;
    for _ in 0..100 {
        tokio::time::sleep(100 * MS).await;
        served |= others.clone().any(|at| due(&fleets[at]));
    }
    assert!(served);
}

// C43, C55: a prober gets the same permits.
#[tokio::test(start_paused = true)]
async fn a_prober_asks_for_a_permit() {
    let exchange = MemoryExchange::new();
    let (one, two) = (fleet(&["a", "b"]), fleet(&["a", "b"]));
    let (of_one, of_two) = (sharing(&one, &exchange), sharing(&two, &exchange));
    let (permits_one, permits_two) = (of_one.permits(), of_two.permits());
    let a = backend(&one, "a").name;
    let start = tokio::time::Instant::now();
    assert!(permits_one.may_probe(&a).await, "nothing shares yet");
    assert!(start.elapsed() <= 100 * MS);
    let running = [tokio::spawn(of_one), tokio::spawn(of_two)];
    settle().await;
    assert!(permits_one.may_probe(&a).await);
    assert!(!permits_two.may_probe(&a).await);
    assert!(permits_two.may_probe(&backend(&one, "b").name).await, "another backend");
    tokio::time::sleep(6 * SECOND).await;
    assert!(permits_two.may_probe(&a).await, "the lease is over");
    running.iter().for_each(tokio::task::JoinHandle::abort);
    settle().await;
    assert!(permits_one.may_probe(&a).await, "nothing shares any more");
}
