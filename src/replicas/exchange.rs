//! Where replicas meet: what a store must do.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use futures::stream::Stream;

use super::report::{Report, Stamp};
use crate::name::BackendName;

/// The place where the replicas of a fleet meet, such as a server of Valkey.
///
/// Used by [`Sharing`](super::Sharing) only, in the background: no request waits for it. See
/// [`MemoryExchange`](super::MemoryExchange) for one in memory, and `ValkeyStore` (feature `valkey`).
pub trait Exchange: Send + Sync + 'static {
    /// A connection.
    type Link: Link;
    /// What the other replicas report from now on. Ends when the connection is lost.
    ///
    /// The requests of the link make progress only while this stream is polled, so that an exchange needs no task of its
    /// own. It must be cheap to poll, and hold a bounded number of items: [`News::Missed`] stands for those it drops.
    type News: Stream<Item = News> + Send + Unpin + 'static;

    /// Connects, and subscribes to the reports of a fleet.
    ///
    /// # Errors
    ///
    /// No connection. The caller tries again later.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    fn connect(&self, fleet: &str) -> impl Future<Output = Result<(Self::Link, Self::News), ExchangeError>> + Send;
}

/// A connection to an [`Exchange`], for the reports of one fleet.
///
/// Each request may be dropped at any time; it may then have taken effect.
pub trait Link: Clone + Send + Sync + 'static {
    /// Merges reports into those of the exchange, each atomically, and passes those on that changed. Returns what they
    /// are then.
    ///
    /// # Errors
    ///
    /// The exchange did not answer, or not as it should. Each report was merged or not.
    fn merge(&self, reports: Vec<Report>) -> impl Future<Output = Result<Reports, ExchangeError>> + Send + 'static;

    /// Returns what is reported of these backends. Those that nothing is reported of are not in the answer.
    ///
    /// # Errors
    ///
    /// The exchange did not answer, or not as it should.
    fn read(&self, backends: Vec<BackendName>)
    -> impl Future<Output = Result<Reports, ExchangeError>> + Send + 'static;

    /// Takes the permit to probe each of these backends for some time, if no other replica holds it. Returns for each
    /// for how long another replica holds it; zero if the permit was taken, or was this replica's already.
    ///
    /// # Errors
    ///
    /// The exchange did not answer, or not as it should.
    fn take_permits(
        &self,
        backends: Vec<BackendName>,
        lease: Duration,
    ) -> impl Future<Output = Result<Vec<Duration>, ExchangeError>> + Send + 'static;

    /// Returns permits that this replica holds. Those of other replicas stay.
    ///
    /// # Errors
    ///
    /// The exchange did not answer, or not as it should. A permit that is not returned ends with its lease.
    fn return_permits(
        &self,
        backends: Vec<BackendName>,
    ) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static;

    /// Checks that the exchange answers, and reports of other replicas can arrive.
    ///
    /// # Errors
    ///
    /// It does not.
    fn ping(&self) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static;
}

/// What is reported at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reports {
    /// The moment, by the clock of the exchange.
    pub now: Stamp,
    /// The reports.
    pub reports: Vec<Report>,
}

/// What the other replicas report, or a note on it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum News {
    /// What is reported of a backend has changed.
    Changed(Reports),
    /// Some changes were dropped. All reports are read again.
    Missed,
    /// A message is not a report. It is ignored.
    Garbled,
}

/// The error of an [`Exchange`]. Holds no address and no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeError(Cow<'static, str>);

impl ExchangeError {
    /// Creates an error. The message must not show credentials: it is logged.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self(message.into())
    }

    /// The exchange did not answer in time.
    pub(super) fn late(limit: Duration) -> Self {
        Self(format!("no answer within {limit:?}").into())
    }

    /// Code of the exchange has panicked.
    pub(super) const PANICKED: Self = Self(Cow::Borrowed("the exchange has panicked"));

    /// The connection is closed.
    pub(super) const CLOSED: Self = Self(Cow::Borrowed("the connection is closed"));
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for ExchangeError {}
