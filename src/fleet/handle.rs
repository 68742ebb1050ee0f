use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use super::{
    backend::{Backend, checked_timeout, checked_weight},
    books::Books,
    changes::{Change, Changes},
    core::FleetCore,
    member::{MemberInfo, Publisher, Settings},
    snapshot::Snapshot,
    switch::Switch,
    view::{Entry, Key, Shared},
};
use crate::{
    health::{Signal, Status},
    name::{BackendId, BackendName},
    outcome::HttpClassifier,
    setting::InvalidSetting,
};

/// A set of backends that serve as one. Cheap to clone; clones share the set.
///
/// `S` is the type of their services, as they were given. `C` tells how a call ended; by default calls are HTTP or gRPC.
/// A fleet of services that are not HTTP is made by [`Fleet::plain`].
pub struct Fleet<S, C = HttpClassifier> {
    pub(super) shared: Arc<Shared<S, C>>,
}

/// A member to be added.
pub(super) struct Added<S, C> {
    settings: Settings,
    status: Status,
    /// With a classifier of its own: it is copied before the lock, like all that is the caller's code.
    parts: (S, C),
    key: Option<Key>,
}

impl<S, C> Added<S, C> {
    pub(super) fn name(&self) -> &BackendName {
        &self.settings.name
    }
}

impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> Fleet<S, C> {
    /// Adds a backend, last among those of its priority.
    ///
    /// # Errors
    ///
    /// A bad value, or a name that is taken.
    pub fn insert(&self, backend: Backend<S>) -> Result<(), InvalidSetting> {
        let mut added = Some(self.added(backend)?);
        let core = &self.shared.core;
        core.edit(|books| insert(self, books, &mut added))
    }

    /// Puts another service, weight, priority and timeout in the place of the backend with the same name.
    ///
    /// Running requests of the old one finish there. Nothing that was believed about the old one goes over.
    ///
    /// # Errors
    ///
    /// A bad value, or a name that no backend has.
    pub fn replace(&self, backend: Backend<S>) -> Result<(), InvalidSetting> {
        let mut added = Some(self.added(backend)?);
        let gone = self.shared.core.edit(|books| replace(self, books, &mut added))?;
        drop(gone);
        Ok(())
    }

    /// Takes a backend out: when this returns, no further request is admitted there. Those that were, finish, and the last
    /// one frees it. False when there is no such backend.
    pub fn remove(&self, name: &str) -> bool {
        let gone = self.shared.core.edit(|books| {
            let member = books.by_name.get(name).cloned()?;
            self.remove_member(books, &member)
        });
        gone.is_some()
    }

    /// Changes a backend's share of the requests.
    ///
    /// # Errors
    ///
    /// An unknown name, or a weight of 0: to send nothing to a backend, [`drain`](Self::drain) it.
    pub fn set_weight(&self, name: &str, weight: u32) -> Result<(), InvalidSetting> {
        // The name first: it is safe to show only once it is known.
        self.shared.core.books().known(name)?;
        self.shared.core.set_weight(name, checked_weight(name, weight)?)
    }

    /// Moves a backend to the tier of that priority. False when there is no such backend.
    pub fn set_priority(&self, name: &str, priority: i32) -> bool {
        self.shared.core.set_priority(name, priority)
    }

    /// Changes how long one attempt at a backend may take, from the next call on.
    ///
    /// # Errors
    ///
    /// An unknown name, or a timeout of zero.
    pub fn set_timeout(&self, name: &str, timeout: impl Into<Option<Duration>>) -> Result<(), InvalidSetting> {
        let timeout = timeout.into();
        self.shared.core.books().known(name)?;
        checked_timeout(name, timeout)?;
        self.shared.core.set_timeout(name, timeout)
    }

    /// Sets the operator's word on a backend: only healthy ones get new requests. False when there is no such backend.
    pub fn set_status(&self, name: &str, status: Status) -> bool {
        self.shared.core.set_status(name, status)
    }

    /// Lets a backend finish what runs there and gives it nothing new, before it is removed or while it is mended.
    /// False when there is no such backend.
    pub fn drain(&self, name: &str) -> bool {
        self.set_status(name, Status::Draining)
    }

    /// Leaves a backend alone for a time, which ends by itself: it asked for that, or its quota is used up.
    ///
    /// Of two times the one that ends later counts. Independent of the operator's word and of the circuit. False when
    /// there is no such backend.
    pub fn cool_down(&self, name: &str, time: Duration) -> bool {
        self.shared.core.cool_down(name, time)
    }

    /// How every backend is at this moment, in the order they came.
    pub fn snapshot(&self) -> Vec<Snapshot> {
        self.shared.core.snapshot()
    }

    /// How many backends the fleet has, eligible or not.
    pub fn len(&self) -> usize {
        self.shared.core.books().members.len()
    }

    /// Whether the fleet has no backend.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What changes from now on.
    pub fn changes(&self) -> Changes {
        self.shared.core.changes()
    }

    /// The handle of a backend's circuit. None when there is no such backend, or the fleet has no circuits.
    pub fn switch(&self, name: &str) -> Option<Switch> {
        self.shared.core.switch(name)
    }

    /// Looks at a backend before it enters.
    pub(super) fn added(&self, backend: Backend<S>) -> Result<Added<S, C>, InvalidSetting> {
        let settings = backend.checked()?;
        let Backend { status, service, .. } = backend;
        Ok(self.made(settings, status, service, None))
    }

    pub(super) fn made(&self, settings: Settings, status: Status, service: S, key: Option<Key>) -> Added<S, C> {
        Added { settings, status, parts: (service, self.shared.classifier.clone()), key }
    }

    /// Adds a member, in the place of another one if there is one. What is given up is to be dropped outside the lock.
    pub(super) fn put_member(
        &self,
        books: &mut Books,
        added: Added<S, C>,
        before: Option<&Arc<MemberInfo>>,
    ) -> Option<Entry<S, C>> {
        let Added { settings, status, parts, key } = added;
        let core = &self.shared.core;
        let now = core.clock.now();
        books.last_id += 1;
        let (id, lines) = (BackendId(books.last_id), Shared::<S, C>::lines(books.expected.max(books.members.len())));
        let name = settings.name.clone();
        let fleet: Weak<dyn Publisher> = Arc::<FleetCore>::downgrade(core);
        let info = MemberInfo::new(id, settings, core.policy.as_ref(), lines, core.clock, Some(fleet));
        info.health.apply(Signal::Status(status));
        let Some(before) = before else {
            let info = Arc::new(info);
            books.tell(Change::Inserted(name));
            self.shared.own(Arc::clone(&info), parts, key, lines);
            books.add(info, None, now);
            return None;
        };
        let info = Arc::new(info.at(before.position()));
        books.tell(Change::Replaced(name));
        let index = books.take_out(before, now);
        self.shared.own(Arc::clone(&info), parts, key, lines);
        books.add(info, index, now);
        self.shared.disown(before)
    }

    /// Takes a member out. What is given up is to be dropped outside the lock.
    pub(super) fn remove_member(&self, books: &mut Books, member: &Arc<MemberInfo>) -> Option<Entry<S, C>> {
        books.tell(Change::Removed(member.name.clone()));
        books.take_out(member, self.shared.core.clock.now());
        self.shared.disown(member)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<S, C>> {
        &self.shared
    }

    #[cfg(test)]
    pub(super) fn listeners(&self) -> usize {
        self.shared.core.listeners()
    }
}

/// Adds what is in `added`, which stays there when it is refused: its service is dropped outside the lock.
pub(super) fn insert<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static>(
    fleet: &Fleet<S, C>,
    books: &mut Books,
    added: &mut Option<Added<S, C>>,
) -> Result<(), InvalidSetting> {
    if let Some(refused) = added.as_ref().filter(|added| books.by_name.contains_key(&added.settings.name)) {
        return Err(InvalidSetting::taken(&refused.settings.name));
    }
    if let Some(added) = added.take() {
        fleet.put_member(books, added, None);
    }
    Ok(())
}

/// Puts what is in `added` in the place of the member with its name; it stays there when there is none.
pub(super) fn replace<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static>(
    fleet: &Fleet<S, C>,
    books: &mut Books,
    added: &mut Option<Added<S, C>>,
) -> Result<Option<Entry<S, C>>, InvalidSetting> {
    let Some(name) = added.as_ref().map(|added| added.settings.name.clone()) else { return Ok(None) };
    let before = books.known(&name)?;
    Ok(added.take().and_then(|added| fleet.put_member(books, added, Some(&before))))
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
