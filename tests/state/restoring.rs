//! What is restored after a restart. C54

use futures::FutureExt;
use tokio::time::advance;
use tower_fleet::{
    AdminStatus, CircuitState,
    fleet::{Change, Outliers, SlowStart, Switch},
};

use super::*;

fn switch(fleet: &Sites, name: &str) -> Switch {
    fleet.switch(name).unwrap()
}

/// Saves the state of a fleet, drops it, and restores the state into another one.
async fn restart(fleet: Sites, build: FleetBuilder<Site, ErrorsOnly>) -> Sites {
    let shelf = Shelf::empty();
    // So that the fleet continues from where it is.
    let mut saver = fleet.restore(shelf.clone()).await;
    saver.save().await.unwrap();
    drop((fleet, saver));
    let fleet = build.build().unwrap();
    let _ = fleet.restore(shelf).await;
    fleet
}

// C54: the operator's word survives a restart.
#[tokio::test(start_paused = true)]
async fn drains_and_forced_circuits_survive() {
    let before = fleet();
    before.drain("a");
    switch(&before, "b").force_open();
    switch(&before, "c").force_closed();
    let after = restart(before, builder()).await;
    assert_eq!(snapshot(&after, "a").status, AdminStatus::Draining);
    assert_eq!(switch(&after, "b").state(), CircuitState::ForcedOpen);
    assert_eq!(switch(&after, "c").state(), CircuitState::ForcedClosed);
    assert_eq!(serving(&after).await, 1);
    // And can be taken back.
    after.set_status("a", AdminStatus::Healthy);
    switch(&after, "b").reset();
    let again = restart(after, builder()).await;
    assert_eq!(serving(&again).await, 3);
}

// C54: a word that was set counts more than the settings; settings alone are no word.
#[tokio::test(start_paused = true)]
async fn the_status_of_the_settings_is_saved_only_if_an_operator_changed_it() {
    let draining = || Fleet::plain().name("api").backend(site("a").status(AdminStatus::Draining));
    let after = restart(draining().build().unwrap(), Fleet::plain().name("api").backend(site("a"))).await;
    assert_eq!(snapshot(&after, "a").status, AdminStatus::Healthy);
    let before = draining().build().unwrap();
    before.set_status("a", AdminStatus::Healthy);
    let after = restart(before, draining()).await;
    assert_eq!(snapshot(&after, "a").status, AdminStatus::Healthy);
}

// C54: the first request after a restart in an outage already avoids the dead backend.
#[tokio::test(start_paused = true)]
async fn a_restart_in_an_outage_sends_no_request_to_the_dead_backend() {
    let calls = Arc::<AtomicUsize>::default();
    let dead = || Backend::new("a", Site { name: "a", fails: true, calls: Arc::clone(&calls) });
    let build = || Fleet::plain().name("api").backends([dead(), site("b")]).circuit_breaker(policy());
    let before = build().build().unwrap();
    while snapshot(&before, "a").state == CircuitState::Closed {
        let _ = door(&before).oneshot(()).await;
    }
    advance(secs(4)).await;
    let failed = calls.load(Ordering::SeqCst);
    let after = restart(before, build()).await;
    for _ in 0..10 {
        assert_eq!(door(&after).oneshot(()).await.unwrap(), "b");
    }
    assert_eq!(calls.load(Ordering::SeqCst), failed);
    assert_eq!(snapshot(&after, "a").state, CircuitState::Open);
    // Six of its ten seconds were left.
    advance(millis(5_900)).await;
    assert_eq!(snapshot(&after, "a").state, CircuitState::Open);
    advance(millis(200)).await;
    assert_eq!(snapshot(&after, "a").state, CircuitState::HalfOpen);
    while calls.load(Ordering::SeqCst) == failed {
        let _ = door(&after).oneshot(()).await;
    }
    // The second opening lasts twice as long.
    advance(secs(19)).await;
    assert_eq!(snapshot(&after, "a").state, CircuitState::Open);
    advance(secs(2)).await;
    assert_eq!(snapshot(&after, "a").state, CircuitState::HalfOpen);
}

