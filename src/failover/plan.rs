//! When the next attempt of a request may start: told what ended and when, it says what begins. Pure: no clock, no
//! service, no random source of its own.

use std::time::Duration;

use super::{Mode, Stopped, settings::Settings};
use crate::{attempt::TimeLimit, outcome::Outcome, rng::Rng, time::Moment};

/// The plan of one request.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) next: Next,
    /// When all of it has to be over: the deadline, or the bound of the race.
    pub(super) ends: Option<Moment>,
    /// The others have started to race.
    pub(super) races: bool,
    /// The next attempt of a sequence is at the same backend as the one before.
    pub(super) stays: bool,
    pauses: u32,
    last_pause: Duration,
}

/// When the next attempt starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    /// When one that runs has ended.
    OnEnd,
    /// Now.
    Now,
    /// As many as may run at once, now.
    All,
    /// Then, or when one that runs has tripped.
    At(Moment),
    /// None any more.
    Never,
}

/// What a plan has to know of the attempt that tripped.
#[derive(Debug)]
pub(super) struct Tripped<'a> {
    pub(super) outcome: &'a Outcome,
    pub(super) now: Moment,
    /// The request can still be sent.
    pub(super) can_send: bool,
    /// It may be sent although another attempt may be at work on it.
    pub(super) may_repeat: bool,
    /// The same backend may be tried again.
    pub(super) has_same: bool,
    /// There is a backend that was not tried.
    pub(super) has_new: bool,
}

impl Plan {
    pub(super) fn new(deadline: Option<Moment>) -> Self {
        Self { next: Next::Now, ends: deadline, races: false, stays: false, pauses: 0, last_pause: Duration::ZERO }
    }

    /// An attempt started.
    pub(super) fn started(&mut self, settings: &Settings, now: Moment, may_follow: bool) {
        self.next = match settings.mode {
            Mode::Hedged(delay) if may_follow => Next::At(now.after(delay)),
            _ if self.races => Next::All,
            _ => Next::OnEnd,
        };
    }

    /// An attempt tripped. Some when nothing may follow, and why.
    pub(super) fn tripped(&mut self, settings: &Settings, end: &Tripped<'_>, rng: &mut Rng) -> Option<Stopped> {
        let is_unprocessed = end.outcome.failure().is_some_and(|failure| failure.kind().is_unprocessed());
        if !is_unprocessed && !end.may_repeat && end.can_send {
            self.next = Next::Never;
            return Some(Stopped::NotIdempotent);
        }
        self.next = match settings.mode {
            _ if !end.can_send => Next::Never,
            Mode::Race if self.races => Next::All,
            // What may be done only once is sent to one at a time.
            Mode::Race if !end.may_repeat => Next::Now,
            Mode::Race => {
                self.races = true;
                let bound = end.now.after(settings.race_bound);
                self.ends = Some(self.ends.map_or(bound, |ends| ends.min(bound)));
                Next::All
            }
            Mode::Hedged(_) => Next::Now,
            Mode::Sequential => return self.pause(settings, end, rng),
        };
        None
    }

    /// The pause before the next attempt of a sequence.
    fn pause(&mut self, settings: &Settings, end: &Tripped<'_>, rng: &mut Rng) -> Option<Stopped> {
        self.stays = end.has_same;
        // What one backend asks for is nothing to the others.
        let asked_for = end.outcome.failure().filter(|_| self.stays).and_then(|failure| failure.retry_delay());
        let asked_for = asked_for.unwrap_or_default().min(settings.retry_after_cap);
        let own = match settings.backoff {
            Some(backoff) => backoff.pause(self.pauses, self.last_pause, rng),
            None if self.stays => settings.same_backend_delay,
            None => Duration::ZERO,
        };
        (self.pauses, self.last_pause) = (self.pauses.saturating_add(1), own);
        let mut pause = own.max(asked_for);
        let left = self.ends.map(|ends| ends.since(end.now));
        if let Some(left) = left.filter(|left| pause >= *left) {
            // There is no time to wait for this one, but there may be for another.
            let backoff = settings.backoff.map_or(Duration::ZERO, |_| own);
            if !self.stays || backoff >= left || !end.has_new {
                self.next = Next::Never;
                return Some(Stopped::OutOfTime);
            }
            self.stays = false;
            pause = backoff;
        }
        self.next = if pause.is_zero() { Next::Now } else { Next::At(end.now.after(pause)) };
        None
    }

    /// How long an attempt may take: its patience, or its share of the time that is left.
    pub(super) fn limit(
        &self,
        settings: &Settings,
        patience: Option<(Duration, TimeLimit)>,
        now: Moment,
        is_last: bool,
        may_follow: bool,
    ) -> Option<(Duration, TimeLimit)> {
        let left = self.ends.map(|ends| ends.since(now));
        let beside_others = match settings.mode {
            Mode::Race => self.races,
            Mode::Sequential => false,
            Mode::Hedged(_) => may_follow,
        };
        match (patience, left) {
            (patience, None) => patience,
            (Some(patience), Some(left)) if patience.0 < left => Some(patience),
            // With others to come after it, it may take half of what is left, so that there is time for them.
            (_, Some(left)) if !is_last && !beside_others => Some((left / 2, TimeLimit::Request)),
            (_, Some(left)) => Some((left, TimeLimit::Request)),
        }
    }

