//! Lists of several sources in one fleet, each of which changes its own backends only. C56, C64, C70
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    future::{Ready, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::{FutureExt, StreamExt, channel::mpsc, future::BoxFuture};
use tower::{Layer, Service};
use tower_fleet::{
    AdminStatus, Backend, BalanceLayer, CircuitPolicy, CircuitState, Fleet, fleet::Change, outcome::ErrorsOnly,
};

/// A client of one address.
#[derive(Clone, Debug)]
struct Client {
    address: u32,
}

impl Service<()> for Client {
    type Response = Self;
    type Error = std::convert::Infallible;
    type Future = Ready<Result<Self, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(self.clone()))
    }
}

type Clients = Fleet<Client, ErrorsOnly>;
type List = Vec<Backend<u32>>;

fn fleet() -> Clients {
    Fleet::plain().circuit_breaker(CircuitPolicy::new()).build().unwrap()
}

/// A source whose lists are sent by the test.
struct Source {
    lists: mpsc::UnboundedSender<List>,
    following: BoxFuture<'static, ()>,
    made: Arc<AtomicUsize>,
}

impl Source {
    fn of(fleet: &Clients) -> Self {
        let (lists, receiver) = mpsc::unbounded();
        let made = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&made);
        let make = move |backend: &Backend<u32>| {
            count.fetch_add(1, Ordering::SeqCst);
            Client { address: *backend.service() }
        };
        Self { lists, following: fleet.follow_lists(receiver, make).boxed(), made }
    }

    fn send(&mut self, list: List) {
        self.lists.unbounded_send(list).unwrap();
        assert_eq!((&mut self.following).now_or_never(), None, "the source is followed on");
    }
}

fn list(names: &[(&str, u32)]) -> List {
    names.iter().map(|(name, key)| Backend::new(*name, *key)).collect()
}

fn names(fleet: &Clients) -> Vec<String> {
    fleet.snapshot().iter().map(|backend| backend.name.to_string()).collect()
}

/// Keeps the warnings of the crate.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{field}={value:?} "));
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

// C56, C64
#[test]
fn each_source_changes_its_own_backends_only() {
    let fleet = fleet();
    fleet.insert(Backend::new("static", Client { address: 0 })).unwrap();
    let (mut one, mut other) = (Source::of(&fleet), Source::of(&fleet));
    one.send(list(&[("a", 1), ("b", 2)]));
    other.send(list(&[("x", 1), ("y", 2)]));
    assert_eq!(names(&fleet), ["static", "a", "b", "x", "y"]);
    one.send(list(&[("b", 2), ("c", 3)]));
    assert_eq!(names(&fleet), ["static", "b", "x", "y", "c"], "only what is not listed any more is removed");
    other.send(Vec::new());
    assert_eq!(names(&fleet), ["static", "b", "c"], "an empty list is a list");
    assert_eq!((one.made.load(Ordering::SeqCst), other.made.load(Ordering::SeqCst)), (3, 2));
}

// C64
#[test]
fn an_unchanged_backend_keeps_its_service_and_health_while_its_settings_change() {
    let fleet = fleet();
    let mut source = Source::of(&fleet);
    source.send(list(&[("a", 1), ("b", 2)]));
    fleet.switch("a").unwrap().trip();
    fleet.drain("b");
    let before = fleet.snapshot();
    source.send(vec![Backend::new("b", 2).weight(7).priority(3), Backend::new("a", 1)]);
    let after = fleet.snapshot();
    assert_eq!((after[0].id, after[0].state), (before[0].id, CircuitState::Open));
    assert_eq!((after[1].id, after[1].status), (before[1].id, AdminStatus::Draining));
    assert_eq!((after[1].weight, after[1].priority), (7, 3));
    assert_eq!(source.made.load(Ordering::SeqCst), 2, "no service was made for them");
    source.send(list(&[("a", 9)]));
    assert_ne!(fleet.snapshot()[0].id, before[0].id, "another key is another service");
    assert_eq!(source.made.load(Ordering::SeqCst), 3);
}

