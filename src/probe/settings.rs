//! When backends are probed, and what follows from it.

use std::{fmt, sync::Arc, time::Duration};

use super::gate::{AnyGate, Gate};
use crate::setting::{InvalidSetting, share_reason};

/// Which backends are probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// Those that are out for a reason that a probe can end: an open circuit, failing probes, or the report of another
    /// replica. Probes then only shorten outages; a probe that fails by mistake harms no backend.
    #[default]
    Out,
    /// All. A backend whose probes fail gets no requests until they succeed again.
    All,
}

/// What a good probe makes of an open circuit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnSuccess {
    /// Half-open: a few requests are sent as probes, and all once they succeed.
    #[default]
    HalfOpen,
    /// Closed: all requests are sent at once. For probes that tell as much as a request does.
    Close,
}

/// Settings of active probes, and what a probe does. For [`Fleet::probe`](crate::Fleet::probe), which checks them.
///
/// ```
/// # #[cfg(feature = "http")] {
/// # use std::time::Duration;
/// use tower_fleet::probe::{HttpProbe, Probes, Scope};
///
/// # fn probes() -> Result<Probes<HttpProbe<String>>, tower_fleet::InvalidSetting> {
/// let probes = Probes::new(HttpProbe::get("/health")?).interval(Duration::from_secs(5)).scope(Scope::All);
/// # Ok(probes)
/// # }
/// # probes().unwrap();
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing is probed until a fleet gets the probes and their future is spawned"]
pub struct Probes<P> {
    pub(super) probe: P,
    pub(super) rules: Rules,
}

/// The settings, without the probe.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) interval: Duration,
    pub(super) jitter: f64,
    pub(super) timeout: Duration,
    pub(super) unhealthy_after: u32,
    pub(super) healthy_after: u32,
    pub(super) max_concurrent: usize,
    pub(super) scope: Scope,
    pub(super) on_success: OnSuccess,
    pub(super) gate: Option<Arc<dyn AnyGate>>,
}

impl<P> Probes<P> {
    /// Creates probes with the default settings.
    pub fn new(probe: P) -> Self {
        let rules = Rules {
            // Those of Envoy, HAProxy and Kubernetes are 2 to 60 s: often enough to notice a recovery soon, and a
            // thousandth of a backend's requests.
            interval: Duration::from_secs(10),
            // Two replicas that were started together drift apart within a few intervals.
            jitter: 0.2,
            timeout: Duration::from_secs(1),
            // As in Kubernetes: one lost probe is chance, three are not.
            unhealthy_after: 3,
            healthy_after: 1,
            // Within the default limit of 1,024 open files.
            max_concurrent: 256,
            scope: Scope::Out,
            on_success: OnSuccess::HalfOpen,
            gate: None,
        };
        Self { probe, rules }
    }

    /// Sets the mean time between two probes of a backend, from start to start. Default 10 s; at least 10 ms.
    ///
    /// The first probe after an opening comes within a tenth of it.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.rules.interval = interval;
        self
    }

    /// Sets by which share each wait may be shorter or longer than the interval, from 0 to 0.5. Default 0.2.
    pub fn jitter(mut self, share: f64) -> Self {
        self.rules.jitter = share;
        self
    }

    /// Limits the time of one probe, its wait for a ready service included. Default 1 s.
    ///
    /// A probe that takes longer fails. One backend is never probed twice at a time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.rules.timeout = timeout;
        self
    }

    /// Sets how many probes in a row must fail until the backend fails. Default 3; at least 1.
    ///
    /// Under [`Scope::All`], the backend then gets no requests.
    pub fn unhealthy_after(mut self, failures: u32) -> Self {
        self.rules.unhealthy_after = failures;
        self
    }

    /// Sets how many probes in a row must succeed until the backend is well. Default 1, which is the minimum.
    pub fn healthy_after(mut self, successes: u32) -> Self {
        self.rules.healthy_after = successes;
        self
    }

    /// Limits how many probes run at a time. Default 256; at least 1.
    ///
    /// Further ones wait for their turn, the most overdue first.
    pub fn max_concurrent(mut self, probes: usize) -> Self {
        self.rules.max_concurrent = probes;
        self
    }

    /// Sets which backends are probed. Default [`Scope::Out`].
    pub fn scope(mut self, scope: Scope) -> Self {
        self.rules.scope = scope;
        self
    }

    /// Sets what a good probe makes of an open circuit. Default [`OnSuccess::HalfOpen`].
    pub fn on_success(mut self, on_success: OnSuccess) -> Self {
        self.rules.on_success = on_success;
        self
    }

    /// Asks a gate before each probe of a backend that is out. Default none: every probe is sent.
    pub fn gate(mut self, gate: impl Gate) -> Self {
        self.rules.gate = Some(Arc::new(gate));
        self
    }
}

