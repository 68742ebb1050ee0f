//! Circuits that open by the thousand, while the fleet serves and its members come and go. C11
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    future::{Ready, ready},
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tower::{Layer, Service, ServiceExt};
use tower_fleet::{
    Backend, Balance, BalanceLayer, CircuitPolicy, CircuitState, FailoverLayer, Fleet,
    balance::ErrorKind,
    failover::Mode,
    outcome::ErrorsOnly,
    pick::{Candidates, Pick, PickContext, Primary, RoundRobin, Shuffle, Strategy, Weighted},
};

/// What a backend is to do, and what it was.
#[derive(Default)]
struct Token {
    fails: AtomicBool,
    /// When it was removed, by the clock of removals; 0 before.
    removed_at: AtomicU64,
}

/// Answers with its token. A request carries the time of its beginning, by the clock of removals.
#[derive(Clone, Default)]
struct Client(Arc<Token>);

impl Service<u64> for Client {
    type Response = ();
    type Error = io::Error;
    type Future = Ready<io::Result<()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, begun: u64) -> Self::Future {
        let removed_at = self.0.removed_at.load(SeqCst);
        if removed_at != 0 && removed_at <= begun {
            panic!("removed at {removed_at}, and called by a request that began at {begun}");
        }
        ready(if self.0.fails.load(SeqCst) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) })
    }
}

type Plain = Fleet<Client, ErrorsOnly>;

/// A circuit that opens with the first failure, and is closed by the test only.
fn policy() -> CircuitPolicy {
    CircuitPolicy::new().consecutive(1).open_for(Duration::from_secs(3600))
}

fn fleet(backends: usize) -> Plain {
    let backends = (0..backends).map(|index| Backend::new(index.to_string(), Client::default()));
    Fleet::plain().circuit_breaker(policy()).backends(backends).build().unwrap()
}

/// A strategy that counts how often a pick is made, and panics in some of those.
#[derive(Clone, Default)]
struct Counting {
    made: Arc<AtomicUsize>,
    panics: bool,
}

struct First;

const PANIC: &str = "in a strategy";

impl Strategy for Counting {
    type Pick = First;

    fn make(&self, candidates: &Candidates<'_>, _: Option<(&First, &Candidates<'_>)>) -> First {
        let made = self.made.fetch_add(1, SeqCst);
        assert!(!self.panics || made.is_multiple_of(3), "{PANIC}");
        assert!(!candidates.is_empty());
        First
    }
}

impl Pick for First {
    fn pick(&self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize {
        (0..candidates.len()).find(|number| !cx.skips(&candidates[*number])).unwrap_or(0)
    }
}

fn call<P: Strategy>(door: &mut Balance<Client, P, ErrorsOnly>) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(door.poll_ready(&mut cx).is_ready());
    matches!(std::pin::pin!(door.call(0)).poll(&mut cx), Poll::Ready(Ok(())))
}

