//! The handle of a fleet, which changes and inspects it.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    backend::{Backend, checked_limit, checked_timeout, checked_weight},
    changes::{Change, Changes},
    member::{MemberInfo, Settings},
    registry::Registry,
    shard::{Key, OwnedMember},
    snapshot::Snapshot,
    switch::Switch,
    view::FleetInner,
};
use crate::{
    foreign,
    health::{AdminStatus, Limit},
    name::{BackendId, BackendName},
    outcome::HttpClassifier,
    setting::InvalidSetting,
};

/// A handle of a set of backends. Cheap to clone; clones share the set.
///
/// `S` is the type of the backends' services. `C` is the classifier, which decides whether a call failed; the default
/// is for HTTP and gRPC. For services that are not HTTP see [`Fleet::plain`].
///
/// Put a door on it to send requests: a [`BalanceLayer`](crate::BalanceLayer) or a
/// [`FailoverLayer`](crate::FailoverLayer). Changes through any clone are seen by the next request of each door.
///
/// ```
/// # use tower_fleet::{Backend, BalanceLayer, Fleet};
/// # use tower_layer::Layer;
/// # let (a, b) = ((), ());
/// let fleet = Fleet::plain().backend(Backend::new("a", a)).build()?;
/// let balance = BalanceLayer::weighted().layer(fleet.clone());
/// fleet.insert(Backend::new("b", b))?; // `balance` selects it from now on
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
pub struct Fleet<S, C = HttpClassifier> {
    pub(super) shared: Arc<FleetInner<S, C>>,
}

/// A member to be added, with checked settings.
pub(super) struct NewMember<S, C> {
    settings: Settings,
    status: AdminStatus,
    /// The service and its own copy of the classifier. Cloned before the lock is taken, since that is the caller's
    /// code.
    parts: (S, C),
    key: Option<Key>,
}

impl<S, C> NewMember<S, C> {
    pub(super) fn name(&self) -> &BackendName {
        &self.settings.name
    }
}

impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> Fleet<S, C> {
    /// Adds a backend, as the last one of its tier.
    ///
    /// # Errors
    ///
    /// An invalid setting, or a name that another backend of the fleet has.
    pub fn insert(&self, backend: Backend<S>) -> Result<(), InvalidSetting> {
        let mut new = Some(self.checked(backend)?);
        let core = &self.shared.core;
        core.edit(|registry| insert(self, registry, &mut new))
    }

    /// Replaces the backend of the same name: its service, weight, priority, timeout and status.
    ///
    /// The new backend keeps the position, and starts with a closed circuit and no cool-down. Requests in flight finish
    /// at the old one. To change a setting only, see [`set_weight`](Self::set_weight) and the like, or
    /// [`reconcile`](Self::reconcile).
    ///
    /// # Errors
    ///
    /// An invalid setting, or a name that no backend has.
    pub fn replace(&self, backend: Backend<S>) -> Result<(), InvalidSetting> {
        let mut new = Some(self.checked(backend)?);
        let removed = self.shared.core.edit(|registry| replace(self, registry, &mut new))?;
        foreign::discard(removed);
        Ok(())
    }

    /// Removes a backend. Returns false if there is no such backend.
    ///
    /// When this returns, no further request is sent to it. Requests in flight finish, and the last one drops the
    /// service.
    pub fn remove(&self, name: &str) -> bool {
        let removed = self.shared.core.edit(|registry| {
            let member = registry.by_name.get(name).cloned()?;
            self.remove_member(registry, &member)
        });
        let is_removed = removed.is_some();
        foreign::discard(removed);
        is_removed
    }

    /// Sets the weight of a backend.
    ///
    /// # Errors
    ///
    /// An unknown name, or a weight of 0. To send no requests to a backend, [`drain`](Self::drain) it.
    pub fn set_weight(&self, name: &str, weight: u32) -> Result<(), InvalidSetting> {
        // First the name: the error of a weight shows it, so it must be a valid one.
        self.shared.core.registry().member(name)?;
        self.shared.core.set_weight(name, checked_weight(name, weight)?)
    }

    /// Sets the priority of a backend, and so moves it to another tier. Returns false if there is no such backend.
    pub fn set_priority(&self, name: &str, priority: i32) -> bool {
        self.shared.core.set_priority(name, priority)
    }

    /// Sets the timeout of one attempt at a backend, from the next call on. `None` is no limit.
    ///
    /// # Errors
    ///
    /// An unknown name, or a timeout of zero.
    pub fn set_timeout(&self, name: &str, timeout: impl Into<Option<Duration>>) -> Result<(), InvalidSetting> {
        let timeout = timeout.into();
        self.shared.core.registry().member(name)?;
        checked_timeout(name, timeout)?;
        self.shared.core.set_timeout(name, timeout)
    }

    /// Sets the limit on the calls in flight at a backend, from the next call on. `None` is that of the fleet, if it has
    /// one.
    ///
    /// Calls that run already finish. Those that began before the backend had any limit are not counted.
    ///
    /// # Errors
    ///
    /// An unknown name, or an invalid limit.
    pub fn set_limit(&self, name: &str, limit: impl Into<Option<Limit>>) -> Result<(), InvalidSetting> {
        self.shared.core.registry().member(name)?;
        self.shared.core.set_limit(name, checked_limit(name, limit.into())?)
    }

    /// Sets the status of a backend. Only healthy ones get new requests. Returns false if there is no such backend.
    ///
    /// Independent of its circuit: neither changes the other.
    pub fn set_status(&self, name: &str, status: AdminStatus) -> bool {
        self.shared.core.set_status(name, status)
    }

    /// Drains a backend: requests in flight finish, and it gets no new ones. Returns false if there is no such backend.
    ///
    /// Short for [`set_status`](Self::set_status) with [`AdminStatus::Draining`]. Once the [snapshot](Self::snapshot)
    /// shows none in flight, the backend can be removed or repaired without a failed request.
    pub fn drain(&self, name: &str) -> bool {
        self.set_status(name, AdminStatus::Draining)
    }

    /// Returns the current settings and state of each backend, in the order in which they were added.
    pub fn snapshot(&self) -> Vec<Snapshot> {
        self.shared.core.snapshot()
    }

    /// Returns the number of backends, eligible or not.
    pub fn len(&self) -> usize {
        self.shared.core.len()
    }

    /// Returns whether the fleet has no backend.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a stream of the changes from now on.
    pub fn changes(&self) -> Changes {
        self.shared.core.changes()
    }

    /// Returns the handle of a backend's circuit. `None` if there is no such backend, or the fleet has no circuits.
    pub fn switch(&self, name: &str) -> Option<Switch> {
        self.shared.core.switch(name)
    }

    /// Checks a backend before it is added.
    pub(super) fn checked(&self, backend: Backend<S>) -> Result<NewMember<S, C>, InvalidSetting> {
        let settings = backend.checked()?;
        let Backend { status, service, .. } = backend;
        Ok(self.new_member(settings, status, service, None))
    }

    pub(super) fn new_member(
        &self,
        settings: Settings,
        status: AdminStatus,
        service: S,
        key: Option<Key>,
    ) -> NewMember<S, C> {
        NewMember { settings, status, parts: (service, self.shared.classifier.clone()), key }
    }

    /// Adds a member, or replaces the member `before`. Returns the replaced one, to be dropped outside the lock.
    pub(super) fn put_member(
        &self,
        registry: &mut Registry,
        new: NewMember<S, C>,
        before: Option<&Arc<MemberInfo>>,
    ) -> Option<OwnedMember<S, C>> {
        let NewMember { settings, status, parts, key } = new;
        let core = &self.shared.core;
        let now = core.clock.now();
        registry.last_id += 1;
        let id = BackendId(registry.last_id);
        let lines = FleetInner::<S, C>::line_count(registry.expected.max(registry.members.len()));
        let (name, limit) = (settings.name.clone(), settings.limit);
        let links = Arc::clone(&self.shared.links);
        let info = MemberInfo::new(id, settings, core.policy.as_ref(), lines, core.clock, &core.metering, Some(links));
        let info = info.watched(core.schedule.as_ref());
        info.set_limit(limit, core.limit, now);
        info.begin_with(status);
        let Some(before) = before else {
            let info = Arc::new(info);
            registry.announce(Change::Inserted(name));
            self.shared.insert_service(Arc::clone(&info), parts, key, lines);
            registry.add(info, now);
            return None;
        };
        let info = Arc::new(info.at(before.position()));
        registry.announce(Change::Replaced(name));
        registry.remove(before, now);
        self.shared.insert_service(Arc::clone(&info), parts, key, lines);
        registry.add(info, now);
        self.shared.remove_service(before)
    }

    /// Removes a member, and returns it to be dropped outside the lock.
    pub(super) fn remove_member(&self, registry: &mut Registry, member: &Arc<MemberInfo>) -> Option<OwnedMember<S, C>> {
        registry.announce(Change::Removed(member.name.clone()));
        registry.remove(member, self.shared.core.clock.now());
        self.shared.remove_service(member)
    }

    pub(crate) fn shared(&self) -> &Arc<FleetInner<S, C>> {
        &self.shared
    }

    #[cfg(feature = "serde")]
    pub(crate) fn of(shared: Arc<FleetInner<S, C>>) -> Self {
        Self { shared }
    }
}

/// Adds the member in `new`. If it is rejected, it stays in `new`, so that its service is dropped outside the lock.
pub(super) fn insert<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static>(
    fleet: &Fleet<S, C>,
    registry: &mut Registry,
    new: &mut Option<NewMember<S, C>>,
) -> Result<(), InvalidSetting> {
    if let Some(taken) = new.as_ref().map(NewMember::name).filter(|name| registry.by_name.contains_key(*name)) {
        return Err(InvalidSetting::of_name(taken, "is taken"));
    }
    if let Some(new) = new.take() {
        fleet.put_member(registry, new, None);
    }
    Ok(())
}

/// Replaces the member of the same name by the member in `new`, which stays there if it is rejected.
pub(super) fn replace<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static>(
    fleet: &Fleet<S, C>,
    registry: &mut Registry,
    new: &mut Option<NewMember<S, C>>,
) -> Result<Option<OwnedMember<S, C>>, InvalidSetting> {
    let Some(name) = new.as_ref().map(NewMember::name) else { return Ok(None) };
    let before = registry.member(name)?;
    Ok(new.take().and_then(|new| fleet.put_member(registry, new, Some(&before))))
}

impl<S, C> Clone for Fleet<S, C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> fmt::Debug for Fleet<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.snapshot()).finish()
    }
}
