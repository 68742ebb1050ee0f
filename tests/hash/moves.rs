//! Which keys move when backends come and go.

use tokio_test::{assert_pending, task};

use super::*;

// C48
#[tokio::test(start_paused = true)]
async fn replicas_choose_the_same_backends_by_name() {
    let (fleet, _) = fleet(&NAMES);
    let mut reversed = NAMES;
    reversed.reverse();
    let (other, _) = super::fleet(&reversed);
    let owners = owners(&door(&fleet)).await;
    assert_eq!(super::owners(&door(&other)).await, owners);
    assert!(NAMES.iter().all(|name| owners.contains(name)), "every backend has keys");
}

// C11, C48
#[tokio::test(start_paused = true)]
async fn only_the_keys_of_a_backend_that_is_out_move() {
    let (fleet, _) = fleet(&NAMES);
    let door = door(&fleet);
    let before = owners(&door).await;
    fleet.drain("d");
    let after = owners(&door).await;
    let moved = moved(&before, &after);
    assert!(moved.iter().all(|key| before[key - 1] == "d") && (10..60).contains(&moved.len()), "{moved:?}");
    restore(&fleet, "d");
    assert_eq!(owners(&door).await, before);

    assert!(fleet.remove("d"));
    assert_eq!(owners(&door).await, after, "removed is as drained");
    let (mock, _remote) = Mock::new("d");
    fleet.insert(Backend::new("d", mock)).unwrap();
    assert_eq!(owners(&door).await, before, "another backend of that name, at the end of the fleet");
}

// C11, C48
#[tokio::test(start_paused = true)]
async fn a_replaced_backend_keeps_its_keys_and_a_new_one_takes_its_part() {
    let (fleet, remotes) = fleet(&NAMES);
    let door = door(&fleet);
    let before = owners(&door).await;
    let (mock, replacement) = Mock::new("d");
    fleet.replace(Backend::new("d", mock)).unwrap();
    let calls = remotes["d"].calls();
    assert_eq!(owners(&door).await, before);
    assert_eq!((replacement.calls(), remotes["d"].calls()), (calls, calls));

    let (mock, _remote) = Mock::new("k");
    fleet.insert(Backend::new("k", mock)).unwrap();
    let after = owners(&door).await;
    let moved = moved(&before, &after);
    assert!(moved.iter().all(|key| after[key - 1] == "k") && (8..55).contains(&moved.len()), "{moved:?}");
}

// C11, C48
#[tokio::test(start_paused = true)]
async fn a_request_in_flight_at_a_removed_backend_ends_there() {
    let (fleet, remotes) = fleet(&NAMES);
    let mut door = door(&fleet);
    let owner = send(&door, 7).await;
    remotes[owner].answer(Answer::OkAfter(secs(5)));
    let mut call = task::spawn(door.call(7));
    assert_pending!(call.poll());
    assert!(fleet.remove(owner));
    assert_ne!(send(&door, 7).await, owner);
    assert_eq!(call.await.unwrap(), owner);
}

// C10, C48
#[tokio::test(start_paused = true)]
async fn a_key_whose_backend_is_pending_meets_the_next_and_returns() {
    let (fleet, remotes) = fleet(&NAMES);
    let door = door(&fleet);
    let owner = send(&door, 7).await;
    for readiness in [Readiness::Pending, Readiness::Error] {
        remotes[owner].set_readiness(readiness);
        let next = send(&door, 7).await;
        assert_ne!(next, owner);
        for _ in 0..5 {
            assert_eq!(send(&door, 7).await, next, "always the same one");
        }
        remotes[owner].set_readiness(Readiness::Ready);
        assert_eq!(send(&door, 7).await, owner);
        // The next one is that of a drained backend, too.
        fleet.drain(owner);
        assert_eq!(send(&door, 7).await, next);
        restore(&fleet, owner);
    }
}

// C10, C20, C48
#[tokio::test(start_paused = true)]
async fn a_request_that_waits_meets_its_own_backend_if_that_is_ready_first() {
    let (fleet, remotes) = fleet(&NAMES);
    let mut door = door(&fleet);
    let owner = send(&door, 7).await;
    remotes.values().for_each(|remote| remote.set_readiness(Readiness::Pending));
    let mut waiting = task::spawn(door.call(7));
    assert_pending!(waiting.poll());
    let cancelled = task::spawn(door.call(8));
    drop(cancelled);
    remotes[owner].set_readiness(Readiness::Ready);
    assert!(waiting.is_woken());
    assert_eq!(waiting.await.unwrap(), owner);
    assert!(remotes.values().all(|remote| remote.instances() == 1), "the fleet's");
}

