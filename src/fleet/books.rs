//! The books of a fleet: its members, what is due, and what there is to tell.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    changes::{Change, Listener},
    ejection::{Ejection, EjectionLimits},
    member::{HALF_OPEN, MemberInfo, RIPE, Settings},
};
use crate::{
    health::{Health, Signal, State},
    name::{BackendId, BackendName},
    setting::InvalidSetting,
    time::Moment,
};

/// Everything that changes, but for what is written per call.
pub(crate) struct Books {
    /// In the order in which they came.
    pub(super) members: Vec<Arc<MemberInfo>>,
    pub(super) by_name: HashMap<BackendName, Arc<MemberInfo>>,
    /// Rises when members come, go, or get another weight or priority.
    pub(super) membership: u64,
    /// Members that changed since tables were last derived.
    pub(super) changed: Vec<Arc<MemberInfo>>,
    /// So many changed since then that they are not told apart.
    pub(super) all_changed: bool,
    pub(super) last_id: u64,
    /// How many members the fleet was built for.
    pub(super) expected: usize,
    /// Openings and cool-downs that end by themselves.
    queue: BTreeMap<(Moment, BackendId), Arc<MemberInfo>>,
    ripe: usize,
    half_open: usize,
    ejection: Ejection,
    listeners: Vec<Listener>,
    news: Vec<Change>,
    /// Something changed that is not published yet.
    is_changed: bool,
}

impl Books {
    pub(super) fn new(limits: EjectionLimits) -> Self {
        Self {
            members: Vec::new(),
            by_name: HashMap::new(),
            membership: 1,
            changed: Vec::new(),
            all_changed: false,
            last_id: 0,
            expected: 0,
            queue: BTreeMap::new(),
            ripe: 0,
            half_open: 0,
            ejection: Ejection::new(limits),
            listeners: Vec::new(),
            news: Vec::new(),
            is_changed: false,
        }
    }

    /// Ends an edit; whether anything changed.
    pub(super) fn settle(&mut self) -> bool {
        for member in self.ejection.settle() {
            self.note_change(&member);
        }
        std::mem::take(&mut self.is_changed)
    }

    /// Tells the listeners what happened since the last time.
    pub(super) fn tell_news(&mut self) -> Vec<Change> {
        let news = std::mem::take(&mut self.news);
        self.listeners.retain_mut(|listener| news.iter().all(|change| listener.tell(change)));
        news
    }

    /// When the next of what is due is due.
    pub(super) fn next_due(&self) -> Moment {
        self.queue.first_key_value().map_or(Moment::NEVER, |((due, _), _)| *due)
    }

    /// Ends what is due by now: circuits are to be probed, cool-downs are over.
    pub(super) fn settle_due(&mut self, now: Moment) {
        while let Some(entry) = self.queue.first_entry()
            && now.reached(entry.key().0)
        {
            let member = Arc::clone(entry.get());
            if member.health.cools_until().is_some_and(|until| now.reached(until)) {
                member.health.apply(Signal::Cooled);
            }
            self.refresh(&member, false, now);
        }
    }

    /// After how long a backend may be eligible that is not now, if any ever is by itself.
    pub(super) fn retry_after(&self, now: Moment) -> Option<Duration> {
        if self.ripe > 0 {
            return Some(Duration::ZERO);
        }
        let mut first = Moment::NEVER;
        for ((due, _), member) in &self.queue {
            // None of the rest is earlier.
            if *due >= first {
                break;
            }
            first = first.min(member.health.serves_at().unwrap_or(Moment::NEVER));
        }
        let due = Some(first).filter(|first| *first != Moment::NEVER)?.since(now);
        // Its probe may be back long before its permit lapses.
        Some(if self.half_open > 0 { due.min(PROBE) } else { due })
    }

    pub(super) fn listen(&mut self, listener: Listener) {
        self.listeners.retain(Listener::is_heard);
        self.listeners.push(listener);
    }

