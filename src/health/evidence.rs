//! What the circuit remembers behind its lock: failures, rates, probes, openings.

use crate::time::Moment;
use std::time::Duration;

use super::{
    permits::{Permit, Permits},
    policy::Policy,
    window::{FailureLog, RateWindow},
};

/// One call as the rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

/// Everything that is not needed to serve a call. Allocated once.
#[derive(Debug)]
pub(super) struct Evidence {
    failures: Option<FailureLog>,
    // Boxed, or each of many circuits without such a rule would carry its room.
    failure_rate: Option<Box<RateWindow>>,
    slow_calls: Option<Box<RateWindow>>,
    permits: Permits,
    /// Good probes since the circuit became half-open.
    good_probes: u32,
    /// Openings not yet forgiven; the next one grows with them.
    openings: u32,
    closed_at: Moment,
}

impl Evidence {
    pub(super) fn new(policy: &Policy) -> Self {
        Self {
            failures: policy.failures.map(|rule| FailureLog::new(rule.threshold, rule.within)),
            failure_rate: policy
                .failure_rate
                .map(|rule| Box::new(RateWindow::new(rule.rate, rule.window, rule.minimum_calls))),
            slow_calls: policy
                .slow_calls
                .map(|rule| rule.share)
                .map(|rule| Box::new(RateWindow::new(rule.rate, rule.window, rule.minimum_calls))),
            permits: Permits::new(policy.probes),
            good_probes: 0,
            openings: 0,
            closed_at: Moment::EPOCH,
        }
    }

    /// Counts a call while closed; true when a window is full of bad ones. Every window sees every call.
    pub(super) fn add(&mut self, sample: Sample, now: Moment) -> bool {
        // Both of them, whatever the first says.
        self.add_failed(sample.failed, now) | self.add_slow(sample.slow, now)
    }

    /// Counts whether a call failed, of which nobody says here whether it was slow.
    pub(super) fn add_failed(&mut self, failed: bool, now: Moment) -> bool {
        let mut trips = false;
        if let Some(log) = self.failures.as_mut().filter(|_| failed) {
            trips |= log.add(now);
        }
        if let Some(window) = &mut self.failure_rate {
            trips |= window.add(now, failed);
        }
        trips
    }

    /// Counts whether a call was slow, of which nobody says here whether it failed.
    pub(super) fn add_slow(&mut self, slow: bool, now: Moment) -> bool {
        self.slow_calls.as_mut().is_some_and(|window| window.add(now, slow))
    }

    /// A call that was counted as a success failed after all; true when a window is full of failures.
    pub(super) fn amend(&mut self, now: Moment) -> bool {
        let logged = self.failures.as_mut().is_some_and(|log| log.add(now));
        logged | self.failure_rate.as_mut().is_some_and(|window| window.amend(now))
    }

    /// Begins a closed time, knowing nothing.
    pub(super) fn begin_closed(&mut self, now: Moment) {
        if let Some(log) = &mut self.failures {
            log.clear();
        }
        let windows = [&mut self.failure_rate, &mut self.slow_calls];
        for window in windows.into_iter().flatten() {
            window.clear();
        }
        self.closed_at = now;
    }

    /// Forgets half of the openings for each quiet time that the closed circuit, about to open, has had.
    pub(super) fn forgive(&mut self, now: Moment, quiet: Duration) {
        let times = now.since(self.closed_at).as_nanos() / quiet.as_nanos().max(1);
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        self.openings = self.openings.checked_shr(times).unwrap_or(0);
    }

    /// Forgets all of them.
    pub(super) fn forgive_all(&mut self) {
        self.openings = 0;
    }

    /// Counts an opening; how many there were before.
    pub(super) fn count_opening(&mut self) -> u32 {
        let before = self.openings;
        self.openings = before.saturating_add(1);
        before
    }

    /// Begins a half-open time, with all permits at hand.
    pub(super) fn begin_half_open(&mut self) {
        self.permits.clear();
        self.good_probes = 0;
    }

    /// A good probe came back; how many did so far.
    pub(super) fn count_good_probe(&mut self) -> u32 {
        self.good_probes = self.good_probes.saturating_add(1);
        self.good_probes
    }

    pub(super) fn take_permit(&mut self, now: Moment, lapses: Moment) -> Option<Permit> {
        self.permits.take(now, lapses)
    }

    pub(super) fn give_back(&mut self, permit: Permit) {
        self.permits.give_back(permit);
    }

    pub(super) fn holds_permit(&self, permit: Permit, now: Moment) -> bool {
        self.permits.holds(permit, now)
    }

    /// When a permit may be taken next.
    pub(super) fn next_free(&self) -> Moment {
        self.permits.next_free()
    }
}
