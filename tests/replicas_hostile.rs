//! Exchanges that fail in every way there is, and replicas that disagree.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use tower_fleet::{
    AdminStatus, Backend, CircuitPolicy, CircuitState, Fleet,
    fleet::{BackendName, Snapshot},
    outcome::ErrorsOnly,
    replicas::{
        Exchange, ExchangeError, Link, MemoryExchange, MemoryLink, MemoryNews, News, Report, Reports, Share, Stamp,
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

fn replica(exchange: &impl ExchangeClone, names: &[&str]) -> Replica {
    let fleet = fleet(names);
    tokio::spawn(fleet.share(Share::new(exchange.clone())).unwrap());
    fleet
}

trait ExchangeClone: Exchange + Clone {}
impl<E: Exchange + Clone> ExchangeClone for E {}

fn backend(fleet: &Replica, name: &str) -> Snapshot {
    fleet.snapshot().into_iter().find(|backend| backend.name == name).unwrap()
}

fn is_hinted(fleet: &Replica, name: &str) -> bool {
    backend(fleet, name).hinted_for.is_some()
}

fn trip(fleet: &Replica, name: &str) {
    fleet.switch(name).unwrap().trip();
}

async fn settle() {
    tokio::time::sleep(10 * MS).await;
}

/// An exchange whose clock may jump, and that may lose what it holds.
#[derive(Clone)]
struct Shaky {
    inner: Arc<Mutex<MemoryExchange>>,
    /// Added to its clock, in milliseconds.
    jump: Arc<AtomicI64>,
    /// Ends all connections that are older.
    generation: Arc<AtomicU64>,
}

#[derive(Clone)]
struct ShakyLink(MemoryLink, Shaky, u64);
struct ShakyNews(MemoryNews, Shaky);

impl Shaky {
    fn new() -> Self {
        Self { inner: Arc::new(Mutex::new(MemoryExchange::new())), jump: Arc::default(), generation: Arc::default() }
    }

    /// Loses everything, and all connections.
    fn restart(&self) {
        *self.inner.lock().unwrap() = MemoryExchange::new();
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    fn shift(&self, stamp: Stamp, sign: i64) -> Stamp {
        if stamp == Stamp::default() {
            return stamp;
        }
        Stamp::from_millis(stamp.as_millis().saturating_add_signed(sign * self.jump.load(Ordering::Relaxed)))
    }
}

// The memory's own clock cannot jump, so only the time that is told does: reports keep their stamps.
impl Shaky {
    fn told(&self, mut reports: Reports) -> Reports {
        reports.now = self.shift(reports.now, 1);
        reports
    }
}

impl Exchange for Shaky {
    type Link = ShakyLink;
    type News = ShakyNews;

    async fn connect(&self, fleet: &str) -> Result<(ShakyLink, ShakyNews), ExchangeError> {
        let inner = self.inner.lock().unwrap().clone();
        let (link, news) = inner.connect(fleet).await?;
        Ok((ShakyLink(link, self.clone(), self.generation.load(Ordering::Relaxed)), ShakyNews(news, self.clone())))
    }
}

impl ShakyLink {
    fn or_lost<T>(
        &self,
        request: impl Future<Output = Result<T, ExchangeError>> + Send + 'static,
    ) -> impl Future<Output = Result<T, ExchangeError>> + Send + 'static {
        let is_lost = self.1.generation.load(Ordering::Relaxed) != self.2;
        async move { if is_lost { Err(ExchangeError::new("lost")) } else { request.await } }
    }
}

impl Link for ShakyLink {
    fn merge(&self, reports: Vec<Report>) -> impl Future<Output = Result<Reports, ExchangeError>> + Send + 'static {
        let (merging, shaky) = (self.or_lost(self.0.merge(reports)), self.1.clone());
        async move { merging.await.map(|reports| shaky.told(reports)) }
    }

    fn read(
        &self,
        backends: Vec<BackendName>,
    ) -> impl Future<Output = Result<Reports, ExchangeError>> + Send + 'static {
        let (reading, shaky) = (self.or_lost(self.0.read(backends)), self.1.clone());
        async move { reading.await.map(|reports| shaky.told(reports)) }
    }

    fn take_permits(
        &self,
        backends: Vec<BackendName>,
        lease: Duration,
    ) -> impl Future<Output = Result<Vec<Duration>, ExchangeError>> + Send + 'static {
        self.or_lost(self.0.take_permits(backends, lease))
    }

    fn return_permits(
        &self,
        backends: Vec<BackendName>,
    ) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static {
        self.or_lost(self.0.return_permits(backends))
    }

    fn ping(&self) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static {
        self.or_lost(self.0.ping())
    }
}

