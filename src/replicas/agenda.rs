//! The permits to probe backends, which are requested ahead of need.

use std::time::Duration;

use super::book::{Book, LEAD};
use crate::{
    fleet::FleetCore,
    health::{CircuitState, Timed},
    name::BackendName,
    time::Moment,
};

impl Book {
    /// Returns when the next permits are to be requested.
    pub(super) fn next_ask(&self) -> Option<Moment> {
        self.agenda.first().map(|(at, _)| *at)
    }

    /// Takes up to so many backends whose permit is to be requested now.
    pub(super) fn take_due(&mut self, core: &FleetCore, most: usize, now: Moment) -> Vec<BackendName> {
        let mut due = Vec::new();
        while due.len() < most
            && let Some((at, name)) = self.agenda.pop_first()
        {
            if at > now {
                self.agenda.insert((at, name));
                break;
            }
            let Some(entry) = self.entries.get_mut(&name).filter(|entry| entry.asks_at == Some(at)) else { continue };
            entry.asks_at = None;
            entry.permit = None;
            match probes_at(core, &name) {
                // A permit that only a prober has used is left to the other replicas, until a request here may need it.
                Some(at) if at.since(now) > LEAD * 2 => self.ask_before(&name, at, now),
                Some(_) => due.push(name),
                None => {}
            }
        }
        due
    }

    /// Notes that this replica may probe a backend, for the time of the lease.
    pub(super) fn note_permit(&mut self, core: &FleetCore, name: &BackendName, now: Moment) {
        let until = now.after(self.settings.lease);
        if core.find(name).is_some() {
            self.entry(name).permit = Some(until);
            // Later than the replicas to which it was denied, of which one may have more requests to probe with, and before
            // their circuits are due.
            self.ask_at(name, until.after(LEAD / 2));
        }
    }

    /// Notes that another replica may probe a backend, for this time.
    pub(super) fn note_denial(&mut self, core: &FleetCore, name: &BackendName, time: Duration, now: Moment) {
        let time = time.min(self.settings.lease.saturating_mul(2));
        self.defer(core, name, time, now);
        if self.entries.contains_key(name) {
            self.ask_at(name, now.after(time));
        }
    }

    /// Takes up to so many permits to be returned.
    pub(super) fn take_returned(&mut self, most: usize) -> Vec<BackendName> {
        std::iter::from_fn(|| self.returned.pop_first()).take(most).collect()
    }
}

/// Returns when a request may probe a backend: by its own circuit, or when its hint ends.
fn probes_at(core: &FleetCore, name: &BackendName) -> Option<Moment> {
    let member = core.find(name)?;
    let open = member.circuit().and_then(|circuit| match circuit.state(Moment::EPOCH) {
        CircuitState::Open => Some(circuit.eligible_at()),
        CircuitState::HalfOpen => Some(Moment::EPOCH),
        _ => None,
    });
    let hint = member.health.until(Timed::Hinted);
    match open {
        None => hint.filter(|_| member.health.is_probed_after_hint()),
        Some(at) => Some(at.max(hint.unwrap_or(Moment::EPOCH))),
    }
}
