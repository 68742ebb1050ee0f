//! In flight is the number of calls that run, from the call to the end of the response: exact under cancellation, panic,
//! removal, upgrades and open bodies. C45
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, channel::mpsc, future::BoxFuture};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt};
use tower_fleet::{
    Backend, BalanceLayer, CircuitPolicy, FailoverLayer, Fleet, body::ReplayBody, failover::Mode, outcome::InFlight,
};

type Body = UnsyncBoxBody<Bytes, io::Error>;

#[derive(Clone, Copy, PartialEq)]
enum Does {
    Answers,
    Fails,
    Hangs,
    Panics,
    PanicsInCall,
    Upgrades,
    IsPending,
}

/// What feeds a body.
type Feed = mpsc::UnboundedSender<Result<Frame<Bytes>, io::Error>>;

/// Answers with a body that is fed by the test.
#[derive(Clone)]
struct Site {
    does: Arc<Mutex<Does>>,
    bodies: Arc<Mutex<Vec<Feed>>>,
    alive: Arc<AtomicUsize>,
}

impl Site {
    fn new(does: Does) -> Self {
        Self { does: Arc::new(Mutex::new(does)), bodies: Arc::default(), alive: Arc::default() }
    }

    fn does(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }
}

impl Service<Request<ReplayBody<Body>>> for Site {
    type Response = Response<Body>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Response<Body>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if *self.does.lock().unwrap() == Does::IsPending { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, _: Request<ReplayBody<Body>>) -> Self::Future {
        let does = *self.does.lock().unwrap();
        assert!(does != Does::PanicsInCall, "in the call");
        let (feed, frames) = mpsc::unbounded();
        self.bodies.lock().unwrap().push(feed);
        self.alive.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            match does {
                Does::Hangs => std::future::pending().await,
                Does::Panics => panic!("in the future"),
                Does::Fails => return Err(io::ErrorKind::ConnectionReset.into()),
                _ => {}
            }
            let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
            if does == Does::Upgrades {
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            }
            Ok(response)
        })
    }
}

fn request() -> Request<Body> {
    Request::new(StreamBody::new(futures::stream::iter([])).boxed_unsync())
}

fn replayable() -> Request<ReplayBody<Body>> {
    Request::new(ReplayBody::default())
}

fn fleet<const N: usize>(sites: [&Site; N]) -> Fleet<Site> {
    let backends = sites.into_iter().zip(["a", "b", "c"]).map(|(site, name)| Backend::new(name, site.clone()));
    Fleet::builder().circuit_breaker(CircuitPolicy::new()).backends(backends).build().unwrap()
}

fn in_flight(fleet: &Fleet<Site>) -> Vec<usize> {
    fleet.snapshot().iter().map(|backend| backend.in_flight).collect()
}

// C45
#[tokio::test]
async fn neither_a_ready_instance_nor_a_waiting_request_is_in_flight() {
    let site = Site::new(Does::Answers);
    let fleet = fleet([&site]);
    let mut door = BalanceLayer::round_robin().layer(fleet.clone());
    assert!(ServiceExt::<Request<ReplayBody<Body>>>::ready(&mut door).await.is_ok());
    assert_eq!(in_flight(&fleet), [0], "a door that holds a ready instance");
    site.does(Does::IsPending);
    let mut waits = task::spawn(BalanceLayer::round_robin().layer(fleet.clone()).oneshot(replayable()));
    assert_pending!(waits.poll());
    let mut waits_too = task::spawn(FailoverLayer::new().layer(fleet.clone()).oneshot(request()));
    assert_pending!(waits_too.poll());
    assert_eq!(in_flight(&fleet), [0], "requests that wait for a backend to get ready");
}

