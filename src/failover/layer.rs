use std::{fmt, sync::Arc, time::Duration};

use tower_layer::Layer;

#[cfg(feature = "http")]
use super::CommitPoint;
use super::{
    Backoff, Budget, Failover, Http, Mode, Plain, Trigger,
    settings::{Run, Settings},
};
#[cfg(feature = "http")]
use crate::{body::ReplayLayer, outcome::Statuses};
use crate::{
    fleet::Fleet,
    pick::{AnyStrategy, Primary, Strategy, StrategyName},
    setting::InvalidSetting,
};

/// Puts a [`Failover`] on a [`Fleet`]. See [the module](super).
///
/// `H` are the terms on which requests are sent again and responses are the answer. What is a failure is decided by the
/// classifier of the fleet. A value that makes no sense is refused by [`checked`](Self::checked); a door that is made with one unchecked
/// answers every call with the same error.
#[must_use = "a layer does nothing until it is given a fleet"]
#[derive(Clone)]
pub struct FailoverLayer<H = Http> {
    terms: H,
    strategy: AnyStrategy,
    settings: Settings,
}

#[cfg(feature = "http")]
impl FailoverLayer {
    /// For HTTP and gRPC: on 429, 5xx, a timeout or a network error the others race for the answer.
    pub fn new() -> Self {
        Self::with_terms(Http::new())
    }
}

#[cfg(feature = "http")]
impl Default for FailoverLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl FailoverLayer<Plain> {
    /// For services that are not HTTP: requests are cloned, errors trip.
    pub fn plain() -> Self {
        Self::with_terms(Plain::default())
    }
}

impl<H> FailoverLayer<H> {
    /// On terms of your own.
    pub fn with_terms(terms: H) -> Self {
        Self { terms, strategy: AnyStrategy::new(Primary), settings: Settings::default() }
    }
}

impl<H> FailoverLayer<H> {
    /// Which backend is tried first. Default [`Primary`]: the first of the highest tier.
    pub fn strategy(mut self, strategy: impl Strategy) -> Self {
        self.strategy = AnyStrategy::new(strategy);
        self
    }

    /// Which backend is tried first, by the name of the strategy. `failover` races from the primary, `weighted_failover`
    /// goes on sequentially in weighted order; the others name the first and leave the mode as it is.
    pub fn named(mut self, strategy: StrategyName) -> Self {
        self.strategy = strategy.into();
        match strategy {
            StrategyName::Failover => self.settings.mode = Mode::Race,
            StrategyName::WeightedFailover => self.settings.mode = Mode::Sequential,
            _ => {}
        }
        self
    }

    /// When the next attempt starts. Default [`Mode::Race`].
    pub fn mode(mut self, mode: Mode) -> Self {
        self.settings.mode = mode;
        self
    }

    /// How long a race may take until its winner commits. Default 5 s.
    pub fn race_bound(mut self, bound: Duration) -> Self {
        self.settings.race_bound = bound;
        self
    }

    /// How many backends a race asks at once. Default 16; as some fail, the next in line are asked.
    pub fn race_width(mut self, width: u32) -> Self {
        self.settings.race_width = width;
        self
    }

    /// How long one attempt may take, for backends without a timeout of their own, from when the backend is ready until
    /// its response is the answer. Default none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// How long all of it may take: attempts get their share of what is left, and none starts without. Default none.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = Some(deadline);
        self
    }

    /// How often one backend is asked for one request, in all; 1 to 100. Default 1. A race asks everybody once.
    pub fn attempts_per_backend(mut self, attempts: u32) -> Self {
        self.settings.attempts_per_backend = attempts;
        self
    }

    /// The pause before the same backend is asked again. Default none.
    pub fn same_backend_delay(mut self, delay: Duration) -> Self {
        self.settings.same_backend_delay = delay;
        self
    }

    /// Pauses before each further attempt of a sequence, another backend's too. A `Retry-After` lengthens them.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = Some(backoff);
        self
    }

    /// The longest `Retry-After` that is waited for. Default 60 s.
    pub fn retry_after_cap(mut self, cap: Duration) -> Self {
        self.settings.retry_after_cap = cap;
        self
    }

    /// Bounds the extra attempts of all requests together. Default none.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.settings.budget = Some(budget);
        self
    }

    /// What moves a request on; replaces the [defaults](Trigger::defaults). With none, nothing does.
    pub fn triggers(mut self, triggers: impl IntoIterator<Item = Trigger>) -> Self {
        self.settings.triggers = triggers.into_iter().collect();
        self
    }

    /// Sends requests again only if their method is idempotent, or the backend cannot have begun to work on them.
    /// Default off: all of them.
    pub fn idempotent_only(mut self) -> Self {
        self.settings.idempotent_only = true;
        self
    }

    /// With all attempts failed, answers with an error that names everybody, even if there was a response to pass
    /// through.
    pub fn error_when_exhausted(mut self) -> Self {
        self.settings.pass_through = false;
        self
    }

    /// Refuses values that make no sense, with an error that names the setting.
    pub fn checked(self) -> Result<Self, InvalidSetting> {
        self.settings.check()?;
        Ok(self)
    }
}

#[cfg(feature = "http")]
impl FailoverLayer {
    /// From which moment on a response is the answer. Default [`CommitPoint::Head`].
    pub fn commit(mut self, point: CommitPoint) -> Self {
        self.terms = self.terms.commit(point);
        self
    }

    /// How request bodies are kept for further attempts. Default up to 1 MiB each.
    pub fn replay(mut self, replay: ReplayLayer) -> Self {
        self.terms = self.terms.replay(replay);
        self
    }

    /// Names the backend that served in a header of the response.
    pub fn served_by(mut self, header: http::HeaderName) -> Self {
        self.terms = self.terms.served_by(header);
        self
    }

    /// The statuses that move a request on, in place of those that the fleet's classifier counts as failures: a 404 may
    /// move on, and be no failure of its backend. The trigger is [`Trigger::status`].
    pub fn statuses(mut self, statuses: Statuses) -> Self {
        self.settings.statuses = Some(statuses);
        self
    }
}

impl<S, C, H> Layer<Fleet<S, C>> for FailoverLayer<H>
where
    S: Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
    H: Clone,
{
    type Service = Failover<S, H, C>;

    fn layer(&self, fleet: Fleet<S, C>) -> Failover<S, H, C> {
        let refused = self.settings.check().err().map(Arc::new);
        let run = Run { terms: self.terms.clone(), settings: Arc::new(self.settings.clone()), refused };
        Failover::new(&fleet, self.strategy.clone(), run)
    }
}

impl<H> fmt::Debug for FailoverLayer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailoverLayer").field("settings", &self.settings).finish_non_exhaustive()
    }
}
