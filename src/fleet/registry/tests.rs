//! What the registry notes of its members, recounted.

use super::*;
use crate::health::Circuit;

impl Registry {
    /// Compares what is noted with a recount of all members.
    pub(in crate::fleet) fn assert_recounted(&self, now: Moment) {
        let members = self.members();
        self.ejection.assert_recounted(&members);
        let is_due = |member: &&Arc<MemberInfo>| member.health.probe_at().is_some_and(|at| now.reached(at));
        assert_eq!(self.probes_due, members.iter().filter(is_due).count(), "the probes that are due");
        let is_half_open = |circuit: &Circuit| circuit.state(Moment::EPOCH) == CircuitState::HalfOpen;
        let half_open = members.iter().filter(|member| member.health.on_probation().is_some_and(is_half_open));
        assert_eq!(self.half_open, half_open.count(), "half-open circuits");
        for member in &members {
            assert_eq!(member.health.lapsed(now).next(), None, "`{}` keeps what is over", member.name);
            let ends_at = member.health.ends_at().filter(|at| *at != Moment::NEVER);
            let queued = self.queue.iter().find(|(_, other)| other.id == member.id).map(|((at, _), _)| *at);
            assert!(ends_at.is_none_or(|at| queued.is_some_and(|queued| queued <= at)), "`{}` has no end", member.name);
        }
        assert!(self.queue.values().all(|member| !member.health.is_removed()), "removed backends are queued");
    }
}
