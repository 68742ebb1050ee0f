//! Failover under random faults, in paused time, from seeds that are told when something is wrong.
//!
//! `cargo test --test simulation` makes 60,000 requests. A million:
//! `FLEET_SIMULATION=1000000 cargo test --release --test simulation -- --nocapture`. One seed alone: `FLEET_SEED=7`.
#![cfg(feature = "http")]

use std::{
    collections::HashMap,
    convert::Infallible,
    env, io, mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use futures::{StreamExt, future::BoxFuture, stream};
use http::{HeaderMap, Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use tokio::time::{Instant, Sleep};
use tower::{Service, ServiceExt, limit::ConcurrencyLimit};
use tower_fleet::{
    AdminStatus, Backend, CircuitPolicy, CircuitState, FailoverLayer, Fleet,
    body::{ReplayBody, ReplayLayer, ReplayMemory},
    failover::{
        Backoff, Budget, CommitPoint, Ending, Error, ErrorKind, Failover, Ledger, Methods, Mode, ResponseBody, Stopped,
    },
    fleet::{BackendId, Snapshot},
    pick::{RoundRobin, StrategyName},
};

type Up = UnsyncBoxBody<Bytes, Infallible>;
type Down = UnsyncBoxBody<Bytes, io::Error>;
type Backends = Fleet<ConcurrencyLimit<Site>>;
type Door = Failover<ConcurrencyLimit<Site>>;
type Answer = Response<ResponseBody<Down>>;

/// As much of a body as is kept for another attempt.
const KEPT: usize = 700;
/// The one that never fails, in worlds that have it.
const ANCHOR: &str = "anchor";
/// How long an attempt may take.
const PATIENCE: Duration = Duration::from_secs(1);
const CALLERS: usize = 32;
/// Pieces of a body whose size is known.
const KNOWN: usize = 25;

/// What a backend does with a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Good,
    Slow(Duration),
    Status(u16),
    Hang,
    Panic,
    Reset,
    /// The body ends in an error after its first frame.
    Broken,
}

/// What the backends saw of one request.
#[derive(Default)]
struct Seen {
    /// The call of each attempt: by whom, and what came of it.
    calls: Vec<(Arc<str>, Fate)>,
    /// Good heads that were handed over.
    good: usize,
    /// Calls and bodies that have not come to their end.
    running: usize,
    /// The whole request came to its backend.
    received: usize,
}

/// One fleet, its rules, and what goes on in it. One thread runs all of it.
struct World {
    seed: u64,
    rng: Mutex<Rng>,
    seen: Mutex<HashMap<usize, Seen>>,
    /// An extra attempt counts 1, a request minus the share: over every window the sum is at most the reserve.
    traffic: Mutex<Vec<f64>>,
    share: f64,
    /// Nothing fails from now on.
    calm: AtomicBool,
    /// A backend was sent a body cut short, or another's.
    wrong: AtomicBool,
    outage: bool,
    /// The anchor fails for some time in every few seconds, so that its circuit opens.
    lapses: bool,
    began: Instant,
}

impl World {
    fn rng(&self) -> MutexGuard<'_, Rng> {
        self.rng.lock().expect("one thread")
    }

    fn seen<T>(&self, request: usize, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(self.seen.lock().expect("one thread").entry(request).or_default())
    }

    fn fate(&self, site: &str) -> Fate {
        let mut rng = self.rng();
        let slow = Fate::Slow(Duration::from_millis(rng.u64(1..400)));
        if self.calm.load(Relaxed) {
            return Fate::Good;
        }
        if site == ANCHOR && self.lapses && self.began.elapsed().as_millis() % 3_000 < 500 {
            return Fate::Status(503);
        }
        if site == ANCHOR {
            return if rng.bool() { Fate::Good } else { slow };
        }
        let rng = rng.u32(if self.outage { 55 } else { 0 }..100);
        match rng {
            0..40 => Fate::Good,
            40..55 => slow,
            55..70 => Fate::Status(503),
            70..77 => Fate::Status(429),
            77..83 => Fate::Hang,
            83..87 => Fate::Panic,
            87..95 => Fate::Reset,
            _ if self.outage => Fate::Reset,
            _ => Fate::Broken,
        }
    }

    /// The most that was spent in any window beyond what its requests paid in.
    fn most_overspent(&self) -> f64 {
        let traffic = self.traffic.lock().expect("one thread");
        traffic.iter().fold((0.0_f64, 0.0_f64), |(now, most), event| ((now + event).max(0.0), most.max(now + event))).1
    }
}

