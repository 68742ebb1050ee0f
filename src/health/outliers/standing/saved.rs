//! What is saved of a standing for the next start of the process.

use std::time::Duration;

use super::{
    super::{reason::OutlierReason, settings::Outliers},
    Standing,
};
use crate::time::Moment;

/// A standing as it is saved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SavedStanding {
    /// How many times the traffic was reduced. One more than there are levels if the backend is ejected.
    pub(crate) level: u8,
    /// The time until it gets more traffic.
    pub(crate) remaining: Duration,
    /// The ejections that still lengthen the next one.
    pub(crate) ejections: u32,
    pub(crate) reason: Option<OutlierReason>,
}

impl SavedStanding {
    /// Returns the standing as it is after some time without calls.
    pub(crate) fn aged(self, by: Duration) -> Self {
        Self { remaining: self.remaining.saturating_sub(by), ..self }
    }
}

impl Standing {
    /// Returns what is to be saved. `None` for a backend that is no outlier, and was none lately.
    pub(crate) fn saved(&self, now: Moment) -> Option<SavedStanding> {
        let Self { level, due, ejections, reason } = *self;
        (due != Moment::NEVER).then(|| SavedStanding { level, remaining: due.since(now), ejections, reason })
    }

    /// Continues from what was saved, within the present settings. `may_eject`: whether enough others remain. If not, or
    /// if the time of an ejection is over, the backend gets the smallest share.
    pub(crate) fn restored(saved: SavedStanding, settings: &Outliers, may_eject: bool, now: Moment) -> Self {
        let most = if may_eject && !saved.remaining.is_zero() { settings.levels() + 1 } else { settings.levels() };
        // More ejections lengthen the next one no further.
        let longest = settings.max_eject_for.as_nanos().div_ceil(settings.eject_for.as_nanos().max(1));
        let mut standing = Self {
            level: saved.level.min(most),
            ejections: saved.ejections.min(u32::try_from(longest).unwrap_or(u32::MAX)),
            ..Self::USUAL
        };
        if standing.level == 0 && standing.ejections == 0 {
            return Self::USUAL;
        }
        standing.reason = saved.reason.filter(|_| standing.level > 0);
        let longest = if standing.is_ejected(settings) { settings.max_eject_for } else { settings.patience() };
        standing.due = now.after(saved.remaining.min(longest));
        standing
    }
}

#[cfg(all(test, not(fleet_loom)))]
mod tests {
    use super::{
        super::{super::judge::Verdict, OutlierChange},
        *,
    };

    // C54, C66: level by level, from each of them.
    #[test]
    fn a_restored_standing_goes_on_like_the_saved_one() {
        let settings = Outliers::new();
        let reason = OutlierReason::Failures { failed: 9, calls: 9 };
        let at = |seconds| Moment::since_epoch(Duration::from_secs(seconds));
        let mut standing = Standing::USUAL;
        assert_eq!(standing.saved(at(1)), None);
        for step in 1..=12 {
            let now = 1_000 + 10 * step;
            standing.judge(&settings, Verdict::Outlier(reason), || true, at(now));
            let saved = standing.saved(at(now)).unwrap();
            let mut restored = Standing::restored(saved, &settings, true, at(1));
            let mut original = standing;
            for later in (0..1_000).step_by(10) {
                let (one, other) = (at(1 + later), at(now + later));
                assert_eq!(restored.expire(&settings, one), original.expire(&settings, other), "{step} {later}");
                assert_eq!(restored.saved(one), original.saved(other), "{step} {later}");
            }
            assert_eq!(restored, Standing::USUAL);
            if standing.is_ejected(&settings) {
                standing.rise(&settings, at(now));
            }
        }
    }

    // C54: what no settings of this process could produce.
    #[test]
    fn a_standing_is_cut_to_the_present_settings() {
        let settings = Outliers::new();
        let reason = Some(OutlierReason::Failures { failed: 9, calls: 9 });
        let saved = SavedStanding { level: 255, remaining: Duration::MAX, ejections: u32::MAX, reason };
        let now = Moment::since_epoch(Duration::from_secs(1));
        let standing = Standing::restored(saved, &settings, true, now);
        assert!(standing.is_ejected(&settings) && standing.due().since(now) == settings.max_eject_for);
        assert_eq!(standing.saved(now).unwrap().ejections, 10);
        // Not ejected if too few others remain, or if its time is over.
        let over = SavedStanding { remaining: Duration::ZERO, ..saved };
        for mut standing in
            [Standing::restored(saved, &settings, false, now), Standing::restored(over, &settings, true, now)]
        {
            assert!(!standing.is_ejected(&settings) && standing.share(&settings) < 10_000);
            let returned = standing.rise(&settings, now);
            assert!(matches!(returned, Some(OutlierChange::Returned { .. })));
        }
    }
}
