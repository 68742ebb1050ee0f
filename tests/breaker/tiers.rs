//! Open circuits and priorities.

use std::sync::Arc;

use tower_fleet::{Backend, CircuitState, Fleet};

use crate::{
    ask,
    fleet::{GuardedFleet, door, state},
    mock::{Answer, Mock, Readiness, Remote},
    pass, policy, secs,
};

fn tiers(names: &[(&'static str, i32)]) -> (GuardedFleet, Vec<Arc<Remote>>) {
    let mut builder = Fleet::plain().circuit_breaker(policy());
    let mut remotes = Vec::new();
    for (name, priority) in names {
        let (mock, remote) = Mock::new(name);
        builder = builder.backend(Backend::new(*name, mock).priority(*priority));
        remotes.push(remote);
    }
    (builder.build().unwrap(), remotes)
}

// C8, C22, C44
#[tokio::test(start_paused = true)]
async fn a_lower_tier_serves_while_the_upper_is_open_and_until_it_is_back() {
    let (fleet, remotes) = tiers(&[("spare", 0), ("main", 10)]);
    let door = door(&fleet, "round_robin");
    remotes[1].answer(Answer::Error);
    for _ in 0..5 {
        ask(&door).await.unwrap_err();
    }
    for _ in 0..50 {
        assert_eq!(ask(&door).await.unwrap(), "spare");
    }
    pass(secs(30)).await;
    ask(&door).await.expect_err("the probe of main");
    assert_eq!(ask(&door).await.unwrap(), "spare");
    pass(secs(30)).await;
    remotes[1].answer(Answer::Ok);
    for _ in 0..50 {
        assert_eq!(ask(&door).await.unwrap(), "main");
    }
    assert_eq!(state(&fleet, "main"), CircuitState::Closed);
}

// C8
#[tokio::test(start_paused = true)]
async fn an_open_circuit_of_a_lower_tier_is_not_probed_while_the_upper_serves() {
    let (fleet, remotes) = tiers(&[("main", 10), ("spare", 0)]);
    let door = door(&fleet, "round_robin");
    fleet.switch("spare").unwrap().trip();
    pass(secs(300)).await;
    for _ in 0..50 {
        assert_eq!(ask(&door).await.unwrap(), "main");
    }
    assert_eq!((remotes[1].calls(), state(&fleet, "spare")), (0, CircuitState::HalfOpen));
    // Not even by a request that goes through those to be probed, and finds the one above not ready yet.
    let (mock, peer) = Mock::new("peer");
    peer.set_readiness(Readiness::Pending);
    fleet.insert(Backend::new("peer", mock).priority(10)).unwrap();
    fleet.switch("peer").unwrap().trip();
    pass(secs(30)).await;
    for _ in 0..50 {
        assert_eq!(ask(&door).await.unwrap(), "main");
    }
    assert_eq!(remotes[1].calls(), 0);
    fleet.remove("peer");
    fleet.switch("main").unwrap().trip();
    assert_eq!(ask(&door).await.unwrap(), "spare");
    assert_eq!(state(&fleet, "spare"), CircuitState::Closed);
}

// C8, C38
#[tokio::test(start_paused = true)]
async fn an_open_peer_of_the_serving_tier_is_probed_and_one_above_first() {
    let (fleet, remotes) = tiers(&[("a", 0), ("b", 0), ("main", 10)]);
    let door = door(&fleet, "round_robin");
    for name in ["b", "main"] {
        fleet.switch(name).unwrap().trip();
    }
    remotes[2].answer(Answer::Never);
    pass(secs(30)).await;
    let hanging = {
        let door = door.clone();
        tokio::spawn(async move { ask(&door).await.map(drop) })
    };
    crate::settle().await;
    assert_eq!(remotes[2].running(), 1, "the upper tier comes first");
    assert_eq!(ask(&door).await.unwrap(), "b");
    assert_eq!(state(&fleet, "b"), CircuitState::Closed);
    hanging.abort();
}
