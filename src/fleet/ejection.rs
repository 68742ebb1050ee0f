//! The limits on how many backends circuits may keep out of rotation.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use super::{marks::COUNTED, member::MemberInfo};
use crate::{
    health::Signal,
    setting::{InvalidSetting, share_reason},
};

/// How many backends circuits may keep out of rotation.
///
/// When most backends fail, the cause is often elsewhere, and the few with closed circuits would be overloaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct EjectionLimits {
    /// At most this share is out. Beyond it, the circuits that opened last are exempt.
    pub(super) max_ejected: f64,
    /// While less than this share has a closed circuit, all circuits are exempt.
    pub(super) panic_below: f64,
}

impl Default for EjectionLimits {
    /// Both are off: an open circuit keeps its backend out, however few remain.
    fn default() -> Self {
        Self { max_ejected: 1.0, panic_below: 0.0 }
    }
}

impl EjectionLimits {
    pub(super) fn checked(self) -> Result<Self, InvalidSetting> {
        let settings = [("max_ejected", self.max_ejected), ("panic_below", self.panic_below)];
        match settings.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            Some((field, share)) => {
                let reason = share_reason(share, "must be a share from 0 to 1");
                Err(InvalidSetting::of("fleet", field, share, reason))
            }
            None => Ok(self),
        }
    }

    pub(super) fn is_off(self) -> bool {
        self.max_ejected >= 1.0 && self.panic_below <= 0.0
    }
}

/// The backends with open circuits, in the order in which these opened. The last ones may be exempt: they stay in
/// rotation.
///
/// A backend that an operator or a cool-down keeps out is not counted.
#[derive(Debug, Default)]
pub(super) struct Ejection {
    limits: EjectionLimits,
    /// The number of backends that only a circuit can keep out, open or not.
    counted: usize,
    /// Open circuits by the serial number of their opening, like `exempt`.
    ejected: BTreeMap<u64, Arc<MemberInfo>>,
    exempt: BTreeMap<u64, Arc<MemberInfo>>,
    /// Ejected outliers by the serial number of their ejection. Their circuits are not counted.
    outliers: BTreeMap<u64, Arc<MemberInfo>>,
    openings: u64,
}

impl Ejection {
    pub(super) fn new(limits: EjectionLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Notes the state of a member.
    ///
    /// `is_counted`: only its circuit can keep it out. `is_out`: its circuit does. `has_opened`: it opened just now.
    pub(super) fn note(&mut self, member: &Arc<MemberInfo>, is_counted: bool, is_out: bool, has_opened: bool) {
        if self.limits.is_off() {
            return;
        }
        let was_counted = member.marks.set(COUNTED, is_counted);
        self.counted = self.counted + usize::from(is_counted) - usize::from(was_counted);
        self.note_outlier(member, is_counted && member.health.ejected_until().is_some());
        let opening = &member.marks.opening;
        let before = opening.load(Ordering::Relaxed);
        if before == 0 && !is_out || before != 0 && is_out && !has_opened {
            return;
        }
        self.ejected.remove(&before);
        let was_exempt = self.exempt.remove(&before).is_some();
        if !is_out {
            if was_exempt {
                member.health.apply(Signal::Exempt(false));
            }
            opening.store(0, Ordering::Relaxed);
            return;
        }
        // A circuit that opens again stays exempt, so that its backend is not out of rotation until the next update.
        self.openings += 1;
        opening.store(self.openings, Ordering::Relaxed);
        let members = if was_exempt { &mut self.exempt } else { &mut self.ejected };
        members.insert(self.openings, Arc::clone(member));
    }

    /// Notes whether a member is ejected as an outlier.
    fn note_outlier(&mut self, member: &Arc<MemberInfo>, is_outlier: bool) {
        let before = member.marks.outlier.load(Ordering::Relaxed);
        if is_outlier && before == 0 {
            self.openings += 1;
            member.marks.outlier.store(self.openings, Ordering::Relaxed);
            self.outliers.insert(self.openings, Arc::clone(member));
        } else if !is_outlier && before != 0 {
            member.marks.outlier.store(0, Ordering::Relaxed);
            self.outliers.remove(&before);
        }
    }

    /// Returns how many backends may be out while this many are.
    fn allowed(&self, out: usize) -> usize {
        let closed = self.counted.saturating_sub(out);
        if (closed as f64) < self.limits.panic_below * self.counted as f64 {
            return 0;
        }
        // Rounded down. The addend corrects products such as 0.29 * 100 = 28.999…
        (self.limits.max_ejected * self.counted as f64 + 1e-9) as usize
    }

    /// Returns how many backends have an open circuit or are ejected outliers.
    fn out(&self) -> usize {
        self.ejected.len() + self.exempt.len() + self.outliers.len()
    }

    /// Returns whether the limits allow that another outlier is ejected.
    pub(super) fn may_eject(&self) -> bool {
        self.limits.is_off() || self.out() < self.allowed(self.out() + 1)
    }

    /// Returns the outlier that was ejected last, if the limits require that it returns. Outliers return before circuits
    /// are exempt: a backend that is slow is better than one that fails.
    pub(super) fn surplus(&self) -> Option<Arc<MemberInfo>> {
        let (_, member) = self.outliers.last_key_value()?;
        (self.out() > self.allowed(self.out())).then(|| Arc::clone(member))
    }

    /// Exempts as many backends as the limits require, the last openings first. Returns the members whose exemption
    /// changed. After the [surplus](Self::surplus) of outliers has returned.
    pub(super) fn update(&mut self) -> Vec<Arc<MemberInfo>> {
        let mut changed = Vec::new();
        if self.limits.is_off() {
            return changed;
        }
        let out = self.ejected.len() + self.exempt.len();
        let wanted = out.saturating_sub(self.allowed(out));
        // Until the exempt members are the last openings, and as many as wanted.
        loop {
            let last_ejected = self.ejected.last_key_value().map(|(opening, _)| *opening);
            let first_exempt = self.exempt.first_key_value().map(|(opening, _)| *opening);
            let is_misplaced = last_ejected.zip(first_exempt).is_some_and(|(ejected, exempt)| ejected > exempt);
            if self.exempt.len() < wanted || (is_misplaced && wanted > 0) {
                let Some((opening, member)) = self.ejected.pop_last() else { break };
                member.health.apply(Signal::Exempt(true));
                changed.push(Arc::clone(&member));
                self.exempt.insert(opening, member);
            } else if self.exempt.len() > wanted {
                let Some((opening, member)) = self.exempt.pop_first() else { break };
                member.health.apply(Signal::Exempt(false));
                changed.push(Arc::clone(&member));
                self.ejected.insert(opening, member);
            } else {
                break;
            }
        }
        changed
    }
}
