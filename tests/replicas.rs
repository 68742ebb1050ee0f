//! What replicas tell each other, through an exchange in memory and under paused time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fmt,
    future::{pending, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, stream};
use tower::{Layer, service_fn, util::BoxCloneSyncService};
use tower_fleet::{
    AdminStatus, Backend, BalanceLayer, CircuitPolicy, CircuitState, Fleet,
    fleet::{BackendName, Snapshot},
    outcome::ErrorsOnly,
    replicas::{
        Exchange, ExchangeError, Link, MemoryExchange, MemoryLink, MemoryNews, News, Report, Reports, Share, Sharing,
        Stamp,
    },
};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

type Replica = Fleet<(), ErrorsOnly>;

fn fleet(names: &[&str]) -> Replica {
    let policy = CircuitPolicy::new().open_for(10 * SECOND);
    let backends = names.iter().map(|name| Backend::new(*name, ()));
    Fleet::plain().name("search").backends(backends).circuit_breaker(policy).build().unwrap()
}

/// A replica that shares by an exchange, in a task of its own.
fn replica(exchange: &MemoryExchange, names: &[&str]) -> Replica {
    let fleet = fleet(names);
    tokio::spawn(sharing(&fleet, exchange));
    fleet
}

fn sharing(fleet: &Replica, exchange: &MemoryExchange) -> Sharing {
    fleet.share(Share::new(exchange.clone())).unwrap()
}

fn backend(fleet: &Replica, name: &str) -> Snapshot {
    fleet.snapshot().into_iter().find(|backend| backend.name == name).unwrap()
}

fn hinted(fleet: &Replica) -> Vec<String> {
    let hinted = fleet.snapshot().into_iter().filter(|backend| backend.hinted_for.is_some());
    hinted.map(|backend| backend.name.to_string()).collect()
}

fn trip(fleet: &Replica, name: &str) {
    fleet.switch(name).unwrap().trip();
}

/// Lets the replicas tell each other what there is.
async fn settle() {
    tokio::time::sleep(10 * MS).await;
}

// C55, C69
#[tokio::test(start_paused = true)]
async fn an_opening_is_a_hint_at_the_other_replicas() {
    let exchange = MemoryExchange::new();
    let [one, two, three] = [(); 3].map(|()| replica(&exchange, &["a", "b", "c"]));
    settle().await;
    trip(&one, "a");
    settle().await;
    for other in [&two, &three] {
        assert_eq!(hinted(other), ["a"]);
        assert_eq!(backend(other, "a").state, CircuitState::Closed, "a hint is not an opening");
        let left = backend(other, "a").hinted_for.unwrap();
        assert!(left > 9 * SECOND && left <= 10 * SECOND, "{left:?}");
    }
    assert_eq!(hinted(&one), [""; 0], "what a replica found itself is no hint to it");
}

// C55: a replica that starts later reads it.
#[tokio::test(start_paused = true)]
async fn a_new_replica_reads_what_was_reported_before() {
    let exchange = MemoryExchange::new();
    let one = replica(&exchange, &["a", "b"]);
    settle().await;
    trip(&one, "a");
    settle().await;
    let two = replica(&exchange, &["a", "b"]);
    settle().await;
    assert_eq!(hinted(&two), ["a"]);
    // And so does a backend that is added later.
    let three = replica(&exchange, &["b", "c"]);
    settle().await;
    three.insert(Backend::new("a", ())).unwrap();
    settle().await;
    assert_eq!(hinted(&three), ["a"]);
}

// C55: an opening before the first connection counts too.
#[tokio::test(start_paused = true)]
async fn an_opening_before_the_start_is_reported() {
    let exchange = MemoryExchange::new();
    let (one, two) = (fleet(&["a", "b"]), replica(&exchange, &["a", "b"]));
    trip(&one, "a");
    tokio::time::sleep(SECOND).await;
    tokio::spawn(sharing(&one, &exchange));
    settle().await;
    let left = backend(&two, "a").hinted_for.unwrap();
    assert!(left > 8 * SECOND && left <= 9 * SECOND, "{left:?}");
}

