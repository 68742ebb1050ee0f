//! A panic of a backend's code costs neither an answer nor a count: in clones, in destructors, and in wakers.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    convert::Infallible,
    future::Ready,
    panic::{AssertUnwindSafe, resume_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, channel::mpsc};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{Full, StreamBody};
use tokio::time::{sleep, timeout};
use tower::{Layer, Service, service_fn};
use tower_fleet::{
    Backend, BalanceLayer, CircuitPolicy, CircuitState, FailoverLayer, Fleet, Mode,
    body::{ReplayBody, ReplayLayer},
    failover::{Budget, FailoverBuilder, HedgeDelay, Plain},
    outcome::{BoxError, ErrorsOnly},
};

const MODES: [Mode; 3] = [Mode::Race, Mode::Sequential, Mode::Hedged(HedgeDelay::After(Duration::from_secs(100)))];

/// A panic without a message.
fn boom() -> ! {
    resume_unwind(Box::new("boom"))
}

fn failover(mode: Mode) -> FailoverBuilder<Plain> {
    FailoverLayer::plain().mode(mode)
}

fn assert_idle<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static>(fleet: &Fleet<S, C>) {
    assert!(fleet.snapshot().iter().all(|backend| backend.in_flight == 0), "{fleet:?}");
}

/// What panics once it is armed.
#[derive(Clone, Copy, PartialEq)]
enum Panics {
    Never,
    InClone,
    InDrop,
}

/// A service whose instances panic.
struct Fragile {
    name: &'static str,
    panics: Panics,
    is_armed: Arc<AtomicBool>,
}

impl Fragile {
    fn new(name: &'static str, panics: Panics) -> Self {
        Self { name, panics, is_armed: Arc::default() }
    }
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        if self.panics == Panics::InClone && self.is_armed.load(SeqCst) {
            boom();
        }
        Self { name: self.name, panics: self.panics, is_armed: Arc::clone(&self.is_armed) }
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        if self.panics == Panics::InDrop && self.is_armed.load(SeqCst) && !std::thread::panicking() {
            boom();
        }
    }
}

impl Service<()> for Fragile {
    type Response = &'static str;
    type Error = Infallible;
    type Future = Ready<Result<&'static str, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        std::future::ready(Ok(self.name))
    }
}

fn fragile(panics: Panics) -> (Fleet<Fragile, ErrorsOnly>, Arc<AtomicBool>) {
    let bad = Fragile::new("bad", panics);
    let is_armed = Arc::clone(&bad.is_armed);
    let policy = CircuitPolicy::new().consecutive(3).open_for(Duration::from_secs(1));
    let fleet = Fleet::plain().circuit_breaker(policy).backend(Backend::new("bad", bad).priority(1));
    (fleet.backend(Backend::new("good", Fragile::new("good", Panics::Never))).build().unwrap(), is_armed)
}

// C17, C37, C45
#[tokio::test(start_paused = true)]
async fn a_service_that_panics_in_clone_or_drop_loses_no_request() {
    for (panics, mode) in
        [Panics::InClone, Panics::InDrop].into_iter().flat_map(|panics| MODES.map(|mode| (panics, mode)))
    {
        let (fleet, is_armed) = fragile(panics);
        is_armed.store(true, SeqCst);
        for request in 1..=6 {
            let answer = failover(mode).build().unwrap().layer(fleet.clone()).oneshot(()).await.unwrap();
            assert_eq!(answer, if panics == Panics::InClone { "good" } else { "bad" });
            assert_idle(&fleet);
            let is_open = fleet.snapshot()[0].state == CircuitState::Open;
            assert_eq!(is_open, panics == Panics::InClone && request >= 3, "{request}");
        }
        is_armed.store(false, SeqCst);
    }
}

// C34, C37: a balance passes the panic on, and counts it.
#[tokio::test(start_paused = true)]
async fn a_panic_in_clone_is_a_failure_of_its_backend() {
    let (fleet, is_armed) = fragile(Panics::InClone);
    is_armed.store(true, SeqCst);
    for _ in 0..3 {
        let answer =
            AssertUnwindSafe(BalanceLayer::round_robin().layer(fleet.clone()).oneshot(())).catch_unwind().await;
        assert!(answer.is_err());
    }
    assert_eq!(BalanceLayer::round_robin().layer(fleet.clone()).oneshot(()).await.unwrap(), "good");
    assert_idle(&fleet);
}

/// An error that panics in its destructor.
#[derive(Debug)]
struct Explosive;

impl std::fmt::Display for Explosive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("explosive")
    }
}

impl std::error::Error for Explosive {}

impl Drop for Explosive {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            boom();
        }
    }
}

// C17
#[tokio::test(start_paused = true)]
async fn an_earlier_error_that_panics_in_drop_loses_no_answer() {
    for mode in MODES {
        let backends = ["a", "b", "c"].map(|name| {
            let call = service_fn(move |()| async move {
                sleep(Duration::from_millis(if name == "c" { 9 } else { 1 })).await;
                if name == "c" { Ok(name) } else { Err(Explosive) }
            });
            Backend::new(name, call)
        });
        let fleet = Fleet::plain().backends(backends).build().unwrap();
        assert_eq!(failover(mode).build().unwrap().layer(fleet.clone()).oneshot(()).await.unwrap(), "c");
        assert_idle(&fleet);
    }
}

