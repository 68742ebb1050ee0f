//! Outliers. C42, C66, C67

use tokio::time::advance;
use tower_fleet::{
    CircuitPolicy,
    fleet::{OutlierChange, OutlierReason, Outliers, SlowStart},
};

use super::*;

const FAST: Response = Response::After(Duration::from_millis(20));
const SLOW: Response = Response::After(Duration::from_millis(200));

/// A fleet of four backends, the first of which is slow, and a door by round robin.
struct World {
    fleet: Sites,
    sites: Vec<Site>,
    door: Door,
}

impl World {
    fn new(build: impl FnOnce(FleetBuilder<Site, ErrorsOnly>) -> FleetBuilder<Site, ErrorsOnly>) -> Self {
        Self::of(&["a", "b", "c", "d"], build)
    }

    fn of(
        names: &[&'static str],
        build: impl FnOnce(FleetBuilder<Site, ErrorsOnly>) -> FleetBuilder<Site, ErrorsOnly>,
    ) -> Self {
        let sites = sites(names);
        sites.iter().for_each(|site| site.set(FAST));
        sites[0].set(SLOW);
        let builder = builder().outliers(Outliers::new()).backends(sites.iter().map(Site::backend));
        let fleet = build(builder).build().unwrap();
        let door = door(&fleet, "round_robin");
        Self { fleet, sites, door }
    }

    /// Serves for so many intervals of 10 s. Returns the share of the first backend after each, in percent.
    async fn intervals(&self, count: usize) -> Vec<u32> {
        let mut shares = Vec::new();
        for _ in 0..count {
            send(&self.door, millis(10_300)).await;
            shares.push(percent(&self.fleet, "a"));
        }
        shares
    }

    fn percents(&self) -> Vec<u32> {
        self.fleet.snapshot().iter().map(|backend| percent(&self.fleet, &backend.name)).collect()
    }
}

// C66, C67
#[tokio::test(start_paused = true)]
async fn a_slow_backend_gets_less_then_nothing_and_comes_back_in_steps() {
    let world = World::new(|builder| builder);
    let mut changes = world.fleet.changes();
    assert_eq!(world.intervals(4).await, [50, 25, 10, 0]);
    let ejected = snapshot(&world.fleet, "a");
    assert!(ejected.ejected_for.is_some_and(|rest| rest <= seconds(30)), "{ejected:?}");
    let Some(OutlierReason::Latency { took, median, .. }) = ejected.outlier else { panic!("{ejected:?}") };
    assert!((millis(195)..millis(205)).contains(&took) && (millis(19)..millis(21)).contains(&median));
    assert_eq!(part_of(&world).await, 0.0);
    world.sites[0].set(FAST);
    assert_eq!(world.intervals(6).await, [0, 0, 10, 25, 50, 100]);
    assert_eq!(snapshot(&world.fleet, "a").outlier, None);
    let kinds: Vec<_> = received(&mut changes)
        .into_iter()
        .map(|change| match change {
            Change::Outlier(name, change) if name == *"a" => match change {
                OutlierChange::Reduced { share, reason: OutlierReason::Latency { .. }, .. } => ("less", share),
                OutlierChange::Ejected { time, .. } => ("out", time.as_secs_f32()),
                OutlierChange::Returned { share, .. } => ("more", share),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect();
    let kinds: Vec<_> = kinds.into_iter().map(|(kind, number)| (kind, (number * 100.0).round() as u32)).collect();
    let less = [("less", 50), ("less", 25), ("less", 10), ("out", 3000)];
    let more = [("more", 10), ("more", 25), ("more", 50), ("more", 100)];
    assert_eq!(kinds, [less, more].concat());
    assert_eq!(world.percents(), [100; 4]);
}

/// The part of the traffic that the first backend gets, of requests that take their time.
async fn part_of(world: &World) -> f64 {
    let mut running = JoinSet::new();
    (0..1_000).for_each(|_| drop(running.spawn(world.door.clone().oneshot(()))));
    let names = running.join_all().await;
    names.iter().filter(|name| matches!(name, Ok("a"))).count() as f64 / 1_000.0
}

// C66
#[tokio::test(start_paused = true)]
async fn the_door_sends_an_outlier_its_share() {
    let world = World::new(|builder| builder);
    for share in [1.0, 0.5, 0.25, 0.1] {
        assert_near(part_of(&world).await, share / (3.0 + share), "the slow one");
        world.intervals(1).await;
    }
}

// C67
#[tokio::test(start_paused = true)]
async fn a_failing_backend_is_an_outlier() {
    let world = World::new(|builder| builder);
    world.sites[0].set(Response::Error);
    assert_eq!(world.intervals(4).await, [50, 25, 10, 0]);
    let outlier = snapshot(&world.fleet, "a").outlier;
    assert!(matches!(outlier, Some(OutlierReason::Failures { failed, calls, .. }) if failed == calls), "{outlier:?}");
}

// C67
#[tokio::test(start_paused = true)]
async fn a_tier_that_is_slow_or_fails_has_no_outliers() {
    for response in [SLOW, Response::Error] {
        let world = World::new(|builder| builder);
        world.sites.iter().for_each(|site| site.set(response));
        world.intervals(6).await;
        assert_eq!(world.percents(), [100; 4], "{response:?}");
    }
    let world = World::of(&["a", "b"], |builder| builder);
    assert_eq!(world.intervals(6).await, [100; 6], "two backends");
}

// C67: a backend is compared with its tier.
#[tokio::test(start_paused = true)]
async fn another_tier_is_no_peer() {
    let far = sites(&["far-1", "far-2", "far-3"]);
    let world = World::new(|builder| builder.backends(far.iter().map(|site| site.backend().priority(-1))));
    far.iter().for_each(|site| site.set(Response::After(seconds(1))));
    world.sites.iter().for_each(|site| site.set(FAST));
    // Both tiers have calls of one interval.
    send(&world.door, seconds(5)).await;
    world.sites.iter().for_each(|site| assert!(world.fleet.set_priority(site.name, -2)));
    send(&world.door, seconds(7)).await;
    assert_eq!(world.percents(), [100; 7]);
}

// C66, C67: of a cancelled call, nothing is known.
#[tokio::test(start_paused = true)]
async fn cancelled_calls_change_nothing() {
    let world = World::new(|builder| builder);
    for response in [SLOW, Response::Never] {
        world.sites[0].set(response);
        for _ in 0..5 {
            send_within(&world.door, seconds(10), millis(100)).await;
        }
        assert_eq!(world.percents(), [100; 4], "{response:?}");
    }
}

// C67
#[tokio::test(start_paused = true)]
async fn too_few_calls_change_nothing() {
    let world = World::new(|builder| builder);
    for _ in 0..50 {
        // Four per second, so ten per backend and interval.
        sleep(millis(980)).await;
        send(&world.door, millis(20)).await;
    }
    assert_eq!(world.percents(), [100; 4]);
}

// C67: recovery is bounded in time, and does not need requests.
#[tokio::test(start_paused = true)]
async fn an_outlier_is_back_after_a_while_without_requests() {
    let world = World::new(|builder| builder);
    world.intervals(4).await;
    let mut shares = Vec::new();
    for _ in 0..10 {
        advance(seconds(10)).await;
        shares.push(percent(&world.fleet, "a"));
    }
    // Ejected for 30 s, then two intervals for each level.
    assert_eq!(shares, [0, 0, 10, 10, 25, 25, 50, 50, 100, 100]);
    assert_eq!(snapshot(&world.fleet, "a").ejected_for, None);
}

// C67: the calls of an hour ago say nothing about now.
#[tokio::test(start_paused = true)]
async fn old_calls_are_not_evaluated() {
    let world = World::new(|builder| builder);
    send(&world.door, seconds(9)).await;
    advance(seconds(3_600)).await;
    send(&world.door, seconds(5)).await;
    assert_eq!(world.percents(), [100; 4]);
}

// C67
#[tokio::test(start_paused = true)]
async fn an_outlier_that_returns_slow_is_ejected_for_longer() {
    let world = World::new(|builder| builder);
    world.intervals(4).await;
    let times = || snapshot(&world.fleet, "a").ejected_for;
    let mut longest = Duration::ZERO;
    for _ in 0..8 {
        world.intervals(1).await;
        longest = longest.max(times().unwrap_or_default());
    }
    assert!((seconds(45)..=seconds(60)).contains(&longest), "{longest:?}");
}

// C67
#[tokio::test(start_paused = true)]
async fn an_ejected_outlier_comes_back_through_slow_start() {
    let world = World::new(|builder| builder.slow_start(SlowStart::new(seconds(200)).floor(0.02)));
    world.intervals(4).await;
    world.sites[0].set(FAST);
    assert_eq!(world.intervals(3).await, [0, 0, 2]);
    // The smaller one of the two counts.
    let later = world.intervals(22).await;
    assert!(later.is_sorted() && later[5] < 40 && later[21] == 100, "{later:?}");
}

// C42, C67
#[tokio::test(start_paused = true)]
async fn outliers_and_circuits_together_are_limited() {
    let world = World::new(|builder| builder.max_ejected(0.25).circuit_breaker(CircuitPolicy::new().failures(10_000)));
    // One circuit is open, and that is as many as may be out.
    world.fleet.switch("d").unwrap().trip();
    assert_eq!(world.intervals(3).await, [50, 25, 10]);
    let (circuit, half_open) = (world.fleet.switch("d").unwrap(), tower_fleet::CircuitState::HalfOpen);
    if circuit.state() == half_open || circuit.state() == tower_fleet::CircuitState::Closed {
        circuit.trip();
    }
    assert_eq!(world.intervals(2).await, [10, 10], "not ejected");
    circuit.reset();
    assert_eq!(world.intervals(1).await, [0]);
    // A circuit that opens takes the place of the outlier: a slow backend is better than one that fails.
    let mut changes = world.fleet.changes();
    world.fleet.switch("c").unwrap().trip();
    assert_eq!(percent(&world.fleet, "a"), 10);
    let changes = received(&mut changes);
    assert!(
        matches!(&changes[..], [Change::Circuit(..), Change::Outlier(name, OutlierChange::Returned { .. })] if *name == *"a")
    );
}

// C42, C67
#[tokio::test(start_paused = true)]
async fn without_room_no_outlier_is_ejected() {
    let world = World::new(|builder| builder.max_ejected(0.0));
    let mut changes = world.fleet.changes();
    assert_eq!(world.intervals(6).await, [50, 25, 10, 10, 10, 10]);
    assert_eq!(received(&mut changes).len(), 3, "not even for a moment");
    // Nor if more than half of the tier would be out.
    let world = World::of(&["a", "b", "c", "d", "e"], |builder| {
        builder.circuit_breaker(CircuitPolicy::new().failures(10_000).open_for(seconds(290)))
    });
    ["d", "e"].iter().for_each(|name| world.fleet.switch(name).unwrap().trip());
    assert_eq!(world.intervals(5).await, [50, 25, 10, 10, 10]);
    let world = World::of(&["a", "b", "c", "d", "e"], |builder| builder);
    world.fleet.cool_down("d", seconds(3_600));
    world.fleet.cool_down("e", seconds(3_600));
    assert_eq!(world.intervals(5).await, [50, 25, 10, 0, 0], "cool-downs are not counted, and two of three remain");
}

// C67
#[tokio::test(start_paused = true)]
async fn half_of_a_tier_stays() {
    let world = World::new(|builder| builder);
    world.sites[1].set(SLOW);
    world.intervals(12).await;
    let out = world.percents().into_iter().filter(|share| *share == 0).count();
    assert!(out <= 2 && world.percents()[2..] == [100, 100], "{:?}", world.percents());
}

// C67
#[tokio::test(start_paused = true)]
async fn an_ejected_outlier_may_be_removed_or_replaced() {
    let world = World::new(|builder| builder);
    world.intervals(4).await;
    world.fleet.replace(world.sites[0].backend()).unwrap();
    assert_eq!(percent(&world.fleet, "a"), 100);
    world.intervals(4).await;
    assert_eq!(percent(&world.fleet, "a"), 0);
    let mut changes = world.fleet.changes();
    assert!(world.fleet.remove("a"));
    send(&world.door, seconds(60)).await;
    assert_eq!(world.percents(), [100; 3]);
    assert!(matches!(received(&mut changes)[..], [Change::Removed(_)]), "a removed backend does not return");
}

// C67: all backends out, one of them as an outlier: the error says when it returns.
#[tokio::test(start_paused = true)]
async fn the_error_names_the_end_of_an_ejection() {
    let world = World::new(|builder| builder);
    world.intervals(4).await;
    ["b", "c", "d"].iter().for_each(|name| assert!(world.fleet.drain(name)));
    let error = world.door.clone().oneshot(()).await.unwrap_err();
    let rest = snapshot(&world.fleet, "a").ejected_for.unwrap();
    assert_eq!(error.retry_after(), Some(rest));
    advance(rest).await;
    assert_eq!(world.door.clone().oneshot(()).await.unwrap(), "a");
}

// C67
#[tokio::test(start_paused = true)]
async fn without_the_setting_backends_are_not_compared() {
    let sites = sites(&["a", "b", "c", "d"]);
    sites[0].set(SLOW);
    let fleet = builder().backends(sites.iter().map(Site::backend)).build().unwrap();
    send(&door(&fleet, "round_robin"), seconds(60)).await;
    assert!(fleet.snapshot().iter().all(|backend| backend.share == 1.0 && backend.outlier.is_none()));
}

// C58
#[test]
fn a_bad_setting_is_refused_when_the_fleet_is_built() {
    let error = builder().outliers(Outliers::new().latency(f64::NAN)).build().unwrap_err();
    assert_eq!(error.to_string(), "outliers: latency NaN must be a number from 1 to 1000");
}