/// Ends with a call, or with a body.
struct Running(Arc<World>, usize);

impl Running {
    fn new(world: &Arc<World>, request: usize) -> Self {
        world.seen(request, |seen| seen.running += 1);
        Self(Arc::clone(world), request)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What runs on after its caller has gone finds nothing, and makes a new line that is found in the end.
        self.0.seen(self.1, |seen| seen.running = seen.running.wrapping_sub(1));
    }
}

struct Site {
    name: Arc<str>,
    world: Arc<World>,
    is_ready: bool,
    /// Until it becomes ready.
    wait: Option<Pin<Box<Sleep>>>,
}

/// A clone starts unready.
impl Clone for Site {
    fn clone(&self) -> Self {
        Self { name: Arc::clone(&self.name), world: Arc::clone(&self.world), is_ready: false, wait: None }
    }
}

impl Service<Request<ReplayBody<Up>>> for Site {
    type Response = Response<Down>;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Response<Down>, io::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            (self.wait, self.is_ready) = (None, true);
        }
        if self.is_ready || self.world.calm.load(Relaxed) {
            self.is_ready = true;
            return Poll::Ready(Ok(()));
        }
        let (luck, pause) = {
            let mut rng = self.world.rng();
            (rng.u8(..25), rng.u64(1..300))
        };
        match luck {
            0 if *self.name != *ANCHOR => return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
            1..4 => {
                self.wait = Some(Box::pin(tokio::time::sleep(Duration::from_millis(pause))));
                return self.poll_ready(cx);
            }
            _ => self.is_ready = true,
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReplayBody<Up>>) -> Self::Future {
        assert!(mem::take(&mut self.is_ready), "C10: `{}` is called unready", self.name);
        let (name, world) = (Arc::clone(&self.name), Arc::clone(&self.world));
        let number: usize = request.extensions().get::<Number>().expect("a number").0;
        let fate = world.fate(&name);
        let call = world.seen(number, |seen| {
            seen.calls.push((Arc::clone(&name), fate));
            seen.calls.len()
        });
        if call > 1 && world.share > 0.0 {
            world.traffic.lock().expect("one thread").push(1.0);
        }
        let running = Running::new(&world, number);
        if fate == Fate::Panic && number.is_multiple_of(2) {
            // No hook, no noise. This one at once, the others on the way.
            std::panic::resume_unwind(Box::new("simulated"));
        }
        Box::pin(async move {
            // Some answer before they have read the request.
            let eager = call.is_multiple_of(3) && matches!(fate, Fate::Status(_));
            if !eager {
                read(request, number, &world).await?;
            }
            match fate {
                Fate::Hang => std::future::pending().await,
                Fate::Panic => std::panic::resume_unwind(Box::new("simulated")),
                Fate::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
                Fate::Slow(pause) => tokio::time::sleep(pause).await,
                Fate::Good | Fate::Broken | Fate::Status(_) => {}
            }
            let status = if let Fate::Status(status) = fate { status } else { 200 };
            if status == 200 {
                world.seen(number, |seen| seen.good += 1);
            }
            let mut response = Response::builder().status(status).header("call", call);
            if status == 429 {
                response = response.header("retry-after-ms", 20);
            }
            // The body has the name of its backend in every frame, and the number of its call.
            let frames = stream::unfold((0, running), move |(frame, running)| {
                let text = format!("{name} {call} {frame};");
                async move {
                    match frame {
                        1 if fate == Fate::Broken => Some((Err(io::ErrorKind::ConnectionReset.into()), (9, running))),
                        0..3 => {
                            if matches!(fate, Fate::Slow(_)) && frame > 0 {
                                tokio::time::sleep(Duration::from_millis(20)).await;
                            }
                            Some((Ok(Frame::data(Bytes::from(text))), (frame + 1, running)))
                        }
                        _ => None,
                    }
                }
            });
            Ok(response.body(StreamBody::new(frames).boxed_unsync()).expect("a response"))
        })
    }
}

