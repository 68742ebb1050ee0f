//! The shares of the traffic that are less than 1: of backends that start slowly, of outliers, and of those with little
//! left of their rate limits.

#[cfg(feature = "file-state")]
mod saved;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

#[cfg(feature = "file-state")]
pub(crate) use self::saved::SavedShare;
use super::member::MemberInfo;
use crate::{
    health::{
        FULL_SHARE, LowHeadroom, Lowered, OutlierChange, OutlierReason, Outliers, SlowStart, Standing, Start, Verdict,
    },
    name::BackendId,
    time::Moment,
};

/// The shares of the traffic that are less than 1: of backends that start slowly, of outliers, and of those with little
/// left of their rate limits.
///
/// They change at a few moments, which all backends have in common. Each of these is one change of the fleet.
#[derive(Debug, Default)]
pub(super) struct Shares {
    slow_start: Option<SlowStart>,
    outliers: Option<Outliers>,
    /// The members whose share is to rise, or whose earlier ejections still count. What is left of a rate limit is a fact of
    /// the member, since responses read it.
    moving: BTreeMap<BackendId, Moving>,
    /// The first moment at which one of them is due; [`Moment::NEVER`] without one.
    due: Option<Moment>,
    /// From when on an added backend starts slowly; `None` before the fleet serves.
    from: Option<Moment>,
    /// A door was made while the fleet had no eligible backend.
    was_empty: bool,
}

#[derive(Debug)]
struct Moving {
    member: Arc<MemberInfo>,
    /// When it started; `None` if that was longer ago than the window.
    started: Option<Start>,
    standing: Standing,
}

/// A member whose share changed, or what the detection of outliers changed.
pub(super) type Moved = (Arc<MemberInfo>, Option<OutlierChange>);

impl Shares {
    pub(super) fn new(slow_start: Option<SlowStart>, outliers: Option<Outliers>) -> Self {
        Self { slow_start, outliers, ..Self::default() }
    }

    /// The settings of the detection of outliers.
    pub(super) fn outliers(&self) -> Option<Outliers> {
        self.outliers
    }

    /// Returns the first moment at which a share is due to change.
    pub(super) fn due(&self) -> Moment {
        self.due.unwrap_or(Moment::NEVER)
    }

    /// Notes that a door reads the fleet.
    pub(super) fn serve(&mut self, mut members: impl Iterator<Item = bool>, now: impl FnOnce() -> Moment) {
        let Some(slow_start) = self.slow_start.filter(|_| self.from.is_none()) else { return };
        if members.any(|is_eligible| is_eligible) {
            // An empty fleet gets its first backends one after the other, and all of them are new.
            let wait = if self.was_empty { slow_start.window() } else { Duration::ZERO };
            self.from = Some(now().after(wait));
        } else {
            self.was_empty = true;
        }
    }

    /// Returns whether a backend that is added now starts slowly.
    pub(super) fn is_serving(&self, now: Moment) -> bool {
        self.from.is_some_and(|from| now.reached(from))
    }

    /// Begins the slow start of a member. Returns whether its share changed.
    pub(super) fn start(&mut self, member: &Arc<MemberInfo>, now: Moment) -> bool {
        let start = Start { at: now, ahead: Duration::ZERO };
        self.slow_start.is_some() && self.update(member, now, |moving, _| moving.started = Some(start)).0
    }

    /// Applies the result of an interval to a member. Returns what that changed.
    pub(super) fn judge(
        &mut self,
        member: &Arc<MemberInfo>,
        verdict: Verdict,
        may_eject: impl FnOnce() -> bool,
        now: Moment,
    ) -> Option<OutlierChange> {
        if !matches!(verdict, Verdict::Outlier(_)) && !self.moving.contains_key(&member.id) {
            return None;
        }
        let judge = |moving: &mut Moving, settings: Option<&Outliers>| {
            moving.standing.judge(settings?, verdict, may_eject, now)
        };
        self.update(member, now, judge).1
    }

