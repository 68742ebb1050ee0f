//! How a circuit leaves a state: by its rules, or because somebody says so. All of it under the lock.

use crate::time::Moment;
use std::sync::PoisonError;

use super::{
    super::{
        evidence::Evidence,
        state::{State, Transition, Word},
        sync::{MutexGuard, Ordering},
    },
    Circuit,
};

impl Circuit {
    /// Opens as if a rule had said so: the backend is known to be ill, and is to be probed again in the usual time.
    ///
    /// Nothing happens when the circuit is open already, its time up or not, or forced.
    pub(crate) fn trip(&self, now: Moment, random: impl FnOnce() -> u64) -> Option<Transition> {
        let mut evidence = self.lock();
        match self.word().state() {
            State::Closed | State::HalfOpen => Some(self.open(&mut evidence, now, random)),
            State::Open | State::ForcedClosed | State::ForcedOpen => None,
        }
    }

    /// Moves an open circuit to half-open before its time: something says that the backend is back.
    pub(crate) fn hasten(&self, now: Moment) -> Option<Transition> {
        let mut evidence = self.lock();
        (self.word().state() == State::Open).then(|| {
            evidence.begin_half_open();
            self.publish(State::HalfOpen, evidence.next_free(), now)
        })
    }

    /// Rejects everything until [`reset`](Self::reset) or [`force_closed`](Self::force_closed).
    pub(crate) fn force_open(&self, now: Moment) -> Option<Transition> {
        self.force(State::ForcedOpen, Moment::NEVER, now)
    }

    /// Serves everything, whatever comes of it, until [`reset`](Self::reset) or [`force_open`](Self::force_open).
    pub(crate) fn force_closed(&self, now: Moment) -> Option<Transition> {
        self.force(State::ForcedClosed, Moment::EPOCH, now)
    }

    /// Closes, and forgets everything: forced states, failures, earlier openings, calls still running.
    ///
    /// A closed circuit forgets too, but that is no transition.
    pub(crate) fn reset(&self, now: Moment) -> Option<Transition> {
        let mut evidence = self.lock();
        evidence.forgive_all();
        let transition = self.close(&mut evidence, now);
        (transition.from != State::Closed).then_some(transition)
    }

    fn force(&self, state: State, eligible_at: Moment, now: Moment) -> Option<Transition> {
        let _evidence = self.lock();
        (self.word().state() != state).then(|| self.publish(state, eligible_at, now))
    }

    pub(super) fn open(&self, evidence: &mut Evidence, now: Moment, random: impl FnOnce() -> u64) -> Transition {
        if self.word().state() == State::Closed {
            evidence.forgive(now, self.policy.forgive_after);
        }
        let opening = self.policy.opening(evidence.count_opening(), random);
        self.publish(State::Open, now.after(opening), now)
    }

    pub(super) fn close(&self, evidence: &mut Evidence, now: Moment) -> Transition {
        evidence.begin_closed(now);
        self.streak.store(0, Ordering::Relaxed);
        self.body_streak.store(0, Ordering::Relaxed);
        self.publish(State::Closed, Moment::EPOCH, now)
    }

    /// Begins the next generation. The word goes last: who reads it finds the rest in place.
    pub(super) fn publish(&self, to: State, eligible_at: Moment, now: Moment) -> Transition {
        let before = self.word();
        let next = before.next(to);
        self.publish_eligible(next, eligible_at);
        self.word.store(next.0, Ordering::Release);
        Transition { from: before.state(), to, generation: next.generation(), at: now }
    }

    /// Poison is ignored: the only foreign code under the lock is `random`. If it panics, the evidence has counted a failure
    /// whose transition is missing, so the next failure opens; a probe's permit shows as taken until it times out.
    pub(in super::super) fn lock(&self) -> MutexGuard<'_, Evidence> {
        self.evidence.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock, if the generation still is the ticket's: everything after that belongs to it.
    pub(super) fn lock_in(&self, word: Word) -> Option<MutexGuard<'_, Evidence>> {
        let evidence = self.lock();
        (self.word() == word).then_some(evidence)
    }
}
