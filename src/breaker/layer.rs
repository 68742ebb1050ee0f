use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tower_layer::Layer;

use super::{CircuitBreaker, error::Misconfigured, service::Mode};
use crate::{
    fleet::{Member, MemberInfo, Shard, Switch},
    health::{Draft, Policy},
    name::BackendName,
    outcome::HttpClassifier,
    setting::InvalidSetting,
    shard::{Spread, slot},
    time::Clock,
};

/// Puts a [`CircuitBreaker`] around a service.
///
/// All services that one layer makes share one circuit, and so do their clones: axum makes a service per connection and
/// clones it per request, and all of them talk to the same backend. [`separate`](Self::separate) gives each its own.
///
/// A value that makes no sense is refused by [`checked`](Self::checked), or when a fleet is built with it; a service
/// that is made with one unchecked answers every call with the same error.
#[derive(Clone)]
#[must_use = "a layer does nothing until it is given a service"]
pub struct CircuitBreakerLayer<C = HttpClassifier> {
    name: Arc<str>,
    draft: Draft,
    classifier: C,
    mode: Mode,
    /// The circuit, made with the first service. None when each service gets its own.
    shared: Option<Arc<OnceLock<Lone<C>>>>,
}

/// A member without a fleet.
pub(super) type Lone<C> = Arc<Shard<(), C>>;

#[cfg(feature = "http")]
impl CircuitBreakerLayer {
    /// A breaker for HTTP and gRPC: five failures within a minute open it for 30 seconds, one good probe closes it.
    ///
    /// Failures are the statuses 429 and 500 to 599, timeouts, transport errors, bodies that break off, and panics.
    pub fn new() -> Self {
        Self::with_classifier(HttpClassifier::new())
    }
}

#[cfg(feature = "http")]
impl Default for CircuitBreakerLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> CircuitBreakerLayer<C> {
    /// A breaker that counts as failures what the classifier says.
    pub fn with_classifier(classifier: C) -> Self {
        Self {
            name: Arc::from("service"),
            draft: Policy::draft(),
            classifier,
            mode: Mode::Reject,
            shared: Some(Arc::default()),
        }
    }

    /// Counts as failures what another classifier says.
    pub fn classify<D>(self, classifier: D) -> CircuitBreakerLayer<D> {
        let Self { name, draft, mode, shared, .. } = self;
        CircuitBreakerLayer { name, draft, classifier, mode, shared: shared.map(|_| Arc::default()) }
    }

