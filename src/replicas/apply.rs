//! What other replicas report, applied to the fleet.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{
    book::{Book, LEAD},
    report::Report,
};
use crate::{
    fleet::{FleetCore, MemberInfo},
    health::Timed,
    name::BackendName,
    time::Moment,
};

impl Book {
    /// Applies reports, and repeats what the exchange has lost of them.
    pub(super) fn apply_all(&mut self, core: &FleetCore, reports: &[Report], now: Moment) {
        for report in reports {
            let is_lost = self.entries.get(&report.backend).is_some_and(|entry| report.epoch < entry.known.epoch);
            self.apply(core, report, now);
            if is_lost {
                self.unreported.insert(report.backend.clone());
            }
        }
    }

    /// Repeats the recoveries of the backends of which the exchange holds nothing any more. To a replica that begins with
    /// fewer of them, they would be news about openings of its own.
    pub(super) fn restore(&mut self, backends: Vec<BackendName>, found: &[Report]) {
        let found: HashSet<_> = found.iter().map(|report| &report.backend).collect();
        let is_lost = |name: &BackendName| {
            !found.contains(name) && self.entries.get(name).is_some_and(|entry| entry.known.epoch > 0)
        };
        self.unreported.extend(backends.into_iter().filter(is_lost));
    }

    /// Applies a report to the fleet, as far as the fleet allows. Unknown backends are ignored.
    pub(super) fn apply(&mut self, core: &FleetCore, report: &Report, now: Moment) {
        let (Some(member), Some(clock)) = (core.find(&report.backend), self.clock) else { return };
        let report = report.clone().clamped(clock.at(now));
        let entry = self.entry(&report.backend);
        let before = entry.known.epoch;
        if report.epoch > before && !entry.is_read {
            // What this replica found is of the epoch that it hears of only now.
            entry.known.epoch = report.epoch;
            if entry.opening.is_active(now) {
                self.unreported.insert(report.backend.clone());
            }
        }
        let entry = self.entry(&report.backend);
        let is_new = entry.known.merge(&report);
        if entry.is_read && entry.known.epoch > before {
            entry.begin_epoch();
            self.refused.remove(&report.backend);
            core.end_hint(&member);
        }
        self.entry(&report.backend).is_read = true;
        if is_new {
            self.hint(core, &member, now);
        }
        self.apply_override(core, &member);
    }

    /// Keeps a backend out as long as other replicas report it, if the fleet allows that.
    fn hint(&mut self, core: &FleetCore, member: &Arc<MemberInfo>, now: Moment) {
        let max = self.settings.max_hint;
        let (Some(entry), Some(clock)) = (self.entries.get_mut(&member.name), self.clock) else { return };
        let (until, is_opening) = entry.reported();
        let time = until.since(clock.at(now));
        let allowed = if time.is_zero() { None } else { entry.hint_time(now, max) };
        let Some(allowed) = allowed else {
            self.refused.remove(&member.name);
            return;
        };
        let time = time.min(allowed);
        let is_full = !self.has_room(core) && member.health.until(Timed::Hinted).is_none();
        if is_full || !core.hint(member, time, is_opening) {
            self.refused.insert(member.name.clone());
            return;
        }
        self.refused.remove(&member.name);
        self.entry(&member.name).note_hint(now.after(time));
        if is_opening {
            self.ask_before(&member.name, now.after(time), now);
        }
    }

    /// Tries again what the fleet refused before.
    pub(super) fn retry(&mut self, core: &FleetCore, now: Moment) {
        for name in std::mem::take(&mut self.refused) {
            if let Some(member) = core.find(&name) {
                self.hint(core, &member, now);
            }
        }
    }

    /// Keeps a backend out for longer, since another replica probes it.
    pub(super) fn defer(&mut self, core: &FleetCore, name: &BackendName, time: Duration, now: Moment) {
        let (Some(member), max) = (core.find(name), self.settings.max_hint) else { return };
        // Until this replica has asked again.
        let later = time.saturating_add(LEAD);
        core.defer_probe(&member, later);
        let is_hinted = member.health.until(Timed::Hinted).is_some_and(|until| until > now);
        if is_hinted
            && member.health.is_probed_after_hint()
            && let Some(allowed) = self.entry(name).hint_time(now, max)
            && core.hint(&member, later.min(allowed), true)
        {
            self.entry(name).note_hint(now.after(later.min(allowed)));
        }
    }
}
