//! What a saver knows: the state that was saved last, and the saved state of backends that are not in the fleet yet.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    document::{self, Problems},
    schedule::Schedule,
};
use crate::{
    fleet::{Change, Changes, FleetCore, SavedBackend, SavedFleet, Savings},
    foreign,
    health::SavedEstimate,
    telemetry,
    time::Moment,
};

/// What a saver knows of its fleet, and of what was saved.
pub(super) struct Memory {
    fleet: Arc<str>,
    /// Where the document is kept, as warnings show it.
    location: String,
    savings: Savings,
    changes: Changes,
    /// The fleet has ended.
    is_over: bool,
    pub(super) schedule: Schedule,
    /// The document as it was saved last. `None` if there is none, or another one.
    saved: Option<Draft>,
    /// What belongs to backends that are not in the fleet yet, and until when they are expected.
    expected: Draft,
    expected_until: Instant,
    /// A problem of the restored document was reported. There is one warning for all of them.
    is_reported: bool,
    /// The store has failed, and has not saved a document since.
    is_outage: bool,
}

/// The state of a fleet as of a moment.
pub(super) struct Draft {
    backends: SavedFleet,
    at: Moment,
}

/// How long the backends of a restored document are expected. Discovery needs some seconds.
const EXPECTED_FOR: Duration = Duration::from_secs(60);

impl Memory {
    pub(super) fn of(core: &Arc<FleetCore>, location: String) -> Self {
        let (savings, now) = (Savings::of(core), Instant::now());
        Self {
            fleet: Arc::clone(&core.name),
            location,
            expected: Draft { backends: SavedFleet::new(), at: savings.now() },
            savings,
            // From before the restore, so that it misses no backend that is inserted meanwhile.
            changes: core.changes(),
            is_over: false,
            schedule: Schedule::new(now),
            saved: None,
            expected_until: now + EXPECTED_FOR,
            is_reported: false,
            is_outage: false,
        }
    }

    pub(super) fn fleet(&self) -> &str {
        &self.fleet
    }

    /// Returns whether the fleet has ended.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Notes that there is no document yet.
    pub(super) fn begin_empty(&mut self) {
        self.saved = Some(Draft { backends: SavedFleet::new(), at: self.savings.now() });
    }

    /// Continues the fleet from a document that is this old.
    pub(super) fn restore(&mut self, backends: SavedFleet, elapsed: Duration, mut problems: Problems) {
        let draft = Draft { backends, at: Moment::EPOCH }.aged(elapsed, self.savings.now());
        let (count, at) = (draft.backends.len(), draft.at);
        self.expected = Draft { backends: draft.backends.clone(), at };
        self.expected_until = Instant::now() + EXPECTED_FOR;
        self.savings.restore(&mut self.expected.backends, at);
        if problems.summary().is_none() {
            self.saved = Some(draft);
        } else {
            problems.add_unknown(&self.expected.backends);
        }
        if let Some(problems) = problems.summary() {
            self.report_not_restored(&problems);
        }
        let restored = count - self.expected.backends.len();
        if restored > 0 {
            foreign::run(|| telemetry::state_restored(&self.fleet, &self.location, restored));
        }
    }

    /// Waits for a change of the fleet, but not longer than until then, and attends to it.
    pub(super) async fn attend(&mut self, until: Instant) {
        let has_expected = !self.expected.backends.is_empty();
        let until = if has_expected { until.min(self.expected_until) } else { until };
        let mut is_inserted = false;
        if self.is_over {
            sleep_until(until).await;
        } else if let Ok(mut next) = timeout_at(until, self.changes.next()).await {
            // All that are there, so that they are attended to together.
            loop {
                match next {
                    Some(change) => is_inserted |= self.note(&change),
                    None => self.is_over = true,
                }
                match self.changes.next().now_or_never() {
                    Some(another) if !self.is_over => next = another,
                    _ => break,
                }
            }
        }
        if has_expected {
            self.attend_to_expected(is_inserted);
        }
    }

    /// Notes a change. Returns whether a backend may have been added.
    fn note(&mut self, change: &Change) -> bool {
        match change {
            Change::Inserted(_) => true,
            // Nothing of this is saved.
            Change::Reweighted(..) | Change::Moved(..) | Change::Probe(..) | Change::Hint(..) => false,
            change => {
                self.schedule.changed(Instant::now());
                matches!(change, Change::Missed(_))
            }
        }
    }

    fn attend_to_expected(&mut self, is_inserted: bool) {
        if is_inserted {
            let now = self.savings.now();
            self.expected.age_to(now);
            self.savings.restore(&mut self.expected.backends, now);
        }
        if Instant::now() >= self.expected_until && !self.expected.backends.is_empty() {
            let mut problems = Problems::default();
            problems.add_unknown(&self.expected.backends);
            self.expected.backends.clear();
            self.schedule.changed(Instant::now());
            if let Some(problems) = problems.summary() {
                self.report_not_restored(&problems);
            }
        }
    }