#[cfg(feature = "serde")]
impl<P> Probes<P> {
    /// Checks the settings, as [`Fleet::probe`](crate::Fleet::probe) does.
    pub(crate) fn check(&self) -> Result<(), InvalidSetting> {
        self.rules.clone().checked().map(drop)
    }
}

impl Rules {
    /// Returns the settings if all of them make sense, else an error for the first that does not.
    pub(super) fn checked(self) -> Result<Self, InvalidSetting> {
        duration("interval", self.interval, MIN_INTERVAL, "must be at least 10 ms")?;
        // This form refuses NaN too.
        if !(0.0..=MAX_JITTER).contains(&self.jitter) {
            let reason = share_reason(self.jitter, "must be a share from 0 to 0.5");
            return Err(InvalidSetting::of(PART, "jitter", self.jitter, reason));
        }
        duration("timeout", self.timeout, Duration::from_nanos(1), "must be longer than zero")?;
        count("unhealthy_after", self.unhealthy_after as usize, MAX_THRESHOLD)?;
        count("healthy_after", self.healthy_after as usize, MAX_THRESHOLD)?;
        count("max_concurrent", self.max_concurrent, MAX_CONCURRENT)?;
        Ok(self)
    }
}

const PART: &str = "probe";
/// Shorter intervals are load, not probes.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// Longer durations are refused: they are typing errors.
const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Beyond it, some waits would be so short that probes become load.
const MAX_JITTER: f64 = 0.5;
const MAX_THRESHOLD: usize = 1_000;
/// As many connections as a client may have to one address.
const MAX_CONCURRENT: usize = 65_536;

fn duration(field: &'static str, value: Duration, min: Duration, reason: &'static str) -> Result<(), InvalidSetting> {
    let refused = |reason| Err(InvalidSetting::of(PART, field, format_args!("{value:?}"), reason));
    match value {
        _ if value < min => refused(reason),
        _ if value > MAX_DURATION => refused("must be at most 30 days"),
        _ => Ok(()),
    }
}

fn count(field: &'static str, value: usize, max: usize) -> Result<(), InvalidSetting> {
    match (1..=max).contains(&value) {
        true => Ok(()),
        false => Err(InvalidSetting::of(PART, field, value, format!("must be from 1 to {max}"))),
    }
}

/// Does not show the probe, which may hold credentials.
impl<P> fmt::Debug for Probes<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = &self.rules;
        f.debug_struct("Probes")
            .field("interval", &rules.interval)
            .field("jitter", &rules.jitter)
            .field("timeout", &rules.timeout)
            .field("unhealthy_after", &rules.unhealthy_after)
            .field("healthy_after", &rules.healthy_after)
            .field("max_concurrent", &rules.max_concurrent)
            .field("scope", &rules.scope)
            .field("on_success", &rules.on_success)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C58, C63
    #[test]
    fn invalid_settings_are_refused_by_name() {
        let good = || Probes::new(());
        assert!(good().rules.checked().is_ok());
        let month = Duration::from_secs(30 * 24 * 60 * 60);
        let extreme = good().interval(month).timeout(month).jitter(0.5).unhealthy_after(1_000).max_concurrent(65_536);
        assert!(extreme.rules.checked().is_ok());
        for (probes, expected) in [
            (good().interval(Duration::ZERO), "probe: interval 0ns must be at least 10 ms"),
            (good().interval(Duration::MAX), "must be at most 30 days"),
            (good().timeout(Duration::ZERO), "probe: timeout 0ns must be longer than zero"),
            (good().timeout(month * 2), "must be at most 30 days"),
            (good().jitter(f64::NAN), "probe: jitter NaN must be a share from 0 to 0.5"),
            (good().jitter(-0.1), "probe: jitter -0.1 must be"),
            (good().jitter(20.0), "probe: jitter 20 must be a share from 0 to 0.5; for 20 %, write 0.2"),
            (good().unhealthy_after(0), "probe: unhealthy_after 0 must be from 1 to 1000"),
            (good().healthy_after(1_001), "probe: healthy_after 1001 must be from 1 to 1000"),
            (good().max_concurrent(0), "probe: max_concurrent 0 must be from 1 to 65536"),
            (good().max_concurrent(usize::MAX), "must be from 1 to 65536"),
        ] {
            let error = probes.rules.checked().map(drop).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