// C45
#[tokio::test]
async fn a_call_is_in_flight_to_the_end_of_its_body() {
    let site = Site::new(Does::Answers);
    let fleet = fleet([&site]);
    type End = (&'static str, fn(&Site));
    let ends: [End; 3] = [
        ("its end", |site| site.bodies.lock().unwrap().clear()),
        ("an error", |site| {
            site.bodies.lock().unwrap()[0].unbounded_send(Err(io::ErrorKind::ConnectionReset.into())).unwrap();
        }),
        ("trailers", |site| {
            site.bodies.lock().unwrap()[0].unbounded_send(Ok(Frame::trailers(Default::default()))).unwrap();
        }),
    ];
    for (end, brings_about) in ends {
        site.bodies.lock().unwrap().clear();
        let response = FailoverLayer::new().layer(fleet.clone()).oneshot(request()).await.unwrap();
        assert_eq!(in_flight(&fleet), [1], "{end}");
        site.bodies.lock().unwrap()[0].unbounded_send(Ok(Frame::data(Bytes::from_static(b"x")))).unwrap();
        let mut body = response.into_body();
        body.frame().await.unwrap().unwrap();
        assert_eq!(in_flight(&fleet), [1], "{end}: a frame is not the end");
        brings_about(&site);
        let _ = body.frame().await;
        assert_eq!(in_flight(&fleet), [0], "{end}: though the body is still held");
    }
    let response = BalanceLayer::round_robin().layer(fleet.clone()).oneshot(replayable()).await.unwrap();
    assert_eq!(in_flight(&fleet), [1]);
    drop(response);
    assert_eq!(in_flight(&fleet), [0], "a body that is dropped");
}

// C20, C45
#[tokio::test(start_paused = true)]
async fn cancelled_calls_leave_nothing_in_flight() {
    let (a, b, c) = (Site::new(Does::Hangs), Site::new(Does::Hangs), Site::new(Does::Hangs));
    let fleet = fleet([&a, &b, &c]);
    let mut balanced = task::spawn(BalanceLayer::round_robin().layer(fleet.clone()).oneshot(replayable()));
    assert_pending!(balanced.poll());
    assert_eq!(in_flight(&fleet), [1, 0, 0]);
    drop(balanced);
    assert_eq!(in_flight(&fleet), [0, 0, 0]);

    let hedged =
        FailoverLayer::builder().mode(Mode::hedged(Duration::from_secs(1))).build().unwrap().layer(fleet.clone());
    let mut hedged = task::spawn(hedged.oneshot(request()));
    assert_pending!(hedged.poll());
    for running in [[1, 1, 0], [1, 1, 1]] {
        tokio::time::advance(Duration::from_millis(1_001)).await;
        assert_pending!(hedged.poll());
        assert_eq!(in_flight(&fleet), running);
    }
    drop(hedged);
    assert_eq!(in_flight(&fleet), [0, 0, 0]);

    // The losers of a race go before its winner is handed out, and the winner stays to the end of its body.
    a.does(Does::Fails);
    c.does(Does::Answers);
    let response = FailoverLayer::new().layer(fleet.clone()).oneshot(request()).await.unwrap();
    assert_eq!(in_flight(&fleet), [0, 0, 1]);
    drop(response);
    assert_eq!(in_flight(&fleet), [0, 0, 0]);
}

// C37, C45
#[tokio::test]
async fn a_panic_leaves_nothing_in_flight_and_counts_once() {
    for does in [Does::Panics, Does::PanicsInCall] {
        let site = Site::new(does);
        let fleet = fleet([&site]);
        let mut door = BalanceLayer::round_robin().layer(fleet.clone());
        for failures in 1..=5 {
            assert!(ServiceExt::<Request<ReplayBody<Body>>>::ready(&mut door).await.is_ok());
            let panicked = catch_unwind(AssertUnwindSafe(|| door.call(replayable()).now_or_never()));
            assert!(panicked.is_err(), "the panic goes on its way");
            assert_eq!(in_flight(&fleet), [0]);
            let state = fleet.snapshot()[0].state;
            assert_eq!(state == tower_fleet::CircuitState::Open, failures == 5, "after {failures}: {state}");
        }
    }
}

// C11, C45
#[tokio::test]
async fn a_removed_backend_is_freed_with_the_end_of_its_last_body() {
    let site = Site::new(Does::Answers);
    let fleet = fleet([&site]);
    let alive = || Arc::strong_count(&site.alive);
    let mut door = FailoverLayer::new().layer(fleet.clone());
    let first = door.ready().await.unwrap().call(request()).await.unwrap();
    let second = door.ready().await.unwrap().call(request()).await.unwrap();
    assert_eq!(in_flight(&fleet), [2]);
    assert!(fleet.remove("a"));
    assert!(alive() > 1, "two bodies are open");
    drop(first);
    assert!(alive() > 1, "one body is open");
    drop(second);
    assert_eq!(alive(), 1, "though the door is kept");
}

// C45
#[tokio::test]
async fn an_upgraded_call_is_in_flight_while_its_extension_is_held() {
    let site = Site::new(Does::Upgrades);
    let fleet = fleet([&site]);
    let response = FailoverLayer::new().layer(fleet.clone()).oneshot(request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let (mut head, body) = response.into_parts();
    let tunnel = head.extensions.remove::<InFlight>().unwrap();
    drop((head, body));
    assert_eq!(in_flight(&fleet), [1], "the connection goes on");
    drop(tunnel);
    assert_eq!(in_flight(&fleet), [0]);
}

// C45
#[test]
fn the_gauge_is_exact_at_rest_after_eight_threads() {
    let site = Site::new(Does::Answers);
    let fleet = fleet([&site, &site, &site]);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let door = FailoverLayer::new().layer(fleet.clone());
            let (site, fleet) = (&site, &fleet);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    let mut open = Vec::new();
                    for call in 0..500 {
                        let response = door.clone().oneshot(request()).await.unwrap();
                        // Some are read on, some are dropped at once, some end on this thread after others.
                        if (call + thread) % 3 == 0 {
                            open.push(response);
                        }
                        if open.len() > 10 {
                            open.clear();
                        }
                        assert!(in_flight(fleet).iter().sum::<usize>() <= 8 * 12);
                    }
                    site.bodies.lock().unwrap().clear();
                    drop(open);
                });
            });
        }
    });
    assert_eq!(in_flight(&fleet), [0, 0, 0]);
}

// C45: a body may end on another thread than it began.
#[test]
fn calls_that_end_on_another_thread_are_not_counted_any_more() {
    let site = Site::new(Does::Answers);
    let fleet = fleet([&site]);
    let responses: Vec<_> = (0..100)
        .map(|_| FailoverLayer::new().layer(fleet.clone()).oneshot(request()).now_or_never().unwrap().unwrap())
        .collect();
    assert_eq!(in_flight(&fleet), [100]);
    std::thread::scope(|scope| scope.spawn(move || drop(responses)).join().unwrap());
    assert_eq!(in_flight(&fleet), [0]);
}
