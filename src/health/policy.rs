//! When a circuit opens, for how long, and how it closes again.

use std::time::Duration;

/// The settings of a circuit: when it opens, for how long, and how it closes again.
///
/// Used by [`FleetBuilder::circuit_breaker`](crate::fleet::FleetBuilder::circuit_breaker) for the circuit of each
/// backend, and by [`CircuitBreakerLayer`](crate::CircuitBreakerLayer) for a circuit around one service. Both refuse a
/// value that makes no sense.
///
/// There are four rules. Setting one of them replaces the default rule, 5 [`failures`](Self::failures)
/// [`within`](Self::within) 60 s; if several are set, any of them opens the circuit.
///
/// | rule | opens after | memory per circuit |
/// |---|---|---|
/// | [`failures`](Self::failures) | so many failures in a sliding window | 8 bytes per counted failure |
/// | [`consecutive`](Self::consecutive) | so many failures in a row | none, and no clock is read while closed |
/// | [`failure_rate`](Self::failure_rate) | a share of failed calls in a sliding window | 512 bytes |
/// | [`slow_calls`](Self::slow_calls) | a share of slow calls in a sliding window | 512 bytes |
///
/// ```
/// # use std::time::Duration;
/// use tower_fleet::{CircuitPolicy, breaker::Rate};
///
/// let secs = Duration::from_secs;
/// // Opens after three failures within ten seconds, or when half of the calls take longer than two seconds.
/// let policy = CircuitPolicy::new()
///     .failures(3)
///     .within(secs(10))
///     .slow_calls(secs(2), Rate::new(0.5).minimum_calls(50))
///     .open_for(secs(5))
///     .growth(2.0);
/// # let _ = policy;
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a policy does nothing until a fleet or a layer is built with it"]
pub struct CircuitPolicy {
    failures: Option<u32>,
    within: Option<Duration>,
    pub(super) consecutive: Option<u32>,
    pub(super) failure_rate: Option<Rate>,
    pub(super) slow_calls: Option<SlowCalls>,
    pub(super) open_for: Duration,
    pub(super) growth: f64,
    max_open_for: Option<Duration>,
    pub(super) jitter: f64,
    pub(super) backoff_reset_after: Duration,
    pub(super) probes: u32,
    pub(super) probe_timeout: Duration,
    pub(super) successes_to_close: u32,
}

/// A share of the calls in a sliding window, such as half of those of the last minute.
///
/// ```
/// # use std::time::Duration;
/// # use tower_fleet::breaker::Rate;
/// let rate = Rate::new(0.5).window(Duration::from_secs(30)).minimum_calls(100);
/// # let _ = rate;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "a rate is part of a rule"]
pub struct Rate {
    pub(super) share: f64,
    pub(super) window: Duration,
    pub(super) minimum_calls: u32,
}

impl Rate {
    /// Creates a rate: a share over 0 and up to 1 of the calls in 60 s, once there are at least 20 of them.
    pub const fn new(share: f64) -> Self {
        // The window of the default rule. A share of fewer calls than 20 is mostly chance.
        Self { share, window: Duration::from_secs(60), minimum_calls: 20 }
    }

    /// Sets the length of the window. A call counts for at least 31/32 of it, and never for longer than all of it.
    /// Default 60 s.
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets how many calls must be in the window before the share counts; at least 1. Default 20.
    pub const fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = calls;
        self
    }
}

impl From<f64> for Rate {
    fn from(share: f64) -> Self {
        Self::new(share)
    }
}

/// `threshold` failures, none of them older than `within`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Failures {
    pub(super) threshold: u32,
    pub(super) within: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SlowCalls {
    pub(super) slower_than: Duration,
    pub(super) rate: Rate,
}

impl Default for CircuitPolicy {
    /// The default policy: five failures within 60 s open the circuit for 30 s, and one successful probe closes it.
    fn default() -> Self {
        Self {
            failures: None,
            within: None,
            consecutive: None,
            failure_rate: None,
            slow_calls: None,
            // About as long as a restart takes.
            open_for: Duration::from_secs(30),
            // No growth: the end of a long outage is noticed as soon as that of a short one.
            growth: 1.0,
            max_open_for: None,
            // Off, so that open times are as configured. With many replicas, 0.1 keeps their probes apart.
            jitter: 0.0,
            // As long as the default window, so that no failure of the outage is in it any more.
            backoff_reset_after: Duration::from_secs(60),
            // One request at risk is enough to find out whether the backend has recovered.
            probes: 1,
            // Longer than nearly every call, since it only matters if no outcome is recorded.
            probe_timeout: Duration::from_secs(60),
            successes_to_close: 1,
        }
    }
}

