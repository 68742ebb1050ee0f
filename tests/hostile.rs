//! Backends, callers and wakers that do what they should not, at moments when it hurts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, pending, ready},
    stream,
};
use tower::{BoxError, Layer, Service, ServiceExt, discover};
use tower_fleet::{
    AdminStatus, Backend, Balance, BalanceLayer, CircuitBreakerLayer, CircuitPolicy, CircuitState, FailoverLayer,
    Fleet,
    balance::ErrorKind,
    failover::Mode,
    outcome::{CallGuard, Classify, ErrorsOnly, Outcome, Verdict, inspect},
    pick::RoundRobin,
};

type Answer = BoxFuture<'static, Result<&'static str, BoxError>>;
type Plain<C = ErrorsOnly> = Fleet<Site, C>;

/// A backend that does what the test says, when it is asked and when it is called.
#[derive(Clone)]
struct Site {
    ready: Arc<dyn Fn() -> Poll<Result<(), BoxError>> + Send + Sync>,
    call: Arc<dyn Fn() -> Answer + Send + Sync>,
}

impl Site {
    fn new(call: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        Self { ready: Arc::new(|| Poll::Ready(Ok(()))), call: Arc::new(call) }
    }

    fn ok(name: &'static str) -> Self {
        Self::new(move || ready(Ok(name)).boxed())
    }

    fn fails_after(time: Duration) -> Self {
        Self::new(move || {
            async move {
                tokio::time::sleep(time).await;
                Err("failed".into())
            }
            .boxed()
        })
    }

    fn asked(mut self, ready: impl Fn() -> Poll<Result<(), BoxError>> + Send + Sync + 'static) -> Self {
        self.ready = Arc::new(ready);
        self
    }
}

impl<Req> Service<Req> for Site {
    type Response = &'static str;
    type Error = BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        (self.ready)()
    }

    fn call(&mut self, _: Req) -> Answer {
        (self.call)()
    }
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Opens at one failure, and keeps a permit that is not given back for an hour.
fn circuit() -> CircuitPolicy {
    CircuitPolicy::new().consecutive(1).open_for(secs(1)).probe_timeout(secs(3600))
}

/// Opens the circuit of a backend, and lets its time pass.
async fn is_due<C: Clone + Send + Sync + 'static>(fleet: &Plain<C>, name: &str) {
    fleet.switch(name).unwrap().trip();
    tokio::time::advance(secs(2)).await;
}

fn door<C: Clone + Send + Sync + 'static>(fleet: &Plain<C>) -> Balance<Site, RoundRobin, C> {
    BalanceLayer::round_robin().layer(fleet.clone())
}

async fn panics<T>(future: impl Future<Output = T>) -> bool {
    AssertUnwindSafe(future).catch_unwind().await.is_err()
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// A deadlock is a failure of its test, not of all.
fn ends(test: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || done.send(catch_unwind(AssertUnwindSafe(test))));
    match is_done.recv_timeout(secs(30)) {
        Ok(result) => result.unwrap_or_else(|panic| resume_unwind(panic)),
        Err(_) => panic!("it hangs"),
    }
}

struct OnWake<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for OnWake<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

// C37, C44
#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_when_asked_is_a_failed_probe() {
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let bad = Site::ok("bad").asked(move || {
        counted.fetch_add(1, SeqCst);
        panic!("in poll_ready")
    });
    let fleet = Fleet::plain().circuit_breaker(circuit());
    let fleet = fleet.backend(Backend::new("good", Site::ok("good"))).backend(Backend::new("bad", bad));
    let fleet = fleet.build().unwrap();
    let failover = FailoverLayer::plain().build().unwrap().layer(fleet.clone());
    is_due(&fleet, "bad").await;
    for _ in 0..20 {
        assert_eq!(door(&fleet).oneshot(()).await.unwrap(), "good");
        assert_eq!(failover.clone().oneshot(()).await.unwrap(), "good");
    }
    assert_eq!((asked.load(SeqCst), fleet.switch("bad").unwrap().state()), (1, CircuitState::Open));
    fleet.drain("good");
    is_due(&fleet, "bad").await;
    let error = door(&fleet).oneshot(()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotReady { backend, .. } if **backend == *"bad"), "{error:?}");
    assert_eq!(asked.load(SeqCst), 2, "the failure of `poll_ready` is the result of the request");
    let error = door(&fleet).oneshot(()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NoneAvailable { backends: 2, .. }), "{error:?}");
}

