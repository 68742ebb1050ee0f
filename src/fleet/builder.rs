use std::{fmt, sync::Arc};

use super::{
    backend::Backend,
    core::FleetCore,
    ejection::EjectionLimits,
    handle::{Added, Fleet, insert},
    view::Shared,
};
use crate::{
    health::Policy,
    name::BackendName,
    outcome::{ErrorsOnly, HttpClassifier},
    setting::InvalidSetting,
};

#[cfg(feature = "http")]
impl<S: Send + Sync + 'static> Fleet<S> {
    /// An empty fleet of HTTP services, to which backends are added while it serves.
    pub fn new() -> Self {
        Self::builder().build().expect("an empty fleet has no bad setting")
    }

    /// Starts a fleet of HTTP services.
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
    /// Starts a fleet of services that are not HTTP: a call fails when it returns an error, and is over with its
    /// response.
    pub fn plain() -> FleetBuilder<S, ErrorsOnly> {
        FleetBuilder::new(ErrorsOnly)
    }
}

/// The backends of a fleet before it serves, and what is true of each of them.
#[must_use = "a builder does nothing until it is built"]
pub struct FleetBuilder<S, C = HttpClassifier> {
    name: Arc<str>,
    backends: Vec<Backend<S>>,
    classifier: C,
    is_classified: bool,
    policy: Option<Policy>,
    limits: EjectionLimits,
    refused: Option<InvalidSetting>,
}

/// A fleet without a name.
const UNNAMED: &str = "fleet";

impl<S, C> FleetBuilder<S, C> {
    pub(super) fn new(classifier: C) -> Self {
        Self {
            name: Arc::from(UNNAMED),
            backends: Vec::new(),
            classifier,
            is_classified: false,
            policy: None,
            limits: EjectionLimits::default(),
            refused: None,
        }
    }

    /// What errors call the fleet. Default `fleet`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds a backend.
    pub fn backend(mut self, backend: Backend<S>) -> Self {
        self.backends.push(backend);
        self
    }

    /// Adds several.
    pub fn backends(mut self, backends: impl IntoIterator<Item = Backend<S>>) -> Self {
        self.backends.extend(backends);
        self
    }

    /// Sets what tells how a call ended, for a fleet without circuits. A
    /// [`circuit_breaker`](Self::circuit_breaker) brings its own.
    pub fn classify<D>(self, classifier: D) -> FleetBuilder<S, D> {
        self.classified(classifier, None)
    }

    /// Sets the circuit of each backend, of those that are inserted later too, and the classifier that goes with it.
    pub(crate) fn circuits<D>(self, policy: Result<Policy, InvalidSetting>, classifier: D) -> FleetBuilder<S, D> {
        self.classified(classifier, Some(policy))
    }

    fn classified<D>(self, classifier: D, policy: Option<Result<Policy, InvalidSetting>>) -> FleetBuilder<S, D> {
        let Self { name, backends, is_classified, policy: before, limits, mut refused, .. } = self;
        if is_classified {
            let (setting, reason) = match (policy.is_some(), before.is_some()) {
                (true, true) => ("circuit_breaker", "is set twice"),
                (false, false) => ("classify", "is set twice"),
                _ => ("classify", "is set beside `circuit_breaker`, which brings its classifier: set one of them"),
            };
            refused.get_or_insert(InvalidSetting::setting(setting, "", reason));
        }
        let policy = match policy {
            None => before,
            Some(Ok(policy)) => Some(policy),
            Some(Err(bad)) => {
                refused.get_or_insert(bad);
                before
            }
        };
        FleetBuilder { name, backends, classifier, is_classified: true, policy, limits, refused }
    }

    /// At most this share of the healthy backends, from 0 to 1, is taken out by their circuits at a time; the latest to
    /// fail serve on. Default 1, which is off.
    pub fn most_ejected(mut self, share: f64) -> Self {
        self.limits.max_ejected = share;
        self
    }

    /// With less than this share of the healthy backends left by their circuits, all of them serve: better a bad chance
    /// than none, and no crowd on the last. Default 0, which is off.
    pub fn panic_below(mut self, share: f64) -> Self {
        self.limits.panic_below = share;
        self
    }
}

impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> FleetBuilder<S, C> {
    /// The fleet.
    ///
    /// # Errors
    ///
    /// A backend with a bad or a taken name, or any other bad value, by its name.
    pub fn build(self) -> Result<Fleet<S, C>, InvalidSetting> {
        let Self { name, backends, classifier, policy, limits, refused, .. } = self;
        refused.map_or(Ok(()), Err)?;
        BackendName::checked(&name)?;
        let core = FleetCore::new(name, policy, limits.checked()?);
        let fleet = Fleet { shared: Arc::new(Shared::new(core, classifier)) };
        let mut added: Vec<Option<Added<S, C>>> =
            backends.into_iter().map(|backend| fleet.added(backend).map(Some)).collect::<Result<_, _>>()?;
        fleet.shared.core.edit(|books| {
            // Of a large fleet each member has few lines, the first ones too.
            books.expected = added.len();
            added.iter_mut().try_for_each(|added| insert(&fleet, books, added))
        })?;
        Ok(fleet)
    }
}

impl<S, C> fmt::Debug for FleetBuilder<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.backends).finish()
    }
}
