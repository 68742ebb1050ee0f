//! How a fleet shares what it learns of its backends.

use std::time::Duration;

use crate::setting::InvalidSetting;

/// How a fleet shares what it learns, for [`Fleet::share`](crate::Fleet::share).
///
/// ```
/// # use std::time::Duration;
/// # use tower_fleet::replicas::{MemoryExchange, Share};
/// let share = Share::new(MemoryExchange::new()).max_hint(Duration::from_secs(60)).overrides(false);
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing until a fleet is shared by it"]
pub struct Share<E> {
    pub(super) exchange: E,
    pub(super) settings: Settings,
}

/// The checked settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) max_hint: Duration,
    pub(super) lease: Duration,
    pub(super) resync_every: Duration,
    pub(super) timeout: Duration,
    pub(super) overrides: bool,
}

impl<E> Share<E> {
    /// Shares by this exchange: `ValkeyStore` (feature `valkey`), or one of your own.
    pub fn new(exchange: E) -> Self {
        let settings = Settings {
            // Several times the open time of a circuit that has opened a few times.
            max_hint: Duration::from_secs(300),
            // Time for a request to arrive and be the probe, and for its response.
            lease: Duration::from_secs(5),
            resync_every: Duration::from_secs(15),
            // A server in the same region answers in a few milliseconds.
            timeout: Duration::from_secs(1),
            overrides: true,
        };
        Self { exchange, settings }
    }

    /// Limits the time for which the reports of other replicas keep a backend out. Default 5 min; from 1 s to 1 h.
    ///
    /// It is a limit on several reports together, and time without them counts against it. After it, the backend is probed
    /// here, and reports on it are ignored for the same time again. So an exchange that is broken, or hostile, keeps a
    /// backend out for half of the time at most.
    pub fn max_hint(mut self, time: Duration) -> Self {
        self.settings.max_hint = time;
        self
    }

    /// Sets for how long one replica may probe a backend before another one may. Default 5 s; from 100 ms to 1 min.
    pub fn lease(mut self, time: Duration) -> Self {
        self.settings.lease = time;
        self
    }

    /// Sets how often all reports are read again, and those of this replica repeated. Default 15 s; from 100 ms to 10 min.
    pub fn resync_every(mut self, time: Duration) -> Self {
        self.settings.resync_every = time;
        self
    }

    /// Limits the time of each request to the exchange, which is lost beyond it. Default 1 s; from 10 ms to 30 s.
    ///
    /// The exchange is checked once in this time too. Requests to the backends never wait for it.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.settings.timeout = time;
        self
    }

    /// Sets whether statuses and forced circuits are shared, of which the latest counts. Default true.
    ///
    /// Overrides of other replicas keep at most half of the backends out.
    pub fn overrides(mut self, shared: bool) -> Self {
        self.settings.overrides = shared;
        self
    }
}

#[cfg(all(feature = "serde", feature = "valkey"))]
impl<E> Share<E> {
    /// Checks the settings, as [`Fleet::share`](crate::Fleet::share) does.
    pub(crate) fn check(&self) -> Result<(), InvalidSetting> {
        self.settings.checked().map(drop)
    }
}

impl Settings {
    pub(super) fn checked(self) -> Result<Self, InvalidSetting> {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let ranges = [
            ("max_hint", self.max_hint, s(1)..=s(3600), "must be from 1 s to 1 h"),
            ("lease", self.lease, ms(100)..=s(60), "must be from 100 ms to 1 min"),
            ("resync_every", self.resync_every, ms(100)..=s(600), "must be from 100 ms to 10 min"),
            ("timeout", self.timeout, ms(10)..=s(30), "must be from 10 ms to 30 s"),
        ];
        match ranges.into_iter().find(|(_, time, range, _)| !range.contains(time)) {
            Some((field, time, _, reason)) => Err(InvalidSetting::of("share", field, format_args!("{time:?}"), reason)),
            None => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C63
    #[test]
    fn an_invalid_time_is_refused_by_name() {
        let share = || Share::new(());
        let refused = |share: Share<()>| share.settings.checked().map(drop).unwrap_err().to_string();
        let day = Duration::from_secs(86_400);
        assert_eq!(refused(share().max_hint(Duration::ZERO)), "share: max_hint 0ns must be from 1 s to 1 h");
        assert_eq!(refused(share().max_hint(day)), "share: max_hint 86400s must be from 1 s to 1 h");
        assert_eq!(refused(share().lease(Duration::ZERO)), "share: lease 0ns must be from 100 ms to 1 min");
        assert!(refused(share().lease(Duration::MAX)).ends_with("must be from 100 ms to 1 min"));
        assert_eq!(refused(share().resync_every(day)), "share: resync_every 86400s must be from 100 ms to 10 min");
        assert_eq!(refused(share().timeout(day)), "share: timeout 86400s must be from 10 ms to 30 s");
        assert!(share().settings.checked().is_ok());
    }
}