impl CircuitPolicy {
    /// Creates the default policy: five failures within 60 s open the circuit for 30 s, and one successful probe closes
    /// it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens after this many failures in the window of [`within`](Self::within), with any number of successes between
    /// them. Default 5, unless another rule is set; at most 10,000.
    pub fn failures(mut self, threshold: u32) -> Self {
        self.failures = Some(threshold);
        self
    }

    /// Sets the sliding window of [`failures`](Self::failures). Default 60 s.
    pub fn within(mut self, window: Duration) -> Self {
        self.within = Some(window);
        self
    }

    /// Opens after this many failures without a success between them.
    pub fn consecutive(mut self, threshold: u32) -> Self {
        self.consecutive = Some(threshold);
        self
    }

    /// Opens when this share of the calls in a window failed: a [`Rate`], or its share alone.
    pub fn failure_rate(mut self, rate: impl Into<Rate>) -> Self {
        self.failure_rate = Some(rate.into());
        self
    }

    /// Opens when this share of the calls in a window took longer than `slower_than`, failed calls included. A slow
    /// probe counts as failed.
    ///
    /// A call lasts until its success is recorded: at the head of the response, at the commit point under a
    /// [`Failover`](crate::Failover) that commits later, or at the end of the body where that decides (gRPC). The time
    /// in which it waits for the caller's request body does not count: see [`Upload`](crate::body::Upload).
    ///
    /// A cancelled call is neutral unless it was already slow; then it counts as slow. So a hanging backend is noticed
    /// even if its hedge wins and the call to it is dropped. If a `Failover` commits later than the head and times out
    /// in the body, two calls are recorded: a quick head and a slow body.
    pub fn slow_calls(mut self, slower_than: Duration, rate: impl Into<Rate>) -> Self {
        self.slow_calls = Some(SlowCalls { slower_than, rate: rate.into() });
        self
    }

    /// Sets how long the circuit stays open before it is probed. Default 30 s.
    ///
    /// The probe is a request. How circuits of lower tiers are probed is described at [`fleet`](crate::fleet).
    pub fn open_for(mut self, duration: Duration) -> Self {
        self.open_for = duration;
        self
    }

    /// Sets the factor by which each re-opening lengthens the open time. Default 1, no growth.
    pub fn growth(mut self, factor: f64) -> Self {
        self.growth = factor;
        self
    }

    /// Sets the longest open time that [`growth`](Self::growth) leads to. Default 5 min, or
    /// [`open_for`](Self::open_for) if that is longer.
    pub fn max_open_for(mut self, duration: Duration) -> Self {
        self.max_open_for = Some(duration);
        self
    }

    /// Shortens each open time by a random share of up to this much, so that replicas do not probe in step. Default 0.
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// Sets the time closed after which half of the earlier openings are forgotten, and with them their
    /// [`growth`](Self::growth). It counts repeatedly: after twice the time, a quarter of them remain. Default 60 s.
    pub fn backoff_reset_after(mut self, duration: Duration) -> Self {
        self.backoff_reset_after = duration;
        self
    }

    /// Sets how many probes may run at a time while the circuit is half-open. Default 1, at most 1,000.
    pub fn probes(mut self, at_a_time: u32) -> Self {
        self.probes = at_a_time;
        self
    }

    /// Sets how long a probe may hold its permit. Default 60 s.
    ///
    /// After that the permit is free for another request. The outcome of the late probe still counts if the circuit is
    /// half-open when it comes, so that a backend whose calls always take longer can recover too.
    pub fn probe_timeout(mut self, duration: Duration) -> Self {
        self.probe_timeout = duration;
        self
    }

