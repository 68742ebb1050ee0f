//! Membership, settings, tiers and streams of changes.

mod discovery;
mod ejections;
mod rejections;
mod rows;
mod shares;
mod suspicions;
mod threads;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use proptest::prelude::*;
use tower_layer::layer_fn;

use super::*;
use crate::{health::AdminStatus, outcome::ErrorsOnly, shard::slot};

/// A fleet of services that are only identified, by a number.
type Numbers = Fleet<u32, ErrorsOnly>;

fn fleet(names: &[&str]) -> Numbers {
    let backends = (0..).zip(names).map(|(number, name)| Backend::new(*name, number));
    Fleet::plain().backends(backends).build().expect("valid backends")
}

/// The backends in the order of the fleet, with their services.
fn services(fleet: &Numbers) -> Vec<(String, u32)> {
    let selection = fleet.shared.selection();
    let mut rows: Vec<_> = (0..selection.backends() as u32).collect();
    rows.sort_by_key(|row| selection.info(*row).position());
    let service = |row| *selection.shard(row, slot()).expect("a member").service();
    rows.into_iter().map(|row| (selection.info(row).name.to_string(), service(row))).collect()
}

fn named(expected: &[(&str, u32)]) -> Vec<(String, u32)> {
    expected.iter().map(|(name, service)| ((*name).to_owned(), *service)).collect()
}

/// The candidates of the strategies, in order.
fn tier(fleet: &Numbers) -> Vec<String> {
    fleet.shared.selection().serving_tier().iter().map(|candidate| candidate.name().to_string()).collect()
}

/// The changes that the stream holds.
fn received(changes: &mut Changes) -> Vec<Change> {
    std::iter::from_fn(|| changes.next().now_or_never().flatten()).collect()
}

fn name(name: &str) -> BackendName {
    BackendName::checked(&name.into()).unwrap()
}

fn empty() -> Numbers {
    Fleet::plain().build().expect("an empty fleet")
}

/// Rises with every change that doors must see.
fn version(fleet: &Numbers) -> u64 {
    fleet.shared.core.version()
}

#[derive(Clone, Debug)]
enum Step {
    Insert(i32),
    Remove(usize),
    Replace(usize, i32),
    Prioritize(usize, i32),
    SetStatus(usize, AdminStatus),
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![
        2 => Just(AdminStatus::Healthy),
        1 => Just(AdminStatus::Degraded),
        1 => Just(AdminStatus::Draining),
    ];
    prop_oneof![
        2 => (-2..2).prop_map(Step::Insert),
        1 => any::<usize>().prop_map(Step::Remove),
        1 => (any::<usize>(), -2..2).prop_map(|(which, priority)| Step::Replace(which, priority)),
        2 => (any::<usize>(), -2..2).prop_map(|(which, priority)| Step::Prioritize(which, priority)),
        3 => (any::<usize>(), status).prop_map(|(which, status)| Step::SetStatus(which, status)),
    ]
}

proptest! {
    // C2, C8
    #[test]
    fn the_highest_tier_with_an_eligible_backend_serves_in_insertion_order(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let fleet = empty();
        // Name, priority, status. A replaced backend keeps its position.
        let mut model: Vec<(String, i32, AdminStatus)> = Vec::new();
        for (number, step) in (0..).zip(steps) {
            let backends = model.len();
            match step {
                Step::Insert(priority) => {
                    let name = format!("b{number}");
                    fleet.insert(Backend::new(name.clone(), number).priority(priority)).expect("a valid backend");
                    model.push((name, priority, AdminStatus::Healthy));
                }
                _ if backends == 0 => {}
                Step::Remove(which) => prop_assert!(fleet.remove(&model.remove(which % backends).0)),
                Step::Replace(which, priority) => {
                    let one = &mut model[which % backends];
                    fleet.replace(Backend::new(one.0.clone(), number).priority(priority)).expect("a valid backend");
                    (one.1, one.2) = (priority, AdminStatus::Healthy);
                }
                Step::Prioritize(which, priority) => {
                    let one = &mut model[which % backends];
                    prop_assert!(fleet.set_priority(&one.0, priority));
                    one.1 = priority;
                }
                Step::SetStatus(which, status) => {
                    let one = &mut model[which % backends];
                    prop_assert!(fleet.set_status(&one.0, status));
                    one.2 = status;
                }
            }
            let eligible = || model.iter().filter(|(.., status)| *status == AdminStatus::Healthy);
            let highest = eligible().map(|(_, priority, _)| *priority).max();
            let expected = eligible().filter(|(_, priority, _)| Some(*priority) == highest);
            prop_assert_eq!(tier(&fleet), expected.map(|(name, ..)| name.clone()).collect::<Vec<_>>());
            let order: Vec<_> = fleet.snapshot().iter().map(|backend| backend.name.to_string()).collect();
            prop_assert_eq!(order, model.iter().map(|(name, ..)| name.clone()).collect::<Vec<_>>());
        }
    }
}

// C11
#[test]
fn a_replacement_keeps_the_position_and_nothing_else() {
    let fleet = fleet(&["a", "b", "c"]);
    fleet.set_weight("b", 9).expect("a valid weight");
    fleet.drain("b");
    let before = fleet.snapshot();
    fleet.replace(Backend::new("b", 7).timeout(Duration::from_secs(1))).expect("a valid backend");
    assert_eq!(services(&fleet), named(&[("a", 0), ("b", 7), ("c", 2)]));
    assert_eq!(tier(&fleet), ["a", "b", "c"]);
    let after = fleet.snapshot();
    assert_ne!(after[1].id, before[1].id, "an id is never used again");
    assert_eq!(
        (after[1].weight, after[1].status, after[1].timeout),
        (1, AdminStatus::Healthy, Some(Duration::from_secs(1)))
    );
    assert_eq!((&after[0], &after[2]), (&before[0], &before[2]));
}

