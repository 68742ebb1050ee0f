//! A fleet that changes all the time, under traffic.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use tokio::task::JoinHandle;
use tower::{Layer, Service};
use tower_fleet::{
    AdminStatus, Backend, Balance, BalanceLayer, Fleet,
    balance::ErrorKind,
    outcome::ErrorsOnly,
    pick::{Primary, RoundRobin, Shuffle, Strategy, Weighted, pick_fn},
};

const CHANGES: usize = 100_000;
const NAMES: usize = 12;

/// One for each backend that ever was, held by its services and by what they answer.
#[derive(Default)]
struct Token {
    /// When it was taken out, by the clock of changes; 0 while it may get requests.
    out_since: AtomicU64,
}

/// Counts the times that a backend was taken out. Read before a request begins, it tells which of them were over.
#[derive(Default)]
struct Clock(AtomicU64);

impl Clock {
    fn now(&self) -> u64 {
        self.0.load(SeqCst)
    }

    /// To be called when the fleet's method has returned.
    fn is_out(&self, token: &Token) {
        token.out_since.store(self.0.fetch_add(1, SeqCst) + 1, SeqCst);
    }
}

/// Answers with its token, at once or after it was polled a few times.
#[derive(Clone)]
struct Client(Arc<Token>);

struct Answer {
    token: Arc<Token>,
    polls_left: u64,
}

impl Service<u64> for Client {
    type Response = Arc<Token>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, polls_left: u64) -> Answer {
        Answer { token: Arc::clone(&self.0), polls_left }
    }
}

impl Future for Answer {
    type Output = Result<Arc<Token>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls_left == 0 {
            return Poll::Ready(Ok(Arc::clone(&self.token)));
        }
        self.polls_left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What the traffic and the changes share.
#[derive(Default)]
struct World {
    clock: Clock,
    over: AtomicBool,
    answered: AtomicU64,
    none_available: AtomicU64,
    no_backends: AtomicU64,
    abandoned: AtomicU64,
}

async fn request<P: Strategy>(world: &World, door: &mut Balance<Client, P, ErrorsOnly>, number: u64) {
    poll_fn(|cx| door.poll_ready(cx)).await.expect("readiness is never an error");
    if number.is_multiple_of(3) {
        // Readiness grows old: what is held may be taken out before the call.
        tokio::task::yield_now().await;
    }
    let begun = world.clock.now();
    let response = door.call(number % 4);
    if number.is_multiple_of(7) {
        // The caller goes away.
        drop(response);
        world.abandoned.fetch_add(1, SeqCst);
        return;
    }
    match response.await {
        Ok(token) => {
            let out = token.out_since.load(SeqCst);
            assert!(out == 0 || out > begun, "out since {out}, and reached by a request that began at {begun}");
            world.answered.fetch_add(1, SeqCst);
        }
        Err(error) => {
            let count = match error.kind() {
                ErrorKind::NoneAvailable { .. } => &world.none_available,
                ErrorKind::NoBackends => &world.no_backends,
                kind => panic!("a request was lost: {kind:?}"),
            };
            count.fetch_add(1, SeqCst);
        }
    }
}

/// Requests until the changes are over. The door comes back, used and idle.
type Traffic = JoinHandle<Box<dyn Send>>;

fn traffic<P: Strategy>(world: &Arc<World>, fleet: &Fleet<Client, ErrorsOnly>, strategy: P) -> [Traffic; 2] {
    let layer = BalanceLayer::new(strategy);
    [false, true].map(|cloned| {
        let (world, mut door) = (Arc::clone(world), layer.layer(fleet.clone()));
        tokio::spawn(async move {
            for number in 1.. {
                if world.over.load(SeqCst) {
                    break;
                }
                if cloned {
                    request(&world, &mut door.clone(), number).await;
                } else {
                    request(&world, &mut door, number).await;
                }
                tokio::task::yield_now().await;
            }
            Box::new(door) as Box<dyn Send>
        })
    })
}

/// Changes the fleet at random, and knows how it must be.
struct Operator {
    fleet: Fleet<Client, ErrorsOnly>,
    world: Arc<World>,
    rng: fastrand::Rng,
    present: HashMap<usize, Arc<Token>>,
    /// Of every backend that ever was.
    tokens: Vec<Weak<Token>>,
}

impl Operator {
    fn backend(&mut self, name: usize) -> (Backend<Client>, Arc<Token>) {
        let token = Arc::new(Token::default());
        self.tokens.push(Arc::downgrade(&token));
        let backend = Backend::new(format!("b{name}"), Client(Arc::clone(&token)));
        (backend.weight(self.rng.u32(1..=5)).priority(self.rng.i32(0..=1)), token)
    }

