//! Results of calls: counted while the circuit is closed, decisive while it is half-open.

use super::{
    super::{
        admission::{CallResult, Ticket},
        counters::{Counters, Sample},
        state::{CircuitState, Transition},
        sync::{MutexGuard, Ordering},
    },
    Circuit,
};
use crate::time::Moment;

impl Circuit {
    /// Counts a call while closed, and opens the circuit if a rule is met.
    #[inline(never)]
    pub(super) fn count(
        &self,
        ticket: Ticket,
        result: CallResult,
        now: Moment,
        random: impl FnOnce() -> u64,
    ) -> Option<Transition> {
        let sample = self.sample(ticket, result, now);
        let mut counters = self.lock_in(ticket.word)?;
        let is_met = counters.add(sample, now) | self.add_to_streak(sample.failed);
        is_met.then(|| self.open(&mut counters, now, random))
    }

    /// Continues or ends the streak of failures. Returns whether the rule on it is met. Under the lock, like every
    /// write.
    #[inline]
    fn add_to_streak(&self, failed: bool) -> bool {
        self.policy.consecutive.is_some_and(|threshold| {
            let streak = if failed { self.streak.load(Ordering::Relaxed) + 1 } else { 0 };
            self.streak.store(streak, Ordering::Relaxed);
            streak >= u64::from(threshold)
        })
    }

    /// Counts a call whose body failed as a failure, in place of the success that its head was counted as.
    #[cold]
    pub(super) fn amend(&self, ticket: Ticket, now: Moment, random: impl FnOnce() -> u64) -> Option<Transition> {
        let mut counters = self.lock_in(ticket.word)?;
        let streak_is_met = self.policy.consecutive.is_some_and(|threshold| {
            let streak = self.body_streak.load(Ordering::Relaxed) + 1;
            self.body_streak.store(streak, Ordering::Relaxed);
            streak >= u64::from(threshold)
        });
        let is_met = counters.amend(now) | streak_is_met;
        is_met.then(|| self.open(&mut counters, now, random))
    }

    /// Ends the streak of failed bodies, after a body that ended well.
    #[inline]
    pub(super) fn end_body_streak(&self, ticket: Ticket) -> Option<Transition> {
        if self.body_streak.load(Ordering::Relaxed) > 0 {
            let _counters = self.lock_in(ticket.word)?;
            self.body_streak.store(0, Ordering::Relaxed);
        }
        None
    }

    /// Records a cancelled call. It is neutral unless it was already slow; then it counts as slow, not as failed.
    #[cold]
    pub(super) fn record_cancelled(
        &self,
        ticket: Ticket,
        now: impl FnOnce() -> Moment,
        random: impl FnOnce() -> u64,
    ) -> Option<Transition> {
        let is_probe = ticket.word.state() == CircuitState::HalfOpen;
        let Some(now) = self.times_calls.then(now).filter(|now| self.is_slow(ticket, *now)) else {
            return is_probe.then(|| self.release_probe(ticket))?;
        };
        let mut counters = self.lock_and_release(ticket)?;
        let is_met = is_probe || counters.add_slow(true, now);
        is_met.then(|| self.open(&mut counters, now, random))
    }

    /// Records the result of a probe: a failed or slow one opens the circuit, enough successful ones close it.
    #[cold]
    pub(super) fn record_probe(
        &self,
        ticket: Ticket,
        result: CallResult,
        now: Moment,
        random: impl FnOnce() -> u64,
    ) -> Option<Transition> {
        let sample = self.sample(ticket, result, now);
        let mut counters = self.lock_and_release(ticket)?;
        if sample.failed || sample.slow {
            Some(self.open(&mut counters, now, random))
        } else if counters.count_probe_success() >= self.policy.successes_to_close {
            Some(self.close(&mut counters, now))
        } else {
            self.publish_eligible(ticket.word, counters.next_permit_at());
            None
        }
    }

    /// Releases the permit of a probe without a result.
    #[cold]
    pub(super) fn release_probe(&self, ticket: Ticket) -> Option<Transition> {
        let counters = self.lock_and_release(ticket)?;
        self.publish_eligible(ticket.word, counters.next_permit_at());
        None
    }

    /// Locks the counters and releases the ticket's permit, if its generation is still current. The caller publishes
    /// the new `eligible_at`.
    fn lock_and_release(&self, ticket: Ticket) -> Option<MutexGuard<'_, Counters>> {
        let mut counters = self.lock_in(ticket.word)?;
        if let Some(permit) = ticket.permit {
            counters.release_permit(permit);
        }
        Some(counters)
    }

    fn sample(&self, ticket: Ticket, result: CallResult, now: Moment) -> Sample {
        Sample { failed: result == CallResult::Failure, slow: self.is_slow(ticket, now) }
    }

    #[inline]
    fn is_slow(&self, ticket: Ticket, now: Moment) -> bool {
        self.policy.slow_calls.is_some_and(|slow| now.since(ticket.started) > slow.slower_than)
    }
}