    /// A moment has come.
    pub(super) fn wake(&mut self, now: Moment) {
        if let Next::At(at) = self.next
            && now.reached(at)
        {
            self.next = Next::Now;
        }
    }

    /// When the plan has to be looked at again by itself.
    pub(super) fn wakes(&self) -> Option<Moment> {
        let next = if let Next::At(at) = self.next { Some(at) } else { None };
        next.into_iter().chain(self.ends).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::FailureKind;

    fn at(seconds: u64) -> Moment {
        Moment::since_epoch(Duration::from_secs(seconds))
    }

    fn settings(mode: Mode) -> Settings {
        Settings { mode, ..Settings::default() }
    }

    fn trip(plan: &mut Plan, settings: &Settings, outcome: Outcome, now: u64) -> Option<Stopped> {
        let (can_send, may_repeat, has_same, has_new) = (true, true, settings.attempts_per_backend > 1, true);
        let end = Tripped { outcome: &outcome, now: at(now), can_send, may_repeat, has_same, has_new };
        plan.tripped(settings, &end, &mut Rng::seeded(1))
    }

    // C13, C15, C16
    #[test]
    fn a_race_begins_with_the_first_trip_and_is_bounded_from_then_on() {
        let (settings, mut plan) = (settings(Mode::Race), Plan::new(None));
        plan.started(&settings, at(0), true);
        assert_eq!((plan.next, plan.ends), (Next::OnEnd, None));
        assert_eq!(trip(&mut plan, &settings, FailureKind::Status(503).into(), 7), None);
        assert_eq!((plan.next, plan.ends), (Next::All, Some(at(12))));
        trip(&mut plan, &settings, FailureKind::Status(503).into(), 9);
        assert_eq!((plan.next, plan.ends), (Next::All, Some(at(12))));
    }

    // C15
    #[test]
    fn a_hedge_follows_after_the_delay_or_at_a_trip() {
        let (settings, mut plan) = (settings(Mode::Hedged(Duration::from_secs(2))), Plan::new(None));
        plan.started(&settings, at(1), true);
        assert_eq!(plan.next, Next::At(at(3)));
        trip(&mut plan, &settings, FailureKind::Timeout.into(), 2);
        assert_eq!(plan.next, Next::Now);
        plan.started(&settings, at(2), false);
        assert_eq!(plan.next, Next::OnEnd, "what may be sent only once is not hedged");
    }

    // C23, C52
    #[test]
    fn a_sequence_waits_for_the_same_backend_only() {
        let mut settings = settings(Mode::Sequential);
        let mut plan = Plan::new(None);
        let throttled = crate::outcome::Failure::new(FailureKind::Status(429)).retry_after(Duration::from_secs(9));
        trip(&mut plan, &settings, throttled.into(), 1);
        assert_eq!((plan.next, plan.stays), (Next::Now, false), "another backend is not waited for");
        settings.attempts_per_backend = 2;
        trip(&mut plan, &settings, throttled.into(), 1);
        assert_eq!((plan.next, plan.stays), (Next::At(at(10)), true));
    }

    // C51
    #[test]
    fn no_pause_outlasts_the_deadline() {
        let mut settings = settings(Mode::Sequential);
        settings.backoff = Some(Backoff::default().jitter(0.0));
        let mut plan = Plan::new(Some(at(5)));
        assert_eq!(trip(&mut plan, &settings, FailureKind::Timeout.into(), 1), None);
        assert_eq!(plan.next, Next::At(at(3)));
        assert_eq!(trip(&mut plan, &settings, FailureKind::Timeout.into(), 3), Some(Stopped::OutOfTime));
        assert_eq!(plan.next, Next::Never);
    }

    // C26
    #[test]
    fn what_may_be_done_once_goes_on_only_if_it_was_not_begun() {
        let (settings, mut plan) = (settings(Mode::Race), Plan::new(None));
        let end = |kind: FailureKind, plan: &mut Plan| {
            let outcome = kind.into();
            let (now, can_send, has_same, has_new) = (at(0), true, false, true);
            let end = Tripped { outcome: &outcome, now, can_send, may_repeat: false, has_same, has_new };
            plan.tripped(&settings, &end, &mut Rng::seeded(1))
        };
        assert_eq!(end(FailureKind::Connect, &mut plan), None);
        assert_eq!(plan.next, Next::Now);
        assert_eq!(end(FailureKind::Status(503), &mut plan), Some(Stopped::NotIdempotent));
        assert_eq!(plan.next, Next::Never);
    }

    // C50, C51
    #[test]
    fn an_attempt_leaves_time_for_those_after_it() {
        let (settings, plan) = (settings(Mode::Sequential), Plan::new(Some(at(10))));
        let secs = Duration::from_secs;
        let [short, long] = [3, 30].map(|time| Some((secs(time), TimeLimit::Backend)));
        let share = |time| Some((secs(time), TimeLimit::Request));
        assert_eq!(plan.limit(&settings, short, at(0), false, true), short);
        assert_eq!(plan.limit(&settings, long, at(0), false, true), share(5));
        assert_eq!(plan.limit(&settings, long, at(0), true, true), share(10));
        assert_eq!(Plan::new(None).limit(&settings, long, at(0), true, true), long);
    }

    use super::super::Backoff;
}
