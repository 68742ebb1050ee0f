use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use tower_layer::Layer;

use super::member::Settings;
use crate::{
    health::Status,
    name::BackendName,
    setting::{Field, InvalidSetting},
};

/// One of the services that a fleet is made of, and what is to be known about it.
///
/// ```
/// # use tower_fleet::Backend;
/// # use std::time::Duration;
/// # let client = ();
/// let backend = Backend::new("eu-1", client).weight(3).priority(10).timeout(Duration::from_secs(30));
/// ```
///
/// Values are looked at when the backend enters a fleet: [`FleetBuilder::build`](super::FleetBuilder::build) and
/// [`Fleet::insert`](super::Fleet::insert) refuse bad ones.
#[derive(Clone)]
#[must_use = "a backend does nothing until it is part of a fleet"]
pub struct Backend<S> {
    pub(super) name: Arc<str>,
    pub(super) weight: u32,
    pub(super) priority: i32,
    pub(super) timeout: Option<Duration>,
    pub(super) status: Status,
    pub(super) service: S,
}

impl<S> Backend<S> {
    /// A backend of weight 1 and priority 0, without a timeout.
    ///
    /// The name identifies the backend within its fleet and is shown in errors, events and pages. It has 1 to 128 bytes
    /// of ASCII letters, digits and `-_.:/[]`, so that it is safe in all of them.
    pub fn new(name: impl Into<Arc<str>>, service: S) -> Self {
        Self { name: name.into(), weight: 1, priority: 0, timeout: None, status: Status::Healthy, service }
    }

    /// The share of the requests it gets among the backends of its tier; at least 1.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Higher goes first: backends of equal priority form a tier, and a tier is left only when nobody in it is eligible.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// How long one attempt may take, from the moment the backend is ready until its response is the answer: for
    /// [`Failover`](crate::Failover) up to its commit, else with its head. The rest of a body is not under it. Without it
    /// no timer runs.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How it enters the fleet: drained, for one that is to be let in by hand. Default healthy.
    pub fn status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }

    /// Wraps the service of this backend alone.
    pub fn layer<L: Layer<S>>(self, layer: L) -> Backend<L::Service> {
        self.map(|service| layer.layer(service))
    }

    /// The same backend with another service, made of this one.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> Backend<T> {
        let Self { name, weight, priority, timeout, status, service } = self;
        Backend { name, weight, priority, timeout, status, service: change(service) }
    }

    /// Its name, which may still be refused.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its service.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// Past this point no bad name, weight or timeout exists.
    pub(crate) fn checked(&self) -> Result<Settings, InvalidSetting> {
        let name = BackendName::checked(&self.name)?;
        let weight = checked_weight(&name, self.weight)?;
        checked_timeout(&name, self.timeout)?;
        Ok(Settings { name, weight, priority: self.priority, timeout: self.timeout })
    }
}

pub(super) fn checked_timeout(backend: &str, timeout: Option<Duration>) -> Result<(), InvalidSetting> {
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return Err(InvalidSetting::new(backend, Field::Timeout, "0 s", "must be longer than zero"));
    }
    Ok(())
}

pub(super) fn checked_weight(backend: &str, weight: u32) -> Result<NonZeroU32, InvalidSetting> {
    NonZeroU32::new(weight).ok_or_else(|| InvalidSetting::new(backend, Field::Weight, "0", "must be at least 1"))
}

/// Shows no service: clients hold credentials.
impl<S> fmt::Debug for Backend<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("name", &self.name)
            .field("weight", &self.weight)
            .field("priority", &self.priority)
            .field("timeout", &self.timeout)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
