//! Code of the crate's users runs outside of every lock: it may use the fleet it is called by, and a panic of it costs no
//! result.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    borrow::Cow,
    convert::Infallible,
    future::Ready,
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt, stream};
use tower::{BoxError, Layer, Service, ServiceExt, discover};
use tower_fleet::{
    Backend, Balance, BalanceLayer, CircuitBreakerLayer, CircuitPolicy, CircuitState, Fleet,
    breaker::{KeyedCircuitBreaker, Switch},
    fleet::Change,
    outcome::{CallGuard, Classify, ErrorsOnly, Outcome, Verdict, inspect},
    pick::{Candidates, Pick, PickContext, Strategy},
};

type Plain<S = Site> = Fleet<S, ErrorsOnly>;

/// A deadlock is a failure of its test, not of all.
fn ends(test: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || done.send(catch_unwind(AssertUnwindSafe(test))));
    match is_done.recv_timeout(Duration::from_secs(60)) {
        Ok(result) => result.unwrap_or_else(|panic| resume_unwind(panic)),
        Err(_) => panic!("it hangs"),
    }
}

/// Fails when it is told to.
#[derive(Clone, Default)]
struct Site(Arc<AtomicBool>);

impl Service<()> for Site {
    type Response = ();
    type Error = BoxError;
    type Future = Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        std::future::ready(if self.0.load(SeqCst) { Err("failed".into()) } else { Ok(()) })
    }
}

fn fleet(names: &[&str]) -> Plain {
    let backends = names.iter().map(|name| Backend::new(*name, Site::default()));
    let policy = CircuitPolicy::new().consecutive(1).open_for(Duration::from_secs(3600));
    Fleet::plain().circuit_breaker(policy).backends(backends).build().unwrap()
}

