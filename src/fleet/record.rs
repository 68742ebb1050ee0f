//! What calls report about a member: admission, outcomes, and the transitions that follow.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::member::MemberInfo;
use crate::{
    health::{Admission, Circuit, Ticket, Transition, Verdict},
    outcome::{Event, Outcome},
    telemetry,
    time::Moment,
};

impl MemberInfo {
    /// Asks to make a call, which takes a permit where its circuit is to be probed.
    ///
    /// # Errors
    ///
    /// Why not: for how long the circuit is open, if that ends by itself.
    #[inline(always)]
    pub(crate) fn admit(self: &Arc<Self>, now: impl FnOnce() -> Moment) -> Result<Ticket, Option<Duration>> {
        let Some(circuit) = self.circuit() else { return Ok(Ticket::VOID) };
        match circuit.pass() {
            Some(ticket) => Ok(ticket),
            None => self.ask(circuit, now()),
        }
    }

    #[inline(never)]
    fn ask(self: &Arc<Self>, circuit: &Circuit, now: Moment) -> Result<Ticket, Option<Duration>> {
        match circuit.admit(|| now) {
            Admission::Admitted(ticket, Some(transition)) => {
                self.moved(transition);
                Ok(ticket)
            }
            Admission::Admitted(ticket, None) => {
                if ticket.is_probe() {
                    self.permits_changed();
                }
                Ok(ticket)
            }
            Admission::Rejected { .. } if self.health.is_exempt() => Ok(Ticket::VOID),
            Admission::Rejected { retry_after, .. } => Err(retry_after),
        }
    }

    #[inline(always)]
    pub(super) fn record(self: &Arc<Self>, ticket: &Ticket, event: Event<'_>) {
        let Some(circuit) = self.circuit() else { return };
        if !matches!(event, Event::Outcome(Outcome::Success)) || !circuit.expects_success(ticket) {
            self.weigh(circuit, *ticket, event);
        }
    }

    #[inline(never)]
    fn weigh(self: &Arc<Self>, circuit: &Circuit, ticket: Ticket, event: Event<'_>) {
        let verdict = match event {
            Event::Outcome(Outcome::Success) => Verdict::Success,
            Event::Outcome(Outcome::Failure(_)) => Verdict::Failure,
            Event::Outcome(Outcome::Neutral) => Verdict::Neutral,
            Event::Cancelled => Verdict::GivenUp,
            Event::BodyFailed(_) => Verdict::BodyFailed,
            Event::BodyEnded => Verdict::BodyEnded,
        };
        match circuit.record(ticket, verdict, || self.clock.now(), || fastrand::u64(..)) {
            Some(transition) => self.moved(transition),
            // Its permit is free again, and a request may wait for one.
            None if ticket.is_probe() => {
                self.permits_changed();
                if let Some(watchers) = self.watchers() {
                    watchers.waiters.wake();
                }
            }
            None => {}
        }
    }

    /// Publishes a transition of the circuit: the one way for all of them.
    #[cold]
    pub(crate) fn moved(self: &Arc<Self>, transition: Transition) {
        if !self.publish(|fleet| fleet.circuit_moved(self, transition)) {
            telemetry::circuit_moved(&self.name, &transition.from, &transition.to);
        }
        if let Some(watchers) = self.watchers() {
            let mut listeners = watchers.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            // A listener that sleeps misses what does not fit: the generations show the gap.
            listeners
                .retain_mut(|listener| listener.try_send(transition).map_or_else(|error| error.is_full(), |()| true));
            drop(listeners);
            watchers.waiters.wake();
        }
    }

    /// An open circuit may admit a probe earlier, or later, than it was known before.
    fn permits_changed(self: &Arc<Self>) {
        self.publish(|fleet| fleet.permits_changed(self));
    }
}
