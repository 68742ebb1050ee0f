//! The limits on how many backends circuits, probes, outlier detection and hints may keep out of rotation.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use super::{marks::COUNTED, member::MemberInfo};
use crate::{
    health::{Signal, Timed},
    setting::{InvalidSetting, share_reason},
};

/// How many backends may be kept out of rotation.
///
/// When most backends fail, the cause is often elsewhere, and the few with closed circuits would be overloaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct EjectionLimits {
    /// At most this share is out. Beyond it, the circuits that opened last are exempt.
    pub(super) max_ejected: f64,
    /// While less than this share has a closed circuit, all circuits are exempt.
    pub(super) panic_below: f64,
    /// While more than this share is out, no hint of another replica keeps a backend out.
    pub(super) max_hinted: f64,
}

impl Default for EjectionLimits {
    /// The first two are off: an open circuit keeps its backend out, however few remain.
    fn default() -> Self {
        Self { max_ejected: 1.0, panic_below: 0.0, max_hinted: 0.5 }
    }
}

impl EjectionLimits {
    pub(super) fn checked(self) -> Result<Self, InvalidSetting> {
        let Self { max_ejected, panic_below, max_hinted } = self;
        let settings = [("max_ejected", max_ejected), ("panic_below", panic_below), ("max_hinted", max_hinted)];
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

/// The backends that are ejected, in the order of their ejections. The last ones may be exempt: they stay in rotation.
///
/// A backend that an operator or a cool-down keeps out is not counted.
#[derive(Debug, Default)]
pub(super) struct Ejection {
    limits: EjectionLimits,
    /// The number of backends that nothing but an ejection can keep out, ejected or not.
    counted: usize,
    /// Backends that are down: with an open circuit or failing probes. By the serial number of their ejection.
    ejected: BTreeMap<u64, Arc<MemberInfo>>,
    /// Backends that are down and stay in rotation.
    exempt: BTreeMap<u64, Arc<MemberInfo>>,
    /// Outliers and hinted backends, which return before others are exempt. Their circuits are not counted.
    suspects: BTreeMap<u64, Arc<MemberInfo>>,
    /// The hinted backends among the suspects.
    hinted: BTreeMap<u64, Arc<MemberInfo>>,
    last_serial: u64,
}

impl Ejection {
    pub(super) fn new(limits: EjectionLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Notes the health of a member. `has_opened`: its circuit opened just now.
    pub(super) fn note(&mut self, member: &Arc<MemberInfo>, has_opened: bool) {
        let (is_counted, is_down) = (member.health.is_counted(), member.health.is_down());
        let was_counted = member.marks.set(COUNTED, is_counted);
        self.counted = self.counted + usize::from(is_counted) - usize::from(was_counted);
        self.note_suspect(member, is_counted);
        let opening = &member.marks.opening;
        let before = opening.load(Ordering::Relaxed);
        if before == 0 && !is_down || before != 0 && is_down && !has_opened {
            return;
        }
        self.ejected.remove(&before);
        let was_exempt = self.exempt.remove(&before).is_some();
        if !is_down {
            if was_exempt {
                member.health.apply(Signal::Exempt(false));
            }
            opening.store(0, Ordering::Relaxed);
            return;
        }
        // A circuit that opens again stays exempt, so that its backend is not out of rotation until the next update.
        let serial = self.serial();
        opening.store(serial, Ordering::Relaxed);
        let members = if was_exempt { &mut self.exempt } else { &mut self.ejected };
        members.insert(serial, Arc::clone(member));
    }

    /// Notes whether a member is ejected as an outlier or by a hint.
    fn note_suspect(&mut self, member: &Arc<MemberInfo>, is_counted: bool) {
        let is_held = |opinion| is_counted && member.health.until(opinion).is_some();
        let (is_outlier, is_hinted) = (is_held(Timed::Outlier), is_held(Timed::Hinted));
        let mut serial = member.marks.suspicion.load(Ordering::Relaxed);
        if !is_outlier && !is_hinted {
            if serial != 0 {
                member.marks.suspicion.store(0, Ordering::Relaxed);
                self.suspects.remove(&serial);
                self.hinted.remove(&serial);
            }
            return;
        }
        if serial == 0 {
            serial = self.serial();
            member.marks.suspicion.store(serial, Ordering::Relaxed);
            self.suspects.insert(serial, Arc::clone(member));
        }
        if is_hinted {
            self.hinted.insert(serial, Arc::clone(member));
        } else {
            self.hinted.remove(&serial);
        }
    }

    fn serial(&mut self) -> u64 {
        self.last_serial += 1;
        self.last_serial
    }

    /// Returns how many backends may be out while this many are.
    fn allowed(&self, out: usize) -> usize {
        let closed = self.counted.saturating_sub(out);
        if (closed as f64) < self.limits.panic_below * self.counted as f64 {
            return 0;
        }
        self.part(self.limits.max_ejected)
    }

    /// Returns a share of the counted backends, rounded down.
    fn part(&self, share: f64) -> usize {
        // The addend corrects products such as 0.29 * 100 = 28.999…
        (share * self.counted as f64 + 1e-9) as usize
    }

    /// Returns how many backends are ejected or exempt.
    fn out(&self) -> usize {
        self.ejected.len() + self.exempt.len() + self.suspects.len()
    }

    /// Returns how many backends may be out while hints keep one of them out.
    fn allowed_with_hints(&self, out: usize) -> usize {
        self.part(self.limits.max_hinted).min(self.allowed(out))
    }

    /// Returns whether a hint may keep a member out.
    pub(super) fn may_hint(&self, member: &MemberInfo) -> bool {
        let is_out = member.health.is_counted() && !member.health.is_eligible();
        let out = self.out() + usize::from(!is_out);
        out <= self.allowed_with_hints(out)
    }

    /// Returns the number of members that hints keep out.
    pub(super) fn hinted(&self) -> usize {
        self.hinted.len()
    }

    /// Returns the backend that was hinted last, if the limits require that its hint ends.
    pub(super) fn surplus_hint(&self) -> Option<Arc<MemberInfo>> {
        let (_, member) = self.hinted.last_key_value()?;
        (self.out() > self.allowed_with_hints(self.out())).then(|| Arc::clone(member))
    }

    /// Returns whether the limits allow that another outlier is ejected.
    pub(super) fn may_eject(&self) -> bool {
        self.limits.is_off() || self.out() < self.allowed(self.out() + 1)
    }

    /// Returns the outlier that was ejected last, if the limits require that it returns. Outliers return before circuits
    /// are exempt: a backend that is slow is better than one that fails.
    pub(super) fn surplus(&self) -> Option<Arc<MemberInfo>> {
        let (_, member) = self.suspects.last_key_value()?;
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

#[cfg(test)]
impl Ejection {
    /// Compares what is noted with a recount of all members, and with the limits.
    pub(super) fn assert_recounted(&self, members: &[Arc<MemberInfo>]) {
        let counted: Vec<_> = members.iter().filter(|member| member.health.is_counted()).collect();
        assert_eq!(self.counted, counted.len(), "the backends that count");
        let is_held = |member: &MemberInfo, opinion| member.health.until(opinion).is_some();
        let named = |members: &mut dyn Iterator<Item = &Arc<MemberInfo>>| {
            let mut names: Vec<_> = members.map(|member| member.name.to_string()).collect();
            names.sort();
            names
        };
        let down = named(&mut counted.iter().copied().filter(|member| member.health.is_down()));
        assert_eq!(named(&mut self.ejected.values().chain(self.exempt.values())), down, "ejected or exempt");
        let suspects = |member: &&Arc<MemberInfo>| is_held(member, Timed::Outlier) || is_held(member, Timed::Hinted);
        assert_eq!(
            named(&mut self.suspects.values()),
            named(&mut counted.iter().copied().filter(suspects)),
            "suspects"
        );
        let hinted = |member: &&Arc<MemberInfo>| is_held(member, Timed::Hinted);
        assert_eq!(named(&mut self.hinted.values()), named(&mut counted.iter().copied().filter(hinted)), "hinted");
        let exempt = named(&mut members.iter().filter(|member| member.health.is_exempt()));
        assert_eq!(named(&mut self.exempt.values()), exempt, "exempt");
        // The limits, as they are documented.
        let (all, share) = (counted.len() as f64, |share: f64| (share * counted.len() as f64 + 1e-9) as usize);
        let allowed = |out: usize| match (all - out as f64) < self.limits.panic_below * all {
            true => 0,
            false => share(self.limits.max_ejected),
        };
        let out = down.len() + self.suspects.len();
        assert!(self.suspects.is_empty() || out <= allowed(out), "{out} are out with suspects");
        assert!(self.hinted.is_empty() || out <= share(self.limits.max_hinted), "{out} are out with hints");
        let wanted = if self.limits.is_off() { 0 } else { down.len().saturating_sub(allowed(down.len())) };
        assert_eq!(self.exempt.len(), wanted, "exempt of {} that are down", down.len());
        let (last, first) = (self.ejected.last_key_value(), self.exempt.first_key_value());
        assert!(last.zip(first).is_none_or(|((last, _), (first, _))| last < first), "the last ones are exempt");
    }
}
