use std::{
    fmt,
    num::NonZeroU32,
    sync::{Arc, Weak},
    time::Duration,
};

use super::{BackendId, BackendName};
use crate::health::Health;

/// A backend that is part of a fleet.
///
/// The registry owns one strong reference and views own weak ones, so every other strong reference is a request: the
/// reference count is the in-flight gauge, and the last request of a removed backend frees it.
pub(crate) struct Member<S> {
    pub(crate) service: S,
    /// The timeout that is to be kept for it by whoever calls it.
    pub(crate) timeout: Option<Duration>,
    /// The timeout that was set for it, whoever keeps it.
    pub(crate) patience: Option<Duration>,
    pub(crate) facts: Arc<Facts>,
}

/// What is to be known of a member without its service.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) id: BackendId,
    pub(crate) name: BackendName,
    pub(crate) health: Arc<Health>,
}

/// A backend that a strategy may choose.
#[derive(Clone)]
pub struct Candidate {
    pub(super) facts: Arc<Facts>,
    pub(super) weight: NonZeroU32,
    pub(super) priority: i32,
    pub(super) position: u64,
    pub(super) member: Weak<dyn Send + Sync>,
}

impl Candidate {
    /// Which backend this is, whatever its name.
    #[inline]
    pub fn id(&self) -> BackendId {
        self.facts.id
    }

    /// Its name.
    pub fn name(&self) -> &BackendName {
        &self.facts.name
    }

    /// Its weight; never zero.
    #[inline]
    pub fn weight(&self) -> NonZeroU32 {
        self.weight
    }

    /// Its priority. All candidates of one choice have the same.
    pub fn priority(&self) -> i32 {
        self.priority
    }

    /// Its place in the order of the fleet: grows along the candidates, and stays when others come and go.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many requests are there now. Reads one counter, takes no lock.
    #[inline]
    pub fn in_flight(&self) -> usize {
        // One strong reference is the registry's.
        self.member.strong_count().saturating_sub(1)
    }
}

#[cfg(test)]
impl Candidate {
    /// A candidate of no fleet, for the tests of the strategies.
    pub(crate) fn alone(id: u64, position: u64, weight: u32) -> Self {
        let name = BackendName(format!("backend-{id}").into());
        let facts = Arc::new(Facts { id: BackendId(id), name, health: Arc::default() });
        let weight = NonZeroU32::new(weight).expect("a weight");
        Self { facts, weight, priority: 0, position, member: Weak::<()>::new() }
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("name", self.name())
            .field("weight", &self.weight)
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}