impl Stream for ShakyNews {
    type Item = News;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<News>> {
        let shaky = self.1.clone();
        self.0.poll_next_unpin(cx).map(|news| {
            news.map(|news| if let News::Changed(reports) = news { News::Changed(shaky.told(reports)) } else { news })
        })
    }
}

// C69: a replaced service is no word of an operator.
#[tokio::test(start_paused = true)]
async fn a_replacement_undoes_no_override() {
    let exchange = MemoryExchange::new();
    let [one, two] = [(); 2].map(|()| replica(&exchange, &["a", "b", "c", "d"]));
    settle().await;
    one.drain("a");
    one.switch("b").unwrap().force_closed();
    settle().await;
    two.replace(Backend::new("a", ())).unwrap();
    two.replace(Backend::new("b", ())).unwrap();
    tokio::time::sleep(60 * SECOND).await;
    let of = |fleet: &Replica| (backend(fleet, "a").status, backend(fleet, "b").state);
    assert_eq!(of(&one), (AdminStatus::Draining, CircuitState::ForcedClosed));
    assert_eq!(of(&two), of(&one));
}

// C55: the clock of the exchange was an hour ahead while an operator set something, and is right again.
#[tokio::test(start_paused = true)]
async fn the_latest_word_counts_after_the_clock_of_the_exchange_was_wrong() {
    for jump in [3_600_000, i64::MAX, -500_000_000] {
        let exchange = Shaky::new();
        let [one, two] = [(); 2].map(|()| replica(&exchange, &["a", "b", "c", "d"]));
        settle().await;
        exchange.jump.store(jump, Ordering::Relaxed);
        tokio::time::sleep(20 * SECOND).await;
        one.drain("a");
        two.drain("b");
        settle().await;
        exchange.jump.store(0, Ordering::Relaxed);
        tokio::time::sleep(40 * SECOND).await;
        two.set_status("a", AdminStatus::Healthy);
        one.set_status("b", AdminStatus::Healthy);
        tokio::time::sleep(40 * SECOND).await;
        for fleet in [&one, &two] {
            let of = |name| backend(fleet, name).status;
            assert_eq!((of("a"), of("b")), (AdminStatus::Healthy, AdminStatus::Healthy), "{jump}");
        }
        let three = replica(&exchange, &["a", "b", "c", "d"]);
        settle().await;
        assert_eq!(backend(&three, "a").status, AdminStatus::Healthy, "{jump}");
    }
}

// C55: the history is lost with a restart, and a replica is new.
#[tokio::test(start_paused = true)]
async fn a_new_replica_is_heard_after_the_exchange_has_lost_its_history() {
    let exchange = Shaky::new();
    let one = replica(&exchange, &["a", "b", "c"]);
    settle().await;
    trip(&one, "a");
    settle().await;
    one.switch("a").unwrap().reset();
    settle().await;
    exchange.restart();
    tokio::time::sleep(20 * SECOND).await;
    let two = replica(&exchange, &["a", "b", "c"]);
    settle().await;
    trip(&two, "a");
    settle().await;
    assert_eq!(backend(&two, "a").state, CircuitState::Open);
    assert!(is_hinted(&one, "a"));
}

// C55, C69: what keeps nothing out counts for no limit.
#[tokio::test(start_paused = true)]
async fn overrides_that_keep_nothing_out_are_set_for_all_backends() {
    let exchange = MemoryExchange::new();
    let names = ["a", "b", "c", "d"];
    let [one, two] = [(); 2].map(|()| replica(&exchange, &names));
    settle().await;
    names.iter().for_each(|name| one.switch(name).unwrap().force_closed());
    assert!(names.iter().all(|name| one.set_status(name, AdminStatus::Degraded)));
    settle().await;
    for name in names {
        let found = backend(&two, name);
        assert_eq!((found.state, found.status), (CircuitState::ForcedClosed, AdminStatus::Degraded), "{name}");
    }
    names.iter().for_each(|name| one.switch(name).unwrap().force_open());
    settle().await;
    let out = || names.iter().filter(|name| backend(&two, name).state == CircuitState::ForcedOpen).count();
    assert_eq!(out(), 2, "at most half");
    names.iter().for_each(|name| one.switch(name).unwrap().reset());
    settle().await;
    assert_eq!(out(), 0);
}

