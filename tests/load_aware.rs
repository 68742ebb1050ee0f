//! Strategies that compare loads and latencies, through doors, in virtual time. C44–C47
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream, stream::FuturesUnordered};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use tokio::time::sleep;
use tower::{Layer, service_fn, util::BoxCloneSyncService};
use tower_fleet::{
    Backend, BalanceLayer, FailoverLayer, Fleet, Mode,
    body::ReplayBody,
    pick::{AnyStrategy, Candidates, Latency, LeastLoaded, Needs, PeakEwma, Pick, PickContext, Strategy, StrategyName},
};

#[derive(Clone, Copy, PartialEq)]
enum Does {
    Takes(u64),
    Fails,
    Hangs,
    Panics,
}

type Client = BoxCloneSyncService<(), (), io::Error>;

/// What each backend does, and how many calls it got.
#[derive(Clone, Default)]
struct World(Arc<Mutex<BTreeMap<String, (Does, usize)>>>);

impl World {
    fn backend(&self, name: &str, does: Does) -> Backend<Client> {
        self.0.lock().unwrap().insert(name.to_owned(), (does, 0));
        let (world, key) = (self.clone(), name.to_owned());
        let call = move |()| -> BoxFuture<'static, io::Result<()>> {
            let does = {
                let mut world = world.0.lock().unwrap();
                let (does, calls) = world.get_mut(&key).unwrap();
                *calls += 1;
                *does
            };
            match does {
                Does::Takes(millis) => sleep(Duration::from_millis(millis)).map(Ok).boxed(),
                Does::Fails => async { Err(io::ErrorKind::ConnectionReset.into()) }.boxed(),
                Does::Hangs => std::future::pending().boxed(),
                Does::Panics => async { panic!("a backend's bug") }.boxed(),
            }
        };
        Backend::new(name, BoxCloneSyncService::new(service_fn(call)))
    }

    fn does(&self, name: &str, does: Does) {
        self.0.lock().unwrap().get_mut(name).unwrap().0 = does;
    }

    /// Returns the calls since the last time, by name.
    fn take(&self) -> BTreeMap<String, usize> {
        let mut world = self.0.lock().unwrap();
        world.iter_mut().map(|(name, (_, calls))| (name.clone(), std::mem::take(calls))).collect()
    }
}

/// Sends a request each millisecond, and waits for all.
async fn send(door: &tower_fleet::Balance<Client, AnyStrategy, tower_fleet::outcome::ErrorsOnly>, requests: usize) {
    let mut running = FuturesUnordered::new();
    for _ in 0..requests {
        running.push(door.clone().oneshot(()).map(drop));
        let tick = sleep(Duration::from_millis(1));
        tokio::pin!(tick);
        loop {
            tokio::select! {
                biased;
                Some(()) = running.next() => {}
                () = &mut tick => break,
            }
        }
    }
    running.collect::<()>().await;
}

fn strategies() -> [AnyStrategy; 3] {
    [AnyStrategy::new(LeastLoaded::new()), AnyStrategy::new(PeakEwma::new()), AnyStrategy::new(Latency::new())]
}

// C44, C46: tower's P2C sends 19 % there.
#[tokio::test(start_paused = true)]
async fn a_backend_that_fails_at_once_gets_less_than_its_share() {
    for (strategy, most) in strategies().into_iter().zip([0.1, 0.01, 0.01]) {
        let world = World::default();
        let backends = (0..10).map(|index| world.backend(&format!("b{index}"), Does::Takes(10)));
        let fleet = Fleet::plain().backends(backends).build().unwrap();
        world.does("b3", Does::Fails);
        let door = BalanceLayer::new(strategy).layer(fleet);
        send(&door, 20_000).await;
        let share = world.take()["b3"] as f64 / 20_000.0;
        assert!(share < most && share > 0.0, "{share}, at most {most}");
    }
}

// C46, C65
#[tokio::test(start_paused = true)]
async fn a_slow_backend_gets_little_and_gets_its_share_back() {
    for (name, most) in
        [(StrategyName::LeastLoaded, 0.1), (StrategyName::PeakEwma, 0.05), (StrategyName::Latency, 0.05)]
    {
        let world = World::default();
        let backends = (0..3).map(|index| world.backend(&format!("b{index}"), Does::Takes(10)));
        let door = BalanceLayer::named(name).unwrap().layer(Fleet::plain().backends(backends).build().unwrap());
        send(&door, 1_000).await;
        world.take();
        world.does("b1", Does::Takes(300));
        send(&door, 10_000).await;
        let share = world.take()["b1"] as f64 / 10_000.0;
        assert!(share < most, "{name}: {share}");
        world.does("b1", Does::Takes(10));
        send(&door, 40_000).await;
        world.take();
        send(&door, 10_000).await;
        let share = world.take()["b1"] as f64 / 10_000.0;
        assert!(share > 0.15, "{name}: back to {share}");
    }
}