// C42
#[test]
fn a_backend_that_may_not_be_out_serves_while_its_circuit_opens_again_and_again() {
    let fleet = Fleet::plain().circuit_breaker(circuit().open_for(secs(30))).max_ejected(0.0);
    let fleet = fleet.backend(Backend::new("a", Site::ok("a"))).build().unwrap();
    let switch = fleet.switch("a").unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                switch.trip();
                switch.probe_now();
                switch.trip();
                switch.reset();
            }
        });
        let door = door(&fleet);
        for _ in 0..20_000 {
            let answer = door.clone().oneshot(()).now_or_never();
            let is_left_out = matches!(answer, Some(Err(_)));
            is_over.fetch_or(is_left_out, SeqCst);
            assert!(!is_left_out, "{answer:?}");
        }
        is_over.store(true, SeqCst);
    });
}

// C10, C57
#[test]
fn a_poll_ends_although_the_fleet_changes_with_each_look() {
    ends(|| {
        let fleet: Plain =
            Fleet::plain().backend(Backend::new("b", Site::ok("b").asked(|| Poll::Pending))).build().unwrap();
        let (weight, changed) = (AtomicU32::new(1), fleet.clone());
        let restless = Site::ok("a").asked(move || {
            changed.set_weight("b", 1 + weight.fetch_add(1, SeqCst)).unwrap();
            Poll::Pending
        });
        fleet.insert(Backend::new("a", restless)).unwrap();
        let mut door = door(&fleet);
        assert!(Service::<()>::poll_ready(&mut door, &mut noop()).is_pending());
    });
}

/// A key that uses the fleet whenever it can.
struct Meddler(u32, Plain);

impl PartialEq for Meddler {
    fn eq(&self, other: &Self) -> bool {
        !self.1.snapshot().is_empty() && self.0 == other.0
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.1.snapshot();
    }
}

// C14
#[test]
fn keys_of_a_wanted_set_may_use_the_fleet() {
    ends(|| {
        let fleet: Plain = Fleet::plain().build().unwrap();
        for (key, replaced) in [(1, 0), (1, 0), (2, 1)] {
            let wanted = [Backend::new("a", Meddler(key, fleet.clone()))];
            assert_eq!(fleet.reconcile(wanted, |_| Site::ok("a")).unwrap().replaced.len(), replaced);
        }
    });
}

/// Looks at the fleet when it is copied, and panics with the request when it is told to.
struct Watcher {
    fleet: Arc<Mutex<Option<Plain<Watcher>>>>,
    panics: Arc<AtomicBool>,
}

impl Watcher {
    fn new() -> Self {
        Self { fleet: Arc::default(), panics: Arc::default() }
    }
}

impl Clone for Watcher {
    fn clone(&self) -> Self {
        self.fleet.lock().unwrap().as_ref().map(|fleet| fleet.len());
        Self { fleet: Arc::clone(&self.fleet), panics: Arc::clone(&self.panics) }
    }
}

impl Classify<(), &'static str> for Watcher {
    type Call = ();
    type Watched = &'static str;

    const WATCHES: bool = false;

    fn request(&self, (): &()) {
        assert!(!self.panics.load(SeqCst), "in the classifier");
    }

    fn response(&self, (): &mut (), _: &&'static str) -> Verdict {
        Verdict::Now(Outcome::Success)
    }

    fn error(&self, (): (), error: &BoxError) -> Outcome {
        inspect(&**error)
    }

    fn watch((): (), response: &'static str, _: CallGuard) -> &'static str {
        response
    }
}

#[test]
fn a_classifier_may_use_the_fleet_when_it_is_copied() {
    ends(|| {
        let watcher = Watcher::new();
        let fleet: Plain<Watcher> = Fleet::plain().classify(watcher.clone()).build().unwrap();
        *watcher.fleet.lock().unwrap() = Some(fleet.clone());
        fleet.insert(Backend::new("a", Site::ok("a"))).unwrap();
        *watcher.fleet.lock().unwrap() = None;
    });
}

// C38
#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_keeps_no_permit() {
    let watcher = Watcher::new();
    let fleet = Fleet::plain().classify(watcher.clone()).circuit_breaker(circuit());
    let fleet = fleet.backend(Backend::new("a", Site::ok("a"))).build().unwrap();
    let alone = CircuitBreakerLayer::plain(circuit()).unwrap().classify(watcher.clone()).layer(Site::ok("a"));
    is_due(&fleet, "a").await;
    alone.switch().trip();
    tokio::time::advance(secs(2)).await;
    watcher.panics.store(true, SeqCst);
    assert!(panics(door(&fleet).oneshot(())).await);
    assert!(panics(alone.clone().oneshot(())).await);
    watcher.panics.store(false, SeqCst);
    assert_eq!(door(&fleet).oneshot(()).await.unwrap(), "a");
    assert_eq!(alone.oneshot(()).await.unwrap(), "a");
}

