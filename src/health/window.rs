//! Sliding windows: the last failures exactly, rates by buckets. Bounded memory, constant work.

use std::time::Duration;

use crate::time::Moment;

/// Remembers when the last `threshold` failures happened, and no more.
///
/// The window slides exactly: what counts is the age of the oldest one kept, so nothing is ever rescanned.
#[derive(Debug)]
pub(super) struct FailureLog {
    moments: Box<[Moment]>,
    /// Where the next one goes; once the log is full, also where the oldest one is.
    next: usize,
    full: bool,
    within: Duration,
}

impl FailureLog {
    pub(super) fn new(threshold: u32, within: Duration) -> Self {
        Self { moments: vec![Moment::EPOCH; threshold as usize].into(), next: 0, full: false, within }
    }

    /// Notes a failure; true when the threshold is reached, by failures at most `within` old.
    pub(super) fn add(&mut self, now: Moment) -> bool {
        self.moments[self.next] = now;
        self.next += 1;
        if self.next == self.moments.len() {
            self.next = 0;
            self.full = true;
        }
        self.full && now.since(self.moments[self.next]) <= self.within
    }

    pub(super) fn clear(&mut self) {
        self.next = 0;
        self.full = false;
    }
}

/// How many slices a rate window is cut into.
pub(super) const BUCKETS: u64 = 32;

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    calls: u64,
    hits: u64,
}

/// Counts calls, and those of them that hit (failed, or were slow), over a sliding window.
///
/// Precision: a call is forgotten with its bucket, so it counts for at least 31/32 of the window and never for longer
/// than the window. Sums are kept, so a call costs O(1), and at most 32 steps after a silence.
/// Kept under the circuit's lock, which costs about what two contended atomics would, and counts exactly.
#[derive(Debug)]
pub(super) struct RateWindow {
    buckets: [Bucket; BUCKETS as usize],
    sum: Bucket,
    /// Length of a bucket in nanoseconds.
    width: u64,
    /// The number of the newest bucket, counted from the epoch.
    newest: u64,
    rate: f64,
    minimum_calls: u64,
}

impl RateWindow {
    pub(super) fn new(rate: f64, window: Duration, minimum_calls: u32) -> Self {
        Self {
            buckets: [Bucket::default(); BUCKETS as usize],
            sum: Bucket::default(),
            width: (Moment::since_epoch(window).as_nanos() / BUCKETS).max(1),
            newest: 0,
            rate,
            minimum_calls: u64::from(minimum_calls),
        }
    }

    /// Counts a call; true when there are enough calls and the share of hits has reached the rate.
    pub(super) fn add(&mut self, now: Moment, hit: bool) -> bool {
        self.slide(now.as_nanos() / self.width);
        // A clock read before a racing one belongs to the newest bucket all the same: the windows move forward only.
        let bucket = &mut self.buckets[(self.newest % BUCKETS) as usize];
        bucket.calls += 1;
        bucket.hits += u64::from(hit);
        self.sum.calls += 1;
        self.sum.hits += u64::from(hit);
        self.is_reached()
    }

    /// Turns a call that was counted before into a hit of this moment. One that has left the window since changes
    /// nothing.
    ///
    /// Which bucket it was counted in is not known: it is taken from the oldest that has a call without a hit, so that
    /// no bucket ever has more hits than calls.
    pub(super) fn amend(&mut self, now: Moment) -> bool {
        self.slide(now.as_nanos() / self.width);
        let mut oldest_first = (1..=BUCKETS).map(|age| ((self.newest % BUCKETS + age) % BUCKETS) as usize);
        let Some(place) = oldest_first.find(|place| self.buckets[*place].calls > self.buckets[*place].hits) else {
            return false;
        };
        self.buckets[place].calls -= 1;
        let bucket = &mut self.buckets[(self.newest % BUCKETS) as usize];
        bucket.calls += 1;
        bucket.hits += 1;
        self.sum.hits += 1;
        self.is_reached()
    }

    fn is_reached(&self) -> bool {
        // A division, because it rounds 3/30 to the very number that `0.1` is; a product would not.
        self.sum.calls >= self.minimum_calls && self.sum.hits as f64 / self.sum.calls as f64 >= self.rate
    }

    fn slide(&mut self, number: u64) {
        let steps = number.saturating_sub(self.newest);
        if steps >= BUCKETS {
            self.clear();
        } else {
            for step in 1..=steps {
                let bucket = &mut self.buckets[((self.newest + step) % BUCKETS) as usize];
                self.sum.calls -= bucket.calls;
                self.sum.hits -= bucket.hits;
                *bucket = Bucket::default();
            }
        }
        self.newest = self.newest.max(number);
    }

