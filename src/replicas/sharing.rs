//! The future that shares what a fleet learns.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::time::{sleep, timeout};

use super::{
    book::Book,
    exchange::{Exchange, ExchangeError},
    local::{Ended, Local},
    permits::Permits,
    session::Session,
    settings::Share,
};
use crate::{
    fleet::{Fleet, FleetCore},
    foreign::Guarded,
    setting::InvalidSetting,
    telemetry,
    time::{Clock, Moment},
};

/// The future that shares what a fleet learns, from [`Fleet::share`]. Spawn it; it ends with the fleet.
///
/// # Cancel safety
///
/// Dropped, it closes its connection. What other replicas reported so far ends by itself, and what this replica has
/// reported too.
#[must_use = "futures do nothing unless polled"]
pub struct Sharing {
    running: BoxFuture<'static, ()>,
    permits: Permits,
}

impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> Fleet<S, C> {
    /// Shares what this fleet learns with its replicas, the fleets of the same [name](crate::fleet::FleetBuilder::name) in
    /// other processes, while the returned future is polled. See [`replicas`](crate::replicas).
    ///
    /// The fleet works all the same while the exchange does not.
    ///
    /// # Errors
    ///
    /// An invalid setting.
    pub fn share<E: Exchange>(&self, share: Share<E>) -> Result<Sharing, InvalidSetting> {
        let Share { exchange, settings } = share;
        let core = &self.shared().core;
        let mut book = Book::new(settings.checked()?);
        let (permits, asks) = Permits::channel();
        // Before the survey, so that no change is missed.
        let changes = core.changes();
        book.begin(core, core.clock.now());
        let replica = Replica {
            core: Arc::downgrade(core),
            clock: core.clock,
            name: Arc::clone(&core.name),
            exchange: Arc::new(exchange),
            local: Local { book, changes, asks, has_garbled: false },
            outage: Outage::default(),
        };
        Ok(Sharing { running: Box::pin(replica.run()), permits })
    }
}

impl Sharing {
    /// Returns a handle that asks for the permit to probe a backend, of which there is one for all replicas.
    pub fn permits(&self) -> Permits {
        self.permits.clone()
    }
}

impl Future for Sharing {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.running.as_mut().poll(cx)
    }
}

impl fmt::Debug for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing").finish_non_exhaustive()
    }
}

/// One replica.
struct Replica<E> {
    core: Weak<FleetCore>,
    clock: Clock,
    name: Arc<str>,
    exchange: Arc<E>,
    local: Local,
    outage: Outage,
}

impl<E: Exchange> Replica<E> {
    async fn run(mut self) {
        // Ends with the fleet.
        while self.attempt().await.is_ok() {}
    }

    /// Connects, and shares until the connection is lost.
    async fn attempt(&mut self) -> Result<(), Ended> {
        let limit = self.local.book.settings.timeout;
        let (exchange, name) = (Arc::clone(&self.exchange), Arc::clone(&self.name));
        let connecting = Guarded::new(async move { exchange.connect(&name).await });
        let connecting = timeout(limit, connecting.map(|connected| connected.unwrap_or(Err(ExchangeError::PANICKED))));
        let connected = self.local.until(&self.core, self.clock, connecting).await?;
        let error = match connected.unwrap_or_else(|_| Err(ExchangeError::late(limit))) {
            Ok((link, news)) => {
                let (outage, name) = (&mut self.outage, &self.name);
                let session = Session::new(link, news, &self.core, self.clock, &mut self.local, name);
                session.run(|| outage.end(name)).await?
            }
            Err(error) => error,
        };
        let pause = self.outage.begin(&self.name, &error);
        self.local.until(&self.core, self.clock, sleep(pause)).await
    }
}

/// The time without the exchange.
#[derive(Default)]
struct Outage {
    began: Option<Clock>,
    attempts: u32,
}

/// The pause after the first failure, and the longest one. The longest is well below a second, in which a replica must be
/// back when the exchange is.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(400));

impl Outage {
    /// Notes a failure. Returns how long to wait before the next attempt: longer each time, and another time at each
    /// replica.
    fn begin(&mut self, name: &str, error: &ExchangeError) -> Duration {
        if self.began.is_none() {
            telemetry::sharing_interrupted(name, error);
            self.began = Some(Clock::start());
        }
        let (first, longest) = PAUSES;
        let pause = first.saturating_mul(1 << self.attempts.min(8)).min(longest);
        self.attempts = self.attempts.saturating_add(1);
        pause.mul_f64(0.5 + 0.5 * fastrand::f64())
    }

    /// Notes that the exchange has answered for some time.
    fn end(&mut self, name: &str) {
        self.attempts = 0;
        if let Some(clock) = self.began.take() {
            telemetry::sharing_resumed(name, clock.now().since(Moment::EPOCH));
        }
    }
}