    fn change(&mut self) {
        let index = self.rng.usize(..NAMES);
        let name = format!("b{index}");
        let present = self.present.contains_key(&index);
        match self.rng.u32(..16) {
            0..=3 => {
                let (backend, token) = self.backend(index);
                assert_eq!(self.fleet.insert(backend).is_ok(), !present);
                if !present {
                    self.present.insert(index, token);
                }
            }
            4 => {
                assert_eq!(self.fleet.remove(&name), present);
                self.present.remove(&index).inspect(|old| self.world.clock.is_out(old));
            }
            5 => {
                let (backend, token) = self.backend(index);
                assert_eq!(self.fleet.replace(backend).is_ok(), present);
                if present {
                    self.present.insert(index, token).inspect(|old| self.world.clock.is_out(old));
                }
            }
            6 => assert_eq!(self.fleet.set_weight(&name, self.rng.u32(1..=5)).is_ok(), present),
            7 => assert_eq!(self.fleet.set_priority(&name, self.rng.i32(0..=1)), present),
            8..=9 => {
                let draining = self.rng.bool();
                let set = if draining {
                    self.fleet.drain(&name)
                } else {
                    self.fleet.set_status(&name, AdminStatus::Degraded)
                };
                assert_eq!(set, present);
                self.present.get(&index).inspect(|token| self.world.clock.is_out(token));
            }
            10..=14 => {
                self.present.get(&index).inspect(|token| token.out_since.store(0, SeqCst));
                assert_eq!(self.fleet.set_status(&name, AdminStatus::Healthy), present);
            }
            _ if self.rng.u32(..50) == 0 => {
                let all_leave = self.rng.bool();
                (0..NAMES).for_each(|index| self.take_out(index, all_leave));
            }
            _ => std::thread::yield_now(),
        }
    }

    /// Removes a backend or drains it, if it is there.
    fn take_out(&mut self, index: usize, leaves: bool) {
        let (name, token) = (format!("b{index}"), self.present.get(&index).cloned());
        let is_done = if leaves { self.fleet.remove(&name) } else { self.fleet.drain(&name) };
        assert_eq!(is_done, token.is_some());
        token.inspect(|token| self.world.clock.is_out(token));
        if leaves {
            self.present.remove(&index);
        }
    }

    fn alive(&self) -> usize {
        self.tokens.iter().filter(|token| token.strong_count() > 0).count()
    }
}

// C1, C2, C11, C12
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_misdirected_or_kept_while_everything_changes() {
    let world = Arc::new(World::default());
    let fleet = Fleet::plain().build().expect("an empty fleet");
    let mut running = Vec::new();
    running.extend(traffic(&world, &fleet, RoundRobin));
    running.extend(traffic(&world, &fleet, Shuffle::new()));
    running.extend(traffic(&world, &fleet, Weighted));
    running.extend(traffic(&world, &fleet, Primary));
    running.extend(traffic(&world, &fleet, pick_fn(|candidates, cx| cx.random_below(candidates.len()))));
    // A door may hold one instance, its request another, and the answer is looked at.
    let in_use = 3 * running.len();

    let rng = fastrand::Rng::with_seed(11);
    let (fleet, shared) = (fleet.clone(), Arc::clone(&world));
    let mut operator = Operator { fleet, world: shared, rng, present: HashMap::new(), tokens: Vec::new() };
    let operator = tokio::task::spawn_blocking(move || {
        for change in 1..=CHANGES {
            operator.change();
            if change % 10_000 == 0 {
                let (alive, most) = (operator.alive(), operator.present.len() + in_use);
                assert!(alive <= most, "{alive} backends alive after {change} changes, where {most} are in use");
            }
        }
        operator
    });
    let operator = operator.await.expect("every change is answered as it should be");
    world.over.store(true, SeqCst);
    let mut doors = Vec::new();
    for traffic in running {
        doors.push(traffic.await.expect("every request is answered as it should be"));
    }

    let counts = [&world.answered, &world.none_available, &world.no_backends, &world.abandoned];
    let counts = counts.map(|count| count.load(SeqCst));
    assert!(counts.iter().all(|count| *count > 0), "the traffic saw too little: {counts:?}");
    assert!(counts[0] > 10_000, "the traffic was too thin: {counts:?}");

    let Operator { fleet, present, tokens, .. } = operator;
    let snapshot = fleet.snapshot();
    assert_eq!(snapshot.len(), present.len());
    assert!(snapshot.iter().all(|backend| backend.in_flight == 0), "{snapshot:?}");
    snapshot.iter().for_each(|backend| assert!(fleet.remove(&backend.name)));
    drop(present);
    // The doors are still there, idle, each with the view it saw last.
    assert_eq!(tokens.iter().filter(|token| token.strong_count() > 0).count(), 0, "of {} backends", tokens.len());
    drop(doors);
}
