//! The share of a backend with little left of its rate limit.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use super::share::FULL_SHARE;
use crate::time::Moment;

/// The parts of a limit up to which a share is lowered, and the shares.
///
/// Half of the traffic with a tenth of the limit left, since most limits are whole again before it is used up then. With
/// next to nothing left, what still arrives learns that the limit is whole again. More steps would make the doors
/// compute their order more often, for no less traffic at the end.
const STEPS: [(f64, u32); 2] = [(0.02, FULL_SHARE / 10), (0.1, FULL_SHARE / 2)];

/// How long a share is lowered if the backend does not state when its limit is whole again. Most limits are per minute.
const UNSTATED: Duration = Duration::from_secs(60);

/// How long a lowered share lasts at least. Otherwise a backend whose statements alternate changes the fleet with each
/// response.
const LEAST: Duration = Duration::from_secs(1);

/// How long it lasts at most. Limits are renewed within a day, and more is the fault of a clock or a unit.
const MOST: Duration = Duration::from_secs(24 * 60 * 60);

/// The share of a backend with little left of its rate limit, as the last response stated it.
///
/// Responses read it without a lock, and write `until`, so that a response that states what is known takes no lock. All
/// else is written under the lock of the fleet.
#[derive(Debug)]
pub(crate) struct LowHeadroom {
    /// [`FULL_SHARE`] if it is not lowered.
    share: AtomicU32,
    until: AtomicU64,
    /// When it was set last.
    set_at: AtomicU64,
}

/// A share, and until when it is lowered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lowered {
    pub(crate) share: u32,
    pub(crate) until: Moment,
}

impl Lowered {
    /// Returns the share that follows from what a response states: the part of the limit that is left, and the time until
    /// it is whole again.
    pub(crate) fn stated(left: f64, reset: Option<Duration>, now: impl FnOnce() -> Moment) -> Self {
        let step = STEPS.into_iter().find(|(most, _)| left <= *most);
        match step.filter(|_| reset != Some(Duration::ZERO)) {
            Some((_, share)) => Self { share, until: now().after(reset.unwrap_or(UNSTATED).clamp(LEAST, MOST)) },
            None => Self { share: FULL_SHARE, until: Moment::EPOCH },
        }
    }
}

impl LowHeadroom {
    /// Notes what a response states, as far as that needs no lock. Returns false if it has to be [set](Self::set) under it.
    ///
    /// A lower share has to be set. So has a higher one, or an end that is a second earlier or more, but not within a
    /// second: the next response states it again.
    pub(crate) fn note(&self, stated: Lowered, now: impl FnOnce() -> Moment) -> bool {
        let share = self.share.load(Ordering::Relaxed);
        if stated.share < share {
            return false;
        }
        if stated.share == share {
            let until = self.until.fetch_max(stated.until.as_nanos(), Ordering::Relaxed);
            if share == FULL_SHARE || Moment::from_nanos(until).since(stated.until) < LEAST {
                return true;
            }
        }
        !now().reached(Moment::from_nanos(self.set_at.load(Ordering::Relaxed)).after(LEAST))
    }

    /// Replaces what is noted. Under the fleet's lock.
    pub(crate) fn set(&self, Lowered { share, until }: Lowered, now: Moment) {
        self.share.store(share, Ordering::Relaxed);
        self.until.store(until.as_nanos(), Ordering::Relaxed);
        self.set_at.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// Ends it if its time is over. Under the fleet's lock.
    pub(crate) fn expire(&self, now: Moment) {
        if self.lowered().is_some_and(|lowered| now.reached(lowered.until)) {
            self.share.store(FULL_SHARE, Ordering::Relaxed);
        }
    }

    /// Returns the share, if it is lowered.
    pub(crate) fn lowered(&self) -> Option<Lowered> {
        let share = self.share.load(Ordering::Relaxed);
        let until = Moment::from_nanos(self.until.load(Ordering::Relaxed));
        (share < FULL_SHARE).then_some(Lowered { share, until })
    }
}

impl Default for LowHeadroom {
    fn default() -> Self {
        Self { share: AtomicU32::new(FULL_SHARE), until: AtomicU64::new(0), set_at: AtomicU64::new(0) }
    }
}

#[cfg(all(test, not(fleet_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HALF: u32 = FULL_SHARE / 2;
    const TENTH: u32 = FULL_SHARE / 10;

    fn at(millis: u64) -> Moment {
        Moment::since_epoch(Duration::from_millis(millis))
    }

    // C71
    #[test]
    fn the_share_falls_in_steps() {
        let share = |left| Lowered::stated(left, None, || at(0)).share;
        let shares = [1.0, 0.11, 0.1, 0.05, 0.021, 0.02, 0.001, 0.0].map(share);
        assert_eq!(shares, [FULL_SHARE, FULL_SHARE, HALF, HALF, HALF, TENTH, TENTH, TENTH]);
        let until = |reset| Lowered::stated(0.0, reset, || at(500)).until;
        assert_eq!(until(None), at(60_500));
        assert_eq!(until(Some(Duration::from_secs(7))), at(7_500));
        assert_eq!(until(Some(Duration::from_nanos(1))), at(1_500));
        assert_eq!(until(Some(Duration::MAX)), at(86_400_500));
        assert_eq!(Lowered::stated(0.0, Some(Duration::ZERO), || at(500)).share, FULL_SHARE, "whole again");
        assert_eq!(share(f64::NAN), FULL_SHARE);
    }

    // C66, C71: or each response would take the lock of the fleet.
    #[test]
    fn what_is_known_needs_no_lock() {
        let low = LowHeadroom::default();
        let stated = |share, until| Lowered { share, until: at(until) };
        let full = Lowered { share: FULL_SHARE, until: Moment::EPOCH };
        assert!(low.note(full, || unreachable!("the clock is not read")));
        assert!(!low.note(stated(HALF, 10_000), || at(0)));
        low.set(stated(HALF, 10_000), at(0));
        assert!(low.note(stated(HALF, 10_000), || at(5_000)));
        assert!(low.note(stated(HALF, 9_001), || at(5_000)), "hardly earlier");
        assert_eq!(low.lowered(), Some(stated(HALF, 10_000)));
        assert!(low.note(stated(HALF, 12_000), || at(5_000)));
        assert_eq!(low.lowered(), Some(stated(HALF, 12_000)), "later");
        assert!(!low.note(stated(HALF, 11_000), || at(5_000)), "earlier");
        assert!(low.note(stated(HALF, 1_500), || at(999)) && low.note(full, || at(999)), "not within a second");
        assert!(!low.note(stated(TENTH, 1_500), || at(1)), "lower at once");
        assert!(!low.note(full, || at(1_000)));
        low.expire(at(11_999));
        assert!(low.lowered().is_some());
        low.expire(at(12_000));
        assert_eq!(low.lowered(), None);
    }

    proptest! {
        // C58, C71
        #[test]
        fn a_share_is_never_nothing_and_its_end_never_far(left: f64, reset: Option<Duration>, now in 0..u64::MAX / 2) {
            let now = Moment::from_nanos(now);
            let Lowered { share, until } = Lowered::stated(left, reset, || now);
            prop_assert!((TENTH..=FULL_SHARE).contains(&share));
            prop_assert!(share == FULL_SHARE || (LEAST..=MOST).contains(&until.since(now)));
        }
    }
}
