//! The guard of a call, as a response holds it.

use std::{fmt, sync::Arc};

use super::{
    Outcome,
    body_timer::BodyTimer,
    guard::{Guard, Meter, Record, Stage},
    received::Received,
};
use crate::health::Ticket;
#[cfg(feature = "http")]
use crate::name::BackendName;

/// The guard of a call, held by its response: while it is held, the call is in flight.
///
/// A [`Classify`](super::Classify) gets it in [`watch`](super::Classify::watch) and keeps it in the response that it
/// returns, usually in the body. The end of the body is recorded with [`outcome`](Self::outcome) and
/// [`end`](Self::end).
///
/// On drop without an outcome, the call is recorded as cancelled or, if the caller already had the response, as
/// neutral.
#[must_use = "dropping it ends the call"]
pub struct CallGuard {
    guard: Guard<dyn Record>,
    /// What the classifier recorded last, or the failure before it, also if it waits for the commit.
    verdict: Option<Outcome>,
    received: Received,
    /// The limits on the body, until its watch takes them.
    timer: Option<Box<BodyTimer>>,
}

impl CallGuard {
    #[inline(always)]
    pub(crate) fn new<R: Record + 'static>(mut guard: Guard<R>) -> Self {
        let (to, upload) = (guard.to.take().map(|to| to as Arc<dyn Record>), guard.upload.take());
        let Guard { ticket, stage, meter, .. } = guard;
        Self {
            guard: Guard { to, ticket, stage, meter, upload },
            verdict: None,
            received: Received::default(),
            timer: None,
        }
    }

    /// Creates a guard of no call, which records nothing.
    #[inline(always)]
    pub(crate) fn empty() -> Self {
        let (stage, meter) = (Stage::Recorded, Meter::default());
        let guard = Guard { to: None, ticket: Ticket::VOID, stage, meter, upload: None };
        Self { guard, verdict: None, received: Received::default(), timer: None }
    }

    /// Creates the guard of a call whose success is not recorded before the commit: that of the head or, with
    /// `is_at_end`, that of the body.
    pub(crate) fn uncommitted<R: Record + 'static>(guard: Guard<R>, is_at_end: bool) -> Self {
        let mut this = Self::new(guard);
        this.guard.stage = if is_at_end { Stage::EndUncommitted } else { Stage::GoodHead };
        this
    }

    fn is_uncommitted(&self) -> bool {
        matches!(self.guard.stage, Stage::GoodHead | Stage::HeadUncommitted | Stage::EndUncommitted)
    }

    /// Notes that the response holds the guard, so that a drop before the commit is a cancellation.
    pub(crate) fn ride(&mut self) {
        if self.guard.stage == Stage::GoodHead {
            self.guard.stage = Stage::HeadUncommitted;
        }
    }

    /// Notes that the caller gets the response. Records the success of a good head, and that of a body that has ended
    /// well.
    pub(crate) fn commit(&mut self) {
        match self.guard.stage {
            Stage::GoodHead | Stage::HeadUncommitted => self.guard.outcome(&Outcome::Success),
            Stage::EndUncommitted => self.guard.stage = Stage::Running,
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

    /// Records that the response was not committed, even if its body ended well.
    pub(crate) fn refuse(&mut self, failure: &Outcome) {
        self.guard.outcome(failure);
        if self.verdict.is_some() {
            self.end();
        }
    }

    /// Runs a part of the response, such as a poll of its body. If it panics, the call is recorded as failed.
    #[inline]
    pub fn during<T>(&mut self, run: impl FnOnce() -> T) -> T {
        self.guard.read();
        self.guard.during(run)
    }

    /// Notes that the first byte of the response was received: for a classifier that
    /// [reports it](super::Classify::REPORTS_FIRST_BYTE). Only the first time counts.
    #[inline]
    pub fn first_byte(&mut self) {
        self.received.bytes = true;
        self.guard.first_byte();
    }

    /// Notes that content of the response was received, for a classifier that can tell it from the rest: see
    /// [`TimeLimits::first_content`](crate::TimeLimits::first_content).
    #[inline]
    pub fn content(&mut self) {
        self.received.content = true;
    }

    /// What was received of the body so far.
    #[cfg(feature = "http")]
    pub(crate) fn received(&self) -> Received {
        self.received
    }

    /// Changes what was received of the body.
    #[cfg(feature = "http")]
    pub(crate) fn received_mut(&mut self) -> &mut Received {
        &mut self.received
    }

    /// Sets the limits on the body, before it is watched.
    pub(crate) fn set_timer(&mut self, timer: Box<BodyTimer>) {
        self.timer = Some(timer);
    }

    /// Returns the limits on the body, to the watch that applies them.
    #[cfg(feature = "http")]
    pub(crate) fn take_timer(&mut self) -> Option<Box<BodyTimer>> {
        self.timer.take()
    }

    /// The backend of the call.
    #[cfg(feature = "http")]
    pub(crate) fn backend(&self) -> Option<&BackendName> {
        self.guard.to.as_ref()?.backend()
    }

    /// Records the outcome of the call.
    ///
    /// Only the first outcome counts. If that is a success, one later failure counts in its place.
    pub fn outcome(&mut self, outcome: &Outcome) {
        // A body may end well after it had an error.
        if !self.verdict.is_some_and(|verdict| verdict.is_failure()) {
            self.verdict = Some(*outcome);
        }
        if !(self.is_uncommitted() && outcome.is_success()) {
            self.guard.outcome(outcome);
        }
    }

    /// Returns the outcome that was passed to [`outcome`](Self::outcome) last, or the failure before it.
    pub fn verdict(&self) -> Option<Outcome> {
        self.verdict
    }

    /// Ends the call: it is no longer in flight, although the guard is held.
    ///
    /// A call whose response is not committed yet ends with its commit.
    pub fn end(&mut self) {
        if self.is_uncommitted() {
            // `commit` and `refuse` end it.
            return;
        }
        let (to, upload) = (self.guard.to.take(), self.guard.upload.take());
        let Guard { ticket, stage, meter, .. } = self.guard;
        drop(Guard { to, ticket, stage, meter, upload });
    }
}

impl fmt::Debug for CallGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallGuard").field("stage", &self.guard.stage).finish_non_exhaustive()
    }
}