/// An exchange that loses, doubles, delays and reorders what is sent, at random but the same each time.
#[derive(Clone)]
struct Chaos {
    inner: MemoryExchange,
    rng: Arc<Mutex<fastrand::Rng>>,
    is_wild: Arc<AtomicBool>,
}

#[derive(Clone)]
struct ChaosLink(MemoryLink, Chaos);
struct ChaosNews {
    inner: MemoryNews,
    chaos: Chaos,
    late: Vec<(News, Pin<Box<tokio::time::Sleep>>)>,
    is_lost: Pin<Box<tokio::time::Sleep>>,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let rng = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
        Self { inner: MemoryExchange::new(), rng, is_wild: Arc::new(AtomicBool::new(true)) }
    }

    fn below(&self, range: u64) -> u64 {
        self.rng.lock().unwrap().u64(..range)
    }

    /// True one time out of so many, while it is wild.
    fn is(&self, one_of: u64) -> bool {
        self.is_wild.load(Ordering::Relaxed) && self.below(one_of) == 0
    }

    fn delay(&self) -> u32 {
        if self.is_wild.load(Ordering::Relaxed) { self.below(20) as u32 } else { 1 }
    }

    async fn sometimes<T>(self, request: impl Future<Output = Result<T, ExchangeError>>) -> Result<T, ExchangeError> {
        if self.is(20) {
            return Err(ExchangeError::new("lost before"));
        }
        tokio::time::sleep(MS * self.delay()).await;
        let answer = request.await;
        tokio::time::sleep(MS * if self.is(30) { 3_000 } else { self.delay() }).await;
        if self.is(20) { Err(ExchangeError::new("lost after")) } else { answer }
    }
}

impl Exchange for Chaos {
    type Link = ChaosLink;
    type News = ChaosNews;

    async fn connect(&self, fleet: &str) -> Result<(ChaosLink, ChaosNews), ExchangeError> {
        let (link, inner) = self.clone().sometimes(self.inner.connect(fleet)).await?;
        let life = if self.is_wild.load(Ordering::Relaxed) { self.below(60_000) } else { 1 << 40 };
        let is_lost = Box::pin(tokio::time::sleep(Duration::from_millis(life)));
        Ok((ChaosLink(link, self.clone()), ChaosNews { inner, chaos: self.clone(), late: Vec::new(), is_lost }))
    }
}

impl Link for ChaosLink {
    fn merge(&self, reports: Vec<Report>) -> impl Future<Output = Result<Reports, ExchangeError>> + Send + 'static {
        let (link, chaos) = (self.0.clone(), self.1.clone());
        async move { chaos.sometimes(async { link.merge(reports).await }).await }
    }

    fn read(&self, names: Vec<BackendName>) -> impl Future<Output = Result<Reports, ExchangeError>> + Send + 'static {
        let (link, chaos) = (self.0.clone(), self.1.clone());
        async move { chaos.sometimes(async { link.read(names).await }).await }
    }

    fn take_permits(
        &self,
        names: Vec<BackendName>,
        lease: Duration,
    ) -> impl Future<Output = Result<Vec<Duration>, ExchangeError>> + Send + 'static {
        let (link, chaos) = (self.0.clone(), self.1.clone());
        async move { chaos.sometimes(async { link.take_permits(names, lease).await }).await }
    }

    fn return_permits(
        &self,
        names: Vec<BackendName>,
    ) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static {
        let (link, chaos) = (self.0.clone(), self.1.clone());
        async move { chaos.sometimes(async { link.return_permits(names).await }).await }
    }

    fn ping(&self) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static {
        let (link, chaos) = (self.0.clone(), self.1.clone());
        async move { chaos.sometimes(async { link.ping().await }).await }
    }
}

