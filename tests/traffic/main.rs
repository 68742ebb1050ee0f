//! How much of the traffic a backend gets: slow start and outliers, through real fleets and doors. C42, C49, C66, C67
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod outliers;
mod slow_start;

use std::{
    collections::BTreeMap,
    future::{Future, pending},
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use tokio::{task::JoinSet, time::sleep};
use tower::Service;
use tower_fleet::{
    Backend, Balance, Failover, FailoverLayer, Fleet,
    failover::Plain,
    fleet::{Change, Changes, FleetBuilder, Snapshot},
    outcome::ErrorsOnly,
    pick::{AnyStrategy, StrategyName},
};

/// How a backend responds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Response {
    After(Duration),
    Error,
    Never,
}

/// A backend that responds with its name.
#[derive(Clone)]
struct Site {
    name: &'static str,
    response: Arc<Mutex<Response>>,
}

impl Site {
    fn new(name: &'static str) -> Self {
        Self { name, response: Arc::new(Mutex::new(Response::After(Duration::ZERO))) }
    }

    fn set(&self, response: Response) {
        *self.response.lock().unwrap() = response;
    }

    fn backend(&self) -> Backend<Self> {
        Backend::new(self.name, self.clone())
    }
}

impl Service<()> for Site {
    type Response = &'static str;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<&'static str>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let (name, response) = (self.name, *self.response.lock().unwrap());
        Box::pin(async move {
            match response {
                Response::After(Duration::ZERO) => Ok(name),
                Response::After(time) => {
                    sleep(time).await;
                    Ok(name)
                }
                Response::Error => Err(io::ErrorKind::ConnectionReset.into()),
                Response::Never => pending().await,
            }
        })
    }
}

type Sites = Fleet<Site, ErrorsOnly>;
type Door = Balance<Site, AnyStrategy, ErrorsOnly>;

fn builder() -> FleetBuilder<Site, ErrorsOnly> {
    Fleet::plain()
}

/// The backends of these names.
fn sites(names: &[&'static str]) -> Vec<Site> {
    names.iter().map(|name| Site::new(name)).collect()
}

fn named(strategy: &str) -> AnyStrategy {
    AnyStrategy::try_from(strategy.parse::<StrategyName>().unwrap()).unwrap()
}

fn door(fleet: &Sites, strategy: &str) -> Door {
    Balance::new(fleet, named(strategy))
}

fn failover(fleet: &Sites) -> Failover<Site, Plain, ErrorsOnly> {
    tower::Layer::layer(&FailoverLayer::plain().build().unwrap(), fleet.clone())
}

/// The backends that serve this many requests of a door, one after the other, without time passing.
fn served(door: &Door, requests: usize) -> BTreeMap<&'static str, usize> {
    let mut served = BTreeMap::new();
    for _ in 0..requests {
        let name = door.clone().oneshot(()).now_or_never().expect("an immediate response").unwrap();
        *served.entry(name).or_default() += 1;
    }
    served
}

/// The share of a backend in the traffic of a door.
fn part(door: &Door, name: &str) -> f64 {
    const REQUESTS: usize = 4_000;
    served(door, REQUESTS).get(name).copied().unwrap_or(0) as f64 / REQUESTS as f64
}

#[track_caller]
fn assert_near(actual: f64, expected: f64, what: &str) {
    // The shares of a weighted order are rounded to 1/64, those of other strategies are random.
    let bound = 0.015 + 0.05 * expected;
    assert!((actual - expected).abs() < bound, "{what}: {actual:.3} in place of {expected:.3}");
}

/// Sends a request every five milliseconds for this long, which run at the same time.
async fn send(door: &Door, time: Duration) {
    send_within(door, time, Duration::MAX).await;
}

/// The same, with requests that are dropped after some time.
async fn send_within(door: &Door, time: Duration, patience: Duration) {
    let every = Duration::from_millis(5);
    let mut running = JoinSet::new();
    for _ in 0..(time.as_millis() / every.as_millis()) {
        let response = door.clone().oneshot(());
        let patience = patience.min(Duration::from_secs(60));
        running.spawn(async move { drop(tokio::time::timeout(patience, response).await) });
        sleep(every).await;
        while running.try_join_next().is_some() {}
    }
}

fn snapshot(fleet: &Sites, name: &str) -> Snapshot {
    fleet.snapshot().into_iter().find(|one| one.name == *name).unwrap()
}

/// The share of a backend in percent; 0 while it is ejected.
fn percent(fleet: &Sites, name: &str) -> u32 {
    let snapshot = snapshot(fleet, name);
    if snapshot.ejected_for.is_some() { 0 } else { (snapshot.share * 100.0).round() as u32 }
}

/// The changes that the stream holds.
fn received(changes: &mut Changes) -> Vec<Change> {
    std::iter::from_fn(|| changes.next().now_or_never().flatten()).collect()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
