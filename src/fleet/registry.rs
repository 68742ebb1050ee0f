use std::{
    any::Any,
    collections::HashSet,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr,
    sync::{Arc, Weak},
    time::Duration,
};

use super::{
    BackendId, BackendName, InvalidSetting,
    backend::checked_weight,
    bounds::Bounds,
    changes::{Change, Listener},
    member::{Candidate, Facts, Member},
    roster::Roster,
};
use crate::{
    health::{Health, Status, Transition},
    telemetry,
    time::Clock,
};

/// A member and its place in the fleet. What may change while it serves is here; the member itself never changes.
pub(super) struct Entry<S> {
    pub(super) member: Arc<Member<S>>,
    pub(super) weight: NonZeroU32,
    pub(super) priority: i32,
    position: u64,
}

/// A backend that was looked at and let in, on its way to its place.
pub(super) struct Recruit<S> {
    pub(super) name: BackendName,
    pub(super) weight: NonZeroU32,
    pub(super) priority: i32,
    pub(super) timeout: Option<Duration>,
    /// What the service itself looks to it that the timeout is kept.
    pub(super) keeps_time: bool,
    pub(super) health: Arc<Health>,
    pub(super) service: S,
}

impl<S: Send + Sync + 'static> Entry<S> {
    fn new(recruit: Recruit<S>, id: BackendId, position: u64) -> Self {
        let Recruit { name, weight, priority, timeout, keeps_time, health, service } = recruit;
        let facts = Arc::new(Facts { id, name, health });
        let member = Member { service, timeout: timeout.filter(|_| !keeps_time), patience: timeout, facts };
        Self { member: Arc::new(member), weight, priority, position }
    }

    pub(super) fn candidate(&self) -> Candidate {
        let member = Arc::downgrade(&self.member);
        Candidate {
            facts: Arc::clone(&self.member.facts),
            weight: self.weight,
            priority: self.priority,
            position: self.position,
            member,
        }
    }
}

impl<S> Entry<S> {
    pub(super) fn name(&self) -> &BackendName {
        &self.member.facts.name
    }

    pub(super) fn health(&self) -> &Health {
        &self.member.facts.health
    }

    pub(super) fn in_flight(&self) -> usize {
        // One strong reference is this entry's.
        Arc::strong_count(&self.member) - 1
    }
}

/// Somebody who works with the view, and is told of every new one before the change returns.
pub(crate) trait Subscriber<S>: Send + Sync {
    fn publish(&self, roster: &Arc<Roster<S>>);
}

/// The truth about the fleet: who is part of it. Behind a lock, which no request takes.
pub(super) struct Registry<S> {
    bounds: Bounds,
    clock: Clock,
    /// The present view.
    roster: Arc<Roster<S>>,
    entries: Vec<Entry<S>>,
    /// The names in `entries`, so that filling a large fleet stays linear.
    names: HashSet<BackendName>,
    last_id: u64,
    subscribers: Vec<Weak<dyn Subscriber<S>>>,
    listeners: Vec<Listener>,
    after: Aftermath<S>,
}

