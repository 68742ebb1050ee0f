//! What a fleet shows of its members.

use std::sync::Arc;

use super::{
    changes::{Changes, Listener},
    core::FleetCore,
    member::MemberInfo,
    snapshot::Snapshot,
    switch::Switch,
};

impl FleetCore {
    /// Returns the member of this name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<MemberInfo>> {
        self.registry().by_name.get(name).cloned()
    }

    /// Returns all members, in the order in which they were added.
    pub(crate) fn members(&self) -> Vec<Arc<MemberInfo>> {
        self.registry().members()
    }

    /// Returns the number of members.
    pub(crate) fn len(&self) -> usize {
        self.registry().members.len()
    }

    pub(crate) fn snapshot(&self) -> Vec<Snapshot> {
        // So that shares are those of now, even if there are no requests.
        self.process_due();
        let (registry, now) = (self.registry(), self.clock.now());
        let snapshot = |member| Snapshot::new(member, registry.shares.reason(member), now);
        registry.members.values().map(snapshot).collect()
    }

    pub(super) fn switch(&self, name: &str) -> Option<Switch> {
        self.find(name).and_then(Switch::new)
    }

    pub(crate) fn changes(&self) -> Changes {
        let (listener, changes) = Listener::pair();
        self.registry().listen(listener);
        changes
    }

    #[cfg(test)]
    pub(super) fn listeners(&self) -> usize {
        self.registry().listeners()
    }
}