// C8, C48
#[tokio::test(start_paused = true)]
async fn keys_move_to_a_lower_tier_only_while_the_higher_one_is_out() {
    let (fleet, _) = fleet(&NAMES);
    for name in &NAMES[..5] {
        fleet.set_priority(name, 1);
    }
    let door = door(&fleet);
    let high = owners(&door).await;
    assert!(high.iter().all(|owner| NAMES[..5].contains(owner)));
    NAMES[..5].iter().for_each(|name| assert!(fleet.drain(name)));
    let low = owners(&door).await;
    assert!(low.iter().all(|owner| NAMES[5..].contains(owner)));
    NAMES[..5].iter().for_each(|name| assert!(restore(&fleet, name)));
    assert_eq!(owners(&door).await, high);
}

// C35, C44, C48
#[tokio::test(start_paused = true)]
async fn a_circuit_is_probed_by_a_key_of_its_backend_and_no_other_key_moves() {
    let (backends, remotes) = backends(&NAMES);
    let policy = CircuitPolicy::new().consecutive(1).open_for(secs(10));
    let fleet = builder().backends(backends).circuit_breaker(policy).build().unwrap();
    let door = door(&fleet);
    let before = owners(&door).await;
    let own = 1 + before.iter().position(|owner| *owner == "d").unwrap() as u64;
    remotes["d"].answer(Answer::Error);
    door.clone().oneshot(own).await.unwrap_err();
    let after = owners(&door).await;
    assert!(moved(&before, &after).iter().all(|key| before[key - 1] == "d"));
    assert!(!after.contains(&"d"));

    remotes["d"].answer(Answer::Ok);
    tokio::time::advance(secs(11)).await;
    let calls = remotes["d"].calls();
    for key in (1..=300).filter(|key| before[*key as usize - 1] != "d") {
        assert_eq!(send(&door, key).await, before[key as usize - 1], "key {key}");
    }
    assert_eq!(remotes["d"].calls(), calls, "no other key probes it");
    assert_eq!(send(&door, own).await, "d");
    assert_eq!(owners(&door).await, before);
}

// C10, C36, C48
#[tokio::test(start_paused = true)]
async fn a_backend_that_fails_to_become_ready_fails_once_per_request() {
    let (backends, remotes) = backends(&["a"]);
    let fleet = builder().backends(backends).circuit_breaker(CircuitPolicy::new().consecutive(2)).build().unwrap();
    let failover = FailoverLayer::plain().strategy(Hash::by_classifier()).build().unwrap().layer(fleet.clone());
    let door = door(&fleet);
    remotes["a"].set_readiness(Readiness::Error);
    let state = || fleet.snapshot()[0].state;
    assert!(door.clone().oneshot(7).await.unwrap_err().to_string().contains("not ready"));
    assert_eq!(state(), CircuitState::Closed, "one failure of two");
    failover.clone().oneshot(7).await.unwrap_err();
    assert_eq!(state(), CircuitState::Open);

    fleet.switch("a").unwrap().reset();
    failover.clone().oneshot(7).await.unwrap_err();
    assert_eq!(state(), CircuitState::Closed, "one failure of two");
}

// C35, C48
#[tokio::test(start_paused = true)]
async fn any_key_probes_when_no_backend_is_eligible() {
    let (backends, remotes) = backends(&["a", "b"]);
    let policy = CircuitPolicy::new().consecutive(1).open_for(secs(10));
    let fleet = builder().backends(backends).circuit_breaker(policy).build().unwrap();
    let door = door(&fleet);
    remotes.values().for_each(|remote| remote.answer(Answer::Error));
    for key in 1..=20 {
        let _ = door.clone().oneshot(key).await;
    }
    assert!(door.clone().oneshot(7).await.unwrap_err().to_string().contains("none of 2 backends"));
    remotes["a"].answer(Answer::Ok);
    tokio::time::advance(secs(11)).await;
    for key in 1..=20 {
        let _ = door.clone().oneshot(key).await;
    }
    assert_eq!(send(&door, 7).await, "a");
}

// C48
#[tokio::test(start_paused = true)]
async fn requests_without_a_key_are_spread_by_weight() {
    let (fleet, remotes) = fleet(&["a", "b", "c"]);
    fleet.set_weight("a", 3).unwrap();
    let door = door(&fleet);
    for _ in 0..5_000 {
        send(&door, 0).await;
    }
    for (name, part) in [("a", 3_000), ("b", 1_000), ("c", 1_000)] {
        let calls = remotes[name].calls();
        assert!(calls.abs_diff(part) < 200, "{calls} calls of `{name}`");
    }
}
