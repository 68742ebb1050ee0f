//! The settings of the detection of outliers.

use std::time::Duration;

use super::super::{
    check::Part,
    share::{FULL_SHARE, share_of},
};
use crate::setting::InvalidSetting;

/// Finds backends that fail more, or respond more slowly, than the others of their tier, and sends them less traffic.
///
/// A circuit compares a backend with fixed numbers, an outlier is found by comparison with its peers: the backends of
/// its tier that had enough calls in the same interval. When all of them fail or are slow, the cause is elsewhere, and
/// none is an outlier. There are three rules:
///
/// | rule | a backend is an outlier if | default |
/// |---|---|---|
/// | [`failure_share`](Self::failure_share) | its share of failed calls is higher, and at least twice the median | 0.5 |
/// | [`success_rate`](Self::success_rate) | its share of successful calls is this many standard deviations under the mean of its peers, and at least 0.05 | 1.9 |
/// | [`latency`](Self::latency) | its time to the first byte is this many times the median | 3 |
///
/// A rule is met only if chance does not explain it: the bounds of the shares are Wilson's, and the difference of the
/// latencies is three standard errors. The latency of a backend is the geometric mean of its calls, so that one call
/// of a hundred that takes a hundred times as long changes it by five percent. Cancelled calls, those with an unknown
/// outcome, and the time of failed ones are not counted.
///
/// The answer is gradual. With each interval in which the backend is an outlier, it gets less traffic; then it is
/// ejected for some time. With each interval in which it is none, it gets more:
///
/// ```text
///  share 1 ──► 1/2 ──► 1/4 ──► 0.1 ──► ejected for 30 s, 60 s, 90 s …
///        1 ◄── 1/2 ◄── 1/4 ◄── 0.1 ◄──────┘
/// ```
///
/// A backend without enough calls is neither. It gets more traffic after two intervals, so that every backend is back
/// after some time even if there are no calls. [`max_ejected`](crate::fleet::FleetBuilder::max_ejected) limits how many
/// backends are ejected, by circuits and as outliers together. And no outlier is ejected if less than half of its tier
/// would remain. It then keeps the smallest share.
///
/// Evaluated once per interval by the call that ends first after it. The rules on the success rate and the numbers of
/// calls are Envoy's, also found in gRPC (A50); the comparison of latencies, chance and shares are not.
///
/// ```
/// # use std::time::Duration;
/// # use tower_fleet::{Backend, Fleet, fleet::Outliers};
/// # let a = ();
/// let outliers = Outliers::new().latency(2.0).success_rate(None).interval(Duration::from_secs(5));
/// let fleet = Fleet::plain().backend(Backend::new("a", a)).outliers(outliers).max_ejected(0.3).build()?;
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "does nothing until a fleet is built with it"]
pub struct Outliers {
    pub(super) interval: Duration,
    minimum_calls: u32,
    pub(super) minimum_hosts: u32,
    pub(super) failure_share: Option<f64>,
    pub(super) success_rate: Option<f64>,
    pub(super) latency: Option<f64>,
    pub(super) latency_difference: Duration,
    pub(super) latency_floor: Duration,
    floor: f64,
    pub(super) eject_for: Duration,
    pub(super) max_eject_for: Duration,
}

impl Default for Outliers {
    fn default() -> Self {
        Self {
            // That of Envoy and gRPC, like the time of an ejection.
            interval: Duration::from_secs(10),
            // Of 50 calls, chance makes hardly a share of 5 % look like one of 20 %.
            minimum_calls: 50,
            // The median of two is one of them.
            minimum_hosts: 3,
            // Of one backend that fails most of its calls and is not the only one, a circuit knows more.
            failure_share: Some(0.5),
            // That of Envoy and gRPC.
            success_rate: Some(1.9),
            // Twice the latency is common: other hardware, another zone.
            latency: Some(3.0),
            latency_difference: Duration::from_millis(5),
            latency_floor: Duration::from_millis(10),
            // Enough calls to notice that the backend has recovered.
            floor: 0.1,
            eject_for: Duration::from_secs(30),
            max_eject_for: Duration::from_secs(300),
        }
    }
}