// C55: one recovery is told to all, and they probe at once.
#[tokio::test(start_paused = true)]
async fn a_recovery_ends_the_hints_and_open_circuits_are_probed() {
    let exchange = MemoryExchange::new();
    let [one, two, three] = [(); 3].map(|()| replica(&exchange, &["a", "b"]));
    settle().await;
    trip(&one, "a");
    trip(&two, "a");
    settle().await;
    assert_eq!(hinted(&three), ["a"]);
    one.switch("a").unwrap().reset();
    settle().await;
    assert_eq!(backend(&one, "a").state, CircuitState::Closed);
    assert_eq!(backend(&two, "a").state, CircuitState::HalfOpen, "its own opening is probed now");
    assert_eq!((backend(&three, "a").state, hinted(&three)), (CircuitState::HalfOpen, vec![]));
    // An opening after the recovery counts again.
    trip(&two, "a");
    settle().await;
    assert_eq!((hinted(&one), hinted(&three)), (vec!["a".to_owned()], vec!["a".to_owned()]));
}

// C69: what was reported before a recovery and is repeated later changes nothing.
#[tokio::test(start_paused = true)]
async fn nothing_is_hinted_again_after_a_recovery() {
    let exchange = MemoryExchange::new();
    let [one, two] = [(); 2].map(|()| replica(&exchange, &["a", "b"]));
    settle().await;
    trip(&one, "a");
    settle().await;
    one.switch("a").unwrap().reset();
    for _ in 0..9 {
        tokio::time::sleep(5 * SECOND).await;
        assert_eq!((hinted(&one), hinted(&two)), (vec![], vec![]));
    }
}

// C55, C71
#[tokio::test(start_paused = true)]
async fn a_cool_down_is_shared_and_ends_without_probes() {
    let exchange = MemoryExchange::new();
    let [one, two] = [(); 2].map(|()| replica(&exchange, &["a", "b"]));
    settle().await;
    one.cool_down("a", 20 * SECOND);
    settle().await;
    let left = backend(&two, "a").hinted_for.unwrap();
    assert!(left > 19 * SECOND && left <= 20 * SECOND, "{left:?}");
    assert_eq!(backend(&two, "a").cools_for, None);
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!((hinted(&two), backend(&two, "a").state), (vec![], CircuitState::Closed));
}

// C55: the latest word of an operator counts everywhere.
#[tokio::test(start_paused = true)]
async fn what_an_operator_sets_is_set_everywhere() {
    let exchange = MemoryExchange::new();
    let [one, two, three] = [(); 3].map(|()| replica(&exchange, &["a", "b"]));
    settle().await;
    one.drain("a");
    one.switch("a").unwrap().force_open();
    settle().await;
    for fleet in [&one, &two, &three] {
        let a = backend(fleet, "a");
        assert_eq!((a.status, a.state), (AdminStatus::Draining, CircuitState::ForcedOpen));
    }
    two.set_status("a", AdminStatus::Healthy);
    settle().await;
    three.switch("a").unwrap().reset();
    settle().await;
    for fleet in [&one, &two, &three] {
        let a = backend(fleet, "a");
        assert_eq!((a.status, a.state), (AdminStatus::Healthy, CircuitState::Closed));
    }
    // Nor does it come back.
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(backend(&one, "a").status, AdminStatus::Healthy);
}

// C55: a status is kept by the replicas, beyond the end of the one where it was set.
#[tokio::test(start_paused = true)]
async fn a_status_outlives_its_replica_and_reaches_new_ones() {
    let exchange = MemoryExchange::new();
    let [one, two] = [(); 2].map(|()| replica(&exchange, &["a", "b"]));
    settle().await;
    one.drain("a");
    settle().await;
    drop(one);
    tokio::time::sleep(60 * SECOND).await;
    let three = replica(&exchange, &["a", "b"]);
    settle().await;
    assert_eq!(backend(&two, "a").status, AdminStatus::Draining);
    assert_eq!(backend(&three, "a").status, AdminStatus::Draining);
    // What a replica starts with is older than all that was set since.
    let four = Fleet::plain().name("search").backends([Backend::new("a", ()), Backend::new("b", ())]);
    let four = four.circuit_breaker(CircuitPolicy::new()).build().unwrap();
    two.set_status("a", AdminStatus::Healthy);
    settle().await;
    four.drain("a");
    tokio::spawn(sharing(&four, &exchange));
    settle().await;
    assert_eq!((backend(&four, "a").status, backend(&two, "a").status), (AdminStatus::Healthy, AdminStatus::Healthy));
}

// C69: settings per replica.
#[tokio::test(start_paused = true)]
async fn overrides_stay_local_where_they_are_not_shared() {
    let exchange = MemoryExchange::new();
    let (one, two) = (fleet(&["a", "b"]), replica(&exchange, &["a", "b"]));
    tokio::spawn(one.share(Share::new(exchange.clone()).overrides(false)).unwrap());
    settle().await;
    one.drain("a");
    two.drain("b");
    settle().await;
    assert_eq!((backend(&two, "a").status, backend(&one, "b").status), (AdminStatus::Healthy, AdminStatus::Healthy));
}

