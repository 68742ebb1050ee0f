use std::time::Duration;

use super::{BackendId, Name, registry::Entry};
use crate::health::Status;

/// How one backend is at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Which backend this is, whatever its name.
    pub id: BackendId,
    /// Its name.
    pub name: Name,
    /// Its weight.
    pub weight: u32,
    /// Its priority.
    pub priority: i32,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// What is believed about it.
    pub state: Status,
    /// Requests that run there, and instances that a door holds ready for its next request.
    pub in_flight: usize,
}

impl<S> From<&Entry<S>> for Snapshot {
    fn from(entry: &Entry<S>) -> Self {
        let facts = &entry.member.facts;
        Self {
            id: facts.id,
            name: facts.name.clone(),
            weight: entry.weight.get(),
            priority: entry.priority,
            timeout: entry.member.timeout,
            state: facts.health.status(),
            in_flight: entry.in_flight(),
        }
    }
}
