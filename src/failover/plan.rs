//! When the next attempt of a request may start. Pure: the time and the random source are arguments.

use std::time::Duration;

use super::{Mode, Stopped, settings::Settings};
use crate::{
    outcome::{Failure, Outcome, TimeLimit},
    rng::Rng,
    time::Moment,
};

/// The plan of one request: from the start and the end of its attempts, it decides when the next one may start.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) next: Next,
    /// When the time of the request is up: the deadline, or the bound of the race if that is earlier.
    pub(super) ends: Option<Moment>,
    deadline: Option<Moment>,
    race_ends: Option<Moment>,
    /// How long the attempts that run have waited for the caller: what the time of a hedge and the bound of a race were
    /// postponed by.
    pub(super) waited: Duration,
    /// Whether the race has started.
    pub(super) is_racing: bool,
    /// Whether the next attempt of a sequence is at the same backend as the last one.
    pub(super) same_backend: bool,
    /// Whether the next attempt is a hedge, when it is time for it.
    hedges: bool,
    pauses: u32,
    last_pause: Duration,
}

/// When the next attempt starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    /// When a running attempt has tripped.
    OnTrip,
    /// Now.
    Now,
    /// Now, although no attempt has tripped.
    Hedge,
    /// Now, and with it all that may run at the same time.
    All,
    /// At this moment, or when a running attempt has tripped.
    At(Moment),
    /// Never: the running attempts are the last ones.
    Never,
}

/// The facts about an attempt that has tripped, and about its request.
#[derive(Debug)]
pub(super) struct Trip<'a> {
    pub(super) outcome: &'a Outcome,
    pub(super) now: Moment,
    /// Whether the request is still kept.
    pub(super) can_send: bool,
    /// Whether the request may be sent again although a backend may have begun to work on it.
    pub(super) may_repeat: bool,
    /// Whether the same backend may be attempted again.
    pub(super) has_same: bool,
    /// Whether there is a backend without an attempt.
    pub(super) has_new: bool,
}

impl Plan {
    pub(super) fn new(deadline: Option<Moment>) -> Self {
        Self {
            next: Next::Now,
            ends: deadline,
            deadline,
            race_ends: None,
            waited: Duration::ZERO,
            is_racing: false,
            same_backend: false,
            hedges: false,
            pauses: 0,
            last_pause: Duration::ZERO,
        }
    }

    /// Whether the plan has a time that leaves out the waits for the caller.
    pub(super) fn stands_still(&self) -> bool {
        self.race_ends.is_some() || matches!(self.next, Next::At(_))
    }

    /// Postpones the hedge and the bound of the race, now that the attempts have waited this long for the caller in
    /// all. The deadline is not postponed: it is the time that the caller has.
    pub(super) fn postpone(&mut self, waited: Duration) {
        let more = waited.saturating_sub(self.waited);
        if more.is_zero() {
            return;
        }
        self.waited = waited;
        if let Next::At(at) = &mut self.next {
            *at = at.after(more);
        }
        if let Some(race_ends) = &mut self.race_ends {
            *race_ends = race_ends.after(more);
            self.ends = [self.deadline, self.race_ends].into_iter().flatten().min();
        }
    }

    /// Plans what follows the start of an attempt, which gets a hedge after this delay; or a hedge that is not sent now,
    /// and is considered again.
    pub(super) fn started(&mut self, now: Moment, hedge_delay: Option<Duration>) {
        self.hedges = hedge_delay.is_some();
        self.next = match hedge_delay.map(|delay| now.after(delay)) {
            // A hedge that is due when the time is up would not start.
            Some(at) if self.ends.is_none_or(|ends| at < ends) => Next::At(at),
            _ if self.is_racing => Next::All,
            _ => Next::OnTrip,
        };
    }

    /// Plans an attempt that is no hedge for this moment, if none has tripped before.
    pub(super) fn start_at(&mut self, at: Moment) {
        (self.hedges, self.next) = (false, Next::At(at));
    }

    /// Plans what follows the trip of an attempt. Returns why no attempt may follow, if none may.
    pub(super) fn tripped(&mut self, settings: &Settings, trip: &Trip<'_>, rng: &mut Rng) -> Option<Stopped> {
        if trip.can_send && trip.outcome.failure().is_some_and(Failure::forbids_retry) {
            self.next = Next::Never;
            return Some(Stopped::Pushback);
        }
        let is_unprocessed = trip.outcome.failure().is_some_and(|failure| failure.kind().is_unprocessed());
        if !is_unprocessed && !trip.may_repeat && trip.can_send {
            self.next = Next::Never;
            return Some(Stopped::NotIdempotent);
        }
        self.next = match settings.mode {
            _ if !trip.can_send => Next::Never,
            Mode::Race if self.is_racing => Next::All,
            // A request that must not be repeated is sent to one backend at a time.
            Mode::Race if !trip.may_repeat => Next::Now,
            Mode::Race => {
                self.is_racing = true;
                let bound = trip.now.after(settings.race_bound);
                self.race_ends = Some(bound);
                self.ends = Some(self.deadline.map_or(bound, |deadline| deadline.min(bound)));
                Next::All
            }
            Mode::Hedged(_) => Next::Now,
            Mode::Sequential => return self.pause(settings, trip, rng),
        };
        None
    }