/// A body that panics in its destructor.
struct ExplosiveBody(Explosive);

impl Body for ExplosiveBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }
}

// C19
#[tokio::test(start_paused = true)]
async fn a_last_response_that_panics_in_drop_loses_no_error() {
    for mode in MODES {
        let backends = ["a", "b"].map(|name| {
            let call = service_fn(async |_: Request<ReplayBody<Full<Bytes>>>| {
                Ok::<_, Infallible>(Response::builder().status(503).body(ExplosiveBody(Explosive)).unwrap())
            });
            Backend::new(name, call)
        });
        let fleet = Fleet::builder().backends(backends).build().unwrap();
        let layer = FailoverLayer::builder().mode(mode).error_when_exhausted().build().unwrap();
        let result = layer.layer(fleet.clone()).oneshot(Request::new(Full::default())).await;
        let Err(error) = result else { panic!("a response in place of the error") };
        assert!(error.ledger().attempts().len() >= 2);
        assert_idle(&fleet);
    }
}

/// Counts its instances.
struct Counted(Arc<AtomicUsize>);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// The body of a caller that sends what the test sends.
type Sent = StreamBody<mpsc::UnboundedReceiver<Result<Frame<Bytes>, BoxError>>>;

// C37, C50: issue 11.4
#[tokio::test(start_paused = true)]
async fn a_waker_of_a_reader_that_panics_does_not_stop_the_time_of_its_attempt() {
    struct Panicking;
    impl Wake for Panicking {
        fn wake(self: Arc<Self>) {
            boom();
        }
    }
    let call = service_fn(async |request: Request<ReplayBody<Sent>>| {
        let mut body = request.into_body();
        let waker = Waker::from(Arc::new(Panicking));
        assert!(Pin::new(&mut body).poll_frame(&mut Context::from_waker(&waker)).is_pending());
        std::future::pending::<()>().await;
        drop(body);
        Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
    });
    let fleet = Fleet::builder().backend(Backend::new("a", call)).build().unwrap();
    let replay = ReplayLayer::new().idle_timeout(None);
    let door = FailoverLayer::builder().timeout(Duration::from_secs(2)).replay(replay).build().unwrap().layer(fleet);
    let (send, receive) = mpsc::unbounded();
    let request = tokio::spawn(door.oneshot(Request::put("/").body(StreamBody::new(receive)).unwrap()));
    sleep(Duration::from_secs(1)).await;
    send.unbounded_send(Ok(Frame::data(Bytes::from_static(b"x")))).unwrap();
    timeout(Duration::from_secs(10), request).await.expect("its timeout never ends").unwrap().unwrap_err();
}

// C33, C37: issue 11.4
#[tokio::test(start_paused = true)]
async fn the_wakers_of_a_task_do_not_pile_up_while_its_caller_is_slow() {
    let call = service_fn(async |request: Request<ReplayBody<Sent>>| {
        http_body_util::BodyExt::collect(request.into_body()).await?;
        Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
    });
    let fleet = Fleet::builder().backend(Backend::new("a", call)).build().unwrap();
    let door = FailoverLayer::builder().timeout(Duration::from_secs(5)).build().unwrap().layer(fleet);
    let (_send, receive) = mpsc::unbounded();
    let mut request = Box::pin(door.oneshot(Request::put("/").body(StreamBody::new(receive)).unwrap()));
    let alive = Arc::new(AtomicUsize::new(0));
    for _ in 0..1_000 {
        alive.fetch_add(1, SeqCst);
        let waker = Waker::from(Arc::new(Counted(Arc::clone(&alive))));
        assert!(request.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert!(alive.load(SeqCst) < 50, "{alive:?} wakers are kept");
}

/// A backend that opens its own circuit while it is polled, as another request may.
#[derive(Clone)]
struct Unlucky {
    name: &'static str,
    fleet: Arc<Mutex<Option<Fleet<Unlucky, ErrorsOnly>>>>,
}

impl Service<()> for Unlucky {
    type Response = &'static str;
    type Error = &'static str;
    type Future = Ready<Result<&'static str, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        if self.name == "b" {
            let fleet = self.fleet.lock().unwrap().clone();
            fleet.unwrap().switch("b").unwrap().trip();
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        std::future::ready(if self.name == "a" { Err("failed") } else { Ok(self.name) })
    }
}

// C53: issue 11.10
#[tokio::test(start_paused = true)]
async fn an_attempt_that_does_not_start_takes_no_token() {
    for mode in MODES {
        let shared = Arc::new(Mutex::new(None));
        let backend =
            |(name, priority)| Backend::new(name, Unlucky { name, fleet: Arc::clone(&shared) }).priority(priority);
        let policy = CircuitPolicy::new().consecutive(100);
        let fleet = Fleet::plain().circuit_breaker(policy).backends([("a", 2), ("b", 1), ("c", 0)].map(backend));
        let fleet = fleet.build().unwrap();
        *shared.lock().unwrap() = Some(fleet.clone());
        // A race gives the primary a second attempt.
        let budget = Budget::new(0.0).reserve(if mode == Mode::Race { 2 } else { 1 });
        let answer = failover(mode).budget(budget).build().unwrap().layer(fleet).oneshot(()).await;
        *shared.lock().unwrap() = None;
        assert_eq!(answer.unwrap(), "c", "{mode:?}");
    }
}