struct OnWake<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for OnWake<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// Polls a stream that is empty, with a waker that does this.
fn listen(stream: &mut (impl Stream + Unpin), on_wake: impl Fn() + Send + Sync + 'static) {
    let waker = Waker::from(Arc::new(OnWake(on_wake)));
    assert!(stream.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
}

fn received<T>(stream: &mut (impl Stream<Item = T> + Unpin)) -> Vec<T> {
    std::iter::from_fn(|| stream.next().now_or_never().flatten()).collect()
}

// C41: issue 11.9
#[test]
fn a_reader_of_changes_may_change_the_fleet_when_it_is_woken() {
    ends(|| {
        let fleet = fleet(&["a", "b"]);
        let (mut changes, mut others) = (fleet.changes(), fleet.changes());
        let (wakes, counted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (inner, count) = (fleet.clone(), Arc::clone(&wakes));
        listen(&mut changes, move || {
            count.fetch_add(1, SeqCst);
            assert_eq!(inner.snapshot().len(), 2);
            inner.insert(Backend::new("c", Site::default())).unwrap();
            inner.switch("b").unwrap().trip();
            assert!(inner.remove("a"));
        });
        let count = Arc::clone(&counted);
        listen(&mut others, move || {
            count.fetch_add(1, SeqCst);
        });
        fleet.set_weight("a", 9).unwrap();
        assert_eq!((wakes.load(SeqCst), counted.load(SeqCst)), (1, 1));
        for stream in [&mut changes, &mut others] {
            let received = received(stream);
            let [first, second, third, fourth] = &received[..] else { panic!("{received:?}") };
            assert!(matches!(first, Change::Reweighted(name, 9) if *name == "a"));
            assert!(matches!(second, Change::Inserted(name) if *name == "c"));
            assert!(matches!(third, Change::Circuit(name, moved) if *name == "b" && moved.to == CircuitState::Open));
            assert!(matches!(fourth, Change::Removed(name) if *name == "a"));
        }
    });
}

// C41: issue 11.9
#[test]
fn a_reader_of_transitions_may_cause_the_next_ones_when_it_is_woken() {
    ends(|| {
        let fleet = fleet(&["a"]);
        let alone = CircuitBreakerLayer::plain(CircuitPolicy::new()).unwrap().layer(Site::default());
        for switch in [fleet.switch("a").unwrap(), alone.switch()] {
            let (mut transitions, mut others) = (switch.transitions(), switch.transitions());
            let (inner, seen) = (switch.clone(), fleet.clone());
            listen(&mut transitions, move || {
                assert_eq!((inner.state(), seen.snapshot().len()), (CircuitState::Open, 1));
                inner.force_open();
                inner.reset();
            });
            switch.trip();
            assert_eq!(switch.state(), CircuitState::Closed);
            for stream in [&mut transitions, &mut others] {
                let received = received(stream);
                let generations: Vec<_> = received.iter().map(|moved| moved.generation).collect();
                let first = generations[0];
                assert_eq!(generations, [first, first + 1, first + 2], "in order, each once");
            }
        }
    });
}

// C11, C41: issue 11.9. And the caller gets its answer.
#[test]
fn a_waker_that_panics_costs_no_change_no_other_reader_and_no_answer() {
    let fleet = fleet(&["a"]);
    let mut all: Vec<_> = (0..3).map(|_| fleet.changes()).collect();
    let mut moved: Vec<_> = (0..3).map(|_| fleet.switch("a").unwrap().transitions()).collect();
    let good = Arc::new(AtomicUsize::new(0));
    let listen_all = |all: &mut Vec<_>, moved: &mut Vec<_>| {
        for index in 0..3 {
            let good = Arc::clone(&good);
            let on_wake = move || {
                assert!(index == 1, "in a waker");
                good.fetch_add(1, SeqCst);
            };
            listen(&mut all[index], on_wake.clone());
            listen(&mut moved[index], on_wake);
        }
    };
    listen_all(&mut all, &mut moved);
    let mut door = BalanceLayer::round_robin().layer(fleet.clone());
    fleet.insert(Backend::new("b", Site::default())).unwrap();
    assert_eq!(good.load(SeqCst), 1);
    assert!(fleet.remove("b"));
    all.iter_mut().for_each(|changes| assert_eq!(received(changes).len(), 2));

    // A call that opens the circuit.
    listen_all(&mut all, &mut moved);
    let failing = Site::default();
    failing.0.store(true, SeqCst);
    fleet.replace(Backend::new("a", failing)).unwrap();
    let mut moved: Vec<_> = (0..3).map(|_| fleet.switch("a").unwrap().transitions()).collect();
    all.iter_mut().for_each(|changes| assert_eq!(received(changes).len(), 1));
    listen_all(&mut all, &mut moved);
    let error = door.ready().now_or_never().unwrap().unwrap().call(()).now_or_never().unwrap().unwrap_err();
    assert!(error.to_string().contains('a'), "{error}");
    all.iter_mut().for_each(|changes| assert_eq!(received(changes).len(), 1));
    moved.iter_mut().for_each(|transitions| assert_eq!(received(transitions).len(), 1));
    // For the insertion, the replacement and the end of the old circuit, and twice for the opening.
    assert_eq!(good.load(SeqCst), 5);

    // The end of the streams.
    listen_all(&mut all, &mut moved);
    assert!(fleet.remove("a"));
    moved.iter_mut().for_each(|transitions| assert_eq!(transitions.next().now_or_never(), Some(None)));
}

/// A key that uses the fleet in all that is asked of it.
struct Key(u32, Plain);

impl Key {
    fn looks(&self) {
        self.1.snapshot();
        self.1.set_weight("other", 1 + fastrand::u32(..9)).unwrap();
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        self.looks();
        Self(self.0, self.1.clone())
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.looks();
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.looks();
        self.0.hash(state);
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.looks();
    }
}

// C56: issue 11.9
#[test]
fn keys_of_a_discovery_may_use_the_fleet() {
    ends(|| {
        let fleet = fleet(&["other"]);
        let key = |number| Key(number, fleet.clone());
        let insert = |number| Ok::<_, Infallible>(discover::Change::Insert(key(number), Site::default()));
        let remove = |number| Ok(discover::Change::Remove(key(number)));
        let changes = vec![insert(1), insert(2), insert(1), remove(2), remove(3), insert(3), insert(9), insert(9)];
        let named = |key: &Key, site| Backend::new(if key.0 == 9 { "other".into() } else { key.0.to_string() }, site);
        fleet.follow(stream::iter(changes), named).now_or_never().unwrap().unwrap();
        let names: Vec<_> = fleet.snapshot().iter().map(|backend| backend.name.to_string()).collect();
        assert_eq!(names, ["other", "1", "3"]);
    });
}

/// Uses the fleet when it is dropped, and panics then.
#[derive(Clone)]
struct Farewell(Arc<dyn Fn() + Send + Sync>);

impl Drop for Farewell {
    fn drop(&mut self) {
        (self.0)();
        if !std::thread::panicking() {
            panic!("in a drop");
        }
    }
}

impl Service<()> for Farewell {
    type Response = ();
    type Error = BoxError;
    type Future = Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        std::future::ready(Ok(()))
    }
}

// C11, C56, C64: issue 11.9
#[test]
fn services_may_use_the_fleet_and_panic_when_they_are_removed() {
    ends(|| {
        let fleet: Plain<Farewell> = Fleet::plain().build().unwrap();
        let inner = fleet.clone();
        let dropped = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dropped);
        let bye = Farewell(Arc::new(move || {
            count.fetch_add(1, SeqCst);
            inner.snapshot();
            inner.remove("gone");
        }));
        let new = |name: &'static str| Backend::new(name, Farewell(Arc::clone(&bye.0)));
        ["a", "b", "c"].into_iter().for_each(|name| fleet.insert(new(name)).unwrap());
        assert!(fleet.remove("a"));
        fleet.replace(new("b")).unwrap();
        let wanted = ["x", "y"].map(|name| Backend::new(name, name));
        let changed = fleet.reconcile(wanted, |_| Farewell(Arc::clone(&bye.0))).unwrap();
        assert_eq!((changed.inserted.len(), changed.removed.len()), (2, 2));
        let taken = ["x", "y", "z"].map(|name| Ok::<_, Infallible>(discover::Change::Insert(name, name)));
        let follow = fleet.follow(stream::iter(taken), |name, _| new(name));
        follow.now_or_never().expect("it goes on after a rejected backend").unwrap();
        assert_eq!((fleet.len(), dropped.load(SeqCst)), (3, 6));
        // Kept alive, since the test itself must not panic.
        std::mem::forget((fleet, bye));
    });
}

