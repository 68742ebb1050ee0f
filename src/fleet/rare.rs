//! What few members of a fleet have.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{tags::MemberTags, watchers::Watchers};
use crate::{health::LowHeadroom, outcome::TimeLimits};

/// What few members have. In one box that is made for the first of them, so that the others take no memory for it.
#[derive(Default)]
pub(super) struct Rare {
    pub(super) watchers: Watchers,
    /// In the order of [`parts`]. Zero for no limit.
    time_limits: [AtomicU64; 4],
    pub(super) tags: MemberTags,
    pub(super) low_headroom: LowHeadroom,
}

impl Rare {
    #[inline]
    pub(super) fn time_limits(&self) -> TimeLimits {
        let [head, first_byte, first_content, idle] = &self.time_limits;
        let limit = |nanos: &AtomicU64| Some(nanos.load(Relaxed)).filter(|nanos| *nanos > 0).map(Duration::from_nanos);
        TimeLimits::new()
            .head(limit(head))
            .first_byte(limit(first_byte))
            .first_content(limit(first_content))
            .idle(limit(idle))
    }

    /// Sets the limits. Returns whether they changed. Under the fleet's lock.
    pub(super) fn set_time_limits(&self, limits: TimeLimits) -> bool {
        let mut is_changed = false;
        for (own, limit) in self.time_limits.iter().zip(parts(&limits)) {
            let nanos = limit.map_or(0, |limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
            is_changed |= own.swap(nanos, Relaxed) != nanos;
        }
        is_changed
    }
}

fn parts(limits: &TimeLimits) -> [Option<Duration>; 4] {
    [limits.head, limits.first_byte, limits.first_content, limits.idle]
}
