//! What this replica knows of all backends, and what it has to report.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::{
    entry::{Entry, ExchangeClock, Own},
    report::{Report, Stamp},
    settings::Settings,
};
use crate::{
    fleet::{Change, FleetCore, MemberInfo},
    health::{CircuitState, Timed, Transition},
    name::BackendName,
    time::Moment,
};

/// What this replica knows of all backends, and what it has to report, read and ask for.
///
/// Holds an entry for each backend that something was ever reported of. What other replicas report is applied in
/// `apply.rs`, what operators set in `overrides.rs`, permits are in `agenda.rs`.
pub(super) struct Book {
    pub(super) settings: Settings,
    pub(super) entries: HashMap<BackendName, Entry>,
    pub(super) clock: Option<ExchangeClock>,
    /// The number of entries that an override of another replica keeps out.
    pub(super) foreign: usize,
    /// To be reported.
    pub(super) unreported: BTreeSet<BackendName>,
    /// To be read.
    pub(super) unread: BTreeSet<BackendName>,
    /// The fleet refused the hint. Tried again when something changed.
    pub(super) refused: BTreeSet<BackendName>,
    /// The permits to be requested, by time.
    pub(super) agenda: BTreeSet<(Moment, BackendName)>,
    /// The permits to be returned.
    pub(super) returned: BTreeSet<BackendName>,
}

