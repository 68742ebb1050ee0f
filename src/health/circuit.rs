//! The circuit itself: admits calls, learns what came of them, moves between its states.

mod outcomes;
mod transitions;

use std::sync::Arc;

use super::{
    admission::{Admission, Ticket, Verdict},
    evidence::Evidence,
    policy::Policy,
    state::{State, Transition, Word},
    sync::{AtomicU64, Mutex, Ordering},
};
use crate::time::Moment;

/// Decides, for one backend, who is served. Shared by everybody who talks to it.
///
/// - A closed circuit admits a call with one load. What came of it costs a load or two more, unless there is something to
///   count: a failure, a success that ends a streak of failures, or any call under a rate rule.
/// - Counting and every transition happen under a lock, which is held for a few dozen instructions and never while
///   somebody waits. That keeps the rules evident: whoever holds it sees the circuit stand still.
/// - What is read without the lock is published in two steps: the moment of eligibility into the place of the coming
///   generation (they take turns), then the word. A reader that finds the same word before and after has a true pair.
#[derive(Debug)]
pub(crate) struct Circuit {
    word: AtomicU64,
    /// Per generation, odd and even: from when on `admit` may succeed. Not used while the circuit serves.
    eligible_at: [AtomicU64; 2],
    /// Failures since the last success, under the rule `consecutive`. Written under the lock.
    streak: AtomicU64,
    /// Bodies that failed behind a good head since the last one that ended well, under the same rule: good heads end a
    /// streak, and would hide them for ever. Written under the lock.
    body_streak: AtomicU64,
    /// A rate rule is set: successes count too.
    counts_every_call: bool,
    /// The rule on slow calls is set.
    times_calls: bool,
    policy: Arc<Policy>,
    evidence: Apart<Mutex<Evidence>>,
}

/// Keeps what is written often off the cache lines that every call reads.
#[derive(Debug)]
#[repr(align(64))]
struct Apart<T>(T);

impl Circuit {
    /// A closed circuit.
    pub(crate) fn new(policy: impl Into<Arc<Policy>>) -> Self {
        let policy = policy.into();
        Self {
            word: AtomicU64::new(Word::FIRST.0),
            eligible_at: [AtomicU64::new(0), AtomicU64::new(0)],
            streak: AtomicU64::new(0),
            body_streak: AtomicU64::new(0),
            times_calls: policy.slow_calls.is_some(),
            counts_every_call: policy.failure_rate.is_some() || policy.slow_calls.is_some(),
            evidence: Apart(Mutex::new(Evidence::new(&policy))),
            policy,
        }
    }

    /// Serves a call at once, with one load, if there is nothing to ask and nothing to time.
    #[inline(always)]
    pub(crate) fn pass(&self) -> Option<Ticket> {
        let word = self.word();
        let ticket = Ticket { word, permit: None, started: Moment::EPOCH };
        (word.state().serves() && !self.times_calls).then_some(ticket)
    }

    /// Whether a success of this call would change nothing.
    #[inline(always)]
    pub(crate) fn expects_success(&self, ticket: &Ticket) -> bool {
        // A streak begun by another thread at this very moment counts as begun after this success.
        self.word() == ticket.word
            && ticket.word.state().serves()
            && !self.counts_every_call
            && self.streak.load(Ordering::Relaxed) == 0
    }

    /// Asks to serve a call. The clock is read only when the circuit does not simply serve, or times its calls.
    #[inline]
    pub(crate) fn admit(&self, now: impl FnOnce() -> Moment) -> Admission {
        let word = self.word();
        if word.state().serves() { self.serve(word, now) } else { self.admit_probe(now()) }
    }

    #[inline]
    fn serve(&self, word: Word, now: impl FnOnce() -> Moment) -> Admission {
        let started = if self.needs_clock() { now() } else { Moment::EPOCH };
        let ticket = Ticket { word, permit: None, started };
        Admission::Admitted(ticket, None)
    }

    #[cold]
    fn admit_probe(&self, now: Moment) -> Admission {
        // Without the lock first: an outage rejects many.
        let (word, eligible_at) = self.read();
        if !now.reached(eligible_at) {
            return reject(word, eligible_at, now);
        }
        let mut evidence = self.lock();
        let (word, eligible_at) = self.read();
        let state = word.state();
        if state.serves() {
            return self.serve(word, || now);
        }
        if !now.reached(eligible_at) {
            return reject(word, eligible_at, now);
        }
        if state == State::Open {
            evidence.begin_half_open();
        }
        let lapses = now.after(self.policy.probe_timeout);
        let Some(permit) = evidence.take_permit(now, lapses) else {
            return reject(word, evidence.next_free(), now);
        };
        let transition = if state == State::Open {
            Some(self.publish(State::HalfOpen, evidence.next_free(), now))
        } else {
            self.publish_eligible(word, evidence.next_free());
            None
        };
        let ticket = Ticket { word: self.word(), permit: Some(permit), started: now };
        Admission::Admitted(ticket, transition)
    }

