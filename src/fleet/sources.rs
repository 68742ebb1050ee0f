//! Which members came from the lists of a source that the fleet follows.

use std::collections::HashMap;

use crate::name::BackendId;

/// A source of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SourceId(u64);

/// The sources that are followed, and their members.
#[derive(Debug, Default)]
pub(super) struct Sources {
    last: u64,
    /// Members that came from no source are not in it.
    of_members: HashMap<BackendId, SourceId>,
}

impl Sources {
    /// Adds a source.
    pub(super) fn join(&mut self) -> SourceId {
        self.last += 1;
        SourceId(self.last)
    }

    /// Returns the source of a member, if it came from one.
    pub(super) fn source(&self, member: BackendId) -> Option<SourceId> {
        self.of_members.get(&member).copied()
    }

    /// Notes the source of a new member.
    pub(super) fn note(&mut self, member: BackendId, source: Option<SourceId>) {
        self.of_members.extend(source.map(|source| (member, source)));
    }

    /// Forgets a removed member.
    pub(super) fn forget(&mut self, member: BackendId) {
        self.of_members.remove(&member);
    }

    #[cfg(test)]
    pub(super) fn members(&self) -> usize {
        self.of_members.len()
    }

    /// Ends a source. Its members stay as if they had been inserted.
    pub(super) fn end(&mut self, source: SourceId) {
        self.of_members.retain(|_, other| *other != source);
    }
}
