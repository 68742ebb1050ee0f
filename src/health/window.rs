//! Sliding windows, with bounded memory and constant work: failures exactly, rates by buckets.

use std::time::Duration;

use crate::time::Moment;

/// The moments of the last `threshold` failures, in a ring buffer.
///
/// The window is exact: the rule is met if the oldest of them is at most `within` old. Nothing is rescanned.
#[derive(Debug)]
pub(super) struct FailureLog {
    moments: Box<[Moment]>,
    /// The index of the next entry; once the log is full, also that of the oldest one.
    next: usize,
    full: bool,
    within: Duration,
}

impl FailureLog {
    pub(super) fn new(threshold: u32, within: Duration) -> Self {
        Self { moments: vec![Moment::EPOCH; threshold as usize].into(), next: 0, full: false, within }
    }

    /// Adds a failure. Returns whether `threshold` failures are at most `within` old.
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

/// The number of buckets of a rate window.
pub(super) const BUCKETS: u64 = 32;

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    calls: u64,
    hits: u64,
}

/// The share of hits (failed or slow calls) among the calls in a sliding window.
///
/// A call leaves the window with its bucket. So it counts for at least 31/32 of the window, and never for longer than
/// the window. Since sums are kept, adding a call is O(1): at most 32 steps after a pause. The circuit's lock guards
/// it. That costs about as much as two contended atomics would, and counts exactly.
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

    /// Counts a call. Returns whether there are enough calls and the share of hits has reached the rate.
    pub(super) fn add(&mut self, now: Moment, hit: bool) -> bool {
        self.slide(now.as_nanos() / self.width);
        // The clock of a racing call may be behind the newest bucket. Its call is counted there: a window only moves
        // forward.
        let bucket = &mut self.buckets[(self.newest % BUCKETS) as usize];
        bucket.calls += 1;
        bucket.hits += u64::from(hit);
        self.sum.calls += 1;
        self.sum.hits += u64::from(hit);
        self.is_reached()
    }

    /// Turns a call that was counted earlier into a hit of `now`. Has no effect if no call without a hit remains in the
    /// window. Returns as [`add`](Self::add) does.
    ///
    /// The bucket that the call was counted in is not known. It is taken from the oldest one that has a call without a
    /// hit, so that no bucket has more hits than calls.
    pub(super) fn amend(&mut self, now: Moment) -> bool {
        self.slide(now.as_nanos() / self.width);
        let mut oldest_first = (1..=BUCKETS).map(|age| ((self.newest % BUCKETS + age) % BUCKETS) as usize);
        let Some(index) = oldest_first.find(|index| self.buckets[*index].calls > self.buckets[*index].hits) else {
            return false;
        };
        self.buckets[index].calls -= 1;
        let bucket = &mut self.buckets[(self.newest % BUCKETS) as usize];
        bucket.calls += 1;
        bucket.hits += 1;
        self.sum.hits += 1;
        self.is_reached()
    }

    fn is_reached(&self) -> bool {
        // A division, not a product: 3/30 rounds to the same number as the literal `0.1`.
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
        assert!(!log.add(at(151)), "the failure at 50 is 101 ms old");
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

    // C34: or its hit would outlive its call.
    #[test]
    fn an_amended_call_moves_to_the_newest_bucket() {
        let mut window = RateWindow::new(1.0, Duration::from_millis(320), 1);
        assert!(!window.add(at(0), false));
        assert!(window.amend(at(200)), "one of one");
        assert!(!window.add(at(400), false), "one of two");
        assert!(!window.add(at(600), false), "none of two");
        assert!(!window.amend(at(1_000)), "no call remains in the window");
        assert!(window.add(at(1_000), true), "one of one");
    }

    #[test]
    fn windows_accept_any_moment() {
        // C58
        let mut window = RateWindow::new(0.5, Duration::from_nanos(1), 1);
        for nanos in [u64::MAX, 0, u64::MAX - 1, 5] {
            assert!(window.add(Moment::from_nanos(nanos), true));
            assert!(!window.amend(Moment::from_nanos(nanos)), "every call is a hit already");
        }
        let mut log = FailureLog::new(2, Duration::from_nanos(1));
        assert!(!log.add(Moment::NEVER));
        assert!(log.add(Moment::EPOCH), "a failure with an earlier moment is not too old");
    }
}
