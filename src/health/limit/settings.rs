//! The settings of a limit, and their validation.

use std::time::Duration;

use crate::setting::InvalidSetting;

/// A limit on the calls in flight at one backend: a fixed number, or an [`AdaptiveLimit`].
///
/// A number converts into a fixed limit:
///
/// ```
/// # use tower_fleet::{AdaptiveLimit, Backend, Fleet};
/// # let (a, b) = ((), ());
/// let fleet = Fleet::plain()
///     .backend(Backend::new("a", a).limit(100))
///     .backend(Backend::new("b", b))
///     .limit(AdaptiveLimit::new().max(200))
///     .build()?;
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Limit {
    /// This number of calls, at least 1.
    Fixed(u32),
    /// A number that follows the latency of the backend.
    Adaptive(AdaptiveLimit),
}

impl From<u32> for Limit {
    fn from(calls: u32) -> Self {
        Self::Fixed(calls)
    }
}

impl From<AdaptiveLimit> for Limit {
    fn from(limit: AdaptiveLimit) -> Self {
        Self::Adaptive(limit)
    }
}

/// A limit that follows the latency of the backend, for backends whose capacity is unknown or changes.
///
/// Once per [window](Self::window), the mean time to the first byte is compared with a baseline, the latency without a
/// queue. While it is within the [tolerance](Self::tolerance), the limit grows by half its square root. Beyond it, the
/// limit shrinks in proportion, by at most a quarter. In addition it shrinks with the share of calls that failed or
/// timed out: by half if all did. Cancelled calls, and those of which it is not known what they say of the backend,
/// change nothing. While less than half of the limit is in use, it does not grow.
///
/// A window in which at most half of the limit was in use renews the baseline. If the limit is in use and no window has
/// confirmed the baseline for [some time](Self::recheck_after), the limit is halved for two windows, so that the
/// latency of the backend itself is measured again. So a backend that has become slower for good does not stay at the
/// minimum.
///
/// The rule is that of Netflix's Gradient2: a ratio of means, since the least latency of a mix of requests is that of
/// its cheapest one, to which TCP Vegas would hold all others. Gradient2 lets its long-term mean follow the latency of
/// an overloaded backend, and so drifts up to its maximum. The renewal at half the limit, as TCP BBR and Envoy's
/// gradient controller do it, replaces that mean. An additive increase with a multiplicative decrease on failures alone
/// would keep the queue of the backend full, since it reacts to nothing earlier than a timeout.
///
/// ```
/// # use std::time::Duration;
/// use tower_fleet::AdaptiveLimit;
///
/// let default = AdaptiveLimit::new();
/// let custom = AdaptiveLimit::new().initial(50).min(10).max(500).tolerance(2.0).window(Duration::from_millis(200));
/// # let _ = (default, custom);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct AdaptiveLimit {
    pub(super) initial: u32,
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) tolerance: f64,
    pub(super) window: Duration,
    pub(super) recheck_after: Duration,
}

impl Default for AdaptiveLimit {
    fn default() -> Self {
        Self::new()
    }
}

impl AdaptiveLimit {
    /// Creates a limit that begins with 20 calls, between 2 and 1,000.
    pub const fn new() -> Self {
        Self {
            // That of Gradient2 and Vegas at Netflix. Few backends are overloaded by it, and growth takes seconds.
            initial: 20,
            // At 1, a call that hangs would keep all others out.
            min: 2,
            max: 1_000,
            // Latency varies by as much without any queue. It is also the queue that is allowed: half the capacity.
            tolerance: 1.5,
            // Long enough for a mean, and short enough to react before callers give up.
            window: Duration::from_secs(1),
            // As Envoy does. Two windows in a minute at half the limit cost 2 % of the capacity.
            recheck_after: Duration::from_secs(60),
        }
    }

    /// Sets the limit before any latency is known, from [`min`](Self::min) to [`max`](Self::max). Default 20.
    pub const fn initial(mut self, calls: u32) -> Self {
        self.initial = calls;
        self
    }

    /// Sets the least limit, from 1. Default 2.
    pub const fn min(mut self, calls: u32) -> Self {
        self.min = calls;
        self
    }

    /// Sets the greatest limit, up to 1,000,000. Default 1,000.
    pub const fn max(mut self, calls: u32) -> Self {
        self.max = calls;
        self
    }

    /// Sets how much longer than the baseline a call may take before the limit shrinks, as a factor from 1 to 10.
    /// Default 1.5.
    pub const fn tolerance(mut self, factor: f64) -> Self {
        self.tolerance = factor;
        self
    }

    /// Sets how often the limit is adapted, from 10 ms to 1 h. Default 1 s.
    ///
    /// A window with fewer than ten calls that have ended is longer.
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets how long the baseline holds without being confirmed, from the window to 1 day. Default 60 s.
    pub const fn recheck_after(mut self, time: Duration) -> Self {
        self.recheck_after = time;
        self
    }
}

/// Larger limits bound nothing, and would be typing errors.
const MAX_LIMIT: u32 = 1_000_000;

impl Limit {
    /// Returns the limit if all its values make sense, else an error for the first that does not, made by `refuse` from
    /// its field, value and reason.
    pub(crate) fn checked(
        self,
        refuse: impl Fn(&'static str, String, &'static str) -> InvalidSetting,
    ) -> Result<Self, InvalidSetting> {
        let Self::Adaptive(AdaptiveLimit { initial, min, max, tolerance, window, recheck_after }) = self else {
            let reason = "must be at least 1: to send a backend no requests, drain it";
            return if self == Self::Fixed(0) { Err(refuse("limit", "0".into(), reason)) } else { Ok(self) };
        };
        if min == 0 {
            return Err(refuse("limit.min", min.to_string(), "must be at least 1"));
        }
        if max < min {
            return Err(refuse("limit.max", max.to_string(), "must be at least limit.min"));
        }
        if max > MAX_LIMIT {
            return Err(refuse("limit.max", max.to_string(), "must be at most 1000000"));
        }
        if !(min..=max).contains(&initial) {
            return Err(refuse("limit.initial", initial.to_string(), "must be from limit.min to limit.max"));
        }
        // This form refuses NaN too.
        if !(1.0..=10.0).contains(&tolerance) {
            return Err(refuse("limit.tolerance", tolerance.to_string(), "must be a factor from 1 to 10"));
        }
        if !(Duration::from_millis(10)..=Duration::from_secs(60 * 60)).contains(&window) {
            return Err(refuse("limit.window", format!("{window:?}"), "must be from 10 ms to 1 h"));
        }
        if !(window..=Duration::from_secs(24 * 60 * 60)).contains(&recheck_after) {
            let reason = "must be from limit.window to 1 day";
            return Err(refuse("limit.recheck_after", format!("{recheck_after:?}"), reason));
        }
        Ok(self)
    }
}