impl Stream for ChaosNews {
    type Item = News;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<News>> {
        let this = &mut *self;
        if this.is_lost.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        while let Poll::Ready(Some(news)) = this.inner.poll_next_unpin(cx) {
            for _ in 0..if this.chaos.is(5) { 0 } else { 1 + u64::from(this.chaos.is(5)) } {
                let late = if this.chaos.is(10) { 20_000 } else { 30 };
                let late = Duration::from_millis(this.chaos.below(late));
                this.late.push((news.clone(), Box::pin(tokio::time::sleep(late))));
            }
        }
        let due = this.late.iter_mut().position(|(_, sleep)| sleep.as_mut().poll(cx).is_ready());
        due.map_or(Poll::Pending, |at| Poll::Ready(Some(this.late.swap_remove(at).0)))
    }
}

// C55, C69: whatever is lost, doubled, late and in another order, hints are bounded meanwhile. When that ends, all agree.
#[tokio::test(start_paused = true)]
async fn replicas_agree_after_any_chaos() {
    for seed in 0..10 {
        let exchange = Chaos::new(seed);
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut fleets: Vec<_> = (0..5).map(|_| replica(&exchange, &names)).collect();
        let mut rng = fastrand::Rng::with_seed(seed);
        for turn in 0..300 {
            let (at, name) = (rng.usize(..fleets.len()), names[rng.usize(..names.len())]);
            let fleet = &fleets[at];
            match rng.u32(..14) {
                0..=2 => trip(fleet, name),
                3 | 4 => fleet.switch(name).unwrap().reset(),
                5 => drop(fleet.cool_down(name, SECOND * rng.u32(1..30))),
                6 => drop(fleet.set_status(name, AdminStatus::Draining)),
                7 => drop(fleet.set_status(name, AdminStatus::Healthy)),
                8 => fleet.switch(name).unwrap().force_open(),
                9 => fleet.switch(name).unwrap().force_closed(),
                10 => fleet.replace(Backend::new(name, ())).unwrap(),
                11 if fleet.remove(name) => fleet.insert(Backend::new(name, ())).unwrap(),
                12 if turn % 5 == 0 => fleets[at] = replica(&exchange, &names),
                _ => {}
            }
            tokio::time::sleep(MS * rng.u32(..2_000)).await;
            for fleet in &fleets {
                // What keeps out the others is an operator, or a cool-down.
                let is_kept_in = |it: &&Snapshot| {
                    it.status != AdminStatus::Draining && it.state != CircuitState::ForcedOpen && it.cools_for.is_none()
                };
                let snapshot = fleet.snapshot();
                let counted: Vec<_> = snapshot.iter().filter(is_kept_in).collect();
                let hinted = counted.iter().filter(|it| it.hinted_for.is_some()).count();
                assert!(hinted <= counted.len() / 2, "more than half, with seed {seed}: {snapshot:#?}");
            }
        }
        exchange.is_wild.store(false, Ordering::Relaxed);
        // Late news, and the old connections, are gone by now.
        tokio::time::sleep(90 * SECOND).await;
        for name in names {
            fleets[0].set_status(name, AdminStatus::Degraded);
            fleets[0].switch(name).unwrap().reset();
            tokio::time::sleep(SECOND).await;
            fleets[1].set_status(name, AdminStatus::Healthy);
            tokio::time::sleep(SECOND).await;
        }
        tokio::time::sleep(60 * SECOND).await;
        for (at, fleet) in fleets.iter().enumerate() {
            for it in fleet.snapshot() {
                assert_eq!(it.status, AdminStatus::Healthy, "{} at {at} with seed {seed}", it.name);
                assert!(!it.state.is_forced(), "{it:?} at {at} with seed {seed}");
            }
        }
        // The next opening is heard everywhere, once the limit on the time of hints has passed.
        tokio::time::sleep(600 * SECOND).await;
        for (at, fleet) in fleets.iter().enumerate() {
            // Those that took turns to probe, without a request to do so, have stopped.
            assert!(!names.iter().any(|name| is_hinted(fleet, name)), "at {at} with seed {seed}");
            // Circuits that are half-open for want of requests count as out.
            names.iter().for_each(|name| fleet.switch(name).unwrap().reset());
        }
        tokio::time::sleep(SECOND).await;
        trip(&fleets[2], "a");
        tokio::time::sleep(SECOND).await;
        for at in [0, 1, 3, 4] {
            assert!(is_hinted(&fleets[at], "a"), "at {at} with seed {seed}");
        }
    }
}

