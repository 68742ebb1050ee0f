//! What holds in an outage that was not foreseen: spare tiers, requests that wait, backends that fail before their call,
//! fleets of ten thousand, destructors that panic.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::HashSet,
    convert::Infallible,
    future::{Future, pending},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::FutureExt;
use tokio::time::{Instant, advance, sleep, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_fleet::{
    Backend, BalanceLayer, CircuitBreakerLayer, CircuitPolicy, CircuitState, Failover, FailoverLayer, Fleet, Mode,
    body::{Replay, Unreplayable},
    failover::{Ending, ErrorKind, FailoverBuilder, HedgeDelay, Plain, Stopped},
    outcome::ErrorsOnly,
};

#[path = "support/mock.rs"]
mod mock;

use mock::{Answer, Mock, Readiness, Remote};

const MODES: [Mode; 3] = [Mode::Race, Mode::Sequential, Mode::Hedged(HedgeDelay::After(secs(100)))];

type Plainly = Fleet<Mock, ErrorsOnly>;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Opens with the first failure, for one second.
fn circuit() -> CircuitPolicy {
    CircuitPolicy::new().consecutive(1).open_for(secs(1))
}

/// Backends of these names and priorities.
fn fleet<const N: usize>(policy: CircuitPolicy, tiers: [(&'static str, i32); N]) -> (Plainly, [Arc<Remote>; N]) {
    let mocks = tiers.map(|(name, priority)| (Mock::new(name), priority));
    let remotes = std::array::from_fn(|index| Arc::clone(&mocks[index].0.1));
    let backends = mocks.map(|((mock, remote), priority)| Backend::new(remote.name, mock).priority(priority));
    (Fleet::plain().circuit_breaker(policy).backends(backends).build().unwrap(), remotes)
}

fn failover(mode: Mode) -> FailoverBuilder<Plain> {
    FailoverLayer::plain().mode(mode)
}

fn door(layer: FailoverBuilder<Plain>, fleet: &Plainly) -> Failover<Mock, Plain, ErrorsOnly> {
    layer.build().unwrap().layer(fleet.clone())
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

// C8, C40, C53: issue 11.2. A request of which the primary fails is not lost while a spare may be probed.
#[tokio::test(start_paused = true)]
async fn a_failover_probes_the_circuit_of_a_lower_tier() {
    for mode in MODES {
        let (fleet, [main, spare]) = fleet(circuit(), [("main", 1), ("spare", 0)]);
        for _ in 0..20 {
            // The circuit is due when the primary fails, and not before.
            main.answer(Answer::ErrorAfter(secs(1)));
            fleet.switch("spare").unwrap().trip();
            assert_eq!(door(failover(mode), &fleet).oneshot(()).await.unwrap(), "spare", "{mode:?}");
            assert_eq!(fleet.switch("spare").unwrap().state(), CircuitState::Closed);
            fleet.switch("main").unwrap().reset();
        }
        assert_eq!((main.calls(), spare.calls()), (20, 20));
    }
}

// C8, C40: issue 11.2
#[tokio::test(start_paused = true)]
async fn normal_traffic_closes_the_circuits_of_a_lower_tier_at_a_bounded_rate() {
    for mode in MODES {
        let names: [(&str, i32); 12] =
            std::array::from_fn(|index| (["main", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"][index], 0));
        let (fleet, remotes) = fleet(circuit(), names);
        fleet.set_priority("main", 1);
        names[1..].iter().for_each(|(name, _)| fleet.switch(name).unwrap().trip());
        let door = door(failover(mode), &fleet);
        advance(secs(1)).await;
        let began = Instant::now();
        while began.elapsed() < secs(2) {
            door.clone().oneshot(()).await.unwrap();
            let probes: usize = remotes[1..].iter().map(|remote| remote.calls()).sum();
            // The first at once, then one in each 100 ms.
            assert!(probes <= 1 + began.elapsed().as_millis() as usize / 100, "{probes} in {:?}", began.elapsed());
            advance(Duration::from_millis(5)).await;
        }
        assert!(fleet.snapshot().iter().all(|backend| backend.state == CircuitState::Closed));
    }
}

// C1, C51: issue 11.3
#[tokio::test(start_paused = true)]
async fn a_pending_upper_tier_holds_a_request_for_ready_within_at_most() {
    let deadline = |layer: FailoverBuilder<Plain>| layer.deadline(secs(7));
    for (layer, wait) in [
        (failover(Mode::Race).ready_within(secs(2)), 2),
        (deadline(failover(Mode::Race)).ready_within(secs(2)), 2),
        (deadline(failover(Mode::Race)), 7),
        (failover(Mode::Race).timeout(secs(5)), 5),
        (failover(Mode::Race), 60),
    ] {
        let (fleet, [main, _spare]) = fleet(circuit(), [("main", 1), ("spare", 0)]);
        main.set_readiness(Readiness::Pending);
        let mut door = door(layer, &fleet);
        let began = Instant::now();
        door.ready().await.unwrap();
        let waited = began.elapsed();
        assert!((secs(wait)..secs(wait) + secs(1)).contains(&waited), "{waited:?}, not {wait} s");
        assert_eq!(main.instances(), 1, "an idle door holds no pending instance");
        // Once ready, it stays ready until it is called; and the call has its whole time.
        assert!(door.poll_ready(&mut noop()).is_ready());
        sleep(secs(100)).await;
        assert!(door.poll_ready(&mut noop()).is_ready());
        assert_eq!(door.call(()).await.unwrap(), "spare");
    }
}

// C51: issue 11.3
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_pending_backends_ends_with_its_deadline() {
    let (fleet, remotes) = fleet(circuit(), [("a", 1), ("b", 0)]);
    remotes.iter().for_each(|remote| remote.set_readiness(Readiness::Pending));
    let mut door = door(failover(Mode::Race).deadline(secs(3)), &fleet);
    door.ready().await.unwrap();
    let began = Instant::now();
    let error = door.call(()).await.unwrap_err();
    assert_eq!((error.ledger().stopped(), began.elapsed().as_secs()), (Some(Stopped::OutOfTime), 3));
    drop(door);
    assert_eq!([remotes[0].instances(), remotes[1].instances()], [1, 1]);
}

/// What ends the wait for a pending backend.
type Event = fn(&Plainly);

// C1, C10, C51: issue 11.3. In `poll_ready` and in the future.
#[tokio::test(start_paused = true)]
async fn a_waiting_failover_wakes_when_another_backend_may_be_called() {
    let insert: Event = |fleet| fleet.insert(Backend::new("other", Mock::new("other").0).priority(1)).unwrap();
    let restore: Event = |fleet| assert!(fleet.set_status("other", tower_fleet::AdminStatus::Healthy));
    let close: Event = |fleet| fleet.switch("other").unwrap().reset();
    let due: Event = |_| {};
    for (event, is_called) in
        [insert, restore, close, due].into_iter().flat_map(|event| [(event, false), (event, true)])
    {
        let (fleet, [a, b, other]) = fleet(circuit().open_for(secs(5)), [("a", 1), ("b", 1), ("other", 1)]);
        if event as usize == insert as usize {
            fleet.remove("other");
        } else if event as usize == restore as usize {
            fleet.drain("other");
        } else {
            fleet.switch("other").unwrap().trip();
        }
        b.set_readiness(Readiness::Pending);
        if is_called {
            // The first attempt fails, and the next one has to wait.
            a.answer(Answer::Error);
        } else {
            a.set_readiness(Readiness::Pending);
        }
        // In a task of its own, which nothing else wakes.
        let request = tokio::spawn(door(failover(Mode::Sequential), &fleet).oneshot(()));
        sleep(secs(1)).await;
        event(&fleet);
        let answer = timeout(secs(10), request).await.expect("it never wakes").unwrap();
        assert_eq!(answer.unwrap(), "other");
        drop(other);
    }
}

// C11, C38: issue 11.11
#[tokio::test(start_paused = true)]
async fn an_idle_ready_door_holds_one_instance_and_no_permit() {
    for mode in MODES {
        let (fleet, remotes) = fleet(circuit(), [("a", 1), ("b", 1), ("c", 1)]);
        remotes.iter().for_each(|remote| remote.set_readiness(Readiness::Pending));
        let mut door = door(failover(mode), &fleet);
        let mut balance = BalanceLayer::round_robin().layer(fleet.clone());
        assert!(
            door.poll_ready(&mut noop()).is_pending()
                && Service::<()>::poll_ready(&mut balance, &mut noop()).is_pending()
        );
        remotes[1].set_readiness(Readiness::Ready);
        assert!(
            door.poll_ready(&mut noop()).is_ready() && Service::<()>::poll_ready(&mut balance, &mut noop()).is_ready()
        );
        assert_eq!(remotes.each_ref().map(|remote| remote.instances()), [1, 3, 1]);
        // Two doors that are ready to probe the same circuit: the permit is taken by the first call.
        fleet.drain("a");
        fleet.drain("c");
        fleet.switch("b").unwrap().trip();
        advance(secs(1)).await;
        assert!(
            door.poll_ready(&mut noop()).is_ready() && Service::<()>::poll_ready(&mut balance, &mut noop()).is_ready()
        );
        assert_eq!(door.call(()).await.unwrap(), "b");
        // A removed backend is held by no door that is polled.
        assert!(door.poll_ready(&mut noop()).is_ready());
        fleet.remove("b");
        assert!(
            door.poll_ready(&mut noop()).is_ready() && Service::<()>::poll_ready(&mut balance, &mut noop()).is_ready()
        );
        assert_eq!(remotes[1].instances(), 0);
    }
}

/// Requests that must not take effect twice.
#[derive(Clone)]
struct NotIdempotent;

impl Replay<()> for NotIdempotent {
    type Request = ();

    fn keep(&self, (): ()) {}

    fn again(&self, (): &()) -> Result<(), Unreplayable> {
        Ok(())
    }

    fn is_idempotent(&self, (): &()) -> bool {
        false
    }
}

/// Fails in `poll_ready`, by an error or a panic.
#[derive(Clone)]
struct Unready {
    panics: bool,
    polls: Arc<AtomicUsize>,
}

impl Service<()> for Unready {
    type Response = &'static str;
    type Error = &'static str;
    type Future = std::future::Ready<Result<&'static str, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.polls.fetch_add(1, SeqCst);
        if self.panics {
            std::panic::resume_unwind(Box::new("in poll_ready"));
        }
        Poll::Ready(Err("not ready"))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        unreachable!("it is never ready")
    }
}

// C34, C37: issue 11.5
#[tokio::test(start_paused = true)]
async fn a_failed_poll_ready_is_a_failure_of_a_closed_circuit() {
    for panics in [false, true] {
        let polls = Arc::new(AtomicUsize::new(0));
        let fleet = || {
            let backend = Backend::new("a", Unready { panics, polls: Arc::clone(&polls) });
            Fleet::plain().circuit_breaker(circuit().consecutive(3)).backend(backend).build().unwrap()
        };
        let state = |fleet: &Fleet<Unready, ErrorsOnly>| fleet.snapshot()[0].state;
        let (balanced, failing) = (fleet(), fleet());
        for request in 1..=3 {
            polls.store(0, SeqCst);
            let balance = BalanceLayer::round_robin().layer(balanced.clone());
            let error = AssertUnwindSafe(balance.oneshot(())).catch_unwind().await;
            assert_eq!(error.is_err(), panics, "a balance sends a panic to its caller");
            let error = failover(Mode::Race).build().unwrap().layer(failing.clone()).oneshot(()).await.unwrap_err();
            assert!(matches!(error.ledger().attempts()[0].ending, Ending::NotReady { .. }), "{error:?}");
            assert_eq!(polls.load(SeqCst), 2, "one for each request");
            let expected = if request < 3 { CircuitState::Closed } else { CircuitState::Open };
            assert_eq!((state(&balanced), state(&failing)), (expected, expected), "{request}, panics: {panics}");
        }
    }
}

// C34, C37: issue 11.5. Also by a request that has polled another backend before.
#[tokio::test(start_paused = true)]
async fn a_panic_in_poll_ready_is_a_failure_of_each_backend() {
    let backends = ["a", "b"].map(|name| Backend::new(name, Unready { panics: true, polls: Arc::default() }));
    let fleet = Fleet::plain().circuit_breaker(circuit().consecutive(3)).backends(backends).build().unwrap();
    for request in 1..=3 {
        let error = failover(Mode::Race).build().unwrap().layer(fleet.clone()).oneshot(()).await.unwrap_err();
        assert_eq!(error.ledger().attempts().len(), 2, "{error:?}");
        assert!(fleet.snapshot().iter().all(|backend| (backend.state == CircuitState::Open) == (request == 3)));
    }
}

// C34, C37, C38: issue 11.5. A lone breaker too, closed or probing, and without a permit that stays taken.
#[tokio::test(start_paused = true)]
async fn a_failed_poll_ready_is_a_failure_of_a_lone_circuit() {
    for (panics, waits) in [(false, false), (true, false), (false, true), (true, true)] {
        let layer = CircuitBreakerLayer::plain(circuit().consecutive(2).probe_timeout(secs(3600))).unwrap();
        let layer = if waits { layer.waiting() } else { layer };
        let mut breaker = layer.layer(Unready { panics, polls: Arc::default() });
        let switch = breaker.switch();
        for generation in [0, 1, 3, 5] {
            for _ in 0..if generation == 0 { 2 } else { 1 } {
                let polled = AssertUnwindSafe(std::future::poll_fn(|cx| Service::<()>::poll_ready(&mut breaker, cx)));
                match polled.catch_unwind().await {
                    Ok(ready) => assert!(ready.is_err() && !panics),
                    Err(_) => assert!(panics),
                }
            }
            assert_eq!(switch.state(), CircuitState::Open, "generation {generation}, panics: {panics}");
            advance(secs(1)).await;
            assert_eq!(switch.state(), CircuitState::HalfOpen);
        }
    }
}

// C34, C44: issue 11.5. Also if another backend serves the request.
#[tokio::test(start_paused = true)]
async fn a_backend_that_never_becomes_ready_is_taken_out() {
    let (fleet, [bad, _good]) = fleet(circuit().consecutive(3), [("bad", 0), ("good", 0)]);
    bad.set_readiness(Readiness::Error);
    for request in 1..=3 {
        assert_eq!(door(failover(Mode::Race), &fleet).oneshot(()).await.unwrap(), "good");
        assert_eq!(fleet.snapshot()[0].state == CircuitState::Open, request == 3);
    }
}

/// What a backend of a large fleet does.
#[derive(Clone, Copy, PartialEq)]
enum Large {
    FailsCalls,
    FailsReady,
    IsPending,
}

#[derive(Clone)]
struct One {
    does: Large,
    /// Work so far, and what is ready after all.
    shared: Arc<(AtomicUsize, AtomicBool)>,
    is_spared: bool,
    wakers: Arc<std::sync::Mutex<Option<Waker>>>,
}

impl Service<()> for One {
    type Response = ();
    type Error = &'static str;
    type Future = std::future::Ready<Result<(), &'static str>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.shared.0.fetch_add(1, SeqCst);
        match self.does {
            _ if self.is_spared && self.shared.1.load(SeqCst) => Poll::Ready(Ok(())),
            Large::FailsCalls => Poll::Ready(Ok(())),
            Large::FailsReady => Poll::Ready(Err("not ready")),
            Large::IsPending => {
                *self.wakers.lock().unwrap() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn call(&mut self, (): ()) -> Self::Future {
        self.shared.0.fetch_add(1, SeqCst);
        std::future::ready(if self.is_spared && self.shared.1.load(SeqCst) { Ok(()) } else { Err("failed") })
    }
}

const LARGE: usize = 10_000;

/// The backends of a large fleet, of which one is good once the flag is set. Its wakers are the last of the list.
fn large(does: Large, is_good: bool) -> (Fleet<One, ErrorsOnly>, One) {
    let shared = Arc::new((AtomicUsize::new(0), AtomicBool::new(is_good)));
    let one = |is_spared| One { does, shared: Arc::clone(&shared), is_spared, wakers: Arc::default() };
    let last = one(true);
    let backends = (0..LARGE - 1).map(|index| Backend::new(format!("b{index}"), one(false)));
    let fleet = Fleet::plain().backends(backends).backend(Backend::new("last", last.clone())).build().unwrap();
    (fleet, last)
}

/// Polls a future to its end. Returns its output, and the most that backends were polled and called in one poll.
async fn work<F: Future>(future: F, shared: &Arc<(AtomicUsize, AtomicBool)>) -> (F::Output, usize, usize) {
    let mut future = pin!(future);
    let (mut most, mut polls) = (0, 0);
    let output = futures::future::poll_fn(|cx| {
        let before = shared.0.load(SeqCst);
        let poll = future.as_mut().poll(cx);
        (most, polls) = (most.max(shared.0.load(SeqCst) - before), polls + 1);
        poll
    });
    (output.await, most, polls)
}

// C57: issue 11.6
#[tokio::test(start_paused = true)]
async fn no_poll_of_a_large_fleet_is_long() {
    for does in [Large::FailsCalls, Large::FailsReady] {
        for mode in MODES {
            let (fleet, last) = large(does, true);
            let failover = failover(mode).build().unwrap().layer(fleet.clone());
            let (answer, most, polls) = work(failover.oneshot(()), &last.shared).await;
            answer.expect("the last one is good");
            // In an order that begins anywhere, the last one may be found at once.
            let is_long = does == Large::FailsReady || polls > 100;
            assert!(most <= 300 && is_long, "{most} in one of {polls} polls");
        }
        let (fleet, last) = large(does, true);
        let balance = BalanceLayer::round_robin().layer(fleet.clone());
        let (answer, most, _) = work(balance.oneshot(()), &last.shared).await;
        assert!(answer.is_ok() == (does == Large::FailsReady) && most <= 300, "{most} in one poll");
    }
}

// C10, C57: issue 11.6. The one that becomes ready is found, wherever the search is just then.
#[tokio::test(start_paused = true)]
async fn a_search_in_a_large_fleet_misses_no_wake_up() {
    // Two rounds of 79 polls, after which nothing polls the door any more.
    for wakes_after in (0..156).step_by(3) {
        let (fleet, last) = large(Large::IsPending, false);
        let mut door = BalanceLayer::round_robin().layer(fleet.clone());
        let mut polls = 0;
        // In a task of its own, which nothing else wakes.
        let ready = tokio::spawn(futures::future::poll_fn(move |cx| {
            let before = last.shared.0.load(SeqCst);
            let poll = Service::<()>::poll_ready(&mut door, cx);
            let polled = last.shared.0.load(SeqCst) - before;
            assert!(polled <= 300, "{polled} in one poll");
            polls += 1;
            if polls > wakes_after {
                last.shared.1.store(true, SeqCst);
                if let Some(waker) = last.wakers.lock().unwrap().take() {
                    waker.wake();
                }
            }
            poll
        }));
        timeout(secs(60), ready).await.unwrap_or_else(|_| panic!("missed, {wakes_after}")).unwrap().unwrap();
    }
}

// C15: issue 11.6
#[tokio::test(start_paused = true)]
async fn the_order_of_the_tier_decides_which_backends_race() {
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let backends = (0..40_usize).map(|index| {
        let order = Arc::clone(&order);
        let call = service_fn(move |()| {
            order.lock().unwrap().push(index);
            pending::<Result<(), Infallible>>()
        });
        Backend::new(format!("b{index}"), call)
    });
    let fleet = Fleet::plain().backends(backends).build().unwrap();
    let layer = failover(Mode::Race).timeout(secs(1)).race_bound(secs(2)).build().unwrap();
    let error = layer.layer(fleet).oneshot(()).await.unwrap_err();
    let order = order.lock().unwrap();
    // The primary alone, then it and the next fifteen, then those after them.
    assert_eq!(order[..17], [vec![0], (0..16).collect()].concat());
    assert_eq!(order[17..].iter().collect::<HashSet<_>>().len(), order.len() - 17);
    assert!(matches!(error.kind(), ErrorKind::Exhausted { .. }));
}

/// Panics when it is dropped: an instance that is not called, a call, or a response.
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            std::panic::resume_unwind(Box::new(self.0));
        }
    }
}

// C17: issue 11.9
#[tokio::test(start_paused = true)]
async fn losers_that_panic_in_drop_do_not_lose_the_winner() {
    for mode in [Mode::Race, Mode::hedged(Duration::from_millis(1))] {
        let backends = ["a", "b", "c", "good"].map(|name| {
            let call = service_fn(move |(): ()| async move {
                if name == "good" {
                    sleep(secs(2)).await;
                    return Ok(name);
                }
                let _bomb = Bomb(name);
                sleep(secs(1)).await;
                if name == "a" {
                    std::mem::forget(_bomb);
                    return Err("failed");
                }
                pending().await
            });
            Backend::new(name, call)
        });
        let fleet = Fleet::plain().backends(backends).build().unwrap();
        let answer = failover(mode).build().unwrap().layer(fleet.clone()).oneshot(()).await;
        assert_eq!(answer.unwrap(), "good", "{mode:?}");
        assert!(fleet.snapshot().iter().all(|backend| backend.in_flight == 0));
    }
}

// C1, C51: issue 11.3. A backend that failed to become ready once is considered again while the request waits.
#[tokio::test(start_paused = true)]
async fn a_backend_that_failed_to_become_ready_is_considered_again() {
    for waits_in_door in [false, true] {
        let (fleet, [a, b]) = fleet(circuit().consecutive(9), [("a", 0), ("b", 0)]);
        a.set_readiness(Readiness::Error);
        b.set_readiness(Readiness::Pending);
        let layer = failover(Mode::Race).deadline(secs(30));
        let layer = if waits_in_door { layer } else { layer.ready_within(Duration::from_millis(1)) };
        let mut door = door(layer, &fleet);
        let request = tokio::spawn(async move { door.ready().await.unwrap().call(()).await });
        sleep(Duration::from_millis(100)).await;
        a.set_readiness(Readiness::Ready);
        let answer = timeout(secs(2), request).await.expect("it waits for b only").unwrap();
        assert_eq!(answer.unwrap(), "a");
    }
}

// C8, C40: issue 11.2
#[tokio::test(start_paused = true)]
async fn a_spare_that_is_not_ready_does_not_keep_another_from_being_probed() {
    let (fleet, [_main, slow, good]) = fleet(circuit(), [("main", 1), ("slow", 0), ("good", 0)]);
    slow.set_readiness(Readiness::Pending);
    ["slow", "good"].into_iter().for_each(|name| fleet.switch(name).unwrap().trip());
    advance(secs(1)).await;
    assert_eq!(door(failover(Mode::Race), &fleet).oneshot(()).await.unwrap(), "good");
    assert_eq!((good.calls(), fleet.switch("good").unwrap().state()), (1, CircuitState::Closed));
}

// C1, C51, C57: issue 11.3. In a fleet that is too large for one poll, and whose backends wake the door all the time.
#[tokio::test(start_paused = true)]
async fn ready_within_holds_in_a_large_fleet() {
    #[derive(Clone)]
    struct Restless;

    impl Service<()> for Restless {
        type Response = ();
        type Error = Infallible;
        type Future = std::future::Ready<Result<(), Infallible>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            cx.waker().wake_by_ref();
            Poll::Pending
        }

        fn call(&mut self, (): ()) -> Self::Future {
            unreachable!("it is never ready")
        }
    }

    let fleet = Fleet::plain().backends((0..1_000).map(|index| Backend::new(format!("b{index}"), Restless)));
    let fleet = fleet.build().unwrap();
    let mut door = failover(Mode::Race).ready_within(secs(1)).build().unwrap().layer(fleet);
    let mut polls = 0;
    std::future::poll_fn(|cx| {
        polls += 1;
        assert!(polls < 100_000, "it does not end");
        if polls % 100 == 0 {
            // Time stands still while a task is busy.
            let _ = pin!(advance(Duration::from_millis(10))).poll(cx);
        }
        door.poll_ready(cx)
    })
    .await
    .unwrap();
}

// C57: issue 11.6. In lower tiers too: an attempt goes on where the one before it was found.
#[tokio::test(start_paused = true)]
async fn attempts_in_a_large_lower_tier_cost_no_more_than_in_the_first() {
    for mode in [Mode::Race, Mode::Sequential] {
        let polls = Arc::new((AtomicUsize::new(0), AtomicBool::new(false)));
        let backends = (0..LARGE).map(|index| {
            let one =
                One { does: Large::FailsCalls, shared: Arc::clone(&polls), is_spared: false, wakers: Arc::default() };
            Backend::new(format!("b{index}"), one).priority(i32::from(index == 0))
        });
        let fleet = Fleet::plain().backends(backends).build().unwrap();
        let failover = failover(mode).build().unwrap().layer(fleet);
        let (error, most, _) = work(failover.oneshot(()), &polls).await;
        let attempts = error.unwrap_err().ledger().attempts().len();
        assert!((LARGE..LARGE + 2).contains(&attempts) && most <= 300, "{attempts} attempts, {most} in one poll");
    }
}

// C8, C13, C26: issue 11.2. A probe of a spare costs no request of a healthy primary.
#[tokio::test(start_paused = true)]
async fn the_probe_of_a_dead_spare_loses_and_delays_no_request() {
    for answer in [Answer::Error, Answer::Never] {
        let (fleet, [main, spare]) = fleet(circuit(), [("main", 1), ("spare", 0)]);
        spare.answer(answer);
        fleet.switch("spare").unwrap().trip();
        let mut slowest = Duration::ZERO;
        for _ in 0..60 {
            advance(Duration::from_millis(100)).await;
            let began = Instant::now();
            assert_eq!(door(failover(Mode::Sequential), &fleet).oneshot(()).await.unwrap(), "main");
            slowest = slowest.max(began.elapsed());
        }
        assert!(spare.calls() > 0 && slowest <= secs(1) + Duration::from_millis(2), "{slowest:?}");
        // Requests that must not be sent twice go to the primary, and so do those of a balance.
        let before = spare.calls();
        let post = FailoverLayer::with_protocol(Plain::new(NotIdempotent)).build().unwrap();
        for _ in 0..60 {
            advance(Duration::from_millis(100)).await;
            assert_eq!(post.layer(fleet.clone()).oneshot(()).await.unwrap(), "main");
            assert_eq!(BalanceLayer::round_robin().layer(fleet.clone()).oneshot(()).await.unwrap(), "main");
        }
        assert_eq!((spare.calls(), main.calls()), (before, 180));
    }
}
