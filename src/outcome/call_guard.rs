//! The guard of a call as it rides in the response.

use std::{fmt, sync::Arc};

use super::{
    Outcome,
    guard::{Guard, Record, Stage},
};
use crate::health::Ticket;

/// Rides in a response to its end: while it is held, the call is in flight.
///
/// A [`Classify`](super::Classify) gets it in [`watch`](super::Classify::watch), and keeps it in what the caller
/// receives. Dropped before anything was recorded, it records that the call was cancelled.
#[must_use = "dropping it ends the call"]
pub struct CallGuard {
    guard: Guard<dyn Record>,
    verdict: Option<Outcome>,
}

impl CallGuard {
    #[inline(always)]
    pub(crate) fn new<R: Record + 'static>(mut guard: Guard<R>) -> Self {
        let to = guard.to.take().map(|to| to as Arc<dyn Record>);
        Self { guard: Guard { to, ticket: guard.ticket, stage: guard.stage }, verdict: None }
    }

    /// The guard of no call.
    #[inline(always)]
    pub(crate) fn empty() -> Self {
        Self { guard: Guard { to: None, ticket: Ticket::VOID, stage: Stage::Recorded }, verdict: None }
    }

    /// The same, of a call of which nothing good is to be recorded before its commit: not the head, or not the end, where
    /// that decides.
    pub(crate) fn uncommitted<R: Record + 'static>(guard: Guard<R>, is_at_end: bool) -> Self {
        let mut this = Self::new(guard);
        this.guard.stage = if is_at_end { Stage::Awaited } else { Stage::Good };
        this
    }

    fn is_uncommitted(&self) -> bool {
        matches!(self.guard.stage, Stage::Good | Stage::Uncommitted | Stage::Awaited)
    }

    /// The guard is held by the response: from now on a drop is a cancellation.
    pub(crate) fn ride(&mut self) {
        if self.guard.stage == Stage::Good {
            self.guard.stage = Stage::Uncommitted;
        }
    }

    /// The response is the answer: records the success of a good head, and of a body that ended well meanwhile.
    pub(crate) fn commit(&mut self) {
        match self.guard.stage {
            Stage::Good | Stage::Uncommitted => self.guard.outcome(&Outcome::Success),
            Stage::Awaited => self.guard.stage = Stage::Running,
            _ => {}
        }
        match self.verdict {
            Some(Outcome::Success) => {
                self.guard.outcome(&Outcome::Success);
                self.end();
            }
            _ => self.guard.hand_on(),
        }
    }

    /// The response is not the answer: records that, however well its body ended.
    pub(crate) fn refuse(&mut self, failure: &Outcome) {
        self.guard.outcome(failure);
        if self.verdict.is_some() {
            self.end();
        }
    }

    /// Runs a part of the response, such as a poll of its body: a panic in it is a failure of the call, once.
    #[inline]
    pub fn during<T>(&mut self, run: impl FnOnce() -> T) -> T {
        self.guard.during(run)
    }

    /// Records what came of the call. The first outcome counts; after a success a failure counts too, in its place.
    pub fn outcome(&mut self, outcome: &Outcome) {
        self.verdict = Some(*outcome);
        if !(self.is_uncommitted() && outcome.is_success()) {
            self.guard.outcome(outcome);
        }
    }

    /// What was recorded last, by what watches the body.
    pub fn verdict(&self) -> Option<Outcome> {
        self.verdict
    }

    /// Ends the call: nothing of it is in flight any more. What was recorded can still be asked for.
    pub fn end(&mut self) {
        if self.is_uncommitted() {
            // Its commit ends it.
            return;
        }
        let to = self.guard.to.take();
        drop(Guard { to, ticket: self.guard.ticket, stage: self.guard.stage });
    }
}

impl fmt::Debug for CallGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallGuard").field("stage", &self.guard.stage).finish_non_exhaustive()
    }
}

