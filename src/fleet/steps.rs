//! The changes of a fleet by slow start and by the detection of outliers.

use std::{cmp::Reverse, sync::Arc};

use super::{changes::Change, member::MemberInfo, registry::Registry};
use crate::{
    health::{CircuitState, Counts, Host, OutlierChange, Outliers, Signal, Timed, Transition, judge},
    time::Moment,
};

impl Registry {
    /// Begins the slow start of a member.
    pub(super) fn start_slowly(&mut self, member: &Arc<MemberInfo>, now: Moment) {
        if self.shares.start(member, now) {
            self.note_share();
        }
    }

    /// Begins the slow start of a member whose circuit admits its calls again.
    pub(super) fn start_after(&mut self, member: &Arc<MemberInfo>, transition: Transition, now: Moment) {
        use CircuitState::{Closed, ForcedClosed, ForcedOpen, HalfOpen, Open};
        let is_back =
            matches!(transition.from, Open | HalfOpen | ForcedOpen) && matches!(transition.to, Closed | ForcedClosed);
        // An exempt backend was in rotation all the time.
        if is_back && !member.health.is_exempt() {
            self.start_slowly(member, now);
        }
    }

    /// Changes the shares that are due.
    pub(super) fn process_shares(&mut self, now: Moment) {
        for (member, change) in self.shares.step(now) {
            self.note_share();
            self.apply(&member, change, now);
        }
    }

    /// Evaluates the calls of an interval. Costs about 0.2 µs per backend up to a thousand, and 0.4 µs for ten thousand,
    /// which are in no cache. `is_stale`: the interval ended so long ago that its calls say nothing about now.
    pub(super) fn evaluate(&mut self, is_stale: bool, now: Moment) {
        let Some(settings) = self.shares.outliers() else { return };
        let members = std::mem::take(&mut self.members);
        let mut tiers: Vec<&Arc<MemberInfo>> = members.values().collect();
        tiers.sort_by_key(|member| Reverse(member.priority()));
        for tier in tiers.chunk_by(|a, b| a.priority() == b.priority()) {
            let counts: Vec<_> = tier.iter().map(|member| member.take_counts()).collect();
            if !is_stale {
                self.evaluate_tier(&settings, tier, &counts, now);
            }
        }
        self.members = members;
    }

    fn evaluate_tier(&mut self, settings: &Outliers, tier: &[&Arc<MemberInfo>], counts: &[Counts], now: Moment) {
        // A backend that is out for another reason is not compared: its circuit or its operator knows more.
        let eligible: Vec<_> = tier.iter().zip(counts).filter(|(member, _)| member.health.is_eligible()).collect();
        let hosts: Vec<_> =
            eligible.iter().map(|(member, counts)| Host { share: member.share(), counts: **counts }).collect();
        let counted: Vec<_> = tier.iter().filter(|member| member.health.is_counted()).collect();
        let mut out = counted.iter().filter(|member| !member.health.is_eligible()).count();
        for ((member, _), verdict) in eligible.into_iter().zip(judge(settings, &hosts)) {
            let ejection = &self.ejection;
            let may_eject = || 2 * (out + 1) <= counted.len() && ejection.may_eject();
            let change = self.shares.judge(member, verdict, may_eject, now);
            out += usize::from(matches!(change, Some(OutlierChange::Ejected { .. })));
            self.apply(member, change, now);
        }
    }

    /// Returns hinted backends and outliers to the rotation until the limits on ejections hold, those first that were
    /// ejected last.
    pub(super) fn return_surplus(&mut self, now: impl Fn() -> Moment) {
        while let Some(member) = self.ejection.surplus_hint() {
            self.drop_hint(&member, now());
        }
        while let Some(member) = self.ejection.surplus() {
            let now = now();
            let change = self.shares.end_ejection(&member, now);
            self.apply(&member, change, now);
            if member.health.until(Timed::Outlier).is_some() {
                // Not noted as an outlier: cannot happen, and must not repeat forever.
                member.health.apply(Signal::Over(Timed::Outlier));
                self.refresh(&member, false, now);
            }
        }
    }

    /// Applies and announces what the detection of outliers changed.
    fn apply(&mut self, member: &Arc<MemberInfo>, change: Option<OutlierChange>, now: Moment) {
        let Some(change) = change else { return };
        match change {
            OutlierChange::Ejected { time, .. } => {
                member.health.apply(Signal::Until(Timed::Outlier, now.after(time)));
                self.refresh(member, false, now);
            }
            OutlierChange::Returned { .. } if member.health.apply(Signal::Over(Timed::Outlier)) => {
                // Its calls from before are no longer of interest.
                member.take_counts();
                self.refresh(member, false, now);
                self.start_slowly(member, now);
            }
            _ => self.note_share(),
        }
        self.announce(Change::Outlier(member.name.clone(), change));
    }
}
