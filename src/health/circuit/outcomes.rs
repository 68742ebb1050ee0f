//! What comes of a call: counted while the circuit is closed, weighed while it is half-open.

use super::{
    super::{
        admission::{Ticket, Verdict},
        evidence::{Evidence, Sample},
        moment::Moment,
        state::Transition,
        sync::{MutexGuard, Ordering},
    },
    Circuit,
};

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
        let mut trips = evidence.add(sample, now);
        if let Some(threshold) = self.policy.consecutive {
            let streak = if sample.failed { self.streak.load(Ordering::Relaxed) + 1 } else { 0 };
            self.streak.store(streak, Ordering::Relaxed);
            trips |= streak >= u64::from(threshold);
        }
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
        let slow = self.policy.slow_calls;
        Sample {
            failed: verdict == Verdict::Failure,
            slow: slow.is_some_and(|slow| now.since(ticket.started) > slow.slower_than),
        }
    }
}
