//! The state of one backend, for status pages and operators.

use std::{sync::Arc, time::Duration};

use super::member::MemberInfo;
use crate::{
    health::{AdminStatus, CircuitState},
    name::{BackendId, BackendName},
    time::Moment,
};

/// The settings and the state of one backend at one moment, from [`Fleet::snapshot`](super::Fleet::snapshot).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The id. A replaced backend has another one.
    pub id: BackendId,
    /// The name.
    pub name: BackendName,
    /// The weight, at least 1.
    pub weight: u32,
    /// The priority, which is that of its tier.
    pub priority: i32,
    /// The limit on the time of one attempt.
    pub timeout: Option<Duration>,
    /// The status that the operator set.
    pub status: AdminStatus,
    /// The state of its circuit: closed if it has none.
    pub state: CircuitState,
    /// The rest of its [cool-down](super::Fleet::cool_down), if there is one.
    pub cools_for: Option<Duration>,
    /// The limit on the calls in flight, as it is now if it is adaptive.
    pub limit: Option<u32>,
    /// The number of calls in flight, up to the end of their responses.
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
            state: member.circuit().map_or(CircuitState::Closed, |circuit| circuit.state(now)),
            cools_for: member.health.cools_until().map(|until| until.since(now)),
            limit: member.limit(),
            in_flight: member.in_flight(),
        }
    }
}