// C56, C64
#[test]
fn the_name_of_another_source_is_skipped_with_a_warning_and_the_rest_is_applied() {
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.clone(), || {
        let fleet = fleet();
        fleet.insert(Backend::new("static", Client { address: 77 })).unwrap();
        let (mut one, mut other) = (Source::of(&fleet), Source::of(&fleet));
        one.send(list(&[("a", 1)]));
        let before = fleet.snapshot();
        other.send(list(&[("a", 2), ("static", 1), ("b", 3)]));
        assert_eq!(names(&fleet), ["static", "a", "b"]);
        assert_eq!(fleet.snapshot()[..2], before[..], "the others' backends are as they were");
        let told = warnings.take();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("its name is taken") && told.concat().contains("static"), "{told:?}");
        // Free again, the name is there for the other one.
        one.send(Vec::new());
        other.send(list(&[("a", 2), ("b", 3)]));
        assert_eq!(names(&fleet), ["static", "b", "a"]);
        assert!(warnings.take().is_empty());
    });
}

// C64, C70
#[test]
fn a_refused_list_changes_nothing_and_the_next_one_counts() {
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.clone(), || {
        let fleet = fleet();
        let mut source = Source::of(&fleet);
        source.send(list(&[("a", 1), ("b", 2)]));
        let before = fleet.snapshot();
        for bad in [
            list(&[("c", 1), ("a b", 2)]),
            list(&[("c", 1), ("c", 2)]),
            vec![Backend::new("c", 1), Backend::new("a", 1).weight(0)],
        ] {
            source.send(bad);
            assert_eq!(fleet.snapshot(), before);
            let told = warnings.take();
            assert!(told.len() == 1 && told[0].contains("refused"), "{told:?}");
        }
        source.send(list(&[("b", 2), ("c", 3)]));
        assert_eq!(names(&fleet), ["b", "c"], "what was listed before the refused ones is still owned");
    });
}

// C11, C64
#[test]
fn what_the_operator_removes_is_listed_again_and_what_he_replaces_stays_his() {
    let fleet = fleet();
    let mut source = Source::of(&fleet);
    source.send(list(&[("a", 1), ("b", 2)]));
    assert!(fleet.remove("a"));
    assert_eq!(names(&fleet), ["b"]);
    source.send(list(&[("a", 1), ("b", 2)]));
    assert_eq!(names(&fleet), ["b", "a"]);
    let own = Client { address: 99 };
    fleet.replace(Backend::new("a", own.clone())).unwrap();
    let before = fleet.snapshot();
    source.send(list(&[("a", 1), ("b", 2)]));
    assert_eq!(fleet.snapshot(), before);
    source.send(Vec::new());
    assert_eq!(names(&fleet), ["a"], "the replacement is not of the source");
}

// C11, C64: keys are compared and services made outside of the lock, so the fleet may change meanwhile.
#[test]
fn a_name_that_is_taken_while_a_service_is_made_stays_with_the_first() {
    let fleet = fleet();
    let (inner, lists) = (fleet.clone(), futures::stream::iter([list(&[("a", 1), ("b", 2)])]));
    let make = move |backend: &Backend<u32>| {
        drop(inner.insert(Backend::new("b", Client { address: 99 })));
        Client { address: *backend.service() }
    };
    let mut changes = fleet.changes();
    fleet.follow_lists(lists, make).now_or_never().unwrap();
    assert_eq!(names(&fleet), ["b", "a"]);
    let told: Vec<_> = std::iter::from_fn(|| changes.next().now_or_never().flatten()).collect();
    assert!(!told.iter().any(|change| matches!(change, Change::Replaced(_))), "{told:?}");
    let door = BalanceLayer::round_robin().layer(fleet);
    let addresses = [(); 2].map(|()| futures::executor::block_on(door.clone().oneshot(())).unwrap().address);
    assert!(addresses.contains(&99) && addresses.contains(&1), "{addresses:?}");
}

