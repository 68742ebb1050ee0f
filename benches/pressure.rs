//! What an outage costs where much waits, fails or changes at once.
//!
//! `cargo bench --bench pressure` prints a table; any word leaves out the rows without it in their name. Most figures are
//! counts, which do not depend on the machine. Times are of one run each.
//!
//! A row is a name and a function that returns its figures: see [`ROWS`].

use std::{
    future::{Ready, ready},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{FutureExt, stream};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, StreamBody};
use tower::{Layer, Service};
use tower_fleet::{
    AdminStatus, Backend, Balance, BalanceLayer, CircuitBreakerLayer, CircuitPolicy, FailoverLayer, Fleet, Mode,
    body::{ReplayBody, ReplayMemory},
    failover::{CommitPoint, Decision},
    outcome::ErrorsOnly,
    pick::{Hash, RoundRobin, Strategy, Weighted},
};

/// A figure of a row: what it is, its value and its unit.
type Figure = (&'static str, f64, &'static str);

/// What is under pressure, and its figures.
type Row = (&'static str, fn() -> Vec<Figure>);

/// All rows.
const ROWS: &[Row] = &[
    ("herd: 10,000 requests wait for a breaker with one permit", breaker_herd),
    ("herd: 10,000 doors wait for a fleet with one permit", fleet_herd),
    ("herd: the open time of a breaker ends, 10,000 wait", open_time_herd),
    ("openings: 10,000 under traffic, 16 doors, round robin", || openings(RoundRobin)),
    ("openings: 10,000 under traffic, 16 doors, weighted", || openings(Weighted)),
    ("members: one of 10,000 changes, round robin", || members(RoundRobin)),
    ("members: one of 10,000 changes, weighted", || members(Weighted)),
    ("members: one of 10,000 changes, hash", || members(Hash::by_classifier())),
    ("failing: a race over 10,000 backends", || failing(Mode::Race, 1)),
    ("failing: a sequence over 10,000 backends", || failing(Mode::Sequential, 1)),
    ("failing: a race over one and 9,999 spare backends", || failing(Mode::Race, 2)),
    ("failing: a sequence over one and 9,999 spare backends", || failing(Mode::Sequential, 2)),
    ("memory: a request body of 2,000 drips, kept for replay", kept_drips),
    ("memory: a response of 2,000 drips before its commit", peeked_drips),
];

fn main() {
    let words: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    println!("{:<60} {:<44} {:>12}", "under pressure", "figure", "value");
    for (name, figures) in ROWS.iter().filter(|(name, _)| words.iter().all(|word| name.contains(word))) {
        let mut shown = *name;
        for (figure, value, unit) in figures() {
            println!("{shown:<60} {figure:<44} {value:>12.1} {unit}");
            shown = "";
        }
    }
}

const MANY: usize = 10_000;

/// A service that fails or is pending when it is told to.
#[derive(Clone, Default)]
struct Site {
    fails: Arc<AtomicBool>,
    is_pending: Arc<AtomicBool>,
}

impl Service<()> for Site {
    type Response = ();
    type Error = io::Error;
    type Future = Ready<io::Result<()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_pending.load(Ordering::Relaxed) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let fails = self.fails.load(Ordering::Relaxed);
        ready(if fails { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) })
    }
}

/// Opens with the first failure, for an hour.
fn policy() -> CircuitPolicy {
    CircuitPolicy::new().consecutive(1).open_for(Duration::from_secs(3600))
}

/// Counts its wake-ups.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Services that wait. Each is polled when it was woken.
struct Crowd<S>(Vec<(S, Arc<Wakes>)>);

impl<S: Service<()>> Crowd<S> {
    fn waiting(services: impl Iterator<Item = S>) -> Self {
        let mut crowd = Self(services.map(|service| (service, Arc::default())).collect());
        assert!((0..crowd.0.len()).all(|index| !crowd.poll(index)), "all are pending");
        crowd.0.iter().for_each(|(_, wakes)| wakes.0.store(0, Ordering::Relaxed));
        crowd
    }

    fn poll(&mut self, index: usize) -> bool {
        let (service, wakes) = &mut self.0[index];
        let waker = Waker::from(Arc::clone(wakes));
        matches!(service.poll_ready(&mut Context::from_waker(&waker)), Poll::Ready(Ok(())))
    }