#[test]
fn a_setter_without_effect_publishes_nothing() {
    let fleet = fleet(&["a", "b"]);
    fleet.drain("b");
    let (mut changes, published) = (fleet.changes(), version(&fleet));
    fleet.set_weight("a", 1).expect("a valid weight");
    assert!(fleet.set_priority("a", 0));
    assert!(fleet.set_status("a", AdminStatus::Healthy));
    assert!(fleet.drain("b"));
    assert!(!fleet.remove("c") && !fleet.drain("c"));
    assert_eq!((received(&mut changes), version(&fleet)), (vec![], published));
    fleet.set_weight("a", 2).expect("a valid weight");
    assert_eq!((received(&mut changes).len(), version(&fleet)), (1, published + 1));
}

// C11
#[test]
fn a_burst_is_derived_once_for_all_doors() {
    let names: Vec<_> = (0..2_000).map(|index| index.to_string()).collect();
    let fleet = fleet(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let before = fleet.shared.selection();
    names[..1_500].iter().for_each(|name| assert!(fleet.drain(name)));
    let selections = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| fleet.shared.selection())).collect();
        threads.into_iter().map(|thread| thread.join().expect("a selection")).collect::<Vec<_>>()
    });
    assert!(selections.iter().all(|selection| Arc::ptr_eq(selection, &selections[0])));
    assert_eq!((selections[0].version, selections[0].tier_version), (before.version + 1_500, before.tier_version + 1));
    assert_eq!(selections[0].serving_tier().len(), 500);
}

// C41
#[test]
fn every_stream_yields_the_changes_in_order() {
    let fleet = fleet(&["a"]);
    let mut early = fleet.changes();
    fleet.insert(Backend::new("b", 1)).expect("a valid backend");
    let mut late = fleet.changes();
    fleet.set_weight("a", 3).expect("a valid weight");
    fleet.set_priority("b", -1);
    fleet.set_status("a", AdminStatus::Degraded);
    fleet.replace(Backend::new("a", 2)).expect("a valid backend");
    fleet.drain("b");
    fleet.remove("b");
    let expected = [
        Change::Reweighted(name("a"), 3),
        Change::Moved(name("b"), -1),
        Change::Status(name("a"), AdminStatus::Degraded),
        Change::Replaced(name("a")),
        Change::Status(name("b"), AdminStatus::Draining),
        Change::Removed(name("b")),
    ];
    assert_eq!(received(&mut late), expected);
    assert_eq!(received(&mut early), [&[Change::Inserted(name("b"))], &expected[..]].concat());
    drop(fleet);
    assert_eq!(late.next().now_or_never(), Some(None), "the stream ends with the fleet");
}

#[test]
fn a_dropped_stream_is_removed() {
    let fleet = fleet(&["a"]);
    let stream = fleet.changes();
    (0..10).for_each(|_| drop(fleet.changes()));
    fleet.drain("a");
    assert_eq!(fleet.shared().core.listeners(), 1);
    drop(stream);
    fleet.remove("a");
    assert_eq!(fleet.shared().core.listeners(), 0);
}

#[test]
fn a_layer_wraps_the_service_and_keeps_the_settings() {
    let backend =
        Backend::new("a", 1).weight(3).priority(-4).timeout(Duration::from_secs(2)).status(AdminStatus::Draining);
    let layered =
        backend.clone().layer(layer_fn(|service: u32| service + 100)).layer(layer_fn(|service: u32| service * 2));
    assert_eq!(layered.service(), &202);
    assert_eq!(format!("{layered:?}"), format!("{backend:?}"));
    let fleet = Fleet::plain().backend(layered).backend(Backend::new("b", 2)).build().expect("valid backends");
    assert_eq!(services(&fleet), named(&[("a", 202), ("b", 2)]));
}

// C59
#[test]
fn debug_output_contains_no_service() {
    #[derive(Clone, Debug)]
    struct Client {
        _key: &'static str,
    }
    let backend = || Backend::new("a", Client { _key: "sk-secret" });
    let fleet = Fleet::plain().backend(backend()).build().expect("a valid backend");
    let _changes = fleet.changes();
    let shown = [
        format!("{:?}", backend()),
        format!("{:?}", Fleet::plain().backend(backend())),
        format!("{fleet:?}"),
        format!("{:#?}", fleet.snapshot()),
        format!("{:?}", fleet.shared.selection().serving_tier()),
        format!("{:?}", fleet.insert(backend()).expect_err("the name is in use")),
        format!("{_changes:?}"),
    ];
    for shown in shown {
        assert!(!shown.contains("secret") && !shown.contains("Client"), "{shown}");
    }
}

// C11, C41
#[test]
fn a_backend_is_added_with_its_status() {
    let fleet = fleet(&["a", "b"]);
    fleet.insert(Backend::new("c", 3).status(AdminStatus::Draining)).unwrap();
    assert_eq!(tier(&fleet), ["a", "b"]);
    fleet.set_status("c", AdminStatus::Healthy);
    assert_eq!(tier(&fleet), ["a", "b", "c"]);
}

#[test]
fn a_mapped_backend_keeps_its_settings() {
    let one = Backend::new("a", 1).weight(3).priority(-2).timeout(Duration::from_secs(9)).status(AdminStatus::Degraded);
    let two = one.clone().map(|service| service + 1);
    assert_eq!((two.name(), two.service()), ("a", &2));
    assert_eq!(format!("{one:?}"), format!("{two:?}"));
}
