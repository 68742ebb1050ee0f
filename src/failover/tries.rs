//! Which backends one request has tried, and may not try again.

use std::collections::HashMap;

use super::{Attempted, settings::Settings};
use crate::{name::BackendId, pick::Skip};

/// How often each backend was tried, as far as the lines of the ledger were counted.
#[derive(Default)]
pub(super) struct Tries {
    counted: usize,
    pub(super) counts: HashMap<BackendId, u32>,
    pub(super) tried: Skip,
    /// Those that may not be tried again.
    pub(super) spent: Skip,
    /// The backend that tripped before the race.
    primary: Option<BackendId>,
}

impl Tries {
    pub(super) fn count(&mut self, lines: &[Attempted], settings: &Settings, races: bool) {
        if races && self.primary.is_none() {
            // In a race each is asked once, the one that began it a second time.
            self.primary = lines.last().map(|line| line.id);
            (self.counted, self.counts, self.spent) = (0, HashMap::new(), Skip::default());
        }
        for line in &lines[self.counted..] {
            let count = self.counts.entry(line.id).or_default();
            *count += 1;
            let most = if races { 1 + u32::from(self.primary == Some(line.id)) } else { settings.attempts_per_backend };
            self.tried.insert(line.id);
            if *count >= most {
                self.spent.insert(line.id);
            }
        }
        self.counted = lines.len();
    }
}
