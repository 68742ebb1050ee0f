//! What is saved of a fleet for the next start of the process, and how a fleet continues from it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use super::{changes::Change, core::FleetCore, member::MemberInfo, registry::Registry, shares::SavedShare};
use crate::{
    health::{AdminStatus, CircuitState, OutlierChange, SavedCircuit, SavedLoad, Signal, Timed},
    name::BackendName,
    time::{Clock, Moment},
};

/// The backends with something to save, by name.
pub(crate) type SavedFleet = BTreeMap<BackendName, SavedBackend>;

/// What is saved of one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SavedBackend {
    /// The status that an operator set, if it is not the one of the settings.
    pub(crate) status: Option<AdminStatus>,
    pub(crate) circuit: Option<SavedCircuit>,
    /// The rest of the cool-down.
    pub(crate) cools_for: Option<Duration>,
    pub(crate) share: SavedShare,
    pub(crate) load: SavedLoad,
}

/// The longest cool-down that is restored, which is the longest duration of any setting.
const MAX_COOL_DOWN: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl SavedBackend {
    /// Returns the backend as it is after some time without calls. Deadlines that are reached are due, no longer.
    pub(crate) fn aged(self, by: Duration) -> Self {
        Self {
            status: self.status,
            circuit: self.circuit.map(|circuit| circuit.aged(by)),
            cools_for: self.cools_for.and_then(|time| time.checked_sub(by)).filter(|time| !time.is_zero()),
            share: self.share.aged(by),
            load: self.load.aged(by),
        }
    }

    /// Returns whether there is nothing to save.
    pub(crate) fn is_empty(&self) -> bool {
        self.without_load() == Self::default() && self.load.is_empty()
    }

    /// Returns the backend without its estimates, which change with every call.
    pub(crate) fn without_load(self) -> Self {
        Self { load: SavedLoad::default(), ..self }
    }
}

/// Reads what is to be saved of a fleet, also when the fleet has ended, and continues a fleet from it.
///
/// Does not keep the fleet alive: of its core it holds the registry only.
pub(crate) struct Savings {
    core: Weak<FleetCore>,
    registry: Arc<Mutex<Registry>>,
    clock: Clock,
}

impl Savings {
    pub(crate) fn of(core: &Arc<FleetCore>) -> Self {
        Self { core: Arc::downgrade(core), registry: Arc::clone(&core.registry), clock: core.clock }
    }

    /// Returns the current moment of the fleet.
    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Returns what is to be saved at this moment. Holds the lock of the fleet to list the members only.
    pub(crate) fn read(&self, now: Moment) -> SavedFleet {
        let (members, shares) = {
            let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
            (
                registry.members.values().cloned().collect::<Vec<_>>(),
                registry.shares.saved(now).collect::<HashMap<_, _>>(),
            )
        };
        let saved = |member: Arc<MemberInfo>| {
            let saved = SavedBackend {
                status: Some(member.health.status()).filter(|status| *status != member.built_status()),
                circuit: member.circuit().and_then(|circuit| circuit.saved(now)),
                cools_for: member.health.until(Timed::Cooling).map(|until| until.since(now)),
                share: shares.get(&member.id).copied().unwrap_or_default(),
                load: member.load().saved(now),
            };
            let saved = saved.aged(Duration::ZERO);
            (!saved.is_empty()).then(|| (member.name.clone(), saved))
        };
        members.into_iter().filter_map(saved).collect()
    }

    /// Continues the backends of the fleet from what was saved. What belongs to other names stays in `saved`.
    ///
    /// What happened in this process is newer and stays: a status that was set, a circuit that has moved, a longer
    /// cool-down, an outlier, samples of calls.
    pub(crate) fn restore(&self, saved: &mut SavedFleet, now: Moment) {
        let Some(core) = self.core.upgrade().filter(|_| !saved.is_empty()) else { return };
        core.edit(|registry| {
            let names: Vec<_> = saved.keys().filter(|name| registry.by_name.contains_key(*name)).cloned().collect();
            let known = |name| Some((registry.by_name.get(&name).cloned()?, saved.remove(&name)?));
            let mut known: Vec<_> = names.into_iter().filter_map(known).collect();
            // If the limits on ejections do not allow all of them, the first members are out.
            known.sort_by_key(|(member, _)| member.position());
            for (member, saved) in &known {
                core.restore(registry, member, saved, now);
            }
            // Then it is known how many others of their tiers are out.
            registry.restore_shares(&known, now);
        });
    }
}

impl FleetCore {
    fn restore(&self, registry: &mut Registry, member: &Arc<MemberInfo>, saved: &SavedBackend, now: Moment) {
        if let Some(status) = saved.status.filter(|_| member.health.status() == member.built_status()) {
            member.marks.restored.store(true, Ordering::Relaxed);
            self.write(registry, member, Signal::Status(status));
        }
        if let Some(time) = saved.cools_for.filter(|time| !time.is_zero()) {
            let until = now.after(time.min(MAX_COOL_DOWN));
            self.write(registry, member, Signal::Until(Timed::Cooling, until));
        }
        member.load().restore(saved.load, now);
        let circuit = member.circuit().zip(saved.circuit);
        if let Some(transition) = circuit.and_then(|(circuit, saved)| circuit.restore(saved, now)) {
            if transition.to.is_forced() {
                member.marks.restored.store(true, Ordering::Relaxed);
            }
            if transition.to == CircuitState::ForcedClosed {
                registry.overrule(member, now);
            }
            registry.transitions.push((Arc::clone(member), transition));
        }
    }
}

impl Registry {
    /// Continues the shares from what was saved, as far as ejections leave half of a tier.
    fn restore_shares(&mut self, known: &[(Arc<MemberInfo>, SavedBackend)], now: Moment) {
        // The numbers of backends that count and of those that are out, by tier.
        let mut tiers = BTreeMap::<i32, (usize, usize)>::new();
        if known.iter().any(|(_, saved)| self.shares.was_ejected(&saved.share)) {
            for member in self.members.values().filter(|member| member.health.is_counted()) {
                let (counted, out) = tiers.entry(member.priority()).or_default();
                *counted += 1;
                *out += usize::from(!member.health.is_eligible());
            }
        }
        for (member, saved) in known.iter().filter(|(_, saved)| saved.share != SavedShare::default()) {
            let (counted, out) = tiers.entry(member.priority()).or_default();
            let is_eligible = member.health.is_eligible();
            let may_eject = 2 * (*out + usize::from(is_eligible)) <= *counted && self.ejection.may_eject();
            let (is_changed, change) = self.shares.restore(member, saved.share, may_eject, now);
            if is_changed {
                self.note_share();
            }
            let Some(change) = change else { continue };
            if let OutlierChange::Ejected { time, .. } = change {
                member.health.apply(Signal::Until(Timed::Outlier, now.after(time)));
                self.refresh(member, false, now);
                *out += usize::from(is_eligible);
            }
            self.announce(Change::Outlier(member.name.clone(), change));
        }
    }
}

/// Ends the streams of changes with the fleet, although its registry may live on to be saved.
impl Drop for FleetCore {
    fn drop(&mut self) {
        let listeners = std::mem::take(&mut self.registry().listeners);
        // Not under the lock: it wakes the readers.
        drop(listeners);
    }
}