#[derive(Debug)]
struct Uncopied(Arc<AtomicBool>);

impl Clone for Uncopied {
    fn clone(&self) -> Self {
        assert!(!self.0.load(SeqCst), "in the copy");
        Self(Arc::clone(&self.0))
    }
}

// C38
#[tokio::test(start_paused = true)]
async fn a_request_that_panics_when_copied_keeps_no_permit() {
    let fleet = Fleet::plain().circuit_breaker(circuit());
    let fleet = fleet.backend(Backend::new("a", Site::ok("a"))).backend(Backend::new("b", Site::ok("b")));
    let fleet = fleet.build().unwrap();
    let failover = FailoverLayer::plain().build().unwrap().layer(fleet.clone());
    let request = Uncopied(Arc::default());
    is_due(&fleet, "a").await;
    request.0.store(true, SeqCst);
    let sent = Uncopied(Arc::clone(&request.0));
    assert!(panics(failover.clone().oneshot(sent)).await);
    request.0.store(false, SeqCst);
    assert_eq!(failover.oneshot(request).await.unwrap(), "a");
    assert_eq!(fleet.switch("a").unwrap().state(), CircuitState::Closed);
}

#[test]
fn one_waker_that_panics_spares_the_others() {
    let fleet: Plain =
        Fleet::plain().backend(Backend::new("a", Site::ok("a").asked(|| Poll::Pending))).build().unwrap();
    let (mut first, mut second) = (door(&fleet), door(&fleet));
    let is_woken = Arc::new(AtomicBool::new(false));
    let woken = Arc::clone(&is_woken);
    let bad = Waker::from(Arc::new(OnWake(|| panic!("in a waker"))));
    let good = Waker::from(Arc::new(OnWake(move || woken.store(true, SeqCst))));
    assert!(Service::<()>::poll_ready(&mut first, &mut Context::from_waker(&bad)).is_pending());
    assert!(Service::<()>::poll_ready(&mut second, &mut Context::from_waker(&good)).is_pending());
    fleet.insert(Backend::new("b", Site::ok("b"))).unwrap();
    assert!(is_woken.load(SeqCst));
}

// C11
#[test]
fn a_listener_that_panics_hides_no_change_from_requests() {
    let fleet: Plain = Fleet::plain().backend(Backend::new("a", Site::ok("a"))).build().unwrap();
    let door = door(&fleet);
    let mut changes = fleet.changes();
    let bad = Waker::from(Arc::new(OnWake(|| panic!("in a waker"))));
    assert!(changes.poll_next_unpin(&mut Context::from_waker(&bad)).is_pending());
    fleet.insert(Backend::new("b", Site::ok("b"))).unwrap();
    let mut served: Vec<_> = (0..4).map(|_| door.clone().oneshot(()).now_or_never().unwrap().unwrap()).collect();
    served.sort_unstable();
    assert_eq!(served, ["a", "a", "b", "b"]);
}

/// Panics when it is dropped, as its future is.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "in a drop");
    }
}

/// Fails at once.
struct Failing {
    _bomb: Bomb,
}

impl Future for Failing {
    type Output = Result<&'static str, BoxError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Err("failed".into()))
    }
}

// C28
#[tokio::test(start_paused = true)]
async fn an_attempt_that_panics_when_dropped_takes_no_answer_away() {
    let hangs = Site::new(|| {
        let bomb = Bomb;
        async move {
            let _bomb = bomb;
            pending().await
        }
        .boxed()
    });
    let fails = Site::new(|| Failing { _bomb: Bomb }.boxed());
    for (mode, primary) in [(Mode::hedged(secs(1)), hangs), (Mode::Sequential, fails.clone()), (Mode::Race, fails)] {
        let fleet: Plain = Fleet::plain()
            .backend(Backend::new("a", primary).priority(1))
            .backend(Backend::new("b", Site::ok("b")))
            .build()
            .unwrap();
        let failover = FailoverLayer::plain().mode(mode).build().unwrap().layer(fleet.clone());
        assert_eq!(failover.oneshot(()).await.unwrap(), "b", "{mode:?}");
        assert!(fleet.snapshot().iter().all(|backend| backend.in_flight == 0));
    }
}