// C11: issue 11.7
#[test]
fn a_burst_costs_each_door_one_rebuild() {
    const BACKENDS: usize = 2_000;
    let fleet = fleet(BACKENDS);
    let strategies: Vec<_> = (0..16).map(|_| Counting::default()).collect();
    let mut doors: Vec<_> =
        strategies.iter().map(|strategy| BalanceLayer::new(strategy.clone()).layer(fleet.clone())).collect();
    let made = || strategies.iter().map(|strategy| strategy.made.load(SeqCst)).collect::<Vec<_>>();
    assert_eq!(made(), [1; 16]);
    let switches: Vec<_> = (0..BACKENDS).map(|index| fleet.switch(&index.to_string()).unwrap()).collect();
    // Few, and more than the fleet notes one by one; by circuits, and by other changes.
    let bursts: [(&str, &dyn Fn()); 5] = [
        ("some open", &|| switches[..100].iter().for_each(|switch| switch.trip())),
        ("most open", &|| switches[100..1_900].iter().for_each(|switch| switch.trip())),
        ("they close", &|| switches.iter().for_each(|switch| switch.reset())),
        ("they flap", &|| {
            (0..5_000).for_each(|turn| match turn % 2 {
                0 => switches[turn % 50].trip(),
                _ => switches[turn % 49].reset(),
            });
        }),
        ("members change", &|| {
            for index in 0..500 {
                assert!(fleet.remove(&index.to_string()) && fleet.drain(&(index + 500).to_string()));
                fleet.insert(Backend::new(format!("new-{index}"), Client::default())).unwrap();
                fleet.set_weight(&format!("new-{index}"), 2).unwrap();
            }
        }),
    ];
    for (number, (burst, make)) in bursts.into_iter().enumerate() {
        make();
        assert_eq!(made(), [number + 1; 16], "{burst}: no work without a request");
        // Each door by four threads at the same time, kept and cloned.
        std::thread::scope(|scope| {
            for door in &mut doors {
                let clones = [door.clone(), door.clone(), door.clone()];
                scope.spawn(|| assert!(call(door) && call(&mut door.clone())));
                for mut door in clones {
                    scope.spawn(move || (0..3).for_each(|_| assert!(call(&mut door))));
                }
            }
        });
        assert_eq!(made(), [number + 2; 16], "{burst}");
    }
}

/// What the traffic and the operator share.
#[derive(Default)]
struct World {
    /// Counts the removals that have returned.
    removals: AtomicU64,
    is_over: AtomicBool,
    served: AtomicUsize,
    failed: AtomicUsize,
}

/// Sends one request through a clone of a door.
type Send = Box<dyn Fn(&World) + Sync + std::marker::Send>;

fn balance<P: Strategy>(fleet: &Plain, strategy: P) -> Send {
    let door = BalanceLayer::new(strategy).layer(fleet.clone());
    Box::new(move |world| {
        let mut door = door.clone();
        let served = futures::executor::block_on(async {
            ServiceExt::<u64>::ready(&mut door).await?;
            // The instance that is held ready may be removed before the call.
            std::thread::yield_now();
            door.call(world.removals.load(SeqCst)).await
        });
        match served {
            Ok(()) => &world.served,
            // The failure that opens a circuit, or one that was on its way with it.
            Err(error) if matches!(error.kind(), ErrorKind::Failed { .. }) => &world.failed,
            Err(error) => panic!("lost: {error:?}"),
        }
        .fetch_add(1, SeqCst);
    })
}

fn failover(fleet: &Plain, strategy: &str, mode: Mode) -> Send {
    let builder = FailoverLayer::plain().strategy_named(strategy.parse().unwrap()).mode(mode);
    let door = builder.build().unwrap().layer(fleet.clone());
    Box::new(move |world| {
        let request = door.clone().oneshot(world.removals.load(SeqCst));
        futures::executor::block_on(request).expect("a request of a failover is lost");
        world.served.fetch_add(1, SeqCst);
    })
}

/// Opens, closes, removes and inserts backends. The first ones stay and serve.
struct Operator {
    fleet: Plain,
    world: Arc<World>,
    rng: fastrand::Rng,
    tokens: Vec<Arc<Token>>,
    openings: usize,
}

const STEADY: usize = 8;

impl Operator {
    fn step(&mut self) {
        let index = self.rng.usize(STEADY..self.tokens.len());
        let name = index.to_string();
        let switch = self.fleet.switch(&name).unwrap();
        match self.rng.u32(..12) {
            // By a failure, of which the traffic is the cause.
            0 => self.tokens[index].fails.store(true, SeqCst),
            1 => {
                assert!(self.fleet.remove(&name));
                let removed_at = self.world.removals.fetch_add(1, SeqCst) + 1;
                self.tokens[index].removed_at.store(removed_at, SeqCst);
                let client = Client::default();
                self.tokens[index] = Arc::clone(&client.0);
                self.fleet.insert(Backend::new(name, client).weight(self.rng.u32(1..5))).unwrap();
            }
            2 => drop(self.fleet.set_priority(&name, self.rng.i32(-1..=0))),
            3 => {
                self.tokens[index].fails.store(false, SeqCst);
                switch.reset();
            }
            _ => {
                self.openings += usize::from(switch.state() == CircuitState::Closed);
                switch.trip();
                if self.openings.is_multiple_of(3) {
                    switch.reset();
                }
            }
        }
    }
}