    /// Plans the pause before the next attempt of a sequence.
    fn pause(&mut self, settings: &Settings, trip: &Trip<'_>, rng: &mut Rng) -> Option<Stopped> {
        self.same_backend = trip.has_same;
        let own = match settings.backoff {
            Some(backoff) => backoff.pause(self.pauses, self.last_pause, rng),
            None if self.same_backend => settings.same_backend_delay,
            None => Duration::ZERO,
        };
        (self.pauses, self.last_pause) = (self.pauses.saturating_add(1), own);
        let mut pause = own;
        let remaining = self.ends.map(|ends| ends.since(trip.now));
        if let Some(remaining) = remaining.filter(|remaining| pause >= *remaining) {
            // There is no time to wait for this backend, but there may be for an attempt at another one.
            let backoff = settings.backoff.map_or(Duration::ZERO, |_| own);
            if !self.same_backend || backoff >= remaining || !trip.has_new {
                self.next = Next::Never;
                return Some(Stopped::OutOfTime);
            }
            self.same_backend = false;
            pause = backoff;
        }
        self.next = if pause.is_zero() { Next::Now } else { Next::At(trip.now.after(pause)) };
        None
    }

    /// Plans a wait for a backend that named a time: until then, if that is within `cap` from the failure and before the
    /// time of the request is up. It is never asked earlier. Returns why no attempt may follow otherwise.
    pub(super) fn wait_for(&mut self, until: Moment, named_at: Moment, cap: Duration) -> Option<Stopped> {
        if until.since(named_at) > cap || self.ends.is_some_and(|ends| until >= ends) {
            self.next = Next::Never;
            return Some(Stopped::RetryAfter);
        }
        self.same_backend = false;
        self.start_at(until);
        None
    }

    /// The time of an attempt: its `timeout`, or its share of the time until the deadline. The bound of a race is for
    /// the race, not for each of its attempts.
    pub(super) fn limit(
        &self,
        settings: &Settings,
        timeout: Option<(Duration, TimeLimit)>,
        now: Moment,
        is_last: bool,
        may_hedge: bool,
    ) -> Option<(Duration, TimeLimit)> {
        let remaining = self.deadline.map(|deadline| deadline.since(now));
        let is_concurrent = match settings.mode {
            Mode::Race => self.is_racing,
            Mode::Sequential => false,
            Mode::Hedged(_) => may_hedge,
        };
        match (timeout, remaining) {
            (timeout, None) => timeout,
            (Some(timeout), Some(remaining)) if timeout.0 < remaining => Some(timeout),
            // Half of the remaining time, so that there is time for the attempts after it.
            (_, Some(remaining)) if !is_last && !is_concurrent => Some((remaining / 2, TimeLimit::Request)),
            (_, Some(remaining)) => Some((remaining, TimeLimit::Request)),
        }
    }

    /// Whether the time of the request is up. With `stands_still`, only the deadline counts.
    pub(super) fn is_over(&self, now: Moment, stands_still: bool) -> bool {
        let ends = if stands_still { self.deadline } else { self.ends };
        ends.is_some_and(|ends| now.reached(ends))
    }

    /// Updates the plan when its timer has fired.
    pub(super) fn wake(&mut self, now: Moment) {
        if let Next::At(at) = self.next
            && now.reached(at)
        {
            self.next = if self.hedges { Next::Hedge } else { Next::Now };
        }
    }

    /// When the timer has to fire for the plan. With `stands_still`, an attempt waits for the caller, so that only the
    /// deadline counts.
    pub(super) fn next_wake(&self, stands_still: bool) -> Option<Moment> {
        if stands_still {
            return self.deadline;
        }
        let next = if let Next::At(at) = self.next { Some(at) } else { None };
        next.into_iter().chain(self.ends).min()
    }
}

#[cfg(test)]
mod tests {
    mod sequences;

    use super::{super::Backoff, *};
    use crate::outcome::FailureKind;

    fn at(seconds: u64) -> Moment {
        Moment::since_epoch(Duration::from_secs(seconds))
    }

    fn settings(mode: Mode) -> Settings {
        Settings { mode, ..Settings::default() }
    }

    fn trip(plan: &mut Plan, settings: &Settings, outcome: Outcome, now: u64) -> Option<Stopped> {
        let (can_send, may_repeat, has_same, has_new) = (true, true, settings.attempts_per_backend > 1, true);
        let trip = Trip { outcome: &outcome, now: at(now), can_send, may_repeat, has_same, has_new };
        plan.tripped(settings, &trip, &mut Rng::seeded(1))
    }