    /// Sets how many probes must succeed, without a failure between them, before the circuit closes. Default 1.
    pub fn successes_to_close(mut self, successes: u32) -> Self {
        self.successes_to_close = successes;
        self
    }

    /// The rule on failures in a window: as set, or the default unless another rule replaces it.
    pub(super) fn failures_rule(&self) -> Option<Failures> {
        // High enough to tolerate the odd failure, low enough to react to an outage within a few requests.
        const DEFAULT: Failures = Failures { threshold: 5, within: Duration::from_secs(60) };
        let is_replaced = self.consecutive.is_some() || self.failure_rate.is_some() || self.slow_calls.is_some();
        match (self.failures, self.within) {
            (None, None) if is_replaced => None,
            (threshold, within) => Some(Failures {
                threshold: threshold.unwrap_or(DEFAULT.threshold),
                within: within.unwrap_or(DEFAULT.within),
            }),
        }
    }

    /// The longest open time.
    pub(super) fn longest_open(&self) -> Duration {
        // By default, an open circuit is probed at least every five minutes.
        self.max_open_for.unwrap_or(self.open_for.max(Duration::from_secs(300)))
    }

    /// The open time of a circuit with `before` earlier openings that still count.
    pub(super) fn open_time(&self, before: u32, random: impl FnOnce() -> u64) -> Duration {
        // Nanoseconds as `f64`: exact up to 104 days. Unbounded growth becomes infinite, and is then capped.
        let grown = self.open_for.as_nanos() as f64 * self.growth.powi(before.min(i32::MAX as u32) as i32);
        let capped = grown.min(self.longest_open().as_nanos() as f64);
        let share = if self.jitter > 0.0 { self.jitter * unit(random()) } else { 0.0 };
        Duration::from_nanos((capped - capped * share) as u64).max(Duration::from_nanos(1))
    }
}

