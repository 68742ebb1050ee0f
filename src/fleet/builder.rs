use std::{fmt, sync::Arc};

use tower_layer::Layer;

use super::{
    Backend, BackendName, Fleet, InvalidSetting, Shared, UNNAMED,
    bounds::Bounds,
    entrance::{Bare, Entrance, Layered},
};
use crate::health::Policy;

/// The backends of a fleet before it serves, and what is around each of them.
#[must_use = "a builder does nothing until it is built"]
pub struct FleetBuilder<S, R = S> {
    name: Arc<str>,
    backends: Vec<Backend<R>>,
    entrance: Arc<dyn Entrance<R, S>>,
    policy: Option<Policy>,
    bounds: Bounds,
    refused: Option<InvalidSetting>,
}

impl<S: Send + Sync + 'static> FleetBuilder<S> {
    pub(super) fn new() -> Self {
        let (backends, entrance) = (Vec::new(), Arc::new(Bare));
        Self { name: Arc::from(UNNAMED), backends, entrance, policy: None, bounds: Bounds::default(), refused: None }
    }
}

impl<S: Send + Sync + 'static, R: 'static> FleetBuilder<S, R> {
    /// What errors call the fleet. Default `fleet`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds a backend.
    pub fn backend(mut self, backend: Backend<R>) -> Self {
        self.backends.push(backend);
        self
    }

    /// Adds several.
    pub fn backends(mut self, backends: impl IntoIterator<Item = Backend<R>>) -> Self {
        self.backends.extend(backends);
        self
    }

    /// Puts a layer around the service of each backend, those that are inserted later too: a limit, a header, a trace.
    ///
    /// What is added first is innermost. For a single backend there is [`Backend::layer`]. A breaker is outermost, so that
    /// a fleet sees when it rejects: layers come before it.
    ///
    /// ```
    /// # use tower_fleet::{Backend, BalanceLayer, Fleet};
    /// # use tower::{ServiceBuilder, limit::ConcurrencyLimitLayer};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (a, b) = (tower::util::BoxCloneSyncService::new(tower::service_fn(|_: ()| async { Ok::<_, std::io::Error>(()) })),
    /// #     tower::util::BoxCloneSyncService::new(tower::service_fn(|_: ()| async { Ok::<_, std::io::Error>(()) })));
    /// // A hundred requests at a time to each of them.
    /// let fleet = Fleet::builder().each(ConcurrencyLimitLayer::new(100)).backend(Backend::new("a", a)).build()?;
    /// fleet.insert(Backend::new("b", b))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn each<L>(self, layer: L) -> FleetBuilder<L::Service, R>
    where
        L: Layer<S> + Send + Sync + 'static,
        L::Service: Send + Sync + 'static,
    {
        let mut builder = self.through(|inner| Arc::new(Layered { inner, layer }));
        if builder.policy.is_some() {
            builder.refused = Some(InvalidSetting::setting("each", "after circuit_breaker", "must come before it"));
        }
        builder
    }

    /// At most this share of the healthy backends, from 0 to 1, is taken out by their circuits at a time; the latest to
    /// fail serve on. Default 1, which is off.
    pub fn most_ejected(mut self, share: f64) -> Self {
        self.bounds.most_ejected = share;
        self
    }

    /// With less than this share of the healthy backends left by their circuits, everybody serves: better a bad chance
    /// than none, and no crowd on the last. Default 0, which is off.
    pub fn panic_below(mut self, share: f64) -> Self {
        self.bounds.panic_below = share;
        self
    }

    /// The fleet, unless a backend has a bad or a taken name, or a value is bad.
    pub fn build(self) -> Result<Fleet<S, R>, InvalidSetting> {
        let Self { name, backends, entrance, policy, bounds, refused } = self;
        refused.map_or(Ok(()), Err)?;
        let name = BackendName::checked(&name)?.0;
        let fleet = Fleet { shared: Arc::new(Shared::new(name, policy, bounds.checked()?)), entrance };
        let recruits = backends.into_iter().map(|backend| fleet.recruit(backend)).collect::<Result<Vec<_>, _>>()?;
        fleet.shared.edit(|registry| recruits.into_iter().try_for_each(|recruit| registry.insert(recruit)))?;
        Ok(fleet)
    }

    /// Gives each backend a circuit.
    pub(crate) fn policy(mut self, policy: Result<Policy, InvalidSetting>) -> Self {
        if self.policy.is_some() {
            self.refused = Some(InvalidSetting::setting("circuit_breaker", "", "is set twice"));
        }
        match policy {
            Ok(policy) => self.policy = Some(policy),
            Err(refused) => self.refused = Some(refused),
        }
        self
    }

    pub(crate) fn through<T>(
        self,
        entrance: impl FnOnce(Arc<dyn Entrance<R, S>>) -> Arc<dyn Entrance<R, T>>,
    ) -> FleetBuilder<T, R> {
        let Self { name, backends, entrance: inner, policy, bounds, refused } = self;
        FleetBuilder { name, backends, entrance: entrance(inner), policy, bounds, refused }
    }
}

impl<S, R> fmt::Debug for FleetBuilder<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.backends).finish()
    }
}
