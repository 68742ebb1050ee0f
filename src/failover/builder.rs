//! The builder of the failover layer, and the constructors of both.

#[cfg(feature = "http")]
mod http;

use std::{fmt, sync::Arc, time::Duration};

use super::{
    Backoff, Budget, FailoverLayer, HedgeDelay, Http, Methods, Mode, Plain, Trigger,
    settings::{Policy, Settings},
};
use crate::{
    outcome::TimeLimits,
    pick::{AnyStrategy, Primary, Strategy, StrategyName},
    setting::InvalidSetting,
};

/// Builds a [`FailoverLayer`] with settings other than the defaults.
///
/// The methods may be called in any order. If a setting is set twice, the last value counts.
///
/// ```
/// # #[cfg(feature = "http")] {
/// # use std::time::Duration;
/// use tower_fleet::{FailoverLayer, Mode};
///
/// let layer = FailoverLayer::builder()
///     .mode(Mode::hedged(Duration::from_millis(50)))
///     .deadline(Duration::from_secs(10))
///     .build()?;
/// # let _ = layer;
/// # }
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
#[must_use = "a builder does nothing until it is built"]
#[derive(Clone)]
pub struct FailoverBuilder<H = Http> {
    pub(super) protocol: H,
    pub(super) strategy: AnyStrategy,
    pub(super) settings: Settings,
    /// Why there is no strategy of the name that was set.
    refused: Option<InvalidSetting>,
}

#[cfg(feature = "http")]
impl FailoverLayer {
    /// Creates a layer for HTTP and gRPC with the defaults: when the primary fails, all backends race for the response.
    pub fn new() -> Self {
        FailoverBuilder::new(Http::new()).into_layer()
    }

    /// Returns a builder of a layer for HTTP and gRPC.
    pub fn builder() -> FailoverBuilder {
        FailoverBuilder::new(Http::new())
    }
}

#[cfg(feature = "http")]
impl Default for FailoverLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl FailoverLayer<Plain> {
    /// Returns a builder of a layer for services that are not HTTP: requests are cloned, and errors trip.
    pub fn plain() -> FailoverBuilder<Plain> {
        FailoverBuilder::new(Plain::default())
    }
}

impl<H> FailoverLayer<H> {
    /// Returns a builder with the settings of this layer.
    pub fn into_builder(self) -> FailoverBuilder<H> {
        let Self { strategy, policy: Policy { protocol, settings } } = self;
        FailoverBuilder { protocol, strategy, settings: Arc::unwrap_or_clone(settings), refused: None }
    }

    /// Returns a builder of a layer for another protocol: one that copies requests its own way
    /// ([`Replay`](crate::body::Replay)), or that has a commit point of its own ([`Commit`](super::Commit)).
    pub fn with_protocol(protocol: H) -> FailoverBuilder<H> {
        FailoverBuilder::new(protocol)
    }
}

impl<H> FailoverBuilder<H> {
    pub(super) fn new(protocol: H) -> Self {
        Self { protocol, strategy: AnyStrategy::new(Primary), settings: Settings::default(), refused: None }
    }

    /// Sets the strategy that chooses the backend of the first attempt. Default [`Primary`]: the first backend of the
    /// highest tier.
    pub fn strategy(mut self, strategy: impl Strategy) -> Self {
        (self.strategy, self.refused) = (AnyStrategy::new(strategy), None);
        self
    }

    /// Sets the strategy that chooses the backend of the first attempt, by its name.
    ///
    /// [`StrategyName::Failover`] also sets [`Mode::Race`], and [`StrategyName::WeightedFailover`] sets
    /// [`Mode::Sequential`]; the other names do not change the mode. [`StrategyName::Hash`] is refused when the layer is
    /// built, since a hash needs a key: set [`strategy`](Self::strategy).
    pub fn strategy_named(mut self, strategy: StrategyName) -> Self {
        match AnyStrategy::try_from(strategy) {
            Ok(named) => (self.strategy, self.refused) = (named, None),
            Err(refused) => self.refused = Some(InvalidSetting::in_part("failover", refused)),
        }
        match strategy {
            StrategyName::Failover => self.settings.mode = Mode::Race,
            StrategyName::WeightedFailover => self.settings.mode = Mode::Sequential,
            _ => {}
        }
        self
    }

    /// Sets when further attempts start. Default [`Mode::Race`].
    pub fn mode(mut self, mode: Mode) -> Self {
        self.settings.mode = mode;
        self
    }

    /// Limits the time of a race, from its start until a response is final. Default 5 s. It stands still while an
    /// attempt waits for the caller's request body.
    pub fn race_bound(mut self, bound: Duration) -> Self {
        self.settings.race_bound = bound;
        self
    }

    /// Limits how many attempts of a race run at a time. Default 16; when one of them fails, the attempt at the next
    /// backend starts.
    pub fn race_width(mut self, width: u32) -> Self {
        self.settings.race_width = width;
        self
    }

