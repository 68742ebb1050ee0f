//! Transitions between states, by the rules or by the operator. All of them happen under the lock.

use std::sync::PoisonError;

use super::{
    super::{
        counters::Counters,
        state::{CircuitState, Transition, Word},
        sync::{MutexGuard, Ordering},
    },
    Circuit,
};
use crate::time::Moment;

impl Circuit {
    /// Opens the circuit as a rule would: it is probed after the usual open time.
    ///
    /// Has no effect if the circuit is already open, even if its open time is over, or forced.
    pub(crate) fn trip(&self, now: Moment, random: impl FnOnce() -> u64) -> Option<Transition> {
        let mut counters = self.lock();
        match self.word().state() {
            CircuitState::Closed | CircuitState::HalfOpen => Some(self.open(&mut counters, now, random)),
            CircuitState::Open | CircuitState::ForcedClosed | CircuitState::ForcedOpen => None,
        }
    }

    /// Moves an open circuit to half-open before its open time is over.
    pub(crate) fn probe_now(&self, now: Moment) -> Option<Transition> {
        let mut counters = self.lock();
        (self.word().state() == CircuitState::Open).then(|| {
            counters.begin_half_open();
            self.publish(CircuitState::HalfOpen, counters.next_permit_at(), now)
        })
    }

    /// Moves a closed circuit to half-open, so that its backend is probed before it gets all its calls.
    pub(crate) fn begin_probation(&self, now: Moment) -> Option<Transition> {
        let mut counters = self.lock();
        (self.word().state() == CircuitState::Closed).then(|| {
            counters.begin_half_open();
            self.publish(CircuitState::HalfOpen, counters.next_permit_at(), now)
        })
    }

    /// Closes an open or half-open circuit, as enough successful probes do.
    pub(crate) fn recover(&self, now: Moment) -> Option<Transition> {
        let mut counters = self.lock();
        matches!(self.word().state(), CircuitState::Open | CircuitState::HalfOpen)
            .then(|| self.close(&mut counters, now))
    }

    /// Extends the open time of an open circuit to this moment. Returns whether that changed it.
    pub(crate) fn defer(&self, until: Moment) -> bool {
        let _counters = self.lock();
        let (word, eligible_at) = self.read();
        let is_later = word.state() == CircuitState::Open && until > eligible_at;
        if is_later {
            self.publish_eligible(word, until);
        }
        is_later
    }

    /// Rejects every call until [`reset`](Self::reset) or [`force_closed`](Self::force_closed).
    pub(crate) fn force_open(&self, now: Moment) -> Option<Transition> {
        self.force(CircuitState::ForcedOpen, Moment::NEVER, now)
    }

    /// Admits every call, whatever its result, until [`reset`](Self::reset) or [`force_open`](Self::force_open).
    pub(crate) fn force_closed(&self, now: Moment) -> Option<Transition> {
        self.force(CircuitState::ForcedClosed, Moment::EPOCH, now)
    }

    /// Closes the circuit and clears its forced state, its counters and its openings. The results of running calls are
    /// ignored.
    ///
    /// A closed circuit is cleared too, but that is not a transition.
    pub(crate) fn reset(&self, now: Moment) -> Option<Transition> {
        let mut counters = self.lock();
        counters.reset_openings();
        let transition = self.close(&mut counters, now);
        (transition.from != CircuitState::Closed).then_some(transition)
    }

    fn force(&self, state: CircuitState, eligible_at: Moment, now: Moment) -> Option<Transition> {
        let _counters = self.lock();
        (self.word().state() != state).then(|| self.publish(state, eligible_at, now))
    }

    pub(super) fn open(&self, counters: &mut Counters, now: Moment, random: impl FnOnce() -> u64) -> Transition {
        if self.word().state() == CircuitState::Closed {
            counters.decay_openings(now, self.policy.backoff_reset_after);
        }
        let open_time = self.policy.open_time(counters.count_opening(), random);
        self.publish(CircuitState::Open, now.after(open_time), now)
    }

    pub(super) fn close(&self, counters: &mut Counters, now: Moment) -> Transition {
        counters.begin_closed(now);
        self.streak.store(0, Ordering::Relaxed);
        self.body_streak.store(0, Ordering::Relaxed);
        self.publish(CircuitState::Closed, Moment::EPOCH, now)
    }

    /// Begins the next generation. The word is stored last, so that a reader of it sees the rest.
    pub(super) fn publish(&self, to: CircuitState, eligible_at: Moment, now: Moment) -> Transition {
        let before = self.word();
        let next = before.next(to);
        self.publish_eligible(next, eligible_at);
        self.word.store(next.0, Ordering::Release);
        Transition { from: before.state(), to, generation: next.generation(), at: now }
    }

    /// Locks the counters, poisoned or not: the only foreign code under the lock is `random`. If that panics, the
    /// failure is counted but its transition is missing, so the next failure opens the circuit. The permit of a probe
    /// stays taken until it expires.
    pub(in super::super) fn lock(&self) -> MutexGuard<'_, Counters> {
        self.counters.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the counters if the word is still `word`. While the lock is held, it stays so.
    pub(super) fn lock_in(&self, word: Word) -> Option<MutexGuard<'_, Counters>> {
        let counters = self.lock();
        (self.word() == word).then_some(counters)
    }
}
