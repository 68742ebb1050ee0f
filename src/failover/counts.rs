//! How often each backend was attempted for one request, and which may not be attempted again.

use std::collections::HashMap;

use super::{Attempted, Ending, settings::Settings};
use crate::{
    name::BackendId,
    pick::{Prefix, Skip},
};

/// The attempts at each backend, up to the ledger entry that was counted last.
#[derive(Default)]
pub(super) struct AttemptCounts {
    /// How many ledger entries were counted.
    counted: usize,
    pub(super) per_backend: HashMap<BackendId, u32>,
    /// The backends with at least one attempt.
    pub(super) attempted: Skip,
    /// The backends that have had all their attempts.
    pub(super) spent: Skip,
    /// The candidates at the beginning of a tier that are all in `spent`.
    pub(super) prefix: Prefix,
    /// The backend that tripped before the race.
    primary: Option<BackendId>,
}

impl AttemptCounts {
    /// Returns whether a race has begun, so that backends are free that were not before.
    pub(super) fn count(&mut self, entries: &[Attempted], settings: &Settings, is_racing: bool) -> bool {
        let begins_race = is_racing && self.primary.is_none();
        if begins_race {
            // A race gives each backend one attempt. The primary, whose failure started it, has a second one there.
            self.primary = entries.last().map(|entry| entry.id);
            (self.counted, self.per_backend, self.spent) = (0, HashMap::new(), Skip::default());
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
}