/// A handle that keeps a call in flight after its response, such as an upgraded connection, until all its clones are
/// dropped.
///
/// A response with status 101 has one in its extensions. Code that drives the upgraded connection removes it from there
/// and holds it until the connection is closed.
#[derive(Clone, Debug)]
pub struct InFlight(#[expect(dead_code, reason = "held, never read")] Arc<CallGuard>);

impl InFlight {
    /// Keeps the call of this guard in flight.
    pub fn new(guard: CallGuard) -> Self {
        Self(Arc::new(guard))
    }
}

/// A [`Record`] for tests, which keeps the outcomes.
#[cfg(test)]
pub(super) mod recorder {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use super::{
        super::{Event, guard::Timing},
        *,
    };
    use crate::health::Sample;

    #[derive(Default)]
    pub(crate) struct Recorder {
        outcomes: Mutex<Vec<Outcome>>,
        samples: Mutex<Vec<Sample>>,
        in_flight: AtomicUsize,
    }

    impl Recorder {
        pub(crate) fn guard(self: &Arc<Self>) -> CallGuard {
            CallGuard::new(Guard::begin(Arc::clone(self), Ticket::VOID))
        }

        /// The recorded outcomes. A cancellation is neutral.
        pub(crate) fn outcomes(&self) -> Vec<Outcome> {
            self.outcomes.lock().unwrap().clone()
        }

        /// The samples of the time to the first byte.
        pub(crate) fn samples(&self) -> Vec<Sample> {
            self.samples.lock().unwrap().clone()
        }

        /// Whether no call is in flight.
        pub(crate) fn is_idle(&self) -> bool {
            self.in_flight.load(Ordering::SeqCst) == 0
        }
    }

    impl Record for Recorder {
        fn begin(&self, _: &mut Ticket) -> Meter {
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            Meter { is_counted: false, timing: Timing::Running }
        }

        fn sample(&self, _: &Ticket, sample: Sample) {
            self.samples.lock().unwrap().push(sample);
        }

        fn end(&self, _: Meter) {
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
        recorder::Recorder,
        *,
    };
    use crate::health::Sample;

    fn recorded(outcomes: &[Outcome]) -> Vec<Outcome> {
        let recorder = Arc::new(Recorder::default());
        let mut guard = recorder.guard();
        outcomes.iter().for_each(|outcome| guard.outcome(outcome));
        assert!(!recorder.is_idle());
        drop(guard);
        assert!(recorder.is_idle());
        recorder.outcomes()
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
    fn a_good_head_is_recorded_with_its_commit() {
        let held = |after: &dyn Fn(&mut CallGuard)| {
            let recorder = Arc::new(Recorder::default());
            let mut guard = CallGuard::uncommitted(Guard::begin(Arc::clone(&recorder), Ticket::VOID), false);
            after(&mut guard);
            drop(guard);
            recorder.outcomes()
        };
        assert_eq!(held(&|_| {}), [Outcome::Success], "a classifier that does not keep the guard");
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
        assert_eq!(held(&refuse), [FailureKind::Timeout.into()], "only the failure is recorded");
    }

    // C32, C34
    #[test]
    fn a_good_body_is_recorded_with_its_commit() {
        for is_at_end in [false, true] {
            let ended = |after: &dyn Fn(&mut CallGuard)| {
                let recorder = Arc::new(Recorder::default());
                let mut guard = CallGuard::uncommitted(Guard::begin(Arc::clone(&recorder), Ticket::VOID), is_at_end);
                guard.outcome(&Outcome::Success);
                guard.end();
                guard.ride();
                assert_eq!((recorder.outcomes().len(), recorder.is_idle()), (0, false));
                after(&mut guard);
                let has_ended = recorder.is_idle();
                drop(guard);
                assert!(recorder.is_idle());
                (recorder.outcomes(), has_ended)
            };
            let failure = Outcome::from(FailureKind::Custom("refused"));
            assert_eq!(ended(&CallGuard::commit), (vec![Outcome::Success], true));
            assert_eq!(ended(&|guard| guard.refuse(&failure)), (vec![failure], true));
            assert_eq!(ended(&|_| {}), (vec![Outcome::Neutral], false), "a cancellation");
        }
    }

    // C28, C37
    #[test]
    fn a_drop_after_the_caller_got_the_response_is_neutral_and_no_cancellation() {
        struct Cancelled(std::sync::Mutex<Vec<bool>>);
        impl Record for Cancelled {
            fn begin(&self, _: &mut Ticket) -> Meter {
                Meter::default()
            }
            fn end(&self, _: Meter) {}
            fn sample(&self, _: &Ticket, _: Sample) {}
            fn record(&self, _: &Ticket, event: Event<'_>) {
                self.0.lock().unwrap().push(event == Event::Cancelled);
            }
        }
        let recorder = Arc::new(Cancelled(Default::default()));
        let guard = || CallGuard::new(Guard::begin(Arc::clone(&recorder), Ticket::VOID));
        drop(guard());
        let mut committed = guard();
        committed.commit();
        drop(committed);
        assert_eq!(*recorder.0.lock().unwrap(), [true, false]);
    }

    // C34, C37
    #[test]
    fn a_panic_of_the_body_is_recorded_once() {
        let panicked = |before: &[Outcome]| {
            let recorder = Arc::new(Recorder::default());
            let mut guard = recorder.guard();
            before.iter().for_each(|outcome| guard.outcome(outcome));
            let mut panic =
                || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| guard.during(|| panic!("boom"))));
            assert!(panic().is_err() && panic().is_err());
            drop(guard);
            assert!(recorder.is_idle());
            recorder.outcomes()
        };
        let panic = Outcome::from(FailureKind::Panic);
        assert_eq!(panicked(&[]), [panic]);
        assert_eq!(panicked(&[Outcome::Success]), [Outcome::Success, panic]);
        assert_eq!(panicked(&[FailureKind::Body.into()]), [FailureKind::Body.into()]);
    }

    // C46, C47
    #[test]
    fn a_call_has_one_sample_of_its_first_byte() {
        let sampled = |run: &dyn Fn(&mut CallGuard)| {
            let recorder = Arc::new(Recorder::default());
            let mut guard = recorder.guard();
            run(&mut guard);
            drop(guard);
            recorder.samples()
        };
        let failed = Sample::Failed { retry_after: None };
        let (success, failure) = (Outcome::Success, Outcome::from(FailureKind::Body));
        assert_eq!(sampled(&|_| {}), [Sample::Cancelled]);
        assert_eq!(sampled(&|guard| guard.outcome(&failure)), [failed]);
        assert_eq!(sampled(&|guard| guard.outcome(&Outcome::Neutral)), [], "not known to be the backend's");
        let received = |guard: &mut CallGuard| {
            guard.outcome(&success);
            guard.guard.head();
        };
        assert_eq!(sampled(&received), [], "the caller did not read the body, so the backend did not take that long");
        let with_body = |rest: &dyn Fn(&mut CallGuard)| {
            sampled(&|guard| {
                received(guard);
                guard.during(|| {});
                rest(guard);
            })
        };
        assert_eq!(with_body(&|_| {}), [Sample::Cancelled]);
        assert_eq!(with_body(&|guard| guard.outcome(&failure)), [failed]);
        let first_byte_twice = |guard: &mut CallGuard| (0..2).for_each(|_| guard.first_byte());
        assert_eq!(with_body(&first_byte_twice), [Sample::FirstByte]);
        let cut = |guard: &mut CallGuard| {
            guard.first_byte();
            guard.outcome(&failure);
        };
        assert_eq!(with_body(&cut), [Sample::FirstByte, Sample::BodyFailed]);
    }

    // C37
    #[test]
    fn a_panic_of_the_call_is_a_failure() {
        let recorder = Arc::new(Recorder::default());
        let mut guard = Guard::begin(Arc::clone(&recorder), Ticket::VOID);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || guard.during(|| panic!("boom"))));
        assert!(panicked.is_err());
        assert_eq!(recorder.outcomes(), [FailureKind::Panic.into()]);
        assert!(recorder.is_idle());
    }
}
