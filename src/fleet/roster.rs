use std::{
    cmp::Reverse,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    member::{Candidate, Facts, Member},
    registry::Entry,
};
use crate::{
    health::{Moment, State},
    time::Clock,
};

/// One immutable view of the fleet: who is eligible, highest priority first.
///
/// It owns no backend, so a door that is never polled again keeps none alive.
pub(crate) struct Roster<S> {
    candidates: Arc<[Candidate]>,
    members: Box<[Weak<Member<S>>]>,
    first_tier: usize,
    backends: usize,
    trials: Box<[Trial<S>]>,
    /// From when on a trial may be worth a look. Written under the lock.
    next_trial: AtomicU64,
    postponing: Mutex<()>,
    clock: Clock,
}

/// A backend whose circuit is open or half-open: out of the rotation, and to be probed by a request when its time is up.
struct Trial<S> {
    facts: Arc<Facts>,
    member: Weak<Member<S>>,
    /// It is at least of the tier that serves: a probe takes nobody to a lower one.
    due: bool,
}

impl<S: Send + Sync + 'static> Roster<S> {
    pub(super) fn new(entries: &[Entry<S>], clock: Clock) -> Self {
        let mut sorted: Vec<_> = entries.iter().collect();
        // Stable: the order of the fleet among equals.
        sorted.sort_by_key(|entry| Reverse(entry.priority));
        let eligible: Vec<_> = sorted.iter().filter(|entry| entry.health().eligible()).collect();
        let serving = eligible.first().map(|entry| entry.priority);
        let on_trial = sorted.iter().filter(|entry| entry.health().is_healthy() && entry.health().on_trial().is_some());
        let roster = Self {
            first_tier: eligible.iter().take_while(|entry| Some(entry.priority) == serving).count(),
            candidates: eligible.iter().map(|entry| entry.candidate()).collect(),
            members: eligible.iter().map(|entry| Arc::downgrade(&entry.member)).collect(),
            backends: entries.len(),
            trials: on_trial.map(|entry| Trial::new(entry, serving)).collect(),
            next_trial: AtomicU64::new(Moment::EPOCH.as_nanos()),
            postponing: Mutex::default(),
            clock,
        };
        roster.postpone();
        roster
    }
}

impl<S> Roster<S> {
    /// The eligible backends of the highest tier that has any.
    pub(crate) fn first_tier(&self) -> Tier {
        Tier { candidates: Arc::clone(&self.candidates), len: self.first_tier }
    }

    /// The same, to look at.
    pub(crate) fn tier(&self) -> &[Candidate] {
        &self.candidates[..self.first_tier]
    }

    /// Everybody eligible, highest priority first.
    pub(crate) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The member behind a candidate, unless it left just now.
    pub(crate) fn member(&self, index: usize) -> Option<Arc<Member<S>>> {
        self.members.get(index)?.upgrade()
    }

    /// How many backends the fleet has, eligible or not.
    pub(crate) fn backends(&self) -> usize {
        self.backends
    }

    /// Is a backend to be probed now? Costs nothing while all circuits are closed, and a look at the clock otherwise.
    #[inline]
    pub(crate) fn is_trial_due(&self) -> bool {
        !self.trials.is_empty() && self.is_time_up()
    }

    #[cold]
    fn is_time_up(&self) -> bool {
        self.clock.now().reached(Moment::from_nanos(self.next_trial.load(Ordering::Relaxed)))
    }

    /// How long until a backend may have to be probed; none when no circuit is open.
    pub(crate) fn until_trial(&self) -> Option<Duration> {
        let next = Moment::from_nanos(self.next_trial.load(Ordering::Relaxed));
        (!self.trials.is_empty() && next != Moment::NEVER).then(|| next.since(self.clock.now()))
    }

    /// Those whose time is up, highest priority first. One that has no permit left will say so itself.
    pub(crate) fn trials(&self) -> impl Iterator<Item = Arc<Member<S>>> + '_ {
        let now = self.clock.now();
        self.postpone();
        let due = move |trial: &&Trial<S>| trial.due && now.reached(trial.eligible_at());
        self.trials.iter().filter(due).filter_map(|trial| trial.member.upgrade())
    }

    /// A permit came back, so that somebody may be due before the time that was said.
    pub(super) fn reconsider(&self) {
        let _alone = self.postponing.lock();
        self.next_trial.store(Moment::EPOCH.as_nanos(), Ordering::Relaxed);
    }

    /// Puts off the next look until somebody may be due. The lock keeps a permit that comes back meanwhile from being
    /// overlooked: it is either seen here, or reconsidered after.
    fn postpone(&self) {
        let _alone = self.postponing.lock();
        let next = self.trials.iter().filter(|trial| trial.due).map(Trial::eligible_at).min();
        self.next_trial.store(next.unwrap_or(Moment::NEVER).as_nanos(), Ordering::Relaxed);
    }

    /// After how long somebody may be eligible again, if anybody ever is by itself.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        // A circuit opens a moment before there is a view that says so.
        let opening = self.candidates.iter().filter_map(|candidate| candidate.facts.health.on_trial());
        let now = self.clock.now();
        let circuits = self.trials.iter().filter_map(|trial| trial.facts.health.circuit()).chain(opening);
        let after = circuits.filter_map(|circuit| match (circuit.state(now), circuit.eligible_at()) {
            (_, Moment::NEVER) => None,
            // Its probe may be back long before its permit lapses.
            (State::HalfOpen, eligible_at) => Some(eligible_at.since(now).min(PROBE)),
            (_, eligible_at) => Some(eligible_at.since(now)),
        });
        after.min()
    }
}

/// How long a probe is worth waiting for, when one is under way.
const PROBE: Duration = Duration::from_secs(1);

impl<S> Trial<S> {
    fn new(entry: &Entry<S>, serving: Option<i32>) -> Self {
        let facts = Arc::clone(&entry.member.facts);
        let due = serving.is_none_or(|serving| entry.priority >= serving);
        Self { facts, member: Arc::downgrade(&entry.member), due }
    }

    fn eligible_at(&self) -> Moment {
        self.facts.health.circuit().map_or(Moment::NEVER, |circuit| circuit.eligible_at())
    }
}

/// The eligible backends of one priority.
#[derive(Clone, Default)]
pub(crate) struct Tier {
    candidates: Arc<[Candidate]>,
    len: usize,
}

impl std::ops::Deref for Tier {
    type Target = [Candidate];

    #[inline]
    fn deref(&self) -> &[Candidate] {
        &self.candidates[..self.len]
    }
}