/// A random number in [0, 1).
fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_random() -> u64 {
        unreachable!("there is no jitter")
    }

    fn rate(share: f64, window: Duration, minimum_calls: u32) -> Rate {
        Rate::new(share).window(window).minimum_calls(minimum_calls)
    }

    #[test]
    fn the_default_is_five_failures_within_60_seconds() {
        // C36
        let policy = CircuitPolicy::new().checked().unwrap();
        assert_eq!(policy, CircuitPolicy::default());
        let failures = policy.failures_rule().unwrap();
        assert_eq!(failures.threshold, 5);
        assert_eq!(failures.within, Duration::from_secs(60));
        assert_eq!(policy.open_for, Duration::from_secs(30));
        assert_eq!((policy.probes, policy.successes_to_close), (1, 1));
    }

    #[test]
    fn any_rule_replaces_the_default_and_rules_add_up() {
        // C36
        let minute = Duration::from_secs(60);
        let consecutive = CircuitPolicy::new().consecutive(3).checked().unwrap();
        assert_eq!((consecutive.failures_rule(), consecutive.consecutive), (None, Some(3)));
        let failing = CircuitPolicy::new().failure_rate(rate(0.5, minute, 10)).checked().unwrap();
        assert_eq!(failing.failures_rule(), None);
        let slow = CircuitPolicy::new().slow_calls(minute, rate(0.5, minute, 10)).checked().unwrap();
        assert_eq!(slow.failures_rule(), None);
        let both = CircuitPolicy::new().failures(7).consecutive(3).checked().unwrap();
        assert_eq!(both.failures_rule().unwrap().threshold, 7);
        assert_eq!(both.failures_rule().unwrap().within, minute);
        assert_eq!(both.consecutive, Some(3));
        let window = CircuitPolicy::new().within(minute / 2).checked().unwrap();
        assert_eq!(window.failures_rule().unwrap().threshold, 5);
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        // C58
        let policy = CircuitPolicy::new;
        let second = Duration::from_secs(1);
        let zero = Duration::ZERO;
        let month = Duration::from_secs(31 * 24 * 60 * 60);
        let refused = [
            ("failures", "0", policy().failures(0)),
            ("failures", "10001", policy().failures(10_001)),
            ("within", "0ns", policy().within(zero)),
            ("within", "2678400s", policy().within(month)),
            ("consecutive", "0", policy().consecutive(0)),
            ("failure_rate.share", "0", policy().failure_rate(rate(0.0, second, 1))),
            ("failure_rate.share", "NaN", policy().failure_rate(rate(f64::NAN, second, 1))),
            ("failure_rate.share", "1.01", policy().failure_rate(rate(1.01, second, 1))),
            ("failure_rate.share", "-0.5", policy().failure_rate(rate(-0.5, second, 1))),
            ("failure_rate.share", "inf", policy().failure_rate(rate(f64::INFINITY, second, 1))),
            ("failure_rate.window", "0ns", policy().failure_rate(rate(0.5, zero, 1))),
            ("failure_rate.minimum_calls", "0", policy().failure_rate(rate(0.5, second, 0))),
            ("slow_calls.share", "NaN", policy().slow_calls(second, rate(f64::NAN, second, 1))),
            ("slow_calls.slower_than", "0ns", policy().slow_calls(zero, rate(0.5, second, 1))),
            ("slow_calls.window", "2678400s", policy().slow_calls(second, rate(0.5, month, 1))),
            ("slow_calls.minimum_calls", "0", policy().slow_calls(second, rate(0.5, second, 0))),
            ("open_for", "0ns", policy().open_for(zero)),
            ("open_for", "2678400s", policy().open_for(month)),
            ("growth", "0.9", policy().growth(0.9)),
            ("growth", "NaN", policy().growth(f64::NAN)),
            ("growth", "inf", policy().growth(f64::INFINITY)),
            ("max_open_for", "1s", policy().max_open_for(second)),
            ("max_open_for", "2678400s", policy().max_open_for(month)),
            ("jitter", "-0.1", policy().jitter(-0.1)),
            ("jitter", "1.1", policy().jitter(1.1)),
            ("jitter", "NaN", policy().jitter(f64::NAN)),
            ("backoff_reset_after", "0ns", policy().backoff_reset_after(zero)),
            ("probes", "0", policy().probes(0)),
            ("probes", "1001", policy().probes(1_001)),
            ("probe_timeout", "0ns", policy().probe_timeout(zero)),
            ("successes_to_close", "0", policy().successes_to_close(0)),
        ];
        for (field, value, policy) in refused {
            let error = policy.checked().expect_err(field);
            assert_eq!((error.field(), error.value()), (field, value), "{error}");
            assert!(error.to_string().starts_with(&format!("circuit breaker: {field} {value} must be ")), "{error}");
        }
    }

    #[test]
    fn the_default_cap_follows_a_longer_open_time() {
        let hour = Duration::from_secs(3600);
        assert_eq!(CircuitPolicy::new().open_for(hour).checked().unwrap().longest_open(), hour);
    }

    #[test]
    fn open_times_grow_to_the_cap() {
        // C36
        let policy = CircuitPolicy::new()
            .open_for(Duration::from_secs(2))
            .growth(2.0)
            .max_open_for(Duration::from_secs(15))
            .checked()
            .unwrap();
        let seconds = |before| policy.open_time(before, no_random).as_secs();
        assert_eq!([0, 1, 2, 3, 4, u32::MAX].map(seconds), [2, 4, 8, 15, 15, 15]);
    }

    #[test]
    fn without_growth_every_open_time_is_exact() {
        let odd = Duration::from_nanos(1_234_567_890_123_457);
        let policy = CircuitPolicy::new().open_for(odd).checked().unwrap();
        assert_eq!(policy.open_time(0, no_random), odd);
        assert_eq!(policy.open_time(u32::MAX, no_random), odd);
    }

    #[test]
    fn jitter_shortens_by_at_most_its_share() {
        // C36
        let ten = Duration::from_secs(10);
        let policy = CircuitPolicy::new().open_for(ten).jitter(0.2).checked().unwrap();
        assert_eq!(policy.open_time(0, || 0), ten);
        let shortest = policy.open_time(0, || u64::MAX);
        assert!(shortest >= Duration::from_secs(8) && shortest < Duration::from_millis(8_001));
        let full = CircuitPolicy::new().open_for(ten).jitter(1.0).checked().unwrap();
        assert!(full.open_time(0, || u64::MAX) > Duration::ZERO);
        assert_eq!(full.open_time(0, || 1 << 63), ten / 2);
    }
}
