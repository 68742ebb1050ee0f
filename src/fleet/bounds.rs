use std::{cmp::Reverse, collections::HashSet};

use super::{InvalidSetting, registry::Entry};
use crate::health::{Circuit, Moment};

/// How far breakers may go in taking backends out. When too many fail, the fault may be elsewhere, and a crowd on the
/// few that are left would take them down too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// At most this share is out; the latest to open serve on.
    pub(super) most_ejected: f64,
    /// With less than this share left, everybody serves.
    pub(super) panic_below: f64,
}

impl Default for Bounds {
    /// Both off: a backend that fails is out, whoever is left.
    fn default() -> Self {
        Self { most_ejected: 1.0, panic_below: 0.0 }
    }
}

impl Bounds {
    pub(super) fn checked(self) -> Result<Self, InvalidSetting> {
        let settings = [("most_ejected", self.most_ejected), ("panic_below", self.panic_below)];
        match settings.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            Some((field, share)) => {
                Err(InvalidSetting::setting(field, &share.to_string(), "must be a share from 0 to 1"))
            }
            None => Ok(self),
        }
    }

    /// Says of everybody whether it serves although its circuit is open.
    pub(super) fn spare<S>(&self, entries: &[Entry<S>]) {
        // Whom an operator took out, by status or by circuit, is no part of the sum.
        let (mut out, left): (Vec<_>, Vec<_>) = entries
            .iter()
            .filter(|entry| entry.health().is_healthy() && !entry.health().is_forced_open())
            .partition(|entry| entry.health().on_trial().is_some());
        let opened = |entry: &&Entry<S>| entry.health().on_trial().map_or(Moment::EPOCH, Circuit::eligible_at);
        out.sort_by_key(|entry| Reverse(opened(entry)));
        let (healthy, left) = (out.len() + left.len(), left.len());
        let spared = if (left as f64) < self.panic_below * healthy as f64 {
            out.len()
        } else {
            // Rounded down: a bound is kept.
            out.len().saturating_sub((self.most_ejected * healthy as f64 + 1e-9) as usize)
        };
        let spared: HashSet<_> = out[..spared].iter().map(|entry| entry.member.facts.id).collect();
        // Each is said once: one that stays spared is spared without a gap.
        for entry in entries {
            entry.health().spare(spared.contains(&entry.member.facts.id));
        }
    }
}
