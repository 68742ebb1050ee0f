//! Following a discovery stream.

use std::convert::Infallible;

use futures::{FutureExt, channel::mpsc, stream};
use tower::discover;

use super::{super::*, Numbers, empty, name, named, received, services, version};

/// One item of a discovery stream.
type Item = Result<discover::Change<u8, u32>, &'static str>;

fn insert(key: u8, service: u32) -> Item {
    Ok(discover::Change::Insert(key, service))
}

fn remove(key: u8) -> Item {
    Ok(discover::Change::Remove(key))
}

/// Follows a stream of these items to its end. Returns the fleet and the result.
fn followed(items: Vec<Item>, backend: impl FnMut(&u8, u32) -> Backend<u32>) -> (Numbers, Result<(), &'static str>) {
    let fleet = empty();
    let end = fleet.follow(stream::iter(items), backend).now_or_never();
    (fleet, end.expect("the stream ends"))
}

fn by_key(key: &u8, service: u32) -> Backend<u32> {
    Backend::new(format!("k{key}"), service)
}

// C56
#[test]
fn discovery_inserts_replaces_and_removes() {
    let items = vec![insert(1, 10), insert(2, 20), insert(1, 11), remove(2), remove(9), insert(3, 30)];
    let (fleet, end) = followed(items, by_key);
    assert_eq!(services(&fleet), named(&[("k1", 11), ("k3", 30)]));
    assert_eq!(end, Ok(()));
}

// C56
#[test]
fn a_change_is_applied_before_the_stream_ends() {
    let fleet = empty();
    let (sender, receiver) = mpsc::unbounded();
    let mut following = Box::pin(fleet.follow(receiver, by_key));
    let mut changes = fleet.changes();
    for (item, expected) in [
        (insert(1, 10), Change::Inserted(name("k1"))),
        (insert(1, 11), Change::Replaced(name("k1"))),
        (remove(1), Change::Removed(name("k1"))),
        (insert(1, 12), Change::Inserted(name("k1"))),
    ] {
        sender.unbounded_send(item).expect("the fleet follows the stream");
        assert_eq!((&mut following).now_or_never(), None);
        assert_eq!(received(&mut changes), [expected]);
    }
    drop(sender);
    assert_eq!(following.now_or_never(), Some(Ok(())));
    assert_eq!(services(&fleet), named(&[("k1", 12)]));
}

// C56
#[test]
fn an_error_ends_the_following_and_keeps_the_backends() {
    let (fleet, end) = followed(vec![insert(1, 10), Err("lost"), insert(2, 20)], by_key);
    assert_eq!(services(&fleet), named(&[("k1", 10)]));
    assert_eq!(end, Err("lost"));
}

// C56, C58
#[test]
fn an_invalid_discovered_backend_is_skipped() {
    let made = |key: &u8, service| match key {
        1 => Backend::new("<script>", service),
        2 => Backend::new("k2", service).weight(0),
        // Two keys, one name.
        3 | 4 => Backend::new("same", service),
        _ => by_key(key, service),
    };
    let items = vec![insert(1, 10), insert(2, 20), insert(3, 30), insert(4, 40), insert(5, 50), remove(1), remove(4)];
    let (fleet, end) = followed(items, made);
    assert_eq!(services(&fleet), named(&[("same", 30), ("k5", 50)]));
    assert_eq!(end, Ok(()));
}

// C56, C58
#[test]
fn a_rejected_replacement_keeps_the_old_backend_which_discovery_still_removes() {
    let made = |key: &u8, service| by_key(key, service).weight(service % 10);
    let (fleet, _) = followed(vec![insert(1, 11), insert(2, 21), insert(1, 10)], made);
    assert_eq!(services(&fleet), named(&[("k1", 11), ("k2", 21)]));
    let (fleet, _) = followed(vec![insert(1, 11), insert(2, 21), insert(1, 10), remove(1)], made);
    assert_eq!(services(&fleet), named(&[("k2", 21)]));
}

// C56, C58
#[test]
fn a_known_key_may_change_its_name() {
    let made = |_: &u8, service| Backend::new(format!("s{service}"), service);
    let (fleet, _) = followed(vec![insert(1, 10), insert(2, 20), insert(1, 11), remove(2)], made);
    assert_eq!(services(&fleet), named(&[("s11", 11)]));
    // To a name in use: the backend stays, and its key still removes it.
    let (fleet, _) = followed(vec![insert(1, 10), insert(2, 20), insert(1, 20)], made);
    assert_eq!(services(&fleet), named(&[("s10", 10), ("s20", 20)]));
    let (fleet, _) = followed(vec![insert(1, 10), insert(2, 20), insert(1, 20), remove(1)], made);
    assert_eq!(services(&fleet), named(&[("s20", 20)]));
}

// C56
#[test]
fn a_backend_removed_by_hand_is_inserted_again_when_discovered_again() {
    let fleet = empty();
    let (sender, receiver) = mpsc::unbounded();
    let mut following = Box::pin(fleet.follow(receiver, by_key));
    for service in [10, 11] {
        sender.unbounded_send(insert(1, service)).expect("the fleet follows the stream");
        assert_eq!((&mut following).now_or_never(), None);
        assert_eq!(services(&fleet), named(&[("k1", service)]));
        fleet.remove("k1");
    }
}

// C56
#[test]
fn a_batch_of_ten_thousand_is_published_as_a_few_versions() {
    let fleet = empty();
    let published = version(&fleet);
    let items = (0..10_000).map(|key| Ok::<_, Infallible>(discover::Change::Insert(key, key)));
    let end = fleet.follow(stream::iter(items), |key, service| Backend::new(key.to_string(), service));
    assert_eq!(end.now_or_never(), Some(Ok(())));
    assert_eq!(fleet.snapshot().len(), 10_000);
    assert!(version(&fleet) - published <= 10, "{} versions", version(&fleet) - published);
}

// C1, C64
#[test]
fn a_source_of_lists_remembers_no_more_than_the_backends_that_are_there() {
    let fleet = empty();
    let (sender, lists) = mpsc::unbounded();
    let mut following = Box::pin(fleet.follow_lists(lists, |backend: &Backend<u32>| *backend.service()));
    let mut send = |names: &[&str]| {
        let list = names.iter().map(|name| Backend::new(*name, 1)).collect::<Vec<_>>();
        sender.unbounded_send(list).expect("the fleet follows the lists");
        assert_eq!((&mut following).now_or_never(), None);
        fleet.shared.core.registry().sources.members()
    };
    assert_eq!([&["a", "b"][..], &["b", "c"], &["b"]].map(&mut send), [2, 2, 1]);
    assert!(fleet.remove("b"));
    assert_eq!(send(&[]), 0);
}
