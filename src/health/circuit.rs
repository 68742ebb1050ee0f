//! The circuit: admits calls, records their results, and moves between its states.

mod outcomes;
#[cfg(feature = "file-state")]
mod saved;
mod transitions;

use std::sync::Arc;

#[cfg(feature = "file-state")]
pub(crate) use self::saved::SavedCircuit;
use super::{
    admission::{Admission, CallResult, Ticket},
    counters::Counters,
    policy::CircuitPolicy,
    state::{CircuitState, Transition, Word},
    sync::{AtomicU64, Mutex, Ordering},
};
use crate::time::Moment;

/// The circuit of one backend, shared by every call to it.
///
/// - A closed circuit admits a call with one load. Recording its result takes one or two more, unless there is
///   something to count: a failure, a success that ends a streak of failures, or any call under a rate rule.
/// - Counting and every transition happen under a lock, which is held for a few dozen instructions and never across a
///   wait. No transition can happen while it is held.
/// - What is read without the lock is published in two steps: first `eligible_at`, into the slot of the next generation
///   (two slots, used in turn), then the word. A reader that finds the same word before and after has a consistent
///   pair.
#[derive(Debug)]
pub(crate) struct Circuit {
    word: AtomicU64,
    /// The moment from which on `admit` may succeed, for even and odd generations. Not used while the circuit serves.
    eligible_at: [AtomicU64; 2],
    /// Failures since the last success, under the rule `consecutive`. Written under the lock.
    streak: AtomicU64,
    /// Bodies that failed after a good head since the last one that ended well, under the same rule. Counted apart,
    /// since each good head resets `streak`. Written under the lock.
    body_streak: AtomicU64,
    /// Whether a rate rule is set, so that successes count too.
    counts_every_call: bool,
    /// Whether the rule on slow calls is set.
    times_calls: bool,
    policy: Arc<CircuitPolicy>,
    counters: CacheAligned<Mutex<Counters>>,
}

/// Keeps what is written often off the cache line that every call reads.
#[derive(Debug)]
#[repr(align(64))]
struct CacheAligned<T>(T);

impl Circuit {
    /// Creates a closed circuit.
    pub(crate) fn new(policy: impl Into<Arc<CircuitPolicy>>) -> Self {
        let policy = policy.into();
        Self {
            word: AtomicU64::new(Word::FIRST.0),
            eligible_at: [AtomicU64::new(0), AtomicU64::new(0)],
            streak: AtomicU64::new(0),
            body_streak: AtomicU64::new(0),
            times_calls: policy.slow_calls.is_some(),
            counts_every_call: policy.failure_rate.is_some() || policy.slow_calls.is_some(),
            counters: CacheAligned(Mutex::new(Counters::new(&policy))),
            policy,
        }
    }

    /// Admits a call with one load, if the circuit serves and does not time its calls.
    ///
    /// The fast path of [`admit`](Self::admit).
    #[inline(always)]
    pub(crate) fn pass(&self) -> Option<Ticket> {
        let word = self.word();
        let ticket = Ticket { word, permit: None, started: Moment::EPOCH };
        (word.state().serves() && !self.times_calls).then_some(ticket)
    }

    /// Returns whether a success of this call would change nothing, so that it need not be recorded.
    #[inline(always)]
    pub(crate) fn expects_success(&self, ticket: &Ticket) -> bool {
        // A streak that another thread begins concurrently counts as begun after this success.
        self.word() == ticket.word
            && ticket.word.state().serves()
            && !self.counts_every_call
            && self.streak.load(Ordering::Relaxed) == 0
    }