// C46
#[tokio::test(start_paused = true)]
async fn a_newcomer_is_not_flooded() {
    let world = World::default();
    let backends = (0..4).map(|index| world.backend(&format!("b{index}"), Does::Takes(50)));
    let fleet = Fleet::plain().backends(backends).build().unwrap();
    let door = BalanceLayer::new(AnyStrategy::new(PeakEwma::new())).layer(fleet.clone());
    send(&door, 2_000).await;
    world.take();
    fleet.insert(world.backend("new", Does::Takes(2_000))).unwrap();
    send(&door, 1_900).await;
    assert_eq!(world.take()["new"], 1, "one request until its first sample");
}

// C46
#[tokio::test(start_paused = true)]
async fn a_backend_that_loses_to_hedges_is_slow() {
    let world = World::default();
    let fleet = Fleet::plain()
        .backends((0..3).map(|index| world.backend(&format!("b{index}"), Does::Takes(5))))
        .build()
        .unwrap();
    let layer = FailoverLayer::plain().mode(Mode::hedged(Duration::from_millis(30))).strategy(PeakEwma::new());
    let door = layer.build().unwrap().layer(fleet);
    for _ in 0..50 {
        door.clone().oneshot(()).await.unwrap();
    }
    world.take();
    world.does("b2", Does::Hangs);
    for _ in 0..200 {
        door.clone().oneshot(()).await.unwrap();
    }
    let calls = world.take()["b2"];
    assert!(calls <= 3, "each cancelled call took at least 30 ms: {calls}");
}

// C46: or a new backend that hangs would look like the median forever.
#[tokio::test(start_paused = true)]
async fn a_newcomer_that_loses_to_hedges_is_slow() {
    let world = World::default();
    let fleet = Fleet::plain()
        .backends((0..3).map(|index| world.backend(&format!("b{index}"), Does::Takes(5))))
        .build()
        .unwrap();
    let layer = FailoverLayer::plain().mode(Mode::hedged(Duration::from_millis(30))).strategy(PeakEwma::new());
    let door = layer.build().unwrap().layer(fleet.clone());
    for _ in 0..50 {
        door.clone().oneshot(()).await.unwrap();
    }
    fleet.insert(world.backend("new", Does::Hangs)).unwrap();
    for _ in 0..200 {
        door.clone().oneshot(()).await.unwrap();
    }
    let calls = world.take()["new"];
    assert!((1..=3).contains(&calls), "each cancelled call took at least 30 ms: {calls}");
    // What is known is a bound only: its first response counts.
    world.does("new", Does::Takes(1));
    tokio::time::sleep(Duration::from_secs(20)).await;
    for _ in 0..200 {
        door.clone().oneshot(()).await.unwrap();
    }
    assert!(world.take()["new"] > 100);
}

/// Compares the one counter with the sum of those of the threads, at each pick.
#[derive(Clone, Default)]
struct Compares(Arc<Mutex<Vec<(u32, usize)>>>);

impl Strategy for Compares {
    type Pick = Self;

    fn needs(&self) -> Needs {
        Needs::NOTHING.in_flight()
    }

    fn make(&self, _: &Candidates<'_>, _: Option<(&Self, &Candidates<'_>)>) -> Self {
        self.clone()
    }
}

