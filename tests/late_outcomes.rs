//! What an outcome changes that comes after the state in which its call began has ended: nothing. C39
//!
//! A call begins while its circuit is closed. The circuit opens, is probed and closes again, or is probed still, and only
//! then the call comes to its end: at a limit, as the loser of a hedge, or in its body.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{future::BoxFuture, stream};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use tokio::task::JoinHandle;
use tower::{Layer, Service};
use tower_fleet::{
    Backend, CircuitPolicy, CircuitState, FailoverLayer, Fleet, Mode, ReplayBody,
    breaker::Rate,
    failover::{CommitPoint, FailoverBuilder},
};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What a backend does with its calls, one after the other, and from then on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Good,
    Fails,
    Hangs,
    /// A good head at once, then a frame, then nothing.
    Stalls,
    /// A good head at once, then nothing for so many seconds, then an error.
    Breaks(u64),
}

#[derive(Clone)]
struct Site(Arc<(Mutex<Vec<Does>>, AtomicUsize)>);

impl Site {
    fn new(does: impl IntoIterator<Item = Does>) -> Self {
        let mut does: Vec<_> = does.into_iter().collect();
        does.reverse();
        Self(Arc::new((Mutex::new(does), AtomicUsize::new(0))))
    }

    fn calls(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

impl Service<Request<ReplayBody<Body>>> for Site {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        Ok(()).into()
    }

    fn call(&mut self, _: Request<ReplayBody<Body>>) -> Self::Future {
        self.0.1.fetch_add(1, Ordering::SeqCst);
        let does = self.0.0.lock().unwrap().pop().unwrap_or(Does::Good);
        Box::pin(async move {
            let frame = || Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"data")));
            let body = match does {
                Does::Hangs => std::future::pending().await,
                Does::Good | Does::Fails => StreamBody::new(stream::iter([frame()])).boxed_unsync(),
                Does::Stalls => {
                    let stall = stream::once(async move { std::future::pending().await });
                    StreamBody::new(futures::StreamExt::chain(stream::iter([frame()]), stall)).boxed_unsync()
                }
                Does::Breaks(seconds) => {
                    let error = stream::once(async move {
                        tokio::time::sleep(secs(seconds)).await;
                        Err(io::Error::other("broken"))
                    });
                    StreamBody::new(futures::StreamExt::chain(stream::iter([frame()]), error)).boxed_unsync()
                }
            };
            let mut response = Response::new(body);
            if does == Does::Fails {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            Ok(response)
        })
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn request() -> Request<Body> {
    Request::new(StreamBody::new(stream::iter([])).boxed_unsync())
}

/// One failure opens it for ten seconds.
fn policy() -> CircuitPolicy {
    CircuitPolicy::new().consecutive(1).open_for(secs(10))
}

struct Scene {
    fleet: Fleet<Site>,
    door: tower_fleet::Failover<Site>,
    site: Site,
}

impl Scene {
    /// The backend `site`, and a spare one below it that is always good.
    fn new(
        does: impl IntoIterator<Item = Does>,
        policy: CircuitPolicy,
        failover: FailoverBuilder,
        backend: impl FnOnce(Backend<Site>) -> Backend<Site>,
    ) -> Self {
        let site = Site::new(does);
        let fleet = Fleet::builder()
            .circuit_breaker(policy)
            .backend(backend(Backend::new("site", site.clone()).priority(1)))
            .backend(Backend::new("spare", Site::new([])))
            .build()
            .unwrap();
        Self { door: failover.build().unwrap().layer(fleet.clone()), fleet, site }
    }

    fn state(&self) -> CircuitState {
        self.fleet.snapshot()[0].state
    }

    fn ask(&self) -> JoinHandle<()> {
        let door = self.door.clone();
        tokio::spawn(async move {
            if let Ok(response) = door.oneshot(request()).await {
                let _ = response.into_body().collect().await;
            }
        })
    }

    async fn pass(&self, seconds: u64) {
        settle().await;
        tokio::time::advance(secs(seconds)).await;
        settle().await;
    }

