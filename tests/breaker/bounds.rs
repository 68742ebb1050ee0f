//! How many of a fleet its circuits may take out.

use std::sync::Arc;

use tower_fleet::{AdminStatus, Backend, CircuitState, Fleet, fleet::FleetBuilder, outcome::ErrorsOnly};

use crate::{
    ask,
    fleet::{Door, GuardedFleet, door, none_available, state},
    mock::{Answer, Mock, Remote},
    pass, policy, secs,
};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn bounded(
    bound: impl FnOnce(FleetBuilder<Mock, ErrorsOnly>) -> FleetBuilder<Mock, ErrorsOnly>,
) -> (GuardedFleet, Vec<Arc<Remote>>, Door) {
    let (mocks, remotes): (Vec<_>, Vec<_>) = NAMES.into_iter().map(Mock::new).unzip();
    let backends = NAMES.into_iter().zip(mocks).map(|(name, mock)| Backend::new(name, mock));
    let fleet = bound(Fleet::plain().circuit_breaker(policy())).backends(backends).build().unwrap();
    let door = door(&fleet, "round_robin");
    (fleet, remotes, door)
}

fn trip(fleet: &GuardedFleet, names: &[&str]) {
    names.iter().for_each(|name| fleet.switch(name).unwrap().trip());
}

async fn served(door: &Door) -> Vec<&'static str> {
    let mut served = Vec::new();
    for _ in 0..24 {
        served.push(ask(door).await.unwrap());
    }
    served.sort_unstable();
    served.dedup();
    served
}

// C42
#[tokio::test(start_paused = true)]
async fn by_default_everybody_may_be_out() {
    let (fleet, _remotes, door) = bounded(|builder| builder);
    trip(&fleet, &NAMES);
    assert_eq!(none_available(&ask(&door).await.unwrap_err()), Some(secs(30)));
}

// C42
#[tokio::test(start_paused = true)]
async fn at_most_the_share_is_out_and_the_latest_to_open_serve_on() {
    let (fleet, _remotes, door) = bounded(|builder| builder.max_ejected(0.5));
    for name in ["b", "d", "a"] {
        trip(&fleet, &[name]);
        pass(secs(1)).await;
    }
    assert_eq!(served(&door).await, ["a", "c"]);
    assert_eq!(state(&fleet, "a"), CircuitState::Open, "it is spared, and open all the same");
    trip(&fleet, &["c"]);
    assert_eq!(served(&door).await, ["a", "c"]);
    fleet.switch("b").unwrap().reset();
    assert_eq!(served(&door).await, ["b", "c"], "room for one more");
}

// C42
#[tokio::test(start_paused = true)]
async fn a_share_is_rounded_down() {
    let (fleet, _remotes, door) = bounded(|builder| builder.max_ejected(0.49));
    for name in ["a", "b"] {
        trip(&fleet, &[name]);
        pass(secs(1)).await;
    }
    assert_eq!(served(&door).await, ["b", "c", "d"]);
    let (fleet, _remotes, door) = bounded(|builder| builder.max_ejected(0.0));
    trip(&fleet, &NAMES);
    assert_eq!(served(&door).await, NAMES);
}

// C42
#[tokio::test(start_paused = true)]
async fn with_too_few_left_everybody_serves() {
    let (fleet, _remotes, door) = bounded(|builder| builder.panic_below(0.5));
    trip(&fleet, &["a", "b"]);
    assert_eq!(served(&door).await, ["c", "d"], "half is not below half");
    trip(&fleet, &["c"]);
    assert_eq!(served(&door).await, NAMES);
    fleet.switch("c").unwrap().reset();
    assert_eq!(served(&door).await, ["c", "d"]);
}

// C42
#[tokio::test(start_paused = true)]
async fn what_a_spared_backend_answers_is_not_counted() {
    let (fleet, remotes, door) = bounded(|builder| builder.max_ejected(0.0));
    remotes[0].answer(Answer::Error);
    let mut changes = fleet.changes();
    let mut errors = 0;
    for _ in 0..400 {
        errors += usize::from(ask(&door).await.is_err());
    }
    assert_eq!((errors, remotes[0].calls(), state(&fleet, "a")), (100, 100, CircuitState::Open));
    let told = std::iter::from_fn(|| futures::FutureExt::now_or_never(futures::StreamExt::next(&mut changes)));
    assert_eq!(told.count(), 1);
}

// C36, C42
#[tokio::test(start_paused = true)]
async fn a_spared_backend_is_probed_and_closes() {
    let (fleet, _remotes, door) = bounded(|builder| builder.panic_below(1.0));
    trip(&fleet, &NAMES);
    assert_eq!(served(&door).await, NAMES);
    assert!(NAMES.iter().all(|name| state(&fleet, name) == CircuitState::Open));
    pass(secs(30)).await;
    assert_eq!(served(&door).await, NAMES);
    assert!(NAMES.iter().all(|name| state(&fleet, name) == CircuitState::Closed));
}

// C41, C42
#[tokio::test(start_paused = true)]
async fn who_an_operator_took_out_is_not_part_of_the_sum() {
    // Two of three are left.
    let (fleet, remotes, door) = bounded(|builder| builder.panic_below(0.5));
    trip(&fleet, &["a", "b"]);
    fleet.set_status("a", AdminStatus::Degraded);
    assert_eq!(served(&door).await, ["c", "d"]);
    trip(&fleet, &["c"]);
    assert_eq!(served(&door).await, ["b", "c", "d"], "one of three");
    assert_eq!(remotes[0].calls(), 0);

    // One of two may be out, and the two that do not serve anyway do not take its place.
    let (fleet, _remotes, door) = bounded(|builder| builder.max_ejected(0.5));
    for name in ["a", "b", "c"] {
        trip(&fleet, &[name]);
        pass(secs(1)).await;
    }
    fleet.set_status("a", AdminStatus::Degraded);
    fleet.set_status("b", AdminStatus::Degraded);
    assert_eq!(served(&door).await, ["d"]);
}

// C41, C42
#[tokio::test(start_paused = true)]
async fn a_circuit_that_was_forced_open_serves_nobody_and_is_no_part_of_the_sum() {
    let (fleet, remotes, door) = bounded(|builder| builder.panic_below(0.6));
    fleet.switch("a").unwrap().force_open();
    fleet.switch("b").unwrap().force_open();
    trip(&fleet, &["c"]);
    assert_eq!(served(&door).await, ["c", "d"], "one of two is left");
    assert_eq!(remotes[0].calls() + remotes[1].calls(), 0);
}

// C1, C42
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everybody_is_spared_without_a_gap() {
    let (fleet, _remotes, door) = bounded(|builder| builder.panic_below(1.0));
    trip(&fleet, &NAMES);
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let door = door.clone();
            tokio::spawn(async move {
                for _ in 0..20_000 {
                    ask(&door).await.unwrap();
                }
            })
        })
        .collect();
    let mut weight = 1;
    while callers.iter().any(|caller| !caller.is_finished()) {
        weight = weight % 100 + 1;
        fleet.set_weight("a", weight).unwrap();
        tokio::task::yield_now().await;
    }
    for caller in callers {
        caller.await.unwrap();
    }
}
