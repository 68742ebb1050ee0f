//! Service instances before their call: ready, pending, admitted or failed.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tower::BoxError;
use tower_service::Service;

use super::Attempt;
use crate::{
    fleet::Shard,
    foreign,
    health::Ticket,
    name::{BackendId, BackendName},
    outcome::{Classify, Guard, Outcome},
    time::Moment,
};

/// An instance that returned `Pending` from `poll_ready`. The search keeps it, since it may hold a place in the queue
/// of its backend. It does not count as in flight, and does not keep a removed backend alive.
pub(super) struct Pending<S, C> {
    pub(super) id: BackendId,
    pub(super) shard: Weak<Shard<S, C>>,
    pub(super) service: S,
    pub(super) is_probe: bool,
}

/// An instance that is ready: the one to call, since readiness belongs to an instance.
pub(crate) struct Ready<S, C> {
    pub(super) shard: Arc<Shard<S, C>>,
    pub(super) service: S,
    /// The call will probe a circuit whose open time is over.
    pub(super) is_probe: bool,
}

/// A ready instance with an admitted request. On drop, releases the permit and records a cancellation.
pub(crate) struct Admitted<S: Send + Sync, C: Send + Sync> {
    guard: Guard<Shard<S, C>>,
    service: S,
}

/// A backend whose `poll_ready` failed. Holds nothing of the backend, which may be removed meanwhile.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) at: Moment,
    pub(crate) id: BackendId,
    pub(crate) name: BackendName,
    /// `None` if it panicked.
    pub(crate) error: Option<BoxError>,
}

impl Refusal {
    pub(super) fn new<S, C>(shard: &Shard<S, C>, error: Option<BoxError>) -> Self {
        let info = shard.info();
        Self { at: info.clock.now(), id: info.id, name: shard.name.clone(), error }
    }
}

/// How often a door sends a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sends {
    /// Once. A panic in `poll_ready` is passed to the caller, and no request probes a spare backend while it has
    /// another one.
    Once,
    /// Again, if it failed. After a panic in `poll_ready`, the search goes on with the other backends.
    Again,
}

/// Why a search failed: no backend is ready, and none is pending.
#[derive(Debug)]
pub(crate) enum Unready {
    /// The fleet has no backend.
    NoBackends,
    /// None of this many backends is eligible. One may become eligible after this time, if it is known.
    NoneAvailable(usize, Option<Duration>),
    /// `poll_ready` of each eligible backend failed.
    Refused,
    /// All backends were pending for as long as the search may take.
    OutOfTime,
}

/// A search that found no backend: the reason, and the backends whose `poll_ready` failed.
#[derive(Debug)]
pub(crate) struct NotReady {
    pub(crate) why: Unready,
    pub(crate) refusals: Vec<Refusal>,
}

/// The result of a search for the next request of a door.
pub(crate) type Found<S, C> = Result<Ready<S, C>, Box<NotReady>>;

impl<S, C> From<Ready<S, C>> for Pending<S, C> {
    fn from(Ready { shard, service, is_probe }: Ready<S, C>) -> Self {
        Self { id: shard.info().id, shard: Arc::downgrade(&shard), service, is_probe }
    }
}

impl<S, C> Ready<S, C>
where
    S: Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    pub(crate) fn shard(&self) -> &Arc<Shard<S, C>> {
        &self.shard
    }

    pub(crate) fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// Returns whether a request may still be sent to it.
    #[inline]
    pub(crate) fn is_valid(&self) -> bool {
        let info = self.shard.info();
        info.health.is_eligible() || (self.is_probe && info.may_probe())
    }

    /// Admits a request on the fast path: the backend is eligible, and its circuit needs no clock. `None` if another
    /// path is needed, or if the request is rejected; see [`admit`](Self::admit), which is separate so that the ticket
    /// stays in registers.
    #[inline(always)]
    pub(crate) fn pass(&self) -> Option<Ticket> {
        let info = self.shard.info();
        match info.circuit() {
            _ if !info.health.is_eligible() => None,
            None => Some(Ticket::VOID),
            Some(circuit) => circuit.pass(),
        }
    }

    /// Admits a request, and takes the permit if it is a probe. `None` if it is rejected.
    #[inline(never)]
    pub(crate) fn admit(&self, now: impl FnOnce() -> Moment) -> Option<Ticket> {
        let info = self.shard.info();
        let may_call = info.health.is_eligible() || (self.is_probe && info.health.on_probation().is_some());
        if may_call { info.admit(now).ok() } else { None }
    }

    /// Puts the ticket into a guard, so that its permit is released even if what follows panics.
    #[inline(always)]
    pub(crate) fn enter(self, ticket: Ticket) -> Admitted<S, C> {
        Admitted { guard: Guard::begin(self.shard, ticket), service: self.service }
    }

    /// Starts the call of an admitted request.
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
    /// Starts the call.
    #[inline(always)]
    pub(crate) fn call<Req>(self, request: Req) -> Attempt<S::Future, <C as Classify<Req, S::Response>>::Call, S, C>
    where
        S: Service<Req>,
        C: Classify<Req, S::Response>,
    {
        let Self { guard, mut service } = self;
        let attempt = Attempt::begin(guard, &mut service, request);
        if std::mem::needs_drop::<S>() {
            // If this unwound, the attempt would not be dropped, and its call would stay in flight.
            foreign::discard([service]);
        }
        attempt
    }
}

/// Records that a backend failed to become ready: as a call that failed. If it was to be probed, its circuit opens
/// again; otherwise every request would poll it.
pub(super) fn record<S, C>(shard: &Arc<Shard<S, C>>, outcome: &Outcome)
where
    S: Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    let info = shard.info();
    if let Ok(ticket) = info.admit(|| info.clock.now()) {
        Guard::begin(Arc::clone(shard), ticket).outcome(outcome);
    }
}
