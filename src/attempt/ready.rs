//! Instances on their way to a call: ready, pending, or refused.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tower_service::Service;

use super::Attempt;
use crate::{
    fleet::Shard,
    health::Ticket,
    name::{BackendId, BackendName},
    outcome::{Classify, Guard},
    time::Moment,
};

/// An instance that is not ready yet, and not in flight. A door that waits keeps it until it looks again.
pub(super) struct Pending<S, C> {
    pub(super) id: BackendId,
    pub(super) shard: Weak<Shard<S, C>>,
    pub(super) service: S,
    pub(super) is_probe: bool,
}

/// The very instance that was found ready.
pub(crate) struct Ready<S, C> {
    pub(super) shard: Arc<Shard<S, C>>,
    pub(super) service: S,
    /// Its circuit is open, and its time is up.
    pub(super) is_probe: bool,
}

/// An instance that a request is admitted to. Dropped unused, it gives its permit back.
pub(crate) struct Admitted<S: Send + Sync, C: Send + Sync> {
    guard: Guard<Shard<S, C>>,
    service: S,
}

/// A backend whose `poll_ready` failed.
pub(crate) struct Refusal<S, C, E> {
    pub(crate) shard: Arc<Shard<S, C>>,
    /// None when it panicked.
    pub(crate) error: Option<E>,
}

/// Why no backend is ready, and waiting would not help.
pub(crate) enum Unready {
    /// The fleet is empty.
    NoBackends,
    /// None of so many is eligible, and after so long one may be.
    NoneAvailable(usize, Option<Duration>),
    /// Each eligible one failed to get ready.
    Refused,
}

/// The end of a search that found no backend, and what those that it asked said.
pub(crate) struct NotReady<S, C, E> {
    pub(crate) why: Unready,
    pub(crate) refusals: Vec<Refusal<S, C, E>>,
}

/// What a search for the next request of a door came to.
pub(crate) type Found<S, C, E> = Result<Ready<S, C>, Box<NotReady<S, C, E>>>;

/// Which backends a search may take.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Scope {
    /// Those of the first tier that has an eligible one.
    FirstTier,
    /// All of them, tier by tier: for a further attempt.
    AllTiers,
}

impl<S, C> Ready<S, C>
where
    S: Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    pub(crate) fn shard(&self) -> &Arc<Shard<S, C>> {
        &self.shard
    }

    /// Whether a request may still be sent there.
    #[inline]
    pub(crate) fn is_valid(&self) -> bool {
        let health = &self.shard.info().health;
        health.is_eligible()
            || (self.is_probe
                && health.on_probation().is_some_and(|circuit| circuit.would_admit(|| self.shard.info().clock.now())))
    }

    /// Admits a request as nearly all are: nothing speaks against the backend, and nothing is to be timed. Apart from
    /// [`admit`](Self::admit), so that a ticket stays in registers.
    #[inline(always)]
    pub(crate) fn pass(&self) -> Option<Ticket> {
        let info = self.shard.info();
        match info.circuit() {
            _ if !info.health.is_eligible() => None,
            None => Some(Ticket::VOID),
            Some(circuit) => circuit.pass(),
        }
    }

    /// Admits a request, and takes the permit if it is a probe.
    #[inline(never)]
    pub(crate) fn admit(&self, now: impl FnOnce() -> Moment) -> Option<Ticket> {
        let info = self.shard.info();
        let may_ask = info.health.is_eligible() || (self.is_probe && info.health.on_probation().is_some());
        if may_ask { info.admit(now).ok() } else { None }
    }

    /// Redeems a ticket, before anything else that may fail.
    #[inline(always)]
    pub(crate) fn enter(self, ticket: Ticket) -> Admitted<S, C> {
        Admitted { guard: Guard::begin(self.shard, ticket), service: self.service }
    }

    #[inline(always)]
    pub(crate) fn call<Req>(
        self,
        ticket: Ticket,
        request: Req,
    ) -> Attempt<S::Future, <C as Classify<Req, S::Response>>::Call, S, C>
    where
        S: Service<Req>,
        C: Classify<Req, S::Response>,
    {
        self.enter(ticket).call(request)
    }
}

impl<S, C> Admitted<S, C>
where
    S: Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    #[inline(always)]
    pub(crate) fn call<Req>(mut self, request: Req) -> Attempt<S::Future, <C as Classify<Req, S::Response>>::Call, S, C>
    where
        S: Service<Req>,
        C: Classify<Req, S::Response>,
    {
        Attempt::begin(self.guard, &mut self.service, request)
    }
}

impl<S, C, E> Refusal<S, C, E> {
    pub(crate) fn name(&self) -> &BackendName {
        &self.shard.name
    }
}
