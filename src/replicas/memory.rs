//! An exchange in memory.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{channel::mpsc, future::ready, stream::Stream};
use tokio::time::Instant;

use super::{
    exchange::{Exchange, ExchangeError, Link, News, Reports},
    report::{Report, Stamp},
};
use crate::name::BackendName;

/// An [`Exchange`] in the memory of this process: for tests, and for several fleets of one process that share their
/// backends. Clones are the same exchange.
///
/// ```
/// # use tower_fleet::{Backend, Fleet, replicas::{MemoryExchange, Share}};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_fleet::InvalidSetting> {
/// let exchange = MemoryExchange::new();
/// for _ in 0..2 {
///     let replica = Fleet::plain().name("search").backend(Backend::new("a", ())).build()?;
///     tokio::spawn(replica.share(Share::new(exchange.clone()))?);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct MemoryExchange {
    /// By name. Dropped with the last clone.
    fleets: Arc<Mutex<HashMap<String, Arc<Shared>>>>,
    replicas: Arc<AtomicU64>,
    started: Instant,
}

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    reports: HashMap<BackendName, Report>,
    /// The replica that may probe a backend, and until when.
    permits: HashMap<BackendName, (u64, Stamp)>,
    news: Vec<mpsc::Sender<Reports>>,
}

/// The [`Link`] of a [`MemoryExchange`].
#[derive(Clone, Debug)]
pub struct MemoryLink {
    shared: Arc<Shared>,
    replica: u64,
    started: Instant,
}

/// The [`News`] of a [`MemoryExchange`].
#[derive(Debug)]
pub struct MemoryNews(mpsc::Receiver<Reports>);

/// How many changes wait for one replica.
const BACKLOG: usize = 4096;

impl MemoryExchange {
    /// Creates an exchange that nothing was reported to. Its clock starts in the year 2001, and follows tokio's paused time.
    pub fn new() -> Self {
        Self { fleets: Arc::default(), replicas: Arc::default(), started: Instant::now() }
    }

    fn shared(&self, fleet: &str) -> Arc<Shared> {
        let mut fleets = self.fleets.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(fleets.entry(fleet.to_owned()).or_default())
    }
}

impl Default for MemoryExchange {
    fn default() -> Self {
        Self::new()
    }
}

impl Exchange for MemoryExchange {
    type Link = MemoryLink;
    type News = MemoryNews;

    fn connect(&self, fleet: &str) -> impl Future<Output = Result<(MemoryLink, MemoryNews), ExchangeError>> + Send {
        let shared = self.shared(fleet);
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let mut state = shared.lock();
        // Those of connections that were lost since the last change.
        state.news.retain(|sender| !sender.is_closed());
        state.news.push(sender);
        drop(state);
        let replica = self.replicas.fetch_add(1, Ordering::Relaxed);
        ready(Ok((MemoryLink { shared, replica, started: self.started }, MemoryNews(receiver))))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryLink {
    fn now(&self) -> Stamp {
        Stamp::from_millis(1_000_000_000_000).after(self.started.elapsed())
    }
}

impl Link for MemoryLink {
    fn merge(&self, reports: Vec<Report>) -> impl Future<Output = Result<Reports, ExchangeError>> + Send + 'static {
        let (now, mut state) = (self.now(), self.shared.lock());
        let (mut merged, mut changed) = (Vec::new(), Vec::new());
        for report in reports {
            let entry = state.reports.entry(report.backend.clone());
            let entry = entry.or_insert_with(|| Report::new(report.backend.clone()));
            if entry.merge(&report.clamped(now)) {
                changed.push(entry.clone());
            }
            merged.push(entry.clone());
        }
        if !changed.is_empty() {
            let news = Reports { now, reports: changed };
            // A replica that does not read reads all reports later.
            state
                .news
                .retain_mut(|sender| !matches!(sender.try_send(news.clone()), Err(error) if error.is_disconnected()));
        }
        ready(Ok(Reports { now, reports: merged }))
    }

    fn read(
        &self,
        backends: Vec<BackendName>,
    ) -> impl Future<Output = Result<Reports, ExchangeError>> + Send + 'static {
        let (now, state) = (self.now(), self.shared.lock());
        let reports = backends.iter().filter_map(|backend| state.reports.get(backend).cloned()).collect();
        ready(Ok(Reports { now, reports }))
    }

    fn take_permits(
        &self,
        backends: Vec<BackendName>,
        lease: Duration,
    ) -> impl Future<Output = Result<Vec<Duration>, ExchangeError>> + Send + 'static {
        let (now, mut state) = (self.now(), self.shared.lock());
        let mut take = |backend: BackendName| match state.permits.get(&backend) {
            Some((replica, until)) if *replica != self.replica && *until > now => until.since(now),
            _ => {
                state.permits.insert(backend, (self.replica, now.after(lease)));
                Duration::ZERO
            }
        };
        ready(Ok(backends.into_iter().map(&mut take).collect()))
    }

    fn return_permits(
        &self,
        backends: Vec<BackendName>,
    ) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static {
        let mut state = self.shared.lock();
        for backend in backends {
            if state.permits.get(&backend).is_some_and(|(replica, _)| *replica == self.replica) {
                state.permits.remove(&backend);
            }
        }
        ready(Ok(()))
    }

    fn ping(&self) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static {
        ready(Ok(()))
    }
}

impl Stream for MemoryNews {
    type Item = News;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<News>> {
        Pin::new(&mut self.0).poll_next(cx).map(|news| news.map(News::Changed))
    }
}
