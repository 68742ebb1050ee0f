//! A wanted set is applied as a difference, all of it or nothing. C64
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service};
use tower_fleet::{
    AdminStatus, Backend, BalanceLayer, CircuitPolicy, CircuitState, Fleet, Limit, balance::ErrorKind, fleet::Change,
    outcome::ErrorsOnly,
};

/// A client of one address.
#[derive(Clone, Debug)]
struct Client {
    address: &'static str,
    hangs: bool,
    /// Counted: how many of them are alive.
    _made: Arc<AtomicUsize>,
}

impl Service<()> for Client {
    type Response = &'static str;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<&'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let Self { address, hangs, .. } = self.clone();
        Box::pin(async move { if hangs { std::future::pending().await } else { Ok(address) } })
    }
}

#[derive(Default)]
struct Maker(Arc<AtomicUsize>);

impl Maker {
    fn make(&self, backend: &Backend<&'static str>) -> Client {
        self.0.fetch_add(1, Ordering::SeqCst);
        Client { address: backend.service(), hangs: false, _made: Arc::clone(&self.0) }
    }

    fn made(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

fn fleet() -> Fleet<Client, ErrorsOnly> {
    Fleet::plain().circuit_breaker(CircuitPolicy::new()).build().unwrap()
}

fn wanted(keys: &[(&'static str, &'static str)]) -> Vec<Backend<&'static str>> {
    keys.iter().map(|(name, key)| Backend::new(*name, *key)).collect()
}

fn names(fleet: &Fleet<Client, ErrorsOnly>) -> Vec<String> {
    fleet.snapshot().iter().map(|backend| backend.name.to_string()).collect()
}

// C64
#[tokio::test]
async fn only_what_differs_changes() {
    let (fleet, maker) = (fleet(), Maker::default());
    let apply = |set: Vec<Backend<&'static str>>| fleet.reconcile(set, |backend| maker.make(backend)).unwrap();
    let changed = apply(wanted(&[("a", "1"), ("b", "2"), ("c", "3")]));
    assert_eq!((changed.inserted.len(), maker.made()), (3, 3));
    let before = fleet.snapshot();
    let mut changes = fleet.changes();

    let same = apply(wanted(&[("a", "1"), ("b", "2"), ("c", "3")]));
    assert_eq!((same.unchanged, maker.made()), (3, 0));
    assert_eq!(fleet.snapshot(), before);
    assert!(changes.next().now_or_never().is_none(), "nothing is told");

    let mut set = wanted(&[("d", "4"), ("c", "3"), ("a", "9")]);
    set[1] = set[1].clone().weight(5).priority(2).timeout(Duration::from_secs(7));
    let changed = apply(set);
    assert_eq!(changed.inserted, ["d"]);
    assert_eq!(changed.replaced, ["a"]);
    assert_eq!(changed.updated, ["c"]);
    assert_eq!(changed.removed, ["b"]);
    assert_eq!((changed.unchanged, maker.made()), (0, 2));
    assert_eq!(names(&fleet), ["a", "c", "d"], "a replaced one keeps its position");
    let after = fleet.snapshot();
    assert_ne!(after[0].id, before[0].id);
    assert_eq!((after[1].id, after[1].weight, after[1].priority), (before[2].id, 5, 2));
    assert_eq!(after[1].timeout, Some(Duration::from_secs(7)));
    let told: Vec<_> = std::iter::from_fn(|| changes.next().now_or_never().flatten()).collect();
    assert!(told.contains(&Change::Removed(before[1].name.clone())), "{told:?}");
}

// C64
#[tokio::test]
async fn what_stays_keeps_its_health_and_the_word_of_the_operator() {
    let (fleet, maker) = (fleet(), Maker::default());
    let apply = |set: Vec<Backend<&'static str>>| fleet.reconcile(set, |backend| maker.make(backend)).unwrap();
    apply(wanted(&[("a", "1"), ("b", "2")]));
    fleet.switch("a").unwrap().trip();
    fleet.drain("b");
    apply(vec![Backend::new("a", "1").weight(3), Backend::new("b", "2").status(AdminStatus::Healthy)]);
    let after = fleet.snapshot();
    assert_eq!((after[0].state, after[1].status), (CircuitState::Open, AdminStatus::Draining));
    apply(wanted(&[("a", "other"), ("b", "2")]));
    assert_eq!(fleet.snapshot()[0].state, CircuitState::Closed, "another service is believed nothing of");
}

// C63, C64
#[tokio::test]
async fn a_refused_set_changes_nothing() {
    let (fleet, maker) = (fleet(), Maker::default());
    fleet.reconcile(wanted(&[("a", "1"), ("b", "2")]), |backend| maker.make(backend)).unwrap();
    let (before, _) = (fleet.snapshot(), maker.made());
    let bad = [
        (vec![Backend::new("c", "3"), Backend::new("b c", "2")], None, "name", "`b c`"),
        (vec![Backend::new("c", "3"), Backend::new("b", "2").weight(0)], Some("b"), "weight", "0"),
        (vec![Backend::new("c", "3"), Backend::new("b", "2").timeout(Duration::ZERO)], Some("b"), "timeout", "0 s"),
        (vec![Backend::new("c", "3"), Backend::new("c", "4")], None, "name", "`c`"),
    ];
    for (set, backend, field, value) in bad {
        let refused = fleet.reconcile(set, |backend| maker.make(backend)).unwrap_err();
        assert_eq!((refused.backend(), refused.field(), refused.value()), (backend, field, value), "{refused}");
        assert_eq!((fleet.snapshot(), maker.made()), (before.clone(), 0), "{refused}");
    }
}

// C11, C64
#[tokio::test]
async fn what_is_not_wanted_any_more_finishes_what_runs() {
    let (fleet, maker) = (fleet(), Maker::default());
    let hangs = |backend: &Backend<&'static str>| Client { hangs: true, ..maker.make(backend) };
    fleet.reconcile(wanted(&[("a", "1")]), hangs).unwrap();
    let door = BalanceLayer::round_robin().layer(fleet.clone());
    let mut runs = task::spawn(door.clone().oneshot(()));
    assert_pending!(runs.poll());
    fleet.reconcile(wanted(&[("b", "2")]), |backend| maker.make(backend)).unwrap();
    assert_eq!(door.oneshot(()).await.unwrap(), "2", "no new request goes to a");
    assert_pending!(runs.poll());
    let held = Arc::strong_count(&maker.0);
    drop(runs);
    assert!(Arc::strong_count(&maker.0) < held, "its memory goes with the last request");
}

// C64: foreign code runs outside of the lock, and a set may be reconciled while one is.
#[tokio::test]
async fn a_service_may_be_made_with_a_look_at_the_fleet() {
    let (fleet, maker) = (fleet(), Maker::default());
    fleet.reconcile(wanted(&[("a", "1")]), |backend| maker.make(backend)).unwrap();
    let changed = fleet
        .reconcile(wanted(&[("a", "1"), ("b", "2")]), |backend| {
            assert_eq!(fleet.len(), 1);
            fleet.reconcile(wanted(&[("a", "1"), ("c", "3")]), |backend| maker.make(backend)).unwrap();
            maker.make(backend)
        })
        .unwrap();
    assert_eq!((changed.inserted.len(), changed.removed.len()), (1, 1));
    assert_eq!(names(&fleet), ["a", "b"], "the set that is applied last is the set");
}

// C11, C50
#[tokio::test(start_paused = true)]
async fn a_timeout_may_change_while_the_fleet_serves() {
    let (fleet, maker) = (fleet(), Maker::default());
    let hangs = |backend: &Backend<&'static str>| Client { hangs: true, ..maker.make(backend) };
    fleet.reconcile(wanted(&[("a", "1")]), hangs).unwrap();
    let door = BalanceLayer::round_robin().layer(fleet.clone());
    fleet.set_timeout("a", Duration::from_secs(3)).unwrap();
    let error = door.clone().oneshot(()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Timeout { timeout, .. } if timeout.as_secs() == 3), "{error}");
    assert!(fleet.set_timeout("a", Duration::ZERO).unwrap_err().to_string().contains("timeout"));
    assert!(fleet.set_timeout("b", Duration::from_secs(1)).is_err());
    assert_eq!(fleet.snapshot()[0].timeout, Some(Duration::from_secs(3)));
    fleet.set_timeout("a", None).unwrap();
    let mut call = task::spawn(door.oneshot(()));
    assert_pending!(call.poll());
    tokio::time::advance(Duration::from_secs(86_400)).await;
    assert_pending!(call.poll());
}