/// The number of a request, and how large its body is.
#[derive(Clone, Copy)]
struct Number(usize, usize);

fn piece(number: usize, index: usize) -> String {
    format!("{number}:{index:03}:{:x<24};", "")
}

/// How a caller sends its body.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pace {
    AtOnce,
    /// A byte in each frame.
    Drips,
    /// This long before each piece.
    Slow(Duration),
}

fn request(number: usize, pieces: usize, method: Method, pace: Pace) -> Request<Up> {
    let end = if pieces > 0 { Some(()) } else { None };
    let frames = (0..pieces).map(move |index| Frame::data(Bytes::from(piece(number, index))));
    let trailers = end.map(|()| Frame::trailers(HeaderMap::from_iter([(http::header::ETAG, number.into())])));
    let body = if pieces == 0 {
        http_body_util::Empty::new().boxed_unsync()
    } else if pieces == KNOWN {
        // Too large, as is plain from the start.
        let whole: String = (0..pieces).map(|index| piece(number, index)).collect();
        http_body_util::Full::from(whole).boxed_unsync()
    } else {
        let bytes = (0..pieces).flat_map(move |index| piece(number, index).into_bytes());
        let drips = bytes.map(|byte| Frame::data(Bytes::copy_from_slice(&[byte])));
        match pace {
            Pace::AtOnce => StreamBody::new(stream::iter(frames.chain(trailers).map(Ok))).boxed_unsync(),
            Pace::Drips => StreamBody::new(stream::iter(drips.chain(trailers).map(Ok))).boxed_unsync(),
            Pace::Slow(pause) => {
                let frames = stream::iter(frames.chain(trailers)).then(move |frame| async move {
                    tokio::time::sleep(pause).await;
                    Ok(frame)
                });
                StreamBody::new(frames).boxed_unsync()
            }
        }
    };
    let mut request = Request::builder().method(method).uri("/").body(body).expect("a request");
    request.extensions_mut().insert(Number(number, pieces));
    request
}

/// Reads a request to its end. It is whole, or it is an error; nothing else.
async fn read(request: Request<ReplayBody<Up>>, number: usize, world: &World) -> io::Result<()> {
    let Number(_, pieces) = *request.extensions().get().expect("a number");
    let body = request.into_body().collect().await.map_err(io::Error::other)?;
    if pieces > 0 && pieces != KNOWN {
        let etag = body.trailers().and_then(|trailers| trailers.get(http::header::ETAG)).cloned();
        world.wrong.fetch_or(etag != Some(number.into()), Relaxed);
    }
    let expected: String = (0..pieces).map(|index| piece(number, index)).collect();
    // A panic here would be one more failed attempt.
    world.wrong.fetch_or(body.to_bytes() != expected, Relaxed);
    world.seen(number, |seen| seen.received += 1);
    Ok(())
}

/// What a world is made of.
struct Rules {
    mode: Mode,
    first_frame: bool,
    anchored: bool,
    deadline: Option<Duration>,
    budget: Option<(f64, u32)>,
    retry_methods: Methods,
    hedge_methods: Methods,
    memory: ReplayMemory,
}

fn site(name: &str, world: &Arc<World>) -> Backend<ConcurrencyLimit<Site>> {
    // The budget counts attempts, and those that wait for a backend come to it later: in bursts, if it lets them.
    let at_once = if name == ANCHOR || world.share > 0.0 { 100 * CALLERS } else { 12 };
    let site = Site { name: name.into(), world: Arc::clone(world), is_ready: false, wait: None };
    Backend::new(name, ConcurrencyLimit::new(site, at_once))
}

