//! A replica, whose services answer at once.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::FutureExt;
use tokio::task::JoinHandle;
use tower::{Layer, Service};
use tower_fleet::{
    AdminStatus, Backend, BalanceLayer, CircuitPolicy, CircuitState, Fleet,
    fleet::Snapshot,
    outcome::ErrorsOnly,
    replicas::{Exchange, Share, ValkeyStore},
};

/// A service that counts its calls.
#[derive(Clone, Default)]
pub(crate) struct Counted(pub(crate) Arc<AtomicUsize>);

impl Service<()> for Counted {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        self.0.fetch_add(1, Ordering::Relaxed);
        ready(Ok(()))
    }
}

pub(crate) struct Replica {
    pub(crate) fleet: Fleet<Counted, ErrorsOnly>,
    pub(crate) sharing: JoinHandle<()>,
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);

impl Replica {
    /// A replica of a fleet of these backends, sharing by the server at a URL.
    pub(crate) fn new(url: &str, names: &[&str]) -> Self {
        Self::by(ValkeyStore::new(url).unwrap(), names)
    }

    pub(crate) fn by(exchange: impl Exchange, names: &[&str]) -> Self {
        Self::with(Share::new(exchange), names.iter().map(|name| Backend::new(*name, Counted::default())))
    }

    pub(crate) fn with(share: Share<impl Exchange>, backends: impl IntoIterator<Item = Backend<Counted>>) -> Self {
        let policy = CircuitPolicy::new().open_for(30 * SECOND);
        let fleet = Fleet::plain().name("search").backends(backends).circuit_breaker(policy).build().unwrap();
        let sharing = tokio::spawn(fleet.share(share).unwrap());
        Self { fleet, sharing }
    }

    pub(crate) fn trip(&self, name: &str) {
        self.fleet.switch(name).unwrap().trip();
    }

    pub(crate) fn backend(&self, name: &str) -> Snapshot {
        self.fleet.snapshot().into_iter().find(|backend| backend.name == name).unwrap()
    }

    pub(crate) fn is_hinted(&self, name: &str) -> bool {
        self.backend(name).hinted_for.is_some()
    }

    pub(crate) fn hinted(&self) -> usize {
        self.fleet.snapshot().iter().filter(|backend| backend.hinted_for.is_some()).count()
    }

    pub(crate) fn status(&self, name: &str) -> AdminStatus {
        self.backend(name).status
    }

    pub(crate) fn state(&self, name: &str) -> CircuitState {
        self.backend(name).state
    }

    /// Sends a request, which is answered without waiting for anything.
    pub(crate) fn serve(&self) {
        let door = BalanceLayer::round_robin().layer(self.fleet.clone());
        door.oneshot(()).now_or_never().expect("no request waits").expect("no request fails");
    }

    /// Serves for some time, and checks that sharing goes on.
    pub(crate) async fn serve_for(&self, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            self.serve();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!self.sharing.is_finished(), "sharing goes on");
    }
}

/// Waits until something is so. Returns how long that took.
///
/// # Panics
///
/// After some seconds.
pub(crate) async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < 20 * SECOND, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}