// C1
#[test]
fn following_ends_with_the_fleet_and_with_the_stream() {
    let fleet = fleet();
    let mut source = Source::of(&fleet);
    source.send(list(&[("a", 1)]));
    let door = BalanceLayer::round_robin().layer(fleet.clone());
    drop(fleet);
    assert_eq!((&mut source.following).now_or_never(), None, "a door holds the fleet");
    drop(door);
    assert_eq!((&mut source.following).now_or_never(), Some(()));

    let fleet = self::fleet();
    let Source { lists, following, .. } = Source::of(&fleet);
    lists.unbounded_send(list(&[("a", 1)])).unwrap();
    drop(lists);
    assert_eq!(following.now_or_never(), Some(()));
    assert_eq!(names(&fleet), ["a"], "its backends stay");
}

// C64
#[test]
fn ten_thousand_backends_follow_their_list() {
    let fleet = fleet();
    let (mut source, mut other) = (Source::of(&fleet), Source::of(&fleet));
    let named = |range: std::ops::Range<u32>| range.map(|at| Backend::new(format!("b{at}"), at)).collect::<Vec<_>>();
    other.send(list(&[("other", 1)]));
    source.send(named(0..10_000));
    assert_eq!(fleet.len(), 10_001);
    let mut changed = named(1..10_000);
    changed.push(Backend::new("b10000", 10_000));
    source.send(changed);
    assert_eq!((fleet.len(), source.made.load(Ordering::SeqCst)), (10_001, 10_001), "one in, one out");
    let names = names(&fleet);
    assert_eq!((names[0].as_str(), names[1].as_str(), names[10_000].as_str()), ("other", "b1", "b10000"));
}

// C56, C64: a file and DNS in one fleet.
#[test]
fn reconcile_and_followed_lists_leave_each_other_alone() {
    let fleet = fleet();
    let make = |backend: &Backend<u32>| Client { address: *backend.service() };
    let mut source = Source::of(&fleet);
    fleet.reconcile(list(&[("file-1", 1), ("file-2", 2)]), make).unwrap();
    source.send(list(&[("dns-1", 1), ("file-2", 9)]));
    assert_eq!(names(&fleet), ["file-1", "file-2", "dns-1"]);
    let changed = fleet.reconcile(list(&[("file-2", 2), ("file-3", 3)]), make).unwrap();
    assert_eq!((changed.removed.len(), changed.unchanged, changed.inserted.len()), (1, 1, 1));
    assert_eq!(names(&fleet), ["file-2", "dns-1", "file-3"]);

    let before = fleet.snapshot();
    let refused = fleet.reconcile(list(&[("file-4", 1), ("dns-1", 1)]), |_| panic!("not made")).unwrap_err();
    assert_eq!((refused.field(), refused.value()), ("name", "`dns-1`"), "{refused}");
    assert_eq!(fleet.snapshot(), before);

    // After its end, what the source has left is like any other backend.
    drop(source);
    assert_eq!(names(&fleet), ["file-2", "dns-1", "file-3"]);
    let changed = fleet.reconcile(list(&[("file-3", 3)]), make).unwrap();
    assert_eq!((changed.removed.len(), names(&fleet)), (2, vec!["file-3".to_owned()]));
}

// C11, C64
#[test]
fn a_set_whose_name_is_listed_while_its_services_are_made_is_refused_whole() {
    let fleet = fleet();
    let mut source = Source::of(&fleet);
    let mut lists = Some(list(&[("a", 1)]));
    let error = fleet.reconcile(list(&[("b", 2), ("a", 1)]), |backend| {
        lists.take().into_iter().for_each(|list| source.send(list));
        Client { address: *backend.service() }
    });
    assert_eq!(error.unwrap_err().value(), "`a`");
    assert_eq!(names(&fleet), ["a"]);
}