    // C13, C15, C16
    #[test]
    fn a_race_starts_with_the_first_trip_and_is_bounded_from_there() {
        let (settings, mut plan) = (settings(Mode::Race), Plan::new(None));
        plan.started(at(0), None);
        assert_eq!((plan.next, plan.ends), (Next::OnTrip, None));
        assert_eq!(trip(&mut plan, &settings, FailureKind::Status(503).into(), 7), None);
        assert_eq!((plan.next, plan.ends), (Next::All, Some(at(12))));
        trip(&mut plan, &settings, FailureKind::Status(503).into(), 9);
        assert_eq!((plan.next, plan.ends), (Next::All, Some(at(12))));
    }

    // C15
    #[test]
    fn a_hedge_starts_after_the_delay_or_at_a_trip() {
        let (settings, mut plan) = (settings(Mode::hedged(Duration::from_secs(2))), Plan::new(None));
        plan.started(at(1), Some(Duration::from_secs(2)));
        assert_eq!(plan.next, Next::At(at(3)));
        trip(&mut plan, &settings, FailureKind::Timeout.into(), 2);
        assert_eq!(plan.next, Next::Now);
        plan.started(at(2), None);
        assert_eq!(plan.next, Next::OnTrip, "a request that must not be repeated is not hedged");
        plan.started(at(3), Some(Duration::from_secs(2)));
        plan.wake(at(5));
        assert_eq!(plan.next, Next::Hedge);
    }

    // C52, C71
    #[test]
    fn a_backend_that_named_a_time_is_asked_then_or_not_at_all() {
        let (secs, mut plan) = (Duration::from_secs, Plan::new(Some(at(20))));
        assert_eq!((plan.wait_for(at(10), at(1), secs(9)), plan.next), (None, Next::At(at(10))));
        plan.wake(at(10));
        assert_eq!((plan.next, plan.same_backend), (Next::Now, false));
        assert_eq!((plan.wait_for(at(10), at(1), secs(8)), plan.next), (Some(Stopped::RetryAfter), Next::Never));
        assert_eq!(plan.wait_for(at(19), at(1), secs(60)), None);
        assert_eq!(plan.wait_for(at(20), at(1), secs(60)), Some(Stopped::RetryAfter));
        assert_eq!(plan.wait_for(Moment::NEVER, at(1), Duration::MAX), Some(Stopped::RetryAfter));
    }

    // C26, C52
    #[test]
    fn a_backend_that_forbids_a_retry_ends_the_attempts() {
        for mode in [Mode::Race, Mode::Sequential, Mode::hedged(Duration::from_secs(2))] {
            let (settings, mut plan) = (settings(mode), Plan::new(None));
            plan.started(at(0), None);
            let forbidden = Failure::new(FailureKind::Connect).no_retry();
            assert_eq!(trip(&mut plan, &settings, forbidden.into(), 1), Some(Stopped::Pushback), "{mode:?}");
            assert_eq!((plan.next, plan.is_racing, plan.next_wake(false)), (Next::Never, false, None), "{mode:?}");
        }
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
    fn a_request_that_must_not_be_repeated_moves_on_only_if_unprocessed() {
        let (settings, mut plan) = (settings(Mode::Race), Plan::new(None));
        let trip = |kind: FailureKind, plan: &mut Plan| {
            let outcome = kind.into();
            let (now, can_send, has_same, has_new) = (at(0), true, false, true);
            let trip = Trip { outcome: &outcome, now, can_send, may_repeat: false, has_same, has_new };
            plan.tripped(&settings, &trip, &mut Rng::seeded(1))
        };
        assert_eq!(trip(FailureKind::Connect, &mut plan), None);
        assert_eq!(plan.next, Next::Now);
        assert_eq!(trip(FailureKind::Status(503), &mut plan), Some(Stopped::NotIdempotent));
        assert_eq!(plan.next, Next::Never);
    }

    // C50, C51
    #[test]
    fn an_attempt_leaves_half_the_time_to_the_attempts_after_it() {
        let (settings, plan) = (settings(Mode::Sequential), Plan::new(Some(at(10))));
        let secs = Duration::from_secs;
        let [short, long] = [3, 30].map(|time| Some((secs(time), TimeLimit::Backend)));
        let share = |time| Some((secs(time), TimeLimit::Request));
        assert_eq!(plan.limit(&settings, short, at(0), false, true), short);
        assert_eq!(plan.limit(&settings, long, at(0), false, true), share(5));
        assert_eq!(plan.limit(&settings, long, at(0), true, true), share(10));
        assert_eq!(Plan::new(None).limit(&settings, long, at(0), true, true), long);
    }
}