/// A classifier that uses its breaker when it is cloned or dropped.
struct Curious(Arc<dyn Fn() + Send + Sync>);

impl Clone for Curious {
    fn clone(&self) -> Self {
        (self.0)();
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Curious {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Classify<(), ()> for Curious {
    type Call = ();
    type Watched = ();

    const WATCHES: bool = false;

    fn request(&self, (): &()) {}

    fn response(&self, (): &mut (), (): &()) -> Verdict {
        Verdict::Now(Outcome::Success)
    }

    fn error(&self, (): (), error: &BoxError) -> Outcome {
        inspect(&**error)
    }

    fn watch((): (), (): (), _: CallGuard) {}
}

type Named = fn(&()) -> Cow<'_, str>;
type Keyed = KeyedCircuitBreaker<Site, Curious, Named>;

// C35: issue 11.9
#[test]
fn a_classifier_may_use_its_breaker_when_it_is_cloned_and_dropped() {
    ends(|| {
        static KEYED: OnceLock<Mutex<Keyed>> = OnceLock::new();
        static KEY: AtomicUsize = AtomicUsize::new(0);
        static USES: AtomicUsize = AtomicUsize::new(0);
        let uses = || {
            if let Some(keyed) = KEYED.get()
                && let Ok(keyed) = keyed.try_lock()
            {
                assert!(keyed.switch("0").is_none());
            }
            USES.fetch_add(1, SeqCst);
        };
        let layer = CircuitBreakerLayer::plain(CircuitPolicy::new()).unwrap().classify(Curious(Arc::new(uses)));
        let key: Named = |()| (1 + KEY.load(SeqCst)).to_string().into();
        let keyed = layer.keyed(std::num::NonZeroUsize::MIN, key).layer(Site::default());
        let mut own = keyed.clone();
        assert!(KEYED.set(Mutex::new(keyed)).is_ok());
        for call in 0..10 {
            KEY.store(call, SeqCst);
            own.ready().now_or_never().unwrap().unwrap().call(()).now_or_never().unwrap().unwrap();
        }
        assert!(USES.load(SeqCst) >= 20 - 1, "each call makes a circuit and evicts one");

        // One circuit for all services of a layer.
        type Shared = CircuitBreakerLayer<Curious>;
        static LAYER: OnceLock<Shared> = OnceLock::new();
        static IS_IN: AtomicBool = AtomicBool::new(false);
        let uses = || {
            if let Some(layer) = LAYER.get()
                && !IS_IN.swap(true, SeqCst)
            {
                assert_eq!(layer.switch().as_ref().map(Switch::state), Some(CircuitState::Closed));
            }
        };
        let layer = CircuitBreakerLayer::plain(CircuitPolicy::new()).unwrap().classify(Curious(Arc::new(uses)));
        assert!(LAYER.set(layer).is_ok());
        LAYER.get().unwrap().switch().unwrap().trip();
        assert_eq!(LAYER.get().unwrap().switch().unwrap().state(), CircuitState::Open);
    });
}

/// A strategy that panics for each second set, and whose picks use their door when they are dropped.
#[derive(Clone)]
struct Moody {
    door: Arc<OnceLock<Mutex<Balance<Site, Moody, ErrorsOnly>>>>,
    made: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

struct MoodyPick(Moody);

impl Moody {
    fn uses_its_door(&self) {
        if let Some(Ok(door)) = self.door.get().map(Mutex::try_lock) {
            let door = door.clone();
            self.dropped.fetch_add(1, SeqCst);
            door.oneshot(()).now_or_never().unwrap().unwrap();
        }
    }
}

impl Strategy for Moody {
    type Pick = MoodyPick;

    fn make(&self, _: &Candidates<'_>, _: Option<(&MoodyPick, &Candidates<'_>)>) -> MoodyPick {
        assert!(self.made.fetch_add(1, SeqCst).is_multiple_of(2), "in a strategy");
        MoodyPick(self.clone())
    }
}

impl Pick for MoodyPick {
    fn pick(&self, _: &Candidates<'_>, _: &mut PickContext<'_>) -> usize {
        0
    }
}

impl Drop for MoodyPick {
    fn drop(&mut self) {
        self.0.uses_its_door();
        if !std::thread::panicking() {
            panic!("in a drop");
        }
    }
}

/// Sends a request with each event.
struct Exporter(Moody);

impl tracing::Subscriber for Exporter {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        if *event.metadata().level() == tracing::Level::ERROR {
            self.0.uses_its_door();
        }
        panic!("in a subscriber");
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

// C78: issue 11.9
#[test]
fn picks_and_subscribers_may_use_the_door_and_panic() {
    ends(|| {
        let fleet = fleet(&["a", "b"]);
        let moody = Moody { door: Arc::default(), made: Arc::default(), dropped: Arc::default() };
        let mut own = BalanceLayer::new(moody.clone()).layer(fleet.clone());
        assert!(moody.door.set(Mutex::new(own.clone())).is_ok());
        tracing::subscriber::with_default(Exporter(moody.clone()), || {
            for turn in 0..20 {
                let name = if turn % 2 == 0 { "a" } else { "b" };
                assert!(fleet.drain(name));
                own.ready().now_or_never().unwrap().unwrap().call(()).now_or_never().unwrap().unwrap();
                own.clone().oneshot(()).now_or_never().unwrap().unwrap();
                assert!(fleet.set_status(name, tower_fleet::AdminStatus::Healthy));
                own.clone().oneshot(()).now_or_never().unwrap().unwrap();
            }
        });
        assert!(moody.dropped.load(SeqCst) > 10 && moody.made.load(SeqCst) > 20);
        std::mem::forget(own);
    });
}
