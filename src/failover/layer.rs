use std::{fmt, sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{Backoff, Budget, Failover, Plain, Trigger};
#[cfg(feature = "http")]
use super::{CommitPoint, HttpTerms};
#[cfg(feature = "http")]
use crate::{body::ReplayLayer, outcome::HttpClassifier};
use crate::{
    fleet::{Fleet, InvalidSetting},
    pick::{AnyPick, Pick, Primary, Source, Strategy, UnsupportedStrategy},
};

/// Puts a [`Failover`] on a [`Fleet`]. See [the module](super).
///
/// `H` are the terms on which requests are sent again and responses are good, `P` is the strategy that names the first
/// backend. A value that makes no sense is refused by [`checked`](Self::checked); a door that is made with one unchecked
/// answers every call with the same error.
#[must_use = "a layer does nothing until it is given a fleet"]
pub struct FailoverLayer<H, P = Primary> {
    terms: H,
    pick: P,
    settings: Settings,
}

/// When the next attempt starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// At the first trip, everybody eligible at once, the primary included.
    #[default]
    Race,
    /// One after the other, each when the one before has tripped.
    Sequential,
    /// The next one after each such delay, or at a trip if that is earlier.
    ///
    /// Who loses to its hedge is dropped before it can fail: set
    /// [`slow_calls`](crate::CircuitBreakerLayer::slow_calls) at the breaker, at less than this delay, so that losers are
    /// learned from. Otherwise a backend that hangs may be asked first for ever, and every request waits for its hedge.
    Hedged(Duration),
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) mode: Mode,
    pub(super) race_bound: Duration,
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Duration>,
    pub(super) attempts_per_backend: u32,
    pub(super) same_backend_delay: Duration,
    pub(super) backoff: Option<Backoff>,
    pub(super) retry_after_cap: Duration,
    pub(super) budget: Option<Budget>,
    pub(super) triggers: Arc<[Trigger]>,
    pub(super) idempotent_only: bool,
    pub(super) pass_through: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Race,
            // A race is a last resort, and somebody is waiting.
            race_bound: Duration::from_secs(5),
            // No timer unless it is asked for.
            timeout: None,
            deadline: None,
            // Another backend is a better bet than the same one again.
            attempts_per_backend: 1,
            same_backend_delay: Duration::ZERO,
            backoff: None,
            // What a caller may be expected to wait for.
            retry_after_cap: Duration::from_secs(60),
            // Saving every request comes first; breakers end an outage's storm.
            budget: None,
            triggers: Trigger::defaults().into(),
            idempotent_only: false,
            // A client had better see the upstream's 429 than ours.
            pass_through: true,
        }
    }
}

#[cfg(feature = "http")]
impl FailoverLayer<HttpTerms> {
    /// For HTTP and gRPC: on 429, 5xx, a timeout or a network error the others race for the answer.
    pub fn new() -> Self {
        Self::with_terms(HttpTerms::new())
    }
}

#[cfg(feature = "http")]
impl Default for FailoverLayer<HttpTerms> {
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
        Self { terms, pick: Primary, settings: Settings::default() }
    }
}

impl<H, P> FailoverLayer<H, P> {
    /// Who is asked first. Default [`Primary`]: the first of the highest tier.
    pub fn strategy<Q: Pick>(self, pick: Q) -> FailoverLayer<H, Q> {
        let Self { terms, settings, .. } = self;
        FailoverLayer { terms, pick, settings }
    }

    /// Who is asked first, by the name of the strategy. `failover` races from the primary, `weighted_failover` goes on
    /// sequentially in weighted order; the others name the first and leave the mode as it is.
    pub fn named(self, strategy: Strategy) -> Result<FailoverLayer<H, AnyPick>, UnsupportedStrategy> {
        let mut layer = self.strategy(AnyPick::try_from(strategy)?);
        match strategy {
            Strategy::Failover => layer.settings.mode = Mode::Race,
            Strategy::WeightedFailover => layer.settings.mode = Mode::Sequential,
            _ => {}
        }
        Ok(layer)
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
impl<C, P> FailoverLayer<HttpTerms<C>, P> {
    /// What counts as a failure.
    pub fn classify<D>(self, classifier: D) -> FailoverLayer<HttpTerms<D>, P> {
        let Self { terms, pick, settings } = self;
        FailoverLayer { terms: terms.classify(classifier), pick, settings }
    }

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
}

#[cfg(feature = "http")]
impl<P> FailoverLayer<HttpTerms<HttpClassifier>, P> {
    /// The statuses that are failures. Default 429 and 500 to 599.
    pub fn statuses(self, statuses: crate::outcome::Statuses) -> Self {
        self.classify(HttpClassifier::new().statuses(statuses))
    }
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        let positive = [
            ("mode.hedged", if let Mode::Hedged(delay) = self.mode { Some(delay) } else { None }),
            ("race_bound", Some(self.race_bound)),
            ("timeout", self.timeout),
            ("deadline", self.deadline),
        ];
        for (field, value) in positive {
            if value.is_some_and(|value| value.is_zero()) {
                return Err(InvalidSetting::setting(field, "0 s", "must be longer than zero"));
            }
        }
        if !(1..=100).contains(&self.attempts_per_backend) {
            let value = self.attempts_per_backend.to_string();
            return Err(InvalidSetting::setting("attempts_per_backend", &value, "must be from 1 to 100"));
        }
        self.backoff.map_or(Ok(()), |backoff| backoff.checked().map(drop))?;
        self.budget.clone().map_or(Ok(()), |budget| budget.checked().map(drop))
    }
}

/// What all requests of a door have in common.
pub(super) struct Run<S, H> {
    pub(super) terms: H,
    pub(super) settings: Settings,
    pub(super) source: Arc<dyn Source<S>>,
    pub(super) refused: Option<InvalidSetting>,
}

impl<S, R, H, P> Layer<Fleet<S, R>> for FailoverLayer<H, P>
where
    S: Send + Sync + 'static,
    H: Clone,
    P: Pick,
{
    type Service = Failover<S, H, P>;

    fn layer(&self, fleet: Fleet<S, R>) -> Failover<S, H, P> {
        Failover::new(&fleet, self.terms.clone(), self.pick.renew(&[], &[]), self.settings.clone())
    }
}

/// The clone begins a rotation of its own, as each door does.
impl<H: Clone, P: Pick> Clone for FailoverLayer<H, P> {
    fn clone(&self) -> Self {
        Self { terms: self.terms.clone(), pick: self.pick.renew(&[], &[]), settings: self.settings.clone() }
    }
}

impl<H, P> fmt::Debug for FailoverLayer<H, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailoverLayer").field("settings", &self.settings).finish_non_exhaustive()
    }
}
