//! How long a request waits for its response before it is hedged.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{Budget, invalid::invalid};
use crate::{
    health::LatencySettings,
    setting::{InvalidSetting, share_reason},
    time::Moment,
};

/// The delay after which a request is hedged under [`Mode::Hedged`](super::Mode::Hedged).
#[derive(Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum HedgeDelay {
    /// This time. Nothing is measured.
    After(Duration),
    /// A percentile of the times that the backend took lately.
    At(Percentile),
}

/// A percentile of the times that the attempts at a backend took lately, as the delay of a hedge.
///
/// ```
/// # use std::time::Duration;
/// use tower_fleet::{Mode, failover::Percentile};
///
/// // An attempt that takes longer than 95 % of those at its backend gets a hedge, after 5 ms at the earliest and after
/// // 200 ms at the latest.
/// let mode = Mode::hedged(Percentile::new(0.95).floor(Duration::from_millis(5)).cap(Duration::from_millis(200)));
/// # let _ = mode;
/// ```
///
/// | percentile | p99 | p99.9 | extra requests |
/// |---|---|---|---|
/// | no hedges | 65 ms | 93 ms | 0 |
/// | 0.95 | 20.7 ms | 32 ms | 5.4 % |
/// | 0.9445, the default | 17.7 ms | 27 ms | 5.9 % |
/// | 0.927 | 15.9 ms | 24 ms | 7.7 % |
///
/// These are medians of four runs in virtual time, each of 200,000 requests at 1,000 per second to five backends, after
/// 2,000 to warm up: lognormal with a median of 5 ms and a sigma of 0.3, a twentieth of them ten times as slow. Where
/// stragglers are rarer, the same tail costs fewer extra requests.
///
/// **What is measured.** The time from the moment the backend is called until its response is final: the head, or what
/// the [commit point](super::CommitPoint) of the failover waits for. The time in which an attempt waits for the caller's
/// request body is left out. A failure has no time: it is not a fast response. An attempt that is cancelled and had
/// taken longer than the percentile, mostly because its hedge was faster, counts as if it had ended then. Without these,
/// the slowest attempts would be missing, the percentile would fall, and more and more hedges would be sent. An attempt
/// that is cancelled earlier, mostly a hedge, does not count: it is only known to take longer than it ran, which is true
/// of most.
///
/// **A slow backend.** The delay is never longer than the median of this percentile over the other backends of the tier.
/// So a backend that is slow as such does not delay its hedges, and a new one has the delay of the others.
///
/// **A slow tier.** No hedge is sent while all backends that could take it are slow. A backend is slow when most of its
/// last attempts, at least sixteen, took longer than its own percentile, or than the cap. A hedge would only add to the
/// load then. When the percentiles have adapted, hedges are sent again; and a backend without late attempts for an eighth
/// of the window is not slow any more.
///
/// **The budget.** Hedges take tokens from the [budget](super::FailoverBuilder::budget) of the failover, which they share
/// with the attempts after a failure. If none is set, hedges have one of their own, with a share of twice what the
/// percentile leaves: 11 % of the requests by default, and a reserve of 10. So a sudden slowdown adds a tenth to the
/// traffic and does not double it, while every failure still moves its request on.
///
/// A hedge that is due but not sent for one of these reasons is considered again after another delay.
///
/// The measurements belong to the backends of the fleet, and all its failovers share them. If these set different
/// windows or minimal samples, those of the first attempt at a backend count. There is one percentile for all requests:
/// give requests that differ as much as a lookup and a report fleets of their own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percentile {
    pub(super) share: f64,
    floor: Duration,
    cap: Duration,
    until_measured: Option<Duration>,
    window: Duration,
    min_samples: u32,
}

impl Default for Percentile {
    /// The default: 0.9445. About 5.5 % of the requests get a hedge, and 0.3 % a second one.
    fn default() -> Self {
        // Stragglers are often a twentieth of all calls. A percentile of 0.95 is then on the edge between them and the
        // others, where it waits twice as long for hardly fewer hedges. See the figures at `Percentile`.
        Self::new(0.9445)
    }
}

impl Percentile {
    /// Creates a delay that this share of the attempts does not exceed, over 0.5 and below 1: 0.95 for the 95th
    /// percentile. Without stragglers, the rest of the requests gets a hedge: 5 %.
    pub fn new(share: f64) -> Self {
        Self {
            share,
            // As exact as a timer.
            floor: Duration::from_millis(1),
            cap: Duration::from_secs(1),
            until_measured: None,
            // Long enough for the percentiles of a few requests per second, and to forget a slow minute in the next.
            window: Duration::from_secs(60),
            // Five of them are above the 95th percentile.
            min_samples: 100,
        }
    }

