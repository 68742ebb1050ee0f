//! When the state of a fleet is saved.

use std::time::Duration;

use tokio::time::Instant;

/// When the next save is due: soon after a change, at most once a second, and later after each failure.
#[derive(Debug)]
pub(super) struct Schedule {
    /// When something changed that is not saved yet.
    changed_at: Option<Instant>,
    /// When something changed after the state was read to be saved.
    changed_since: Option<Instant>,
    saved_at: Option<Instant>,
    /// When the estimates were last saved, or found to be the same.
    refreshed_at: Instant,
    failed_at: Instant,
    /// The failures since the last save.
    failures: u32,
}

/// So that changes that come together are saved together.
const SETTLE: Duration = Duration::from_millis(50);

/// Each save writes all of the document.
const PAUSE: Duration = Duration::from_secs(1);

/// Estimates change with every call, and are of use for about as long.
const REFRESH: Duration = Duration::from_secs(60);

/// The longest pause after failures.
const MAX_PAUSE: Duration = Duration::from_secs(60);

impl Schedule {
    pub(super) fn new(now: Instant) -> Self {
        Self { changed_at: None, changed_since: None, saved_at: None, refreshed_at: now, failed_at: now, failures: 0 }
    }

    /// Returns when a save is due.
    pub(super) fn due(&self) -> Instant {
        let refresh = self.refreshed_at + REFRESH;
        let change = self.changed_at.map(|at| (at + SETTLE).max(self.saved_at.map_or(at, |saved| saved + PAUSE)));
        let due = change.map_or(refresh, |change| change.min(refresh));
        match self.failures {
            0 => due,
            failures => due.max(self.failed_at + MAX_PAUSE.min(PAUSE * (1 << (failures - 1).min(6)))),
        }
    }

    /// Returns whether the estimates are due to be saved.
    pub(super) fn is_refresh(&self, now: Instant) -> bool {
        now >= self.refreshed_at + REFRESH
    }

    pub(super) fn changed(&mut self, now: Instant) {
        self.changed_at.get_or_insert(now);
        self.changed_since.get_or_insert(now);
    }

    /// Notes that the state is read, to be saved. What changes from now on is not in it.
    pub(super) fn begin(&mut self) {
        self.changed_since = None;
    }

    /// Notes that the state is the same as the saved one. `with_estimates`: these too.
    pub(super) fn unchanged(&mut self, with_estimates: bool, now: Instant) {
        self.changed_at = None;
        if with_estimates {
            self.refreshed_at = now;
        }
    }

    pub(super) fn saved(&mut self, now: Instant) {
        self.unchanged(true, now);
        self.changed_at = self.changed_since;
        (self.saved_at, self.failures) = (Some(now), 0);
    }

    pub(super) fn failed(&mut self, now: Instant) {
        (self.failed_at, self.failures) = (now, self.failures.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    // C54
    #[tokio::test(start_paused = true)]
    async fn the_first_change_is_saved_soon_and_the_next_ones_at_most_once_a_second() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        assert_eq!(schedule.due() - start, millis(60_000));
        schedule.changed(start + millis(100));
        schedule.changed(start + millis(120));
        assert_eq!(schedule.due() - start, millis(150));
        schedule.saved(start + millis(160));
        schedule.changed(start + millis(170));
        assert_eq!(schedule.due() - start, millis(1_160));
        schedule.unchanged(false, start + millis(1_160));
        assert_eq!(schedule.due() - start, millis(60_160));
        assert!(!schedule.is_refresh(start + millis(60_159)) && schedule.is_refresh(start + millis(60_160)));
    }

    // C54
    #[tokio::test(start_paused = true)]
    async fn a_change_during_a_save_is_saved_by_the_next_one() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.changed(start);
        schedule.begin();
        schedule.changed(start + millis(100));
        schedule.saved(start + millis(200));
        assert_eq!(schedule.due() - start, millis(1_200));
        schedule.begin();
        schedule.saved(start + millis(1_200));
        assert_eq!(schedule.due() - start, millis(61_200));
    }

    // C54
    #[tokio::test(start_paused = true)]
    async fn each_failure_doubles_the_pause_up_to_a_minute() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.changed(start);
        let mut now = start;
        let pauses: Vec<_> = std::iter::repeat_with(|| {
            schedule.failed(now);
            let pause = schedule.due() - now;
            now += pause;
            pause.as_secs()
        })
        .take(9)
        .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        schedule.saved(now);
        schedule.changed(now);
        assert_eq!(schedule.due() - now, millis(1_000));
    }
}
