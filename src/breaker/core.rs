use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures::channel::mpsc;

use super::CircuitOpen;

use crate::{
    fleet::{BackendName, Overseer, Waiters},
    health::{Admission, Circuit, Health, Moment, Ticket, Transition, Verdict},
    outcome::Outcome,
    telemetry,
    time::Clock,
};

/// A circuit and those who are told what it does: shared by all services, clones and handles of one breaker.
pub(crate) struct Core {
    name: BackendName,
    health: Arc<Health>,
    clock: Clock,
    /// Where the circuit belongs to a backend of a fleet.
    fleet: Option<Weak<dyn Overseer>>,
    /// Who waits for the circuit to admit somebody.
    waiters: Waiters,
    listeners: Mutex<Vec<mpsc::Sender<Transition>>>,
}

impl Core {
    pub(super) fn new(name: BackendName, health: Arc<Health>, clock: Clock, fleet: Option<Weak<dyn Overseer>>) -> Self {
        Self { name, health, clock, fleet, waiters: Waiters::default(), listeners: Mutex::default() }
    }

    pub(super) fn name(&self) -> &BackendName {
        &self.name
    }

    pub(super) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    #[inline]
    pub(super) fn circuit(&self) -> &Circuit {
        self.health.circuit().expect("a breaker is made around a circuit")
    }

    #[inline]
    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    /// Asks to serve a call.
    #[cold]
    pub(super) fn admit(&self) -> Result<Ticket, CircuitOpen> {
        match self.circuit().admit(|| self.clock.now()) {
            Admission::Admitted(ticket, transition) => {
                self.tell(transition);
                Ok(ticket)
            }
            Admission::Rejected { .. } if self.health.is_spared() => Ok(Ticket::VOID),
            Admission::Rejected { retry_after, .. } => Err(self.open(retry_after)),
        }
    }

    /// May a call be admitted now? Takes no permit.
    #[inline]
    pub(super) fn would_admit(&self) -> bool {
        self.circuit().serves() || self.would_admit_probe()
    }

    #[cold]
    fn would_admit_probe(&self) -> bool {
        self.circuit().would_admit(|| self.clock.now()) || self.health.is_spared()
    }

    /// The answer to a call that is not admitted, and does not ask.
    pub(super) fn closed_to_calls(&self) -> CircuitOpen {
        let eligible_at = Some(self.circuit().eligible_at()).filter(|at| *at != Moment::NEVER);
        self.open(eligible_at.map(|at| at.since(self.clock.now())))
    }

    fn open(&self, retry_after: Option<Duration>) -> CircuitOpen {
        CircuitOpen::new(self.name.clone(), retry_after)
    }

    #[inline]
    pub(super) fn record(&self, ticket: &Ticket, outcome: &Outcome) {
        if !(outcome.is_success() && self.circuit().expects_success(ticket)) {
            self.weigh(*ticket, Some(outcome));
        }
    }

    /// Whoever made the call let go of it.
    #[cold]
    pub(super) fn give_up(&self, ticket: Ticket) {
        self.weigh(ticket, None);
    }

    #[inline(never)]
    fn weigh(&self, ticket: Ticket, outcome: Option<&Outcome>) {
        let verdict = match outcome {
            Some(Outcome::Success) => Verdict::Success,
            Some(Outcome::Failure(_)) => Verdict::Failure,
            Some(Outcome::Neutral) => Verdict::Neutral,
            None => Verdict::GivenUp,
        };
        let transition = self.circuit().record(ticket, verdict, || self.clock.now(), || fastrand::u64(..));
        if transition.is_none() && ticket.is_probe() {
            // Its permit is free again, and somebody may wait for one.
            self.waiters.wake();
            self.with_fleet(|fleet| fleet.permit_returned());
        }
        self.tell(transition);
    }

    /// Makes a transition known.
    #[inline]
    pub(super) fn tell(&self, transition: Option<Transition>) {
        if let Some(transition) = transition {
            self.announce(transition);
        }
    }

    #[cold]
    fn announce(&self, transition: Transition) {
        // A fleet tells of it itself, with the view that follows from it.
        match self.fleet {
            Some(_) => self.with_fleet(|fleet| fleet.circuit_moved(&self.name, &self.health, transition)),
            None => telemetry::circuit_moved(&self.name, &transition),
        }
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        // A listener that sleeps misses what does not fit: the generations show the gap.
        listeners.retain_mut(|listener| listener.try_send(transition).map_or_else(|error| error.is_full(), |()| true));
        drop(listeners);
        self.waiters.wake();
    }

    fn with_fleet(&self, tell: impl FnOnce(&dyn Overseer)) {
        if let Some(fleet) = self.fleet.as_ref().and_then(Weak::upgrade) {
            tell(&*fleet);
        }
    }

    pub(super) fn listen(&self) -> mpsc::Receiver<Transition> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }
}

/// Transitions a listener may be behind.
const BACKLOG: usize = 256;