impl Book {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            entries: HashMap::new(),
            clock: None,
            foreign: 0,
            unreported: BTreeSet::new(),
            unread: BTreeSet::new(),
            refused: BTreeSet::new(),
            agenda: BTreeSet::new(),
            returned: BTreeSet::new(),
        }
    }

    pub(super) fn entry(&mut self, backend: &BackendName) -> &mut Entry {
        if !self.entries.contains_key(backend) {
            self.entries.insert(backend.clone(), Entry::new(backend.clone()));
        }
        self.entries.get_mut(backend).expect("the entry was just made")
    }

    /// Begins with the statuses and forced circuits that the fleet has. They count as the earliest of all overrides: what
    /// was set since is in the exchange.
    pub(super) fn begin(&mut self, core: &FleetCore, now: Moment) {
        self.survey(core, now);
        self.entries.values_mut().for_each(Entry::found_override);
    }

    /// Begins with a new connection, whose exchange may be another one, or empty: everything is read, and what this
    /// replica knows itself is reported.
    pub(super) fn connected(&mut self, core: &FleetCore, shown: Stamp, now: Moment) {
        self.set_clock(shown, now);
        let clock = ExchangeClock::new(shown, now);
        self.entries.values_mut().for_each(|entry| entry.rebase(now, clock));
        self.survey(core, now);
        // Permits of the time before were lost.
        self.returned.clear();
        self.resync(core, now);
    }

    /// Reads everything again, and repeats what this replica has to report.
    pub(super) fn resync(&mut self, core: &FleetCore, now: Moment) {
        self.unread = core.members().iter().map(|member| member.name.clone()).collect();
        // After a change was missed, there may be entries of removed backends.
        self.entries.retain(|name, _| self.unread.contains(name));
        self.agenda.retain(|(_, name)| self.unread.contains(name));
        self.foreign = self.entries.values().filter(|entry| entry.is_kept_out()).count();
        let repeated = self.entries.iter().filter(|(_, entry)| entry.is_repeated(now));
        self.unreported.extend(repeated.map(|(name, _)| name.clone()));
    }

    /// Takes up to so many reports to be sent.
    pub(super) fn take_unreported(&mut self, most: usize) -> Vec<Report> {
        let names: Vec<_> = std::iter::from_fn(|| self.unreported.pop_first()).take(most).collect();
        names.iter().filter_map(|name| self.entries.get(name)).map(|entry| entry.known.clone()).collect()
    }

    /// Takes up to so many names to be read.
    pub(super) fn take_unread(&mut self, most: usize) -> Vec<BackendName> {
        std::iter::from_fn(|| self.unread.pop_first()).take(most).collect()
    }

    /// Notes a change of the fleet.
    pub(super) fn note(&mut self, core: &FleetCore, change: &Change, now: Moment) {
        match change {
            Change::Circuit(name, transition) => self.note_transition(core, name, *transition, now),
            Change::CoolDown(name, time) => self.note_cool_down(name, now.after(*time), now),
            Change::Status(name, _) => self.note_override(core, name, now),
            Change::Probe(name, true) => self.note_recovery(core, name),
            Change::Probe(name, false) => self.return_permit(name),
            Change::Hint(name, None) => self.note_hint_end(core, name, now),
            Change::Inserted(name) => drop(self.unread.insert(name.clone())),
            Change::Removed(name) => {
                self.return_permit(name);
                let entry = self.entries.remove(name);
                self.foreign -= usize::from(entry.is_some_and(|entry| entry.is_kept_out()));
                self.refused.remove(name);
            }
            Change::Replaced(name) => {
                self.return_permit(name);
                if let Some(entry) = self.entries.get_mut(name) {
                    (entry.opening, entry.cool_down, entry.asks_at) = Default::default();
                    // They were about the service before.
                    entry.dismiss();
                }
                self.keep_override(core, name);
                self.note_override(core, name, now);
            }
            Change::Missed(_) => self.survey(core, now),
            _ => {}
        }
    }

    fn note_transition(&mut self, core: &FleetCore, name: &BackendName, transition: Transition, now: Moment) {
        let Transition { from, to, .. } = transition;
        if from.is_forced() || to.is_forced() {
            self.note_override(core, name, now);
        }
        match to {
            CircuitState::Open => {
                self.return_permit(name);
                if let Some(member) = core.find(name) {
                    self.note_opening(&member, now);
                }
            }
            CircuitState::Closed if matches!(from, CircuitState::Open | CircuitState::HalfOpen) => {
                self.note_recovery(core, name);
            }
            _ => {}
        }
    }

    /// Notes that the circuit of a member has opened, if it still is open.
    fn note_opening(&mut self, member: &MemberInfo, now: Moment) {
        let Some(circuit) = member.circuit().filter(|circuit| circuit.state(Moment::EPOCH) == CircuitState::Open)
        else {
            return;
        };
        let (until, clock) = (circuit.eligible_at(), self.clock);
        let entry = self.entry(&member.name);
        entry.opening = Own::until(until);
        if let Some(clock) = clock {
            let stamp = entry.opening.stamped(now, clock);
            entry.known.open_until = entry.known.open_until.max(stamp);
        }
        self.unreported.insert(member.name.clone());
        self.ask_before(&member.name, until, now);
    }

    fn note_cool_down(&mut self, name: &BackendName, until: Moment, now: Moment) {
        let clock = self.clock;
        let entry = self.entry(name);
        entry.cool_down = Own::until(until);
        if let Some(clock) = clock {
            let stamp = entry.cool_down.stamped(now, clock);
            entry.known.cool_until = entry.known.cool_until.max(stamp);
        }
        self.unreported.insert(name.clone());
    }

    /// Notes that a backend has recovered: what was reported of it is over.
    fn note_recovery(&mut self, core: &FleetCore, name: &BackendName) {
        self.return_permit(name);
        let Some(entry) = self.entries.get_mut(name) else { return };
        let had_opening = entry.opening.stamp > Stamp::default();
        entry.begin_epoch();
        if !had_opening && entry.known.open_until == Stamp::default() {
            return;
        }
        entry.known.recover();
        self.unreported.insert(name.clone());
        self.refused.remove(name);
        if let Some(member) = core.find(name) {
            core.refute_hint(&member);
        }
    }

    /// Notes that a hint has ended. If the limits on hints required that, it is tried again. If it was over, or an operator
    /// or a probe knew better, the backend is hinted by the next report only.
    fn note_hint_end(&mut self, core: &FleetCore, name: &BackendName, now: Moment) {
        let (has_room, max) = (self.has_room(core), self.settings.max_hint);
        let (Some(entry), Some(member)) = (self.entries.get_mut(name), core.find(name)) else { return };
        if member.health.until(Timed::Hinted).is_some() {
            return;
        }
        entry.note_hint_end(now, max);
        if has_room && core.may_hint(&member) {
            entry.dismiss();
            self.refused.remove(name);
        } else {
            self.refused.insert(name.clone());
        }
    }

    /// Returns whether overrides of other replicas leave room for another hint. The fleet counts the hints alone.
    pub(super) fn has_room(&self, core: &FleetCore) -> bool {
        let (hinted, all) = core.hinted();
        self.foreign == 0 || self.foreign + hinted < all / 2
    }

    /// Compares all members with what is known of them: some changes were missed.
    fn survey(&mut self, core: &FleetCore, now: Moment) {
        for member in core.members() {
            let state = member.circuit().map_or(CircuitState::Closed, |circuit| circuit.state(Moment::EPOCH));
            let is_known = self.entries.get(&member.name).is_some_and(|entry| entry.opening.is_active(now));
            match state {
                CircuitState::Open if !is_known => self.note_opening(&member, now),
                CircuitState::Closed if is_known => self.note_recovery(core, &member.name),
                _ => {}
            }
            let probation = member.health.on_probation().map(|circuit| circuit.eligible_at());
            if let Some(due) = probation.filter(|due| *due != Moment::NEVER) {
                self.ask_before(&member.name, due, now);
            }
            let is_cooling = self.entries.get(&member.name).is_some_and(|entry| entry.cool_down.is_active(now));
            if let Some(until) = member.health.until(Timed::Cooling).filter(|_| !is_cooling) {
                self.note_cool_down(&member.name, until, now);
            }
            self.note_override(core, &member.name, now);
        }
    }

    /// Plans to ask for the permit to probe, before the backend is due for it.
    pub(super) fn ask_before(&mut self, name: &BackendName, due: Moment, now: Moment) {
        self.ask_at(name, now.after(due.since(now).saturating_sub(LEAD)));
    }

    pub(super) fn ask_at(&mut self, name: &BackendName, at: Moment) {
        if let Some(before) = self.entry(name).asks_at.replace(at) {
            self.agenda.remove(&(before, name.clone()));
        }
        self.agenda.insert((at, name.clone()));
    }

    /// Returns the permit of a backend, if this replica holds it.
    fn return_permit(&mut self, name: &BackendName) {
        if self.entries.get_mut(name).and_then(|entry| entry.permit.take()).is_some() {
            self.returned.insert(name.clone());
        }
    }
}

/// How long before a backend is due for a probe the permit is requested.
pub(super) const LEAD: Duration = Duration::from_millis(250);
