//! What went wrong once, in a reader's eyes or in practice, and must not again.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    future::{Ready, ready},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio_test::{assert_pending, task};
use tower::{BoxError, Layer, Service, util::BoxCloneSyncService};
use tower_fleet::{
    Backend, BalanceLayer, CircuitPolicy, CircuitState, FailoverLayer, Fleet,
    balance::ErrorKind,
    body::Once,
    failover::{Backoff, Budget, Mode, Plain},
    outcome::{ErrorsOnly, Failure, FailureKind, Outcome, classify_fn, inspect},
    pick::{Candidates, Pick, PickContext, Strategy},
};

/// A service that is ready when it is told so, and does something when it is dropped.
#[derive(Clone)]
struct Told {
    ready: Arc<(AtomicBool, Mutex<Vec<Waker>>)>,
    on_drop: Option<Arc<dyn Fn() + Send + Sync>>,
    fails: bool,
}

impl Told {
    fn new(ready: bool) -> Self {
        Self { ready: Arc::new((AtomicBool::new(ready), Mutex::default())), on_drop: None, fails: false }
    }
}

impl Told {
    fn get_ready(&self) {
        self.ready.0.store(true, Ordering::SeqCst);
        self.ready.1.lock().unwrap().drain(..).for_each(Waker::wake);
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(on_drop) = &self.on_drop {
            on_drop();
        }
    }
}

impl Service<()> for Told {
    type Response = ();
    type Error = io::Error;
    type Future = Ready<io::Result<()>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ready.0.load(Ordering::SeqCst) {
            return Poll::Ready(Ok(()));
        }
        self.ready.1.lock().unwrap().push(cx.waker().clone());
        Poll::Pending
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(if self.fails { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) })
    }
}

// C10, C40
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_pending_backend_sees_that_another_may_be_probed() {
    let policy = CircuitPolicy::new().open_for(Duration::from_secs(1));
    let fleet = Fleet::plain()
        .circuit_breaker(policy)
        .backend(Backend::new("pending", Told::new(false)))
        .backend(Backend::new("open", Told::new(true)))
        .build()
        .unwrap();
    fleet.switch("open").unwrap().trip();
    let mut call = task::spawn(BalanceLayer::round_robin().layer(fleet.clone()).oneshot(()));
    assert_pending!(call.poll());
    tokio::time::advance(Duration::from_millis(1_001)).await;
    assert!(call.is_woken(), "its time is up");
    assert!(call.poll().is_ready());
    assert_eq!(fleet.snapshot()[1].state, CircuitState::Closed);
}

// C11
#[test]
fn a_service_may_look_at_its_fleet_when_it_is_dropped() {
    let fleet = Fleet::plain().build().unwrap();
    fleet.insert(Backend::new("a", Told::new(true))).unwrap();
    let looked = Arc::new(AtomicUsize::new(0));
    let looks = || {
        let (fleet, looked) = (fleet.clone(), Arc::clone(&looked));
        let on_drop = move || {
            looked.fetch_add(fleet.snapshot().len(), Ordering::SeqCst);
        };
        let mut told = Told::new(true);
        told.on_drop = Some(Arc::new(on_drop));
        told
    };
    assert!(fleet.insert(Backend::new("a", looks())).is_err(), "the name is taken");
    assert!(fleet.replace(Backend::new("b", looks())).is_err(), "there is no such backend");
    fleet.replace(Backend::new("a", looks())).unwrap();
    fleet.replace(Backend::new("a", Told::new(true))).unwrap();
    assert_eq!(looked.load(Ordering::SeqCst), 3);
}

/// Makes a first pick, and panics when it is to go on from that.
#[derive(Clone)]
struct Frail;

impl Strategy for Frail {
    type Pick = Self;

    fn make(&self, _: &Candidates<'_>, before: Option<(&Self, &Candidates<'_>)>) -> Self {
        assert!(before.is_none(), "frail");
        Self
    }
}

impl Pick for Frail {
    fn pick(&self, candidates: &Candidates<'_>, _: &mut PickContext<'_>) -> usize {
        candidates.len() - 1
    }
}

// C11, C58
#[tokio::test]
async fn a_strategy_that_panics_keeps_no_view_from_other_doors() {
    let fleet = Fleet::plain().build().unwrap();
    for name in ["a", "b"] {
        fleet.insert(Backend::new(name, Told::new(true))).unwrap();
    }
    let frail = BalanceLayer::new(Frail).layer(fleet.clone());
    let sound = BalanceLayer::round_robin().layer(fleet.clone());
    frail.clone().oneshot(()).await.unwrap();
    assert!(fleet.remove("a"), "a change makes no picks");
    frail.clone().oneshot(()).await.expect("the panic is not the request's, chance chooses");
    sound.clone().oneshot(()).await.unwrap();
    fleet.drain("b");
    for error in [sound.oneshot(()).await.unwrap_err(), frail.clone().oneshot(()).await.unwrap_err()] {
        assert!(matches!(error.kind(), ErrorKind::NoneAvailable { backends: 1, .. }), "{error}");
    }
    fleet.insert(Backend::new("c", Told::new(true))).unwrap();
    frail.oneshot(()).await.unwrap();
}

// C27, C31
#[tokio::test]
async fn what_balance_says_means_something_to_a_breaker_further_out() {
    let fleet = Fleet::<Told, _>::plain().build().unwrap();
    let nobody = BalanceLayer::round_robin().layer(fleet.clone()).oneshot(()).await.unwrap_err();
    assert_eq!(inspect(&nobody), FailureKind::Overloaded.into());
}