// C69: a hint is capped, and the operator here knows better.
#[tokio::test(start_paused = true)]
async fn a_replica_that_sees_everything_fail_takes_no_fleet_down() {
    let exchange = MemoryExchange::new();
    let names = ["a", "b", "c", "d", "e"];
    let [one, two] = [(); 2].map(|()| replica(&exchange, &names));
    settle().await;
    names.iter().for_each(|name| trip(&one, name));
    settle().await;
    assert_eq!(hinted(&two).len(), 2, "at most half");
    // Where a circuit is forced closed, the hint ends, and another backend is hinted instead.
    let first = hinted(&two)[0].clone();
    two.switch(&first).unwrap().force_closed();
    tokio::time::sleep(SECOND).await;
    assert!(!hinted(&two).contains(&first));
    assert_eq!(hinted(&two).len(), 2, "what was refused is tried again");
    assert!(names.iter().all(|name| one.drain(name)));
    settle().await;
    let drained = two.snapshot().into_iter().filter(|backend| backend.status != AdminStatus::Healthy).count();
    assert_eq!(drained, 2, "at most half");
}

// C69: ended by what this replica finds itself.
#[tokio::test(start_paused = true)]
async fn a_good_probe_here_ends_the_hint() {
    let exchange = MemoryExchange::new();
    let [one, two] = [(); 2].map(|()| replica(&exchange, &["a", "b", "c"]));
    settle().await;
    trip(&two, "a");
    settle().await;
    trip(&one, "a");
    one.switch("a").unwrap().reset();
    settle().await;
    assert_eq!(hinted(&one), [""; 0]);
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(hinted(&one), [""; 0]);
}

// C69: what an operator resets is not hinted again by the same report, but by the next one.
#[tokio::test(start_paused = true)]
async fn an_operator_ends_a_hint_for_good() {
    let exchange = MemoryExchange::new();
    let names = ["a", "b", "c", "d"];
    let [one, two] = [(); 2].map(|()| replica(&exchange, &names));
    settle().await;
    one.cool_down("a", 60 * SECOND);
    settle().await;
    assert_eq!(hinted(&two), ["a"]);
    two.switch("a").unwrap().reset();
    for _ in 0..8 {
        assert_eq!(hinted(&two), [""; 0]);
        tokio::time::sleep(5 * SECOND).await;
        // The report of `a` changes, but not in what was reset.
        one.set_status("a", AdminStatus::Degraded);
        settle().await;
        one.set_status("a", AdminStatus::Healthy);
        settle().await;
    }
    one.cool_down("a", 60 * SECOND);
    settle().await;
    assert_eq!(hinted(&two), ["a"]);
}

// C55: a replica that has missed the recoveries reports its openings all the same.
#[tokio::test(start_paused = true)]
async fn a_replica_without_the_history_is_heard() {
    let exchange = MemoryExchange::new();
    let one = replica(&exchange, &["a", "b"]);
    settle().await;
    for _ in 0..3 {
        trip(&one, "a");
        settle().await;
        one.switch("a").unwrap().reset();
        settle().await;
    }
    let two = fleet(&["a", "b"]);
    trip(&two, "a");
    tokio::spawn(sharing(&two, &exchange));
    settle().await;
    assert_eq!((hinted(&one), backend(&two, "a").state), (vec!["a".to_owned()], CircuitState::Open));
}

// C55: nothing is left behind, and nothing runs on.
#[tokio::test(start_paused = true)]
async fn sharing_ends_with_the_fleet_and_may_be_dropped_at_any_time() {
    let exchange = MemoryExchange::new();
    let fleet = fleet(&["a", "b"]);
    let running = tokio::spawn(sharing(&fleet, &exchange));
    settle().await;
    drop(sharing(&fleet, &exchange));
    let other = tokio::spawn(sharing(&fleet, &exchange));
    settle().await;
    other.abort();
    drop(fleet);
    running.await.unwrap();
}