// C41, C71: an opinion with an end of its own.
#[tokio::test(start_paused = true)]
async fn a_backend_that_cools_down_is_left_alone_until_then() {
    let (fleet, maker) = (fleet(), Maker::default());
    fleet.reconcile(wanted(&[("a", "1"), ("b", "2")]), |backend| maker.make(backend)).unwrap();
    let door = BalanceLayer::round_robin().layer(fleet.clone());
    let ask = || async { door.clone().oneshot(()).await };
    assert!(fleet.cool_down("a", Duration::from_secs(10)) && !fleet.cool_down("x", Duration::from_secs(1)));
    assert!(fleet.cool_down("a", Duration::from_secs(3)), "the later end counts");
    for _ in 0..4 {
        assert_eq!(ask().await.unwrap(), "2");
    }
    assert!(fleet.cool_down("b", Duration::from_secs(20)));
    let error = ask().await.unwrap_err();
    let soonest = Some(Duration::from_secs(10));
    assert!(matches!(error.kind(), ErrorKind::NoneAvailable { retry_after, .. } if *retry_after == soonest), "{error}");
    fleet.drain("a");
    tokio::time::advance(Duration::from_millis(10_001)).await;
    assert!(ask().await.is_err(), "its end does not undo the operator's word");
    fleet.set_status("a", AdminStatus::Healthy);
    assert_eq!(ask().await.unwrap(), "1");
    assert_eq!(fleet.snapshot()[0].cools_for, None);
    assert_eq!(fleet.snapshot()[1].cools_for, Some(Duration::from_millis(9_999)));
    tokio::time::advance(Duration::from_secs(10)).await;
    let both = [ask().await.unwrap(), ask().await.unwrap()];
    assert!(both.contains(&"1") && both.contains(&"2"), "{both:?}");
}