fn open(seed: u64, outage: bool, budget: bool) -> (Arc<World>, Rules, Backends, Door) {
    let mut rng = Rng::with_seed(seed);
    fastrand::seed(seed);
    let mode = [Mode::Race, Mode::Sequential, Mode::hedged(Duration::from_millis(50))][rng.usize(..3)];
    let rules = Rules {
        mode,
        first_frame: rng.u8(..3) == 0,
        anchored: !outage && rng.u8(..3) > 0,
        deadline: (!outage && rng.u8(..4) == 0).then(|| Duration::from_millis(rng.u64(500..4_000))),
        budget: (budget || rng.u8(..4) == 0).then(|| (rng.f64(), rng.u32(1..20))),
        retry_methods: if rng.u8(..4) == 0 { Methods::Idempotent } else { Methods::All },
        hedge_methods: if rng.bool() { Methods::Idempotent } else { Methods::All },
        memory: ReplayMemory::new(1 << 20),
    };
    let mut layer = FailoverLayer::builder()
        .mode(mode)
        .commit(if rules.first_frame { CommitPoint::first_frame() } else { CommitPoint::head() })
        .retry_methods(rules.retry_methods)
        .hedge_methods(rules.hedge_methods)
        .timeout(PATIENCE)
        .replay(ReplayLayer::new().limit(KEPT).memory(rules.memory.clone()));
    if let Some((share, reserve)) = rules.budget {
        layer = layer.budget(Budget::new(share).reserve(reserve));
    }
    if rng.u8(..4) == 0 {
        layer = layer.attempts_per_backend(2).same_backend_delay(Duration::from_millis(5));
    }
    if rng.u8(..4) == 0 {
        layer = layer.backoff(Backoff::new(Duration::from_millis(3), Duration::from_millis(20)));
        layer = layer.retry_after_cap(Duration::from_millis(30));
    }
    if rng.u8(..4) == 0 {
        layer = layer.error_when_exhausted();
    }
    if let Some(deadline) = rules.deadline {
        layer = layer.deadline(deadline);
    }
    if rng.u8(..3) == 0 {
        layer = layer.ready_within(Duration::from_millis(rng.u64(1..200)));
    }
    use StrategyName::{Failover, RoundRobin, Shuffle, WeightedRoundRobin};
    let strategies = [Failover, RoundRobin, Shuffle, WeightedRoundRobin];
    let layer = layer.strategy_named(strategies[rng.usize(..4)]).mode(mode).build().expect("good values");

    let policy = CircuitPolicy::new().open_for(Duration::from_millis(300));
    let policy = if rng.bool() { policy.consecutive(3) } else { policy.failures(20).probes(2) };
    let world = Arc::new(World {
        seed,
        share: rules.budget.map_or(0.0, |(share, _)| share),
        seen: Mutex::default(),
        traffic: Mutex::default(),
        calm: AtomicBool::new(false),
        wrong: AtomicBool::new(false),
        outage,
        lapses: rng.bool(),
        began: Instant::now(),
        rng: Mutex::new(rng.fork()),
    });
    let mut backends: Vec<_> = (0..rng.usize(2..6))
        .map(|index| {
            let backend = site(&format!("b{index}"), &world).weight(rng.u32(1..4)).priority(rng.i32(0..2));
            // The first has a timeout of its own.
            if index == 0 { backend.timeout(PATIENCE / 2) } else { backend }
        })
        .collect();
    backends.push(site(if rules.anchored { ANCHOR } else { "last" }, &world).priority(rng.i32(-1..2)));
    let fleet = Fleet::builder().circuit_breaker(policy).backends(backends).build().expect("good backends");
    let door = tower::Layer::layer(&layer, fleet.clone());
    (world, rules, fleet, door)
}

/// Counts of how requests ended, to see that everything occurs.
#[derive(Debug, Default)]
struct Tally {
    good: usize,
    broken: usize,
    bad: usize,
    errors: usize,
    left: usize,
    calls: usize,
    stopped: usize,
}

