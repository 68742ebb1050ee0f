//! Service instances before their call: ready, pending, admitted or failed.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tower::BoxError;
use tower_service::Service;

use super::Attempt;
use crate::{
    fleet::{Granted, Place, Shard},
    foreign,
    health::Ticket,
    name::{BackendId, BackendName},
    outcome::{Classify, Guard, Outcome},
    time::Moment,
    wake::Waiter,
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
    /// `None` for nearly all: in few fields of a word each, an instance is moved without a stall of the processor.
    special: Option<Box<Special>>,
}

/// What few ready instances have.
#[derive(Default)]
struct Special {
    /// The call will probe a circuit whose open time is over.
    is_probe: bool,
    /// The turn of a request that has waited for a slot. Passed on if the instance is dropped uncalled.
    turn: Option<Box<Turn>>,
}

/// Proof that a call to a ready instance may begin.
#[must_use = "the slot and the permit are taken"]
pub(crate) struct Pass {
    ticket: Ticket,
    /// Whether it has taken a slot of a backend with a limit. Not before the call: a door that is ready and not called
    /// takes none.
    has_slot: bool,
}

impl Pass {
    /// Sets the start of the call.
    #[inline(always)]
    pub(crate) fn started_at(self, now: Moment) -> Self {
        Self { ticket: self.ticket.started_at(now), ..self }
    }
}

/// The turn of a request that waits for a slot.
pub(crate) enum Turn {
    /// A task that is woken when there may be one.
    Waiter(Waiter),
    /// A request in the queue.
    Place(Place),
    /// A slot that the request has got, and its place in the queue.
    Granted(Granted, Place),
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
    pub(crate) position: u64,
    pub(crate) name: BackendName,
    /// `None` if it panicked.
    pub(crate) error: Option<BoxError>,
}

impl Refusal {
    pub(super) fn new<S, C>(shard: &Shard<S, C>, error: Option<BoxError>) -> Self {
        let info = shard.info();
        let (id, position) = (info.id, info.position());
        Self { at: info.clock.now(), id, position, name: shard.name.clone(), error }
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
    /// This many backends are eligible, and have as many calls in flight as their limits allow.
    AtLimit(usize),
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
    fn from(Ready { shard, service, special }: Ready<S, C>) -> Self {
        let is_probe = special.is_some_and(|special| special.is_probe);
        Self { id: shard.info().id, shard: Arc::downgrade(&shard), service, is_probe }
    }
}

impl<S, C> Ready<S, C>
where
    S: Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    #[inline(always)]
    pub(super) fn new(shard: Arc<Shard<S, C>>, service: S, is_probe: bool) -> Self {
        let special = is_probe.then(|| Box::new(Special { is_probe, turn: None }));
        Self { shard, service, special }
    }

    pub(crate) fn shard(&self) -> &Arc<Shard<S, C>> {
        &self.shard
    }

    #[inline]
    pub(crate) fn is_probe(&self) -> bool {
        self.special.as_ref().is_some_and(|special| special.is_probe)
    }

    /// Gives it the turn of its request.
    pub(super) fn set_turn(&mut self, turn: Option<Box<Turn>>) {
        if turn.is_some() {
            self.special.get_or_insert_default().turn = turn;
        }
    }

    /// Returns whether a request may still be sent to it.
    #[inline]
    pub(crate) fn is_valid(&self) -> bool {
        let info = self.shard.info();
        info.health.is_eligible() || (self.is_probe() && info.may_probe())
    }

    /// Admits a request on the fast path: the backend is eligible and has no limit, and its circuit needs no clock.
    /// `None` if another path is needed, or if the request is rejected; see [`admit`](Self::admit), which is separate so
    /// that the ticket stays in registers.
    #[inline(always)]
    pub(crate) fn pass(&self) -> Option<Pass> {
        let info = self.shard.info();
        let ticket = match info.circuit() {
            _ if !info.health.is_unmarked() => None,
            None => Some(Ticket::VOID),
            Some(circuit) => circuit.pass(),
        };
        ticket.map(|ticket| Pass { ticket, has_slot: false })
    }

    /// Admits a request, and takes its slot and, if it is a probe, its permit. `None` if it is rejected.
    #[inline(never)]
    pub(crate) fn admit(&mut self, now: impl FnOnce() -> Moment) -> Option<Pass> {
        let info = self.shard.info();
        let may_call = info.health.is_eligible() || (self.is_probe() && info.health.on_probation().is_some());
        let turn = self.special.as_deref_mut().map(|special| &mut special.turn);
        let is_granted = match turn.as_ref().and_then(|turn| turn.as_deref()) {
            Some(Turn::Granted(granted, _)) => granted.member().is_some_and(|member| member.id == info.id),
            _ => false,
        };
        let takes_slot = info.is_limited() && !is_granted;
        if !may_call || (takes_slot && !info.take_slot()) {
            return None;
        }
        let ticket = info.admit(now).ok();
        if takes_slot && ticket.is_none() {
            info.return_slot();
        }
        let has_slot = (takes_slot || is_granted) && ticket.is_some();
        if let Some(turn) = turn.filter(|_| has_slot).and_then(Option::take) {
            match *turn {
                Turn::Waiter(mut waiter) => waiter.used(),
                Turn::Granted(granted, _) if is_granted => granted.used(),
                // The slot of another backend is passed on.
                Turn::Granted(..) | Turn::Place(_) => {}
            }
        }
        ticket.map(|ticket| Pass { ticket, has_slot })
    }

    /// Takes the turn of a request whose instance was not admitted. If it had got a slot, that is freed.
    pub(crate) fn take_turn(&mut self) -> Option<Box<Turn>> {
        let turn = self.special.as_mut()?.turn.take()?;
        Some(match *turn {
            Turn::Granted(granted, place) => {
                granted.discard();
                place.put_back();
                Box::new(Turn::Place(place))
            }
            _ => turn,
        })
    }

    /// Puts the pass into a guard, so that its slot and its permit are released even if what follows panics.
    #[inline(always)]
    pub(crate) fn enter(self, Pass { ticket, has_slot }: Pass) -> Admitted<S, C> {
        let guard = match has_slot {
            false => Guard::begin(self.shard, ticket),
            true => Guard::begin_with_slot(self.shard, ticket),
        };
        Admitted { guard, service: self.service }
    }

    /// Starts the call of an admitted request.
    #[inline(always)]
    pub(crate) fn call<Req>(
        self,
        pass: Pass,
        request: Req,
    ) -> Attempt<S::Future, <C as Classify<Req, S::Response>>::Call, S, C>
    where
        S: Service<Req>,
        C: Classify<Req, S::Response>,
    {
        self.enter(pass).call(request)
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
