//! The events of members that change their fleet.

use std::sync::Arc;

use super::{
    changes::Change,
    core::FleetCore,
    member::{MemberInfo, Publisher},
    watch::Over,
};
use crate::{
    health::{CircuitState, Lowered, Signal, Timed, Transition},
    time::Moment,
};

impl Publisher for FleetCore {
    fn circuit_changed(&self, member: &Arc<MemberInfo>, transition: Transition) {
        self.edit(|registry| {
            if !member.health.is_removed() {
                registry.announce(Change::Circuit(member.name.clone(), transition));
                let now = self.clock.now();
                if (transition.from, transition.to) == (CircuitState::HalfOpen, CircuitState::Closed) {
                    // Its own probes say more than another replica.
                    registry.drop_hint(member, now);
                }
                registry.start_after(member, transition, now);
                registry.refresh_circuit(member, transition.to == CircuitState::Open, now);
            }
        });
    }

    fn permits_changed(&self, member: &Arc<MemberInfo>) {
        self.edit(|registry| registry.refresh_circuit(member, false, self.clock.now()));
    }

    fn overruled(&self, member: &Arc<MemberInfo>) {
        self.edit(|registry| registry.overrule(member, self.clock.now()));
    }

    fn interval_over(&self, over: Over, now: Moment) {
        self.edit(|registry| registry.evaluate(over.is_stale, now));
    }

    fn time_named(&self, member: &Arc<MemberInfo>, until: Moment) {
        self.signal(member, Signal::Until(Timed::Cooling, until));
    }

    fn headroom_changed(&self, member: &Arc<MemberInfo>, stated: Lowered) {
        self.set_headroom(member, stated);
    }
}