/// One caller's request from its beginning to the end of its answer, unless the caller leaves.
async fn ask(world: &Arc<World>, rules: &Rules, fleet: &Backends, mut door: Door, number: usize, tally: &Mutex<Tally>) {
    let (pieces, post, leaves, pace) = {
        let mut rng = world.rng();
        // 24 pieces are over the bound; the reader finds that out on the way.
        let pieces = [0, 0, 1, 3, 24, KNOWN][rng.usize(..6)];
        // More than an attempt may take.
        let slow = Pace::Slow(Duration::from_millis(rng.u64(1..900)));
        let pace = [Pace::AtOnce, Pace::AtOnce, Pace::Drips, slow][rng.usize(..4)];
        (pieces, rng.u8(..3) == 0, (rng.u8(..6) == 0).then(|| rng.u64(..1_500)), pace)
    };
    let method = if post { Method::POST } else { Method::PUT };
    world.seen(number, |_| ());
    let running = || world.seen(number, |seen| seen.running);
    let exchange = async {
        let ready = door.ready().await.expect("a failover is always ready");
        // In the order in which the purse hears of it.
        if world.share > 0.0 {
            world.traffic.lock().expect("one thread").push(-world.share);
        }
        let (began, known) = (Instant::now(), fleet.snapshot().iter().map(|backend| backend.id).collect());
        let answer: Result<Answer, Error> = ready.call(request(number, pieces, method, pace)).await;
        assert!(running() <= 1, "seed {}: C17: {} losers run on", world.seed, running());
        let asked = Asked { number, pieces, post, took: began.elapsed(), known };
        judge(world, rules, fleet, asked, answer, tally).await;
    };
    match leaves {
        Some(after) => {
            // Also before anything was polled.
            let after = Duration::from_micros(after * after);
            if tokio::time::timeout(after, exchange).await.is_err() {
                tally.lock().expect("one thread").left += 1;
            }
        }
        None => exchange.await,
    }
    assert_eq!(running(), 0, "seed {}: C20: outlived its caller", world.seed);
    let seen = world.seen.lock().expect("one thread").remove(&number).expect("it was there");
    tally.lock().expect("one thread").calls += seen.calls.len();
}

/// A request that has its answer.
struct Asked {
    number: usize,
    pieces: usize,
    post: bool,
    took: Duration,
    /// The backends when it was called.
    known: Vec<BackendId>,
}

/// The backends that a request may be sent to at this moment and was not, those that have come after it aside.
fn untried(fleet: &Backends, ledger: &Ledger, known: &[BackendId]) -> Vec<String> {
    let is_free = |backend: &Snapshot| {
        let serves = match backend.state {
            CircuitState::Closed => true,
            // Due, and its permits are free.
            CircuitState::HalfOpen => backend.in_flight == 0,
            _ => false,
        };
        let is_untried = ledger.attempts().iter().all(|attempt| attempt.backend != backend.name);
        serves
            && is_untried
            && backend.cools_for.is_none()
            && known.contains(&backend.id)
            && backend.status == AdminStatus::Healthy
    };
    fleet.snapshot().iter().filter(|backend| is_free(backend)).map(|backend| backend.name.to_string()).collect()
}

