//! Builds a fleet: its first backends, and the settings of all.

use std::{fmt, sync::Arc};

use super::{
    backend::Backend,
    core::{FleetCore, Rules},
    ejection::EjectionLimits,
    handle::{Fleet, NewMember, insert},
    shares::Shares,
    slots::WhenFull,
    view::FleetInner,
};
use crate::{
    health::{CircuitPolicy, Limit, Outliers, SlowStart},
    name::BackendName,
    outcome::{ErrorsOnly, HttpClassifier},
    setting::InvalidSetting,
};

#[cfg(feature = "http")]
impl<S: Send + Sync + 'static> Fleet<S> {
    /// Creates an empty fleet of HTTP or gRPC services, to which backends are added while it serves.
    pub fn new() -> Self {
        Self::builder().build().expect("an empty fleet has no invalid setting")
    }

    /// Starts to build a fleet of HTTP or gRPC services.
    pub fn builder() -> FleetBuilder<S> {
        FleetBuilder::new(HttpClassifier::new())
    }
}

#[cfg(feature = "http")]
impl<S: Send + Sync + 'static> Default for Fleet<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Send + Sync + 'static> Fleet<S, ErrorsOnly> {
    /// Starts to build a fleet of services that are not HTTP.
    ///
    /// A call fails when it returns an error, and ends with its response. For another rule see
    /// [`classify`](FleetBuilder::classify).
    pub fn plain() -> FleetBuilder<S, ErrorsOnly> {
        FleetBuilder::new(ErrorsOnly)
    }
}

/// Builds a [`Fleet`]: its first backends and their common settings.
///
/// The order of the calls does not matter, except among the backends, whose order the fleet keeps. If a setting is
/// given twice, the last one counts.
#[must_use = "a builder does nothing until it is built"]
pub struct FleetBuilder<S, C = HttpClassifier> {
    name: Arc<str>,
    backends: Vec<Backend<S>>,
    classifier: C,
    policy: Option<CircuitPolicy>,
    limits: EjectionLimits,
    limit: Option<Limit>,
    when_full: WhenFull,
    slow_start: Option<SlowStart>,
    outliers: Option<Outliers>,
    named_times: bool,
    headroom: bool,
}

/// The name of a fleet that was given none.
const DEFAULT_NAME: &str = "fleet";

impl<S, C> FleetBuilder<S, C> {
    pub(super) fn new(classifier: C) -> Self {
        Self {
            name: Arc::from(DEFAULT_NAME),
            backends: Vec::new(),
            classifier,
            policy: None,
            limits: EjectionLimits::default(),
            limit: None,
            when_full: WhenFull::Wait,
            slow_start: None,
            outliers: None,
            named_times: true,
            headroom: false,
        }
    }

    /// Sets the name of the fleet, which errors and events show. Default `fleet`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds a backend.
    pub fn backend(mut self, backend: Backend<S>) -> Self {
        self.backends.push(backend);
        self
    }

    /// Adds several backends.
    pub fn backends(mut self, backends: impl IntoIterator<Item = Backend<S>>) -> Self {
        self.backends.extend(backends);
        self
    }

    /// Sets the classifier, which decides whether a call failed: for circuits, and for the triggers of a failover.
    ///
    /// Default [`HttpClassifier`] for [`Fleet::builder`], and [`ErrorsOnly`] for [`Fleet::plain`].
    pub fn classify<D>(self, classifier: D) -> FleetBuilder<S, D> {
        let Self { name, backends, policy, limits, limit, when_full, slow_start, outliers, .. } = self;
        let Self { named_times, headroom, .. } = self;
        FleetBuilder {
            name,
            backends,
            classifier,
            policy,
            limits,
            limit,
            when_full,
            slow_start,
            outliers,
            named_times,
            headroom,
        }
    }

    /// Gives each backend a circuit of its own, also those that are inserted later. Default none.
    ///
    /// A backend with an open circuit is not eligible, so no door selects it. Once the open time is over, a request
    /// probes the backend.
    pub fn circuit_breaker(mut self, policy: CircuitPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Sends a backend that has just started its traffic step by step. Default none: all at once.
    pub fn slow_start(mut self, slow_start: SlowStart) -> Self {
        self.slow_start = Some(slow_start);
        self
    }

    /// Sends less traffic to backends that fail more, or respond more slowly, than the others of their tier. Default
    /// none: backends are not compared.
    pub fn outliers(mut self, outliers: Outliers) -> Self {
        self.outliers = Some(outliers);
        self
    }

    /// Limits the share of backends that circuits and failing [probes](crate::probe) may keep out of rotation at a time,
    /// from 0 to 1. Default 1, no limit.
    ///
    /// Beyond it, the backends that were ejected last stay in rotation. [Outliers](Self::outliers) and
    /// [hints](Self::max_hinted) count too, and are returned first. Backends that an operator or a cool-down keeps out are not counted.
    pub fn max_ejected(mut self, share: f64) -> Self {
        self.limits.max_ejected = share;
        self
    }

    /// Keeps all backends in rotation while less than this share of them has a closed circuit. Default 0, which is off.
    ///
    /// When most backends fail, the cause is often elsewhere, and the few with closed circuits would be overloaded.
    /// Backends that an operator or a cool-down keeps out are not counted, and stay out.
    pub fn panic_below(mut self, share: f64) -> Self {
        self.limits.panic_below = share;
        self
    }
}

impl<S, C> FleetBuilder<S, C> {
    /// Limits the share of backends that may be out while reports of other [replicas](crate::replicas) count, from 0 to
    /// 1. Default 0.5, rounded down.
    ///
    /// Beyond it, the backends that were reported last return to rotation, so that a replica that sees every backend fail
    /// cannot take the traffic of the others down. Backends that this replica ejects itself count too.
    pub fn max_hinted(mut self, share: f64) -> Self {
        self.limits.max_hinted = share;
        self
    }

