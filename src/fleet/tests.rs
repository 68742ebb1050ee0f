use std::{convert::Infallible, time::Duration};

use futures::{FutureExt, StreamExt, channel::mpsc, stream};
use proptest::prelude::*;
use tower::discover;
use tower_layer::layer_fn;

use super::*;
use crate::{health::Status, outcome::ErrorsOnly, shard::slot};

/// A service is a number: which one it is.
type Numbers = Fleet<u32, ErrorsOnly>;

fn fleet(names: &[&str]) -> Numbers {
    let backends = (0..).zip(names).map(|(number, name)| Backend::new(*name, number));
    Fleet::plain().backends(backends).build().expect("good backends")
}

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

/// The backends that strategies choose from, in order.
fn tier(fleet: &Numbers) -> Vec<String> {
    fleet.shared.selection().first_tier().iter().map(|candidate| candidate.name().to_string()).collect()
}

/// What has happened so far.
fn heard(changes: &mut Changes) -> Vec<Change> {
    std::iter::from_fn(|| changes.next().now_or_never().flatten()).collect()
}

fn name(name: &str) -> BackendName {
    BackendName::checked(&name.into()).unwrap()
}

fn empty() -> Numbers {
    Fleet::plain().build().expect("an empty fleet")
}

/// Rises with every view that doors have to derive.
fn version(fleet: &Numbers) -> u64 {
    fleet.shared.core.version()
}

/// Does what is refused, and holds that nothing came of it.
#[track_caller]
fn refused(fleet: &Numbers, change: impl FnOnce(&Numbers) -> Result<(), InvalidSetting>) -> InvalidSetting {
    let (before, mut changes, published) = (fleet.snapshot(), fleet.changes(), version(fleet));
    let refused = change(fleet).expect_err("is refused");
    assert_eq!(fleet.snapshot(), before);
    assert_eq!(heard(&mut changes), []);
    assert_eq!(version(fleet), published);
    refused
}

/// Names that do harm somewhere: in headers, pages, logs, metrics, keys, terminals.
fn bad_names() -> Vec<String> {
    let names = [
        "",
        " ",
        "a b",
        "a\nb",
        "a\r\nset-cookie: x",
        "a\0b",
        "a\tb",
        "\u{1b}[31mred",
        "<script>alert(1)</script>",
        "a&b",
        "a\"b",
        "a'b",
        "a`b",
        "a\\b",
        "a{b}",
        "a,b",
        "a;b",
        "a=b",
        "a?b",
        "a#b",
        "a%b",
        "a@b",
        "a/../b?",
        "é",
        "日本",
        "a\u{202e}b",
        "a\u{200b}b",
    ];
    names
        .map(str::to_owned)
        .into_iter()
        .chain(["x".repeat(129), "x".repeat(1 << 20), "\u{1}".repeat(1 << 20)])
        .collect()
}

/// An error may be printed anywhere.
#[track_caller]
fn assert_printable(refused: &InvalidSetting) {
    let told = refused.to_string();
    assert!(told.len() < 1_000, "{} bytes", told.len());
    assert!(!told.contains(|letter: char| letter.is_control() || "\u{202e}\u{200b}".contains(letter)), "{told:?}");
    assert!(!told.ends_with('.') && told.starts_with(char::is_lowercase), "{told}");
}

// C58, C60
#[test]
fn a_bad_name_is_refused_wherever_it_comes_in() {
    for bad in bad_names() {
        let built = Fleet::plain().backend(Backend::new("good", 1)).backend(Backend::new(bad.clone(), 2)).build();
        let fleet = fleet(&["good"]);
        let all = [
            built.expect_err("is refused"),
            refused(&fleet, |fleet| fleet.insert(Backend::new(bad.clone(), 2))),
            refused(&fleet, |fleet| fleet.replace(Backend::new(bad.clone(), 2))),
            refused(&fleet, |fleet| fleet.set_weight(&bad, 2)),
            refused(&fleet, |fleet| fleet.set_weight(&bad, 0)),
            refused(&fleet, |fleet| fleet.set_timeout(&bad, Duration::ZERO)),
        ];
        for refused in all {
            assert_eq!((refused.field, refused.backend.as_str()), (Field::Name, ""), "{refused}");
            assert!(refused.to_string().contains(&refused.value));
            assert!(bad.len() > 160 || refused.value == bad.escape_debug().to_string(), "{refused}");
            assert_printable(&refused);
        }
        assert!(!fleet.remove(&bad) && !fleet.drain(&bad) && !fleet.set_priority(&bad, 1));
        assert!(!fleet.cool_down(&bad, Duration::from_secs(1)) && fleet.switch(&bad).is_none());
    }
}

