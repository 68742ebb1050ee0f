//! A backend before it is part of a fleet: a service and its settings.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{member::Settings, tags::Tags};
use crate::{
    health::{AdminStatus, Limit},
    name::BackendName,
    outcome::TimeLimits,
    setting::InvalidSetting,
};

/// A service to be added to a fleet, with its name and settings.
///
/// ```
/// # use tower_fleet::Backend;
/// # use std::time::Duration;
/// # let client = ();
/// let backend = Backend::new("eu-1", client).weight(3).priority(10).timeout(Duration::from_secs(30));
/// ```
///
/// The setters accept any value. Invalid ones are rejected when the backend is added to a fleet, by
/// [`FleetBuilder::build`](super::FleetBuilder::build), [`Fleet::insert`](super::Fleet::insert) and the like.
#[derive(Clone)]
#[must_use = "a backend does nothing until it is part of a fleet"]
pub struct Backend<S> {
    pub(super) name: Arc<str>,
    pub(super) weight: u32,
    pub(super) priority: i32,
    pub(super) timeout: Option<Duration>,
    pub(super) limit: Option<Limit>,
    pub(super) time_limits: TimeLimits,
    pub(super) tags: Vec<Arc<str>>,
    pub(crate) status: AdminStatus,
    pub(super) service: S,
}

impl<S> Backend<S> {
    /// Creates a healthy backend of weight 1 and priority 0, without a timeout.
    ///
    /// The name identifies the backend within its fleet and is shown in errors and events. It must have 1 to 128 bytes
    /// of ASCII letters, digits and `-_.:/[]`.
    pub fn new(name: impl Into<Arc<str>>, service: S) -> Self {
        Self {
            name: name.into(),
            weight: 1,
            priority: 0,
            timeout: None,
            limit: None,
            time_limits: TimeLimits::new(),
            tags: Vec::new(),
            status: AdminStatus::Healthy,
            service,
        }
    }

    /// Sets the share of the requests that the backend gets among those of its tier. Default 1, which is the minimum.
    ///
    /// Only strategies that use weights honour it, such as [`Weighted`](crate::Weighted).
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Sets the tier of the backend. Default 0; may be negative.
    ///
    /// Backends of equal priority form a tier. Requests go to the highest tier that has an eligible backend.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Limits the time of one attempt. Default no limit, and no timer runs.
    ///
    /// The time starts when the backend is ready. It ends at the head of the response, or at the commit point under
    /// [`Failover`](crate::Failover). It does not cover the rest of the body, and it stands still while the attempt waits
    /// for the caller's request body: see [`Upload`](crate::body::Upload).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Limits the time of the parts of a response: to its head, its first byte, its first content, and between frames.
    /// Each limit applies in place of that of the door. Default none.
    pub fn time_limits(mut self, limits: TimeLimits) -> Self {
        self.time_limits = limits;
        self
    }

    /// Limits the calls in flight, up to the end of their responses. Default that of the
    /// [fleet](super::FleetBuilder::limit).
    ///
    /// A number, or an [`AdaptiveLimit`](crate::AdaptiveLimit). A full backend is not selected. What a door does while
    /// all are full is set with [`when_full`](super::FleetBuilder::when_full).
    pub fn limit(mut self, limit: impl Into<Limit>) -> Self {
        self.limit = Some(limit.into());
        self
    }

    /// Adds a tag, which tells what the backend can do that others cannot, such as `larger-context`. Default none.
    ///
    /// Rules on [rejections](crate::failover) send a request on to the backends with a tag. A tag has 1 to 64 bytes of the
    /// same characters as a name, and a backend has at most 32 of them.
    pub fn tag(mut self, tag: impl Into<Arc<str>>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Sets the status with which the backend is added. Default [`Healthy`](AdminStatus::Healthy).
    ///
    /// Use [`Draining`](AdminStatus::Draining) for a backend that gets no requests before an operator enables it.
    pub fn status(mut self, status: AdminStatus) -> Self {
        self.status = status;
        self
    }

    /// Wraps the service of this backend in a layer: for one attempt at it, not for the whole request.
    pub fn layer<L: Layer<S>>(self, layer: L) -> Backend<L::Service> {
        self.map(|service| layer.layer(service))
    }

    /// Replaces the service by one made from it. The name and the settings stay.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> Backend<T> {
        let Self { name, weight, priority, timeout, limit, time_limits, tags, status, service } = self;
        let service = change(service);
        Backend { name, weight, priority, timeout, limit, time_limits, tags, status, service }
    }

    /// Returns the backend of one of several endpoints that this one stands for. `priority` is added to its own, and
    /// `weight` multiplies it.
    #[cfg(all(feature = "dns", feature = "serde"))]
    pub(crate) fn endpoint(&self, name: Arc<str>, weight: u32, priority: i32, service: S) -> Self {
        Self {
            name,
            weight: self.weight.saturating_mul(weight),
            priority: self.priority.saturating_add(priority),
            service,
            timeout: self.timeout,
            limit: self.limit,
            time_limits: self.time_limits,
            tags: self.tags.clone(),
            status: self.status,
        }
    }

    /// Returns the name, which is not checked yet.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the service.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// Checks the name and the settings. Past this point no invalid one exists.
    pub(crate) fn checked(&self) -> Result<Settings, InvalidSetting> {
        let name = BackendName::checked(&self.name)?;
        let weight = checked_weight(&name, self.weight)?;
        checked_timeout(&name, self.timeout)?;
        let limit = checked_limit(&name, self.limit)?;
        let time_limits = checked_time_limits(&name, self.time_limits)?;
        let tags = Tags::checked(&name, &self.tags)?;
        let (priority, timeout) = (self.priority, self.timeout);
        Ok(Settings { name, weight, priority, timeout, limit, time_limits, tags })
    }
}

pub(super) fn checked_timeout(backend: &str, timeout: Option<Duration>) -> Result<(), InvalidSetting> {
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return Err(InvalidSetting::of_backend(backend, "timeout", "0 s", "must be longer than zero"));
    }
    Ok(())
}

fn checked_time_limits(backend: &str, limits: TimeLimits) -> Result<TimeLimits, InvalidSetting> {
    let refuse = |field, value: &dyn fmt::Debug, reason| {
        InvalidSetting::of_backend(backend, field, format_args!("{value:?}"), reason)
    };
    limits.checked(refuse).map(|()| limits)
}

pub(super) fn checked_limit(backend: &str, limit: Option<Limit>) -> Result<Option<Limit>, InvalidSetting> {
    let refuse = |field, value, reason| InvalidSetting::of_backend(backend, field, value, reason);
    limit.map(|limit| limit.checked(refuse)).transpose()
}

pub(super) fn checked_weight(backend: &str, weight: u32) -> Result<NonZeroU32, InvalidSetting> {
    let reason = "must be at least 1: to send a backend no requests, drain it";
    NonZeroU32::new(weight).ok_or_else(|| InvalidSetting::of_backend(backend, "weight", 0, reason))
}

/// Does not show the service: clients hold credentials.
impl<S> fmt::Debug for Backend<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("name", &self.name)
            .field("weight", &self.weight)
            .field("priority", &self.priority)
            .field("timeout", &self.timeout)
            .field("status", &self.status)
            .field("limit", &self.limit)
            .field("tags", &self.tags)
            .finish_non_exhaustive()
    }
}