    /// Polls what was woken until nothing is. Returns the number of polls, and which are ready.
    fn run(&mut self) -> (usize, Vec<usize>) {
        let (mut polls, mut ready) = (0, Vec::new());
        loop {
            let before = polls;
            for index in 0..self.0.len() {
                if self.0[index].1.0.swap(0, Ordering::Relaxed) > 0 {
                    polls += 1;
                    if self.poll(index) {
                        ready.push(index);
                    }
                }
            }
            if polls == before {
                return (polls, ready);
            }
        }
    }
}

/// Runs in a runtime whose time stands still.
fn paused<T>(run: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(run())
}

fn is_ready(service: &mut impl Service<()>) -> bool {
    service.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready()
}

const TURNS: usize = 100;

fn breaker_herd() -> Vec<Figure> {
    paused(async || {
        let service = CircuitBreakerLayer::plain(policy()).expect("a valid policy").waiting().layer(Site::default());
        let switch = service.switch();
        switch.trip();
        switch.probe_now();
        let mut prober = service.clone();
        assert!(is_ready(&mut prober));
        let mut crowd = Crowd::waiting((0..MANY).map(|_| service.clone()));
        drop(prober);
        let mut polls = 0;
        for _ in 0..TURNS {
            let (polled, ready) = crowd.run();
            polls += polled;
            // The permit comes back without a call.
            ready.into_iter().for_each(|index| crowd.0[index].0 = service.clone());
        }
        switch.reset();
        let (closing, _) = crowd.run();
        vec![
            ("polls per returned permit", polls as f64 / TURNS as f64, ""),
            ("polls at the closing", closing as f64, ""),
        ]
    })
}

fn fleet_herd() -> Vec<Figure> {
    paused(async || {
        let (a, b) = (Site::default(), Site::default());
        let backends = [Backend::new("a", a.clone()), Backend::new("b", b)];
        let fleet = Fleet::plain().circuit_breaker(policy()).backends(backends).build().expect("a valid fleet");
        let switch = fleet.switch("b").expect("a circuit");
        let door = BalanceLayer::round_robin().layer(fleet.clone());
        let probe = |door: &mut Balance<Site, RoundRobin, ErrorsOnly>| {
            assert!(is_ready(door));
            door.call(())
        };
        switch.trip();
        switch.probe_now();
        let mut running = probe(&mut door.clone());
        a.is_pending.store(true, Ordering::Relaxed);
        let mut crowd = Crowd::waiting((0..MANY).map(|_| door.clone()));
        let mut polls = 0;
        for _ in 0..TURNS {
            // The probe is cancelled, and the next one is sent.
            drop(running);
            let (polled, ready) = crowd.run();
            polls += polled;
            running = crowd.0[ready[0]].0.call(());
            // What the probe itself woke.
            polls += crowd.run().0;
            // They wait again.
            for index in ready {
                crowd.0[index].0 = door.clone();
                assert!(!crowd.poll(index));
            }
        }
        fleet.set_weight("a", 2).expect("a valid weight");
        let (weight, _) = crowd.run();
        switch.reset();
        let (closing, _) = crowd.run();
        vec![
            ("polls per returned permit", polls as f64 / TURNS as f64, ""),
            ("polls at a change of weight", weight as f64, ""),
            ("polls at the closing", closing as f64, ""),
        ]
    })
}

fn open_time_herd() -> Vec<Figure> {
    paused(async || {
        let service = CircuitBreakerLayer::plain(policy()).expect("a valid policy").waiting().layer(Site::default());
        service.switch().trip();
        let mut crowd = Crowd::waiting((0..MANY).map(|_| service.clone()));
        tokio::time::advance(Duration::from_secs(3600) - Duration::from_millis(1)).await;
        assert_eq!(crowd.run().0, 0);
        let (mut most, mut total, mut probes) = (0, 0, 0);
        for _ in 0..1_000 {
            tokio::time::advance(Duration::from_millis(1)).await;
            tokio::task::yield_now().await;
            let (polls, ready) = crowd.run();
            (most, total, probes) = (most.max(polls), total + polls, probes + ready.len());
        }
        assert_eq!(probes, 1);
        vec![("most polls in a millisecond", most as f64, ""), ("polls in a second", total as f64, "")]
    })
}