    /// Limits the calls in flight at each backend that has no [limit](Backend::limit) of its own. Default no limit.
    ///
    /// A number, or an [`AdaptiveLimit`](crate::AdaptiveLimit). A lone circuit breaker has no limit.
    pub fn limit(mut self, limit: impl Into<Limit>) -> Self {
        self.limit = Some(limit.into());
        self
    }

    /// Sets what doors do while all backends of the tier that serves are at their limits. Default
    /// [`WhenFull::Wait`].
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Sets whether a backend gets no requests until the time that a failed response of it [names][header], such as with
    /// `Retry-After`. Default `true`.
    ///
    /// Until then the backend [cools down](Fleet::cool_down): it gets no request of any door, no race and no hedge. A
    /// later response can only lengthen that. While all backends cool down, requests fail at once, with the time at which
    /// the first of them is back. More than a day counts as a day, since a clock or a unit may be wrong: after it, the
    /// backend may name the rest. [`Fleet::end_cool_down`] ends it earlier.
    ///
    /// **Where callers send credentials of their own**, a response to one of them takes the backend out for all. Set `false`
    /// there.
    ///
    /// A [throttled](crate::outcome::Failure::is_throttled) call is no failure to the circuit of the backend, since it
    /// serves again at a known time; a probe of a half-open circuit that is throttled releases its permit. A 5xx with a
    /// time is a failure too. A gRPC pushback is about one request, and takes no backend out.
    ///
    /// With `false`, only the request itself honours the time, and throttled calls are failures. So they are to a lone
    /// [`CircuitBreaker`](crate::CircuitBreaker), which has no other way to protect its service.
    ///
    /// [header]: HttpClassifier#the-time-that-a-backend-names
    pub fn named_times(mut self, honour: bool) -> Self {
        self.named_times = honour;
        self
    }

    /// Sets whether a backend gets a smaller share of the traffic while its responses state that little is left of its
    /// rate limit, before it rejects requests. Default `false`.
    ///
    /// | left of the limit | share |
    /// |---|---|
    /// | more than 10 % | 1 |
    /// | up to 10 % | 1/2 |
    /// | up to 2 % | 1/10 |
    ///
    /// Of several limits, such as those of requests and tokens, the one with the least left counts. The share rises again
    /// when that limit is whole, after a minute if the response does not state when, and after a second at the earliest;
    /// or by what a later response states. A backend that always states that nothing is left keeps its tenth: it is never
    /// out by this. If it starts slowly or is an outlier too, the smallest of its shares counts.
    ///
    /// With the default classifier, the [headers][headers] of each response that is no failure are read. For another one,
    /// see [`Classify::headroom`](crate::outcome::Classify::headroom).
    ///
    /// [headers]: HttpClassifier#what-is-left-of-a-limit
    pub fn headroom(mut self, read: bool) -> Self {
        self.headroom = read;
        self
    }
}

impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> FleetBuilder<S, C> {
    /// Builds the fleet.
    ///
    /// # Errors
    ///
    /// The first invalid setting: of the fleet, of the circuits, or of a backend. Or a name that two backends share.
    pub fn build(self) -> Result<Fleet<S, C>, InvalidSetting> {
        let Self { name, backends, classifier, policy, limits, limit, when_full, slow_start, outliers, .. } = self;
        BackendName::checked(&name).map_err(|error| InvalidSetting::in_part("fleet", error))?;
        let refuse = |field, value, reason| InvalidSetting::of("fleet", field, value, reason);
        let (slow_start, outliers) = (slow_start.map(SlowStart::checked), outliers.map(Outliers::checked));
        let rules = Rules {
            policy: policy.map(CircuitPolicy::checked).transpose()?,
            ejection: limits.checked()?,
            shares: Shares::new(slow_start.transpose()?, outliers.transpose()?),
            limit: limit.map(|limit| limit.checked(refuse)).transpose()?,
            when_full: when_full.checked()?,
            named_times: self.named_times,
            headroom: self.headroom,
        };
        let core = FleetCore::new(name, rules);
        let fleet = Fleet { shared: Arc::new(FleetInner::new(core, classifier)) };
        let mut members: Vec<Option<NewMember<S, C>>> =
            backends.into_iter().map(|backend| fleet.checked(backend).map(Some)).collect::<Result<_, _>>()?;
        fleet.shared.core.edit(|registry| {
            // So that the first members of a large fleet get as few counters as the later ones.
            registry.expected = members.len();
            members.iter_mut().try_for_each(|member| insert(&fleet, registry, member))
        })?;
        Ok(fleet)
    }
}

impl<S, C> fmt::Debug for FleetBuilder<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.backends).finish()
    }
}
