//! The part of a circuit behind its lock: failures, rates, probes and openings.

use std::time::Duration;

use super::{
    permits::{Permit, Permits},
    policy::{CircuitPolicy, Rate},
    window::{FailureLog, RateWindow},
};
use crate::time::Moment;

/// A call as the rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

/// Everything that a circuit counts, but for its streaks. Allocated once, with the circuit.
#[derive(Debug)]
pub(super) struct Counters {
    failures: Option<FailureLog>,
    // Boxed, since a fleet has many circuits and most of them have no such rule.
    failure_rate: Option<Box<RateWindow>>,
    slow_calls: Option<Box<RateWindow>>,
    permits: Permits,
    /// Successful probes since the circuit became half-open.
    probe_successes: u32,
    /// The openings that still lengthen the next one.
    pub(super) openings: u32,
    pub(super) closed_at: Moment,
    /// For how long it was closed before, in an earlier process.
    pub(super) closed_before: Duration,
}

impl Counters {
    pub(super) fn new(policy: &CircuitPolicy) -> Self {
        let window = |rate: Rate| Box::new(RateWindow::new(rate.share, rate.window, rate.minimum_calls));
        Self {
            failures: policy.failures_rule().map(|rule| FailureLog::new(rule.threshold, rule.within)),
            failure_rate: policy.failure_rate.map(window),
            slow_calls: policy.slow_calls.map(|rule| window(rule.rate)),
            permits: Permits::new(policy.probes),
            probe_successes: 0,
            openings: 0,
            closed_at: Moment::EPOCH,
            closed_before: Duration::ZERO,
        }
    }

    /// Counts a call while closed. Returns whether a rule on a window is met.
    pub(super) fn add(&mut self, sample: Sample, now: Moment) -> bool {
        // `|`, not `||`: every window counts every call.
        self.add_failed(sample.failed, now) | self.add_slow(sample.slow, now)
    }

    fn add_failed(&mut self, failed: bool, now: Moment) -> bool {
        let mut is_met = false;
        if let Some(log) = self.failures.as_mut().filter(|_| failed) {
            is_met |= log.add(now);
        }
        if let Some(window) = &mut self.failure_rate {
            is_met |= window.add(now, failed);
        }
        is_met
    }

    /// Counts whether a call was slow, and not whether it failed.
    pub(super) fn add_slow(&mut self, slow: bool, now: Moment) -> bool {
        self.slow_calls.as_mut().is_some_and(|window| window.add(now, slow))
    }

    /// Turns a counted success into a failure of `now`. Returns whether a rule on failures is met.
    pub(super) fn amend(&mut self, now: Moment) -> bool {
        let log_is_met = self.failures.as_mut().is_some_and(|log| log.add(now));
        log_is_met | self.failure_rate.as_mut().is_some_and(|window| window.amend(now))
    }

    /// Begins a closed generation, with empty windows.
    pub(super) fn begin_closed(&mut self, now: Moment) {
        if let Some(log) = &mut self.failures {
            log.clear();
        }
        let windows = [&mut self.failure_rate, &mut self.slow_calls];
        for window in windows.into_iter().flatten() {
            window.clear();
        }
        self.closed_at = now;
        self.closed_before = Duration::ZERO;
    }

    /// Halves the openings for each `quiet` that the circuit was closed. Called when it opens.
    pub(super) fn decay_openings(&mut self, now: Moment, quiet: Duration) {
        self.openings = self.decayed_openings(now, quiet);
    }

    /// Returns what remains of the openings while the circuit is closed.
    pub(super) fn decayed_openings(&self, now: Moment, quiet: Duration) -> u32 {
        let times = self.closed_for(now).as_nanos() / quiet.as_nanos().max(1);
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        self.openings.checked_shr(times).unwrap_or(0)
    }

    /// Returns for how long the circuit was closed, if it is.
    pub(super) fn closed_for(&self, now: Moment) -> Duration {
        now.since(self.closed_at).saturating_add(self.closed_before)
    }

    pub(super) fn reset_openings(&mut self) {
        self.openings = 0;
    }

    /// Counts an opening. Returns how many there were before.
    pub(super) fn count_opening(&mut self) -> u32 {
        let before = self.openings;
        self.openings = before.saturating_add(1);
        before
    }

    /// Begins a half-open generation, with all permits free.
    pub(super) fn begin_half_open(&mut self) {
        self.permits.clear();
        self.probe_successes = 0;
    }

    /// Counts a successful probe. Returns how many there are in this generation.
    pub(super) fn count_probe_success(&mut self) -> u32 {
        self.probe_successes = self.probe_successes.saturating_add(1);
        self.probe_successes
    }

    pub(super) fn acquire_permit(&mut self, now: Moment, expires_at: Moment) -> Option<Permit> {
        self.permits.acquire(now, expires_at)
    }

    pub(super) fn release_permit(&mut self, permit: Permit) {
        self.permits.release(permit);
    }

    pub(super) fn holds_permit(&self, permit: Permit, now: Moment) -> bool {
        self.permits.holds(permit, now)
    }

    /// The moment from which on a permit can be acquired.
    pub(super) fn next_permit_at(&self) -> Moment {
        self.permits.next_free_at()
    }
}
