//! The state of one backend, for status pages and operators.

use std::{sync::Arc, time::Duration};

use super::{member::MemberInfo, tags::MemberTags};
use crate::{
    health::{AdminStatus, CircuitState, FULL_SHARE, LowHeadroom, OutlierReason, Timed},
    name::{BackendId, BackendName},
    outcome::TimeLimits,
    time::Moment,
};

/// The settings and the state of one backend at one moment, from [`Fleet::snapshot`](super::Fleet::snapshot).
#[derive(Clone, Debug, PartialEq)]
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
    /// The limits on the parts of a response.
    pub time_limits: TimeLimits,
    /// The [tags](super::Backend::tag), in ascending order.
    pub tags: Vec<Arc<str>>,
    /// The status that the operator set.
    pub status: AdminStatus,
    /// The state of its circuit: closed if it has none.
    pub state: CircuitState,
    /// The rest of its [cool-down](super::Fleet::cool_down), if there is one.
    pub cools_for: Option<Duration>,
    /// The limit on the calls in flight, as it is now if it is adaptive.
    pub limit: Option<u32>,
    /// The part of its traffic that it gets: 1, or less during its [slow start](super::SlowStart), as an
    /// [outlier](super::Outliers), or with little [headroom](super::FleetBuilder::headroom).
    pub share: f32,
    /// The rest of the time for which its share is smaller since little is left of its rate limit.
    pub headroom_low_for: Option<Duration>,
    /// Why it is an outlier, if it is one.
    pub outlier: Option<OutlierReason>,
    /// The rest of its ejection as an outlier, if it is ejected.
    pub ejected_for: Option<Duration>,
    /// Whether active [probes](crate::probe) of it fail.
    pub is_failing: bool,
    /// The rest of the time for which a [replica](crate::replicas) reports it, if one does.
    pub hinted_for: Option<Duration>,
    /// The number of calls in flight, up to the end of their responses.
    pub in_flight: usize,
}

impl Snapshot {
    pub(super) fn new(member: &Arc<MemberInfo>, outlier: Option<OutlierReason>, now: Moment) -> Self {
        let low_headroom = member.low_headroom().and_then(LowHeadroom::lowered);
        Self {
            id: member.id,
            name: member.name.clone(),
            weight: member.weight().get(),
            priority: member.priority(),
            timeout: member.timeout(),
            time_limits: member.time_limits().unwrap_or_default(),
            tags: member.tags().map(MemberTags::list).unwrap_or_default(),
            status: member.health.status(),
            state: member.circuit().map_or(CircuitState::Closed, |circuit| circuit.state(now)),
            cools_for: member.health.until(Timed::Cooling).map(|until| until.since(now)),
            limit: member.limit(),
            share: member.share() as f32 / FULL_SHARE as f32,
            headroom_low_for: low_headroom.map(|lowered| lowered.until.since(now)),
            outlier,
            ejected_for: member.health.until(Timed::Outlier).map(|until| until.since(now)),
            is_failing: member.health.until(Timed::Failing).is_some(),
            hinted_for: member.health.until(Timed::Hinted).map(|until| until.since(now)),
            in_flight: member.in_flight(),
        }
    }
}
