//! What comes of a call: counted while the circuit is closed, weighed while it is half-open.

use super::{
    super::{
        admission::{Ticket, Verdict},
        evidence::{Evidence, Sample},
        state::{State, Transition},
        sync::{MutexGuard, Ordering},
    },
    Circuit,
};
use crate::time::Moment;

impl Circuit {
    #[inline(never)]
    pub(super) fn count(
        &self,
        ticket: Ticket,
        verdict: Verdict,
        now: Moment,
        random: impl FnOnce() -> u64,
    ) -> Option<Transition> {
        let sample = self.sample(ticket, verdict, now);
        let mut evidence = self.lock_in(ticket.word)?;
        let trips = evidence.add(sample, now) | self.add_to_streak(sample.failed);
        trips.then(|| self.open(&mut evidence, now, random))
    }

    /// Under the lock, as everything that writes.
    #[inline]
    pub(super) fn add_to_streak(&self, failed: bool) -> bool {
        self.policy.consecutive.is_some_and(|threshold| {
            let streak = if failed { self.streak.load(Ordering::Relaxed) + 1 } else { 0 };
            self.streak.store(streak, Ordering::Relaxed);
            streak >= u64::from(threshold)
        })
    }

    /// Counts a call whose body failed behind its head as a failure, in place of the success that it was counted as.
    #[cold]
    pub(super) fn amend(&self, ticket: Ticket, now: Moment, random: impl FnOnce() -> u64) -> Option<Transition> {
        let mut evidence = self.lock_in(ticket.word)?;
        let body_streak = self.policy.consecutive.is_some_and(|threshold| {
            let streak = self.body_streak.load(Ordering::Relaxed) + 1;
            self.body_streak.store(streak, Ordering::Relaxed);
            streak >= u64::from(threshold)
        });
        let trips = evidence.amend(now) | body_streak;
        trips.then(|| self.open(&mut evidence, now, random))
    }

    /// A body that ended well ends the streak of those that did not.
    #[inline]
    pub(super) fn end_body_streak(&self, ticket: Ticket) -> Option<Transition> {
        if self.body_streak.load(Ordering::Relaxed) > 0 {
            let _evidence = self.lock_in(ticket.word)?;
            self.body_streak.store(0, Ordering::Relaxed);
        }
        None
    }

    /// A cancelled call is neutral unless it was already slow; then it counts as slow, not as failed.
    #[cold]
    pub(super) fn give_up(
        &self,
        ticket: Ticket,
        now: impl FnOnce() -> Moment,
        random: impl FnOnce() -> u64,
    ) -> Option<Transition> {
        let is_probe = ticket.word.state() == State::HalfOpen;
        let Some(now) = self.times_calls.then(now).filter(|now| self.is_slow(ticket, *now)) else {
            return is_probe.then(|| self.cancel_probe(ticket))?;
        };
        let mut evidence = self.take_back(ticket)?;
        let trips = is_probe || evidence.add_slow(true, now);
        trips.then(|| self.open(&mut evidence, now, random))
    }

    #[cold]
    pub(super) fn weigh_probe(
        &self,
        ticket: Ticket,
        verdict: Verdict,
        now: Moment,
        random: impl FnOnce() -> u64,
    ) -> Option<Transition> {
        let sample = self.sample(ticket, verdict, now);
        let mut evidence = self.take_back(ticket)?;
        if sample.failed || sample.slow {
            Some(self.open(&mut evidence, now, random))
        } else if evidence.count_good_probe() >= self.policy.successes_to_close {
            Some(self.close(&mut evidence, now))
        } else {
            self.publish_eligible(ticket.word, evidence.next_free());
            None
        }
    }

    #[cold]
    pub(super) fn cancel_probe(&self, ticket: Ticket) -> Option<Transition> {
        let evidence = self.take_back(ticket)?;
        self.publish_eligible(ticket.word, evidence.next_free());
        None
    }

    /// Takes the permit back, which is yet to be published, if the ticket's generation still runs.
    fn take_back(&self, ticket: Ticket) -> Option<MutexGuard<'_, Evidence>> {
        let mut evidence = self.lock_in(ticket.word)?;
        if let Some(permit) = ticket.permit {
            evidence.give_back(permit);
        }
        Some(evidence)
    }

    fn sample(&self, ticket: Ticket, verdict: Verdict, now: Moment) -> Sample {
        Sample { failed: verdict == Verdict::Failure, slow: self.is_slow(ticket, now) }
    }

    #[inline]
    fn is_slow(&self, ticket: Ticket, now: Moment) -> bool {
        self.policy.slow_calls.is_some_and(|slow| now.since(ticket.started) > slow.slower_than)
    }
}
