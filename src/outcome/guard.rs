//! What keeps account of one call, from its start to the end of its response.

use std::sync::Arc;

use super::{FailureKind, Outcome};
use crate::health::Ticket;

/// Keeps account of the calls of one backend.
pub(crate) trait Record: Send + Sync {
    /// A call begins.
    fn begin(&self);

    /// A call is over, whatever came of it.
    fn end(&self);

    /// Something is known of a call.
    fn record(&self, ticket: &Ticket, event: Event<'_>);
}

/// What is known of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Event<'a> {
    /// What came of it; once for each call.
    Outcome(&'a Outcome),
    /// It was dropped before anything was known; instead of an outcome.
    Cancelled,
    /// Its body failed, after it was recorded as a success.
    BodyFailed(&'a Outcome),
    /// Its body ended well, after it was recorded as a success.
    BodyEnded,
}

/// The account of one call: in flight until it is dropped, and recorded once.
pub(crate) struct Guard<R: Record + ?Sized> {
    /// None once it is in other hands.
    pub(super) to: Option<Arc<R>>,
    pub(super) ticket: Ticket,
    pub(super) stage: Stage,
}

/// What is known of a call so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    /// Nothing is known. Dropped: cancelled.
    Running,
    /// Foreign code runs. Dropped: it panicked.
    Polling,
    /// The head is good and handed on, and the end of the body decides. Dropped: neutral, its reader left.
    Undecided,
    /// The head is good, and counts as soon as the classifier lets go of the response. Dropped: a success.
    Good,
    /// The head is good, and counts with the commit. Dropped: cancelled.
    Uncommitted,
    /// The end of the body decides, and not before the commit. Dropped: cancelled.
    Awaited,
    /// Recorded as a success, which a failure of the body amends.
    Succeeded,
    /// The same while foreign code runs. Dropped: it panicked.
    Reading,
    /// Nothing can change any more.
    Recorded,
}

impl<R: Record + ?Sized> Guard<R> {
    /// Begins a call.
    #[inline(always)]
    pub(crate) fn begin(to: Arc<R>, ticket: Ticket) -> Self {
        to.begin();
        Self { to: Some(to), ticket, stage: Stage::Running }
    }

    /// Where the call is recorded; none once the guard was handed on.
    #[inline(always)]
    pub(crate) fn to(&self) -> Option<&Arc<R>> {
        self.to.as_ref()
    }

    /// Runs a part of the call, which may panic.
    #[inline(always)]
    pub(crate) fn during<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let before = self.stage;
        self.stage = match before {
            Stage::Recorded => before,
            Stage::Succeeded | Stage::Reading => Stage::Reading,
            _ => Stage::Polling,
        };
        let done = run();
        self.stage = before;
        done
    }

    /// Records what came of the call. The first outcome counts; after a success, a failure amends it, once.
    #[inline(always)]
    pub(crate) fn outcome(&mut self, outcome: &Outcome) {
        let (event, stage) = match self.stage {
            Stage::Recorded => return,
            Stage::Succeeded | Stage::Reading => match outcome {
                Outcome::Failure(_) => (Event::BodyFailed(outcome), Stage::Recorded),
                Outcome::Success => (Event::BodyEnded, Stage::Recorded),
                Outcome::Neutral => return,
            },
            _ if outcome.is_success() => (Event::Outcome(outcome), Stage::Succeeded),
            _ => (Event::Outcome(outcome), Stage::Recorded),
        };
        self.stage = stage;
        if let Some(to) = &self.to {
            to.record(&self.ticket, event);
        }
    }

    /// Records a success of the head: an outcome, in the least number of steps.
    #[inline(always)]
    pub(crate) fn succeed(&mut self) {
        if self.stage == Stage::Running {
            self.stage = Stage::Succeeded;
            if let Some(to) = &self.to {
                to.record(&self.ticket, Event::Outcome(&Outcome::Success));
            }
        }
    }

    /// The response is the caller's. Where the end of its body decides, a reader that leaves before says nothing of the
    /// backend, however long it read.
    #[inline]
    pub(crate) fn hand_on(&mut self) {
        if self.stage == Stage::Running {
            self.stage = Stage::Undecided;
        }
    }

    #[cold]
    fn abandon(&self) {
        let failure = FailureKind::Panic.into();
        let event = match self.stage {
            Stage::Running | Stage::Uncommitted | Stage::Awaited => Event::Cancelled,
            Stage::Polling => Event::Outcome(&failure),
            Stage::Undecided => Event::Outcome(&Outcome::Neutral),
            Stage::Good => Event::Outcome(&Outcome::Success),
            Stage::Reading => Event::BodyFailed(&failure),
            Stage::Succeeded | Stage::Recorded => return,
        };
        if let Some(to) = &self.to {
            to.record(&self.ticket, event);
        }
    }
}

impl<R: Record + ?Sized> Drop for Guard<R> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(to) = &self.to {
            if !matches!(self.stage, Stage::Succeeded | Stage::Recorded) {
                self.abandon();
            }
            to.end();
        }
    }
}