    /// What errors and events call the service. In a fleet each backend's own name is used. Default `service`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self.anew()
    }

    /// Opens at this many failures within the time of [`within`](Self::within); successes do not make up for them.
    /// Default 5, unless another rule is set.
    pub fn failures(self, threshold: u32) -> Self {
        self.draft(|draft| draft.failures(threshold))
    }

    /// The sliding window of [`failures`](Self::failures). Default 60 s.
    pub fn within(self, window: Duration) -> Self {
        self.draft(|draft| draft.within(window))
    }

    /// Opens at this many failures without a success between them. Reads no clock while it is closed.
    pub fn consecutive(self, threshold: u32) -> Self {
        self.draft(|draft| draft.consecutive(threshold))
    }

    /// Opens when this share of the calls in a window failed, once there were so many.
    pub fn failure_rate(self, rate: f64, window: Duration, minimum_calls: u32) -> Self {
        self.draft(|draft| draft.failure_rate(rate, window, minimum_calls))
    }

    /// Opens when this share of the calls in a window took longer than that, once there were so many.
    ///
    /// A call lasts until its success is recorded: with the head of its response, with the commit where a
    /// [`Failover`](crate::Failover) waits for more, or with the end of the body where that decides (gRPC). A call that is
    /// cancelled after so long was slow too, though it did not fail: the loser to a hedge, the call of a client that left.
    /// One that is cancelled earlier is neutral, and so is a body that is not read to its end.
    pub fn slow_calls(self, rate: f64, slower_than: Duration, window: Duration, minimum_calls: u32) -> Self {
        self.draft(|draft| draft.slow_calls(rate, slower_than, window, minimum_calls))
    }

    /// How long it stays open before it is probed. Default 30 s.
    pub fn open_for(self, duration: Duration) -> Self {
        self.draft(|draft| draft.open_for(duration))
    }

    /// Multiplies the time at each further opening, until it has been closed for a while. Default 1, which is off.
    pub fn growth(self, factor: f64) -> Self {
        self.draft(|draft| draft.growth(factor))
    }

    /// The longest that a grown time may get. Default 5 min.
    pub fn longest(self, duration: Duration) -> Self {
        self.draft(|draft| draft.longest(duration))
    }

    /// Shortens each opening by chance, by up to this share, so that replicas do not probe in step. Default 0.
    pub fn jitter(self, share: f64) -> Self {
        self.draft(|draft| draft.jitter(share))
    }

    /// Half of the growth is forgiven for each such time that it stayed closed. Default 60 s.
    pub fn forgive_after(self, duration: Duration) -> Self {
        self.draft(|draft| draft.forgive_after(duration))
    }

    /// How many probes may run at a time while it is half-open. Default 1.
    pub fn probes(self, at_a_time: u32) -> Self {
        self.draft(|draft| draft.probes(at_a_time))
    }

    /// How long a probe may keep its place. Default 60 s.
    pub fn probe_timeout(self, duration: Duration) -> Self {
        self.draft(|draft| draft.probe_timeout(duration))
    }

    /// How many probes must succeed before it closes. Default 1.
    pub fn successes_to_close(self, successes: u32) -> Self {
        self.draft(|draft| draft.successes_to_close(successes))
    }

    /// Makes callers wait in `poll_ready` while the circuit is open, instead of rejecting their calls. They are woken
    /// when its time is up or a permit is free.
    pub fn waiting(mut self) -> Self {
        self.mode = Mode::Wait;
        self
    }

    /// Gives each service that is made from now on a circuit of its own; clones still share.
    pub fn separate(mut self) -> Self {
        self.shared = None;
        self
    }

    /// Refuses values that make no sense, with an error that names the setting.
    pub fn checked(self) -> Result<Self, Misconfigured> {
        self.policy().and_then(|_| BackendName::checked(&self.name)).map_err(Misconfigured)?;
        Ok(self)
    }

    pub(super) fn policy(&self) -> Result<Policy, InvalidSetting> {
        let refused = |error: crate::health::PolicyError| {
            InvalidSetting::setting(error.field, &error.value, &format!("must be {}", error.needed))
        };
        self.draft.clone().build().map_err(refused)
    }

    pub(super) fn into_classifier(self) -> C {
        self.classifier
    }

    fn draft(mut self, change: impl FnOnce(Draft) -> Draft) -> Self {
        self.draft = change(self.draft);
        self.anew()
    }

    /// What was made before stays as it was; the next service has another circuit.
    fn anew(mut self) -> Self {
        self.shared = self.shared.map(|_| Arc::default());
        self
    }
}

impl<C: Clone + Send + Sync + 'static> CircuitBreakerLayer<C> {
    /// The handle of the circuit that the services of this layer share. None when they are separate: ask
    /// [`CircuitBreaker::switch`]. In a fleet every backend has a circuit of its own: ask
    /// [`Fleet::switch`](crate::Fleet::switch).
    pub fn switch(&self) -> Option<Switch> {
        let shared = self.shared.as_ref()?.get_or_init(|| self.make().0);
        Switch::new(Arc::clone(shared.info()))
    }

    /// A member by the name of the layer, and the reason why no call is admitted to it.
    fn make(&self) -> (Lone<C>, Option<Misconfigured>) {
        let bad_name = BackendName::checked(&self.name).err();
        let (member, bad_policy) = self.make_named(BackendName::lossy(&self.name));
        (member, bad_policy.or(bad_name.map(Misconfigured)))
    }

    pub(super) fn make_named(&self, name: BackendName) -> (Lone<C>, Option<Misconfigured>) {
        let (policy, refused) = self.policy().map_or_else(|bad| (Policy::default(), Some(bad)), |good| (good, None));
        let info = Arc::new(MemberInfo::alone(name, policy, Clock::start()));
        let member = Member { info, service: (), classifier: self.classifier.clone() };
        (Arc::new(Shard::new(Arc::new(member), slot())), refused.map(Misconfigured))
    }
}

impl<S, C: Clone + Send + Sync + 'static> Layer<S> for CircuitBreakerLayer<C> {
    type Service = CircuitBreaker<S, C>;

    fn layer(&self, inner: S) -> CircuitBreaker<S, C> {
        let (fresh, refused) = self.make();
        let member = match &self.shared {
            Some(shared) => Arc::clone(shared.get_or_init(|| fresh)),
            None => fresh,
        };
        CircuitBreaker::new(inner, Spread::new(member), self.mode, refused.map(Box::new))
    }
}

impl<C> fmt::Debug for CircuitBreakerLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerLayer")
            .field("name", &self.name)
            .field("rules", &self.draft)
            .finish_non_exhaustive()
    }
}
