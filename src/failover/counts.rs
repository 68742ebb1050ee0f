//! How often each backend was attempted for one request, and which may not be attempted again.

use std::{collections::HashMap, mem};

use super::{Attempted, Ending, Mode, settings::Settings};
use crate::{
    name::BackendId,
    outcome::{FailureKind, Outcome},
    pick::{Prefix, Skip},
    time::Moment,
};

/// The attempts at each backend, up to the ledger entry that was counted last.
#[derive(Default)]
pub(super) struct AttemptCounts {
    /// How many ledger entries were counted.
    counted: usize,
    pub(super) per_backend: HashMap<BackendId, u32>,
    /// The index of the first entry that counts: those before are of an earlier run.
    first: usize,
    /// The backends with at least one attempt, and those whose bodies broke off in an earlier run.
    pub(super) attempted: Skip,
    /// The backends that may not be attempted now: those that have had all their attempts, that are left out, and that
    /// rest.
    pub(super) spent: Skip,
    /// The candidates at the beginning of a tier that are all in `spent`.
    pub(super) prefix: Prefix,
    /// The backends that are not attempted again, although they have not had all their attempts.
    left_out: Vec<BackendId>,
    /// The backends that may be attempted again later.
    resting: Vec<Rest>,
    /// Only backends with this tag are attempted.
    pub(super) tag: Option<&'static str>,
    /// The backend that tripped before the race.
    primary: Option<BackendId>,
}

/// A backend that named a time, as one request knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    pub(super) id: BackendId,
    pub(super) position: u64,
    /// When it named the time.
    pub(super) named_at: Moment,
    /// The time that it named, or a later one.
    pub(super) until: Moment,
}

impl AttemptCounts {
    /// Begins to count for a request that goes on after these entries. Backends in `avoid` count as attempted.
    pub(super) fn after(earlier: &[Attempted], avoid: Skip) -> Self {
        Self { counted: earlier.len(), first: earlier.len(), attempted: avoid, ..Self::default() }
    }

    /// Returns whether a race has begun, so that backends are free that were not before.
    pub(super) fn count(&mut self, entries: &[Attempted], settings: &Settings, is_racing: bool) -> bool {
        let begins_race = is_racing && self.primary.is_none();
        if begins_race {
            // A race gives each backend one attempt. The primary, whose failure started it, has a second one there.
            self.primary = entries.last().map(|entry| entry.id);
            (self.counted, self.per_backend, self.spent) = (self.first, HashMap::new(), Skip::default());
            self.left_out.iter().for_each(|id| self.spent.insert(*id));
            self.prefix = Prefix::default();
        }
        // A backend that failed to become ready was not called. The search leaves it out for some time.
        let called = |entry: &&Attempted| !matches!(entry.ending, Ending::NotReady { .. });
        for entry in entries[self.counted..].iter().filter(called) {
            let count = self.per_backend.entry(entry.id).or_default();
            *count += 1;
            let max = match is_racing {
                true => 1 + u32::from(self.primary == Some(entry.id)),
                false => settings.attempts_per_backend,
            };
            self.attempted.insert(entry.id);
            if *count >= max {
                self.spent.insert(entry.id);
            }
        }
        self.counted = entries.len();
        begins_race
    }

    /// Notes how a counted attempt failed, which decides whether its backend may be attempted again. `is_only`: the
    /// fleet has no other backend.
    pub(super) fn note(
        &mut self,
        entry: &Attempted,
        outcome: &Outcome,
        settings: &Settings,
        is_only: bool,
        now: Moment,
    ) {
        let Some(failure) = outcome.failure() else { return };
        let (id, position) = (entry.id, entry.position);
        if let Some(delay) = failure.retry_delay().filter(|delay| !delay.is_zero()) {
            if settings.mode != Mode::Sequential {
                self.leave_out(id);
            } else if !self.spent.contains(id) {
                let pause = if settings.backoff.is_none() { settings.same_backend_delay } else { Default::default() };
                self.spent.insert(id);
                self.resting.push(Rest { id, position, named_at: now, until: now.after(delay.max(pause)) });
            }
        } else if failure.kind() == FailureKind::Timeout && settings.mode != Mode::Race && !is_only {
            // A backend that is silent is likely to be silent again, for as long.
            self.leave_out(id);
        }
    }

    /// Notes that a backend is not attempted again.
    pub(super) fn leave_out(&mut self, id: BackendId) {
        self.left_out.push(id);
        self.spent.insert(id);
        // A search for a backend without an attempt looks at these alone.
        self.attempted.insert(id);
    }

    /// Returns whether a backend may be attempted again later.
    pub(super) fn has_resting(&self) -> bool {
        !self.resting.is_empty()
    }

    /// Returns the backends that may be attempted again later.
    pub(super) fn resting(&self) -> &[Rest] {
        &self.resting
    }

    /// Makes the backends free whose time has come: those for which `is_over` returns true. Returns whether there are
    /// any.
    pub(super) fn release(&mut self, is_over: impl Fn(&Rest) -> bool) -> bool {
        let (over, resting): (Vec<_>, _) = mem::take(&mut self.resting).into_iter().partition(is_over);
        self.resting = resting;
        over.iter().for_each(|rest| self.spent.remove(rest.id));
        if !over.is_empty() {
            self.prefix = Prefix::default();
        }
        !over.is_empty()
    }
}