// C58, C60
#[test]
fn good_names_are_taken_as_they_are() {
    let longest = "x".repeat(128);
    for good in ["a", "eu-1", "10.0.0.1:8080", "[::1]:80", "https://api.example.com/v1", "A_b.c", &longest] {
        assert_eq!(services(&fleet(&[good])), named(&[(good, 0)]));
    }
}

// C58
#[test]
fn a_taken_name_is_refused() {
    let built = Fleet::plain().backend(Backend::new("a", 1)).backend(Backend::new("a", 2)).build();
    let inserted = refused(&fleet(&["a", "b"]), |fleet| fleet.insert(Backend::new("b", 2)));
    for (refused, name) in [(built.expect_err("is refused"), "a"), (inserted, "b")] {
        assert_eq!((refused.field, refused.backend.as_str(), refused.value.as_str()), (Field::Name, name, name));
        assert_eq!(refused.to_string(), format!("backend name `{name}` is taken already"));
    }
    // A name is free again once its backend has left.
    let fleet = fleet(&["a"]);
    assert!(fleet.remove("a"));
    fleet.insert(Backend::new("a", 7)).expect("a free name");
    assert_eq!(services(&fleet), named(&[("a", 7)]));
}

// C58
#[test]
fn an_unknown_name_is_refused() {
    let fleet = fleet(&["a"]);
    let replaced = refused(&fleet, |fleet| fleet.replace(Backend::new("b", 2)));
    let reweighted = refused(&fleet, |fleet| fleet.set_weight("b", 2));
    let timed = refused(&fleet, |fleet| fleet.set_timeout("b", None));
    for refused in [replaced, reweighted, timed] {
        assert_eq!(refused.to_string(), "backend name `b` names no backend of this fleet");
    }
    let mut changes = fleet.changes();
    assert!(!fleet.remove("b") && !fleet.set_priority("b", 1) && !fleet.set_status("b", Status::Degraded));
    assert_eq!(heard(&mut changes), []);
}

// C6, C58
#[test]
fn a_weight_of_zero_is_refused_wherever_it_comes_in() {
    let weightless = |name: &'static str| Backend::new(name, 1).weight(0);
    let built = Fleet::plain().backend(weightless("a")).build().expect_err("is refused");
    let fleet = fleet(&["a"]);
    let all = [
        (built, "a"),
        (refused(&fleet, |fleet| fleet.insert(weightless("b"))), "b"),
        (refused(&fleet, |fleet| fleet.replace(weightless("a"))), "a"),
        (refused(&fleet, |fleet| fleet.set_weight("a", 0)), "a"),
    ];
    for (refused, name) in all {
        assert_eq!((refused.field, refused.backend.as_str(), refused.value.as_str()), (Field::Weight, name, "0"));
        assert_eq!(refused.to_string(), format!("backend `{name}`: weight 0 must be at least 1"));
    }
}

