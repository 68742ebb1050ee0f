//! A little traffic, and what came of it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tower::BoxError;

/// Clients at a time, and how often each of them asks.
const CLIENTS: u32 = 16;
const PACE: Duration = Duration::from_millis(20);

/// A client that has waited for this long has lost its request.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of the requests so far.
pub(crate) struct Outcomes(Mutex<Counts>);

#[derive(Clone)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) lost: u64,
    /// Microseconds: of all requests, and of those that were sent while no backend had a fault.
    pub(crate) all: Histogram<u32>,
    pub(crate) healthy: Histogram<u32>,
}

impl Counts {
    fn new() -> Self {
        // Up to the longest that a client waits, with two digits: enough for a person, in a few kilobytes.
        let most = PATIENCE.as_micros() as u64;
        let histogram = || Histogram::new_with_max(most, 2).expect("two digits are few enough");
        Self { requests: 0, lost: 0, all: histogram(), healthy: histogram() }
    }
}

impl Outcomes {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Counts::new())))
    }

    pub(crate) fn so_far(&self) -> Counts {
        self.counts().clone()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, took: Duration, well: bool, healthy: bool) {
        let mut counts = self.counts();
        counts.requests += 1;
        counts.lost += u64::from(!well);
        let micros = took.as_micros() as u64;
        counts.all.saturating_record(micros);
        if healthy {
            counts.healthy.saturating_record(micros);
        }
    }
}

/// One milliseconds figure of a histogram.
pub(crate) fn millis(histogram: &Histogram<u32>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1_000.0
}

/// Sends requests until it is dropped. All of them can be sent again, so that none may be lost.
pub(crate) async fn run(gateway: SocketAddr, outcomes: Arc<Outcomes>, healthy: impl Fn() -> bool + Copy) -> Infallible {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let clients = (0..CLIENTS).map(|number| ask(client.clone(), gateway, number, &outcomes, healthy));
    futures::future::join_all(clients).await;
    unreachable!("clients do not end")
}

async fn ask(
    client: Client<HttpConnector, Full<Bytes>>,
    gateway: SocketAddr,
    number: u32,
    outcomes: &Outcomes,
    healthy: impl Fn() -> bool,
) -> Infallible {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Not in step with the others.
    tokio::time::sleep(PACE * number / CLIENTS).await;
    for serial in 0_u64.. {
        ticks.tick().await;
        let body = Bytes::from(format!("{number}-{serial} ").repeat(64));
        let (began, was_healthy) = (Instant::now(), healthy());
        let echo = timeout(PATIENCE, send(&client, gateway, body.clone())).await;
        let well = matches!(echo, Ok(Ok(echo)) if echo == body);
        outcomes.note(began.elapsed(), well, was_healthy && healthy());
    }
    unreachable!("numbers do not end")
}

async fn send(
    client: &Client<HttpConnector, Full<Bytes>>,
    gateway: SocketAddr,
    body: Bytes,
) -> Result<Bytes, BoxError> {
    let request = Request::post(format!("http://{gateway}/echo")).body(Full::new(body))?;
    let response = client.request(request).await?;
    Ok(response.into_body().collect().await?.to_bytes())
}