async fn judge(
    world: &World,
    rules: &Rules,
    fleet: &Backends,
    asked: Asked,
    answer: Result<Answer, Error>,
    tally: &Mutex<Tally>,
) {
    let (seed, Asked { number, pieces, post, took, known }) = (world.seed, asked);
    let ledger = match &answer {
        Ok(response) => response.extensions().get::<Ledger>().expect("C25").clone(),
        Err(error) => error.ledger().clone(),
    };
    let about = format!("seed {seed}, request {number}: {ledger}");
    let (calls, good) = world.seen(number, |seen| (seen.calls.clone(), seen.good));
    // Everybody who was called is in the ledger.
    for (name, _) in &calls {
        let called = calls.iter().filter(|call| call.0 == *name).count();
        let told = ledger.attempts().iter().filter(|attempt| attempt.backend == **name).count();
        assert!(called <= told, "C25: {called} calls of {name}, {about}");
    }
    let is_late = rules.deadline.is_some_and(|deadline| took >= deadline);
    if post && !is_late && matches!(rules.mode, Mode::Hedged(_)) && rules.hedge_methods == Methods::Idempotent {
        let dropped = ledger.attempts().iter().filter(|attempt| attempt.ending == Ending::Dropped).count();
        assert_eq!(dropped, 0, "C26: hedged, {about}");
    }
    let excused = match ledger.stopped() {
        // In a race several may have begun to read what is too much to keep for them.
        None => pieces > 3 && !matches!(rules.mode, Mode::Sequential) && calls.len() > 1,
        Some(Stopped::Unreplayable(_)) => {
            assert!(pieces > 3, "C21: {about}");
            true
        }
        Some(Stopped::NotIdempotent) => {
            assert!(post && rules.retry_methods == Methods::Idempotent, "C26: {about}");
            true
        }
        Some(Stopped::OverBudget) => {
            assert!(rules.budget.is_some(), "C53: {about}");
            true
        }
        Some(Stopped::OutOfTime) if rules.deadline.is_some() => {
            // A pause that would outlast the deadline ends the request at once.
            assert!(rules.deadline.is_some_and(|deadline| took <= deadline + Duration::from_millis(2)), "C51: {about}");
            true
        }
        // The bound of the race; its attempts are bounded more tightly.
        Some(stopped) => panic!("{stopped:?}, {about}"),
    };
    let mut counts = Tally { stopped: usize::from(excused), ..Tally::default() };
    match answer {
        Ok(response) if response.status() == 200 => {
            let served = ledger.served().expect("C25").clone();
            let call: usize = response.headers()["call"].to_str().expect("text").parse().expect("a number");
            let (name, fate) = &calls[call - 1];
            assert_eq!(served, **name, "C25: {about}");
            let mut text = String::new();
            let mut body = response.into_body();
            let end = loop {
                match body.frame().await {
                    Some(Ok(frame)) => {
                        let data = frame.into_data().expect("no trailers were sent");
                        text.push_str(std::str::from_utf8(&data).expect("text"));
                    }
                    Some(Err(_)) => break false,
                    None => break true,
                }
            };
            let frames = if *fate == Fate::Broken { 1 } else { 3 };
            let expected: String = (0..frames).map(|frame| format!("{name} {call} {frame};")).collect();
            assert_eq!(text, expected, "C32: {about}");
            assert_eq!(end, *fate != Fate::Broken, "C32: {about}");
            if !rules.first_frame {
                assert_eq!(good, 1, "C17: {about}");
            }
            if end {
                counts.good = 1;
            } else {
                counts.broken = 1;
            }
        }
        answer => {
            // Nobody was good, or it was not for lack of trying.
            if !rules.first_frame {
                assert_eq!(good, 0, "C17: a good answer was lost, {about}");
            }
            let excused = excused && (!calls.is_empty() || ledger.stopped() == Some(Stopped::OutOfTime));
            // Under a deadline, its share of the time may be too short for it.
            let is_anchored = rules.anchored && !world.lapses && rules.deadline.is_none();
            assert!(excused || !is_anchored, "C19: lost although `{ANCHOR}` is good, {about}");
            let untried = untried(fleet, &ledger, &known);
            assert!(excused || untried.is_empty(), "C19: lost although {untried:?} may be asked, {about}");
            match answer {
                Ok(response) => {
                    assert!(ledger.served().is_some(), "C25: {about}");
                    assert!([429, 503].contains(&response.status().as_u16()), "C14: {about}");
                    counts.bad = 1;
                }
                Err(error) => {
                    let documented = match error.kind() {
                        ErrorKind::NoneAvailable { .. } => calls.is_empty(),
                        ErrorKind::Exhausted { .. } => !ledger.attempts().is_empty(),
                        _ => false,
                    };
                    assert!(documented, "C19: {error:?}");
                    counts.errors = 1;
                }
            }
        }
    }
    let mut tally = tally.lock().expect("one thread");
    tally.good += counts.good;
    tally.broken += counts.broken;
    tally.bad += counts.bad;
    tally.errors += counts.errors;
    tally.stopped += counts.stopped;
}