// C55: of the holders of permits there is one at a time, and one after another: those that die, or have no traffic.
#[tokio::test(start_paused = true)]
async fn a_permit_passes_on_when_its_holder_dies() {
    let exchange = MemoryExchange::new();
    let names = ["a", "b"];
    let mut running = Vec::new();
    let mut fleets: Vec<Replica> = (0..6)
        .map(|_| {
            let fleet = fleet(&names);
            running.push(tokio::spawn(fleet.share(Share::new(exchange.clone())).unwrap()));
            fleet
        })
        .collect();
    settle().await;
    fleets.iter().for_each(|fleet| trip(fleet, "a"));
    let due = |fleet: &Replica| backend(fleet, "a").state == CircuitState::HalfOpen;
    for round in 0..4 {
        let mut waited = 0;
        let holder = loop {
            tokio::time::sleep(100 * MS).await;
            let holders: Vec<_> = (0..fleets.len()).filter(|at| due(&fleets[*at])).collect();
            assert!(holders.len() <= 1, "{holders:?} in round {round}");
            waited += 1;
            assert!(waited < 150, "starved in round {round}");
            if let [holder] = holders[..] {
                break holder;
            }
        };
        // It dies, in one way or the other.
        if round % 2 == 0 {
            drop(fleets.remove(holder));
            drop(running.remove(holder));
        } else {
            running.remove(holder).abort();
            fleets.remove(holder);
        }
    }
}

/// An exchange that is always ready, and of which everything may be absurd.
#[derive(Clone)]
struct Absurd {
    now: u64,
    epoch: Arc<AtomicU64>,
    calls: Arc<AtomicUsize>,
    news: Flood,
    panics: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq)]
enum Flood {
    None,
    Known,
    Unknown,
    Missed,
}

impl Absurd {
    fn new() -> Self {
        Self { now: 1_000_000_000_000, epoch: Arc::default(), calls: Arc::default(), news: Flood::None, panics: None }
    }

    fn call(&self, name: &str) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        assert!(self.panics != Some(name), "a panic of the exchange in {name}");
    }

    fn reports(&self, names: &[BackendName]) -> Reports {
        let report = |name: &BackendName| {
            let mut report = Report::new(name.clone());
            report.epoch = self.epoch.load(Ordering::Relaxed);
            report
        };
        Reports { now: Stamp::from_millis(self.now), reports: names.iter().map(report).collect() }
    }
}

impl Exchange for Absurd {
    type Link = Self;
    type News = stream::BoxStream<'static, News>;

    async fn connect(&self, _: &str) -> Result<(Self, Self::News), ExchangeError> {
        self.call("connect");
        let this = self.clone();
        let mut at = 0_u64;
        let [known, unknown] = ["a", "unknown"].map(|name| backend(&fleet(&[name]), name).name);
        let news = stream::poll_fn(move |_| {
            this.call("news");
            at += 1;
            let name = match this.news {
                Flood::None => return Poll::Pending,
                Flood::Missed => return Poll::Ready(Some(News::Missed)),
                Flood::Known => &known,
                Flood::Unknown => &unknown,
            };
            let mut reports = this.reports(std::slice::from_ref(name));
            reports.reports[0].epoch = at;
            Poll::Ready(Some(News::Changed(reports)))
        });
        Ok((self.clone(), news.boxed()))
    }
}

impl Link for Absurd {
    fn merge(&self, reports: Vec<Report>) -> impl Future<Output = Result<Reports, ExchangeError>> + Send + 'static {
        let names: Vec<_> = reports.into_iter().map(|report| report.backend).collect();
        let this = self.clone();
        async move {
            this.call("merge");
            Ok(this.reports(&names))
        }
    }

    fn read(&self, names: Vec<BackendName>) -> impl Future<Output = Result<Reports, ExchangeError>> + Send + 'static {
        let this = self.clone();
        async move {
            this.call("read");
            Ok(this.reports(&names))
        }
    }

    fn take_permits(
        &self,
        _: Vec<BackendName>,
        _: Duration,
    ) -> impl Future<Output = Result<Vec<Duration>, ExchangeError>> + Send + 'static {
        let this = self.clone();
        async move {
            this.call("take");
            Ok(Vec::new())
        }
    }

    fn return_permits(&self, _: Vec<BackendName>) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static {
        let this = self.clone();
        async move {
            this.call("return");
            Ok(())
        }
    }

    fn ping(&self) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static {
        let this = self.clone();
        async move {
            this.call("ping");
            Ok(())
        }
    }
}

