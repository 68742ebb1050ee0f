//! The settings of a failover.

use std::{sync::Arc, time::Duration};

use super::{Backoff, Budget, HedgeDelay, Trigger, hedge::Median, invalid::invalid};
use crate::{
    outcome::{Outcome, Statuses, TimeLimits},
    setting::InvalidSetting,
};

/// When further attempts start.
///
/// | mode | backends in use | a request costs |
/// |---|---|---|
/// | [`Race`](Self::Race) | one, and up to 16 of them at a time after a failure | up to one attempt per backend, the primary twice |
/// | [`Sequential`](Self::Sequential) | one at a time | as many attempts as it takes |
/// | [`Hedged`](Self::Hedged) | one, and more if it is slow | an extra attempt for each slow response |
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Mode {
    /// When the first attempt trips, all eligible backends get an attempt at the same time, the primary included, up to
    /// the [width](super::FailoverBuilder::race_width). The default.
    #[default]
    Race,
    /// Attempts run one after the other, each when the one before has tripped.
    Sequential,
    /// The next attempt starts after this delay, or when an attempt trips, whichever is earlier: one more after each
    /// delay, each at a backend without an attempt. The delay stands still while an attempt waits for the caller's
    /// request body.
    ///
    /// | delay | for |
    /// |---|---|
    /// | [`Mode::hedged(Percentile::default())`](super::Percentile) | most services: it adapts to each backend, and the extra requests stay under a share |
    /// | `Mode::hedged(Duration::from_millis(50))` | a delay that is known, and not to change |
    ///
    /// A backend that loses to its hedge is cancelled, so no failure is recorded. Set
    /// [`slow_calls`](crate::CircuitPolicy::slow_calls) below this delay; otherwise a backend that hangs stays primary,
    /// and every request waits for its hedge.
    Hedged(HedgeDelay),
}

impl Mode {
    /// Returns [`Mode::Hedged`] with a fixed delay, or with a [`Percentile`](super::Percentile).
    pub fn hedged(delay: impl Into<HedgeDelay>) -> Self {
        Self::Hedged(delay.into())
    }
}

/// Which requests may be sent again after a failure, or be hedged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Methods {
    /// All requests.
    All,
    /// Requests that have the same effect when they are sent twice: over HTTP `GET`, `HEAD`, `PUT`, `DELETE`, `OPTIONS`
    /// and `TRACE`, and any request with an `Idempotency-Key` that is not empty. Methods are case-sensitive: `get` is
    /// none of them.
    ///
    /// Requests that are not HTTP are all idempotent, as [`Plain`](super::Plain) and its
    /// [`Replay`](crate::body::Replay) pass them on. If some are not, override
    /// [`Replay::is_idempotent`](crate::body::Replay::is_idempotent).
    Idempotent,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) mode: Mode,
    pub(super) race_bound: Duration,
    pub(super) race_width: u32,
    pub(super) timeout: Option<Duration>,
    pub(super) time_limits: TimeLimits,
    pub(super) deadline: Option<Duration>,
    pub(super) ready_within: Option<Duration>,
    pub(super) attempts_per_backend: u32,
    pub(super) same_backend_delay: Duration,
    pub(super) backoff: Option<Backoff>,
    pub(super) retry_after_cap: Duration,
    pub(super) budget: Option<Budget>,
    /// The budget of hedges at a percentile, if no other one is set.
    pub(super) own_hedge_budget: Option<Budget>,
    /// How fast the other backends are, for hedges at a percentile.
    pub(super) median: Median,
    pub(super) triggers: Arc<[Trigger]>,
    pub(super) statuses: Option<Statuses>,
    pub(super) retry_methods: Methods,
    pub(super) hedge_methods: Methods,
    pub(super) pass_through: bool,
    /// Whether the `ReplayLayer` has an idle timeout of zero, which is refused with the rest.
    pub(super) has_zero_idle_timeout: bool,
    /// The rule on rejections after which the same backend is asked again, if there is one.
    pub(super) later: Option<&'static str>,
    /// Why the commit point is refused, if it is.
    pub(super) refused_commit: Option<InvalidSetting>,
}

