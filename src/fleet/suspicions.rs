//! What active probes and other replicas report about members.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    changes::Change,
    core::FleetCore,
    member::{MemberInfo, Publisher},
    registry::Registry,
};
use crate::{
    health::{Circuit, Signal, Timed, Transition},
    time::Moment,
};

impl FleetCore {
    /// Takes a member out for this time, since its probes fail. Called again by each further failed probe, so that a
    /// prober that is dropped leaves nothing behind.
    pub(crate) fn probe_failed(&self, member: &Arc<MemberInfo>, time: Duration) {
        self.edit(|registry| {
            let (health, now) = (&member.health, self.clock.now());
            if health.is_removed() || health.is_forced_closed() {
                return;
            }
            let was_failing = health.until(Timed::Failing).is_some();
            if health.apply(Signal::Until(Timed::Failing, now.after(time))) {
                if !was_failing {
                    registry.announce(Change::Probe(member.name.clone(), false));
                }
                registry.refresh(member, false, now);
            }
        });
    }

    /// Notes that a probe of a member succeeded: its probes do not fail, a hint ends, and an open circuit becomes
    /// half-open, or closed if `closes` is set. What an operator has set stays.
    pub(crate) fn probe_succeeded(&self, member: &Arc<MemberInfo>, closes: bool) {
        self.edit(|registry| {
            let now = self.clock.now();
            registry.end(member, Timed::Failing, now);
            if closes {
                registry.drop_hint(member, now);
                registry.transit(member, |circuit| circuit.recover(now));
            } else {
                registry.end(member, Timed::Hinted, now);
                registry.transit(member, |circuit| circuit.probe_now(now));
            }
        });
    }

    /// Takes a member out for this time, since another replica reports it. `on_probation`: when that ends, a closed
    /// circuit becomes half-open.
    ///
    /// Returns false, and changes nothing, if too many backends would be out, or if an operator forced the circuit
    /// closed. Of several reports the longest deadline counts.
    pub(crate) fn hint(&self, member: &Arc<MemberInfo>, time: Duration, on_probation: bool) -> bool {
        self.edit(|registry| {
            let (health, now) = (&member.health, self.clock.now());
            if health.is_removed() || health.is_forced_closed() || !registry.ejection.may_hint(member) {
                return false;
            }
            if health.apply(Signal::Until(Timed::Hinted, now.after(time))) {
                registry.announce(Change::Hint(member.name.clone(), Some(time)));
            }
            if on_probation {
                health.apply(Signal::Probation);
            }
            registry.refresh(member, false, now);
            true
        })
    }

    /// Ends the hint of a member, since another replica reports that the backend has recovered. It is probed first: its
    /// circuit becomes half-open.
    pub(crate) fn end_hint(&self, member: &Arc<MemberInfo>) {
        self.edit(|registry| {
            let now = self.clock.now();
            registry.end(member, Timed::Hinted, now);
            registry.transit(member, |circuit| circuit.probe_now(now));
        });
    }

    /// Ends the hint of a member, since this replica found that the backend has recovered.
    pub(crate) fn refute_hint(&self, member: &Arc<MemberInfo>) {
        self.edit(|registry| registry.drop_hint(member, self.clock.now()));
    }

    /// Returns whether the limits allow that a hint keeps a member out.
    pub(crate) fn may_hint(&self, member: &MemberInfo) -> bool {
        self.registry().ejection.may_hint(member)
    }

    /// Returns the number of members that hints keep out, and that of all members.
    pub(crate) fn hinted(&self) -> (usize, usize) {
        let registry = self.registry();
        (registry.ejection.hinted(), registry.members.len())
    }

    /// Delays the probe of an open circuit, since another replica probes the backend.
    pub(crate) fn defer_probe(&self, member: &Arc<MemberInfo>, time: Duration) {
        let now = self.clock.now();
        if member.circuit().is_some_and(|circuit| circuit.defer(now.after(time))) {
            self.permits_changed(member);
        }
    }
}

impl MemberInfo {
    /// Returns whether a status or a forced circuit was restored since the last time. It is older than what an operator has
    /// set at another replica since.
    pub(crate) fn take_restored(&self) -> bool {
        self.marks.restored.swap(false, Ordering::Relaxed)
    }
}

impl Registry {
    /// Ends an opinion, if it is held. A backend is probed first where a hint requires it.
    pub(super) fn end(&mut self, member: &Arc<MemberInfo>, opinion: Timed, now: Moment) {
        // Its name may belong to another one by now.
        if member.health.is_removed() {
            return;
        }
        if opinion == Timed::Hinted && member.health.is_probed_after_hint() {
            self.transit(member, |circuit| circuit.begin_probation(now));
        }
        let was_eligible = member.health.is_eligible();
        if !member.health.apply(Signal::Over(opinion)) {
            return;
        }
        match opinion {
            Timed::Failing => self.announce(Change::Probe(member.name.clone(), true)),
            Timed::Hinted => self.announce(Change::Hint(member.name.clone(), None)),
            Timed::Cooling | Timed::Outlier => {}
        }
        self.refresh(member, false, now);
        if opinion == Timed::Failing && !was_eligible && member.health.is_eligible() {
            self.start_slowly(member, now);
        }
    }

    /// Ends a hint as if there had been none.
    pub(super) fn drop_hint(&mut self, member: &Arc<MemberInfo>, now: Moment) {
        if !member.health.is_removed() && member.health.apply(Signal::Over(Timed::Hinted)) {
            self.announce(Change::Hint(member.name.clone(), None));
            self.refresh(member, false, now);
        }
    }

    /// Ends what probes and other replicas report, since an operator knows better.
    pub(super) fn overrule(&mut self, member: &Arc<MemberInfo>, now: Moment) {
        self.drop_hint(member, now);
        self.end(member, Timed::Failing, now);
    }

    /// Changes the circuit of a member. The transition is published after the edit.
    fn transit(&mut self, member: &Arc<MemberInfo>, change: impl FnOnce(&Circuit) -> Option<Transition>) {
        if let Some(transition) = member.circuit().and_then(change) {
            self.transitions.push((Arc::clone(member), transition));
        }
    }
}