// C54: a circuit whose time is over is probed, not closed.
#[tokio::test(start_paused = true)]
async fn a_circuit_whose_open_time_is_over_is_due_for_a_probe() {
    let document = document(PAST, r#""a": {"circuit": {"state": "open", "openings": 1, "remaining": "9s"}}"#);
    let fleet = fleet();
    let _ = fleet.restore(Shelf::with(document)).await;
    assert_eq!(snapshot(&fleet, "a").state, CircuitState::HalfOpen);
    assert_eq!(serving(&fleet).await, 3);
    assert_eq!(snapshot(&fleet, "a").state, CircuitState::Closed);
}

// C54: a jump of the wall clock keeps nothing out longer than it would have been.
#[tokio::test(start_paused = true)]
async fn jumps_of_the_wall_clock_are_harmless() {
    let backends = r#""a": {"circuit": {"state": "open", "openings": 1, "remaining": "9s"}},
        "b": {"cool_down": "7s"}, "c": {"slow_start": "2s", "peak": {"value": "3ms", "age": "1s"}}"#;
    for (written_at, out) in [(FUTURE, 2), (PAST, 0)] {
        let fleet = builder().slow_start(SlowStart::new(secs(20))).build().unwrap();
        let _ = fleet.restore(Shelf::with(document(written_at, backends))).await;
        assert_eq!(serving(&fleet).await, 3 - out, "{written_at}");
        assert_eq!(snapshot(&fleet, "b").cools_for, (out > 0).then_some(secs(7)));
        assert_eq!(snapshot(&fleet, "c").share < 1.0, out > 0);
        advance(millis(9_001)).await;
        assert_eq!(snapshot(&fleet, "a").state.serves(), out == 0);
        assert_eq!(serving(&fleet).await, 3);
    }
}

// C54: values that no policy of this fleet could produce are cut to what it could.
#[tokio::test(start_paused = true)]
async fn absurd_values_are_reduced_to_the_present_settings() {
    let long = "300years";
    let backends = format!(
        r#""a": {{"circuit": {{"state": "open", "openings": 4294967295, "remaining": "{long}"}}}},
        "b": {{"cool_down": "{long}", "slow_start": "{long}", "failures": {{"count": 1e38, "age": "0s"}},
            "peak": {{"value": "{long}", "age": "0s"}}, "mean": {{"value": "1ms", "age": "{long}"}}}},
        "c": {{"outlier": {{"level": 255, "remaining": "{long}", "ejections": 4294967295,
            "reason": {{"rule": "failures", "failed": 1, "calls": 1}}}}}}"#
    );
    let fleet = builder().outliers(Outliers::new()).slow_start(SlowStart::new(secs(20))).build().unwrap();
    let _ = fleet.restore(Shelf::with(document(FUTURE, &backends))).await;
    let month = secs(30 * 24 * 60 * 60);
    assert_eq!((snapshot(&fleet, "b").cools_for, snapshot(&fleet, "b").share), (Some(month), 1.0));
    // Two of three are out already, so the outlier keeps its smallest share.
    assert_eq!((snapshot(&fleet, "c").ejected_for, percent(&fleet, "c")), (None, 10.0));
    let mut shares = Vec::new();
    for _ in 0..3 {
        advance(secs(20)).await;
        shares.push(percent(&fleet, "c"));
    }
    assert_eq!((snapshot(&fleet, "a").state, shares), (CircuitState::HalfOpen, vec![25.0, 50.0, 100.0]));
}

// C54
#[tokio::test(start_paused = true)]
async fn cool_downs_and_slow_starts_continue() {
    let build = || builder().slow_start(SlowStart::new(secs(100)));
    let before = build().build().unwrap();
    // The fleet serves, so that the next backend starts slowly.
    assert_eq!(serving(&before).await, 3);
    before.cool_down("a", secs(50));
    before.insert(site("d")).unwrap();
    advance(secs(30)).await;
    let share = snapshot(&before, "d").share;
    assert!((0.2..0.4).contains(&share), "{share}");
    let after = restart(before, build().backend(site("d"))).await;
    assert_eq!(snapshot(&after, "d").share, share);
    let cools_for = snapshot(&after, "a").cools_for.unwrap();
    assert!(cools_for <= secs(20) && cools_for > secs(19), "{cools_for:?}");
    advance(secs(40)).await;
    assert_eq!(snapshot(&after, "a").cools_for, None);
    let share = snapshot(&after, "d").share;
    assert!((0.6..0.8).contains(&share), "{share}");
    advance(secs(40)).await;
    assert_eq!(snapshot(&after, "d").share, 1.0);
}

// C54
#[tokio::test(start_paused = true)]
async fn an_ejected_outlier_stays_out_for_the_rest_of_its_time_and_returns_in_steps() {
    let backends = r#""a": {"outlier": {"level": 4, "remaining": "20s", "ejections": 2,
        "reason": {"rule": "latency", "took": "2s", "median": "20ms"}}},
        "b": {"outlier": {"level": 1, "remaining": "5s", "ejections": 0,
        "reason": {"rule": "success_rate", "failed": 9, "calls": 90, "peers": 0.99}}}"#;
    let fleet = builder().outliers(Outliers::new()).build().unwrap();
    let mut changes = fleet.changes();
    let mut saver = fleet.restore(Shelf::with(document(FUTURE, backends))).await;
    let ejected = snapshot(&fleet, "a");
    assert_eq!((ejected.ejected_for, ejected.outlier.is_some()), (Some(secs(20)), true));
    assert_eq!(snapshot(&fleet, "b").share, 0.5);
    let next = futures::StreamExt::next(&mut changes).now_or_never().flatten();
    assert!(matches!(&next, Some(Change::Outlier(name, _)) if *name == *"a"), "{next:?}");
    // What is saved again is the same.
    let shelf = Shelf::empty();
    let mut copy = fleet.restore(shelf.clone()).await;
    copy.save().await.unwrap();
    let (saved, old): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(&shelf.text()).unwrap(), serde_json::from_slice(&document(FUTURE, backends)).unwrap());
    assert_eq!(saved["backends"], old["backends"]);
    saver.save().await.unwrap();
    advance(millis(20_001)).await;
    assert_eq!((snapshot(&fleet, "a").ejected_for, percent(&fleet, "a")), (None, 10.0));
    assert_eq!(snapshot(&fleet, "b").outlier, None);
    for share in [25.0, 50.0, 100.0] {
        advance(secs(20)).await;
        assert_eq!(percent(&fleet, "a"), share);
    }
}