    /// Ends the ejection of a member before its time. Returns what that changed.
    pub(super) fn end_ejection(&mut self, member: &Arc<MemberInfo>, now: Moment) -> Option<OutlierChange> {
        let rise = |moving: &mut Moving, settings: Option<&Outliers>| moving.standing.rise(settings?, now);
        self.update(member, now, rise).1
    }

    /// Sets the share that follows from what is left of the rate limit of a member. Returns whether its share changed.
    pub(super) fn set_headroom(&mut self, member: &Arc<MemberInfo>, stated: Lowered, now: Moment) -> bool {
        self.update(member, now, |moving, _| moving.member.low_headroom_mut().set(stated, now)).0
    }

    /// Changes the shares that are due. Returns their members, in the order in which these were added.
    pub(super) fn step(&mut self, now: Moment) -> Vec<Moved> {
        if !now.reached(self.due()) {
            return Vec::new();
        }
        self.due = None;
        let mut moved = Vec::new();
        let Self { slow_start, outliers, moving: members, due, .. } = self;
        members.retain(|_, moving| {
            let change = outliers.as_ref().and_then(|settings| moving.standing.expire(settings, now));
            moving.member.low_headroom().into_iter().for_each(|low| low.expire(now));
            let is_changed = moving.set_share(slow_start.as_ref(), outliers.as_ref(), now);
            if is_changed || change.is_some() {
                moved.push((Arc::clone(&moving.member), change));
            }
            let next = moving.due(slow_start.as_ref(), now);
            *due = Some(due.unwrap_or(Moment::NEVER).min(next));
            next != Moment::NEVER
        });
        moved
    }

    /// Forgets a removed member.
    pub(super) fn forget(&mut self, member: &MemberInfo) {
        self.moving.remove(&member.id);
    }

    /// Why a member is an outlier, if it is one.
    pub(super) fn reason(&self, member: &MemberInfo) -> Option<OutlierReason> {
        self.moving.get(&member.id)?.standing.reason()
    }

    /// Changes what is noted about a member, and sets its share. Returns whether that changed.
    fn update<T>(
        &mut self,
        member: &Arc<MemberInfo>,
        now: Moment,
        update: impl FnOnce(&mut Moving, Option<&Outliers>) -> T,
    ) -> (bool, T) {
        let Self { slow_start, outliers, moving, due, .. } = self;
        let usual = || Moving { member: Arc::clone(member), started: None, standing: Standing::USUAL };
        let entry = moving.entry(member.id).or_insert_with(usual);
        let done = update(entry, outliers.as_ref());
        let is_changed = entry.set_share(slow_start.as_ref(), outliers.as_ref(), now);
        match entry.due(slow_start.as_ref(), now) {
            Moment::NEVER => drop(moving.remove(&member.id)),
            next => *due = Some(due.unwrap_or(Moment::NEVER).min(next)),
        }
        (is_changed, done)
    }
}

impl Moving {
    /// Sets the share of the member: the smallest one of its slow start, of an outlier, and of its rate limit. Returns
    /// whether it changed.
    fn set_share(&mut self, slow_start: Option<&SlowStart>, outliers: Option<&Outliers>, now: Moment) -> bool {
        let started = slow_start.zip(self.started);
        let started = started.map_or(FULL_SHARE, |(slow_start, started)| slow_start.share_at(started, now));
        if started == FULL_SHARE {
            self.started = None;
        }
        let allowed = outliers.map_or(FULL_SHARE, |settings| self.standing.share(settings));
        let lowered = self.lowered().map_or(FULL_SHARE, |lowered| lowered.share);
        self.member.set_share(started.min(allowed).min(lowered))
    }

    fn lowered(&self) -> Option<Lowered> {
        self.member.low_headroom().and_then(LowHeadroom::lowered)
    }

    /// When its share may change.
    fn due(&self, slow_start: Option<&SlowStart>, now: Moment) -> Moment {
        let step = slow_start.filter(|_| self.started.is_some()).map_or(Moment::NEVER, |it| it.next_step(now));
        step.min(self.standing.due()).min(self.lowered().map_or(Moment::NEVER, |lowered| lowered.until))
    }
}