// C55: one permit for all replicas.
#[tokio::test(start_paused = true)]
async fn one_replica_of_two_hundred_probes() {
    let exchange = MemoryExchange::new();
    let fleets: Vec<_> = (0..200).map(|_| replica(&exchange, &["a", "b"])).collect();
    settle().await;
    fleets.iter().for_each(|fleet| trip(fleet, "a"));
    let due = |fleet: &&Replica| backend(fleet, "a").state == CircuitState::HalfOpen;
    let mut most = 0;
    for _ in 0..90 {
        tokio::time::sleep(149 * MS).await;
        most = most.max(fleets.iter().filter(due).count());
    }
    assert_eq!(most, 1, "one circuit was due, in 13 s with an open time of 10 s");
    // Its probe is good: all the others probe at once.
    let prober = fleets.iter().find(due).unwrap();
    prober.switch("a").unwrap().reset();
    settle().await;
    assert_eq!(fleets.iter().filter(due).count(), 199);
}

// C55: a permit that is not used passes on.
#[tokio::test(start_paused = true)]
async fn another_replica_probes_when_the_lease_is_over() {
    let exchange = MemoryExchange::new();
    let fleets: Vec<_> = (0..3).map(|_| replica(&exchange, &["a", "b"])).collect();
    settle().await;
    fleets.iter().for_each(|fleet| trip(fleet, "a"));
    let due = |fleet: &Replica| backend(fleet, "a").state == CircuitState::HalfOpen;
    tokio::time::sleep(11 * SECOND).await;
    let first: Vec<_> = (0..3).filter(|at| due(&fleets[*at])).collect();
    assert_eq!(first.len(), 1);
    // It has no request to probe with.
    let others = (0..3).filter(|at| *at != first[0]);
    let mut served = false;
    for _ in 0..100 {
        tokio::time::sleep(100 * MS).await;
        served |= others.clone().any(|at| due(&fleets[at]));
        assert!(fleets.iter().filter(|fleet| due(fleet)).count() <= 1, "one at a time");
    }
    assert!(served, "another one has its turn");
}

// C43, C55: a prober gets the same permits.
#[tokio::test(start_paused = true)]
async fn a_prober_asks_for_a_permit() {
    let exchange = MemoryExchange::new();
    let (one, two) = (fleet(&["a", "b"]), fleet(&["a", "b"]));
    let (of_one, of_two) = (sharing(&one, &exchange), sharing(&two, &exchange));
    let (permits_one, permits_two) = (of_one.permits(), of_two.permits());
    let a = backend(&one, "a").name;
    let start = tokio::time::Instant::now();
    assert!(permits_one.may_probe(&a).await, "nothing shares yet");
    assert!(start.elapsed() <= 100 * MS);
    let running = [tokio::spawn(of_one), tokio::spawn(of_two)];
    settle().await;
    assert!(permits_one.may_probe(&a).await);
    assert!(!permits_two.may_probe(&a).await);
    assert!(permits_two.may_probe(&backend(&one, "b").name).await, "another backend");
    tokio::time::sleep(6 * SECOND).await;
    assert!(permits_two.may_probe(&a).await, "the lease is over");
    running.iter().for_each(tokio::task::JoinHandle::abort);
    settle().await;
    assert!(permits_one.may_probe(&a).await, "nothing shares any more");
}