// C54, C42: as many as the limits allow, and never all.
#[tokio::test(start_paused = true)]
async fn restored_ejections_respect_the_limits() {
    let open = r#"{"circuit": {"state": "open", "openings": 1, "remaining": "9s"}}"#;
    let backends = format!(r#""a": {open}, "b": {open}, "c": {open}"#);
    let fleet = builder().max_ejected(0.34).build().unwrap();
    let _ = fleet.restore(Shelf::with(document(FUTURE, &backends))).await;
    assert_eq!(serving(&fleet).await, 2);
    let ejected = r#"{"outlier": {"level": 4, "remaining": "20s", "ejections": 1,
        "reason": {"rule": "failures", "failed": 1, "calls": 1}}}"#;
    let backends = format!(r#""a": {ejected}, "b": {ejected}, "c": {ejected}"#);
    let fleet = builder().outliers(Outliers::new()).build().unwrap();
    let _ = fleet.restore(Shelf::with(document(FUTURE, &backends))).await;
    let out = fleet.snapshot().iter().filter(|backend| backend.ejected_for.is_some()).count();
    assert_eq!((out, serving(&fleet).await), (1, 2));
    // The only one of its tier.
    let fleet = Fleet::plain().name("api").backend(site("a")).outliers(Outliers::new()).build().unwrap();
    let _ = fleet.restore(Shelf::with(document(FUTURE, &format!(r#""a": {ejected}"#)))).await;
    assert_eq!(serving(&fleet).await, 1);
}

// C54: what happened in this process is newer.
#[tokio::test(start_paused = true)]
async fn a_restore_does_not_override_what_happened_in_this_process() {
    let open = r#"{"status": "degraded", "cool_down": "5s", "circuit": {"state": "forced_open"}}"#;
    let fleet = fleet();
    fleet.drain("a");
    fleet.cool_down("a", secs(9));
    switch(&fleet, "a").trip();
    switch(&fleet, "b").reset();
    let backends = format!(r#""a": {open}, "b": {open}, "c": {open}"#);
    let _ = fleet.restore(Shelf::with(document(FUTURE, &backends))).await;
    let a = snapshot(&fleet, "a");
    assert_eq!((a.status, a.state, a.cools_for), (AdminStatus::Draining, CircuitState::Open, Some(secs(9))));
    assert_eq!(snapshot(&fleet, "b").state, CircuitState::Closed);
    assert_eq!(snapshot(&fleet, "c").state, CircuitState::ForcedOpen);
}

// C54, C56: discovery finds a backend after the restore.
#[tokio::test(start_paused = true)]
async fn a_backend_that_is_discovered_later_continues_with_the_time_accounted_for() {
    let warnings = Warnings::collect();
    let backends = r#""late": {"status": "draining", "cool_down": "50s"}, "never": {"status": "draining"}"#;
    let shelf = Shelf::with(document(FUTURE, backends));
    let fleet = fleet();
    let mut saver = fleet.restore(shelf.clone()).await;
    let running = tokio::spawn(async move { saver.run().await });
    tokio::time::sleep(secs(20)).await;
    // A save, and perhaps another start, meanwhile does not forget it.
    fleet.drain("b");
    tokio::time::sleep(secs(2)).await;
    assert!(shelf.saves() == 1 && shelf.text().contains("\"never\""), "{}", shelf.text());
    fleet.insert(site("late")).unwrap();
    tokio::time::sleep(millis(1)).await;
    let late = snapshot(&fleet, "late");
    assert_eq!(late.status, AdminStatus::Draining);
    let cools_for = late.cools_for.unwrap();
    assert!(cools_for <= secs(28) && cools_for > secs(27), "{cools_for:?}");
    assert_eq!(warnings.take().len(), 0);
    // The other one is not expected any longer.
    tokio::time::sleep(secs(41)).await;
    let texts = warnings.take();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("state not restored") && texts[0].contains("backend `never` is not in the fleet"));
    fleet.insert(site("never")).unwrap();
    tokio::time::sleep(secs(2)).await;
    assert_eq!(snapshot(&fleet, "never").status, AdminStatus::Healthy);
    assert!(!shelf.text().contains("\"never\"") && shelf.text().contains("\"late\""), "{}", shelf.text());
    drop(fleet);
    running.await.unwrap();
}

// C54
#[tokio::test(start_paused = true)]
async fn a_replaced_backend_starts_anew() {
    let fleet = fleet();
    let document = document(FUTURE, r#""a": {"status": "draining", "circuit": {"state": "forced_open"}}"#);
    let mut saver = fleet.restore(Shelf::with(document)).await;
    fleet.replace(site("a")).unwrap();
    let _ = tokio::time::timeout(secs(5), saver.run()).await;
    let a = snapshot(&fleet, "a");
    assert_eq!((a.status, a.state), (AdminStatus::Healthy, CircuitState::Closed));
}