    pub(super) fn clear(&mut self) {
        self.buckets.fill(Bucket::default());
        self.sum = Bucket::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::since_epoch(Duration::from_millis(millis))
    }

    #[test]
    fn the_nth_last_failure_may_be_as_old_as_the_window() {
        // C36
        let mut log = FailureLog::new(3, Duration::from_millis(100));
        assert!(!log.add(at(0)));
        assert!(!log.add(at(50)));
        assert!(log.add(at(100)));
        assert!(!log.add(at(151)), "the one at 50 is 101 old");
        assert!(log.add(at(152)));
    }

    #[test]
    fn one_failure_suffices_when_the_threshold_is_one() {
        assert!(FailureLog::new(1, Duration::from_nanos(1)).add(at(7)));
    }

    #[test]
    fn a_cleared_log_starts_over() {
        let mut log = FailureLog::new(2, Duration::from_secs(1));
        assert!(!log.add(at(1)));
        assert!(log.add(at(1)));
        log.clear();
        assert!(!log.add(at(1)));
        assert!(log.add(at(1)));
    }

    #[test]
    fn a_rate_needs_its_minimum_of_calls() {
        // C36
        let mut window = RateWindow::new(0.5, Duration::from_secs(1), 4);
        assert!(!window.add(at(0), true));
        assert!(!window.add(at(0), true));
        assert!(!window.add(at(0), false));
        assert!(window.add(at(0), false), "two of four is half");
        assert!(!window.add(at(0), false));
    }

    #[test]
    fn a_decimal_rate_is_met_exactly() {
        for (hits, calls, rate) in [(3, 30, 0.1), (7, 10, 0.7), (1, 3, 1.0 / 3.0), (29, 100, 0.29)] {
            let mut window = RateWindow::new(rate, Duration::from_secs(1), calls);
            let mut reached = false;
            for call in 0..calls {
                reached = window.add(at(0), call < hits);
            }
            assert!(reached, "{hits} of {calls} is {rate}");
        }
    }

    #[test]
    fn calls_count_for_31_of_32_parts_of_the_window_and_never_longer() {
        let width = 1_000_000;
        for offset in [0, 1, width / 2, width - 1] {
            let start = 77 * width + offset;
            for age in (0..40 * width).step_by(width as usize / 10) {
                let mut window = RateWindow::new(1.0, Duration::from_nanos(32 * width), 2);
                window.add(Moment::from_nanos(start), true);
                let counted = window.add(Moment::from_nanos(start + age), true);
                if age <= 31 * width {
                    assert!(counted, "{age} after {start}");
                } else if age >= 32 * width {
                    assert!(!counted, "{age} after {start}");
                }
            }
        }
    }

    #[test]
    fn ten_thousand_successes_do_not_hide_an_outage() {
        // The window slides by time alone, not on transitions.
        let mut window = RateWindow::new(0.5, Duration::from_secs(10), 20);
        for call in 0..10_000 {
            assert!(!window.add(at(call), false));
        }
        let tripped = (0..10_000).find(|failure| window.add(at(10_000 + failure * 10), true));
        assert!(tripped.is_some_and(|failure| failure < 1_000), "{tripped:?}");
    }

    // C34
    #[test]
    fn an_amended_call_counts_as_a_hit_and_not_twice() {
        let mut window = RateWindow::new(0.5, Duration::from_secs(1), 4);
        (0..3).for_each(|_| assert!(!window.add(at(0), false)));
        assert!(!window.amend(at(0)), "one of three");
        assert!(!window.add(at(0), false), "one of four");
        assert!(window.amend(at(0)), "two of four");
    }

    // C34: its hit is of this moment, and so is the call.
    #[test]
    fn an_amended_call_leaves_no_hit_behind_when_its_bucket_is_forgotten() {
        let mut window = RateWindow::new(1.0, Duration::from_millis(320), 1);
        assert!(!window.add(at(0), false));
        assert!(window.amend(at(200)), "one of one");
        assert!(!window.add(at(400), false), "one of two");
        assert!(!window.add(at(600), false), "none of two");
        assert!(!window.amend(at(1_000)), "there is no call in the window that could have been this one");
        assert!(window.add(at(1_000), true), "one of one");
    }

    #[test]
    fn windows_take_any_time() {
        // C58
        let mut window = RateWindow::new(0.5, Duration::from_nanos(1), 1);
        for nanos in [u64::MAX, 0, u64::MAX - 1, 5] {
            assert!(window.add(Moment::from_nanos(nanos), true));
            assert!(!window.amend(Moment::from_nanos(nanos)), "all are hits");
        }
        let mut log = FailureLog::new(2, Duration::from_nanos(1));
        assert!(!log.add(Moment::NEVER));
        assert!(log.add(Moment::EPOCH), "earlier than the last one is not older than the window");
    }
}