// C55: also where many backends are due at once.
#[tokio::test(start_paused = true)]
async fn many_probes_at_once_get_a_permit_each() {
    let exchange = Flaky::new(Fault::None);
    let names: Vec<_> = (0..200).map(|name| name.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let [one, two] = [(); 2].map(|()| fleet(&names));
    let sharing = [&one, &two].map(|fleet| fleet.share(Share::new(exchange.clone())).unwrap());
    let permits = [&sharing[0], &sharing[1]].map(Sharing::permits);
    let _running = sharing.map(tokio::spawn);
    settle().await;
    let backends: Vec<_> = one.snapshot().into_iter().map(|backend| backend.name).collect();
    let asks = backends.iter().flat_map(|name| permits.iter().map(move |permits| permits.may_probe(name)));
    let answers = futures::future::join_all(asks).await;
    assert!(answers.chunks(2).all(|answers| answers[0] != answers[1]), "one of both");
}

/// An exchange on which every backend is out for as long as can be, and recovers all the time.
#[derive(Clone)]
struct Liar {
    epoch: Arc<AtomicU64>,
    recovers: bool,
    merges: Arc<AtomicU64>,
}

impl Liar {
    fn new(recovers: bool) -> Self {
        Self { epoch: Arc::default(), recovers, merges: Arc::default() }
    }

    fn reports(&self, backends: &[BackendName]) -> Reports {
        let now = Stamp::from_millis(1_000_000_000_000);
        let epoch = if self.recovers { self.epoch.fetch_add(1, Ordering::Relaxed) } else { 9 };
        let lie = |name: &BackendName| {
            let mut report = Report::new(name.clone());
            report.epoch = epoch;
            (report.open_until, report.cool_until) = (Stamp::from_millis(u64::MAX), Stamp::from_millis(u64::MAX));
            report
        };
        Reports { now, reports: backends.iter().map(lie).collect() }
    }
}

impl Exchange for Liar {
    type Link = Self;
    type News = stream::Pending<News>;

    fn connect(&self, _: &str) -> impl Future<Output = Result<(Self, Self::News), ExchangeError>> + Send {
        ready(Ok((self.clone(), stream::pending())))
    }
}

impl Link for Liar {
    fn merge(&self, reports: Vec<Report>) -> impl Future<Output = Result<Reports, ExchangeError>> + Send + 'static {
        let names: Vec<_> = reports.into_iter().map(|report| report.backend).collect();
        assert!(self.merges.fetch_add(1, Ordering::Relaxed) < 1_000, "an endless exchange");
        ready(Ok(self.reports(&names)))
    }

    fn read(
        &self,
        backends: Vec<BackendName>,
    ) -> impl Future<Output = Result<Reports, ExchangeError>> + Send + 'static {
        ready(Ok(self.reports(&backends)))
    }

    fn take_permits(
        &self,
        backends: Vec<BackendName>,
        _: Duration,
    ) -> impl Future<Output = Result<Vec<Duration>, ExchangeError>> + Send + 'static {
        ready(Ok(vec![Duration::MAX; backends.len()]))
    }

    fn return_permits(&self, _: Vec<BackendName>) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static {
        ready(Ok(()))
    }

    fn ping(&self) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static {
        ready(Ok(()))
    }
}

// C69: neither all at once, nor one for ever, nor for longer than the limit at a time; and what is found here counts.
#[tokio::test(start_paused = true)]
async fn an_exchange_that_lies_keeps_a_backend_out_for_half_of_the_time_at_most() {
    for recovers in [false, true] {
        let names = ["a", "b", "c", "d", "e"];
        let fleet = fleet(&names);
        let share = Share::new(Liar::new(recovers)).max_hint(60 * SECOND);
        tokio::spawn(fleet.share(share).unwrap());
        let mut out = [0; 5];
        for _ in 0..1200 {
            tokio::time::sleep(SECOND).await;
            let snapshot = fleet.snapshot();
            let is_out = |it: &Snapshot| it.hinted_for.is_some() || it.state == CircuitState::Open;
            assert!(snapshot.iter().filter(|it| is_out(it)).count() <= 2);
            snapshot.iter().zip(&mut out).for_each(|(it, out)| *out += u32::from(is_out(it)));
        }
        assert!(out.iter().all(|out| *out <= 620), "{out:?}");
        assert!(recovers || out.iter().any(|out| *out > 30), "{out:?}");
    }
}

// C55: a replica that knows of more recoveries tells of them, but not without an end.
#[tokio::test(start_paused = true)]
async fn an_exchange_that_forgets_recoveries_is_not_hammered() {
    let (fleet, exchange) = (fleet(&["a", "b", "c"]), Liar::new(false));
    tokio::spawn(fleet.share(Share::new(exchange.clone())).unwrap());
    for _ in 0..20 {
        settle().await;
        trip(&fleet, "a");
        settle().await;
        fleet.switch("a").unwrap().reset();
    }
    tokio::time::sleep(60 * SECOND).await;
    let merges = exchange.merges.load(Ordering::Relaxed);
    assert!((40..100).contains(&merges), "{merges}");
}

// C55: permits that are never given keep a circuit open no longer than a lease or two at a time; a request is not held up.
#[tokio::test(start_paused = true)]
async fn an_exchange_that_denies_every_permit_is_asked_again() {
    let fleet = fleet(&["a", "b"]);
    let sharing = fleet.share(Share::new(Liar::new(false))).unwrap();
    let permits = sharing.permits();
    tokio::spawn(sharing);
    settle().await;
    assert!(!permits.may_probe(&backend(&fleet, "a").name).await);
}

/// An exchange of which connecting, or the link, may hang or fail.
#[derive(Clone)]
struct Flaky {
    inner: MemoryExchange,
    fault: Arc<Mutex<Fault>>,
    connections: Arc<AtomicU64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    ConnectHangs,
    ConnectFails,
    LinkHangs,
    LinkFails,
}