// C1
#[tokio::test(start_paused = true)]
async fn no_rejection_promises_what_will_not_be() {
    let wait = async |fleet: &Plain| match door(fleet).oneshot(()).await.unwrap_err().kind() {
        ErrorKind::NoneAvailable { retry_after, .. } => *retry_after,
        other => panic!("{other:?}"),
    };
    let fleet = Fleet::plain().circuit_breaker(circuit().open_for(secs(30)));
    let fleet: Plain = fleet.backend(Backend::new("a", Site::ok("a"))).build().unwrap();
    fleet.cool_down("a", secs(5));
    assert_eq!(wait(&fleet).await, Some(secs(5)));
    fleet.switch("a").unwrap().trip();
    assert_eq!(wait(&fleet).await, Some(secs(30)), "the later end counts");
    fleet.drain("a");
    assert_eq!(wait(&fleet).await, None, "a drain does not end by itself");
    fleet.insert(Backend::new("b", Site::ok("b"))).unwrap();
    fleet.cool_down("b", Duration::MAX);
    assert_eq!(wait(&fleet).await, None);
    fleet.remove("b");
    assert_eq!(wait(&fleet).await, None);
}

// C8, C11, C22
#[tokio::test(start_paused = true)]
async fn a_further_attempt_sees_what_changed_meanwhile() {
    let fleet: Plain = Fleet::plain()
        .backend(Backend::new("a", Site::fails_after(secs(5))).priority(2))
        .backend(Backend::new("b", Site::ok("b")).priority(1))
        .backend(Backend::new("c", Site::ok("c")))
        .build()
        .unwrap();
    let failover = FailoverLayer::plain().mode(Mode::Sequential).build().unwrap().layer(fleet.clone());
    fleet.drain("b");
    let change = async |change: &dyn Fn() -> bool| {
        let later = async {
            tokio::time::sleep(secs(1)).await;
            assert!(change());
        };
        tokio::join!(failover.clone().oneshot(()), later).0.unwrap()
    };
    assert_eq!(change(&|| true).await, "c");
    assert_eq!(change(&|| fleet.set_status("b", AdminStatus::Healthy)).await, "b");
    fleet.insert(Backend::new("d", Site::ok("d")).priority(1)).unwrap();
    assert_eq!(change(&|| fleet.remove("b")).await, "d");
}

// C50
#[tokio::test(start_paused = true)]
async fn a_new_timeout_counts_from_the_next_call_on() {
    for new in [Some(secs(60)), None] {
        let backend = Backend::new("a", Site::new(|| pending().boxed())).timeout(secs(10));
        let fleet: Plain = Fleet::plain().backend(backend).build().unwrap();
        let began = tokio::time::Instant::now();
        let change = async {
            tokio::time::sleep(secs(1)).await;
            fleet.set_timeout("a", new).unwrap();
        };
        let error = tokio::join!(door(&fleet).oneshot(()), change).0.unwrap_err();
        assert_eq!(began.elapsed(), secs(10));
        assert!(matches!(error.kind(), ErrorKind::Timeout { timeout, .. } if *timeout == secs(10)), "{error:?}");
    }
}

// C41
#[tokio::test(start_paused = true)]
async fn transitions_end_with_their_backend_though_idle_doors_remain() {
    let fleet = Fleet::plain().circuit_breaker(circuit());
    let fleet: Plain = fleet.backend(Backend::new("a", Site::ok("a"))).build().unwrap();
    let idle = door(&fleet);
    let transitions = fleet.switch("a").unwrap().transitions();
    idle.clone().oneshot(()).await.unwrap();
    fleet.remove("a");
    assert_eq!(transitions.count().now_or_never(), Some(0));
    drop(idle);
}

// C22, C50
#[tokio::test(start_paused = true)]
async fn a_last_backend_that_is_due_and_exempt_gets_all_the_time_that_is_left() {
    let slow = Site::new(|| {
        async {
            tokio::time::sleep(secs(8)).await;
            Ok("b")
        }
        .boxed()
    });
    let fleet = Fleet::plain().circuit_breaker(circuit()).max_ejected(0.0);
    let fleet = fleet.backend(Backend::new("a", Site::fails_after(secs(1))).priority(1));
    let fleet: Plain = fleet.backend(Backend::new("b", slow)).build().unwrap();
    // It is due when a has failed.
    fleet.switch("b").unwrap().trip();
    let failover = FailoverLayer::plain().mode(Mode::Sequential).deadline(secs(10)).build().unwrap().layer(fleet);
    assert_eq!(failover.oneshot(()).await.unwrap(), "b");
}

/// Looks at the fleet with each event.
struct Subscriber(Plain);