    /// Sets the shortest delay. Default 1 ms.
    pub fn floor(mut self, delay: Duration) -> Self {
        self.floor = delay;
        self
    }

    /// Sets the longest delay. Default 1 s. Set a longer one for backends that take seconds: if all of them take longer
    /// than the cap, they count as slow, and no hedge is sent.
    pub fn cap(mut self, delay: Duration) -> Self {
        self.cap = delay;
        self
    }

    /// Sets the delay while too few attempts were measured, at the backend and at the others. Default the
    /// [cap](Self::cap).
    pub fn until_measured(mut self, delay: Duration) -> Self {
        self.until_measured = Some(delay);
        self
    }

    /// Sets the time after which an attempt has no effect any more, from 100 ms to a week. Default 60 s. The attempts of
    /// the last half of it always have one.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets how many attempts at a backend must have been measured in the window, from 1 to 1,000,000. Default 100.
    pub fn min_samples(mut self, attempts: u32) -> Self {
        self.min_samples = attempts;
        self
    }

    /// The longest delay.
    #[cfg(feature = "serde")]
    pub(crate) fn longest(&self) -> Duration {
        self.cap.max(self.until_measured.unwrap_or_default())
    }

    pub(super) fn latency(&self) -> LatencySettings {
        LatencySettings { window: self.window, min_samples: self.min_samples }
    }

    /// The delay of an attempt, given the percentile at its backend and the median of the others.
    pub(super) fn delay(&self, own: Option<Duration>, others: Option<Duration>) -> Duration {
        match own.into_iter().chain(others).min() {
            // Not `clamp`, which panics if the bounds are in the wrong order.
            Some(delay) => delay.max(self.floor).min(self.cap),
            None => self.until_measured.unwrap_or(self.cap),
        }
    }

    /// The time from which an attempt is late at its backend.
    pub(super) fn late_after(&self, own: Option<Duration>) -> Duration {
        // A backend that is not measured yet is given time.
        own.map_or(self.cap, |own| own.max(self.floor).min(self.cap))
    }

    /// The budget of the hedges of a failover that has none.
    pub(super) fn budget(&self) -> Budget {
        // Twice the hedges of a quiet time, second ones included.
        Budget::new((2.0 * (1.0 - self.share)).min(1.0))
    }

    fn check(&self, deadline: Option<Duration>) -> Result<(), InvalidSetting> {
        // Written so that it refuses NaN, too.
        if !(self.share > 0.5 && self.share < 1.0) {
            let reason = share_reason(self.share, "must be a share over 0.5 and below 1");
            return Err(invalid("mode.hedged.percentile", self.share, reason));
        }
        let too_long = |delay: Duration| deadline.is_some_and(|deadline| delay > deadline);
        let until_measured = self.until_measured.unwrap_or(self.cap);
        for (field, delay) in [("mode.hedged.floor", self.floor), ("mode.hedged.until_measured", until_measured)] {
            if delay.is_zero() {
                return Err(invalid(field, "0ns", "must be longer than zero"));
            }
        }
        if self.floor > self.cap {
            let reason = format!("must not be longer than the cap, {:?}", self.cap);
            return Err(invalid("mode.hedged.floor", format_args!("{:?}", self.floor), reason));
        }
        let set = self.until_measured.map(|delay| ("mode.hedged.until_measured", delay));
        for (field, delay) in [("mode.hedged.floor", self.floor)].into_iter().chain(set) {
            if too_long(delay) {
                return Err(invalid(field, format_args!("{delay:?}"), "must not be longer than the deadline"));
            }
        }
        if !(MIN_WINDOW..=MAX_WINDOW).contains(&self.window) {
            let value = format_args!("{:?}", self.window);
            return Err(invalid("mode.hedged.window", value, "must be from 100 ms to 7 days"));
        }
        if !(1..=1_000_000).contains(&self.min_samples) {
            return Err(invalid("mode.hedged.min_samples", self.min_samples, "must be from 1 to 1,000,000"));
        }
        Ok(())
    }
}

const MIN_WINDOW: Duration = Duration::from_millis(100);
const MAX_WINDOW: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl HedgeDelay {
    pub(super) fn check(&self, deadline: Option<Duration>) -> Result<(), InvalidSetting> {
        match self {
            Self::At(percentile) => percentile.check(deadline),
            Self::After(Duration::ZERO) => Err(invalid("mode.hedged", "0ns", "must be longer than zero")),
            Self::After(delay) if deadline.is_some_and(|deadline| *delay > deadline) => {
                Err(invalid("mode.hedged", format_args!("{delay:?}"), "must not be longer than the deadline"))
            }
            Self::After(_) => Ok(()),
        }
    }
}

impl From<Duration> for HedgeDelay {
    fn from(delay: Duration) -> Self {
        Self::After(delay)
    }
}