#[derive(Clone)]
struct FlakyLink(MemoryLink, Flaky);

impl Flaky {
    fn new(fault: Fault) -> Self {
        Self { inner: MemoryExchange::new(), fault: Arc::new(Mutex::new(fault)), connections: Arc::default() }
    }

    fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }
}

impl Exchange for Flaky {
    type Link = FlakyLink;
    type News = MemoryNews;

    async fn connect(&self, fleet: &str) -> Result<(FlakyLink, MemoryNews), ExchangeError> {
        let fault = *self.fault.lock().unwrap();
        match fault {
            Fault::ConnectHangs => pending().await,
            Fault::ConnectFails => return Err(ExchangeError::new("cannot connect")),
            _ => {}
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        let (link, news) = self.inner.connect(fleet).await?;
        Ok((FlakyLink(link, self.clone()), news))
    }
}

impl FlakyLink {
    fn or_fault<T>(
        &self,
        request: impl Future<Output = Result<T, ExchangeError>> + Send + 'static,
    ) -> impl Future<Output = Result<T, ExchangeError>> + Send + 'static {
        let fault = *self.1.fault.lock().unwrap();
        async move {
            // Each answer takes a moment, so that a future may be dropped between any two of them.
            tokio::time::sleep(MS).await;
            match fault {
                Fault::LinkHangs => pending().await,
                Fault::LinkFails => Err(ExchangeError::new("broken")),
                _ => request.await,
            }
        }
    }
}

impl Link for FlakyLink {
    fn merge(&self, reports: Vec<Report>) -> impl Future<Output = Result<Reports, ExchangeError>> + Send + 'static {
        self.or_fault(self.0.merge(reports))
    }

    fn read(
        &self,
        backends: Vec<BackendName>,
    ) -> impl Future<Output = Result<Reports, ExchangeError>> + Send + 'static {
        self.or_fault(self.0.read(backends))
    }

    fn take_permits(
        &self,
        backends: Vec<BackendName>,
        lease: Duration,
    ) -> impl Future<Output = Result<Vec<Duration>, ExchangeError>> + Send + 'static {
        self.or_fault(self.0.take_permits(backends, lease))
    }

    fn return_permits(
        &self,
        backends: Vec<BackendName>,
    ) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static {
        self.or_fault(self.0.return_permits(backends))
    }

    fn ping(&self) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static {
        self.or_fault(self.0.ping())
    }
}

// C55: whatever the exchange does, the circuits of this replica do as without it, and it is back within a second.
#[tokio::test(start_paused = true)]
async fn without_the_exchange_each_replica_decides_alone() {
    for fault in [Fault::ConnectHangs, Fault::ConnectFails, Fault::LinkHangs, Fault::LinkFails] {
        let exchange = Flaky::new(Fault::None);
        let [one, two] = [(); 2].map(|()| fleet(&["a", "b", "c", "d", "e", "f"]));
        let sharing = [&one, &two].map(|fleet| fleet.share(Share::new(exchange.clone())).unwrap());
        let permits = sharing[0].permits();
        let running = sharing.map(tokio::spawn);
        settle().await;
        exchange.set(Fault::LinkFails);
        tokio::time::sleep(2 * SECOND).await;
        exchange.set(fault);
        trip(&one, "a");
        tokio::time::sleep(9 * SECOND).await;
        assert_eq!(backend(&one, "a").state, CircuitState::Open);
        tokio::time::sleep(SECOND).await;
        assert_eq!(backend(&one, "a").state, CircuitState::HalfOpen);
        let start = tokio::time::Instant::now();
        assert!(permits.may_probe(&backend(&one, "b").name).await);
        let is_known = matches!(fault, Fault::ConnectHangs | Fault::ConnectFails);
        assert!(start.elapsed() <= if is_known { Duration::ZERO } else { 100 * MS });
        trip(&one, "b");
        one.drain("c");
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(hinted(&two), [""; 0]);
        exchange.set(Fault::None);
        // What hangs here does so until its time is over, unlike the requests to a server that goes on.
        let hangs = matches!(fault, Fault::ConnectHangs | Fault::LinkHangs);
        tokio::time::sleep(if hangs { 2 * SECOND } else { SECOND }).await;
        assert_eq!((hinted(&two), backend(&two, "c").status), (vec!["b".to_owned()], AdminStatus::Draining));
        assert!(running.iter().all(|sharing| !sharing.is_finished()));
        drop((one, two));
        for sharing in running {
            sharing.await.unwrap();
        }
    }
}