impl<S: Send + Sync + 'static> Registry<S> {
    pub(super) fn new(bounds: Bounds, clock: Clock) -> Self {
        Self {
            bounds,
            clock,
            roster: Arc::new(Roster::new(&[], clock)),
            entries: Vec::new(),
            names: HashSet::new(),
            last_id: 0,
            subscribers: Vec::new(),
            listeners: Vec::new(),
            after: Aftermath::default(),
        }
    }

    pub(super) fn entries(&self) -> &[Entry<S>] {
        &self.entries
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.name() == name)
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn known(&self, name: &str) -> Result<usize, InvalidSetting> {
        self.find(name).ok_or_else(|| InvalidSetting::unknown(name))
    }

    pub(super) fn insert(&mut self, recruit: Recruit<S>) -> Result<(), InvalidSetting> {
        if !self.names.insert(recruit.name.clone()) {
            let refused = InvalidSetting::taken(&recruit.name);
            self.after.refused.push(recruit.service);
            return Err(refused);
        }
        self.last_id += 1;
        self.after.changes.push(Change::Inserted(recruit.name.clone()));
        self.entries.push(Entry::new(recruit, BackendId(self.last_id), self.last_id));
        Ok(())
    }

    /// The new one keeps the place of the old one in the order, and nothing else.
    pub(super) fn replace(&mut self, recruit: Recruit<S>) -> Result<(), InvalidSetting> {
        let index = match self.known(&recruit.name) {
            Ok(index) => index,
            Err(refused) => {
                self.after.refused.push(recruit.service);
                return Err(refused);
            }
        };
        self.last_id += 1;
        self.after.changes.push(Change::Replaced(recruit.name.clone()));
        let new = Entry::new(recruit, BackendId(self.last_id), self.entries[index].position);
        let old = std::mem::replace(&mut self.entries[index], new);
        self.retire(old);
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> bool {
        let Some(index) = self.find(name) else { return false };
        let entry = self.entries.remove(index);
        self.names.remove(entry.name());
        self.after.changes.push(Change::Removed(entry.name().clone()));
        self.retire(entry);
        true
    }

    fn retire(&mut self, entry: Entry<S>) {
        entry.member.facts.health.retire();
        self.after.gone.push(entry.member);
    }

    pub(super) fn reweight(&mut self, name: &str, weight: u32) -> Result<(), InvalidSetting> {
        // The name first: it is safe to show only once it is known.
        let index = self.known(name)?;
        let weight = checked_weight(name, weight)?;
        let entry = &mut self.entries[index];
        if std::mem::replace(&mut entry.weight, weight) != weight {
            self.after.changes.push(Change::Reweighted(entry.name().clone(), weight.get()));
        }
        Ok(())
    }

    pub(super) fn prioritize(&mut self, name: &str, priority: i32) -> bool {
        let Some(index) = self.find(name) else { return false };
        let entry = &mut self.entries[index];
        if std::mem::replace(&mut entry.priority, priority) != priority {
            self.after.changes.push(Change::Moved(entry.name().clone(), priority));
        }
        true
    }

    pub(super) fn set_status(&mut self, name: &str, status: Status) -> bool {
        let Some(index) = self.find(name) else { return false };
        let facts = &self.entries[index].member.facts;
        if facts.health.status() != status {
            facts.health.set_status(status);
            self.after.changes.push(Change::Status(facts.name.clone(), status));
        }
        true
    }

    /// Notes that a circuit moved, if it is that of a backend that is still here: another one may have its name.
    pub(super) fn circuit_moved(&mut self, name: &BackendName, health: &Health, transition: Transition) {
        if self.find(name).is_some_and(|index| ptr::eq(self.entries[index].health(), health)) {
            self.after.changes.push(Change::Circuit(name.clone(), transition));
        }
    }

    pub(super) fn roster(&self) -> Arc<Roster<S>> {
        Arc::clone(&self.roster)
    }

    pub(super) fn subscribe(&mut self, subscriber: Weak<dyn Subscriber<S>>) {
        if self.subscribers.len() == self.subscribers.capacity() {
            // Before it would grow, so that doors that were dropped cost no memory.
            self.subscribers.retain(|subscriber| subscriber.strong_count() > 0);
        }
        self.subscribers.push(subscriber);
    }

    pub(super) fn listen(&mut self, listener: Listener) {
        self.listeners.retain(Listener::is_heard);
        self.listeners.push(listener);
    }

    #[cfg(test)]
    pub(super) fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// Puts the new view before everybody who works with one, and returns what is left to do outside the lock. After
    /// this no request that begins later can see the old view.
    pub(super) fn publish(&mut self) -> Aftermath<S> {
        let mut after = std::mem::take(&mut self.after);
        if !after.changes.is_empty() {
            self.bounds.spare(&self.entries);
            self.roster = Arc::new(Roster::new(&self.entries, self.clock));
            let roster = &self.roster;
            self.subscribers.retain(|subscriber| {
                let Some(subscriber) = subscriber.upgrade() else { return false };
                // A strategy is the caller's code. When one panics the others still get the view.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| subscriber.publish(roster))) {
                    after.panic.get_or_insert(panic);
                }
                true
            });
            self.listeners.retain_mut(|listener| after.changes.iter().all(|change| listener.tell(change)));
        }
        after
    }
}

/// What follows from a change, and may do anything: it is done outside the lock.
pub(super) struct Aftermath<S> {
    /// To be told.
    changes: Vec<Change>,
    /// To be dropped: who left.
    gone: Vec<Arc<Member<S>>>,
    /// To be dropped: who was not let in.
    refused: Vec<S>,
    /// To go on its way: a strategy's.
    panic: Option<Box<dyn Any + Send>>,
}

impl<S> Default for Aftermath<S> {
    fn default() -> Self {
        Self { changes: Vec::new(), gone: Vec::new(), refused: Vec::new(), panic: None }
    }
}

impl<S> Aftermath<S> {
    pub(super) fn settle(self) {
        self.changes.iter().for_each(telemetry::fleet_changed);
        drop((self.gone, self.refused));
        if let Some(panic) = self.panic {
            resume_unwind(panic);
        }
    }
}