/// Two threads send requests through eight doors each. One of them opens a circuit after each round of its doors.
fn openings<P: Strategy>(strategy: P) -> Vec<Figure> {
    let backends = (0..=MANY).map(|index| Backend::new(index.to_string(), Site::default()));
    let fleet = Fleet::plain().circuit_breaker(policy()).backends(backends).build().expect("a valid fleet");
    let door = |_| BalanceLayer::new(strategy.clone()).layer(fleet.clone());
    let (mut doors, mut others): (Vec<_>, Vec<_>) = ((0..8).map(door).collect(), (0..8).map(door).collect());
    let switches: Vec<_> = (0..MANY).map(|index| fleet.switch(&index.to_string()).expect("a circuit")).collect();
    let is_over = AtomicBool::new(false);
    let mut traffic = Traffic::default();
    let mut all_open = Duration::ZERO;
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut traffic = Traffic::default();
            while !is_over.load(Ordering::Relaxed) {
                traffic.send(&mut others);
            }
            traffic
        });
        let start = Instant::now();
        for switch in &switches {
            switch.trip();
            traffic.send(&mut doors);
        }
        all_open = start.elapsed();
        is_over.store(true, Ordering::Relaxed);
        let other = other.join().expect("traffic");
        traffic.served += other.served;
        traffic.lost += other.lost;
        traffic.slowest = traffic.slowest.max(other.slowest);
    });
    vec![
        ("time until all are open", all_open.as_secs_f64() * 1e3, "ms"),
        ("slowest request", traffic.slowest.as_secs_f64() * 1e3, "ms"),
        ("requests served meanwhile", traffic.served as f64, ""),
        ("requests lost", traffic.lost as f64, ""),
    ]
}

/// One backend of many changes, and a request follows. The second time is that of the request, which selects from the new
/// set. The third one is how long the change or the request keep another thread waiting for the fleet's lock.
fn members<P: Strategy>(strategy: P) -> Vec<Figure> {
    // Weights that differ, and two tiers.
    let backend = |index: usize, weight: u32| {
        let backend = Backend::new(index.to_string(), index);
        backend.weight(1 + index as u32 % 7 + weight).priority(i32::from(index < MANY - 10))
    };
    let wanted = |weight| (0..MANY).map(move |index| backend(index, if index == MANY / 2 { weight } else { 0 }));
    let fleet = Fleet::plain().circuit_breaker(policy()).build().expect("a valid fleet");
    let make = |_: &Backend<usize>| Site::default();
    fleet.reconcile(wanted(0), make).expect("a valid set");
    let mut door = BalanceLayer::new(strategy).layer(fleet.clone());
    assert!(call(&mut door));
    let middle = (MANY / 2).to_string();
    let site = |weight| Backend::new(middle.clone(), Site::default()).weight(weight).priority(1);
    let changes: [(&str, &dyn Fn(u32)); 7] = [
        ("inserted", &|turn| {
            let added = Backend::new(format!("new-{turn}"), Site::default()).priority(1);
            fleet.insert(added).expect("a valid backend");
        }),
        ("removed", &|turn| assert!(fleet.remove(&format!("new-{turn}")))),
        ("replaced", &|turn| fleet.replace(site(1 + turn)).expect("a valid backend")),
        ("another weight", &|turn| fleet.set_weight(&middle, 100 + turn).expect("a valid weight")),
        ("another tier", &|turn| assert!(fleet.set_priority(&middle, (turn % 2) as i32))),
        ("drained, and back", &|turn| {
            let status = if turn % 2 == 0 { AdminStatus::Draining } else { AdminStatus::Healthy };
            assert!(fleet.set_status(&middle, status));
        }),
        ("reconciled with one difference", &|turn| {
            let changed = fleet.reconcile(wanted(1 + turn), make).expect("a valid set");
            assert_eq!(changed.updated.len() + changed.replaced.len(), 1, "{changed:?}");
        }),
    ];
    let (is_over, longest) = (AtomicBool::new(false), AtomicUsize::new(0));
    let watch = || {
        while !is_over.load(Ordering::Relaxed) {
            let start = Instant::now();
            std::hint::black_box(fleet.len());
            longest.fetch_max(start.elapsed().as_nanos() as usize, Ordering::Relaxed);
        }
    };
    let mut figures = Vec::new();
    for (name, change) in changes {
        let [mut edits, mut requests, mut waits] = [const { Vec::new() }; 3];
        for turn in 0..20 {
            let start = Instant::now();
            change(turn);
            let edited = start.elapsed();
            assert!(call(&mut door));
            requests.push(start.elapsed() - edited);
            edits.push(edited);
        }
        is_over.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(watch);
            for turn in 20..40 {
                longest.store(0, Ordering::Relaxed);
                change(turn);
                assert!(call(&mut door));
                waits.push(Duration::from_nanos(longest.load(Ordering::Relaxed) as u64));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        figures.extend([
            (name, quartile(edits), "µs"),
            ("… the next request", quartile(requests), "µs"),
            ("… longest wait for the lock", quartile(waits), "µs"),
        ]);
    }
    figures
}

/// The lower quartile, in microseconds: a busy machine moves it less than the median.
fn quartile(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 4].as_secs_f64() * 1e6
}

