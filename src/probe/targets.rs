//! The backends that are probed, and the queue of their next probes.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{
    settings::{Rules, Scope},
    target::{Target, is_out},
};
use crate::{
    fleet::{FleetCore, MemberInfo},
    health::Timed,
    name::{BackendId, BackendName},
    rng::Rng,
    time::Moment,
};

/// The backends that are probed: under [`Scope::Out`] those that are out, and those that were.
pub(super) struct Targets {
    pub(super) rules: Rules,
    all: HashMap<BackendId, Target>,
    ids: HashMap<BackendName, BackendId>,
    /// By the moment of the next probe. A target that is being probed is not in it.
    queue: BTreeSet<(Moment, BackendId)>,
    rng: Rng,
}

/// What happened to a backend just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Its circuit opened.
    Opened,
    /// A replica reports it.
    Hinted,
    Other,
}

impl Targets {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, all: HashMap::new(), ids: HashMap::new(), queue: BTreeSet::new(), rng: Rng::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns the number of targets that wait for their next probe.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Returns the moment of the next probe.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// Takes the target whose probe is most overdue, with the settings. A target that is not to be probed any more is passed over.
    pub(super) fn take_due(&mut self, now: Moment) -> Option<(&mut Target, &Rules)> {
        while let Some((_, id)) = self.queue.first().copied().filter(|(due, _)| now.reached(*due)) {
            self.schedule(id, None);
            let Some(target) = self.all.get_mut(&id) else { continue };
            if !wants(&self.rules, &target.member, now) {
                target.forget_probes();
            } else if let Some(until) = target.member.health.until(Timed::Cooling).filter(|until| *until > now) {
                // It wants no requests before, and gets none. The cool-down may be ended earlier.
                self.schedule(id, Some(until.min(now.after(self.rules.interval))));
            } else {
                return self.target(id);
            }
        }
        None
    }

    /// Returns a target, and the settings.
    pub(super) fn target(&mut self, id: BackendId) -> Option<(&mut Target, &Rules)> {
        self.all.get_mut(&id).map(|target| (target, &self.rules))
    }

    /// Schedules the probe after one that began at `started`.
    pub(super) fn resume(&mut self, id: BackendId, started: Moment, now: Moment) {
        let Some(target) = self.all.get_mut(&id) else { return };
        if wants(&self.rules, &target.member, now) {
            let next = target.next(&self.rules, started, now, &mut self.rng);
            self.schedule(id, Some(next));
        } else {
            target.forget_probes();
        }
    }

    /// Compares a target with the member of its name.
    pub(super) fn update(&mut self, core: &FleetCore, name: &BackendName, news: News, now: Moment) {
        let member = core.find(name);
        let id = member.as_ref().map(|member| member.id);
        if let Some(before) = self.ids.get(name).copied().filter(|before| Some(*before) != id) {
            self.forget(before);
        }
        if let Some(member) = member {
            let peers = if self.rules.scope == Scope::All { self.all.len() } else { self.queue.len() };
            self.consider(&member, news, peers, now);
        }
    }

    /// Compares all targets with all members.
    pub(super) fn catch_up(&mut self, core: &FleetCore, now: Moment) {
        let mut members = core.members();
        let present: HashSet<_> = members.iter().map(|member| member.id).collect();
        let gone: Vec<_> = self.all.keys().filter(|id| !present.contains(id)).copied().collect();
        gone.into_iter().for_each(|id| self.forget(id));
        members.retain(|member| wants(&self.rules, member, now) || self.all.contains_key(&member.id));
        let peers = members.len();
        members.iter().for_each(|member| self.consider(member, News::Other, peers, now));
    }

    /// Schedules the probe of a member as its state requires.
    fn consider(&mut self, member: &Arc<MemberInfo>, news: News, peers: usize, now: Moment) {
        let is_wanted = wants(&self.rules, member, now);
        if !is_wanted && news != News::Opened && !self.all.contains_key(&member.id) {
            return;
        }
        self.ids.insert(member.name.clone(), member.id);
        let target = self.all.entry(member.id).or_insert_with(|| Target::new(Arc::clone(member)));
        if news == News::Opened {
            target.note_opening(&self.rules, peers, now, &mut self.rng);
        }
        if !is_wanted {
            target.forget_probes();
            self.schedule(member.id, None);
        } else if target.running.is_none() && (news != News::Other || target.due.is_none()) {
            let is_out = is_out(&member.health, &self.rules, now);
            let first = target.first(&self.rules, is_out, peers, now, &mut self.rng);
            // Under `Out`, an opening may also delay the probe.
            let due = match target.due {
                Some(due) if self.rules.scope == Scope::All => due.min(first),
                _ => first,
            };
            self.schedule(member.id, Some(due));
        }
    }

    fn schedule(&mut self, id: BackendId, due: Option<Moment>) {
        let Some(target) = self.all.get_mut(&id) else { return };
        if let Some(before) = std::mem::replace(&mut target.due, due) {
            self.queue.remove(&(before, id));
        }
        if let Some(due) = due {
            self.queue.insert((due, id));
        }
    }

    /// Ends the probes of a backend that was removed or replaced.
    fn forget(&mut self, id: BackendId) {
        self.schedule(id, None);
        if let Some(mut target) = self.all.remove(&id) {
            target.abort();
            // Its name may belong to another one by now.
            if self.ids.get(&target.member.name) == Some(&id) {
                self.ids.remove(&target.member.name);
            }
        }
    }
}

fn wants(rules: &Rules, member: &MemberInfo, now: Moment) -> bool {
    rules.scope == Scope::All || is_out(&member.health, rules, now)
}
