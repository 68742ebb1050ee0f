//! The stream of the sets of endpoints.

use std::{
    fmt,
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt};

use super::{
    endpoint::Endpoint,
    error::{Failure, ResolveError, ResolveErrorKind},
    lookup::Lookup,
    refresh::Refresh,
    status::DnsStatus,
    timing::Timing,
};
use crate::fleet::Backend;

/// A stream of the sets of endpoints that DNS names, from [`Dns::endpoints`](super::Dns::endpoints).
///
/// Yields a whole set when it is first known, and each time that it changed. A lookup begins when the last answer has
/// expired. While lookups fail, the last good set stays and nothing is yielded: see [`status`](Self::status). The stream
/// does not end, except after the one set of an IP address.
///
/// # Cancel safety
///
/// Nothing is looked up unless the stream is polled. Dropping it ends a lookup and closes its sockets.
#[must_use = "streams do nothing unless polled"]
pub struct Endpoints {
    source: Arc<str>,
    refresh: Refresh<Lookup>,
}

impl Endpoints {
    pub(super) fn new(timing: Timing, lookup: Lookup) -> Self {
        Self { source: Arc::clone(&lookup.source), refresh: Refresh::new(Arc::clone(&lookup.source), timing, lookup) }
    }

    /// Waits for the first set, at most for this time, so that a process may serve as soon as it has backends.
    ///
    /// The set is yielded by the stream too. After an error the stream goes on: serve without these backends, or give up.
    ///
    /// # Errors
    ///
    /// The error of the last lookup, if none has succeeded in that time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the stream continues with the same lookup.
    pub async fn first(&mut self, timeout: Duration) -> Result<Vec<Endpoint>, ResolveError> {
        let first = poll_fn(|cx| match &self.refresh.set {
            Some(_) => Poll::Ready(true),
            None => self.refresh.poll_unread(cx),
        });
        // Whether or not it came in time.
        let _ = tokio::time::timeout(timeout, first).await;
        self.refresh.set.clone().ok_or_else(|| {
            let failure = Failure::new(ResolveErrorKind::TimedOut);
            let late = || ResolveError { source_name: Arc::clone(&self.source), failure };
            self.refresh.status.error().unwrap_or_else(late)
        })
    }

    /// Returns a handle that shows the state of the source, also while the stream is in use elsewhere.
    pub fn status(&self) -> DnsStatus {
        self.refresh.status.clone()
    }

    /// Turns the endpoints into backends, for [`Fleet::follow_lists`](crate::Fleet::follow_lists).
    ///
    /// For a timeout or a limit of each backend, map the stream instead, with [`Endpoint::backend`].
    pub fn backends(self) -> impl Stream<Item = Vec<Backend<SocketAddr>>> + Send + Unpin {
        self.map(|set| set.iter().map(Endpoint::backend).collect())
    }
}

impl Stream for Endpoints {
    type Item = Vec<Endpoint>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.refresh.poll_set(cx)
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoints")
            .field("source", &self.source)
            .field("set", &self.refresh.set)
            .finish_non_exhaustive()
    }
}
