//! A failover by the key: its first attempt, and further ones.

use futures::future::join_all;
use tower_fleet::failover::{ErrorKind, Ledger, Mode};

use super::*;

type FailoverDoor = Failover<Mock, Plain, Classifier>;

fn failover(builder: FailoverBuilder<Plain>, fleet: &Fleet<Mock, Classifier>) -> FailoverDoor {
    builder.strategy(Hash::by_classifier()).build().unwrap().layer(fleet.clone())
}

fn tried(ledger: &Ledger) -> Vec<String> {
    ledger.attempts().iter().map(|attempt| attempt.backend.to_string()).collect()
}

/// The order of the backends for a key, from the ledger of a request that all of them fail.
async fn order(door: &FailoverDoor, remotes: &HashMap<&'static str, Arc<Remote>>, key: u64) -> Vec<String> {
    remotes.values().for_each(|remote| remote.answer(Answer::Error));
    let error = door.clone().oneshot(key).await.unwrap_err();
    remotes.values().for_each(|remote| remote.answer(Answer::Ok));
    tried(error.ledger())
}

// C13, C48
#[tokio::test(start_paused = true)]
async fn further_attempts_follow_the_order_of_the_key() {
    let (fleet, remotes) = fleet(&NAMES);
    let door = failover(FailoverLayer::plain().mode(Mode::Sequential), &fleet);
    for key in 1..=30 {
        let order = order(&door, &remotes, key).await;
        assert_eq!(order.len(), 10, "{order:?}");
        // The same order as that of a key whose backends leave, one by one, at another door.
        let balance = super::door(&fleet);
        for name in &order {
            assert_eq!(send(&balance, key).await, name);
            assert_eq!(send(&door, key).await, name);
            fleet.drain(name);
        }
        order.iter().for_each(|name| assert!(restore(&fleet, name)));
    }
}

// C15, C48
#[tokio::test(start_paused = true)]
async fn a_hedge_is_sent_to_the_next_backend_of_the_key() {
    let (fleet, remotes) = fleet(&NAMES);
    let sequential = failover(FailoverLayer::plain().mode(Mode::Sequential), &fleet);
    let hedged = failover(FailoverLayer::plain().mode(Mode::hedged(secs(1))), &fleet);
    for key in 1..=10 {
        let order = order(&sequential, &remotes, key).await;
        remotes[&*order[0]].answer(Answer::Never);
        assert_eq!(send(&hedged, key).await, order[1]);
        remotes[&*order[0]].answer(Answer::Ok);
    }
}

// C15, C48
#[tokio::test(start_paused = true)]
async fn a_race_begins_at_the_backend_of_the_key() {
    let (fleet, remotes) = fleet(&["a", "b", "c"]);
    let door = failover(FailoverLayer::plain(), &fleet);
    let owner = send(&door, 7).await;
    for name in ["a", "b", "c"] {
        assert_eq!(remotes[name].calls(), usize::from(name == owner));
    }
    remotes[owner].answer(Answer::Error);
    assert_ne!(send(&door, 7).await, owner);
    // Once more: the primary of a race has a second attempt.
    assert_eq!(remotes[owner].calls(), 3);
}

// C8, C10, C48
#[tokio::test(start_paused = true)]
async fn a_request_whose_tier_is_pending_is_sent_to_a_lower_one() {
    let (fleet, remotes) = fleet(&["a", "b", "low"]);
    fleet.set_priority("low", -1);
    let mut door = failover(FailoverLayer::plain(), &fleet);
    for name in ["a", "b"] {
        remotes[name].set_readiness(Readiness::Error);
    }
    assert!(futures::FutureExt::now_or_never(door.ready()).expect("it needs the request").is_ok());
    assert_eq!(send(&door, 7).await, "low");
    for name in ["a", "b"] {
        remotes[name].set_readiness(Readiness::Pending);
    }
    assert_eq!(send(&door, 7).await, "low");
    let served = join_all((1..=20).map(|key| send(&door, key))).await;
    assert_eq!(served, ["low"; 20]);
    assert!(remotes.values().all(|remote| remote.instances() == 1), "no instance is left pending");
}

// C10, C25, C48
#[tokio::test(start_paused = true)]
async fn a_backend_that_panics_or_fails_in_ready_is_in_the_ledger_once() {
    let (fleet, remotes) = fleet(&["a"]);
    let door = failover(FailoverLayer::plain(), &fleet);
    remotes["a"].set_readiness(Readiness::Error);
    let error = door.clone().oneshot(7).await.unwrap_err();
    assert_eq!(tried(error.ledger()), ["a"], "{error}");
    assert!(matches!(error.kind(), ErrorKind::Exhausted { .. }), "{error:?}");
}

// C35, C48
#[tokio::test(start_paused = true)]
async fn the_circuit_of_a_backend_is_probed_by_its_keys() {
    let (backends, remotes) = backends(&NAMES);
    let policy = CircuitPolicy::new().consecutive(1).open_for(secs(10));
    let fleet = builder().backends(backends).circuit_breaker(policy).build().unwrap();
    let door = failover(FailoverLayer::plain().mode(Mode::Sequential), &fleet);
    let mut before = Vec::new();
    for key in 1..=50 {
        before.push(send(&door, key).await);
    }
    let owner = before[6];
    remotes[owner].answer(Answer::Error);
    assert_ne!(send(&door, 7).await, owner, "it fails over, and the circuit opens");
    remotes[owner].answer(Answer::Ok);
    tokio::time::advance(secs(11)).await;
    for key in (1..=50).filter(|key| before[*key as usize - 1] != owner) {
        assert_eq!(send(&door, key).await, before[key as usize - 1]);
    }
    assert_eq!(send(&door, 7).await, owner);
}
