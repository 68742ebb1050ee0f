//! Adapts a limit to the latency of a backend. Pure: the time, the calls and those in flight are arguments.

use std::time::Duration;

use super::settings::AdaptiveLimit;
use crate::time::Moment;

/// How a call ended, as far as it concerns the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Its first byte was received after this time.
    Well(Duration),
    /// It failed or timed out.
    Failed,
}

/// Adapts the limit of one backend, window by window.
#[derive(Debug)]
pub(crate) struct Controller {
    settings: AdaptiveLimit,
    limit: f64,
    /// The mean latency without a queue, in nanoseconds.
    baseline: Option<f64>,
    /// When a window has last confirmed or renewed the baseline.
    confirmed_at: Moment,
    phase: Phase,
    window: Window,
}

/// What the current window is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Regular,
    /// The limit is halved, and calls of the time before still run.
    Draining,
    /// The limit is halved. The mean of this window is the baseline.
    Measuring,
}

/// The calls that have ended in a window.
#[derive(Debug, Default)]
struct Window {
    started: Moment,
    /// The sum of the latencies, in nanoseconds.
    sum: f64,
    succeeded: u32,
    failed: u32,
    /// The most calls in flight.
    peak: u32,
}

impl Controller {
    pub(crate) fn new(settings: AdaptiveLimit, now: Moment) -> Self {
        let window = Window { started: now, ..Window::default() };
        let limit = f64::from(settings.initial);
        Self { settings, limit, baseline: None, confirmed_at: now, phase: Phase::Regular, window }
    }

    /// Returns the current limit.
    pub(crate) fn limit(&self) -> u32 {
        let limit = if self.phase == Phase::Regular { self.limit } else { self.limit / 2.0 };
        // The bounds fit into a `u32`.
        limit.clamp(self.settings.min.into(), self.settings.max.into()) as u32
    }

    /// Adds a call that has ended, with the number of calls in flight, itself included.
    pub(crate) fn add(&mut self, ended: Ended, in_flight: u32, now: Moment) {
        let quota = MIN_CALLS.min(self.limit().div_ceil(2));
        let window = &mut self.window;
        match ended {
            Ended::Well(took) => {
                window.succeeded = window.succeeded.saturating_add(1);
                window.sum += took.as_nanos() as f64;
            }
            Ended::Failed => window.failed = window.failed.saturating_add(1),
        }
        window.peak = window.peak.max(in_flight);
        let calls = window.succeeded.saturating_add(window.failed);
        if now.reached(window.started.after(self.settings.window)) && calls >= quota {
            let window = std::mem::replace(window, Window { started: now, ..Window::default() });
            self.adapt(&window, now);
        }
    }

    /// Ends a window.
    fn adapt(&mut self, window: &Window, now: Moment) {
        // Beyond half of the limit, calls may wait for each other.
        let is_in_use = f64::from(window.peak) > self.limit / 2.0;
        let mut target = self.limit;
        if window.succeeded > 0 {
            let mean = window.sum / f64::from(window.succeeded);
            let gradient = self.gradient(mean, is_in_use, now);
            if is_in_use && self.phase == Phase::Regular {
                target = if gradient < 1.0 { self.limit * gradient } else { self.limit + self.limit.sqrt() };
            }
        }
        let failed = f64::from(window.failed) / (f64::from(window.succeeded) + f64::from(window.failed));
        self.limit += SMOOTHING * (target - self.limit);
        self.limit *= 1.0 - failed / 2.0;
        self.limit = self.limit.clamp(self.settings.min.into(), self.settings.max.into());
        self.phase = match self.phase {
            Phase::Draining => Phase::Measuring,
            Phase::Regular if is_in_use && now.reached(self.confirmed_at.after(self.settings.recheck_after)) => {
                Phase::Draining
            }
            // Without a latency, a baseline is still to be measured.
            Phase::Measuring if window.succeeded == 0 => Phase::Measuring,
            Phase::Measuring | Phase::Regular => Phase::Regular,
        };
    }

    /// Updates the baseline. Returns by which factor calls are slower than tolerated, from 0.5 to 1.
    fn gradient(&mut self, mean: f64, is_in_use: bool, now: Moment) -> f64 {
        let baseline = match self.baseline {
            Some(_) if self.phase == Phase::Measuring => mean,
            None => mean,
            // A mean of few calls varies, so each moves the baseline by a part only.
            Some(baseline) if mean <= baseline || !is_in_use => baseline + BASELINE_STEP * (mean - baseline),
            Some(baseline) => baseline,
        };
        if mean <= baseline * CONFIRMS || !is_in_use || self.phase == Phase::Measuring {
            self.confirmed_at = now;
        }
        self.baseline = Some(baseline);
        if mean > 0.0 { (self.settings.tolerance * baseline / mean).clamp(0.5, 1.0) } else { 1.0 }
    }
}

/// The fewest calls in a window, unless the limit is lower: the mean of ten is within a third of the true one.
const MIN_CALLS: u32 = 10;

/// The part of the way to its target that the limit moves in a window.
const SMOOTHING: f64 = 0.5;

/// The part of the way to the mean of a window that the baseline moves.
const BASELINE_STEP: f64 = 0.2;

/// A mean of up to this factor of the baseline confirms it.
const CONFIRMS: f64 = 1.1;
