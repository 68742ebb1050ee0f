//! How far the traffic of an outlier is reduced: down with each interval in which it is one, and back.

#[cfg(feature = "file-state")]
mod saved;

use std::time::Duration;

#[cfg(feature = "file-state")]
pub(crate) use self::saved::SavedStanding;
use super::{
    super::share::FULL_SHARE,
    judge::Verdict,
    reason::{OutlierChange, OutlierReason},
    settings::Outliers,
};
use crate::time::Moment;

/// What the detection of outliers has decided about one backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Standing {
    /// 0 with all its traffic. The level after the last one is ejected.
    level: u8,
    /// When it gets more traffic, unless another interval shows it as an outlier before.
    due: Moment,
    /// The ejections that still lengthen the next one.
    ejections: u32,
    reason: Option<OutlierReason>,
}

impl Standing {
    /// A backend that is no outlier.
    pub(crate) const USUAL: Self = Self { level: 0, due: Moment::NEVER, ejections: 0, reason: None };

    /// Applies the result of an interval. Returns what that changed. `may_eject`: whether enough others remain.
    pub(crate) fn judge(
        &mut self,
        settings: &Outliers,
        verdict: Verdict,
        may_eject: impl FnOnce() -> bool,
        now: Moment,
    ) -> Option<OutlierChange> {
        match verdict {
            // Calls of the time before the ejection.
            _ if self.is_ejected(settings) => None,
            Verdict::Unknown => None,
            Verdict::Usual => self.rise(settings, now),
            Verdict::Outlier(reason) => {
                self.reason = Some(reason);
                self.due = now.after(settings.patience());
                if self.level < settings.levels() {
                    self.level += 1;
                    Some(OutlierChange::Reduced { share: fraction(self.share(settings)), reason })
                } else if may_eject() {
                    self.level += 1;
                    self.ejections = self.ejections.saturating_add(1);
                    let time = settings.eject_for.saturating_mul(self.ejections).min(settings.max_eject_for);
                    self.due = now.after(time);
                    Some(OutlierChange::Ejected { time, reason })
                } else {
                    None
                }
            }
        }
    }

    /// Gives the backend more traffic if that is due. Returns what that changed.
    pub(crate) fn expire(&mut self, settings: &Outliers, now: Moment) -> Option<OutlierChange> {
        if now.reached(self.due) { self.rise(settings, now) } else { None }
    }

    /// Ends an ejection early, or goes up one level.
    pub(crate) fn rise(&mut self, settings: &Outliers, now: Moment) -> Option<OutlierChange> {
        let before = self.level;
        match before {
            0 => self.ejections = self.ejections.saturating_sub(1),
            _ => self.level -= 1,
        }
        if self.level == 0 {
            self.reason = None;
        }
        let is_over = self.level == 0 && self.ejections == 0;
        self.due = if is_over { Moment::NEVER } else { now.after(settings.patience()) };
        (before > 0).then(|| OutlierChange::Returned { share: fraction(self.share(settings)) })
    }

    /// Returns the share. For an ejected backend, that of its return.
    pub(crate) fn share(&self, settings: &Outliers) -> u32 {
        settings.share(self.level)
    }

    pub(crate) fn is_ejected(&self, settings: &Outliers) -> bool {
        self.level > settings.levels()
    }

    /// The moment from which on it gets more traffic.
    pub(crate) fn due(&self) -> Moment {
        self.due
    }

    /// Why it is an outlier, as of the last interval in which it was one.
    pub(crate) fn reason(&self) -> Option<OutlierReason> {
        self.reason
    }
}

impl Outliers {
    /// How long a backend that had too few calls keeps its share: an evaluation comes before it.
    fn patience(&self) -> Duration {
        self.interval.saturating_mul(2)
    }
}

fn fraction(share: u32) -> f32 {
    share as f32 / FULL_SHARE as f32
}