    /// Admits or rejects a call. Reads the clock only if the circuit does not serve, or times its calls.
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
        // First without the lock, since an outage rejects many calls.
        let (word, eligible_at) = self.read();
        if !now.reached(eligible_at) {
            return reject(word, eligible_at, now);
        }
        let mut counters = self.lock();
        let (word, eligible_at) = self.read();
        let state = word.state();
        if state.serves() {
            return self.serve(word, || now);
        }
        if !now.reached(eligible_at) {
            return reject(word, eligible_at, now);
        }
        if state == CircuitState::Open {
            counters.begin_half_open();
        }
        let expires_at = now.after(self.policy.probe_timeout);
        let Some(permit) = counters.acquire_permit(now, expires_at) else {
            return reject(word, counters.next_permit_at(), now);
        };
        let transition = if state == CircuitState::Open {
            Some(self.publish(CircuitState::HalfOpen, counters.next_permit_at(), now))
        } else {
            self.publish_eligible(word, counters.next_permit_at());
            None
        };
        let ticket = Ticket { word: self.word(), permit: Some(permit), started: now };
        Admission::Admitted(ticket, transition)
    }

    /// Returns whether a ticket that was not used yet is still valid: no transition has happened since, and the permit
    /// of a probe has not expired.
    #[inline]
    pub(crate) fn honours(&self, ticket: Ticket, now: impl FnOnce() -> Moment) -> bool {
        self.word() == ticket.word
            && ticket.permit.is_none_or(|permit| {
                let now = now();
                self.lock_in(ticket.word).is_some_and(|counters| counters.holds_permit(permit, now))
            })
    }

    /// Records the result of an admitted call, unless a transition has happened since its admission.
    ///
    /// `now` is read only if there is something to count, `random` (any 64 bits) only for the jitter of an open time.
    /// Neither may touch this circuit.
    #[inline]
    pub(crate) fn record(
        &self,
        ticket: Ticket,
        result: CallResult,
        now: impl FnOnce() -> Moment,
        random: impl FnOnce() -> u64,
    ) -> Option<Transition> {
        if self.word() != ticket.word {
            return None;
        }
        match (ticket.word.state(), result) {
            (CircuitState::Closed | CircuitState::HalfOpen, CallResult::GivenUp) => {
                self.record_cancelled(ticket, now, random)
            }
            (CircuitState::Closed, CallResult::Neutral) => None,
            (CircuitState::Closed, CallResult::BodyFailed) => self.amend(ticket, now(), random),
            (CircuitState::Closed, CallResult::BodyEnded) => self.end_body_streak(ticket),
            // The head of the probe was a success. If more probes are needed, the failed body still re-opens the
            // circuit.
            (CircuitState::HalfOpen, CallResult::BodyFailed) => {
                self.record_probe(ticket, CallResult::Failure, now(), random)
            }
            (_, CallResult::BodyEnded) => None,
            (CircuitState::Closed, CallResult::Success) if self.expects_success(&ticket) => None,
            (CircuitState::Closed, _) => self.count(ticket, result, now(), random),
            (CircuitState::HalfOpen, CallResult::Neutral) => self.release_probe(ticket),
            (CircuitState::HalfOpen, _) => self.record_probe(ticket, result, now(), random),
            _ => None,
        }
    }

    /// Returns whether calls are timed. If so, [`admit`](Self::admit) reads the clock and [`Ticket::started_at`] has an
    /// effect.
    #[inline]
    pub(crate) fn needs_clock(&self) -> bool {
        self.times_calls
    }

    /// Returns whether every call is admitted.
    #[inline(always)]
    pub(crate) fn serves(&self) -> bool {
        self.word().state().serves()
    }

    /// The state in which a call would find the circuit. An open circuit whose open time is over shows half-open,
    /// before any call has moved it there.
    pub(crate) fn state(&self, now: Moment) -> CircuitState {
        let (word, eligible_at) = self.read();
        match word.state() {
            CircuitState::Open if now.reached(eligible_at) => CircuitState::HalfOpen,
            state => state,
        }
    }

    /// The moment from which on a call may be admitted: [`Moment::EPOCH`] if one is admitted now, [`Moment::NEVER`]
    /// while forced open.
    ///
    /// While half-open with all permits taken, the moment when the first of them expires. It may be released earlier.
    #[inline]
    pub(crate) fn eligible_at(&self) -> Moment {
        self.read().1
    }

    /// Returns whether a call would be admitted, without acquiring a permit. A closed circuit does not read the clock.
    #[inline]
    pub(crate) fn would_admit(&self, now: impl FnOnce() -> Moment) -> bool {
        let eligible_at = self.eligible_at();
        eligible_at == Moment::EPOCH || now().reached(eligible_at)
    }

    #[inline(always)]
    fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// The word, and the `eligible_at` of the same generation.
    #[inline]
    fn read(&self) -> (Word, Moment) {
        let mut word = self.word();
        loop {
            if word.state().serves() {
                return (word, Moment::EPOCH);
            }
            let eligible_at = self.eligible_slot(word).load(Ordering::Acquire);
            // The slot is reused two generations later, after the next word was stored. If `eligible_at` is from there,
            // this load sees that the word has changed.
            let again = self.word();
            if again == word {
                return (word, Moment::from_nanos(eligible_at));
            }
            word = again;
        }
    }

    fn eligible_slot(&self, word: Word) -> &AtomicU64 {
        &self.eligible_at[(word.generation() % 2) as usize]
    }

    /// Publishes `eligible_at`. Under the lock, like every write.
    fn publish_eligible(&self, word: Word, eligible_at: Moment) {
        self.eligible_slot(word).store(eligible_at.as_nanos(), Ordering::Release);
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
    /// The number of transitions and resets so far.
    pub(super) fn generation(&self) -> u64 {
        self.word().generation()
    }
}