/// Runs when a key is compared.
#[derive(Clone)]
struct Interrupts(u32, Arc<dyn Fn() + Send + Sync>);

impl PartialEq for Interrupts {
    fn eq(&self, other: &Self) -> bool {
        (self.1)();
        (other.1)();
        self.0 == other.0
    }
}

// C11, C64
#[tokio::test]
async fn a_backend_that_is_removed_or_replaced_meanwhile_is_not_brought_back_to_life() {
    let client = |hangs| Client { address: "x", hangs, _made: Arc::default() };
    let quiet = |names: &[&'static str]| {
        let key = || Interrupts(1, Arc::new(|| {}));
        names.iter().map(|name| Backend::new(*name, key())).collect::<Vec<_>>()
    };
    let set = || {
        let fleet = fleet();
        fleet.reconcile(quiet(&["a", "b"]), |_| client(false)).unwrap();
        fleet
    };
    let while_compared = |fleet: &Fleet<Client, ErrorsOnly>, change: fn(&Fleet<Client, ErrorsOnly>)| {
        let (inner, once) = (fleet.clone(), AtomicUsize::new(0));
        let meanwhile = Arc::new(move || {
            if once.fetch_add(1, Ordering::SeqCst) == 0 {
                change(&inner);
            }
        });
        let wanted = ["a", "b", "c"].map(|name| Backend::new(name, Interrupts(1, meanwhile.clone())).weight(2));
        fleet.reconcile(wanted, |_| client(false)).unwrap()
    };

    let fleet = set();
    let changed = while_compared(&fleet, |fleet| assert!(fleet.remove("a")));
    assert_eq!((changed.inserted.len(), changed.updated.len(), changed.unchanged), (1, 1, 1));
    assert_eq!(names(&fleet), ["b", "c"], "as if it had been removed afterwards");
    // Wanted again, it is made anew.
    let changed = fleet.reconcile(quiet(&["a", "b", "c"]), |_| client(false)).unwrap();
    assert_eq!((changed.inserted.len(), names(&fleet)), (1, vec!["b".into(), "c".into(), "a".into()]));

    let fleet = set();
    let hand_made = |fleet: &Fleet<Client, ErrorsOnly>| {
        let client = Client { address: "by hand", hangs: false, _made: Arc::default() };
        fleet.replace(Backend::new("a", client.clone()).weight(9)).unwrap();
        fleet.insert(Backend::new("c", client)).unwrap();
    };
    let changed = while_compared(&fleet, hand_made);
    assert_eq!(changed.replaced, ["c"], "its key is not known to be the wanted one");
    let weights: Vec<_> = fleet.snapshot().iter().map(|backend| backend.weight).collect();
    assert_eq!((names(&fleet).len(), weights), (3, vec![9, 2, 2]), "the later replacement of `a` stays");
}

// C41, C64: such as when a secret is exchanged while the backend is drained.
#[test]
fn a_replaced_backend_keeps_the_status_that_an_operator_set() {
    let (fleet, maker) = (fleet(), Maker::default());
    let reconcile = |key, status| {
        let wanted = [Backend::new("a", key).status(status), Backend::new("b", key)];
        fleet.reconcile(wanted, |backend| maker.make(backend)).unwrap();
        fleet.snapshot()[0].status
    };
    assert_eq!(reconcile("1", AdminStatus::Healthy), AdminStatus::Healthy);
    fleet.drain("a");
    assert_eq!(reconcile("2", AdminStatus::Healthy), AdminStatus::Draining);
    fleet.set_status("a", AdminStatus::Healthy);
    assert_eq!(
        reconcile("3", AdminStatus::Draining),
        AdminStatus::Draining,
        "the wanted one, since the operator set the usual one"
    );
    fleet.set_status("a", AdminStatus::Healthy);
    assert_eq!(reconcile("4", AdminStatus::Draining), AdminStatus::Healthy);
}

