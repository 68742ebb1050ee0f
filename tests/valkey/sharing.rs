//! What replicas learn from each other.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures::FutureExt;
use tower::Layer;
use tower_fleet::{
    AdminStatus, Backend, BalanceLayer, CircuitPolicy, CircuitState, Fleet,
    replicas::{Exchange, Share, ValkeyStore},
};

use crate::{
    replica::{Counted, Replica, SECOND, wait_until},
    server::Server,
};

// C55, C69
#[tokio::test]
async fn an_opening_a_cool_down_and_a_status_reach_the_other_replica() {
    let Some(server) = Server::start(&[]) else { return };
    let [one, two] = [(); 2].map(|()| Replica::new(&server.url(), &["a", "b", "c", "d", "e", "f", "g", "h"]));
    one.trip("a");
    wait_until("an opening is hinted", || two.is_hinted("a")).await;
    two.fleet.cool_down("b", 60 * SECOND);
    wait_until("a cool-down is hinted", || one.is_hinted("b")).await;
    one.fleet.drain("c");
    wait_until("a status is set", || two.status("c") == AdminStatus::Draining).await;
    two.fleet.switch("d").unwrap().force_open();
    wait_until("a circuit is forced", || one.state("d") == CircuitState::ForcedOpen).await;
    assert!(!one.is_hinted("a") && !two.is_hinted("b"));
    one.fleet.switch("a").unwrap().reset();
    wait_until("a recovery ends the hint", || !two.is_hinted("a")).await;
    assert_eq!(two.state("a"), CircuitState::HalfOpen);
}

// C55, C60: nothing stays forever, and all keys are those of the fleet.
#[tokio::test]
async fn every_key_has_a_name_of_the_fleet_and_an_expiry() {
    let Some(server) = Server::start(&[]) else { return };
    let one = Replica::new(&server.url(), &["a", "b"]);
    one.trip("a");
    one.fleet.drain("b");
    let keys =
        || server.run("KEYS *").split("\r\n").filter(|line| line.starts_with("tower")).map(str::to_owned).collect();
    wait_until("both are reported", || Vec::<String>::len(&keys()) >= 2).await;
    let mut keys: Vec<String> = keys();
    keys.sort();
    assert_eq!(keys, ["tower-fleet:1:{search}:report:a", "tower-fleet:1:{search}:report:b"]);
    for key in keys {
        let left: i64 = server.run(&format!("PTTL {key}")).trim_start_matches(':').trim().parse().unwrap();
        assert!(left > 3_600_000 && left <= 7_200_000, "{key} {left}");
        server.run(&format!("PEXPIRE {key} 100000"));
    }
    assert_eq!(server.run("DBSIZE"), ":2\r\n");
    // Each replica that reads a report keeps it, and with it its epoch. It has nothing to report itself.
    let _two = Replica::new(&server.url(), &["a", "b"]);
    let left = |key: &str| server.run(&format!("PTTL tower-fleet:1:{{search}}:report:{key}"));
    let is_kept = |key| left(key).trim_start_matches(':').trim().parse::<i64>().unwrap() > 3_600_000;
    wait_until("a reader keeps them", || is_kept("a") && is_kept("b")).await;
}

// C55: 200 replicas' worth of probes let one through.
#[tokio::test]
async fn one_probe_of_two_hundred_replicas_reaches_the_backend() {
    let Some(server) = Server::start(&[]) else { return };
    let (a, b) = (Counted::default(), Counted::default());
    let policy = || CircuitPolicy::new().open_for(3 * SECOND);
    let fleets: Vec<_> = (0..200)
        .map(|_| {
            let backends = [Backend::new("a", a.clone()), Backend::new("b", b.clone())];
            let fleet = Fleet::plain().name("search").backends(backends).circuit_breaker(policy()).build().unwrap();
            let share = Share::new(ValkeyStore::new(server.url()).unwrap()).timeout(20 * SECOND).lease(20 * SECOND);
            tokio::spawn(fleet.share(share).unwrap());
            fleet
        })
        .collect();
    let subscribed = || server.run("PUBSUB NUMSUB tower-fleet:1:{search}").ends_with(":200\r\n");
    wait_until("all are connected", subscribed).await;
    tokio::time::sleep(SECOND / 2).await;
    let doors: Vec<_> = fleets.iter().map(|fleet| BalanceLayer::round_robin().layer(fleet.clone())).collect();
    for fleet in &fleets {
        // Open until an operator resets it: so the probe of one replica does not close it.
        fleet.switch("a").unwrap().trip();
    }
    let before = a.0.load(Ordering::Relaxed);
    let (mut probed_at, start) = (None, Instant::now());
    // A probe that is good is told, and then all replicas probe. So the count is read when the first one was sent.
    while probed_at.is_none() && start.elapsed() < 20 * SECOND {
        for door in &doors {
            door.clone().oneshot(()).now_or_never().expect("no request waits").expect("no request fails");
        }
        let probes = a.0.load(Ordering::Relaxed) - before;
        if probes > 0 {
            probed_at = Some(start.elapsed());
            assert_eq!(probes, 1, "one replica probes");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(probed_at.is_some_and(|at| at >= 2 * SECOND), "{probed_at:?}");
    let closed = || fleets.iter().filter(|fleet| fleet.switch("a").unwrap().state() != CircuitState::Open).count();
    wait_until("its good probe is told to all", || closed() == 200).await;
    drop(Arc::clone(&b.0));
}

// C55, C59: a user of the server with the documented rights, and no others.
#[tokio::test]
async fn a_user_with_few_permissions_suffices() {
    let commands = "+hello +ping +subscribe +publish +evalsha +script|load +time +get +mget +set +del +pttl +pexpire";
    let user = format!("fleet on >hunter2 ~tower-fleet:* &tower-fleet:* -@all {commands}");
    let arguments: Vec<_> = ["--user"].into_iter().chain(user.split(' ')).collect();
    let Some(server) = Server::start(&arguments) else { return };
    let url = |password: &str| format!("redis://fleet:{password}@127.0.0.1:{}", server.port);
    let [one, two] = [(); 2].map(|()| Replica::new(&url("hunter2"), &["a", "b"]));
    one.trip("a");
    wait_until("an opening is hinted", || two.is_hinted("a")).await;
    let denied = ValkeyStore::new(url("hunter3")).unwrap();
    let error = denied.connect("search").await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), "the login is refused");
    let three = Replica::by(denied, &["a", "b"]);
    three.serve_for(SECOND).await;
    assert!(!three.is_hinted("a"));
}

// C59
#[tokio::test]
async fn a_missing_permission_is_told() {
    let arguments = "--user fleet on >hunter2 ~* &* -@all +hello +ping";
    let arguments: Vec<_> = arguments.split(' ').collect();
    let Some(server) = Server::start(&arguments) else { return };
    let store = ValkeyStore::new(format!("valkey://fleet:hunter2@127.0.0.1:{}", server.port)).unwrap();
    let error = store.connect("search").await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), "the user lacks a permission (NOPERM)");
}