    /// Returns what is to be saved now.
    pub(super) fn draft(&mut self) -> Draft {
        self.schedule.begin();
        let now = self.savings.now();
        let mut backends = self.savings.read(now);
        for (name, saved) in &self.expected.backends {
            let saved = saved.aged(now.since(self.expected.at));
            if !saved.is_empty() {
                backends.entry(name.clone()).or_insert(saved);
            }
        }
        Draft { backends, at: now }
    }

    /// Returns the document.
    pub(super) fn text(&self, draft: &Draft) -> io::Result<Vec<u8>> {
        Ok(document::write(&self.fleet, SystemTime::now(), &draft.backends)?)
    }

    /// Returns whether the store has this state, but for the time that has passed.
    pub(super) fn is_saved(&self, draft: &Draft, with_estimates: bool) -> bool {
        self.saved.as_ref().is_some_and(|saved| saved.is_same(draft, with_estimates))
    }

    /// Notes that the state was saved.
    pub(super) fn saved(&mut self, draft: Draft) {
        self.saved = Some(draft);
        self.schedule.saved(Instant::now());
        if std::mem::take(&mut self.is_outage) {
            foreign::run(|| telemetry::state_saved_again(&self.fleet, &self.location));
        }
    }

    /// Reports that a document, or a part of it, was not restored. Once.
    pub(super) fn report_not_restored(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.is_reported, true) {
            foreign::run(|| telemetry::state_not_restored(&self.fleet, &self.location, reason));
        }
    }

    /// Reports that the store cannot be read. That it cannot be written to either is not reported again.
    pub(super) fn begin_outage(&mut self, reason: &str) {
        self.report_not_restored(reason);
        self.is_outage = true;
    }

    /// Reports that the state cannot be saved. Once, until it is saved again.
    pub(super) fn report_not_saved(&mut self, error: &str) {
        if !std::mem::replace(&mut self.is_outage, true) {
            foreign::run(|| telemetry::state_not_saved(&self.fleet, &self.location, &error));
        }
    }
}

impl Problems {
    /// Adds that these backends are not in the fleet.
    fn add_unknown(&mut self, backends: &SavedFleet) {
        if let Some(name) = backends.keys().next() {
            self.add_many(backends.len(), || format!("backend `{name}` is not in the fleet"));
        }
    }
}

impl Draft {
    /// Returns the state as it is after some time without calls, at this moment.
    fn aged(self, by: Duration, at: Moment) -> Self {
        let aged = |(name, saved): (_, SavedBackend)| (name, saved.aged(by));
        let backends = self.backends.into_iter().map(aged).filter(|(_, saved)| !saved.is_empty()).collect();
        Self { backends, at }
    }

    fn age_to(&mut self, now: Moment) {
        let backends = std::mem::take(&mut self.backends);
        let before = std::mem::replace(&mut self.at, now);
        self.backends = Self { backends, at: before }.aged(now.since(before), now).backends;
    }

    /// Returns whether another state is what became of this one without calls and changes.
    fn is_same(&self, later: &Self, with_estimates: bool) -> bool {
        let by = later.at.since(self.at);
        let lasting = |saved: SavedBackend| if with_estimates { saved } else { saved.without_load() };
        let here = self.backends.iter().map(|(name, saved)| (name, lasting(saved.aged(by))));
        let there = later.backends.iter().map(|(name, saved)| (name, lasting(*saved)));
        let mut here = here.filter(|(_, saved)| !saved.is_empty());
        let mut there = there.filter(|(_, saved)| !saved.is_empty());
        loop {
            match (here.next(), there.next()) {
                (None, None) => return true,
                (Some(here), Some(there)) if here.0 == there.0 && is_same(&here.1, &there.1) => {}
                _ => return false,
            }
        }
    }
}

/// Compares two states of a backend as of one moment.
fn is_same(one: &SavedBackend, other: &SavedBackend) -> bool {
    let loads = [(one.load.peak, other.load.peak), (one.load.mean, other.load.mean)];
    let loads = loads.into_iter().chain([(one.load.failures, other.load.failures)]);
    one.without_load() == other.without_load() && loads.into_iter().all(|(one, other)| is_same_estimate(one, other))
}

fn is_same_estimate(one: Option<SavedEstimate>, other: Option<SavedEstimate>) -> bool {
    match (one, other) {
        // An age is known to about a millisecond.
        (Some(one), Some(other)) => one.value == other.value && one.age.abs_diff(other.age) < Duration::from_millis(5),
        (one, other) => one.is_none() && other.is_none(),
    }
}
