use std::{sync::Arc, time::Duration};

use super::member::MemberInfo;
use crate::{
    health::{State, Status},
    name::{BackendId, BackendName},
    time::Moment,
};

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
    /// For how long it is left alone, by [`Fleet::cool_down`](super::Fleet::cool_down).
    pub cools_for: Option<Duration>,
    /// Calls that run there, from the call to the end of the response.
    pub in_flight: usize,
}

impl Snapshot {
    pub(super) fn new(member: &Arc<MemberInfo>, now: Moment) -> Self {
        Self {
            id: member.id,
            name: member.name.clone(),
            weight: member.weight().get(),
            priority: member.priority(),
            timeout: member.timeout(),
            status: member.health.status(),
            state: member.circuit().map_or(State::Closed, |circuit| circuit.state(now)),
            cools_for: member.health.cools_until().map(|until| until.since(now)),
            in_flight: member.in_flight(),
        }
    }
}