/// Keeps the panics of the strategies out of the output. There are thousands of them.
fn hide_expected_panics() {
    static HIDDEN: Once = Once::new();
    HIDDEN.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_expected = panic.payload().downcast_ref::<&str>().is_some_and(|message| message.contains(PANIC));
            if !is_expected {
                before(panic);
            }
        }));
    });
}

// C11, C12, C45: issue 11.7
#[test]
fn ten_thousand_openings_under_traffic_lose_no_request_and_call_no_removed_backend() {
    hide_expected_panics();
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || done.send(catch_unwind(AssertUnwindSafe(openings_under_traffic))));
    match is_done.recv_timeout(Duration::from_secs(600)) {
        Ok(result) => result.unwrap_or_else(|panic| resume_unwind(panic)),
        Err(_) => panic!("a deadlock"),
    }
}

fn openings_under_traffic() {
    const BACKENDS: usize = 200;
    let (fleet, world) = (fleet(0), Arc::new(World::default()));
    let tokens: Vec<_> = (0..BACKENDS).map(|_| Arc::new(Token::default())).collect();
    for (index, token) in tokens.iter().enumerate() {
        fleet.insert(Backend::new(index.to_string(), Client(Arc::clone(token)))).unwrap();
    }
    let mut doors = vec![
        balance(&fleet, RoundRobin),
        balance(&fleet, RoundRobin),
        balance(&fleet, Shuffle::new()),
        balance(&fleet, Weighted),
        balance(&fleet, Weighted),
        balance(&fleet, Primary),
    ];
    for panics in [false, true, true, true] {
        doors.push(balance(&fleet, Counting { panics, ..Counting::default() }));
    }
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(Duration::from_secs(9))] {
        doors.push(failover(&fleet, "round_robin", mode));
        doors.push(failover(&fleet, "weighted_failover", mode));
    }
    assert_eq!(doors.len(), 16);
    let rng = fastrand::Rng::with_seed(11);
    let operator = Operator { fleet: fleet.clone(), world: Arc::clone(&world), rng, tokens, openings: 0 };
    let operator = Mutex::new(operator);
    std::thread::scope(|scope| {
        let traffic = |first: usize| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _inside = runtime.enter();
            while !world.is_over.load(SeqCst) {
                (0..16).for_each(|turn| doors[(first + turn) % 16](&world));
            }
        };
        let threads: Vec<_> = (0..3).map(|thread| scope.spawn(move || traffic(5 * thread))).collect();
        let mut operator = operator.lock().unwrap();
        let changes = catch_unwind(AssertUnwindSafe(|| {
            let mut steps = 0;
            while operator.openings < 10_000 && threads.iter().all(|thread| !thread.is_finished()) {
                if world.served.load(SeqCst) < 2 * steps {
                    std::thread::yield_now();
                    continue;
                }
                operator.step();
                steps += 1;
            }
        }));
        world.is_over.store(true, SeqCst);
        assert!(changes.is_ok());
    });
    let mut operator = operator.into_inner().unwrap();
    assert!(operator.openings >= 10_000);
    assert!(fleet.snapshot().iter().all(|backend| backend.in_flight == 0));
    // All that are there serve again once their circuits are closed.
    for (index, token) in operator.tokens.iter_mut().enumerate() {
        token.fails.store(false, SeqCst);
        fleet.switch(&index.to_string()).unwrap().reset();
    }
    let mut door = BalanceLayer::round_robin().layer(fleet.clone());
    assert!((0..2 * BACKENDS).all(|_| call(&mut door)));
    let probed = ServiceExt::<u64>::ready(&mut door);
    assert!(futures::executor::block_on(probed).is_ok());
}
