//! What responses state to be left of a rate limit: the share of their backend falls before it rejects requests.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::advance;
use tower::{Service, ServiceExt};
use tower_fleet::{
    AdminStatus, BalanceLayer, FailoverLayer, Fleet, Mode,
    body::ReplayBody,
    failover::CommitPoint,
    fleet::{FleetBuilder, SlowStart, Snapshot},
    outcome::Headroom,
};
use tower_layer::Layer;

use self::mock::*;

#[allow(dead_code, unused_macros, reason = "each suite uses a part of it")]
#[path = "support/http.rs"]
mod mock;

const PLENTY: [(&str, &str); 2] = [("x-ratelimit-limit-requests", "100"), ("x-ratelimit-remaining-requests", "99")];
const TENTH: [(&str, &str); 2] = [("x-ratelimit-limit-requests", "100"), ("x-ratelimit-remaining-requests", "10")];
const NOTHING: [(&str, &str); 2] = [("x-ratelimit-limit-requests", "100"), ("x-ratelimit-remaining-requests", "0")];

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn ok(headers: &[(&'static str, &'static str)]) -> Reply {
    with(200, headers)
}

fn with(code: u16, headers: &[(&'static str, &'static str)]) -> Reply {
    headers.iter().fold(status(code), |reply, (name, value)| reply.header(name, value))
}

/// One tier of two.
fn peers(settings: impl FnOnce(FleetBuilder<Mock>) -> FleetBuilder<Mock>) -> (Fleet<Mock>, [Arc<Remote>; 2]) {
    let remotes = [mock("a").1, mock("b").1];
    let builder = settings(Fleet::builder().backends(remotes.iter().map(backend)).headroom(true));
    (builder.build().unwrap(), remotes)
}

fn shown<C: Clone + Send + Sync + 'static>(fleet: &Fleet<Mock, C>, name: &str) -> Snapshot {
    fleet.snapshot().into_iter().find(|one| &*one.name == name).unwrap()
}

fn share(fleet: &Fleet<Mock>) -> f32 {
    (shown(fleet, "a").share * 1_000.0).round() / 1_000.0
}

/// How many of so many requests each backend answered.
async fn asked(fleet: &Fleet<Mock>, remotes: &[Arc<Remote>; 2], count: usize) -> [usize; 2] {
    let calls = || [remotes[0].calls(), remotes[1].calls()];
    let before = calls();
    let mut door = BalanceLayer::weighted().layer(fleet.clone());
    for _ in 0..count {
        let request = get().map(|_| ReplayBody::<Body>::from(Bytes::new()));
        drop(door.ready().await.unwrap().call(request).await);
    }
    let after = calls();
    [after[0] - before[0], after[1] - before[1]]
}

// C66, C71
#[tokio::test(start_paused = true)]
async fn little_left_lowers_the_share_before_the_limit_rejects_requests() {
    for (left, expected, spread) in [
        ("11", 1.0, [50, 50]),
        ("10", 0.5, [33, 67]),
        ("3", 0.5, [33, 67]),
        ("2", 0.1, [9, 91]),
        ("0", 0.1, [9, 91]),
        // C58
        ("-1", 1.0, [50, 50]),
        ("", 1.0, [50, 50]),
        ("none", 1.0, [50, 50]),
        ("NaN", 1.0, [50, 50]),
        ("101", 1.0, [50, 50]),
        ("99999999999999999999999999999999999999", 1.0, [50, 50]),
    ] {
        let (fleet, remotes) = peers(|builder| builder);
        remotes[0].usually(ok(&[("x-ratelimit-limit-tokens", "100"), ("x-ratelimit-remaining-tokens", left)]));
        asked(&fleet, &remotes, 2).await;
        assert_eq!(share(&fleet), expected, "{left}");
        let served = asked(&fleet, &remotes, 100).await;
        assert!(served[0].abs_diff(spread[0]) <= 1, "{left}: {served:?}");
        // Never out by it.
        assert!(shown(&fleet, "a").cools_for.is_none());
    }
}

