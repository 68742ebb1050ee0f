//! Slow start: how the share of a backend that has just started rises.

use std::time::Duration;

use super::check::Part;
use crate::{setting::InvalidSetting, time::Moment};

/// The share of a backend that gets all its traffic. Shares are integers, so that they fit in an atomic.
pub(crate) const FULL_SHARE: u32 = 1 << 16;

/// Makes the traffic of a backend that has just started rise over some time, instead of sending it all at once.
///
/// A cold backend (empty caches, no connections, code that is not compiled yet) is slow under the traffic that a warm
/// one handles. So its share of the traffic rises from a floor to 1 over a window. The formula is Envoy's: after the
/// time `t` of a window `w` the share is `(t / w) ^ (1 / aggression)`, or the floor if that is more. It is computed
/// anew at each step of the window, at the same moments for all backends of the fleet, so that many new backends cost
/// one change per step and not one each.
///
/// ```text
///  share 1 ┤                    ┌───────
///          │               ┌────┘
///          │          ┌────┘              a window of 30 s in 4 steps
///    floor ┼──────────┘
///          └────┬─────┬────┬────┬─────── time
/// ```
///
/// A backend starts slowly
///
/// - when it is inserted into a fleet that serves already, or [replaces](crate::Fleet::replace) another one;
/// - when an operator sets it [healthy](crate::AdminStatus::Healthy) again;
/// - when its circuit closes after it was open;
/// - when the ejection of an [outlier](crate::fleet::Outliers) ends.
///
/// Not after a [cool-down](crate::Fleet::cool_down): the backend named the time from which on it takes all its traffic.
/// If it starts again meanwhile, the window begins anew.
///
/// Shares compare: while all backends of a tier have the same share, each gets what it would get without slow start.
///
/// ```
/// # use std::time::Duration;
/// # use tower_fleet::{Backend, Fleet, fleet::SlowStart};
/// # let a = ();
/// let slow_start = SlowStart::new(Duration::from_secs(60)).aggression(1.5).floor(0.05);
/// let fleet = Fleet::plain().backend(Backend::new("a", a)).slow_start(slow_start).build()?;
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "does nothing until a fleet is built with it"]
pub struct SlowStart {
    window: Duration,
    aggression: f64,
    floor: f64,
    steps: u32,
}

/// When a backend started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) at: Moment,
    /// How far it was already, before the start of this process.
    pub(crate) ahead: Duration,
}

impl SlowStart {
    /// Creates a slow start over a window: linear from a share of 0.1, in 10 steps.
    pub const fn new(window: Duration) -> Self {
        // A tenth is enough to warm up, and a hundredth would take as long as a window until the first request. Each
        // step makes the doors compute their order anew: ten are smooth enough.
        Self { window, aggression: 1.0, floor: 0.1, steps: 10 }
    }

    /// Sets the aggression of Envoy's formula, from 0.01 to 100. Default 1, which is linear.
    ///
    /// With more than 1 the share rises fast at first and slowly in the end, with less than 1 the other way round.
    pub const fn aggression(mut self, aggression: f64) -> Self {
        self.aggression = aggression;
        self
    }

    /// Sets the first share, over 0 and up to 1. Default 0.1.
    pub const fn floor(mut self, share: f64) -> Self {
        self.floor = share;
        self
    }

    /// Sets the number of steps in the window, from 1 to 1,000. Default 10.
    pub const fn steps(mut self, steps: u32) -> Self {
        self.steps = steps;
        self
    }

    /// Returns the settings if all of them make sense, else an error for the first that does not.
    pub(crate) fn checked(self) -> Result<Self, InvalidSetting> {
        let part = Part("slow start");
        part.duration("window", self.window)?;
        if !(0.01..=100.0).contains(&self.aggression) {
            return Err(part.refused("aggression", self.aggression, "must be a number from 0.01 to 100"));
        }
        part.share("floor", self.floor)?;
        part.count("steps", self.steps, 1, 1_000)?;
        Ok(self)
    }

    /// Returns the window.
    pub(crate) fn window(&self) -> Duration {
        self.window
    }

    /// Returns the share of a backend that started then: that of the last step.
    pub(crate) fn share_at(&self, Start { at, ahead }: Start, now: Moment) -> u32 {
        let width = self.width();
        self.share(Moment::from_nanos(now.as_nanos() / width * width).since(at).saturating_add(ahead))
    }

    /// Returns the share this long after the start.
    fn share(&self, elapsed: Duration) -> u32 {
        if elapsed >= self.window {
            return FULL_SHARE;
        }
        let time = elapsed.as_secs_f64() / self.window.as_secs_f64();
        share_of(time.powf(self.aggression.recip()).max(self.floor))
    }