/// One request, all of whose attempts fail. In one tier, or with a first backend above all others.
fn failing(mode: Mode, tiers: i32) -> Vec<Figure> {
    let site = Site { fails: Arc::new(AtomicBool::new(true)), ..Site::default() };
    let priority = |index| if index == 0 { tiers } else { 1 };
    let backends = (0..MANY).map(|index| Backend::new(index.to_string(), site.clone()).priority(priority(index)));
    let fleet = Fleet::plain().backends(backends).build().expect("a valid fleet");
    let door = FailoverLayer::plain().mode(mode).build().expect("valid settings").layer(fleet);
    paused(async || {
        let mut request = std::pin::pin!(door.oneshot(()));
        let (mut polls, mut longest, start) = (0, Duration::ZERO, Instant::now());
        let result = std::future::poll_fn(|cx| {
            let before = Instant::now();
            let polled = request.as_mut().poll(cx);
            (polls, longest) = (polls + 1, longest.max(before.elapsed()));
            polled
        });
        let attempts = result.await.expect_err("all fail").ledger().attempts().len();
        vec![
            ("attempts", attempts as f64, ""),
            ("time", start.elapsed().as_secs_f64() * 1e3, "ms"),
            ("polls", polls as f64, ""),
            ("longest poll", longest.as_secs_f64() * 1e3, "ms"),
        ]
    })
}

const DRIPS: usize = 2_000;

/// A body of single bytes, each in the read buffer of its connection, as an HTTP/1 server has them.
fn drips() -> impl Body<Data = Bytes, Error = io::Error> + Unpin {
    let drip = || Bytes::from(vec![b'x'; 8 << 10]).split_to(1);
    StreamBody::new(stream::iter((0..DRIPS).map(move |_| Ok(Frame::data(drip())))))
}

/// Drops a value. Returns how much memory that frees.
fn freed<T>(value: T) -> f64 {
    -allocation_counter::measure(|| drop(value)).bytes_current as f64
}

fn kept_drips() -> Vec<Figure> {
    let memory = ReplayMemory::new(64 << 20);
    let body = ReplayBody::bounded(drips(), 1 << 20, &memory);
    let attempt = body.again().expect("a copy");
    let read = attempt.collect().now_or_never().expect("all is there");
    drop(read);
    let charged = memory.used() as f64;
    let is_kept = body.unreplayable().is_none();
    vec![
        ("bytes of data", DRIPS as f64, ""),
        ("kept for another attempt", f64::from(u8::from(is_kept)), ""),
        ("bytes charged", charged, ""),
        ("bytes held", freed(body), ""),
    ]
}

fn peeked_drips() -> Vec<Figure> {
    let service =
        tower::service_fn(async |_: Request<ReplayBody<Empty<Bytes>>>| Ok::<_, io::Error>(Response::new(drips())));
    let fleet = Fleet::builder().backend(Backend::new("a", service)).build().expect("a valid fleet");
    let commit = CommitPoint::prelude(64 << 10, |data| match data.len() {
        ..DRIPS => Decision::Wait,
        _ => Decision::Accept,
    });
    let door = FailoverLayer::builder().commit(commit).build().expect("valid settings").layer(fleet);
    let response = paused(async || door.oneshot(Request::new(Empty::new())).await.expect("a response"));
    vec![("bytes of data", DRIPS as f64, ""), ("bytes held", freed(response), "")]
}

/// The requests of one thread.
#[derive(Default)]
struct Traffic {
    served: usize,
    lost: usize,
    slowest: Duration,
}

impl Traffic {
    /// Sends one request through each door.
    fn send<P: Strategy>(&mut self, doors: &mut [Balance<Site, P, ErrorsOnly>]) {
        for door in doors {
            let start = Instant::now();
            let is_served = call(door);
            self.slowest = self.slowest.max(start.elapsed());
            *if is_served { &mut self.served } else { &mut self.lost } += 1;
        }
    }
}

fn call<P: Strategy>(door: &mut Balance<Site, P, ErrorsOnly>) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(door.poll_ready(&mut cx).is_ready(), "every backend is ready");
    matches!(std::pin::pin!(door.call(())).poll(&mut cx), Poll::Ready(Ok(())))
}