// C62, C63
#[tokio::test]
async fn the_last_classifier_of_a_fleet_counts_for_its_circuits() {
    let neutral = || classify_fn(|_: Result<&(), &BoxError>| Outcome::Neutral);
    let mut failing = Told::new(true);
    failing.fails = true;
    let backend = || Backend::new("a", failing.clone());
    let policy = || CircuitPolicy::new().consecutive(1);
    let failures = Fleet::plain().classify(neutral()).circuit_breaker(policy()).classify(ErrorsOnly);
    let failures = failures.backend(backend()).build().unwrap();
    BalanceLayer::round_robin().layer(failures.clone()).oneshot(()).await.unwrap_err();
    assert_eq!(failures.snapshot()[0].state, CircuitState::Open);
    let none = Fleet::plain().classify(ErrorsOnly).circuit_breaker(policy()).classify(neutral());
    let none = none.backend(backend()).build().unwrap();
    BalanceLayer::round_robin().layer(none.clone()).oneshot(()).await.unwrap_err();
    assert_eq!(none.snapshot()[0].state, CircuitState::Closed);
}

// C10, C11
#[tokio::test(start_paused = true)]
async fn a_further_attempt_goes_to_whoever_is_ready_first() {
    let (mut failing, busy, late) = (Told::new(true), Told::new(false), Told::new(false));
    failing.fails = true;
    for mode in [Mode::Sequential, Mode::Race, Mode::hedged(Duration::from_secs(60))] {
        late.ready.0.store(false, Ordering::SeqCst);
        let fleet = Fleet::plain().build().unwrap();
        for (name, service) in [("failing", &failing), ("busy", &busy), ("late", &late)] {
            fleet.insert(Backend::new(name, service.clone())).unwrap();
        }
        let mut call = task::spawn(FailoverLayer::plain().mode(mode).build().unwrap().layer(fleet.clone()).oneshot(()));
        assert_pending!(call.poll());
        assert!(!call.is_woken(), "{mode:?}: nothing to do but wait");
        late.get_ready();
        assert!(call.is_woken(), "{mode:?}");
        assert!(call.poll().is_ready(), "{mode:?}: the busy one holds up nobody");

        // And when those who are waited for leave, there is nothing to wait for.
        late.ready.0.store(false, Ordering::SeqCst);
        let mut call = task::spawn(FailoverLayer::plain().mode(mode).build().unwrap().layer(fleet.clone()).oneshot(()));
        assert_pending!(call.poll());
        fleet.remove("busy");
        fleet.remove("late");
        assert!(call.is_woken(), "{mode:?}");
        assert!(call.poll().is_ready(), "{mode:?}");
    }
}

// C15, C57
#[tokio::test(start_paused = true)]
async fn a_race_of_a_thousand_asks_everybody() {
    for (mode, attempts) in [(Mode::Race, 1_001), (Mode::Sequential, 1_000)] {
        let fleet = Fleet::plain().build().unwrap();
        let mut failing = Told::new(true);
        failing.fails = true;
        for name in 0..1_000 {
            fleet.insert(Backend::new(name.to_string(), failing.clone())).unwrap();
        }
        let error = FailoverLayer::plain().mode(mode).build().unwrap().layer(fleet).oneshot(()).await.unwrap_err();
        assert_eq!(error.ledger().attempts().len(), attempts, "{mode:?}");
    }
}

// C51, C52
#[tokio::test(start_paused = true)]
async fn what_one_backend_asks_for_holds_up_no_other() {
    let limited = tower::service_fn(|()| async {
        Err::<(), _>(Failure::new(FailureKind::Status(429)).retry_after(Duration::from_secs(60)))
    });
    let good = tower::service_fn(|()| async { Ok::<_, Failure>(()) });
    let fleet = Fleet::plain()
        .backend(Backend::new("limited", BoxCloneSyncService::new(limited)))
        .backend(Backend::new("good", BoxCloneSyncService::new(good)))
        .build()
        .unwrap();
    let layer = FailoverLayer::plain().mode(Mode::Sequential).backoff(Backoff::default());
    let began = tokio::time::Instant::now();
    layer.deadline(Duration::from_secs(30)).build().unwrap().layer(fleet).oneshot(()).await.unwrap();
    assert!(began.elapsed() <= Duration::from_secs(3), "the backoff's two seconds and a bit, in paused time");
}

// C53
#[tokio::test]
async fn a_request_that_cannot_be_sent_again_costs_no_coin() {
    let mut failing = Told::new(true);
    failing.fails = true;
    let fleet = Fleet::plain().build().unwrap();
    fleet.insert(Backend::new("failing", failing)).unwrap();
    fleet.insert(Backend::new("good", Told::new(true))).unwrap();
    let budget = Budget::new(0.0).reserve(1);
    let once = FailoverLayer::with_protocol(Plain::new(Once)).mode(Mode::Sequential).budget(budget.clone());
    assert!(once.build().unwrap().layer(fleet.clone()).oneshot(()).await.is_err());
    let again = FailoverLayer::plain().mode(Mode::Sequential).budget(budget);
    again.build().unwrap().layer(fleet).oneshot(()).await.unwrap();
}

/// Panics when it is asked whether it is ready.
#[derive(Clone)]
struct Jumpy(bool);

impl Service<()> for Jumpy {
    type Response = ();
    type Error = io::Error;
    type Future = Ready<io::Result<()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        assert!(!self.0, "jumpy");
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

// C58
#[tokio::test]
async fn a_backend_that_panics_before_it_is_called_is_not_the_callers_end() {
    let fleet = Fleet::plain().build().unwrap();
    fleet.insert(Backend::new("jumpy", Jumpy(true)).priority(1)).unwrap();
    fleet.insert(Backend::new("calm", Jumpy(false))).unwrap();
    FailoverLayer::plain().build().unwrap().layer(fleet).oneshot(()).await.unwrap();
}