    /// Limits the time of one attempt, from the moment the backend is ready until the response is final. Default 60 s;
    /// `None` sets no limit. A backend's [own timeout](crate::Backend::timeout) takes precedence.
    ///
    /// The time stands still while the attempt waits for the caller's request body, which has a limit of its own:
    /// [`ReplayLayer::idle_timeout`](crate::body::ReplayLayer::idle_timeout).
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.timeout = timeout.into();
        self
    }

    /// Limits the time of the parts of a response: to its head, its first byte, its first content, and between frames.
    /// Default none. A backend's [own limits](crate::Backend::time_limits) take precedence, each for itself.
    pub fn time_limits(mut self, limits: TimeLimits) -> Self {
        self.settings.time_limits = limits;
        self
    }

    /// Limits the time of the whole request, until a response is final: the upload of its body included, however slow
    /// the caller is. The attempts share that time, and none starts after it. Default no limit.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = Some(deadline);
        self
    }

    /// Limits how long `poll_ready` waits for a backend while all that may get the first attempt are pending. After
    /// that the door is ready, and the call searches further: in all tiers, until the deadline. Default the
    /// [`deadline`](Self::deadline), or without one the [`timeout`](Self::timeout).
    ///
    /// Without a deadline, a call waits for as long as all backends of all tiers are pending.
    pub fn ready_within(mut self, time: Duration) -> Self {
        self.settings.ready_within = Some(time);
        self
    }

    /// Limits how many attempts one request makes at one backend, from 1 to 100. Default 1.
    ///
    /// After a timeout none follows at the same backend, unless the fleet has no other one. A race is not affected: it
    /// makes one attempt at each backend, which is the second one at the primary.
    pub fn attempts_per_backend(mut self, attempts: u32) -> Self {
        self.settings.attempts_per_backend = attempts;
        self
    }

    /// Sets the pause before a further attempt at the same backend, under [`Mode::Sequential`]. Default no pause. A
    /// [`backoff`](Self::backoff) replaces it.
    pub fn same_backend_delay(mut self, delay: Duration) -> Self {
        self.settings.same_backend_delay = delay;
        self
    }

    /// Sets the pauses before further attempts under [`Mode::Sequential`], at other backends too. Default no pauses.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = Some(backoff);
        self
    }

    /// Sets the longest time that a request waits under [`Mode::Sequential`] for a backend that named it, with
    /// `Retry-After` for example, and that is the last one to attempt. Default 60 s. If a backend names a longer one, the
    /// request is not sent to it again.
    pub fn retry_after_cap(mut self, cap: Duration) -> Self {
        self.settings.retry_after_cap = cap;
        self
    }

    /// Limits the extra attempts of all requests together: those after a failure, and hedges. Default no limit, but for
    /// hedges at a [`Percentile`](super::Percentile).
    pub fn budget(mut self, budget: Budget) -> Self {
        self.settings.budget = Some(budget);
        self
    }

    /// Sets which failures move a request on to another backend, in place of the [defaults](Trigger::defaults). With an
    /// empty list, no failure does.
    pub fn triggers(mut self, triggers: impl IntoIterator<Item = Trigger>) -> Self {
        self.settings.triggers = triggers.into_iter().collect();
        self
    }

    /// Sets which requests may be sent again after a failure. Default [`Methods::All`]: **a `POST` too**.
    ///
    /// With [`Methods::Idempotent`], any other request is sent again only if the backend cannot have begun to work on
    /// it: the connection was refused, or the request was shed before it was sent. Requests that are not HTTP are all
    /// idempotent, unless [`Replay::is_idempotent`](crate::body::Replay::is_idempotent) denies it.
    pub fn retry_methods(mut self, methods: Methods) -> Self {
        self.settings.retry_methods = methods;
        self
    }

    /// Sets which requests may be hedged under [`Mode::Hedged`]: sent to a second backend although nothing has failed.
    /// Default [`Methods::Idempotent`]: **not a `POST`**, unless it has an `Idempotency-Key`. gRPC requests are
    /// `POST`s. **Requests that are not HTTP are all hedged**, unless
    /// [`Replay::is_idempotent`](crate::body::Replay::is_idempotent) denies it.
    pub fn hedge_methods(mut self, methods: Methods) -> Self {
        self.settings.hedge_methods = methods;
        self
    }

    /// Returns [`ErrorKind::Exhausted`](super::ErrorKind::Exhausted) when all attempts failed, with the ledger of the
    /// attempts, even if there is a response to pass through. By default, the last response is passed through.
    pub fn error_when_exhausted(mut self) -> Self {
        self.settings.pass_through = false;
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// Returns the first setting whose value is out of its range.
    pub fn build(self) -> Result<FailoverLayer<H>, InvalidSetting> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        self.settings.check()?;
        Ok(self.into_layer())
    }

    pub(super) fn into_layer(self) -> FailoverLayer<H> {
        let Self { protocol, strategy, mut settings, .. } = self;
        settings.own_hedge_budget = match settings.mode {
            Mode::Hedged(HedgeDelay::At(percentile)) if settings.budget.is_none() => Some(percentile.budget()),
            _ => None,
        };
        FailoverLayer { strategy, policy: Policy { protocol, settings: Arc::new(settings) } }
    }
}

impl<H> fmt::Debug for FailoverBuilder<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailoverBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
