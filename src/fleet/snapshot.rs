use std::time::Duration;

use super::{BackendId, BackendName, registry::Entry};
use crate::health::{Moment, State, Status};

/// How one backend is at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Which backend this is, whatever its name.
    pub id: BackendId,
    /// Its name.
    pub name: BackendName,
    /// Its weight.
    pub weight: u32,
    /// Its priority.
    pub priority: i32,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// What the operator says of it.
    pub status: Status,
    /// What its circuit says of it: closed, where it has none.
    pub state: State,
    /// Requests that run there, and instances that a door holds ready for its next request.
    pub in_flight: usize,
}

impl Snapshot {
    pub(super) fn new<S>(entry: &Entry<S>, now: Moment) -> Self {
        let facts = &entry.member.facts;
        Self {
            id: facts.id,
            name: facts.name.clone(),
            weight: entry.weight.get(),
            priority: entry.priority,
            timeout: entry.member.patience,
            status: facts.health.status(),
            state: facts.health.circuit().map_or(State::Closed, |circuit| circuit.state(now)),
            in_flight: entry.in_flight(),
        }
    }
}
