//! Lookups in turn: each begins when the answer of the last one has expired.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    endpoint::Endpoint,
    error::{Failure, ResolveError},
    status::DnsStatus,
    timing::Timing,
};
use crate::{foreign, rng::Rng, telemetry};

/// Looks up a set of endpoints.
pub(super) trait Resolve: Sized + Send + 'static {
    /// Looks up once. Returns itself with what it has learned.
    fn resolve(self) -> BoxFuture<'static, (Self, Result<Answer, Failure>)>;
}

/// The result of a lookup.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) endpoints: Vec<Endpoint>,
    /// The number of endpoints before the surplus was cut off.
    pub(super) found: usize,
    /// For how long the answer is valid. `None` for ever.
    pub(super) ttl: Option<Duration>,
    /// Why a part of it is that of an earlier answer, or missing.
    pub(super) failure: Option<Failure>,
}

impl Answer {
    /// The name server states for certain that there is no endpoint.
    pub(super) fn empty(ttl: Duration) -> Self {
        Self { endpoints: Vec::new(), found: 0, ttl: Some(ttl), failure: None }
    }
}

/// Looks up in turn, and holds the last good set.
pub(super) struct Refresh<R> {
    source: Arc<str>,
    timing: Timing,
    rng: Rng,
    phase: Phase<R>,
    /// The last good set.
    pub(super) set: Option<Vec<Endpoint>>,
    /// The set was not yielded yet.
    is_unread: bool,
    /// There were more endpoints than are allowed in the last answer, which was told.
    is_cut: bool,
    pub(super) status: DnsStatus,
}

enum Phase<R> {
    /// Waits for its first poll, in which it may use the timers of the runtime.
    New(R),
    /// Waits for a lookup.
    Resolving(BoxFuture<'static, (R, Result<Answer, Failure>)>),
    /// Waits for the time of the next lookup.
    Waiting(Pin<Box<Sleep>>, R),
    /// Its one answer is valid for ever; or a poll is under way.
    Ended,
}

impl<R: Resolve> Refresh<R> {
    pub(super) fn new(source: Arc<str>, timing: Timing, resolver: R) -> Self {
        Self {
            source,
            timing,
            rng: Rng::new(),
            phase: Phase::New(resolver),
            set: None,
            is_unread: false,
            is_cut: false,
            status: DnsStatus::default(),
        }
    }

    /// Polls until there is a set that was not yielded yet. False once there will be none.
    pub(super) fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while !self.is_unread {
            match &mut self.phase {
                Phase::Ended => return Poll::Ready(false),
                Phase::New(_) => {}
                Phase::Waiting(sleep, _) => ready!(sleep.as_mut().poll(cx)),
                Phase::Resolving(lookup) => {
                    let (resolver, result) = ready!(lookup.as_mut().poll(cx));
                    self.phase = match self.note(result) {
                        Some(time) => Phase::Waiting(Box::pin(sleep_until(after(time))), resolver),
                        None => Phase::Ended,
                    };
                    continue;
                }
            }
            if let Phase::New(resolver) | Phase::Waiting(_, resolver) = std::mem::replace(&mut self.phase, Phase::Ended)
            {
                self.phase = Phase::Resolving(resolver.resolve());
            }
        }
        Poll::Ready(true)
    }

    /// Polls the next set. `None` once there will be none.
    pub(super) fn poll_set(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<Endpoint>>> {
        let is_unread = ready!(self.poll_unread(cx));
        self.is_unread = false;
        Poll::Ready(self.set.clone().filter(|_| is_unread))
    }

    /// Notes a result. Returns the time until the next lookup, if there is one.
    fn note(&mut self, result: Result<Answer, Failure>) -> Option<Duration> {
        let failures_before = self.status.failures();
        let error = |failure| ResolveError { source_name: Arc::clone(&self.source), failure };
        match result {
            Ok(Answer { endpoints, found, ttl, failure }) => {
                let is_cut = found > endpoints.len();
                if is_cut && !self.is_cut {
                    let kept = endpoints.len();
                    foreign::run(|| telemetry::dns_answer_cut(&self.source, found, kept));
                }
                self.is_cut = is_cut;
                let error = failure.map(error);
                self.status.answered(endpoints.len(), error.clone());
                match &error {
                    Some(error) if failures_before == 0 => self.warn(error),
                    None if failures_before > 0 => {
                        foreign::run(|| telemetry::dns_recovered(&self.source, failures_before));
                    }
                    _ => {}
                }
                if self.set.as_ref() != Some(&endpoints) {
                    (self.set, self.is_unread) = (Some(endpoints), true);
                }
                let (ttl, failures) = (ttl?, failures_before.saturating_add(1));
                Some(match error {
                    Some(_) => self.timing.after_part(ttl, failures, &mut self.rng),
                    None => self.timing.after_answer(ttl, &mut self.rng),
                })
            }
            Err(failure) => {
                let negative_ttl = failure.negative_ttl;
                let error = error(failure);
                if failures_before == 0 {
                    self.warn(&error);
                }
                self.status.failed(error);
                Some(self.timing.after_failure(self.status.failures(), negative_ttl, &mut self.rng))
            }
        }
    }

    /// One warning per outage.
    fn warn(&self, error: &ResolveError) {
        let endpoints = self.set.as_ref().map_or(0, Vec::len);
        foreign::run(|| telemetry::dns_failed(&self.source, error, endpoints));
    }
}

/// The moment after a time, which is at most 45 days.
fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}