// C66, C71
#[tokio::test(start_paused = true)]
async fn it_ends_by_itself_when_the_limit_is_whole_again() {
    for (reset, lasts) in [
        (None, millis(60_000)),
        (Some("30s"), millis(30_000)),
        (Some("6m0s"), millis(360_000)),
        (Some("250ms"), millis(1_000)),
        (Some("soon"), millis(60_000)),
        (Some("315360000"), millis(86_400_000)),
    ] {
        let (fleet, remotes) = peers(|builder| builder);
        let headers: Vec<_> = NOTHING.into_iter().chain(reset.map(|it| ("x-ratelimit-reset-requests", it))).collect();
        remotes[0].then([ok(&headers)]);
        asked(&fleet, &remotes, 2).await;
        advance(lasts - millis(10)).await;
        assert_eq!(share(&fleet), 0.1, "{reset:?}");
        assert_eq!(shown(&fleet, "a").headroom_low_for, Some(millis(10)), "{reset:?}");
        advance(millis(10)).await;
        // Also without a request.
        assert_eq!((share(&fleet), shown(&fleet, "a").headroom_low_for), (1.0, None), "{reset:?}");
        let served = asked(&fleet, &remotes, 100).await;
        assert!(served[0].abs_diff(50) <= 1, "{served:?}");
    }
    let (fleet, remotes) = peers(|builder| builder);
    remotes[0].then([ok(&[NOTHING[0], NOTHING[1], ("x-ratelimit-reset-requests", "0")])]);
    asked(&fleet, &remotes, 2).await;
    assert_eq!(share(&fleet), 1.0, "whole again already");
}

// C71
#[tokio::test(start_paused = true)]
async fn a_later_response_replaces_it() {
    let (fleet, remotes) = peers(|builder| builder);
    let say = async |headers: &[(&'static str, &'static str)], expected: f32| {
        remotes[0].usually(ok(headers));
        asked(&fleet, &remotes, 24).await;
        assert_eq!(share(&fleet), expected, "{headers:?}");
    };
    say(&TENTH, 0.5).await;
    say(&NOTHING, 0.1).await;
    say(&PLENTY, 0.1).await;
    // What is stated within a second does not raise it, or each response could change the fleet.
    advance(millis(1_000)).await;
    say(&TENTH, 0.5).await;
    advance(millis(1_000)).await;
    say(&PLENTY, 1.0).await;
    // One that states nothing replaces nothing.
    say(&TENTH, 0.5).await;
    advance(millis(5_000)).await;
    say(&[], 0.5).await;
    // Its end moves too, in both directions.
    say(&[TENTH[0], TENTH[1], ("x-ratelimit-reset-requests", "300")], 0.5).await;
    assert_eq!(shown(&fleet, "a").headroom_low_for, Some(millis(300_000)));
    advance(millis(100_000)).await;
    assert_eq!(share(&fleet), 0.5, "later than at first");
    say(&[TENTH[0], TENTH[1], ("x-ratelimit-reset-requests", "20")], 0.5).await;
    advance(millis(20_000)).await;
    assert_eq!(share(&fleet), 1.0, "earlier than before");
}

// C58, C71
#[tokio::test(start_paused = true)]
async fn a_backend_that_never_has_any_left_keeps_its_smallest_share() {
    let (fleet, remotes) = peers(|builder| builder);
    for remote in &remotes {
        remote.usually(ok(&NOTHING));
    }
    asked(&fleet, &remotes, 50).await;
    let served = asked(&fleet, &remotes, 100).await;
    assert_eq!(served, [50, 50], "equal shares have no effect");
    remotes[1].usually(status(503));
    fleet.set_status("b", AdminStatus::Draining);
    assert_eq!(asked(&fleet, &remotes, 10).await, [10, 0]);
}

// C71: two statements that alternate do not change the fleet with each response.
#[tokio::test(start_paused = true)]
async fn statements_that_alternate_change_the_share_once_a_second() {
    let (fleet, remotes) = peers(|builder| builder);
    fleet.set_status("b", AdminStatus::Draining);
    let mut changes = 0;
    let mut before = share(&fleet);
    for headers in [&PLENTY, &NOTHING].into_iter().cycle().take(200) {
        remotes[0].then([ok(headers)]);
        assert_eq!(asked(&fleet, &remotes, 1).await, [1, 0]);
        let after = share(&fleet);
        changes += usize::from(std::mem::replace(&mut before, after) != after);
        advance(millis(10)).await;
    }
    assert!((2..=5).contains(&changes), "{changes} in two seconds");
}