/// Comes and goes with the backends, the anchor excepted.
async fn change(world: &Arc<World>, fleet: &Backends) {
    loop {
        let (pause, what, who, number) = {
            let mut rng = world.rng();
            (rng.u64(1..400), rng.u8(..7), rng.usize(..6), rng.u32(1..5))
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let name = format!("b{who}");
        match what {
            0 => _ = fleet.remove(&name),
            1 | 2 => _ = fleet.insert(site(&name, world).priority(number as i32 % 2)),
            3 => _ = fleet.replace(site(&name, world)),
            4 => _ = fleet.set_weight(&name, number),
            5 => _ = fleet.set_status(&name, if number == 1 { AdminStatus::Draining } else { AdminStatus::Healthy }),
            _ => _ = fleet.set_priority(&name, number as i32 % 2),
        }
    }
}

async fn simulate(seed: u64, requests: usize, tally: &Mutex<Tally>) {
    let (world, rules, fleet, door) = open(seed, false, false);
    let (next, one) = (Mutex::new(0..requests), &world);
    let caller = async || {
        while let Some(number) = { next.lock().expect("one thread").next() } {
            ask(one, &rules, &fleet, door.clone(), number, tally).await;
            let pause = one.rng().u64(..40);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    };
    let callers = futures::future::join_all((0..CALLERS).map(|_| caller()));
    tokio::select! {
        _ = callers => {}
        () = change(&world, &fleet) => {}
    }
    if let Some((share, reserve)) = rules.budget {
        let most = world.most_overspent();
        assert!(most <= f64::from(reserve) + share + 1e-6, "seed {seed}: C53: {most} beyond what was paid in");
    }
    at_rest(&world, &rules, &fleet, door).await;
}

/// Nothing runs, nothing is held, and everybody can come back.
async fn at_rest(world: &Arc<World>, rules: &Rules, fleet: &Backends, door: Door) {
    let seed = world.seed;
    assert!(fleet.snapshot().iter().all(|backend| backend.in_flight == 0), "seed {seed}: C20: {fleet:?}");
    assert!(!world.wrong.load(Relaxed), "seed {seed}: C33: a body cut short, or another's");
    assert_eq!(rules.memory.used(), 0, "seed {seed}: C33: bytes are kept for nobody");
    assert!(world.seen.lock().expect("one thread").is_empty(), "seed {seed}: C20");
    world.calm.store(true, Relaxed);
    let names: Vec<_> = fleet.snapshot().iter().map(|backend| backend.name.clone()).collect();
    for name in &names {
        fleet.set_status(name, AdminStatus::Healthy);
        fleet.set_priority(name, 0);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    // One probe closes a circuit, and whatever else is asked for is served as well.
    for number in 0..2 * names.len() {
        let response = door.clone().oneshot(request(number, 1, Method::PUT, Pace::AtOnce)).await.expect("a calm");
        assert_eq!(response.status(), 200, "seed {seed}");
        drop(response.into_body().collect().await.expect("a whole body"));
        world.seen.lock().expect("one thread").remove(&number);
    }
    for backend in fleet.snapshot() {
        assert_eq!(backend.state, CircuitState::Closed, "seed {seed}: C38: a permit is lost, {fleet:?}");
        assert_eq!(backend.in_flight, 0, "seed {seed}: C20: {fleet:?}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

/// Whether a timer is registered: a runtime with nothing to do would jump to it.
async fn has_timers() -> bool {
    let (wake, woken) = tokio::sync::oneshot::channel();
    let before = Instant::now();
    let waker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        wake.send(())
    });
    woken.await.expect("the thread runs");
    waker.join().expect("no panic").expect("somebody listens");
    before.elapsed() > Duration::ZERO
}

fn number(variable: &str) -> Option<usize> {
    env::var(variable).ok().map(|value| value.parse().expect("a number"))
}

const IN_ONE_WORLD: usize = 1_000;

// C17, C19, C20, C21, C25, C26, C32, C33, C38, C53
#[test]
fn nothing_is_lost_mixed_or_left_behind_under_random_faults() {
    let requests = number("FLEET_SIMULATION").unwrap_or(60_000);
    let seeds = match number("FLEET_SEED") {
        Some(seed) => seed as u64..seed as u64 + 1,
        None => 0..requests.div_ceil(IN_ONE_WORLD) as u64,
    };
    let tally = Mutex::default();
    let (began, mut held) = (std::time::Instant::now(), Vec::new());
    let worlds = seeds.end - seeds.start;
    for seed in seeds {
        let runtime = runtime();
        let world = || runtime.block_on(simulate(seed, IN_ONE_WORLD, &tally));
        if seed.is_multiple_of(20) {
            world();
            assert!(!runtime.block_on(has_timers()), "seed {seed}: a timer is left");
        } else {
            // What is still there when a world is over was not given back.
            held.push(allocation_counter::measure(world).bytes_current);
        }
    }
    let tally: Tally = tally.into_inner().expect("one thread");
    println!("{} requests in {:?}: {tally:?}", worlds as usize * IN_ONE_WORLD, began.elapsed());
    let left: i64 = held.iter().sum();
    println!("{left} bytes are held after {worlds} worlds");
    assert!(left <= 4096, "memory grows: {left} bytes in {worlds} worlds");
    if worlds > 20 {
        assert!(tally.good > 0 && tally.broken > 0 && tally.bad > 0 && tally.errors > 0 && tally.left > 0);
        assert!(tally.stopped > 0, "{tally:?}");
    }
}

#[test]
fn a_timer_that_is_left_is_seen() {
    runtime().block_on(async {
        assert!(!has_timers().await);
        let mut timer = std::pin::pin!(tokio::time::sleep(Duration::from_secs(5)));
        assert!(futures::poll!(timer.as_mut()).is_pending());
        assert!(has_timers().await);
    });
}

// C53
#[test]
fn a_total_outage_stays_within_the_budget_from_its_first_second_on() {
    for seed in 0..30 {
        runtime().block_on(async {
            let (world, rules, fleet, door) = open(seed, true, true);
            let tally = Mutex::default();
            let (share, reserve) = rules.budget.expect("asked for");
            let extra = || world.traffic.lock().expect("one thread").iter().filter(|event| **event > 0.0).count();
            // 500 within the first second, 1,500 in the next three.
            let (one, rules, fleet, tally) = (&world, &rules, &fleet, &tally);
            let callers = (0..2_000).map(async |number| {
                tokio::time::sleep(Duration::from_millis(2 * number as u64)).await;
                ask(one, rules, fleet, door.clone(), number, tally).await;
            });
            let first = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let (most, extra) = (share * 501.0 + f64::from(reserve), extra());
                assert!(
                    extra as f64 <= most,
                    "seed {seed}: {extra} extra attempts in the first second, at most {most}"
                );
                assert!(extra > 0, "seed {seed}: nothing was tried");
            };
            futures::future::join(first, futures::future::join_all(callers)).await;
            let most = world.most_overspent();
            assert!(most <= f64::from(reserve) + share + 1e-6, "seed {seed}: {most} beyond what was paid in");
        });
    }
}

// C20, C33
#[test]
fn a_long_world_holds_no_more_than_a_short_one() {
    let tally = Mutex::default();
    let most = |requests| {
        let (runtime, tally) = (runtime(), &tally);
        allocation_counter::measure(|| runtime.block_on(simulate(3, requests, tally))).bytes_max
    };
    let (warm, short, long) = (most(500), most(1_000), most(8_000));
    assert!(long < 2 * short, "{warm} bytes at first, {short} in a short world, {long} in a long one");
}

/// The backends that were asked by a request that nobody answers.
async fn asked(mode: Mode, attempts: u32) -> Vec<String> {
    let refuse = tower::service_fn(|()| async { Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionReset)) });
    let fleet = Fleet::plain().backends(["a", "b", "c"].map(|name| Backend::new(name, refuse)));
    let layer = FailoverLayer::plain().mode(mode).attempts_per_backend(attempts).strategy(RoundRobin);
    let door = tower::Layer::layer(&layer.build().expect("good values"), fleet.build().expect("good backends"));
    let error = door.oneshot(()).await.expect_err("nobody answers");
    error.ledger().attempts().iter().map(|attempt| attempt.backend.to_string()).collect()
}

// C15, C23: the strategy names the others before the first comes up again.
#[tokio::test(start_paused = true)]
async fn everybody_is_asked_as_often_as_the_mode_says_in_a_rotation_too() {
    for (mode, attempts, most) in [(Mode::Race, 1, [2, 1, 1]), (Mode::Sequential, 2, [2, 2, 2])] {
        let mut asked = asked(mode, attempts).await;
        let first = asked[0].clone();
        asked.sort_by_key(|name| (*name != first, name.clone()));
        let counts: Vec<_> = asked.chunk_by(|one, other| one == other).map(<[_]>::len).collect();
        assert_eq!(counts, most, "{mode:?}: {asked:?}");
    }
}
