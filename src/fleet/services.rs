//! The services of the members of a fleet.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, PoisonError},
};

use super::{
    member::MemberInfo,
    shard::{Key, OwnedMember, Shard},
    view::FleetInner,
};
use crate::{name::BackendId, shard};

impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> FleetInner<S, C> {
    /// Stores the service of a member that is being added to the registry.
    pub(super) fn insert_service(&self, info: Arc<MemberInfo>, parts: (S, C), key: Option<Key>, lines: usize) {
        self.services().insert(info.id, OwnedMember::new(info, parts, key, lines));
    }

    /// Removes the service of a removed member, to be dropped outside the lock.
    pub(super) fn remove_service(&self, info: &MemberInfo) -> Option<OwnedMember<S, C>> {
        self.services().remove(&info.id)
    }

    /// Returns a member with its service. `None` if it was removed meanwhile.
    pub(crate) fn member(&self, id: BackendId) -> Option<Arc<Shard<S, C>>> {
        self.services().get(&id)?.weak.at(shard::SHARED).upgrade()
    }

    /// Returns the key that the service of a member was made from.
    pub(super) fn key(&self, id: BackendId) -> Option<Key> {
        self.services().get(&id)?.key.clone()
    }

    pub(super) fn services(&self) -> MutexGuard<'_, HashMap<BackendId, OwnedMember<S, C>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