    #[cfg(test)]
    pub(super) fn listeners(&self) -> usize {
        self.listeners.len()
    }

    pub(super) fn known(&self, name: &str) -> Result<Arc<MemberInfo>, InvalidSetting> {
        self.by_name.get(name).cloned().ok_or_else(|| InvalidSetting::unknown(name))
    }

    /// Adds a member, last in the order, or where the one was that it replaces.
    pub(super) fn add(&mut self, member: Arc<MemberInfo>, at: Option<usize>, now: Moment) {
        self.membership += 1;
        self.by_name.insert(member.name.clone(), Arc::clone(&member));
        self.refresh(&member, false, now);
        match at {
            Some(index) => self.members.insert(index, member),
            None => self.members.push(member),
        }
    }

    /// Takes a member out: no request that has not begun goes there any more. Its index in the order.
    pub(super) fn take_out(&mut self, member: &Arc<MemberInfo>, now: Moment) -> Option<usize> {
        let index = self.members.iter().position(|other| other.id == member.id)?;
        member.health.apply(Signal::Removed);
        self.members.remove(index);
        self.by_name.remove(&member.name);
        self.membership += 1;
        self.refresh(member, false, now);
        Some(index)
    }

    /// Takes over the settings of a backend that stays; whether any differed.
    pub(super) fn update(&mut self, member: &MemberInfo, settings: &Settings) -> bool {
        let (weight, priority) = (member.set_weight(settings.weight), member.set_priority(settings.priority));
        if weight {
            self.tell(Change::Reweighted(member.name.clone(), settings.weight.get()));
        }
        if priority {
            self.tell(Change::Moved(member.name.clone(), settings.priority));
        }
        self.membership += u64::from(weight || priority);
        member.set_timeout(settings.timeout) || weight || priority
    }

    pub(super) fn tell(&mut self, change: Change) {
        self.is_changed = true;
        self.news.push(change);
    }

    /// Brings the books up to date with the health of a member.
    pub(super) fn refresh(&mut self, member: &Arc<MemberInfo>, opened: bool, now: Moment) {
        let (health, marks): (&Health, _) = (&member.health, &member.marks);
        let queued = Moment::from_nanos(marks.queued.swap(Moment::NEVER.as_nanos(), Ordering::Relaxed));
        if queued != Moment::NEVER {
            self.queue.remove(&(queued, member.id));
        }
        let due = health.due();
        let is_ripe = health.on_probation().is_some() && due.is_some_and(|due| now.reached(due));
        self.ripe = self.ripe + usize::from(is_ripe) - usize::from(marks.set(RIPE, is_ripe));
        if let Some(due) = due.filter(|due| !is_ripe && *due != Moment::NEVER) {
            marks.queued.store(due.as_nanos(), Ordering::Relaxed);
            self.queue.insert((due, member.id), Arc::clone(member));
        }
        let probation = health.on_probation();
        let is_half_open = probation.is_some_and(|circuit| circuit.state(Moment::EPOCH) == State::HalfOpen);
        self.half_open = self.half_open + usize::from(is_half_open) - usize::from(marks.set(HALF_OPEN, is_half_open));
        let is_willing = health.is_willing() && !health.is_forced_open();
        self.ejection.note(member, is_willing, probation.is_some(), opened);
        self.note_change(member);
    }

    fn note_change(&mut self, member: &Arc<MemberInfo>) {
        // A removed member is in no view, and its row belongs to another by now.
        if member.health.is_removed() {
            return;
        }
        self.is_changed = true;
        if self.changed.len() >= MANY {
            // No door has looked for long: then it looks at all of them.
            self.changed = Vec::new();
            self.all_changed = true;
        }
        if !self.all_changed {
            self.changed.push(Arc::clone(member));
        }
    }
}

/// Changes that are told apart: beyond, deriving anew costs less.
const MANY: usize = 1024;

/// How long a probe is worth waiting for, when one is under way.
const PROBE: Duration = Duration::from_secs(1);