/// Runs a test on a thread of its own, and returns whether it has ended in time.
fn ends(test: impl Future<Output = ()> + Send + 'static) -> bool {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(test);
        let _ = done.send(());
        // The runtime is left behind if it hangs.
        std::mem::forget(runtime);
    });
    is_done.recv_timeout(20 * SECOND).is_ok()
}

// C55: news without an end leave room for everything else on the thread.
#[test]
fn a_flood_of_news_keeps_no_runtime_busy_alone() {
    for news in [Flood::Known, Flood::Unknown, Flood::Missed] {
        let test = async move {
            let fleet = replica(&Absurd { news, ..Absurd::new() }, &["a", "b"]);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            drop(fleet);
        };
        assert!(ends(test), "the runtime hangs");
    }
}

// C55: an exchange that forgets each epoch at once is not asked again without a pause.
#[test]
fn an_exchange_that_forgets_is_not_hammered() {
    let exchange = Absurd::new();
    let calls = Arc::clone(&exchange.calls);
    exchange.epoch.store(7, Ordering::Relaxed);
    let test = async move {
        let fleet = replica(&exchange, &["a", "b"]);
        settle().await;
        exchange.epoch.store(0, Ordering::Relaxed);
        tokio::time::sleep(60 * SECOND).await;
        drop(fleet);
    };
    assert!(ends(test), "the runtime hangs");
    let calls = calls.load(Ordering::Relaxed);
    assert!(calls < 500, "{calls} in a minute");
}

// C58: a panic of the exchange.
#[tokio::test(start_paused = true)]
async fn sharing_goes_on_after_a_panic_of_the_exchange() {
    for at in ["connect", "news", "merge", "read", "take", "return", "ping"] {
        let fleet = fleet(&["a", "b"]);
        let sharing = fleet.share(Share::new(Absurd { panics: Some(at), ..Absurd::new() })).unwrap();
        let permits = sharing.permits();
        let running = tokio::spawn(sharing);
        trip(&fleet, "a");
        permits.may_probe(&backend(&fleet, "b").name).await;
        tokio::time::sleep(30 * SECOND).await;
        fleet.switch("a").unwrap().reset();
        tokio::time::sleep(30 * SECOND).await;
        assert!(!running.is_finished(), "{at}");
        drop(fleet);
        running.await.unwrap();
    }
}

// C58: stamps at the ends of the range.
#[tokio::test(start_paused = true)]
async fn absurd_times_keep_nothing_out_and_panic_nowhere() {
    for now in [0, 1, u64::MAX] {
        let exchange = Absurd { now, ..Absurd::new() };
        exchange.epoch.store(u64::MAX, Ordering::Relaxed);
        let fleet = fleet(&["a", "b", "c"]);
        let running = tokio::spawn(fleet.share(Share::new(exchange)).unwrap());
        for _ in 0..10 {
            trip(&fleet, "a");
            fleet.cool_down("b", 5 * SECOND);
            fleet.drain("c");
            tokio::time::sleep(20 * SECOND).await;
            fleet.set_status("c", AdminStatus::Healthy);
            fleet.switch("a").unwrap().reset();
            settle().await;
            assert!(!["a", "b", "c"].into_iter().any(|name| is_hinted(&fleet, name)));
        }
        assert!(!running.is_finished());
    }
}

// C55: permits are one for all replicas, also of many backends at once.
#[tokio::test(start_paused = true)]
async fn many_permits_at_once_have_one_holder_each() {
    let exchange = Chaos::new(1);
    exchange.is_wild.store(false, Ordering::Relaxed);
    let names: Vec<_> = (0..200).map(|at| format!("b{at}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let fleets = [fleet(&names), fleet(&names)];
    let sharing = fleets.each_ref().map(|fleet| fleet.share(Share::new(exchange.clone())).unwrap());
    let permits = sharing.each_ref().map(tower_fleet::replicas::Sharing::permits);
    let _running = sharing.map(tokio::spawn);
    tokio::time::sleep(SECOND).await;
    let backends: Vec<_> = fleets[0].snapshot().into_iter().map(|it| it.name).collect();
    let asked = permits
        .each_ref()
        .map(|permits| futures::future::join_all(backends.iter().map(|backend| permits.may_probe(backend))));
    let [one, two] = asked;
    let (one, two) = futures::join!(one, two);
    let both = one.iter().zip(&two).filter(|(one, two)| **one && **two).count();
    assert_eq!(both, 0);
}