// C55: an exchange that is gone is not hammered.
#[tokio::test(start_paused = true)]
async fn attempts_to_connect_are_few() {
    let exchange = Flaky::new(Fault::LinkFails);
    let fleet = fleet(&["a", "b"]);
    tokio::spawn(fleet.share(Share::new(exchange.clone())).unwrap());
    tokio::time::sleep(60 * SECOND).await;
    let connections = exchange.connections.load(Ordering::Relaxed);
    assert!((100..=260).contains(&connections), "{connections}");
}

// C55: at every await.
#[tokio::test(start_paused = true)]
async fn sharing_may_be_dropped_at_every_moment() {
    let exchange = Flaky::new(Fault::None);
    let [one, two] = [(); 2].map(|()| fleet(&["a", "b", "c"]));
    for moment in 0..60 {
        let running = tokio::spawn(one.share(Share::new(exchange.clone())).unwrap());
        trip(&one, "a");
        one.set_status("b", if moment % 2 == 0 { AdminStatus::Draining } else { AdminStatus::Healthy });
        tokio::time::sleep(moment * MS / 4).await;
        running.abort();
        one.switch("a").unwrap().reset();
    }
    tokio::spawn(one.share(Share::new(exchange.clone())).unwrap());
    tokio::spawn(two.share(Share::new(exchange.clone())).unwrap());
    trip(&one, "a");
    tokio::time::sleep(SECOND).await;
    assert_eq!(hinted(&two), ["a"]);
}

/// Counts the events of sharing.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Events {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Message(String);
        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        if message.0.starts_with("sharing") {
            self.0.lock().unwrap().push(message.0);
        }
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

// C55: one warning per outage, and one event at its end.
#[tokio::test(start_paused = true)]
async fn an_outage_is_told_once() {
    let events = Events::default();
    let _subscribed = tracing::subscriber::set_default(events.clone());
    let exchange = Flaky::new(Fault::None);
    let fleet = fleet(&["a", "b"]);
    tokio::spawn(fleet.share(Share::new(exchange.clone())).unwrap());
    for _ in 0..2 {
        tokio::time::sleep(10 * SECOND).await;
        for fault in [Fault::ConnectFails, Fault::LinkHangs, Fault::LinkFails, Fault::ConnectHangs, Fault::None] {
            exchange.set(fault);
            tokio::time::sleep(10 * SECOND).await;
        }
    }
    let once = ["sharing interrupted; this replica decides alone", "sharing resumed"];
    assert_eq!(*events.0.lock().unwrap(), [once, once].concat());
}

// C43, C55: a real probe, by a request: its result is told.
#[tokio::test(start_paused = true)]
async fn a_good_probe_by_a_request_is_told_to_all() {
    let exchange = MemoryExchange::new();
    let is_up = Arc::new(AtomicBool::new(false));
    let replicas: Vec<_> = (0..3)
        .map(|_| {
            let is_up = Arc::clone(&is_up);
            let a = move |()| ready(if is_up.load(Ordering::Relaxed) { Ok(()) } else { Err("down") });
            let b = |()| ready(Ok::<(), &str>(()));
            let (a, b) = (BoxCloneSyncService::new(service_fn(a)), BoxCloneSyncService::new(service_fn(b)));
            let backends = [Backend::new("a", a), Backend::new("b", b)];
            let policy = CircuitPolicy::new().consecutive(1).open_for(10 * SECOND);
            let fleet = Fleet::plain().name("search").backends(backends).circuit_breaker(policy).build().unwrap();
            tokio::spawn(fleet.share(Share::new(exchange.clone())).unwrap());
            fleet
        })
        .collect();
    settle().await;
    let doors: Vec<_> = replicas.iter().map(|fleet| BalanceLayer::round_robin().layer(fleet.clone())).collect();
    let mut send = |at: usize| doors[at].clone().oneshot(()).now_or_never().unwrap().is_ok();
    assert!((0..2).any(|_| !send(0)), "one request of two fails");
    settle().await;
    let state = |at: usize| replicas[at].snapshot()[0].clone();
    assert!(state(1).hinted_for.is_some() && state(2).hinted_for.is_some());
    assert!((0..20).all(|_| send(1) && send(2)), "the others have learned from it");
    is_up.store(true, Ordering::Relaxed);
    tokio::time::sleep(11 * SECOND).await;
    assert!((0..60).all(|_| (0..3).all(&mut send)));
    settle().await;
    assert!((0..60).all(|_| (0..3).all(&mut send)));
    for at in 0..3 {
        assert_eq!((state(at).state, state(at).hinted_for), (CircuitState::Closed, None), "{at}");
    }
}