    /// The late call begins, the circuit opens at second 1, and its time is up at second 11.
    async fn begin(&self) -> JoinHandle<()> {
        let late = self.ask();
        self.pass(1).await;
        assert_eq!((self.state(), self.site.calls()), (CircuitState::Closed, 1));
        self.ask().await.unwrap();
        assert_eq!((self.state(), self.site.calls()), (CircuitState::Open, 2), "the second call fails");
        self.pass(10).await;
        late
    }
}

async fn settle() {
    for _ in 0..30 {
        tokio::task::yield_now().await;
    }
}

/// Runs the late call into a circuit that has closed again, and into one that is half-open.
async fn changes_nothing(
    late: Does,
    policy: impl Fn() -> CircuitPolicy,
    failover: impl Fn() -> FailoverBuilder,
    backend: impl Fn(Backend<Site>) -> Backend<Site>,
) {
    let scene = Scene::new([late, Does::Fails, Does::Good], policy(), failover(), &backend);
    let call = scene.begin().await;
    scene.ask().await.unwrap();
    assert_eq!((scene.state(), scene.site.calls()), (CircuitState::Closed, 3), "{late:?}: the probe was good");
    scene.pass(100).await;
    assert_eq!(scene.state(), CircuitState::Closed, "{late:?}: its late end opened a circuit that had closed again");
    call.abort();

    let scene = Scene::new([late, Does::Fails, Does::Hangs], policy(), failover(), &backend);
    let call = scene.begin().await;
    let probe = scene.ask();
    settle().await;
    assert_eq!((scene.state(), scene.site.calls()), (CircuitState::HalfOpen, 3), "{late:?}: the probe runs");
    // The late call ends before the probe does.
    scene.pass(19).await;
    assert_eq!(scene.state(), CircuitState::HalfOpen, "{late:?}: its late end opened a circuit that was half-open");
    call.abort();
    probe.abort();
}

fn sequential() -> FailoverBuilder {
    FailoverLayer::builder().mode(Mode::Sequential)
}

// C39
#[tokio::test(start_paused = true)]
async fn a_timeout_of_the_door_that_comes_late_changes_nothing() {
    changes_nothing(Does::Hangs, policy, || sequential().timeout(secs(20)), |backend| backend).await;
}

// C39
#[tokio::test(start_paused = true)]
async fn a_timeout_of_the_backend_that_comes_late_changes_nothing() {
    changes_nothing(Does::Hangs, policy, sequential, |backend| backend.timeout(secs(20))).await;
}

// C39
#[tokio::test(start_paused = true)]
async fn a_race_that_ends_late_changes_nothing() {
    let layer = || FailoverLayer::builder().timeout(secs(20));
    changes_nothing(Does::Hangs, policy, layer, |backend| backend).await;
}

// C37, C39
#[tokio::test(start_paused = true)]
async fn a_slow_loser_of_a_hedge_that_is_cancelled_late_changes_nothing() {
    let slow = || policy().slow_calls(secs(2), Rate::new(0.01).window(secs(60)).minimum_calls(1));
    let layer = || FailoverLayer::builder().mode(Mode::hedged(secs(20)));
    changes_nothing(Does::Hangs, slow, layer, |backend| backend).await;
}

// C34, C39
#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_late_behind_its_head_changes_nothing() {
    changes_nothing(Does::Breaks(25), policy, sequential, |backend| backend).await;
}

// C32, C39
#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_late_before_the_commit_changes_nothing() {
    let accept_nothing = || {
        let point = CommitPoint::prelude(1024, |_| tower_fleet::failover::Decision::Wait);
        sequential().commit(point).timeout(secs(20))
    };
    changes_nothing(Does::Stalls, policy, accept_nothing, |backend| backend).await;
}

// C34: in the generation of its call, each of these is a failure.
#[tokio::test(start_paused = true)]
async fn what_comes_in_time_counts() {
    let cases: [(Does, FailoverBuilder); 3] = [
        (Does::Hangs, sequential().timeout(secs(20))),
        (Does::Breaks(5), sequential()),
        (
            Does::Stalls,
            sequential()
                .commit(CommitPoint::prelude(1024, |_| tower_fleet::failover::Decision::Wait))
                .timeout(secs(20)),
        ),
    ];
    for (does, layer) in cases {
        let scene = Scene::new([does], policy(), layer, |backend| backend);
        let call = scene.ask();
        scene.pass(21).await;
        assert_ne!(scene.state(), CircuitState::Closed, "{does:?}");
        call.abort();
    }
}
