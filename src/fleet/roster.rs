use std::{
    cmp::Reverse,
    sync::{Arc, Weak},
};

use super::{
    member::{Candidate, Member},
    registry::Entry,
};

/// One immutable view of the fleet: who is eligible, highest priority first.
///
/// It owns no backend, so a door that is never polled again keeps none alive.
pub(crate) struct Roster<S> {
    candidates: Arc<[Candidate]>,
    members: Box<[Weak<Member<S>>]>,
    first_tier: usize,
    backends: usize,
}

impl<S: Send + Sync + 'static> Roster<S> {
    pub(super) fn new(entries: &[Entry<S>]) -> Self {
        let mut eligible: Vec<_> = entries.iter().filter(|entry| entry.member.facts.health.eligible()).collect();
        // Stable: the order of the fleet among equals.
        eligible.sort_by_key(|entry| Reverse(entry.priority));
        let first_tier = eligible.iter().take_while(|entry| entry.priority == eligible[0].priority).count();
        Self {
            candidates: eligible.iter().map(|entry| entry.candidate()).collect(),
            members: eligible.iter().map(|entry| Arc::downgrade(&entry.member)).collect(),
            first_tier,
            backends: entries.len(),
        }
    }
}

impl<S> Roster<S> {
    /// The eligible backends of the highest tier that has any.
    pub(crate) fn first_tier(&self) -> Tier {
        Tier { candidates: Arc::clone(&self.candidates), len: self.first_tier }
    }

    /// The same, to look at.
    pub(crate) fn tier(&self) -> &[Candidate] {
        &self.candidates[..self.first_tier]
    }

    /// The member behind a candidate, unless it left just now.
    pub(crate) fn member(&self, index: usize) -> Option<Arc<Member<S>>> {
        self.members.get(index)?.upgrade()
    }

    /// How many backends the fleet has, eligible or not.
    pub(crate) fn backends(&self) -> usize {
        self.backends
    }
}

/// The eligible backends of one priority.
#[derive(Clone, Default)]
pub(crate) struct Tier {
    candidates: Arc<[Candidate]>,
    len: usize,
}

impl std::ops::Deref for Tier {
    type Target = [Candidate];

    #[inline]
    fn deref(&self) -> &[Candidate] {
        &self.candidates[..self.len]
    }
}
