//! Balancing: a request is given one of many backends.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use tower::{
    BoxError, Layer, Service,
    balance::p2c,
    buffer::Buffer,
    discover::ServiceList,
    load::{CompleteOnResponse, PeakEwmaDiscover, PendingRequestsDiscover},
    util::BoxCloneSyncService,
};
use tower_fleet::{
    Backend, BalanceLayer, Fleet,
    pick::{Latency, LeastLoaded, PeakEwma, RoundRobin, Shuffle, Strategy, Weighted},
};

use crate::row::Row;

const GROUP: &str = "balance";

/// Always ready, does nothing, boxes nothing.
#[derive(Clone)]
pub(crate) struct Unit;

impl Service<()> for Unit {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = vec![
        Row::kept(GROUP, "floor", "bare service", 1, 1, Unit),
        Row::kept(GROUP, "floor", "bare service", 1, 64, Unit),
        Row::kept(GROUP, "floor", "boxed bare service", 1, 1, BoxCloneSyncService::new(Unit)),
    ];
    for backends in [3, 10, 100, 1_000, 10_000] {
        ours(&mut rows, "round robin", backends, RoundRobin);
        ours(&mut rows, "shuffle", backends, Shuffle::new());
        ours(&mut rows, "weighted", backends, Weighted);
        ours(&mut rows, "p2c", backends, two_choices());
        ours(&mut rows, "least loaded", backends, LeastLoaded::new());
        ours(&mut rows, "peak ewma", backends, PeakEwma::new());
        ours(&mut rows, "latency", backends, Latency::new());
        towers(&mut rows, backends);
    }
    rows
}

/// The power of two choices, also in a small set.
pub(crate) fn two_choices() -> LeastLoaded {
    LeastLoaded::new().scan(0).and_then(|strategy| strategy.choices(2)).expect("valid settings")
}

fn ours(rows: &mut Vec<Row>, name: &str, backends: usize, strategy: impl Strategy) {
    let fleet = (0..backends).map(|index| Backend::new(index.to_string(), Unit).weight(1 + index as u32 % 3));
    let fleet = Fleet::plain().backends(fleet).build().expect("a valid fleet");
    let door = || BalanceLayer::new(strategy.clone()).layer(fleet.clone());
    rows.push(Row::kept(GROUP, "ours", name, backends, 1, door()));
    rows.push(Row::kept(GROUP, "ours", name, backends, 64, door()));
    rows.push(Row::cloned(GROUP, "ours", name, backends, door()));
}

fn towers(rows: &mut Vec<Row>, backends: usize) {
    let services = || ServiceList::new(vec![Unit; backends]);
    let pending = || p2c::Balance::new(PendingRequestsDiscover::new(services(), CompleteOnResponse::default()));
    let latency = || {
        let (guess, decay) = (std::time::Duration::from_millis(1), std::time::Duration::from_secs(10));
        p2c::Balance::new(PeakEwmaDiscover::new(services(), guess, decay, CompleteOnResponse::default()))
    };
    rows.push(Row::sole(GROUP, "peer", "tower p2c, pending requests", backends, pending()));
    rows.push(Row::sole(GROUP, "peer", "tower p2c, peak ewma", backends, latency()));
    for callers in [1, 64] {
        rows.push(buffered(backends, callers, pending()));
    }
}

fn buffered<D>(backends: usize, callers: usize, door: D) -> Row
where
    D: Service<(), Error = BoxError> + Send + 'static,
    D::Future: Send,
{
    Row::kept(GROUP, "peer", "Buffer + tower p2c", backends, callers, Buffer::new(door, 1024))
}