/// The protocol and the settings of a failover, shared by its requests.
#[derive(Clone, Debug)]
pub(super) struct Policy<H> {
    pub(super) protocol: H,
    pub(super) settings: Arc<Settings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Race,
            // The caller has waited for the first attempt already.
            race_bound: Duration::from_secs(5),
            // Wide enough to find one healthy backend among many failing ones, without a burst at a large fleet.
            race_width: 16,
            // Longer than nearly every call. It keeps a backend that hangs from hanging its requests.
            timeout: Some(Duration::from_secs(60)),
            time_limits: TimeLimits::new(),
            deadline: None,
            ready_within: None,
            // A further attempt is more likely to succeed at another backend.
            attempts_per_backend: 1,
            same_backend_delay: Duration::ZERO,
            backoff: None,
            // As long as a caller may be expected to wait.
            retry_after_cap: Duration::from_secs(60),
            // Serving every request comes first. During an outage, circuit breakers limit the extra attempts.
            budget: None,
            own_hedge_budget: None,
            median: Median::default(),
            triggers: Trigger::defaults().into(),
            statuses: None,
            // Serving every request comes first.
            retry_methods: Methods::All,
            // A hedge is sent although nothing has failed, so it must not have an effect of its own.
            hedge_methods: Methods::Idempotent,
            // The upstream's own response, such as a 429 with its headers, is of more use to the caller than an error.
            pass_through: true,
            has_zero_idle_timeout: false,
            later: None,
            refused_commit: None,
        }
    }
}

impl Settings {
    /// The name of the first trigger that fires on the outcome.
    pub(super) fn fired(&self, outcome: &Outcome) -> Option<&'static str> {
        Trigger::fired(&self.triggers, self.statuses.as_ref(), outcome)
    }

    /// The failure that a response is to the failover, if its status alone moves the request on.
    pub(super) fn on_status(&self, outcome: Outcome, status: Option<u16>) -> Option<Outcome> {
        Trigger::on_status(&self.triggers, self.statuses.as_ref(), outcome, status)
    }

    /// How long `poll_ready` may be pending.
    pub(super) fn ready_within(&self) -> Option<Duration> {
        self.ready_within.or(self.deadline).or(self.timeout)
    }

    /// Whether attempts are measured.
    #[inline]
    pub(super) fn measures(&self) -> bool {
        matches!(self.mode, Mode::Hedged(HedgeDelay::At(_)))
    }

    /// The budget that limits hedges. Every request adds its share to it.
    #[inline]
    pub(super) fn hedge_budget(&self) -> Option<&Budget> {
        self.budget.as_ref().or(self.own_hedge_budget.as_ref())
    }

    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        let positive = [
            ("race_bound", Some(self.race_bound)),
            ("timeout", self.timeout),
            ("deadline", self.deadline),
            ("ready_within", self.ready_within),
            ("upload_idle_timeout", self.has_zero_idle_timeout.then_some(Duration::ZERO)),
        ];
        for (field, value) in positive {
            if value.is_some_and(|value| value.is_zero()) {
                return Err(invalid(field, "0ns", "must be longer than zero"));
            }
        }
        if !(1..=100).contains(&self.attempts_per_backend) {
            return Err(invalid("attempts_per_backend", self.attempts_per_backend, "must be from 1 to 100"));
        }
        if let Mode::Hedged(delay) = self.mode {
            delay.check(self.deadline)?;
        }
        if let Some(statuses) = self.statuses
            && !self.triggers.iter().any(Trigger::is_status)
        {
            let reason = "need the trigger `status`, which is not among the triggers";
            return Err(invalid("statuses", format_args!("{statuses:?}"), reason));
        }
        if let Some(timeout) = self.timeout {
            let limits = [("head", self.time_limits.head), ("first_byte", self.time_limits.first_byte)];
            let all = limits.into_iter().chain([("first_content", self.time_limits.first_content)]);
            if let Some((field, limit)) =
                all.filter_map(|(field, limit)| Some((field, limit?))).find(|it| it.1 > timeout)
            {
                let reason = format!("must be at most as long as the timeout of an attempt, {timeout:?}");
                return Err(invalid(field, format_args!("{limit:?}"), reason));
            }
        }
        if let Some(name) = self.later
            && (self.mode != Mode::Sequential || self.attempts_per_backend < 2)
        {
            let reason = "is followed by the same backend, which needs the mode sequential and 2 attempts_per_backend";
            return Err(invalid("rejection", format_args!("`{name}`"), reason));
        }
        if let Some(refused) = &self.refused_commit {
            return Err(refused.clone());
        }
        self.time_limits.checked(|field, value, reason| invalid(field, format_args!("{value:?}"), reason))?;
        if self.race_width == 0 {
            return Err(invalid("race_width", 0, "must be at least 1"));
        }
        self.backoff.as_ref().map_or(Ok(()), Backoff::check)?;
        self.budget.as_ref().map_or(Ok(()), Budget::check)
    }
}
