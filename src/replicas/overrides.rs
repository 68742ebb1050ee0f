//! What operators set, here and at other replicas.

use std::sync::Arc;

use super::{
    book::Book,
    report::{Override, Stamp},
};
use crate::{
    fleet::{FleetCore, MemberInfo, Switch},
    health::{CircuitState, Signal, Timed},
    name::BackendName,
    time::Moment,
};

impl Book {
    /// Notes what an operator set here, unless it is what another replica reported.
    pub(super) fn note_override(&mut self, core: &FleetCore, name: &BackendName, now: Moment) {
        let Some(member) = core.find(name).filter(|_| self.settings.overrides) else { return };
        let applied = self.entries.get(name).map_or(Override::NONE, |entry| entry.applied);
        let (here, clock) = (override_of(&member, applied), self.clock);
        // Also if it changes nothing, since what is set later is no longer restored.
        let is_restored = member.take_restored();
        if here.is_same_as(applied) {
            return;
        }
        if is_restored {
            self.note_restored(core, &member, here, now);
            return;
        }
        let entry = self.entry(name);
        let was_kept_out = entry.is_kept_out();
        entry.override_here(here, now, clock);
        self.foreign -= usize::from(was_kept_out);
        self.unreported.insert(name.clone());
    }

    /// Notes an override that this replica has restored. It counts as the earliest of all: what was set since is in the
    /// exchange.
    fn note_restored(&mut self, core: &FleetCore, member: &Arc<MemberInfo>, here: Override, now: Moment) {
        let entry = self.entry(&member.name);
        let (was_kept_out, is_known) = (entry.is_kept_out(), entry.known.operator.at() > Stamp::default());
        if is_known {
            entry.applied = here;
        } else {
            entry.override_here(here, now, None);
            entry.found_override();
        }
        let is_kept_out = entry.is_kept_out();
        self.foreign = self.foreign + usize::from(is_kept_out) - usize::from(was_kept_out);
        if is_known {
            self.apply_override(core, member);
        } else {
            self.unreported.insert(member.name.clone());
        }
    }

    /// Applies what an operator set at another replica, if that is the latest.
    pub(super) fn apply_override(&mut self, core: &FleetCore, member: &Arc<MemberInfo>) {
        let Some(entry) = self.entries.get(&member.name).filter(|_| self.settings.overrides) else { return };
        let latest = entry.known.operator;
        if latest.at() <= entry.applied.at() {
            return;
        }
        let is_same = latest.is_same_as(override_of(member, latest));
        let was_kept_out = entry.is_kept_out();
        if !is_same && latest.keeps_out() && !was_kept_out && !self.may_override(core) {
            return;
        }
        let entry = self.entry(&member.name);
        entry.is_foreign = !latest.is_none() && (entry.is_foreign || !is_same);
        entry.applied = latest;
        let is_kept_out = entry.is_kept_out();
        self.foreign = self.foreign + usize::from(is_kept_out) - usize::from(was_kept_out);
        if !is_same {
            set(core, member, latest);
            self.make_room(core);
        }
    }

    /// Sets again what an operator set at another replica, after the backend was replaced here: that was about its service.
    pub(super) fn keep_override(&mut self, core: &FleetCore, name: &BackendName) {
        let applied = self.entries.get(name).filter(|entry| entry.is_foreign).map(|entry| entry.applied);
        if let (Some(applied), Some(member)) = (applied, core.find(name))
            && override_of(&member, applied).is_none()
        {
            set(core, &member, applied);
        }
    }

    /// Ends hints until what other replicas report keeps at most half of the backends out: an operator knows better.
    fn make_room(&mut self, core: &FleetCore) {
        let (hinted, all) = core.hinted();
        let mut surplus = (self.foreign + hinted).saturating_sub(all / 2);
        if self.foreign == 0 || surplus == 0 {
            return;
        }
        for name in self.entries.keys() {
            let Some(member) = core.find(name).filter(|member| member.health.until(Timed::Hinted).is_some()) else {
                continue;
            };
            core.refute_hint(&member);
            self.refused.insert(name.clone());
            surplus -= 1;
            if surplus == 0 {
                return;
            }
        }
    }

    /// Returns whether another backend may have the override of another replica: at most half of them.
    fn may_override(&self, core: &FleetCore) -> bool {
        self.foreign < core.hinted().1 / 2
    }
}

/// Reads what the operator set for a member. `applied` stands for what a member without a circuit cannot hold.
fn override_of(member: &MemberInfo, applied: Override) -> Override {
    let forced = || applied.forced().unwrap_or(CircuitState::Closed);
    let state = member.circuit().map_or_else(forced, |circuit| circuit.state(Moment::EPOCH));
    Override::new(Stamp::default(), member.health.status(), state)
}

/// Sets for a member what an operator set at another replica.
fn set(core: &FleetCore, member: &Arc<MemberInfo>, to: Override) {
    core.signal(member, Signal::Status(to.status()));
    let Some(switch) = Switch::new(Arc::clone(member)) else { return };
    match to.forced() {
        Some(CircuitState::ForcedOpen) => switch.force_open(),
        Some(_) => switch.force_closed(),
        // What the rules found is no operator's, so it stays.
        None if switch.state().is_forced() => switch.reset(),
        None => {}
    }
}
