//! What a member notes about its calls for the detection of outliers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    health::{Counts, Sample, Tally},
    time::Moment,
};

/// The calls of a member in the current interval, and when that is over.
#[derive(Debug)]
pub(super) struct Watch {
    tally: Tally,
    schedule: Arc<Schedule>,
}

/// When the calls of a fleet are evaluated. Shared by its members, and written once per interval.
#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    /// The end of the current interval, in nanoseconds.
    ends: AtomicU64,
}

impl Schedule {
    pub(super) fn new(interval: Duration, now: Moment) -> Self {
        Self { interval, ends: AtomicU64::new(now.after(interval).as_nanos()) }
    }

    /// Ends the current interval if it is over. Only one of several callers does.
    #[inline]
    fn end(&self, now: Moment) -> Option<Over> {
        let ends = self.ends.load(Ordering::Relaxed);
        if now.reached(Moment::from_nanos(ends)) { self.end_at(ends, now) } else { None }
    }

    #[cold]
    fn end_at(&self, ends: u64, now: Moment) -> Option<Over> {
        let next = now.after(self.interval).as_nanos();
        self.ends.compare_exchange(ends, next, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        Some(Over { is_stale: now.since(Moment::from_nanos(ends)) > self.interval })
    }
}

/// An interval is over, and its calls are to be evaluated.
pub(super) struct Over {
    /// It ended longer ago than another interval. There were no calls since.
    pub(super) is_stale: bool,
}

impl Watch {
    pub(super) fn new(schedule: Arc<Schedule>) -> Self {
        Self { tally: Tally::default(), schedule }
    }

    /// Counts a call. Returns whether an interval is over.
    #[inline]
    pub(super) fn add(&self, sample: Sample, took: Duration, now: Moment) -> Option<Over> {
        match sample {
            Sample::FirstByte => self.tally.succeeded(took),
            Sample::Failed { .. } => self.tally.failed(),
            Sample::BodyFailed => self.tally.failed_late(),
            Sample::Cancelled => {}
        }
        self.schedule.end(now)
    }

    /// Returns the counts, and begins another interval.
    pub(super) fn take(&self) -> Counts {
        self.tally.take()
    }
}