// C50, C58
#[test]
fn a_timeout_of_zero_is_refused_wherever_it_comes_in() {
    let hasty = |name: &'static str| Backend::new(name, 1).timeout(Duration::ZERO);
    let built = Fleet::plain().backend(hasty("a")).build().expect_err("is refused");
    let fleet = fleet(&["a"]);
    let all = [
        (built, "a"),
        (refused(&fleet, |fleet| fleet.insert(hasty("b"))), "b"),
        (refused(&fleet, |fleet| fleet.replace(hasty("a"))), "a"),
        (refused(&fleet, |fleet| fleet.set_timeout("a", Duration::ZERO)), "a"),
    ];
    for (refused, name) in all {
        assert_eq!((refused.field, refused.backend.as_str(), refused.value.as_str()), (Field::Timeout, name, "0 s"));
        assert_eq!(refused.to_string(), format!("backend `{name}`: timeout 0 s must be longer than zero"));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(i32),
    Remove(usize),
    Replace(usize, i32),
    Prioritize(usize, i32),
    SetStatus(usize, Status),
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![2 => Just(Status::Healthy), 1 => Just(Status::Degraded), 1 => Just(Status::Draining)];
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
    fn the_highest_tier_with_an_eligible_backend_serves_in_the_order_they_came(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let fleet = empty();
        // Name, priority, status; a replaced one keeps its place.
        let mut model: Vec<(String, i32, Status)> = Vec::new();
        for (number, step) in (0..).zip(steps) {
            let backends = model.len();
            match step {
                Step::Insert(priority) => {
                    let name = format!("b{number}");
                    fleet.insert(Backend::new(name.clone(), number).priority(priority)).expect("a good backend");
                    model.push((name, priority, Status::Healthy));
                }
                _ if backends == 0 => {}
                Step::Remove(which) => prop_assert!(fleet.remove(&model.remove(which % backends).0)),
                Step::Replace(which, priority) => {
                    let one = &mut model[which % backends];
                    fleet.replace(Backend::new(one.0.clone(), number).priority(priority)).expect("a good backend");
                    (one.1, one.2) = (priority, Status::Healthy);
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
            let eligible = || model.iter().filter(|(.., status)| *status == Status::Healthy);
            let highest = eligible().map(|(_, priority, _)| *priority).max();
            let expected: Vec<_> =
                eligible().filter(|(_, priority, _)| Some(*priority) == highest).map(|(name, ..)| name.clone()).collect();
            prop_assert_eq!(tier(&fleet), expected);
            let order: Vec<_> = fleet.snapshot().iter().map(|one| one.name.to_string()).collect();
            prop_assert_eq!(order, model.iter().map(|(name, ..)| name.clone()).collect::<Vec<_>>());
        }
    }
}

// C11
#[test]
fn a_replacement_keeps_the_place_and_nothing_else() {
    let fleet = fleet(&["a", "b", "c"]);
    fleet.set_weight("b", 9).expect("a good weight");
    fleet.drain("b");
    let before = fleet.snapshot();
    fleet.replace(Backend::new("b", 7).timeout(Duration::from_secs(1))).expect("a good backend");
    assert_eq!(services(&fleet), named(&[("a", 0), ("b", 7), ("c", 2)]));
    assert_eq!(tier(&fleet), ["a", "b", "c"]);
    let after = fleet.snapshot();
    assert_ne!(after[1].id, before[1].id, "an id is never given again");
    assert_eq!(
        (after[1].weight, after[1].status, after[1].timeout),
        (1, Status::Healthy, Some(Duration::from_secs(1)))
    );
    assert_eq!((&after[0], &after[2]), (&before[0], &before[2]));
}

#[test]
fn what_changes_nothing_publishes_nothing() {
    let fleet = fleet(&["a", "b"]);
    fleet.drain("b");
    let (mut changes, published) = (fleet.changes(), version(&fleet));
    fleet.set_weight("a", 1).expect("a good weight");
    assert!(fleet.set_priority("a", 0));
    assert!(fleet.set_status("a", Status::Healthy));
    assert!(fleet.drain("b"));
    assert!(!fleet.remove("c") && !fleet.drain("c"));
    assert_eq!((heard(&mut changes), version(&fleet)), (vec![], published));
    fleet.set_weight("a", 2).expect("a good weight");
    assert_eq!((heard(&mut changes).len(), version(&fleet)), (1, published + 1));
}

// C41
#[test]
fn changes_are_told_in_their_order_to_every_listener() {
    let fleet = fleet(&["a"]);
    let mut early = fleet.changes();
    fleet.insert(Backend::new("b", 1)).expect("a good backend");
    let mut late = fleet.changes();
    fleet.set_weight("a", 3).expect("a good weight");
    fleet.set_priority("b", -1);
    fleet.set_status("a", Status::Degraded);
    fleet.replace(Backend::new("a", 2)).expect("a good backend");
    fleet.drain("b");
    fleet.remove("b");
    let told = [
        Change::Reweighted(name("a"), 3),
        Change::Moved(name("b"), -1),
        Change::Status(name("a"), Status::Degraded),
        Change::Replaced(name("a")),
        Change::Status(name("b"), Status::Draining),
        Change::Removed(name("b")),
    ];
    assert_eq!(heard(&mut late), told);
    assert_eq!(heard(&mut early), [&[Change::Inserted(name("b"))], &told[..]].concat());
    drop(fleet);
    assert_eq!(late.next().now_or_never(), Some(None), "ends with the fleet");
}

#[test]
fn a_listener_that_was_dropped_is_forgotten() {
    let fleet = fleet(&["a"]);
    let listening = fleet.changes();
    (0..10).for_each(|_| drop(fleet.changes()));
    fleet.drain("a");
    assert_eq!(fleet.listeners(), 1);
    drop(listening);
    fleet.remove("a");
    assert_eq!(fleet.listeners(), 0);
}

/// What discovery says, by hand.
type Found = Result<discover::Change<u8, u32>, &'static str>;

fn found(key: u8, service: u32) -> Found {
    Ok(discover::Change::Insert(key, service))
}

fn lost(key: u8) -> Found {
    Ok(discover::Change::Remove(key))
}

/// The fleet after it followed these, at once, and how that ended.
fn followed(found: Vec<Found>, backend: impl FnMut(&u8, u32) -> Backend<u32>) -> (Numbers, Result<(), &'static str>) {
    let fleet = empty();
    let end = fleet.follow(stream::iter(found), backend).now_or_never();
    (fleet, end.expect("the stream has ended"))
}

fn by_key(key: &u8, service: u32) -> Backend<u32> {
    Backend::new(format!("k{key}"), service)
}

// C56
#[test]
fn a_fleet_follows_discovery() {
    let (fleet, end) = followed(vec![found(1, 10), found(2, 20), found(1, 11), lost(2), lost(9), found(3, 30)], by_key);
    assert_eq!(services(&fleet), named(&[("k1", 11), ("k3", 30)]));
    assert_eq!(end, Ok(()));
}

// C56
#[test]
fn what_was_discovered_serves_while_the_stream_goes_on() {
    let fleet = empty();
    let (sender, receiver) = mpsc::unbounded();
    let mut following = Box::pin(fleet.follow(receiver, by_key));
    let mut changes = fleet.changes();
    for (found, expected) in [
        (found(1, 10), Change::Inserted(name("k1"))),
        (found(1, 11), Change::Replaced(name("k1"))),
        (lost(1), Change::Removed(name("k1"))),
        (found(1, 12), Change::Inserted(name("k1"))),
    ] {
        sender.unbounded_send(found).expect("a follower");
        assert_eq!((&mut following).now_or_never(), None);
        assert_eq!(heard(&mut changes), [expected]);
    }
    drop(sender);
    assert_eq!(following.now_or_never(), Some(Ok(())));
    assert_eq!(services(&fleet), named(&[("k1", 12)]));
}

// C56
#[test]
fn the_end_of_discovery_is_its_error_and_what_came_before_stays() {
    let (fleet, end) = followed(vec![found(1, 10), Err("gone"), found(2, 20)], by_key);
    assert_eq!(services(&fleet), named(&[("k1", 10)]));
    assert_eq!(end, Err("gone"));
}

// C56, C58
#[test]
fn a_discovered_backend_that_is_refused_is_left_out_and_the_rest_goes_on() {
    let made = |key: &u8, service| match key {
        1 => Backend::new("<script>", service),
        2 => Backend::new("k2", service).weight(0),
        // Two keys, one name.
        3 | 4 => Backend::new("same", service),
        _ => by_key(key, service),
    };
    let all = vec![found(1, 10), found(2, 20), found(3, 30), found(4, 40), found(5, 50), lost(1), lost(4)];
    let (fleet, end) = followed(all, made);
    assert_eq!(services(&fleet), named(&[("same", 30), ("k5", 50)]));
    assert_eq!(end, Ok(()));
}

// C56, C58
#[test]
fn a_refused_replacement_leaves_the_old_one_which_discovery_still_removes() {
    let made = |key: &u8, service| by_key(key, service).weight(service % 10);
    let (fleet, _) = followed(vec![found(1, 11), found(2, 21), found(1, 10)], made);
    assert_eq!(services(&fleet), named(&[("k1", 11), ("k2", 21)]));
    let (fleet, _) = followed(vec![found(1, 11), found(2, 21), found(1, 10), lost(1)], made);
    assert_eq!(services(&fleet), named(&[("k2", 21)]));
}

// C56, C58
#[test]
fn a_known_key_may_change_its_name() {
    let made = |_: &u8, service| Backend::new(format!("s{service}"), service);
    let (fleet, _) = followed(vec![found(1, 10), found(2, 20), found(1, 11), lost(2)], made);
    assert_eq!(services(&fleet), named(&[("s11", 11)]));
    // To one that is taken: it stays as it was, and can be removed still.
    let (fleet, _) = followed(vec![found(1, 10), found(2, 20), found(1, 20)], made);
    assert_eq!(services(&fleet), named(&[("s10", 10), ("s20", 20)]));
    let (fleet, _) = followed(vec![found(1, 10), found(2, 20), found(1, 20), lost(1)], made);
    assert_eq!(services(&fleet), named(&[("s20", 20)]));
}

// C56
#[test]
fn what_the_operator_removed_comes_back_when_it_is_discovered_again() {
    let fleet = empty();
    let (sender, receiver) = mpsc::unbounded();
    let mut following = Box::pin(fleet.follow(receiver, by_key));
    for service in [10, 11] {
        sender.unbounded_send(found(1, service)).expect("a follower");
        assert_eq!((&mut following).now_or_never(), None);
        assert_eq!(services(&fleet), named(&[("k1", service)]));
        fleet.remove("k1");
    }
}

// C56
#[test]
fn ten_thousand_discovered_at_once_are_a_few_views() {
    let fleet = empty();
    let published = version(&fleet);
    let all = (0..10_000).map(|key| Ok::<_, Infallible>(discover::Change::Insert(key, key)));
    let end = fleet.follow(stream::iter(all), |key, service| Backend::new(key.to_string(), service));
    assert_eq!(end.now_or_never(), Some(Ok(())));
    assert_eq!(fleet.snapshot().len(), 10_000);
    assert!(version(&fleet) - published <= 10, "{} views", version(&fleet) - published);
}

#[test]
fn a_layer_wraps_the_service_of_its_backend_and_keeps_the_rest() {
    let backend = Backend::new("a", 1).weight(3).priority(-4).timeout(Duration::from_secs(2)).status(Status::Draining);
    let layered =
        backend.clone().layer(layer_fn(|service: u32| service + 100)).layer(layer_fn(|service: u32| service * 2));
    assert_eq!(layered.service(), &202);
    assert_eq!(format!("{layered:?}"), format!("{backend:?}"));
    let fleet = Fleet::plain().backend(layered).backend(Backend::new("b", 2)).build().expect("good backends");
    assert_eq!(services(&fleet), named(&[("a", 202), ("b", 2)]));
}

// C59
#[test]
fn no_service_is_shown() {
    #[derive(Clone, Debug)]
    struct Client {
        _key: &'static str,
    }
    let backend = || Backend::new("a", Client { _key: "sk-secret" });
    let fleet = Fleet::plain().backend(backend()).build().expect("a good backend");
    let _changes = fleet.changes();
    let shown = [
        format!("{:?}", backend()),
        format!("{:?}", Fleet::plain().backend(backend())),
        format!("{fleet:?}"),
        format!("{:#?}", fleet.snapshot()),
        format!("{:?}", fleet.shared.selection().first_tier()),
        format!("{:?}", fleet.insert(backend()).expect_err("the name is taken")),
        format!("{_changes:?}"),
    ];
    for shown in shown {
        assert!(!shown.contains("secret") && !shown.contains("Client"), "{shown}");
    }
}

// C11, C41
#[test]
fn a_backend_enters_as_it_is_said_to_be() {
    let fleet = fleet(&["a", "b"]);
    fleet.insert(Backend::new("c", 3).status(Status::Draining)).unwrap();
    assert_eq!(tier(&fleet), ["a", "b"]);
    fleet.set_status("c", Status::Healthy);
    assert_eq!(tier(&fleet), ["a", "b", "c"]);
}

#[test]
fn a_backend_keeps_what_is_known_of_it_with_another_service() {
    let one = Backend::new("a", 1).weight(3).priority(-2).timeout(Duration::from_secs(9)).status(Status::Degraded);
    let two = one.clone().map(|service| service + 1);
    assert_eq!((two.name(), two.service()), ("a", &2));
    assert_eq!(format!("{one:?}"), format!("{two:?}"));
}
