//! The guard of a call, from its start to the end of its response.

use std::sync::Arc;

use super::{FailureKind, Outcome};
#[cfg(feature = "http")]
use crate::name::BackendName;
use crate::{
    body::Upload,
    health::{Sample, Ticket},
};

/// Where the calls to one backend are recorded.
pub(crate) trait Record: Send + Sync {
    /// Records that a call begins. Sets the start of the call in its ticket if the call is timed.
    fn begin(&self, ticket: &mut Ticket) -> Meter;

    /// Records that a call begins that has taken a slot of the backend.
    fn begin_with_slot(&self, ticket: &mut Ticket) -> Meter {
        self.begin(ticket)
    }

    /// Records that a call is over, whatever its outcome.
    fn end(&self, meter: Meter);

    /// Records the time of a timed call to its first byte. Once for each call.
    fn sample(&self, ticket: &Ticket, sample: Sample);

    /// The backend, if the calls are those of one.
    #[cfg(feature = "http")]
    fn backend(&self) -> Option<&BackendName> {
        None
    }

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

/// What is measured of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Meter {
    /// Whether the call counts in the load of the backend.
    pub(crate) is_counted: bool,
    pub(crate) timing: Timing,
}

/// The progress of a timed call to its first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Timing {
    /// The call is not timed, or has its sample.
    #[default]
    Off,
    /// The first byte is awaited.
    Running,
    /// The head was received, and the caller has not read its body yet. What the caller waits is no time of the
    /// backend.
    Unread,
    /// The first byte was received. A failure that follows is a sample of its own.
    Sampled,
}

/// The guard of one call. The call is in flight until the guard is dropped, and its outcome is recorded once.
pub(crate) struct Guard<R: Record + ?Sized> {
    /// `None` once a [`CallGuard`](super::CallGuard) has taken over.
    pub(super) to: Option<Arc<R>>,
    pub(super) ticket: Ticket,
    pub(super) stage: Stage,
    pub(super) meter: Meter,
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
    pub(crate) fn begin(to: Arc<R>, mut ticket: Ticket) -> Self {
        let meter = to.begin(&mut ticket);
        Self { to: Some(to), ticket, stage: Stage::Running, meter, upload: None }
    }

    /// Begins a call that has taken a slot of the backend.
    #[inline]
    pub(crate) fn begin_with_slot(to: Arc<R>, mut ticket: Ticket) -> Self {
        let meter = to.begin_with_slot(&mut ticket);
        Self { to: Some(to), ticket, stage: Stage::Running, meter, upload: None }
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
        let outcome = match outcome {
            // What follows a failure of the request body is no fault of the backend.
            Outcome::Failure(failure) if failure.kind().is_neutral() || self.has_failed_upload() => &Outcome::Neutral,
            outcome => outcome,
        };
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
        self.sample_outcome(outcome);
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

    /// Notes that the first byte of the response was received. Only the first time counts.
    #[inline(always)]
    pub(crate) fn first_byte(&mut self) {
        if matches!(self.meter.timing, Timing::Running | Timing::Unread) {
            self.sample(Sample::FirstByte, Timing::Sampled);
        }
    }

    /// Notes that the head of the response was received, and that the caller reads the first byte from its body.
    #[inline(always)]
    pub(crate) fn head(&mut self) {
        if self.meter.timing == Timing::Running {
            self.meter.timing = Timing::Unread;
        }
    }

    /// Notes that the caller reads the body.
    #[inline(always)]
    pub(crate) fn read(&mut self) {
        if self.meter.timing == Timing::Unread {
            self.meter.timing = Timing::Running;
        }
    }

    /// Takes the sample of a call that did not succeed.
    #[inline(always)]
    fn sample_outcome(&mut self, outcome: &Outcome) {
        match (self.meter.timing, outcome) {
            (_, Outcome::Success) => {}
            (Timing::Off, _) if !self.meter.is_counted => {}
            (Timing::Sampled, Outcome::Failure(_)) => self.sample(Sample::BodyFailed, Timing::Off),
            (_, Outcome::Failure(failure)) => {
                self.sample(Sample::Failed { retry_after: failure.retry_delay() }, Timing::Off);
            }
            // Of such a call, it is not known what it says about the backend.
            (_, Outcome::Neutral) => self.meter.timing = Timing::Off,
        }
    }

    #[inline(never)]
    fn sample(&mut self, sample: Sample, after: Timing) {
        self.meter.timing = after;
        let Some(to) = &self.to else { return };
        match &self.upload {
            None => to.sample(&self.ticket, sample),
            Some(upload) => to.sample(&self.ticket.delayed(upload.set_answered()), sample),
        }
    }

    fn has_failed_upload(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| upload.failure().is_some())
    }

    #[cold]
    fn record_drop(&mut self) {
        let failure: Outcome = FailureKind::Panic.into();
        match self.stage {
            Stage::Polling | Stage::Reading => self.sample_outcome(&failure),
            // The caller did not wait for it.
            _ if self.meter.timing == Timing::Running => self.sample(Sample::Cancelled, Timing::Off),
            _ => {}
        }
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
        let is_over = matches!(self.stage, Stage::Succeeded | Stage::Recorded) && self.meter.timing != Timing::Running;
        if self.to.is_some() && !is_over {
            self.record_drop();
        }
        if let Some(to) = &self.to {
            to.end(self.meter);
        }
    }
}
