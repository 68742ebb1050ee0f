//! What this replica knows of one backend, and the clock of the exchange.

use std::time::Duration;

use super::report::{Override, Report, Stamp};
use crate::{name::BackendName, time::Moment};

/// What this replica knows of one backend.
pub(super) struct Entry {
    /// All reports, merged with what this replica found itself.
    pub(super) known: Report,
    /// Whether it was read from an exchange, so that a later epoch is a recovery.
    pub(super) is_read: bool,
    /// The opening that this replica found itself.
    pub(super) opening: Own,
    /// The cool-down that this replica found itself.
    pub(super) cool_down: Own,
    /// What an operator set here, or what was applied here last.
    pub(super) applied: Override,
    /// Whether another replica reported `applied`.
    pub(super) is_foreign: bool,
    /// When an operator set `applied` here, if the time of the exchange is not known yet.
    set_at: Option<Moment>,
    /// The reports up to this deadline do not keep the backend out any more.
    dismissed: Stamp,
    /// For how long reports have kept the backend out.
    hints: Hints,
    /// When the permit to probe is requested.
    pub(super) asks_at: Option<Moment>,
    /// The end of the permit that this replica holds.
    pub(super) permit: Option<Moment>,
}

/// A deadline that this replica found itself, by its own clock and by that of the exchange.
#[derive(Clone, Copy, Default)]
pub(super) struct Own {
    until: Option<Moment>,
    pub(super) stamp: Stamp,
}

impl Own {
    /// Returns a deadline that was not reported yet.
    pub(super) fn until(until: Moment) -> Self {
        Self { until: Some(until), stamp: Stamp::default() }
    }

    /// Returns whether there is a deadline, and it is not reached.
    pub(super) fn is_active(&self, now: Moment) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    /// Sets the deadline by the clock of the exchange, and returns it. The epoch if it is reached.
    pub(super) fn stamped(&mut self, now: Moment, clock: ExchangeClock) -> Stamp {
        let active = self.until.filter(|until| *until > now);
        self.stamp = active.map_or(Stamp::default(), |until| clock.at(now).after(until.since(now)));
        self.stamp
    }
}

impl Entry {
    pub(super) fn new(backend: BackendName) -> Self {
        Self {
            known: Report::new(backend),
            is_read: false,
            opening: Own::default(),
            cool_down: Own::default(),
            applied: Override::NONE,
            is_foreign: false,
            set_at: None,
            dismissed: Stamp::default(),
            hints: Hints::default(),
            asks_at: None,
            permit: None,
        }
    }

    /// Returns whether there is something to repeat: what this replica found itself, or what an operator set.
    pub(super) fn is_repeated(&self, now: Moment) -> bool {
        self.opening.is_active(now) || self.cool_down.is_active(now) || !self.known.operator.is_none()
    }

    /// Returns until when other replicas report the backend out, and whether that is an opening.
    pub(super) fn reported(&self) -> (Stamp, bool) {
        let foreign = |known: Stamp, own: Own| if known > own.stamp { known } else { Stamp::default() };
        let opening = Some(foreign(self.known.open_until, self.opening)).filter(|until| *until > self.dismissed);
        let cool_down = Some(foreign(self.known.cool_until, self.cool_down)).filter(|until| *until > self.dismissed);
        let (opening, cool_down) = (opening.unwrap_or_default(), cool_down.unwrap_or_default());
        (opening.max(cool_down), opening > Stamp::default())
    }

    /// Returns whether an override of another replica keeps the backend out.
    pub(super) fn is_kept_out(&self) -> bool {
        self.is_foreign && self.applied.keeps_out()
    }

    /// Ignores what is reported so far.
    pub(super) fn dismiss(&mut self) {
        self.dismissed = self.known.out_until();
    }

    /// Begins a new epoch, which another replica reported or this one found.
    pub(super) fn begin_epoch(&mut self) {
        (self.opening, self.asks_at) = Default::default();
        // The deadlines of an epoch say nothing of the next one, but those of cool-downs last.
        self.dismissed = self.dismissed.min(self.known.cool_until);
    }

    /// Notes what an operator set here.
    pub(super) fn override_here(&mut self, here: Override, now: Moment, clock: Option<ExchangeClock>) {
        // Later than what is known, since the operator saw its effect.
        let next = self.known.operator.at().after(Duration::from_millis(1));
        let at = clock.map_or(next, |clock| clock.at(now).max(next));
        self.applied = here.set_at(at);
        self.known.operator = self.applied;
        self.is_foreign = false;
        self.set_at = clock.is_none().then_some(now);
    }

    /// Notes that what is set here was set before the fleet was shared.
    pub(super) fn found_override(&mut self) {
        self.set_at = None;
    }

    /// Returns for how much longer reports may keep the backend out, if they may now.
    pub(super) fn hint_time(&mut self, now: Moment, max: Duration) -> Option<Duration> {
        self.hints.count(now, max);
        Some(max.saturating_sub(self.hints.spent)).filter(|time| !time.is_zero() && !self.hints.is_exhausted)
    }

    /// Notes that a report keeps the backend out until then.
    pub(super) fn note_hint(&mut self, until: Moment) {
        self.hints.until = self.hints.until.max(until);
    }

    /// Notes that no report keeps the backend out any more.
    pub(super) fn note_hint_end(&mut self, now: Moment, max: Duration) {
        self.hints.count(now, max);
        self.hints.until = now;
    }

    /// Makes the stamps those of a new connection: its clock may be another one. What others reported is read again.
    pub(super) fn rebase(&mut self, now: Moment, clock: ExchangeClock) {
        self.known.open_until = self.opening.stamped(now, clock);
        self.known.cool_until = self.cool_down.stamped(now, clock);
        self.dismissed = Stamp::default();
        // What is set there later counts, whatever the clock was before.
        self.applied = self.applied.no_later_than(clock.at(now));
        self.known.operator = self.known.operator.no_later_than(clock.at(now));
        if let Some(set_at) = self.set_at.take() {
            let at = clock.at(now).before(now.since(set_at));
            self.applied = self.applied.set_at(at.max(self.known.operator.at()));
            self.known.operator = self.applied;
        }
    }
}

/// For how long reports have kept a backend out: a limit on the time of all of them together, so that no exchange keeps a
/// backend out for ever. Time without them counts against it, so that each outage has its hints.
#[derive(Clone, Copy, Default)]
struct Hints {
    spent: Duration,
    /// When that was counted.
    at: Moment,
    /// The end of the last hint.
    until: Moment,
    /// All of the time was spent, and it has not passed again since.
    is_exhausted: bool,
}

impl Hints {
    fn count(&mut self, now: Moment, max: Duration) {
        let hinted = self.until.min(now).since(self.at);
        let spent = self.spent.saturating_add(hinted);
        self.spent = spent.saturating_sub(now.since(self.at).saturating_sub(hinted));
        self.is_exhausted = (self.is_exhausted || spent >= max) && !self.spent.is_zero();
        self.at = now;
    }
}

/// The clock of the exchange: what it showed, and when.
#[derive(Clone, Copy)]
pub(super) struct ExchangeClock {
    shown: Stamp,
    at: Moment,
}

impl ExchangeClock {
    pub(super) fn new(shown: Stamp, at: Moment) -> Self {
        Self { shown, at }
    }

    /// Returns what it shows at a moment.
    pub(super) fn at(self, now: Moment) -> Stamp {
        self.shown.after(now.since(self.at))
    }
}