impl tracing::Subscriber for Subscriber {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.snapshot();
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_subscriber_may_use_the_fleet() {
    ends(|| {
        let fleet = Fleet::plain().circuit_breaker(circuit());
        let fleet: Plain = fleet.backend(Backend::new("a", Site::ok("a"))).build().unwrap();
        tracing::subscriber::with_default(Subscriber(fleet.clone()), || {
            fleet.drain("a");
            fleet.switch("a").unwrap().trip();
            let taken = stream::iter([Ok::<_, BoxError>(discover::Change::Insert(1, Site::ok("x")))]);
            fleet.follow(taken, |_, site| Backend::new("a", site)).now_or_never().unwrap().unwrap();
        });
        assert_eq!(fleet.len(), 1);
    });
}

#[cfg(feature = "http")]
mod http {
    use std::collections::VecDeque;

    use ::http::{Request, Response};
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::{BodyExt, Empty};
    use tower_fleet::{
        failover::{CommitPoint, Decision},
        outcome::HttpClassifier,
    };

    use super::*;

    /// A body of these pieces, which panics where one is missing.
    struct Pieces(VecDeque<Option<&'static str>>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            let piece = self.0.pop_front();
            Poll::Ready(piece.map(|piece| Ok(Frame::data(piece.expect("in the body").into()))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    #[derive(Clone)]
    struct Web(Vec<Option<&'static str>>);

    impl<Req> Service<Req> for Web {
        type Response = Response<Pieces>;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Response<Pieces>, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Req) -> Self::Future {
            std::future::ready(Ok(Response::new(Pieces(self.0.clone().into()))))
        }
    }

    fn fleet(backends: &[(&str, &[Option<&'static str>])], is_at_end: bool) -> Fleet<Web> {
        let classifier = HttpClassifier::new().success_at_end(is_at_end);
        let policy = CircuitPolicy::new().failures(1).open_for(secs(30));
        let backends = backends.iter().zip((0..).map(|index: i32| -index));
        let backends = backends.map(|((name, body), tier)| Backend::new(*name, Web(body.to_vec())).priority(tier));
        Fleet::builder().classify(classifier).circuit_breaker(policy).backends(backends).build().unwrap()
    }

    fn request() -> Request<Empty<Bytes>> {
        Request::new(Empty::new())
    }

    // C34, C37
    #[tokio::test(start_paused = true)]
    async fn a_body_that_panics_is_a_failure_of_its_call() {
        for is_at_end in [false, true] {
            let fleet = fleet(&[("a", &[Some("x"), None])], is_at_end);
            let answer = BalanceLayer::round_robin().layer(fleet.clone()).oneshot(request()).await.unwrap();
            assert!(panics(answer.into_body().collect()).await);
            assert_eq!(fleet.snapshot()[0].in_flight, 0);
            assert_eq!(fleet.switch("a").unwrap().state(), CircuitState::Open, "success at end: {is_at_end}");
        }
    }

    // C32
    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_not_served_though_its_body_has_ended_well() {
        let refuse = |seen: &[u8]| match seen {
            b"good" => Decision::Accept,
            b"bad" => Decision::Refuse("bad"),
            _ => Decision::Wait,
        };
        for is_at_end in [false, true] {
            for body in [&[Some("bad")] as &[_], &[Some("b"), Some("ad")]] {
                let fleet = fleet(&[("bad", body), ("good", &[Some("good")])], is_at_end);
                let failover =
                    FailoverLayer::builder().mode(Mode::Sequential).commit(CommitPoint::prelude(1024, refuse));
                let answer = failover.build().unwrap().layer(fleet.clone()).oneshot(request()).await.unwrap();
                assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "good", "{body:?} {is_at_end}");
                let states = ["bad", "good"].map(|name| fleet.switch(name).unwrap().state());
                assert_eq!(states, [CircuitState::Open, CircuitState::Closed], "{body:?} {is_at_end}");
                assert!(fleet.snapshot().iter().all(|backend| backend.in_flight == 0));
            }
        }
    }

    // C32, C37
    #[tokio::test(start_paused = true)]
    async fn a_predicate_that_panics_is_no_failure_of_the_backend() {
        let fleet = fleet(&[("a", &[Some("x")])], false);
        let failover = FailoverLayer::builder().commit(CommitPoint::prelude(9, |_| panic!("in the predicate")));
        let answer = failover.build().unwrap().layer(fleet.clone()).oneshot(request()).await;
        assert!(answer.is_err());
        let backend = &fleet.snapshot()[0];
        assert_eq!((backend.in_flight, backend.state), (0, CircuitState::Closed));
    }
}
