//! The guard of a call, from its start to the end of its response.

use std::sync::Arc;

use super::{FailureKind, Outcome};
use crate::{body::Upload, health::Ticket};

/// Where the calls to one backend are recorded.
pub(crate) trait Record: Send + Sync {
    /// Records that a call begins.
    fn begin(&self);

    /// Records that a call is over, whatever its outcome.
    fn end(&self);

    /// Records an event of a call.
    fn record(&self, ticket: &Ticket, event: Event<'_>);
}

/// An event of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Event<'a> {
    /// The outcome. Once for each call.
    Outcome(&'a Outcome),
    /// The call was dropped without an outcome. In place of an outcome.
    Cancelled,
    /// The body failed, after the call was recorded as a success.
    BodyFailed(&'a Outcome),
    /// The body ended well, after the call was recorded as a success.
    BodyEnded,
}

/// The guard of one call. The call is in flight until the guard is dropped, and its outcome is recorded once.
pub(crate) struct Guard<R: Record + ?Sized> {
    /// `None` once a [`CallGuard`](super::CallGuard) has taken over.
    pub(super) to: Option<Arc<R>>,
    pub(super) ticket: Ticket,
    pub(super) stage: Stage,
    /// The upload of the request body. What the call waits for the caller is not recorded as time of the backend.
    pub(super) upload: Option<Upload>,
}

/// The stage of a call, which decides what a drop of its guard records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    /// The call has no outcome yet. On drop: cancelled.
    Running,
    /// Foreign code runs, before any outcome. On drop: it panicked.
    Polling,
    /// The caller has the response, and the end of its body decides. On drop: neutral, since the caller stopped
    /// reading.
    Undecided,
    /// The head is good, and the classifier has not shown that it keeps the guard. On drop: a success, without a
    /// commit.
    GoodHead,
    /// The head is good and recorded with the commit. On drop: cancelled.
    HeadUncommitted,
    /// The end of the body decides, and is recorded with the commit or later. On drop: cancelled.
    EndUncommitted,
    /// The call is recorded as a success, which a failure of the body amends. On drop: nothing.
    Succeeded,
    /// The same, while foreign code runs. On drop: it panicked.
    Reading,
    /// The outcome is final. On drop: nothing.
    Recorded,
}

impl<R: Record + ?Sized> Guard<R> {
    /// Begins a call.
    #[inline(always)]
    pub(crate) fn begin(to: Arc<R>, ticket: Ticket) -> Self {
        to.begin();
        Self { to: Some(to), ticket, stage: Stage::Running, upload: None }
    }

    /// Sets the upload of the request body, before the call.
    #[inline(always)]
    pub(crate) fn set_upload(&mut self, upload: Option<Upload>) {
        self.upload = upload;
    }

    /// The upload of the request body, if it has one that is not empty.
    #[inline(always)]
    pub(crate) fn upload(&self) -> Option<&Upload> {
        self.upload.as_ref()
    }

    /// Where the call is recorded. `None` once a [`CallGuard`](super::CallGuard) has taken over.
    #[inline(always)]
    pub(crate) fn to(&self) -> Option<&Arc<R>> {
        self.to.as_ref()
    }

    /// Runs foreign code of the call. If it panics, a panic is recorded.
    #[inline(always)]
    pub(crate) fn during<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let before = self.stage;
        self.stage = match before {
            Stage::Recorded => before,
            Stage::Succeeded | Stage::Reading => Stage::Reading,
            _ => Stage::Polling,
        };
        let value = run();
        self.stage = before;
        value
    }

    /// Records the outcome of the call. Only the first one counts; if that is a success, a later failure amends it,
    /// once.
    #[inline(always)]
    pub(crate) fn outcome(&mut self, outcome: &Outcome) {
        // What follows a failure of the request body is no fault of the backend.
        let outcome = if outcome.is_failure() && self.has_failed_upload() { &Outcome::Neutral } else { outcome };
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
        self.record(event);
    }

    /// Records a success of the head. Same as [`outcome`](Self::outcome), and faster.
    #[inline(always)]
    pub(crate) fn succeed(&mut self) {
        if self.stage == Stage::Running {
            self.stage = Stage::Succeeded;
            self.record(Event::Outcome(&Outcome::Success));
        }
    }

    /// Notes that the caller gets the response. If the end of the body decides, a drop before that is neutral, since
    /// the caller stopped reading.
    #[inline]
    pub(crate) fn hand_on(&mut self) {
        if self.stage == Stage::Running {
            self.stage = Stage::Undecided;
            if let Some(upload) = &self.upload {
                upload.set_answered();
            }
        }
    }

    #[inline(always)]
    fn record(&self, event: Event<'_>) {
        let Some(to) = &self.to else { return };
        match &self.upload {
            None => to.record(&self.ticket, event),
            Some(upload) => to.record(&self.ticket.delayed(upload.set_answered()), event),
        }
    }

    fn has_failed_upload(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| upload.failure().is_some())
    }

    #[cold]
    fn record_drop(&self) {
        let failure = FailureKind::Panic.into();
        let event = match self.stage {
            Stage::Running | Stage::HeadUncommitted | Stage::EndUncommitted => Event::Cancelled,
            Stage::Polling => Event::Outcome(&failure),
            Stage::Undecided => Event::Outcome(&Outcome::Neutral),
            Stage::GoodHead => Event::Outcome(&Outcome::Success),
            Stage::Reading => Event::BodyFailed(&failure),
            Stage::Succeeded | Stage::Recorded => return,
        };
        self.record(event);
    }
}

impl<R: Record + ?Sized> Drop for Guard<R> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(to) = &self.to {
            if !matches!(self.stage, Stage::Succeeded | Stage::Recorded) {
                self.record_drop();
            }
            to.end();
        }
    }
}