    /// Whether an admission that was not used yet is still good: the circuit has not moved since, and a probe's permit
    /// has not timed out.
    #[inline]
    pub(crate) fn honours(&self, ticket: Ticket, now: impl FnOnce() -> Moment) -> bool {
        self.word() == ticket.word
            && ticket.permit.is_none_or(|permit| {
                let now = now();
                self.lock_in(ticket.word).is_some_and(|evidence| evidence.holds_permit(permit, now))
            })
    }

    /// Tells what came of an admitted call. One whose generation is over changes nothing.
    ///
    /// The clock is read only when there is something to count, `random` (any 64 bits) only to shorten an opening by
    /// chance. Neither may touch this circuit.
    #[inline]
    pub(crate) fn record(
        &self,
        ticket: Ticket,
        verdict: Verdict,
        now: impl FnOnce() -> Moment,
        random: impl FnOnce() -> u64,
    ) -> Option<Transition> {
        if self.word() != ticket.word {
            return None;
        }
        match (ticket.word.state(), verdict) {
            (State::Closed | State::HalfOpen, Verdict::GivenUp) => self.give_up(ticket, now, random),
            (State::Closed, Verdict::Neutral) => None,
            (State::Closed, Verdict::BodyFailed) => self.amend(ticket, now(), random),
            (State::Closed, Verdict::BodyEnded) => self.end_body_streak(ticket),
            // A good probe is one when its head is good; of several that are needed, this one was none.
            (State::HalfOpen, Verdict::BodyFailed) => self.weigh_probe(ticket, Verdict::Failure, now(), random),
            (_, Verdict::BodyEnded) => None,
            (State::Closed, Verdict::Success) if self.expects_success(&ticket) => None,
            (State::Closed, _) => self.count(ticket, verdict, now(), random),
            (State::HalfOpen, Verdict::Neutral) => self.cancel_probe(ticket),
            (State::HalfOpen, _) => self.weigh_probe(ticket, verdict, now(), random),
            _ => None,
        }
    }

    /// Whether calls are timed: then [`admit`](Self::admit) reads the clock, and [`Ticket::started_at`] has a meaning.
    #[inline]
    pub(crate) fn needs_clock(&self) -> bool {
        self.times_calls
    }

    /// Whether every call is served.
    #[inline(always)]
    pub(crate) fn serves(&self) -> bool {
        self.word().state().serves()
    }

    /// The state that a call would meet: an open circuit whose time is up shows half-open, though nothing has run.
    pub(crate) fn state(&self, now: Moment) -> State {
        let (word, eligible_at) = self.read();
        match word.state() {
            State::Open if now.reached(eligible_at) => State::HalfOpen,
            state => state,
        }
    }

    /// From when on a call may be admitted: [`Moment::EPOCH`] at once, [`Moment::NEVER`] not before somebody says so.
    ///
    /// While half-open with all permits taken it is the moment when one times out; one may come back before.
    #[inline]
    pub(crate) fn eligible_at(&self) -> Moment {
        self.read().1
    }

    /// Whether a call would be admitted, taking no permit. A closed circuit does not read the clock.
    #[inline]
    pub(crate) fn would_admit(&self, now: impl FnOnce() -> Moment) -> bool {
        let eligible_at = self.eligible_at();
        eligible_at == Moment::EPOCH || now().reached(eligible_at)
    }

    #[inline(always)]
    fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// State and eligibility of one and the same generation.
    #[inline]
    fn read(&self) -> (Word, Moment) {
        let mut word = self.word();
        loop {
            if word.state().serves() {
                return (word, Moment::EPOCH);
            }
            let eligible_at = self.eligible_place(word).load(Ordering::Acquire);
            // This place is used again two generations on, after the next word was stored: then this load sees that.
            let again = self.word();
            if again == word {
                return (word, Moment::from_nanos(eligible_at));
            }
            word = again;
        }
    }

    fn eligible_place(&self, word: Word) -> &AtomicU64 {
        &self.eligible_at[(word.generation() % 2) as usize]
    }

    /// Under the lock, as everything that writes.
    fn publish_eligible(&self, word: Word, eligible_at: Moment) {
        self.eligible_place(word).store(eligible_at.as_nanos(), Ordering::Release);
    }
}

fn reject(word: Word, eligible_at: Moment, now: Moment) -> Admission {
    Admission::Rejected {
        state: word.state(),
        retry_after: (eligible_at != Moment::NEVER).then(|| eligible_at.since(now)),
    }
}

#[cfg(test)]
impl Circuit {
    /// Counts the transitions (and resets) so far.
    pub(super) fn generation(&self) -> u64 {
        self.word().generation()
    }
}
