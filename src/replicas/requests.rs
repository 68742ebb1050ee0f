//! The requests to the exchange that are under way.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{
    future::{BoxFuture, FutureExt},
    stream::{FuturesUnordered, StreamExt},
};
use tokio::time::timeout;

use super::{
    exchange::{ExchangeError, Reports},
    permits::Ask,
};
use crate::{foreign::Guarded, name::BackendName};

/// The requests that are under way, at most one of each kind. Meanwhile, what else there is to ask is collected, so that a
/// burst becomes a few requests.
pub(super) struct Requests {
    running: FuturesUnordered<BoxFuture<'static, (Kind, Result<Answer, ExchangeError>)>>,
    is_running: [bool; KINDS],
    /// The time of each.
    limit: Duration,
}

/// The kinds of requests.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Merge,
    Read,
    Ask,
    Return,
    Ping,
}

const KINDS: usize = 5;

/// The answer to a request.
pub(super) enum Answer {
    Merged(Reports),
    /// What is reported of these backends.
    Read(Vec<BackendName>, Reports),
    /// For how long other replicas hold the permits for these backends, and the probers that wait for them.
    Permits(Vec<BackendName>, Vec<Duration>, Vec<Ask>),
    Returned,
    Ponged,
}

impl Requests {
    pub(super) fn new(limit: Duration) -> Self {
        Self { running: FuturesUnordered::new(), is_running: [false; KINDS], limit }
    }

    /// Returns whether no request of a kind is under way.
    pub(super) fn is_idle(&self, kind: Kind) -> bool {
        !self.is_running[kind as usize]
    }

    /// Starts a request.
    pub(super) fn start(
        &mut self,
        kind: Kind,
        request: impl Future<Output = Result<Answer, ExchangeError>> + Send + 'static,
    ) {
        let limit = self.limit;
        self.is_running[kind as usize] = true;
        let late = move |_| Err(ExchangeError::late(limit));
        let request = Guarded::new(request).map(|done| done.unwrap_or(Err(ExchangeError::PANICKED)));
        self.running.push(timeout(limit, request).map(move |done| (kind, done.unwrap_or_else(late))).boxed());
    }

    /// Waits for the next answer; forever if nothing is under way.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, ExchangeError>> {
        match ready!(self.running.poll_next_unpin(cx)) {
            Some((kind, answer)) => {
                self.is_running[kind as usize] = false;
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }
}
