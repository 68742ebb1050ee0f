//! The work of slow start and of the detection of outliers in a large fleet.

use super::*;
use crate::time::Moment;

/// A fleet of this many backends, built with one.
fn large(count: u32) -> Numbers {
    let slow_start = SlowStart::new(Duration::from_secs(100));
    let fleet = Fleet::plain().backend(Backend::new("first", 0)).slow_start(slow_start).outliers(Outliers::new());
    let fleet = fleet.build().expect("a valid fleet");
    // The fleet serves.
    tier(&fleet);
    (0..count).for_each(|number| fleet.insert(Backend::new(format!("b{number}"), number)).expect("a valid backend"));
    fleet
}

// C49: bounded work: the fleet changes once per step, however many backends start.
#[tokio::test(start_paused = true)]
async fn ten_thousand_backends_start_in_ten_steps() {
    let fleet = large(0);
    for number in 0..10_000_u32 {
        fleet.insert(Backend::new(format!("b{number}"), number)).expect("a valid backend");
        if number % 1_000 == 0 {
            tokio::time::advance(Duration::from_millis(700)).await;
        }
    }
    let (mut last, mut changes) = (version(&fleet), 0);
    for _ in 0..120 {
        tokio::time::advance(Duration::from_secs(1)).await;
        fleet.shared.core.process_due();
        changes += usize::from(std::mem::replace(&mut last, version(&fleet)) != last);
    }
    assert!((9..=12).contains(&changes), "{changes}");
    assert!(fleet.snapshot().iter().all(|backend| backend.share == 1.0));
    assert_eq!(fleet.shared.core.next_due(), None, "nothing is due any more");
}

// C67: or an idle fleet would read the clock for each request.
#[tokio::test(start_paused = true)]
async fn a_fleet_without_outliers_has_no_deadline() {
    let fleet = large(10);
    tokio::time::advance(Duration::from_secs(200)).await;
    fleet.shared.core.process_due();
    assert_eq!(fleet.shared.core.next_due(), None);
}

// C67
#[tokio::test(start_paused = true)]
async fn an_interval_is_evaluated_once_and_only_publishes_what_changed() {
    let fleet = large(3);
    tokio::time::advance(Duration::from_secs(300)).await;
    fleet.shared.core.process_due();
    let before = version(&fleet);
    let selection = fleet.shared.selection();
    for _ in 0..100 {
        for info in selection.infos() {
            let mut ticket = crate::health::Ticket::VOID;
            let meter = info.begin(&mut ticket);
            info.sample(&ticket, crate::health::Sample::FirstByte);
            info.end(meter);
        }
        tokio::time::advance(Duration::from_millis(150)).await;
    }
    assert_eq!(version(&fleet), before);
}

/// Prints what an evaluation costs: `cargo test --release --lib --all-features -- --ignored --nocapture evaluation`.
#[test]
#[ignore = "prints a measurement"]
fn the_cost_of_an_evaluation() {
    for count in [10, 100, 1_000, 10_000] {
        let fleet = large(count);
        let core = &fleet.shared.core;
        let call = |member: &MemberInfo| {
            let watch = member.watch.as_ref().expect("a watch");
            for _ in 0..60 {
                assert!(
                    watch.add(crate::health::Sample::FirstByte, Duration::from_millis(20), Moment::EPOCH).is_none()
                );
            }
        };
        let calls = || core.registry().members.values().for_each(|member| call(member));
        let mut best = Duration::MAX;
        for _ in 0..20 {
            calls();
            let begun = std::time::Instant::now();
            core.edit(|registry| registry.evaluate(false, core.clock.now()));
            best = best.min(begun.elapsed());
        }
        println!("{count} backends: {best:?}, {:?} each", best / count);
    }
    let fleet = large(0);
    let member = fleet.shared.core.find("first").expect("a member");
    let watch = member.watch.as_ref().expect("a watch");
    let (calls, begun) = (10_000_000, std::time::Instant::now());
    for call in 0..calls {
        let took = std::hint::black_box(Duration::from_micros(u64::from(call) % 1_000 + 20_000));
        assert!(watch.add(crate::health::Sample::FirstByte, took, Moment::EPOCH).is_none());
        // Below the most calls of an interval.
        if call % 1_000_000 == 0 {
            watch.take();
        }
    }
    println!("a call: {:?}", begun.elapsed() / calls);
}