// C66, C71
#[tokio::test(start_paused = true)]
async fn failures_and_cancelled_requests_change_nothing() {
    let (fleet, remotes) = peers(|builder| builder);
    for code in [429, 500, 503] {
        remotes[0].then([with(code, &NOTHING)]);
        asked(&fleet, &remotes, 2).await;
        assert_eq!(share(&fleet), 1.0, "{code}");
    }
    fleet.end_cool_down("a");
    // Before the head.
    remotes[0].then([ok(&NOTHING).after(1_000)]);
    let _ = tokio::time::timeout(millis(500), asked(&fleet, &remotes, 2)).await;
    advance(millis(2_000)).await;
    assert_eq!(share(&fleet), 1.0);
    // Other statuses are answers.
    remotes[0].then([with(404, &NOTHING)]);
    asked(&fleet, &remotes, 2).await;
    assert_eq!(share(&fleet), 0.1);
}

// C71
#[tokio::test(start_paused = true)]
async fn it_is_read_only_where_it_is_wanted() {
    let (fleet, remotes) = peers(|builder| builder.headroom(false));
    remotes[0].usually(ok(&NOTHING));
    asked(&fleet, &remotes, 20).await;
    assert_eq!(share(&fleet), 1.0);
}

// C49, C66, C71
#[tokio::test(start_paused = true)]
async fn the_smallest_share_counts_and_each_ends_on_its_own() {
    let (fleet, remotes) = peers(|builder| builder.slow_start(SlowStart::new(millis(100_000))));
    remotes[0].usually(ok(&[TENTH[0], TENTH[1], ("x-ratelimit-reset-requests", "200")]));
    asked(&fleet, &remotes, 2).await;
    assert_eq!(share(&fleet), 0.5);
    fleet.set_status("a", AdminStatus::Draining);
    fleet.set_status("a", AdminStatus::Healthy);
    assert_eq!(share(&fleet), 0.1);
    remotes[0].usually(ok(&[]));
    advance(millis(40_000)).await;
    assert!((0.3..0.5).contains(&share(&fleet)), "{}", share(&fleet));
    advance(millis(110_000)).await;
    assert_eq!(share(&fleet), 0.5, "the slow start is over");
    advance(millis(50_000)).await;
    assert_eq!(share(&fleet), 1.0);
}

// C71
#[tokio::test(start_paused = true)]
async fn a_replacement_and_a_removed_backend_begin_anew() {
    let (fleet, remotes) = peers(|builder| builder);
    remotes[0].then([ok(&NOTHING)]);
    asked(&fleet, &remotes, 2).await;
    assert_eq!(share(&fleet), 0.1);
    fleet.replace(backend(&remotes[0])).unwrap();
    assert_eq!((share(&fleet), shown(&fleet, "a").headroom_low_for), (1.0, None));
    // A response that comes after its backend was removed.
    remotes[0].then([ok(&NOTHING).after(1_000)]);
    let late = async { asked(&fleet, &remotes, 2).await };
    let removal = async {
        tokio::time::sleep(millis(500)).await;
        fleet.remove("a");
        fleet.insert(backend(&remotes[0])).unwrap();
    };
    tokio::join!(late, removal);
    assert_eq!(share(&fleet), 1.0);
}

// C71: behind every door, and with a commit later than the head.
#[tokio::test(start_paused = true)]
async fn failovers_read_it_in_every_mode() {
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(millis(50))] {
        let (fleet, remotes) = peers(|builder| builder);
        remotes.iter().for_each(|remote| remote.usually(ok(&NOTHING)));
        let layer = FailoverLayer::builder().mode(mode).commit(CommitPoint::whole(1_000));
        for _ in 0..4 {
            drop(ask(&layer, &fleet, get()).await);
        }
        assert!(fleet.snapshot().iter().any(|one| one.headroom_low_for.is_some()), "{mode:?}");
    }
}

// C58
#[test]
fn what_is_no_part_of_a_limit_is_bounded() {
    let left = [f64::NAN, -1.0, f64::NEG_INFINITY, f64::INFINITY, 0.5].map(|left| Headroom::new(left).left());
    assert_eq!(left, [1.0, 0.0, 0.0, 1.0, 0.5]);
}
