//! Hedges at a percentile of what the backends took lately: when they are sent, when they are not, and what they gain.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::Instant;
use tower::Service;
use tower_fleet::{
    Backend, Failover, FailoverLayer, Fleet, Mode, RoundRobin,
    failover::{Budget, FailoverBuilder, Percentile, Plain},
    outcome::ErrorsOnly,
};
use tower_layer::Layer;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What a call takes. The request is its number; the second number is that of the call, of this request, from 0.
type Script = Arc<dyn Fn(u64, usize) -> Reply + Send + Sync>;

#[derive(Clone, Copy)]
enum Reply {
    After(Duration),
    FailAfter(Duration),
    Never,
}

/// A backend, and its calls: when each began, and for which request.
#[derive(Clone)]
struct Mock {
    script: Arc<Mutex<Script>>,
    calls: Arc<Mutex<Vec<(Instant, u64)>>>,
    running: Arc<AtomicUsize>,
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Mock {
    fn new(script: impl Fn(u64, usize) -> Reply + Send + Sync + 'static) -> Self {
        let script = Arc::new(Mutex::new(Arc::new(script) as Script));
        Self { script, calls: Arc::default(), running: Arc::default() }
    }

    fn takes(millis: u64) -> Self {
        Self::new(move |_, _| Reply::After(Duration::from_millis(millis)))
    }

    fn now_takes(&self, millis: u64) {
        self.now(move |_, _| Reply::After(Duration::from_millis(millis)));
    }

    fn now(&self, script: impl Fn(u64, usize) -> Reply + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

#[derive(Clone, Copy, Debug)]
struct Request {
    number: u64,
    /// The calls for it so far.
    calls: &'static AtomicUsize,
}

impl Service<Request> for Mock {
    type Response = ();
    type Error = std::io::Error;
    type Future = BoxFuture<'static, Result<(), std::io::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), std::io::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let call = request.calls.fetch_add(1, Ordering::Relaxed);
        self.calls.lock().unwrap().push((Instant::now(), request.number));
        let reply = (self.script.lock().unwrap())(request.number, call);
        self.running.fetch_add(1, Ordering::Relaxed);
        let running = Running(Arc::clone(&self.running));
        Box::pin(async move {
            let _running = running;
            match reply {
                Reply::After(time) => {
                    tokio::time::sleep(time).await;
                    Ok(())
                }
                Reply::FailAfter(time) => {
                    tokio::time::sleep(time).await;
                    Err(std::io::Error::other("broken"))
                }
                Reply::Never => pending().await,
            }
        })
    }
}

type Door = Failover<Mock, Plain, ErrorsOnly>;

fn fleet<const N: usize>(mocks: &[Mock; N]) -> Fleet<Mock, ErrorsOnly> {
    let names = ["a", "b", "c", "d", "e"];
    let backends = names.iter().zip(mocks).map(|(name, mock)| Backend::new(*name, mock.clone()));
    Fleet::plain().backends(backends).build().unwrap()
}

/// A failover with these hedges. Its budget does not matter unless it is set after.
fn hedged(percentile: Percentile) -> FailoverBuilder<Plain> {
    FailoverLayer::plain().mode(Mode::hedged(percentile)).budget(Budget::new(1.0).reserve(1_000)).timeout(None)
}

fn p90() -> Percentile {
    Percentile::new(0.9).min_samples(100)
}

/// Sends a request, and returns how long it took and the number of calls it made.
async fn send(door: &Door, number: u64) -> (Duration, usize) {
    let calls: &'static AtomicUsize = Box::leak(Box::default());
    let began = Instant::now();
    door.clone().oneshot(Request { number, calls }).await.unwrap();
    (began.elapsed(), calls.load(Ordering::Relaxed))
}

/// Sends requests one after the other. Returns the number of extra calls.
async fn send_all(door: &Door, numbers: impl IntoIterator<Item = u64>) -> usize {
    let mut extra = 0;
    for number in numbers {
        extra += send(door, number).await.1 - 1;
    }
    extra
}

fn within(took: Duration, from: u64, to: u64) -> bool {
    (millis(from)..=millis(to)).contains(&took)
}

// C68
#[tokio::test(start_paused = true)]
async fn a_hedge_waits_for_the_percentile_of_its_backend() {
    // From 10 ms to 19 ms, each equally often.
    let (a, b) = (Mock::new(|number, _| Reply::After(millis(10 + number % 10))), Mock::takes(1));
    let door = hedged(p90()).build().unwrap().layer(fleet(&[a.clone(), b.clone()]));
    assert_eq!(send_all(&door, 0..200).await, 0, "nothing is slower than the cap");
    tokio::time::sleep(millis(100)).await;
    a.now(|_, _| Reply::Never);
    let (took, calls) = send(&door, 0).await;
    assert!(within(took, 18, 23) && calls == 2, "the 90th percentile is 18 ms, and the hedge takes 1: {took:?}");
}

// C68
#[tokio::test(start_paused = true)]
async fn without_enough_samples_the_delay_is_the_one_that_is_set_or_the_cap() {
    for (percentile, from) in [(p90().cap(millis(300)), 300), (p90().until_measured(millis(70)), 70)] {
        let (a, b) = (Mock::takes(10), Mock::takes(1));
        let door = hedged(percentile).build().unwrap().layer(fleet(&[a.clone(), b.clone()]));
        send_all(&door, 0..99).await;
        a.now(|_, _| Reply::Never);
        let (took, _) = send(&door, 0).await;
        assert!(within(took, from, from + 5), "{took:?}");
    }
}

// C68
#[tokio::test(start_paused = true)]
async fn the_delay_is_between_floor_and_cap() {
    for (percentile, usual, from) in
        [(p90().floor(millis(50)), 10, 51), (p90().cap(millis(200)).until_measured(millis(900)), 500, 201)]
    {
        let (a, b) = (Mock::takes(usual), Mock::takes(1));
        let door = hedged(percentile).build().unwrap().layer(fleet(&[a.clone(), b.clone()]));
        send_all(&door, 0..100).await;
        tokio::time::sleep(millis(100)).await;
        a.now(|_, _| Reply::Never);
        let (took, _) = send(&door, 0).await;
        assert!(within(took, from, from + 3), "{took:?}");
    }
}

// C68: else the percentile would fall with every hedge that wins.
#[tokio::test(start_paused = true)]
async fn attempts_that_lose_to_their_hedge_count_as_slow() {
    // A fifth is slow, so that the 90th percentile is. None of the slow ones ends.
    let a = Mock::new(|number, _| if number % 5 == 4 { Reply::Never } else { Reply::After(millis(10)) });
    let b = Mock::takes(1);
    let percentile = p90().min_samples(200).cap(millis(400)).window(Duration::from_secs(3_600));
    let door = hedged(percentile).build().unwrap().layer(fleet(&[a, b.clone()]));
    send_all(&door, 0..700).await;
    assert_eq!(b.calls(), 140, "too few to be measured");
    let (took, _) = send(&door, 4).await;
    assert!(within(took, 350, 405), "{took:?}");
}

// C68: a failure is no fast response.
#[tokio::test(start_paused = true)]
async fn failures_do_not_shorten_the_delay() {
    let fails = |number, _| if number % 10 < 7 { Reply::FailAfter(millis(1)) } else { Reply::After(millis(40)) };
    let (a, b) = (Mock::new(fails), Mock::takes(60));
    let percentile = Percentile::new(0.6).cap(millis(400));
    let door = hedged(percentile).build().unwrap().layer(fleet(&[a.clone(), b.clone()]));
    send_all(&door, 0..400).await;
    tokio::time::sleep(millis(100)).await;
    a.now(|_, _| Reply::Never);
    let before = b.calls();
    let began = Instant::now();
    send(&door, 0).await;
    let hedge = b.calls.lock().unwrap()[before].0 - began;
    assert!(within(hedge, 35, 45), "{hedge:?}");
}

// C68
#[tokio::test(start_paused = true)]
async fn a_backend_that_is_slow_as_such_is_hedged_as_early_as_the_others() {
    let mocks = [Mock::takes(500), Mock::takes(10), Mock::takes(10)];
    let layer = hedged(p90()).strategy(RoundRobin::new()).build().unwrap();
    let door = layer.layer(fleet(&mocks));
    send_all(&door, 0..600).await;
    tokio::time::sleep(millis(100)).await;
    for number in 0..3 {
        let (took, _) = send(&door, number).await;
        assert!(within(took, 10, 25), "{took:?}");
    }
}

// C68
#[tokio::test(start_paused = true)]
async fn a_new_backend_has_the_delay_of_the_others() {
    let mocks = [Mock::takes(10), Mock::takes(10), Mock::takes(10)];
    let fleet = fleet(&mocks);
    let door = hedged(p90()).strategy(RoundRobin::new()).build().unwrap().layer(fleet.clone());
    send_all(&door, 0..600).await;
    tokio::time::sleep(millis(100)).await;
    let new = Mock::new(|_, _| Reply::Never);
    fleet.insert(Backend::new("new", new.clone())).unwrap();
    for number in 0..4 {
        let (took, _) = send(&door, number).await;
        assert!(within(took, 10, 25), "{took:?}");
    }
    assert!(new.calls() > 0);
}

// C68
#[tokio::test(start_paused = true)]
async fn no_hedge_is_sent_while_all_backends_are_slow() {
    let mocks = [Mock::takes(10), Mock::takes(10), Mock::takes(10)];
    let door = hedged(p90()).strategy(RoundRobin::new()).build().unwrap().layer(fleet(&mocks));
    send_all(&door, 0..6_000).await;
    tokio::time::sleep(millis(100)).await;
    mocks.iter().for_each(|mock| mock.now_takes(100));
    let before = send_all(&door, 0..60).await;
    assert!((20..=120).contains(&before), "{before} hedges before all of them are known to be slow");
    assert_eq!(send_all(&door, 0..60).await, 0);
    // The percentiles adapt: a tenth of the calls in the window is slow.
    send_all(&door, 0..900).await;
    mocks[0].now(|_, _| Reply::Never);
    let extra = send_all(&door, 0..3).await;
    assert_eq!(extra, 1, "then one backend that hangs is hedged again");
}

// C68
#[tokio::test(start_paused = true)]
async fn hedges_are_sent_while_one_of_the_others_is_fast() {
    let mocks = [Mock::takes(10), Mock::takes(10), Mock::takes(10)];
    let door = hedged(p90()).strategy(RoundRobin::new()).build().unwrap().layer(fleet(&mocks));
    send_all(&door, 0..600).await;
    tokio::time::sleep(millis(100)).await;
    mocks[0].now(|_, _| Reply::Never);
    for number in 0..300 {
        let (took, _) = send(&door, number).await;
        assert!(within(took, 10, 40), "{took:?}");
    }
}

// C68: slow is what takes longer than it usually does, not what takes longer than another one.
#[tokio::test(start_paused = true)]
async fn a_backend_that_is_always_slower_still_takes_hedges() {
    let [a, b] = [Mock::takes(10), Mock::takes(60)];
    let fleet = fleet(&[a.clone(), b.clone()]);
    let both = hedged(p90()).strategy(RoundRobin::new()).build().unwrap().layer(fleet.clone());
    send_all(&both, 0..400).await;
    let door: Door = hedged(p90()).build().unwrap().layer(fleet);
    a.now(|_, _| Reply::Never);
    for number in 0..50 {
        let (took, calls) = send(&door, number).await;
        assert!(took <= millis(150) && calls == 2, "{took:?}");
    }
}

// C68: a lone slow backend is tried again after a while, though nothing else is sent to it.
#[tokio::test(start_paused = true)]
async fn a_slow_backend_gets_a_hedge_again_after_some_time() {
    let [a, b] = [Mock::takes(10), Mock::takes(10)];
    let fleet = fleet(&[a.clone(), b.clone()]);
    let both = hedged(p90()).strategy(RoundRobin::new()).build().unwrap().layer(fleet.clone());
    send_all(&both, 0..400).await;
    tokio::time::sleep(millis(100)).await;
    // Every attempt at `a` is late, and no hedge ends.
    let door: Door = hedged(p90()).build().unwrap().layer(fleet);
    a.now_takes(100);
    b.now(|_, _| Reply::Never);
    send_all(&door, 0..30).await;
    let before = b.calls();
    send_all(&door, 0..5).await;
    assert_eq!(b.calls(), before);
    tokio::time::sleep(Duration::from_secs(10)).await;
    b.now_takes(1);
    a.now(|_, _| Reply::Never);
    assert_eq!(send_all(&door, [0]).await, 1);
}

// C53, C68: one budget for both.
#[tokio::test(start_paused = true)]
async fn hedges_and_further_attempts_share_the_budget() {
    let a =
        Mock::new(|number, _| if number % 2 == 0 { Reply::After(millis(200)) } else { Reply::FailAfter(millis(1)) });
    let b = Mock::takes(1);
    let percentile = p90().until_measured(millis(20));
    for mode in [Mode::hedged(percentile), Mode::hedged(millis(20))] {
        let (a, b) = (a.clone(), b.clone());
        let layer = FailoverLayer::plain().mode(mode).budget(Budget::new(0.0).reserve(6)).build().unwrap();
        let door: Door = layer.layer(fleet(&[a.clone(), b.clone()]));
        let before = b.calls();
        for number in 0..12 {
            let calls: &'static AtomicUsize = Box::leak(Box::default());
            let result = door.clone().oneshot(Request { number, calls }).await;
            assert_eq!(result.is_ok(), number < 6 || number % 2 == 0, "{number}");
        }
        assert_eq!(b.calls() - before, 6);
    }
}

// C53, C68: the default budget is for hedges alone.
#[tokio::test(start_paused = true)]
async fn without_a_budget_hedges_are_limited_and_further_attempts_are_not() {
    let (a, b) = (Mock::takes(100), Mock::takes(1));
    let layer = FailoverLayer::plain().mode(Mode::hedged(p90().until_measured(millis(20)).min_samples(1_000_000)));
    let door: Door = layer.build().unwrap().layer(fleet(&[a.clone(), b.clone()]));
    let hedges = send_all(&door, 0..1_000).await;
    assert!((205..=210).contains(&hedges), "a fifth, and the reserve: {hedges}");
    a.now(|_, _| Reply::FailAfter(millis(1)));
    assert_eq!(send_all(&door, 0..500).await, 500);
}

// C53, C68
#[tokio::test(start_paused = true)]
async fn a_hedge_without_a_token_is_sent_when_there_is_one() {
    let (a, b) = (Mock::new(|_, _| Reply::Never), Mock::takes(1));
    let budget = Budget::new(1.0).reserve(1);
    for mode in [Mode::hedged(p90().until_measured(millis(20))), Mode::hedged(millis(20))] {
        let budget = budget.clone().reserve(1);
        let layer = FailoverLayer::plain().mode(mode).budget(budget).timeout(None).build().unwrap();
        let door: Door = layer.layer(fleet(&[a.clone(), b.clone()]));
        // Two of the tokens that three requests add have room in the bucket: two hedges.
        let requests = [0, 1, 2].map(|number| {
            let door = door.clone();
            tokio::spawn(async move { send(&door, number).await })
        });
        tokio::time::sleep(millis(50)).await;
        let finished = || requests.iter().filter(|request| request.is_finished()).count();
        assert_eq!(finished(), 2);
        // A fourth request adds one, and its own hedge is not due yet.
        let fourth = tokio::spawn({
            let door = door.clone();
            async move { send(&door, 3).await }
        });
        tokio::time::sleep(millis(19)).await;
        assert_eq!(finished(), 3, "the hedge of the third was considered again");
        fourth.abort();
    }
}

// C68
#[tokio::test(start_paused = true)]
async fn a_hedge_is_never_sent_to_a_backend_of_an_earlier_attempt() {
    for mode in [Mode::hedged(millis(10)), Mode::hedged(p90().until_measured(millis(10)))] {
        let mocks = [Mock::new(|_, _| Reply::Never), Mock::new(|_, _| Reply::Never)];
        let layer = FailoverLayer::plain().mode(mode).attempts_per_backend(3).deadline(millis(500)).build().unwrap();
        let door: Door = layer.layer(fleet(&mocks));
        let calls: &'static AtomicUsize = Box::leak(Box::default());
        door.oneshot(Request { number: 0, calls }).await.unwrap_err();
        assert_eq!(mocks.map(|mock| mock.calls()), [1, 1]);
    }
}

// C68: cancellation at any time leaves nothing behind.
#[tokio::test(start_paused = true)]
async fn requests_that_are_cancelled_before_or_after_their_hedge_leave_nothing_behind() {
    let mocks = [Mock::new(|_, _| Reply::Never), Mock::new(|_, _| Reply::Never)];
    let fleet = fleet(&mocks);
    let door = hedged(p90().until_measured(millis(10))).build().unwrap().layer(fleet.clone());
    for time in [0, 5, 15, 30] {
        assert!(tokio::time::timeout(millis(time), send(&door, 0)).await.is_err());
        assert_eq!(mocks.each_ref().map(|mock| mock.running.load(Ordering::Relaxed)), [0, 0]);
    }
    // Also one whose backend is removed meanwhile.
    let request = tokio::spawn({
        let door = door.clone();
        async move { send(&door, 0).await }
    });
    tokio::time::sleep(millis(15)).await;
    assert!(fleet.remove("a") && fleet.remove("b"));
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    assert_eq!(mocks.each_ref().map(|mock| mock.running.load(Ordering::Relaxed)), [0, 0]);
}

/// A uniform number from 0 to 1 for a call, whichever backend gets it: SplitMix64.
fn uniform(seed: u64, request: u64, call: usize, salt: u64) -> f64 {
    let mut x = request
        .wrapping_mul(64)
        .wrapping_add(call as u64 * 4 + salt)
        .wrapping_add(seed << 40)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (((x ^ (x >> 31)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// Real time is stretched by this, so that the millisecond of a timer does not matter.
const STRETCH: f64 = 200.0;

/// Lognormal with a median of 5 ms and a sigma of 0.3, and a twentieth of stragglers that take ten times as long.
fn straggling(seed: u64, request: u64, call: usize) -> Reply {
    let [a, b, c] = [0, 1, 2].map(|salt| uniform(seed, request, call, salt));
    let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
    let took = 5.0e-3 * (0.3 * normal).exp() * if c < 0.05 { 10.0 } else { 1.0 };
    Reply::After(Duration::from_secs_f64(took * STRETCH))
}

/// The 99th and 99.9th percentile in milliseconds, and the share of extra requests, of 20,000 requests at 1,000 per
/// second to five backends, after 2,000 to warm up.
async fn tail(percentile: Percentile, seed: u64) -> [f64; 3] {
    const WARM_UP: u64 = 2_000;
    const REQUESTS: u64 = 20_000;
    let mocks = [(); 5].map(|()| Mock::new(move |request, call| straggling(seed, request, call)));
    let scaled = |time: f64| Duration::from_secs_f64(time * STRETCH);
    let percentile = percentile.floor(scaled(1e-3)).cap(scaled(1.0)).window(scaled(60.0));
    // The budget is that of the default.
    let layer = FailoverLayer::plain().mode(Mode::hedged(percentile)).strategy(RoundRobin::new()).timeout(None);
    let door: Door = layer.build().unwrap().layer(fleet(&mocks));
    let (extra, mut requests) = (Arc::new(AtomicU64::new(0)), Vec::new());
    for number in 0..WARM_UP + REQUESTS {
        let (door, extra) = (door.clone(), Arc::clone(&extra));
        requests.push(tokio::spawn(async move {
            let (took, calls) = send(&door, number).await;
            if number >= WARM_UP {
                extra.fetch_add(calls as u64 - 1, Ordering::Relaxed);
            }
            took.as_secs_f64() * 1e3 / STRETCH
        }));
        // Poisson.
        tokio::time::sleep(scaled(-1e-3 * uniform(seed, number, 9, 3).ln())).await;
    }
    let mut times = Vec::new();
    for request in requests {
        times.push(request.await.unwrap());
    }
    let mut times = times.split_off(WARM_UP as usize);
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[(share * REQUESTS as f64) as usize];
    [at(0.99), at(0.999), extra.load(Ordering::Relaxed) as f64 / REQUESTS as f64]
}

/// The medians of what [`tail`] returns for five seeds. A single seed says little: by chance, from 4.7 to 5.3 % of 20,000
/// requests are stragglers, and the extra requests differ as much.
async fn medians(percentile: Percentile) -> [f64; 3] {
    let mut runs = Vec::new();
    for seed in 1..=5 {
        runs.push(tail(percentile, seed).await);
    }
    [0, 1, 2].map(|index| {
        runs.sort_by(|a, b| a[index].total_cmp(&b[index]));
        runs[runs.len() / 2][index]
    })
}

// C68, issue 12: 18 ms and 30 ms for about 6 % of extra requests. The median of 21 seeds is 6.1 % (from 5.8 to 6.4 %), so
// the limit is above the 6 % of the issue.
#[tokio::test(start_paused = true)]
async fn the_default_percentile_cuts_the_tail_of_stragglers() {
    let [p99, p999, extra] = medians(Percentile::default()).await;
    assert!(p99 <= 18.0 && p999 < 30.0 && extra <= 0.065, "p99 {p99:.1} ms, p99.9 {p999:.1} ms, extra {extra:.4}");
}

// C68, issue 12: at most 8 % of extra requests for 16 ms. The medians of 21 seeds are 7.9 % and 15.8 ms.
#[tokio::test(start_paused = true)]
async fn an_earlier_hedge_cuts_it_further() {
    let [p99, p999, extra] = medians(Percentile::new(0.927)).await;
    assert!(p99 <= 16.0 && p999 < 30.0 && extra <= 0.08, "p99 {p99:.1} ms, p99.9 {p999:.1} ms, extra {extra:.4}");
}