impl From<Percentile> for HedgeDelay {
    fn from(percentile: Percentile) -> Self {
        Self::At(percentile)
    }
}

/// The fixed delay, or the percentile with its settings.
impl fmt::Debug for HedgeDelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(delay) => delay.fmt(f),
            Self::At(percentile) => percentile.fmt(f),
        }
    }
}

/// The median of the percentiles of several backends, computed once for a short time. Each door has its own.
#[derive(Debug, Default)]
pub(super) struct Median(AtomicU64);

impl Median {
    /// Returns the value for this moment. `compute` is called if the last one is old.
    pub(super) fn get(
        &self,
        percentile: &Percentile,
        now: Moment,
        compute: impl FnOnce() -> Option<Duration>,
    ) -> Option<Duration> {
        // As often as the percentiles are computed themselves. The upper half is the number of that time, the lower one
        // the value in units of 4 µs plus one, or 0 if there is none.
        let width = Moment::since_epoch(percentile.window).as_nanos() / 2048;
        let tick = (now.as_nanos() / width.max(1)).wrapping_add(1) & u64::from(u32::MAX);
        let entry = self.0.load(Ordering::Relaxed);
        let value = if entry >> 32 == tick {
            entry & u64::from(u32::MAX)
        } else {
            let value = compute().map_or(0, |median| (Moment::since_epoch(median).as_nanos() >> 12) + 1);
            let value = value.min(u64::from(u32::MAX));
            self.0.store(tick << 32 | value, Ordering::Relaxed);
            value
        };
        value.checked_sub(1).map(|units| Duration::from_nanos(units << 12))
    }
}

/// A copy is for another door, maybe of another fleet.
impl Clone for Median {
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    // C68
    #[test]
    fn the_delay_is_the_lesser_of_its_own_and_the_median_of_the_others() {
        let percentile = Percentile::new(0.9).floor(2 * MS).cap(100 * MS);
        for (own, others, delay) in [
            (Some(20), Some(30), 20),
            (Some(30), Some(20), 20),
            (Some(30), None, 30),
            (None, Some(20), 20),
            (Some(1), Some(1), 2),
            (Some(500), Some(300), 100),
            (None, None, 100),
        ] {
            let found = percentile.delay(own.map(|own: u32| own * MS), others.map(|others: u32| others * MS));
            assert_eq!(found, delay * MS, "{own:?}, {others:?}");
        }
        assert_eq!(percentile.until_measured(50 * MS).delay(None, None), 50 * MS);
    }

    // C58, C68
    #[test]
    fn invalid_percentiles_are_refused_by_name() {
        let (good, long) = (Percentile::default(), Duration::from_secs(8 * 24 * 60 * 60));
        assert_eq!(good.check(Some(MS)), Ok(()));
        for (bad, field) in [
            (Percentile::new(f64::NAN), "percentile"),
            (Percentile::new(0.0), "percentile"),
            (Percentile::new(0.5), "percentile"),
            (Percentile::new(1.0), "percentile"),
            (Percentile::new(-0.1), "percentile"),
            (Percentile::new(95.0), "percentile"),
            (good.floor(Duration::ZERO), "floor"),
            (good.floor(2 * MS).cap(MS), "floor"),
            (good.cap(Duration::ZERO), "until_measured"),
            (good.floor(10 * MS), "floor"),
            (good.until_measured(Duration::ZERO), "until_measured"),
            (good.until_measured(10 * MS), "until_measured"),
            (good.window(Duration::ZERO), "window"),
            (good.window(long), "window"),
            (good.min_samples(0), "min_samples"),
            (good.min_samples(1_000_001), "min_samples"),
        ] {
            let refused = bad.check(Some(5 * MS)).unwrap_err();
            assert_eq!(refused.field(), format!("mode.hedged.{field}"), "{bad:?}: {refused}");
        }
        let refused = Percentile::new(95.0).check(None).unwrap_err();
        assert_eq!(refused.reason(), "must be a share over 0.5 and below 1; for 95 %, write 0.95");
    }

    // C68
    #[test]
    fn a_median_is_computed_once_for_a_short_time() {
        let (median, percentile) = (Median::default(), Percentile::default());
        let at = |millis: u32| Moment::since_epoch(millis * MS);
        let get = |now, value: Option<u32>| median.get(&percentile, at(now), || value.map(|value| value * MS));
        assert_eq!(get(0, None), None);
        assert_eq!(get(1, Some(1)), None);
        let first = get(100, Some(8)).unwrap();
        assert!(first <= 8 * MS && first > 7 * MS);
        assert_eq!(get(101, Some(9)), Some(first));
        assert!(get(200, Some(9)) > Some(first));
        assert_eq!(median.clone().get(&percentile, at(200), || None), None, "a copy starts anew");
    }
}