impl Outliers {
    /// Creates the default settings: all three rules, evaluated every 10 s.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the interval: how often calls are evaluated. Default 10 s.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets how many calls of an interval a backend must have to be compared, from 5. Default 50.
    ///
    /// A backend with a share of 1/4 needs a quarter of them, but at least 5.
    pub fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = calls;
        self
    }

    /// Sets how many backends of a tier must have that many calls, from 3. Default 3. With fewer, none is an outlier.
    pub fn minimum_hosts(mut self, hosts: u32) -> Self {
        self.minimum_hosts = hosts;
        self
    }

    /// Sets the share of failed calls above which a backend is an outlier, over 0 and under 1. Default 0.5; `None`
    /// switches the rule off.
    pub fn failure_share(mut self, share: impl Into<Option<f64>>) -> Self {
        self.failure_share = share.into();
        self
    }

    /// Sets how many standard deviations the success rate of an outlier is under the mean of its peers, from 1. Default
    /// 1.9; `None` switches the rule off.
    pub fn success_rate(mut self, deviations: impl Into<Option<f64>>) -> Self {
        self.success_rate = deviations.into();
        self
    }

    /// Sets how many times the median of the tier the time to the first byte of an outlier is, from 1. Default 3;
    /// `None` switches the rule off.
    pub fn latency(mut self, factor: impl Into<Option<f64>>) -> Self {
        self.latency = factor.into();
        self
    }

    /// Sets by how much an outlier is slower than the median of the tier, at least. Default 5 ms.
    pub fn latency_difference(mut self, difference: Duration) -> Self {
        self.latency_difference = difference;
        self
    }

    /// Sets how slow an outlier is, at least, however fast its peers are. Default 10 ms.
    pub fn latency_floor(mut self, floor: Duration) -> Self {
        self.latency_floor = floor;
        self
    }

    /// Sets the smallest share of an outlier before it is ejected, over 0 and up to 1. Default 0.1.
    pub fn floor(mut self, share: f64) -> Self {
        self.floor = share;
        self
    }

    /// Sets how long an outlier is ejected. Twice as long the second time, three times the third time, and so on; each
    /// interval in which it is no outlier makes one less of them. Default 30 s.
    pub fn eject_for(mut self, time: Duration) -> Self {
        self.eject_for = time;
        self
    }

    /// Sets how long an outlier is ejected at most. Default 5 min.
    pub fn max_eject_for(mut self, time: Duration) -> Self {
        self.max_eject_for = time;
        self
    }

    /// Returns the settings if all of them make sense, else an error for the first that does not.
    pub(crate) fn checked(self) -> Result<Self, InvalidSetting> {
        let part = Part("outliers");
        part.duration("interval", self.interval)?;
        part.count("minimum_calls", self.minimum_calls, FEWEST_CALLS, 1 << 20)?;
        part.count("minimum_hosts", self.minimum_hosts, 3, u32::MAX)?;
        if let Some(share) = self.failure_share {
            part.share("failure_share", share)?;
            if share >= 1.0 {
                return Err(part.refused("failure_share", share, "must be less than 1, or no share is above it"));
            }
        }
        for (field, factor) in [("success_rate", self.success_rate), ("latency", self.latency)] {
            if let Some(factor) = factor
                && !(1.0..=1_000.0).contains(&factor)
            {
                return Err(part.refused(field, factor, "must be a number from 1 to 1000"));
            }
        }
        if self.failure_share.or(self.success_rate).or(self.latency).is_none() {
            return Err(part.refused("rules", "none", "must be at least one of failure_share, success_rate, latency"));
        }
        part.duration("latency_difference", self.latency_difference)?;
        part.duration("latency_floor", self.latency_floor)?;
        part.share("floor", self.floor)?;
        part.duration("eject_for", self.eject_for)?;
        part.duration("max_eject_for", self.max_eject_for)?;
        if self.max_eject_for < self.eject_for {
            let value = format!("{:?}", self.max_eject_for);
            return Err(part.refused("max_eject_for", value, "must be at least as long as eject_for"));
        }
        Ok(self)
    }

    /// Returns how often calls are evaluated.
    pub(crate) fn every(&self) -> Duration {
        self.interval
    }

    /// Returns how many levels of less traffic there are before a backend is ejected.
    pub(super) fn levels(&self) -> u8 {
        let halves = (1..=16).take_while(|halves| 0.5_f64.powi(*halves) >= 2.0 * self.floor).count();
        // The last one is the floor. With a floor of 1 there is none.
        halves as u8 + u8::from(self.floor < 1.0)
    }

    /// Returns the share of a level, counted from 0.
    pub(super) fn share(&self, level: u8) -> u32 {
        match level {
            0 => FULL_SHARE,
            _ if level >= self.levels() => share_of(self.floor),
            _ => FULL_SHARE >> level,
        }
    }

    /// Returns how many calls a backend with this share must have to be compared.
    pub(super) fn calls_for(&self, share: u32) -> u32 {
        let calls = u64::from(self.minimum_calls) * u64::from(share);
        (calls.div_ceil(u64::from(FULL_SHARE)) as u32).max(FEWEST_CALLS)
    }
}

/// The fewest calls that are compared.
const FEWEST_CALLS: u32 = 5;
