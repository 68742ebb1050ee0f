//! Slow start. C49, C66

use tokio::time::advance;
use tower_fleet::{AdminStatus, CircuitPolicy, fleet::SlowStart};

use super::*;

/// The strategies that send each backend the same part of the traffic.
const EVEN: [&str; 3] = ["round_robin", "shuffle", "weighted_round_robin"];

fn slow() -> SlowStart {
    SlowStart::new(seconds(100))
}

/// A fleet that serves, and its door.
fn serving(names: &[&'static str], strategy: &str) -> (Sites, Door) {
    let fleet = builder().backends(sites(names).iter().map(Site::backend)).slow_start(slow()).build().unwrap();
    let door = door(&fleet, strategy);
    served(&door, 100);
    (fleet, door)
}

/// Adds a backend.
fn insert(fleet: &Sites, name: &'static str) {
    fleet.insert(Site::new(name).backend()).unwrap();
}

// C49, C66
#[tokio::test(start_paused = true)]
async fn an_inserted_backend_gets_more_step_by_step_under_every_strategy() {
    for strategy in EVEN {
        let (fleet, door) = serving(&["a", "b"], strategy);
        insert(&fleet, "c");
        for share in [0.1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0] {
            assert_near(part(&door, "c"), share / (2.0 + share), strategy);
            // The others share the rest evenly.
            assert_near(part(&door, "a"), 1.0 / (2.0 + share), strategy);
            assert_near(f64::from(snapshot(&fleet, "c").share), share, strategy);
            advance(seconds(10)).await;
        }
    }
}

// C49: the primary gets its share, and the next one of its tier the rest.
#[tokio::test(start_paused = true)]
async fn a_slow_primary_leaves_the_rest_to_the_next_of_its_tier() {
    let (fleet, door) = serving(&["a", "b", "c"], "failover");
    fleet.insert(Site::new("spare").backend().priority(-1)).unwrap();
    fleet.replace(Site::new("a").backend()).unwrap();
    advance(seconds(30)).await;
    let counts = served(&door, 4_000);
    assert_near(counts["a"] as f64 / 4_000.0, 0.3, "the primary");
    assert_near(counts["b"] as f64 / 4_000.0, 0.7, "the next one");
    assert_eq!(counts.len(), 2, "{counts:?}");
    // Alone in its tier, it gets all.
    fleet.remove("b");
    fleet.drain("c");
    assert_eq!(part(&door, "a"), 1.0);
}

// C49
#[tokio::test(start_paused = true)]
async fn a_failover_honours_the_share_of_its_primary() {
    let (fleet, _) = serving(&["a", "b"], "failover");
    let failover = failover(&fleet);
    fleet.replace(Site::new("a").backend()).unwrap();
    advance(seconds(50)).await;
    let mut first = 0;
    for _ in 0..2_000 {
        let response = failover.clone().oneshot(()).await.unwrap();
        first += usize::from(response == "a");
    }
    assert_near(first as f64 / 2_000.0, 0.5, "the primary");
}

// C49
#[tokio::test(start_paused = true)]
async fn a_share_is_a_part_of_the_weight() {
    let (a, b, c) = (Site::new("a"), Site::new("b"), Site::new("c"));
    let backends = [a.backend().weight(3), b.backend().weight(1)];
    let fleet = builder().backends(backends).slow_start(slow()).build().unwrap();
    let door = door(&fleet, "weighted_round_robin");
    fleet.insert(c.backend().weight(4)).unwrap();
    for share in [0.1, 0.5, 1.0] {
        let counts = served(&door, 8_000);
        let part = |name| counts[name] as f64 / 8_000.0;
        assert_near(part("c"), 4.0 * share / (4.0 + 4.0 * share), "c");
        assert_near(part("a"), 3.0 / (4.0 + 4.0 * share), "a");
        advance(seconds(50)).await;
    }
}

// C49
#[tokio::test(start_paused = true)]
async fn the_backends_that_a_fleet_is_built_with_start_at_once() {
    let (fleet, door) = serving(&["a", "b"], "round_robin");
    assert!(fleet.snapshot().iter().all(|backend| backend.share == 1.0));
    assert_eq!(served(&door, 100), BTreeMap::from([("a", 50), ("b", 50)]));
    // Nor does a fleet that serves no requests yet.
    let fleet = builder().backend(Site::new("a").backend()).slow_start(slow()).build().unwrap();
    insert(&fleet, "b");
    assert_eq!(percent(&fleet, "b"), 100);
}

// C49, C56: or the first one that discovery finds would get nearly all of the traffic.
#[tokio::test(start_paused = true)]
async fn the_first_backends_of_an_empty_fleet_start_at_once() {
    let fleet = builder().slow_start(slow()).build().unwrap();
    let door = door(&fleet, "round_robin");
    for name in ["a", "b", "c"] {
        insert(&fleet, name);
        served(&door, 10);
        advance(seconds(1)).await;
    }
    assert!(fleet.snapshot().iter().all(|backend| backend.share == 1.0));
    // After a window, they are warm.
    advance(seconds(100)).await;
    insert(&fleet, "d");
    assert_eq!(percent(&fleet, "d"), 10);
}

// C49
#[tokio::test(start_paused = true)]
async fn without_the_setting_a_new_backend_gets_all_at_once() {
    let fleet = builder().backend(Site::new("a").backend()).build().unwrap();
    let door = door(&fleet, "round_robin");
    served(&door, 10);
    insert(&fleet, "b");
    assert_eq!(served(&door, 100), BTreeMap::from([("a", 50), ("b", 50)]));
}

// C49
#[tokio::test(start_paused = true)]
async fn a_backend_that_an_operator_returns_starts_slowly() {
    let (fleet, door) = serving(&["a", "b"], "round_robin");
    fleet.drain("b");
    assert_eq!(part(&door, "b"), 0.0);
    fleet.set_status("b", AdminStatus::Healthy);
    assert_near(part(&door, "b"), 0.1 / 1.1, "returned");
    // Set to healthy again, it does not begin anew.
    advance(seconds(50)).await;
    fleet.set_status("b", AdminStatus::Healthy);
    assert_eq!(percent(&fleet, "b"), 50);
    // A cool-down ends when the backend asked it to.
    advance(seconds(50)).await;
    fleet.cool_down("b", seconds(5));
    advance(seconds(5)).await;
    assert_eq!(served(&door, 100), BTreeMap::from([("a", 50), ("b", 50)]));
}

// C49, C39
#[tokio::test(start_paused = true)]
async fn a_circuit_that_closes_starts_slowly_and_anew_if_it_opens_again() {
    let [a, b] = [Site::new("a"), Site::new("b")];
    let policy = CircuitPolicy::new().consecutive(1).open_for(seconds(10));
    let backends = [a.backend(), b.backend()];
    let fleet = builder().backends(backends).circuit_breaker(policy).slow_start(slow()).build().unwrap();
    let door = door(&fleet, "round_robin");
    for _ in 0..2 {
        b.set(Response::Error);
        while snapshot(&fleet, "b").state == tower_fleet::CircuitState::Closed {
            let _ = door.clone().oneshot(()).await;
        }
        b.set(Response::After(Duration::ZERO));
        advance(seconds(10)).await;
        // The probe closes it.
        served(&door, 2);
        assert_eq!(percent(&fleet, "b"), 10);
        assert_near(part(&door, "b"), 0.1 / 1.1, "closed again");
        advance(seconds(50)).await;
        assert_eq!(percent(&fleet, "b"), 50);
    }
}

// C49: equal shares have no effect.
#[tokio::test(start_paused = true)]
async fn a_tier_in_which_all_start_slowly_serves_as_always() {
    for strategy in EVEN {
        let (fleet, door) = serving(&["a", "b", "c"], strategy);
        for name in ["a", "b", "c"] {
            fleet.replace(Site::new(name).backend()).unwrap();
        }
        assert!(fleet.snapshot().iter().all(|backend| backend.share < 0.11));
        assert_eq!(served(&door, 300), BTreeMap::from([("a", 100), ("b", 100), ("c", 100)]), "{strategy}");
    }
}

// C49, C64
#[tokio::test(start_paused = true)]
async fn a_reload_does_not_begin_the_slow_start_of_an_unchanged_backend_anew() {
    let fleet = builder().slow_start(slow()).build().unwrap();
    let reload = |names: &[&'static str], weight| {
        let wanted: Vec<_> = names.iter().map(|name| Backend::new(*name, *name).weight(weight)).collect();
        fleet.reconcile(wanted, |backend| Site::new(backend.service())).unwrap()
    };
    reload(&["a", "b"], 1);
    let door = door(&fleet, "round_robin");
    served(&door, 10);
    reload(&["a", "b", "c"], 1);
    assert_eq!(percent(&fleet, "c"), 10);
    advance(seconds(50)).await;
    reload(&["a", "b", "c", "d"], 2);
    assert_eq!(["a", "b", "c", "d"].map(|name| percent(&fleet, name)), [100, 100, 50, 10]);
    assert_near(part(&door, "c"), 0.5 / 2.6, "c");
    reload(&["b", "c"], 2);
    advance(seconds(30)).await;
    assert_eq!(["b", "c"].map(|name| percent(&fleet, name)), [100, 80]);
}

// C49
#[tokio::test(start_paused = true)]
async fn a_backend_may_be_removed_in_the_middle() {
    for strategy in EVEN {
        let (fleet, door) = serving(&["a", "b"], strategy);
        insert(&fleet, "c");
        advance(seconds(30)).await;
        fleet.remove("c");
        assert_eq!(served(&door, 100), BTreeMap::from([("a", 50), ("b", 50)]), "{strategy}");
        advance(seconds(5)).await;
        // Another backend of the same name begins from the start, and takes its time.
        insert(&fleet, "c");
        assert_eq!(percent(&fleet, "c"), 10);
        advance(seconds(44)).await;
        assert_eq!(percent(&fleet, "c"), 35, "after the step at 70 s, which is that of all backends");
        advance(seconds(1)).await;
        assert_eq!(percent(&fleet, "c"), 45);
    }
}

// C49: no task is woken and no request is needed.
#[tokio::test(start_paused = true)]
async fn a_slow_start_ends_without_requests() {
    let (fleet, door) = serving(&["a", "b"], "weighted_round_robin");
    insert(&fleet, "c");
    advance(seconds(3_600)).await;
    assert_eq!(percent(&fleet, "c"), 100);
    assert_eq!(served(&door, 300), BTreeMap::from([("a", 100), ("b", 100), ("c", 100)]));
}

// C49: a tier below is filled slowly too, and does not slow the one above it.
#[tokio::test(start_paused = true)]
async fn tiers_start_independently() {
    let (fleet, door) = serving(&["a", "b"], "round_robin");
    fleet.insert(Site::new("spare").backend().priority(-1)).unwrap();
    assert_eq!(served(&door, 100), BTreeMap::from([("a", 50), ("b", 50)]));
    fleet.drain("a");
    fleet.drain("b");
    assert_eq!(part(&door, "spare"), 1.0);
}

// C58
#[test]
fn a_bad_setting_is_refused_when_the_fleet_is_built() {
    let error = builder().slow_start(SlowStart::new(Duration::ZERO)).build().unwrap_err();
    assert_eq!(error.to_string(), "slow start: window 0ns must be longer than zero");
}
