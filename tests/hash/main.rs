//! Requests of one key meet one backend, as long as it is there and not overloaded.
//!
//! Services are strict mocks that panic when they are called unready, and time is paused; `wire` is over real sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bounds;
mod failover;
#[path = "../support/mock.rs"]
mod mock;
mod moves;
#[cfg(feature = "http")]
mod wire;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tower::{Layer, Service, ServiceExt};
use tower_fleet::{
    AdminStatus, Backend, Balance, BalanceLayer, CircuitPolicy, CircuitState, Failover, FailoverLayer, Fleet,
    InvalidSetting,
    failover::{FailoverBuilder, Plain},
    fleet::FleetBuilder,
    outcome::{ErrorsOnly, Keyed, keyed},
    pick::{AnyStrategy, Hash, StrategyName},
};

use self::mock::{Answer, Readiness, Remote};

/// A request is its key; 0 has none.
type Mock = mock::Mock<u64>;
type KeyFn = fn(&u64) -> Option<u64>;
type Classifier = Keyed<ErrorsOnly, KeyFn>;
type Door = Balance<Mock, Hash, Classifier>;

const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn builder() -> FleetBuilder<Mock, Classifier> {
    let key: KeyFn = |key| (*key != 0).then_some(*key);
    Fleet::plain().classify(keyed(ErrorsOnly, key))
}

/// Backends and their remotes, by name.
fn backends(names: &[&'static str]) -> (Vec<Backend<Mock>>, HashMap<&'static str, Arc<Remote>>) {
    let mocks = names.iter().map(|name| {
        let (mock, remote) = Mock::new(name);
        (Backend::new(*name, mock), (*name, remote))
    });
    mocks.unzip()
}

fn fleet(names: &[&'static str]) -> (Fleet<Mock, Classifier>, HashMap<&'static str, Arc<Remote>>) {
    let (backends, remotes) = backends(names);
    (builder().backends(backends).build().unwrap(), remotes)
}

fn door(fleet: &Fleet<Mock, Classifier>) -> Door {
    BalanceLayer::new(Hash::by_classifier()).layer(fleet.clone())
}

/// Sends a request. Returns the name of the backend that served it.
async fn send<D>(door: &D, key: u64) -> &'static str
where
    D: Service<u64, Response = &'static str, Error: std::fmt::Debug> + Clone,
{
    // So that a lost wake-up fails its test instead of hanging it.
    tokio::time::timeout(secs(86_400), door.clone().oneshot(key)).await.expect("an answer within a day").unwrap()
}

fn restore(fleet: &Fleet<Mock, Classifier>, name: &str) -> bool {
    fleet.set_status(name, AdminStatus::Healthy)
}

/// The backends of the keys from 1 to 300.
async fn owners(door: &Door) -> Vec<&'static str> {
    let mut owners = Vec::new();
    for key in 1..=300 {
        owners.push(send(door, key).await);
    }
    owners
}

/// The keys, counted from 1, whose backends differ.
fn moved(before: &[&'static str], after: &[&'static str]) -> Vec<usize> {
    (1..=before.len()).filter(|key| before[key - 1] != after[key - 1]).collect()
}

// C9, C58
#[test]
fn a_name_without_a_key_is_refused() {
    let expected = "strategy hash needs the key of the request: write Hash::by_header(\"x-user\")? or another of its \
                    constructors, or in a file key = { header = \"x-user\" } under [hash]";
    let name: StrategyName = " HASH ".parse().unwrap();
    assert_eq!((name, name.name()), (StrategyName::Hash, "hash"));
    let refused: InvalidSetting = AnyStrategy::try_from(name).unwrap_err();
    assert_eq!(refused.to_string(), expected);
    assert_eq!(BalanceLayer::named(name).unwrap_err().to_string(), format!("balance: {expected}"));
    let refused = FailoverLayer::plain().strategy_named(name).build().unwrap_err();
    assert_eq!(refused.to_string(), format!("failover: {expected}"));
    // The last strategy counts.
    assert!(FailoverLayer::plain().strategy_named(name).strategy(Hash::by_classifier()).build().is_ok());
    assert!(FailoverLayer::plain().strategy_named(name).strategy_named(StrategyName::RoundRobin).build().is_ok());
}
