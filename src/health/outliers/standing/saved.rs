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