impl Pick for Compares {
    fn pick(&self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize {
        self.0.lock().unwrap().extend(candidates.iter().map(|candidate| (candidate.load(), candidate.in_flight())));
        cx.random_below(candidates.len())
    }
}

// C45
#[tokio::test(start_paused = true)]
async fn the_counter_is_exact_under_cancellation_panic_failure_and_removal() {
    let world = World::default();
    let does = [Does::Takes(3), Does::Fails, Does::Hangs, Does::Panics];
    let backends = (0..4).map(|index| world.backend(&format!("b{index}"), does[index]));
    let fleet = Fleet::plain().backends(backends).build().unwrap();
    // This door measures nothing. Its calls are not counted later either.
    let before = BalanceLayer::round_robin().layer(fleet.clone());
    let mut early: Vec<_> = (0..4).map(|_| Box::pin(before.clone().oneshot(()))).collect();
    for call in &mut early {
        let _ = catch_unwind(AssertUnwindSafe(|| call.as_mut().now_or_never()));
    }
    let strategy = Compares::default();
    let door = BalanceLayer::new(strategy.clone()).layer(fleet.clone());
    drop(early);
    for round in 0..400_u64 {
        let call = AssertUnwindSafe(door.clone().oneshot(())).catch_unwind();
        let _ = tokio::time::timeout(Duration::from_millis(round % 6), call).await;
        match round % 20 {
            7 => drop(fleet.remove("b3")),
            9 => fleet.insert(world.backend("b3", Does::Panics)).unwrap(),
            13 => fleet.replace(world.backend("b0", Does::Takes(3))).unwrap(),
            _ => {}
        }
    }
    let seen = std::mem::take(&mut *strategy.0.lock().unwrap());
    assert!(seen.len() > 400 && seen.iter().all(|(load, in_flight)| *load as usize == *in_flight), "{seen:?}");
}

// C45: under threads, with calls that end on another thread than they begin.
#[test]
fn the_counter_is_zero_once_all_threads_are_done() {
    let service = service_fn(|()| async {
        tokio::task::yield_now().await;
        Ok::<_, io::Error>(())
    });
    let fleet = Fleet::plain().backends((0..3).map(|index| Backend::new(index.to_string(), service))).build().unwrap();
    let door = BalanceLayer::new(LeastLoaded::new()).layer(fleet.clone());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let door = &door;
            scope.spawn(move || {
                let calls = (0..2_000).map(|_| door.clone().oneshot(()));
                // Half of them are dropped without an end, some on another thread.
                let mut kept = Vec::new();
                for (index, mut call) in calls.map(Box::pin).enumerate() {
                    let _ = call.as_mut().now_or_never();
                    if index % 4 == 0 {
                        kept.push(call);
                    }
                }
                std::thread::spawn(move || drop(kept)).join().unwrap();
            });
        }
    });
    let strategy = Compares::default();
    let probe = BalanceLayer::new(strategy.clone()).layer(fleet);
    probe.oneshot(()).now_or_never();
    assert_eq!(*strategy.0.lock().unwrap(), [(0, 0); 3]);
}

// C47: the time to the first frame of the body, not to the head.
#[tokio::test(start_paused = true)]
async fn over_http_the_first_frame_of_the_body_is_measured() {
    type Chunk = io::Result<Frame<Bytes>>;
    fn site(
        first: u64,
        rest: u64,
    ) -> impl Clone
    + tower::Service<
        Request<ReplayBody<Empty<Bytes>>>,
        Response = Response<StreamBody<stream::BoxStream<'static, Chunk>>>,
        Error = io::Error,
        Future: Send,
    > + Send
    + Sync {
        service_fn(move |_: Request<ReplayBody<Empty<Bytes>>>| async move {
            let frame = |millis, text: &'static str| async move {
                sleep(Duration::from_millis(millis)).await;
                Ok(Frame::data(Bytes::from_static(text.as_bytes())))
            };
            let frames = stream::once(frame(first, "first")).chain(stream::once(frame(rest, "rest")));
            Ok(Response::new(StreamBody::new(frames.boxed())))
        })
    }
    for strategy in [AnyStrategy::new(Latency::new()), AnyStrategy::new(PeakEwma::new())] {
        // A late first frame, and a late end.
        let late_first = Backend::new("late-first", BoxCloneSyncService::new(site(300, 0)));
        let late_end = Backend::new("late-end", BoxCloneSyncService::new(site(20, 1_000)));
        let fleet = Fleet::builder().backend(late_first).backend(late_end).build().unwrap();
        let door = FailoverLayer::builder().strategy(strategy).build().unwrap().layer(fleet);
        let mut servers = Vec::new();
        // Long enough that both are tried, with one request in twenty.
        for _ in 0..200 {
            let response = door.clone().oneshot(Request::new(Empty::new())).await.unwrap();
            servers.push(response.extensions().get::<tower_fleet::Ledger>().unwrap().served().unwrap().to_string());
            response.into_body().collect().await.unwrap();
        }
        let late = servers[160..].iter().filter(|server| *server == "late-first").count();
        assert!(late <= 8, "{servers:?}");
    }
}