// C64
#[tokio::test]
async fn a_set_is_applied_whole_although_the_fleet_changes_meanwhile() {
    let client = || Client { address: "x", hangs: false, _made: Arc::default() };
    type Edit = fn(&Fleet<Client, ErrorsOnly>, Client);
    let changes: [Edit; 5] = [
        |fleet, client| fleet.insert(Backend::new("z", client)).unwrap(),
        |fleet, _| fleet.set_weight("a", 9).unwrap(),
        |fleet, _| assert!(fleet.set_priority("a", 9)),
        |fleet, _| fleet.set_timeout("a", Duration::from_secs(9)).unwrap(),
        |fleet, _| fleet.set_limit("a", Limit::Fixed(9)).unwrap(),
    ];
    for change in changes {
        let fleet = fleet();
        let compared = AtomicUsize::new(0);
        let (inner, other) = (fleet.clone(), client());
        let meanwhile = Arc::new(move || {
            // Both keys of a backend count. So `b` is compared, and it is known that `a` needs no change.
            if compared.fetch_add(1, Ordering::SeqCst) == 2 {
                change(&inner, other.clone());
            }
        });
        let wanted = || ["a", "b"].map(|name| Backend::new(name, Interrupts(1, meanwhile.clone())));
        fleet.reconcile(wanted(), |_| client()).unwrap();
        let before = format!("{:?}", fleet.snapshot());
        fleet.reconcile(wanted(), |_| client()).unwrap();
        assert_eq!(format!("{:?}", fleet.snapshot()), before, "what is wanted was the later change");
    }
}

// C11, C64
#[test]
fn wanted_sets_and_removals_that_race_leave_a_fleet_of_known_backends() {
    let (fleet, maker) = (fleet(), Maker::default());
    let sets = [&["a", "b", "c", "d"][..], &["c", "d", "e"], &["e", "a"], &[]];
    let all = ["a", "b", "c", "d", "e"];
    let is_over = AtomicBool::new(false);
    let removed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (fleet, is_over, removed) = (&fleet, &is_over, &removed);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(thread);
                while !is_over.load(Ordering::SeqCst) {
                    removed.fetch_add(usize::from(fleet.remove(all[rng.usize(..5)])), Ordering::SeqCst);
                    std::thread::yield_now();
                }
            });
        }
        let sets_by_two: Vec<_> = (0..2)
            .map(|thread| {
                let (fleet, maker) = (&fleet, Maker(Arc::clone(&maker.0)));
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(10 + thread);
                    for _ in 0..3_000 {
                        let names = sets[rng.usize(..4)];
                        let key = if rng.bool() { "1" } else { "2" };
                        let set = names.iter().map(|name| Backend::new(*name, key).weight(rng.u32(1..3)));
                        let changed = fleet.reconcile(set, |backend| maker.make(backend)).unwrap();
                        let [inserted, replaced, updated] =
                            [&changed.inserted, &changed.replaced, &changed.updated].map(Vec::len);
                        assert_eq!(inserted + replaced + updated + changed.unchanged, names.len(), "{changed:?}");
                        let present = fleet.snapshot();
                        let mut unique: Vec<_> = present.iter().map(|backend| backend.name.to_string()).collect();
                        unique.sort_unstable();
                        unique.dedup();
                        assert_eq!(unique.len(), present.len(), "{present:?}");
                        let door = BalanceLayer::round_robin().layer(fleet.clone());
                        match futures::executor::block_on(door.oneshot(())) {
                            Ok(address) => assert!(["1", "2"].contains(&address)),
                            Err(error) => {
                                let kind = error.kind();
                                let is_gone = matches!(kind, ErrorKind::NoBackends | ErrorKind::NoneAvailable { .. });
                                assert!(is_gone, "{kind:?}");
                            }
                        }
                    }
                })
            })
            .collect();
        let results: Vec<_> = sets_by_two.into_iter().map(|thread| thread.join()).collect();
        is_over.store(true, Ordering::SeqCst);
        assert!(results.iter().all(Result::is_ok));
    });
    assert!(removed.load(Ordering::SeqCst) > 0);
    // At rest, a wanted set is the set, and nothing else is alive.
    fleet.reconcile(wanted(&[("x", "1"), ("a", "1")]), |backend| maker.make(backend)).unwrap();
    let mut names = names(&fleet);
    names.sort_unstable();
    assert_eq!(names, ["a", "x"]);
    assert!(fleet.snapshot().iter().all(|backend| backend.in_flight == 0));
    assert_eq!(Arc::strong_count(&maker.0), 1 + 2, "one reference for each backend that is there");
}