/// A call that goes on after its response, such as an upgraded connection: it is in flight while a clone of this is
/// held.
///
/// It is in the extensions of a response that switches protocols. Code that drives the upgraded connection takes it
/// from there, and keeps it until the connection is closed.
#[derive(Clone, Debug)]
pub struct InFlight(#[expect(dead_code, reason = "held, never read")] Arc<CallGuard>);

impl InFlight {
    /// Keeps the call in flight.
    pub fn new(guard: CallGuard) -> Self {
        Self(Arc::new(guard))
    }
}

/// A record that remembers, for the tests of this room.
#[cfg(test)]
pub(super) mod seen {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use super::{super::Event, *};

    #[derive(Default)]
    pub(crate) struct Seen {
        outcomes: Mutex<Vec<Outcome>>,
        in_flight: AtomicUsize,
    }

    impl Seen {
        pub(crate) fn guard(self: &Arc<Self>) -> CallGuard {
            CallGuard::new(Guard::begin(Arc::clone(self), Ticket::VOID))
        }

        /// What was recorded; a cancellation as neutral.
        pub(crate) fn outcomes(&self) -> Vec<Outcome> {
            self.outcomes.lock().unwrap().clone()
        }

        /// Whether no call is in flight.
        pub(crate) fn is_idle(&self) -> bool {
            self.in_flight.load(Ordering::SeqCst) == 0
        }
    }

    impl Record for Seen {
        fn begin(&self) {
            self.in_flight.fetch_add(1, Ordering::SeqCst);
        }

        fn end(&self) {
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
        }

        fn record(&self, _: &Ticket, event: Event<'_>) {
            let outcome = match event {
                Event::Outcome(outcome) | Event::BodyFailed(outcome) => *outcome,
                Event::Cancelled => Outcome::Neutral,
                Event::BodyEnded => return,
            };
            self.outcomes.lock().unwrap().push(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Event, FailureKind},
        seen::Seen,
        *,
    };

    fn recorded(outcomes: &[Outcome]) -> Vec<Outcome> {
        let seen = Arc::new(Seen::default());
        let mut guard = seen.guard();
        outcomes.iter().for_each(|outcome| guard.outcome(outcome));
        assert!(!seen.is_idle());
        drop(guard);
        assert!(seen.is_idle());
        seen.outcomes()
    }

    // C28, C37
    #[test]
    fn a_drop_before_any_outcome_is_a_cancellation() {
        assert_eq!(recorded(&[]), [Outcome::Neutral]);
    }

    // C34, C62
    #[test]
    fn the_first_outcome_counts_and_a_failure_of_the_body_amends_a_success_once() {
        let failure = Outcome::from(FailureKind::Body);
        assert_eq!(recorded(&[Outcome::Success]), [Outcome::Success]);
        assert_eq!(recorded(&[Outcome::Success, Outcome::Success, Outcome::Neutral]), [Outcome::Success]);
        assert_eq!(recorded(&[Outcome::Success, failure, failure]), [Outcome::Success, failure]);
        assert_eq!(recorded(&[failure, Outcome::Success, failure]), [failure]);
        assert_eq!(recorded(&[Outcome::Neutral, failure]), [Outcome::Neutral]);
    }

    // C32, C34
    #[test]
    fn a_good_head_counts_with_its_commit_and_not_before() {
        let held = |after: &dyn Fn(&mut CallGuard)| {
            let seen = Arc::new(Seen::default());
            let mut guard = CallGuard::uncommitted(Guard::begin(Arc::clone(&seen), Ticket::VOID), false);
            after(&mut guard);
            drop(guard);
            seen.outcomes()
        };
        assert_eq!(held(&|_| {}), [Outcome::Success], "a classifier that does not watch");
        assert_eq!(held(&CallGuard::ride), [Outcome::Neutral], "dropped before its commit");
        let commit = |guard: &mut CallGuard| {
            guard.ride();
            guard.commit();
        };
        assert_eq!(held(&commit), [Outcome::Success]);
        let refuse = |guard: &mut CallGuard| {
            guard.ride();
            guard.outcome(&FailureKind::Timeout.into());
            guard.commit();
        };
        assert_eq!(held(&refuse), [FailureKind::Timeout.into()], "one record, a failure");
    }

    // C32, C34
    #[test]
    fn a_body_that_ended_well_counts_with_its_commit_and_not_before() {
        for is_at_end in [false, true] {
            let ended = |after: &dyn Fn(&mut CallGuard)| {
                let seen = Arc::new(Seen::default());
                let mut guard = CallGuard::uncommitted(Guard::begin(Arc::clone(&seen), Ticket::VOID), is_at_end);
                guard.outcome(&Outcome::Success);
                guard.end();
                guard.ride();
                assert_eq!((seen.outcomes().len(), seen.is_idle()), (0, false));
                after(&mut guard);
                let is_over = seen.is_idle();
                drop(guard);
                assert!(seen.is_idle());
                (seen.outcomes(), is_over)
            };
            let failure = Outcome::from(FailureKind::Custom("refused"));
            assert_eq!(ended(&CallGuard::commit), (vec![Outcome::Success], true));
            assert_eq!(ended(&|guard| guard.refuse(&failure)), (vec![failure], true));
            assert_eq!(ended(&|_| {}), (vec![Outcome::Neutral], false), "a cancellation");
        }
    }

    // C28, C37
    #[test]
    fn a_drop_of_what_was_handed_on_is_neutral_and_no_cancellation() {
        struct Cancelled(std::sync::Mutex<Vec<bool>>);
        impl Record for Cancelled {
            fn begin(&self) {}
            fn end(&self) {}
            fn record(&self, _: &Ticket, event: Event<'_>) {
                self.0.lock().unwrap().push(event == Event::Cancelled);
            }
        }
        let seen = Arc::new(Cancelled(Default::default()));
        let guard = || CallGuard::new(Guard::begin(Arc::clone(&seen), Ticket::VOID));
        drop(guard());
        let mut handed_on = guard();
        handed_on.commit();
        drop(handed_on);
        assert_eq!(*seen.0.lock().unwrap(), [true, false]);
    }

    // C34, C37
    #[test]
    fn a_panic_of_the_body_is_a_failure_once() {
        let panicked = |before: &[Outcome]| {
            let seen = Arc::new(Seen::default());
            let mut guard = seen.guard();
            before.iter().for_each(|outcome| guard.outcome(outcome));
            let mut panic =
                || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| guard.during(|| panic!("boom"))));
            assert!(panic().is_err() && panic().is_err());
            drop(guard);
            assert!(seen.is_idle());
            seen.outcomes()
        };
        let panic = Outcome::from(FailureKind::Panic);
        assert_eq!(panicked(&[]), [panic]);
        assert_eq!(panicked(&[Outcome::Success]), [Outcome::Success, panic]);
        assert_eq!(panicked(&[FailureKind::Body.into()]), [FailureKind::Body.into()]);
    }

    // C37
    #[test]
    fn a_panic_is_a_failure() {
        let seen = Arc::new(Seen::default());
        let mut guard = Guard::begin(Arc::clone(&seen), Ticket::VOID);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || guard.during(|| panic!("boom"))));
        assert!(panicked.is_err());
        assert_eq!(seen.outcomes(), [FailureKind::Panic.into()]);
        assert!(seen.is_idle());
    }
}
