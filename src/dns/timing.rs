//! When the next lookup begins.

use std::time::Duration;

use crate::rng::Rng;

/// The checked bounds on the times between lookups.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub(super) min_ttl: Duration,
    /// At least `min_ttl`.
    pub(super) max_ttl: Duration,
    /// At least `min_ttl`.
    pub(super) max_backoff: Duration,
}

impl Timing {
    /// Returns the time after a complete answer of this TTL: the TTL within its bounds, and up to a tenth more.
    pub(super) fn after_answer(&self, ttl: Duration, rng: &mut Rng) -> Duration {
        later(ttl.clamp(self.min_ttl, self.max_ttl), 10, rng)
    }

    /// Returns the time after a failure, which is the n-th in a row: doubled from the minimum up to the longest backoff,
    /// and up to a half more.
    ///
    /// A negative answer is valid for `negative_ttl`; another lookup before would get the same one.
    pub(super) fn after_failure(&self, failures: u32, negative_ttl: Option<Duration>, rng: &mut Rng) -> Duration {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        let backoff = self.min_ttl.saturating_mul(doubled).max(negative_ttl.unwrap_or_default());
        later(backoff.min(self.max_backoff), 2, rng)
    }

    /// Returns the time after an answer in which something is missing: that of the failure, if it is shorter.
    pub(super) fn after_part(&self, ttl: Duration, failures: u32, rng: &mut Rng) -> Duration {
        self.after_answer(ttl, rng).min(self.after_failure(failures, None, rng))
    }
}

/// Adds up to a part of the time, at random, so that processes that were started together do not stay so.
fn later(time: Duration, part: u32, rng: &mut Rng) -> Duration {
    let range = u64::try_from((time / part).as_nanos()).unwrap_or(u64::MAX);
    time.saturating_add(Duration::from_nanos(rng.below(usize::try_from(range).unwrap_or(usize::MAX)) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        min_ttl: Duration::from_secs(5),
        max_ttl: Duration::from_secs(300),
        max_backoff: Duration::from_secs(60),
    };

    /// The least and the longest of many times, in seconds.
    fn range(mut time: impl FnMut(&mut Rng) -> Duration) -> (u64, u64) {
        let mut rng = Rng::seeded(1);
        let times: Vec<_> = (0..2_000).map(|_| time(&mut rng)).collect();
        let whole = |time: &Duration| time.as_secs_f64().round() as u64;
        (times.iter().min().map_or(0, whole), times.iter().max().map_or(0, whole))
    }

    // C56
    #[test]
    fn a_ttl_is_respected_within_its_bounds_and_never_cut_short() {
        let after = |ttl| range(|rng| TIMING.after_answer(Duration::from_secs(ttl), rng));
        assert_eq!(after(60), (60, 66));
        assert_eq!(after(0), (5, 5), "a TTL of zero is the minimum");
        assert_eq!(after(86_400), (300, 330));
        assert_eq!(after(u64::from(u32::MAX)), (300, 330));
    }

    // C70
    #[test]
    fn failures_in_a_row_are_further_and_further_apart_up_to_a_bound() {
        let after = |failures| range(|rng| TIMING.after_failure(failures, None, rng));
        assert_eq!([1, 2, 3, 4].map(after), [(5, 7), (10, 15), (20, 30), (40, 60)]);
        assert_eq!([5, 6, 64, u32::MAX].map(after), [(60, 90); 4]);
        assert_eq!(after(0), (5, 7));
    }

    // C70
    #[test]
    fn a_negative_answer_is_believed_for_its_ttl_up_to_the_longest_backoff() {
        let after = |ttl| range(|rng| TIMING.after_failure(1, Some(Duration::from_secs(ttl)), rng));
        assert_eq!([0, 30, 3_600].map(after), [(5, 7), (30, 45), (60, 90)]);
    }

    // C56
    #[test]
    fn a_missing_part_is_looked_up_again_before_the_rest_expires() {
        let after = |ttl, failures| range(|rng| TIMING.after_part(Duration::from_secs(ttl), failures, rng));
        assert_eq!(after(300, 1), (5, 7));
        assert_eq!(after(300, 9), (60, 90));
        assert_eq!(after(10, 9), (10, 11));
    }

    // C58
    #[test]
    fn no_time_overflows() {
        let longest = Timing { min_ttl: Duration::MAX, max_ttl: Duration::MAX, max_backoff: Duration::MAX };
        let mut rng = Rng::seeded(1);
        assert_eq!(longest.after_answer(Duration::ZERO, &mut rng), Duration::MAX);
        assert_eq!(longest.after_failure(u32::MAX, Some(Duration::MAX), &mut rng), Duration::MAX);
    }
}
