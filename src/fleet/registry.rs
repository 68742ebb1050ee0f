//! The registry of a fleet: its members, their deadlines, and the changes to be published.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    changes::{Change, Listener},
    ejection::{Ejection, EjectionLimits},
    marks::{ELIGIBLE, HALF_OPEN, PROBE_DUE},
    member::{MemberInfo, Settings},
    published::{Published, Wakes},
    rows::{Patch, RowKey},
    shares::Shares,
    sources::Sources,
};
use crate::{
    health::{CircuitState, Health, Limit, Signal, Transition},
    name::{BackendId, BackendName},
    setting::InvalidSetting,
    time::Moment,
};

/// The state of a fleet that changes under its lock.
pub(crate) struct Registry {
    /// By position: in the order in which they were added.
    pub(super) members: BTreeMap<u64, Arc<MemberInfo>>,
    pub(super) by_name: HashMap<BackendName, Arc<MemberInfo>>,
    /// Rises when a member is added or removed, or gets another weight, priority, timeout or limit.
    pub(super) revision: u64,
    /// The rows that changed since the doors' tables were last derived.
    pub(super) patch: Patch,
    /// The members that changed since the doors' tables were last derived.
    pub(super) changed: Vec<Arc<MemberInfo>>,
    /// More than `MAX_CHANGED` members changed since then, so `changed` is incomplete.
    pub(super) all_changed: bool,
    /// A share or a weight changed since then.
    pub(super) shares_changed: bool,
    pub(super) last_id: u64,
    /// The number of members that the fleet was built with.
    pub(super) expected: usize,
    /// The ends of open times and cool-downs, by deadline.
    queue: BTreeMap<(Moment, BackendId), Arc<MemberInfo>>,
    /// The number of members with the flag [`PROBE_DUE`].
    probes_due: usize,
    /// The number of members with the flag [`HALF_OPEN`].
    half_open: usize,
    pub(super) ejection: Ejection,
    pub(super) shares: Shares,
    pub(super) sources: Sources,
    pub(super) listeners: Vec<Listener>,
    unpublished: Vec<Change>,
    /// The transitions of circuits that the edit caused, to be published after it.
    pub(super) transitions: Vec<(Arc<MemberInfo>, Transition)>,
    /// Whether a change is not published yet.
    pub(super) is_changed: bool,
    pub(super) wakes: Wakes,
}

impl Registry {
    pub(super) fn new(limits: EjectionLimits, shares: Shares) -> Self {
        Self {
            members: BTreeMap::new(),
            by_name: HashMap::new(),
            revision: 1,
            patch: Patch::default(),
            changed: Vec::new(),
            all_changed: false,
            shares_changed: false,
            last_id: 0,
            expected: 0,
            queue: BTreeMap::new(),
            probes_due: 0,
            half_open: 0,
            ejection: Ejection::new(limits),
            shares,
            sources: Sources::default(),
            listeners: Vec::new(),
            unpublished: Vec::new(),
            transitions: Vec::new(),
            is_changed: false,
            wakes: Wakes::default(),
        }
    }

    /// Ends an edit: applies the ejection limits. Returns whether anything changed.
    pub(super) fn finish_edit(&mut self, now: impl Fn() -> Moment) -> bool {
        self.return_surplus(&now);
        for member in self.ejection.update() {
            // Also whether a request may probe it: while its probes fail, that depends on the exemption.
            self.refresh(&member, false, now());
        }
        std::mem::take(&mut self.is_changed)
    }

    /// Sends the unpublished changes to the streams, and returns them with the wake-ups of the readers.
    pub(super) fn publish_changes(&mut self) -> Published {
        let changes = std::mem::take(&mut self.unpublished);
        if changes.is_empty() {
            return Published { changes, wakeups: Vec::new() };
        }
        self.listeners.retain_mut(|listener| changes.iter().all(|change| listener.announce(change)));
        Published { changes, wakeups: self.listeners.iter().map(Listener::wakeup).collect() }
    }

    /// Takes the tasks that the edit concerns.
    pub(super) fn take_wakes(&mut self) -> Wakes {
        std::mem::take(&mut self.wakes)
    }

    /// Returns whether a task that waits may have to wait for a permit: a probe is due or running.
    pub(super) fn has_probes(&self) -> bool {
        self.probes_due > 0 || self.half_open > 0
    }

    /// Returns the first deadline.
    pub(super) fn next_due(&self) -> Moment {
        self.queue.first_key_value().map_or(Moment::NEVER, |((due, _), _)| *due).min(self.shares.due())
    }

    /// Processes the deadlines that are reached: marks circuits as due for a probe, ends cool-downs and
    /// ejections, changes shares.
    pub(super) fn process_due(&mut self, now: Moment) {
        self.process_shares(now);
        while let Some(entry) = self.queue.first_entry()
            && now.reached(entry.key().0)
        {
            let member = Arc::clone(entry.get());
            // The share of an outlier ends its ejection, so that is for certainty: nothing may stay due.
            for opinion in member.health.lapsed(now) {
                self.end(&member, opinion, now);
            }
            self.refresh(&member, false, now);
        }
    }

    /// Returns the time until another backend may become eligible, if one does without a change from outside.
    pub(super) fn retry_after(&self, now: Moment) -> Option<Duration> {
        if self.probes_due > 0 {
            return Some(Duration::ZERO);
        }
        let mut first = Moment::NEVER;
        for ((due, _), member) in &self.queue {
            // All further deadlines are later.
            if *due >= first {
                break;
            }
            first = first.min(member.health.serves_at().unwrap_or(Moment::NEVER));
        }
        let due = Some(first).filter(|first| *first != Moment::NEVER)?.since(now);
        // A running probe may end long before its permit expires.
        Some(if self.half_open > 0 { due.min(PROBE_WAIT) } else { due })
    }

