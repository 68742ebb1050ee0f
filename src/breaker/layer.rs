//! The layer of a breaker, and the making of its circuit.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use tower_layer::Layer;

use super::{CircuitBreaker, service::WhenOpen};
use crate::{
    fleet::{Member, MemberInfo, Shard, Switch},
    health::CircuitPolicy,
    name::BackendName,
    outcome::{ErrorsOnly, HttpClassifier},
    setting::InvalidSetting,
    shard::{Spread, slot},
    time::Clock,
};

/// A [`Layer`] that puts a [`CircuitBreaker`] around a service.
///
/// By default, all services that one layer makes share one circuit, since a server such as axum makes a service for
/// each connection. With [`separate`](Self::separate), each service has its own. Clones of a service always share its
/// circuit.
#[derive(Clone)]
#[must_use = "a layer does nothing until it is given a service"]
pub struct CircuitBreakerLayer<C = HttpClassifier> {
    name: BackendName,
    policy: Arc<CircuitPolicy>,
    classifier: C,
    when_open: WhenOpen,
    /// The circuit, made with the first service. `None` if each service gets its own.
    shared: Option<Arc<OnceLock<LoneMember<C>>>>,
}

/// The circuit of a breaker: a member of no fleet.
pub(super) type LoneMember<C> = Arc<Shard<(), C>>;

#[cfg(feature = "http")]
impl CircuitBreakerLayer {
    /// Creates a breaker for HTTP and gRPC with the default policy: five failures within 60 s open the circuit for 30
    /// s, and one successful probe closes it.
    ///
    /// Failures are the statuses 429 and 500 to 599, timeouts, transport errors, bodies that break off, and panics.
    pub fn new() -> Self {
        Self::made(CircuitPolicy::default(), HttpClassifier::new())
    }

    /// Creates a breaker for HTTP and gRPC with this policy.
    ///
    /// # Errors
    ///
    /// Returns an error if a value of the policy is out of range.
    pub fn with_policy(policy: CircuitPolicy) -> Result<Self, InvalidSetting> {
        Ok(Self::made(policy.checked()?, HttpClassifier::new()))
    }
}

#[cfg(feature = "http")]
impl Default for CircuitBreakerLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl CircuitBreakerLayer<ErrorsOnly> {
    /// Creates a breaker for a service that is not HTTP, with this policy. A call fails if it returns an error.
    ///
    /// # Errors
    ///
    /// Returns an error if a value of the policy is out of range.
    pub fn plain(policy: CircuitPolicy) -> Result<Self, InvalidSetting> {
        Ok(Self::made(policy.checked()?, ErrorsOnly))
    }
}

impl<C> CircuitBreakerLayer<C> {
    fn made(policy: CircuitPolicy, classifier: C) -> Self {
        Self {
            name: BackendName::lossy("service"),
            policy: Arc::new(policy),
            classifier,
            when_open: WhenOpen::Reject,
            shared: Some(Arc::default()),
        }
    }

    /// Sets the classifier, which decides which calls failed.
    pub fn classify<D>(self, classifier: D) -> CircuitBreakerLayer<D> {
        let Self { name, policy, when_open, shared, .. } = self;
        CircuitBreakerLayer { name, policy, classifier, when_open, shared: shared.map(|_| Arc::default()) }
    }

    /// Sets the name of the service in errors and events. Default `service`.
    ///
    /// # Errors
    ///
    /// Returns an error unless the name has 1 to 128 bytes, all of them ASCII letters, digits or `-_.:/[]`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Result<Self, InvalidSetting> {
        let in_breaker = |error| InvalidSetting::in_part("circuit breaker", error);
        self.name = BackendName::checked(&name.into()).map_err(in_breaker)?;
        // Services that were already made keep their circuit and its name.
        self.shared = self.shared.map(|_| Arc::default());
        Ok(self)
    }

    /// Makes requests wait in `poll_ready` while the circuit is open, instead of rejecting their calls.
    ///
    /// A permit wakes the request that came first, also at the end of the open time; a circuit that closes wakes all. A
    /// service that is woken and dropped passes the permit on. One that is kept and not polled again delays the others
    /// by a second at most.
    ///
    /// A probe then takes its permit in `poll_ready`, as tower's `ConcurrencyLimit` does: otherwise all requests that
    /// wait would be ready at once, and the calls of all but one rejected. So call or drop a service that is ready. One
    /// that is idle keeps the permit until the [time of a probe](crate::CircuitPolicy::probe_timeout) is over, 60 s by
    /// default. Without `waiting`, and in a fleet, the permit is taken in `call`.
    pub fn waiting(mut self) -> Self {
        self.when_open = WhenOpen::Wait;
        self
    }

    /// Gives each service that is made from now on a circuit of its own. Clones of a service still share its circuit.
    pub fn separate(mut self) -> Self {
        self.shared = None;
        self
    }
}

impl<C: Clone + Send + Sync + 'static> CircuitBreakerLayer<C> {
    /// Returns the handle of the circuit that the services of this layer share, or `None` if they are
    /// [separate](Self::separate). Then [`CircuitBreaker::switch`] returns that of one service.
    ///
    /// For a backend of a fleet, see [`Fleet::switch`](crate::Fleet::switch).
    pub fn switch(&self) -> Option<Switch> {
        Switch::new(Arc::clone(self.shared_member(self.shared.as_ref()?).info()))
    }

    /// Returns the circuit that all services share, which is made with the first one.
    fn shared_member(&self, shared: &OnceLock<LoneMember<C>>) -> LoneMember<C> {
        if let Some(member) = shared.get() {
            return Arc::clone(member);
        }
        // Made before it is stored, so that the classifier may use this layer when it is cloned.
        let member = self.member();
        Arc::clone(shared.get_or_init(|| member))
    }

    fn member(&self) -> LoneMember<C> {
        self.member_named(self.name.clone())
    }

    pub(super) fn member_named(&self, name: BackendName) -> LoneMember<C> {
        let info = Arc::new(MemberInfo::alone(name, Arc::clone(&self.policy), Clock::start()));
        let member = Member { info, service: (), classifier: self.classifier.clone() };
        Arc::new(Shard::new(Arc::new(member), slot()))
    }
}

impl<S, C: Clone + Send + Sync + 'static> Layer<S> for CircuitBreakerLayer<C> {
    type Service = CircuitBreaker<S, C>;

    fn layer(&self, inner: S) -> CircuitBreaker<S, C> {
        let member = match &self.shared {
            Some(shared) => self.shared_member(shared),
            None => self.member(),
        };
        CircuitBreaker::new(inner, Spread::new(member), self.when_open)
    }
}

impl<C> fmt::Debug for CircuitBreakerLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerLayer")
            .field("name", &self.name)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