    /// Returns the moment of the next step, which is the same for all backends.
    pub(crate) fn next_step(&self, now: Moment) -> Moment {
        let width = self.width();
        Moment::from_nanos((now.as_nanos() / width).saturating_add(1).saturating_mul(width))
    }

    /// Returns the time between two steps, in nanoseconds.
    fn width(&self) -> u64 {
        (Moment::since_epoch(self.window).as_nanos() / u64::from(self.steps)).max(1)
    }
}

/// Converts a share from 0 to 1, but not to 0.
pub(super) fn share_of(share: f64) -> u32 {
    ((share * f64::from(FULL_SHARE)).round() as u32).clamp(1, FULL_SHARE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::check::MAX_DURATION, *};

    const WINDOW: Duration = Duration::from_secs(100);

    fn shares(slow_start: SlowStart) -> Vec<f64> {
        let share = |second| f64::from(slow_start.share(Duration::from_secs(second))) / f64::from(FULL_SHARE);
        [0, 5, 25, 50, 81, 99, 100, 200].map(|second| (share(second) * 1_000.0).round() / 1_000.0).into()
    }

    // C49
    #[test]
    fn the_share_rises_from_the_floor_along_the_curve() {
        let linear = SlowStart::new(WINDOW);
        assert_eq!(shares(linear), [0.1, 0.1, 0.25, 0.5, 0.81, 0.99, 1.0, 1.0]);
        assert_eq!(shares(linear.aggression(2.0)), [0.1, 0.224, 0.5, 0.707, 0.9, 0.995, 1.0, 1.0]);
        assert_eq!(shares(linear.aggression(0.5)), [0.1, 0.1, 0.1, 0.25, 0.656, 0.98, 1.0, 1.0]);
        assert_eq!(shares(linear.floor(1.0)), [1.0; 8]);
    }

    // C49: or ten thousand new backends would change the fleet a hundred thousand times.
    #[test]
    fn all_backends_step_at_the_same_moments() {
        let at = |millis| Moment::since_epoch(Duration::from_millis(millis));
        let slow_start = SlowStart::new(WINDOW);
        for now in [20_000, 20_001, 25_000, 29_999] {
            assert_eq!(slow_start.next_step(at(now)), at(30_000), "{now}");
        }
        // Whenever that is noticed.
        let started = Start { at: at(5_000), ahead: Duration::ZERO };
        let share = |now| (slow_start.share_at(started, at(now)) * 100 + FULL_SHARE / 2) / FULL_SHARE;
        assert_eq!([5_000, 9_999, 30_000, 39_999, 40_000, 109_999, 110_000].map(share), [10, 10, 25, 25, 35, 95, 100]);
    }

    // C58
    #[test]
    fn a_setting_that_makes_no_sense_is_refused_by_name() {
        let good = SlowStart::new(WINDOW);
        assert!(good.checked().is_ok());
        for (slow_start, expected) in [
            (SlowStart::new(Duration::ZERO), "slow start: window 0ns must be longer than zero"),
            (SlowStart::new(Duration::MAX), "must be at most 30 days"),
            (good.aggression(0.0), "slow start: aggression 0 must be a number from 0.01 to 100"),
            (good.aggression(f64::NAN), "slow start: aggression NaN must be"),
            (good.aggression(f64::INFINITY), "slow start: aggression inf must be"),
            (good.floor(0.0), "slow start: floor 0 must be a share over 0 and up to 1"),
            (good.floor(f64::NAN), "slow start: floor NaN must be"),
            (good.floor(10.0), "slow start: floor 10 must be a share over 0 and up to 1; for 10 %, write 0.1"),
            (good.steps(0), "slow start: steps 0 must be from 1 to 1000"),
            (good.steps(1_001), "slow start: steps 1001 must be from 1 to 1000"),
        ] {
            let error = slow_start.checked().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    proptest! {
        // C49, C58
        #[test]
        fn every_accepted_curve_rises_and_ends_at_one(
            window in 1..=MAX_DURATION.as_nanos() as u64, aggression in 0.01..=100.0, floor in 1e-12..=1.0,
            steps in 1..=1_000_u32, now: u64,
        ) {
            let window = Duration::from_nanos(window);
            let slow_start = SlowStart::new(window).aggression(aggression).floor(floor).steps(steps).checked();
            let slow_start = slow_start.expect("valid settings");
            let mut before = 1;
            for part in 0..=20 {
                let share = slow_start.share(window.mul_f64(f64::from(part) / 20.0));
                prop_assert!((before..=FULL_SHARE).contains(&share));
                before = share;
            }
            prop_assert_eq!(slow_start.share(window), FULL_SHARE);
            let now = Moment::from_nanos(now);
            let next = slow_start.next_step(now);
            prop_assert!(next > now || next == Moment::NEVER);
        }
    }
}