    pub(super) fn listen(&mut self, listener: Listener) {
        self.listeners.retain(Listener::is_connected);
        self.listeners.push(listener);
    }

    #[cfg(test)]
    pub(super) fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// Returns all members, in the order in which they were added.
    pub(super) fn members(&self) -> Vec<Arc<MemberInfo>> {
        self.members.values().cloned().collect()
    }

    /// Returns the member of this name.
    ///
    /// # Errors
    ///
    /// No member has this name.
    pub(super) fn member(&self, name: &str) -> Result<Arc<MemberInfo>, InvalidSetting> {
        self.by_name.get(name).cloned().ok_or_else(|| InvalidSetting::of_name(name, "is not in this fleet"))
    }

    /// Adds a member, at its position.
    pub(super) fn add(&mut self, member: Arc<MemberInfo>, now: Moment) {
        self.revision += 1;
        self.patch.insert(&member);
        self.by_name.insert(member.name.clone(), Arc::clone(&member));
        self.refresh(&member, false, now);
        if self.shares.is_serving(now) {
            self.start_slowly(&member, now);
        }
        self.members.insert(member.position(), member);
    }

    /// Removes a member, so that no new request is sent to it.
    pub(super) fn remove(&mut self, member: &Arc<MemberInfo>, now: Moment) {
        if self.members.get(&member.position()).is_none_or(|other| other.id != member.id) {
            return;
        }
        member.health.apply(Signal::Removed);
        self.members.remove(&member.position());
        self.patch.remove(RowKey::of(member));
        self.by_name.remove(&member.name);
        self.shares.forget(member);
        self.revision += 1;
        self.sources.forget(member.id);
        self.refresh(member, false, now);
    }

    /// Changes the settings of a member. `limit` is that of the fleet. Returns whether any of them differed.
    pub(super) fn update(
        &mut self,
        member: &Arc<MemberInfo>,
        settings: &Settings,
        limit: Option<Limit>,
        now: Moment,
    ) -> bool {
        let is_reweighted = self.set_weight(member, settings.weight);
        let is_moved = self.set_priority(member, settings.priority);
        let is_limited = self.set_limit(member, settings.limit, limit, now);
        let is_timed = self.set_timeout(member, settings.timeout, settings.time_limits);
        let is_tagged = self.set_tags(member, settings);
        is_timed || is_reweighted || is_moved || is_limited || is_tagged
    }

    /// Notes that a share or a weight changed, so that the doors make their picks anew.
    pub(super) fn note_share(&mut self) {
        self.shares_changed = true;
        self.is_changed = true;
    }

    /// Adds a change, which is published at the end of the edit.
    pub(super) fn announce(&mut self, change: Change) {
        self.is_changed = true;
        self.unpublished.push(change);
    }

    /// Updates the registry after a transition of a member's circuit, or after one of its permits was taken or
    /// released.
    pub(super) fn refresh_circuit(&mut self, member: &Arc<MemberInfo>, has_opened: bool, now: Moment) {
        let was_due = member.marks.has(PROBE_DUE);
        self.refresh(member, has_opened, now);
        // There is another permit than the one for which a task was woken before.
        let has_more = was_due && member.marks.has(PROBE_DUE);
        self.wakes.some += usize::from(has_more || has_opened);
    }

    /// Updates the registry from the health of a member. `has_opened`: its circuit opened just now.
    pub(super) fn refresh(&mut self, member: &Arc<MemberInfo>, has_opened: bool, now: Moment) {
        let (health, marks): (&Health, _) = (&member.health, &member.marks);
        let queued = Moment::from_nanos(marks.queued.swap(Moment::NEVER.as_nanos(), Ordering::Relaxed));
        if queued != Moment::NEVER {
            self.queue.remove(&(queued, member.id));
        }
        let is_probe_due = health.probe_at().is_some_and(|at| now.reached(at));
        let was_probe_due = marks.set(PROBE_DUE, is_probe_due);
        self.probes_due = self.probes_due + usize::from(is_probe_due) - usize::from(was_probe_due);
        self.wakes.some += usize::from(is_probe_due && !was_probe_due);
        // An exempt backend may be due for a probe while its probes fail, which ends by itself too.
        let due = if is_probe_due { health.ends_at() } else { health.due() };
        if let Some(due) = due.filter(|due| *due != Moment::NEVER) {
            marks.queued.store(due.as_nanos(), Ordering::Relaxed);
            self.queue.insert((due, member.id), Arc::clone(member));
        }
        let probation = health.on_probation();
        let is_half_open = probation.is_some_and(|circuit| circuit.state(Moment::EPOCH) == CircuitState::HalfOpen);
        self.half_open = self.half_open + usize::from(is_half_open) - usize::from(marks.set(HALF_OPEN, is_half_open));
        self.ejection.note(member, has_opened);
        self.note_change(member);
    }

    fn note_change(&mut self, member: &Arc<MemberInfo>) {
        let is_eligible = member.health.is_eligible();
        self.wakes.all |= member.marks.set(ELIGIBLE, is_eligible) != is_eligible;
        // A removed member is in no view, and its row may belong to another member.
        if member.health.is_removed() {
            return;
        }
        self.is_changed = true;
        if self.changed.len() >= MAX_CHANGED {
            // No door has read the fleet for a long time. The next one reads all members.
            self.changed = Vec::new();
            self.all_changed = true;
        }
        if !self.all_changed {
            self.changed.push(Arc::clone(member));
        }
    }
}

/// The most members that are noted as changed. Beyond it, deriving all tables again costs less.
const MAX_CHANGED: usize = 1024;

/// The longest `retry_after` while a probe is running.
const PROBE_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