// C55: the limit on hints is one on lies, not on the outages of one backend.
#[tokio::test(start_paused = true)]
async fn an_outage_some_minutes_after_another_one_is_a_hint_too() {
    let exchange = MemoryExchange::new();
    let [one, two] = [(); 2].map(|()| replica(&exchange, &["a", "b"]));
    settle().await;
    for outage in 0..12 {
        trip(&one, "a");
        settle().await;
        assert_eq!(hinted(&two), ["a"], "outage {outage}");
        tokio::time::sleep(5 * SECOND).await;
        one.switch("a").unwrap().reset();
        settle().await;
        assert_eq!(hinted(&two), [""; 0]);
        two.switch("a").unwrap().reset();
        tokio::time::sleep(60 * SECOND).await;
    }
}

// C55: a prober that cannot reach a backend does not keep all others from it.
#[tokio::test(start_paused = true)]
async fn a_prober_that_fails_does_not_keep_the_permit_for_ever() {
    let exchange = MemoryExchange::new();
    let [one, two] = [(); 2].map(|()| {
        let policy = CircuitPolicy::new().open_for(3600 * SECOND);
        let backends = ["a", "b"].map(|name| Backend::new(name, ()));
        Fleet::plain().name("search").backends(backends).circuit_breaker(policy).build().unwrap()
    });
    let (of_one, of_two) = (sharing(&one, &exchange), sharing(&two, &exchange));
    let permits = [of_one.permits(), of_two.permits()];
    tokio::spawn(of_one);
    tokio::spawn(of_two);
    settle().await;
    trip(&one, "a");
    trip(&two, "a");
    settle().await;
    let (a, mut probes) = (backend(&one, "a").name, [0; 2]);
    // With the jitter of probers, each has its turns.
    for second in 0..400 {
        for (at, _) in [9, 11].into_iter().enumerate().filter(|(_, interval)| second % interval == 0) {
            probes[at] += u32::from(permits[at].may_probe(&a).await);
        }
        tokio::time::sleep(SECOND).await;
    }
    assert!(probes.iter().all(|probes| *probes >= 10), "{probes:?}");
}

/// Keeps the state of a fleet in memory.
#[cfg(feature = "file-state")]
#[derive(Clone, Default)]
struct Document(Arc<Mutex<Option<Vec<u8>>>>);

#[cfg(feature = "file-state")]
impl tower_fleet::state::Store for Document {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    async fn load(&self) -> std::io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn save(&self, document: Vec<u8>) -> std::io::Result<()> {
        *self.0.lock().unwrap() = Some(document);
        Ok(())
    }
}

// C54, C55: what a replica restores is older than what an operator set since, also for a backend that is found later.
#[cfg(feature = "file-state")]
#[tokio::test(start_paused = true)]
async fn a_restored_status_is_no_news() {
    let names = ["a", "b", "c", "d", "e", "f"];
    for is_late in [false, true] {
        // Of which each answer takes a moment, as that of a server does.
        let (exchange, document) = (Flaky::new(Fault::None), Document::default());
        let share = |fleet: &Replica| tokio::spawn(fleet.share(Share::new(exchange.clone())).unwrap());
        let [one, two] = [(); 2].map(|()| fleet(&names));
        let mut saver = one.restore(document.clone()).await;
        let _running = [&one, &two].map(share);
        settle().await;
        one.drain("a");
        one.switch("b").unwrap().force_open();
        settle().await;
        saver.save().await.unwrap();
        drop((one, saver));
        two.set_status("a", AdminStatus::Healthy);
        two.switch("b").unwrap().reset();
        settle().await;
        let one = fleet(if is_late { &names[2..] } else { &names });
        let mut saver = one.restore(document.clone()).await;
        share(&one);
        tokio::spawn(async move { saver.run().await });
        settle().await;
        if is_late {
            names[..2].iter().for_each(|name| one.insert(Backend::new(*name, ())).unwrap());
        }
        tokio::time::sleep(SECOND).await;
        for fleet in [&one, &two] {
            let shown = ["a", "b"].map(|name| (backend(fleet, name).status, backend(fleet, name).state));
            assert_eq!(shown, [(AdminStatus::Healthy, CircuitState::Closed); 2], "{is_late}");
        }
    }
}
