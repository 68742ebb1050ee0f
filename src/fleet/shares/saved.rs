//! What is saved of a share for the next start of the process.

use std::{sync::Arc, time::Duration};

use super::{super::member::MemberInfo, Shares};
use crate::{
    health::{FULL_SHARE, OutlierChange, Outliers, SavedStanding, Standing, Start},
    name::BackendId,
    time::Moment,
};

/// A share as it is saved.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SavedShare {
    pub(crate) outlier: Option<SavedStanding>,
    /// The time since its slow start began, if it is not over.
    pub(crate) started_for: Option<Duration>,
}

impl SavedShare {
    /// Returns the share as it is after some time without calls.
    pub(crate) fn aged(self, by: Duration) -> Self {
        Self {
            outlier: self.outlier.map(|standing| standing.aged(by)),
            started_for: self.started_for.map(|time| time.saturating_add(by)),
        }
    }
}

impl Shares {
    /// Returns what is to be saved, of the members with something to save.
    pub(in super::super) fn saved(&self, now: Moment) -> impl Iterator<Item = (BackendId, SavedShare)> {
        self.moving.iter().map(move |(id, moving)| {
            let started_for = moving.started.map(|start| now.since(start.at).saturating_add(start.ahead));
            (*id, SavedShare { outlier: moving.standing.saved(now), started_for })
        })
    }

    /// Returns whether the member was ejected when its share was saved.
    pub(in super::super) fn was_ejected(&self, saved: &SavedShare) -> bool {
        let is_ejected = |(settings, saved): (Outliers, SavedStanding)| {
            Standing::restored(saved, &settings, true, Moment::EPOCH).is_ejected(&settings)
        };
        self.outliers.zip(saved.outlier).is_some_and(is_ejected)
    }

    /// Continues from what was saved, unless the member is an outlier in this process already. `may_eject`: whether
    /// enough others remain. Returns whether the share changed, and what to announce.
    pub(in super::super) fn restore(
        &mut self,
        member: &Arc<MemberInfo>,
        saved: SavedShare,
        may_eject: bool,
        now: Moment,
    ) -> (bool, Option<OutlierChange>) {
        let starts = saved.started_for.filter(|_| self.slow_start.is_some());
        self.update(member, now, |moving, settings| {
            if let Some(ahead) = starts {
                moving.started = Some(Start { at: now, ahead });
            }
            let settings = settings.filter(|_| moving.standing == Standing::USUAL)?;
            moving.standing = Standing::restored(saved.outlier?, settings, may_eject, now);
            let (standing, reason) = (&moving.standing, moving.standing.reason()?);
            Some(if standing.is_ejected(settings) {
                OutlierChange::Ejected { time: standing.due().since(now), reason }
            } else {
                OutlierChange::Reduced { share: standing.share(settings) as f32 / FULL_SHARE as f32, reason }
            })
        })
    }
}
