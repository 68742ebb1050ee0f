//! How far circuits may go in taking backends out.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use super::member::{MemberInfo, WILLING};
use crate::{health::Signal, setting::InvalidSetting};

/// When too many backends fail, the fault may be elsewhere, and a crowd on the few that are left would take them down
/// too.
#[derive(Clone, Copy, Debug)]
pub(super) struct EjectionLimits {
    /// At most this share is out; the latest to open serve on.
    pub(super) max_ejected: f64,
    /// With less than this share left, all serve.
    pub(super) panic_below: f64,
}

impl Default for EjectionLimits {
    /// Both off: a backend that fails is out, whatever is left.
    fn default() -> Self {
        Self { max_ejected: 1.0, panic_below: 0.0 }
    }
}

impl EjectionLimits {
    pub(super) fn checked(self) -> Result<Self, InvalidSetting> {
        let settings = [("most_ejected", self.max_ejected), ("panic_below", self.panic_below)];
        match settings.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            Some((field, share)) => {
                Err(InvalidSetting::setting(field, &share.to_string(), "must be a share from 0 to 1"))
            }
            None => Ok(self),
        }
    }

    pub(super) fn is_off(self) -> bool {
        self.max_ejected >= 1.0 && self.panic_below <= 0.0
    }
}

/// The backends whose circuits are open, in the order in which they opened: the latest of them may be exempt, and serve
/// all the same. One that an operator took out, by status or by circuit, is no part of the sum.
#[derive(Debug, Default)]
pub(super) struct Ejection {
    limits: EjectionLimits,
    /// Backends that nothing but a circuit may keep out, open or not.
    willing: usize,
    ejected: BTreeMap<u64, Arc<MemberInfo>>,
    exempt: BTreeMap<u64, Arc<MemberInfo>>,
    openings: u64,
}

impl Ejection {
    pub(super) fn new(limits: EjectionLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes note of a backend: whether anything but its circuit keeps it out, whether its circuit does, and whether that
    /// opened just now.
    pub(super) fn note(&mut self, member: &Arc<MemberInfo>, is_willing: bool, is_out: bool, reopened: bool) {
        if self.limits.is_off() {
            return;
        }
        let was_willing = member.marks.set(WILLING, is_willing);
        self.willing = self.willing + usize::from(is_willing) - usize::from(was_willing);
        let opened = &member.marks.opened;
        let before = opened.load(Ordering::Relaxed);
        if before == 0 && !is_out || before != 0 && is_out && !reopened {
            return;
        }
        self.ejected.remove(&before);
        let was_exempt = self.exempt.remove(&before).is_some();
        if !is_out {
            if was_exempt {
                member.health.apply(Signal::Exempt(false));
            }
            opened.store(0, Ordering::Relaxed);
            return;
        }
        // One that opens again stays exempt meanwhile: requests must not find it out for a moment.
        self.openings += 1;
        opened.store(self.openings, Ordering::Relaxed);
        let places = if was_exempt { &mut self.exempt } else { &mut self.ejected };
        places.insert(self.openings, Arc::clone(member));
    }

    /// Exempts as many as the limits ask for, the latest to open. The backends whose exemption changed.
    pub(super) fn settle(&mut self) -> Vec<Arc<MemberInfo>> {
        let mut changed = Vec::new();
        if self.limits.is_off() {
            return changed;
        }
        let out = self.ejected.len() + self.exempt.len();
        let left = self.willing.saturating_sub(out);
        let wanted = if (left as f64) < self.limits.panic_below * self.willing as f64 {
            out
        } else {
            // Rounded down: a bound is kept.
            out.saturating_sub((self.limits.max_ejected * self.willing as f64 + 1e-9) as usize)
        };
        // The latest first, until those that are exempt are the latest, and as many as wanted.
        loop {
            let latest_ejected = self.ejected.last_key_value().map(|(opened, _)| *opened);
            let first_exempt = self.exempt.first_key_value().map(|(opened, _)| *opened);
            let is_misplaced = latest_ejected.zip(first_exempt).is_some_and(|(ejected, exempt)| ejected > exempt);
            if self.exempt.len() < wanted || (is_misplaced && wanted > 0) {
                let Some((opened, member)) = self.ejected.pop_last() else { break };
                member.health.apply(Signal::Exempt(true));
                changed.push(Arc::clone(&member));
                self.exempt.insert(opened, member);
            } else if self.exempt.len() > wanted {
                let Some((opened, member)) = self.exempt.pop_first() else { break };
                member.health.apply(Signal::Exempt(false));
                changed.push(Arc::clone(&member));
                self.ejected.insert(opened, member);
            } else {
                break;
            }
        }
        changed
    }
}
