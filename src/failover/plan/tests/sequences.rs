//! Random sequences of the events of a plan: starts, trips and wake-ups, at any moment. The driver does what the response
//! future does, on backends that are numbers.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::{
    super::super::{Backoff, HedgeDelay},
    *,
};
use crate::{
    outcome::{Failure, FailureKind},
    rng::Rng,
};

#[derive(Clone, Debug)]
enum Event {
    /// One of the running attempts ends with a failure.
    Trip(usize, Outcome),
    /// The timer of the plan fires.
    Wake,
    Pass(Duration),
    /// The request body is no longer kept.
    Forget,
}

#[derive(Clone, Debug)]
struct Case {
    settings: Settings,
    /// May be as late as a moment can be.
    start: Moment,
    backends: usize,
    may_repeat: bool,
    may_hedge: bool,
    /// How many hedges that are due are withheld.
    withheld: u32,
    /// The timeout of a backend.
    timeout: Option<Duration>,
    events: Vec<Event>,
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        // Often the same ones, so that an end and a deadline coincide.
        8 => (1..8_u64).prop_map(|count| Duration::from_millis(100 * count)),
        2 => (1..5_000_u64).prop_map(Duration::from_millis),
        2 => (1..100_u64).prop_map(Duration::from_nanos),
        1 => Just(Duration::MAX),
        1 => any::<u64>().prop_map(|nanos| Duration::from_nanos(nanos.max(1))),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let kind = prop_oneof![
        3 => Just(FailureKind::Status(503)),
        1 => Just(FailureKind::Connect),
        1 => Just(FailureKind::Timeout),
        1 => Just(FailureKind::Panic),
    ];
    (kind, prop::option::weighted(0.3, duration()), prop::bool::weighted(0.05)).prop_map(|(kind, delay, is_final)| {
        let failure = Failure::new(kind).retry_after(delay);
        if is_final { failure.no_retry().into() } else { failure.into() }
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..8_usize, outcome()).prop_map(|(index, outcome)| Event::Trip(index, outcome)),
        4 => Just(Event::Wake),
        3 => duration().prop_map(Event::Pass),
        1 => Just(Event::Forget),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    let mode = prop_oneof![Just(Mode::Race), Just(Mode::Sequential), duration().prop_map(Mode::hedged)];
    let backoff = (duration(), duration(), prop_oneof![Just(1.0), Just(2.0), Just(f64::MAX)], 0.0..=1.0_f64)
        .prop_map(|(base, cap, factor, jitter)| Backoff::new(base, cap.max(base)).factor(factor).jitter(jitter));
    let times = (duration(), prop::option::of(duration()), prop::option::of(duration()), duration(), duration());
    (mode, 1..4_u32, 1..5_u32, times, prop::option::of(backoff)).prop_map(
        |(mode, attempts_per_backend, race_width, times, backoff)| {
            let (race_bound, timeout, deadline, same_backend_delay, retry_after_cap) = times;
            Settings {
                mode,
                race_bound,
                race_width,
                timeout,
                deadline,
                attempts_per_backend,
                same_backend_delay,
                backoff,
                retry_after_cap,
                ..Settings::default()
            }
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let start = prop_oneof![
        6 => (0..10_000_u64).prop_map(|seconds| Moment::since_epoch(Duration::from_secs(seconds))),
        1 => any::<u64>().prop_map(Moment::from_nanos),
        1 => (0..10_u64).prop_map(|nanos| Moment::from_nanos(u64::MAX - nanos)),
    ];
    let methods = (any::<bool>(), any::<bool>(), 0..3_u32);
    (settings(), start, 1..6_usize, methods, prop::option::of(duration()), vec(event(), 0..40)).prop_map(
        |(settings, start, backends, (may_repeat, may_hedge, withheld), timeout, events)| Case {
            settings,
            start,
            backends,
            may_repeat,
            may_hedge,
            withheld,
            timeout,
            events,
        },
    )
}

/// A request that is driven by its plan.
struct Driver {
    case: Case,
    plan: Plan,
    now: Moment,
    rng: Rng,
    /// The backends of the running attempts.
    running: Vec<usize>,
    /// The attempts so far, by backend.
    attempts: BTreeMap<usize, u32>,
    last: Option<usize>,
    can_send: bool,
    /// No attempt may follow, whatever happens.
    is_final: bool,
}

impl Driver {
    fn new(case: Case) -> Self {
        let plan = Plan::new(case.settings.deadline.map(|deadline| case.start.after(deadline)));
        let (now, rng) = (case.start, Rng::seeded(7));
        let (running, attempts) = (Vec::new(), BTreeMap::new());
        Self { case, plan, now, rng, running, attempts, last: None, can_send: true, is_final: false }
    }

    /// How many attempts one backend may get: a race gives the primary a second one.
    fn most_attempts(&self, backend: usize) -> u32 {
        match self.case.settings.mode {
            Mode::Race => 1 + u32::from(self.plan.is_racing && self.last_before_race() == Some(backend)),
            _ => self.case.settings.attempts_per_backend,
        }
    }

    /// The primary: the backend of the first attempt.
    fn last_before_race(&self) -> Option<usize> {
        (!self.attempts.is_empty()).then_some(0)
    }

    fn may_attempt(&self, backend: usize) -> bool {
        self.attempts.get(&backend).copied().unwrap_or_default() < self.most_attempts(backend)
    }

    /// The backend of the next attempt: the same one as before if the plan keeps it, or else a new one, if there is one.
    fn next_backend(&self) -> Option<usize> {
        let same = self.last.filter(|last| self.plan.same_backend && self.may_attempt(*last));
        let new = (0..self.case.backends).find(|backend| !self.attempts.contains_key(backend));
        let any = (0..self.case.backends).find(|backend| self.may_attempt(*backend));
        same.or(new).or(any)
    }

    /// Starts what the plan lets start now.
    fn start(&mut self) -> Result<(), TestCaseError> {
        let settings = self.case.settings.clone();
        let hedge_delay = match settings.mode {
            Mode::Hedged(HedgeDelay::After(delay)) if self.case.may_hedge => Some(delay),
            _ => None,
        };
        while let Next::Now | Next::All | Next::Hedge = self.plan.next {
            if self.plan.next == Next::Hedge && self.case.withheld > 0 {
                self.case.withheld -= 1;
                self.plan.started(self.now, hedge_delay);
                self.check()?;
                // C68: it is considered again after the delay, unless the time is up by then.
                let again = hedge_delay.map(|delay| self.now.after(delay));
                let again = again.filter(|at| self.plan.ends.is_none_or(|ends| *at < ends));
                prop_assert_eq!(self.plan.next, again.map_or(Next::OnTrip, Next::At));
                continue;
            }
            let has_room = !self.plan.is_racing || self.running.len() < settings.race_width as usize;
            // The response future ends at `ends`, before it starts anything.
            if !has_room || self.is_over() {
                break;
            }
            let Some(backend) = self.next_backend().filter(|_| self.can_send) else {
                self.plan.next = Next::Never;
                break;
            };
            prop_assert!(!self.is_final, "an attempt starts after the last one");
            *self.attempts.entry(backend).or_default() += 1;
            self.last = Some(backend);
            let is_last = self.next_backend().is_none();
            let own = self.case.timeout.map(|timeout| (timeout, TimeLimit::Backend));
            let timeout = own.or(settings.timeout.map(|timeout| (timeout, TimeLimit::Attempt)));
            let limit = self.plan.limit(&settings, timeout, self.now, is_last, self.case.may_hedge);
            self.check_limit(timeout, limit)?;
            self.plan.started(self.now, hedge_delay);
            self.running.push(backend);
            self.check()?;
        }
        Ok(())
    }

    /// C50, C51: an attempt has time, and no more than is left.
    fn check_limit(
        &self,
        timeout: Option<(Duration, TimeLimit)>,
        limit: Option<(Duration, TimeLimit)>,
    ) -> Result<(), TestCaseError> {
        prop_assert_eq!(limit.is_none(), timeout.is_none() && self.plan.deadline.is_none());
        let Some((time, by)) = limit else { return Ok(()) };
        prop_assert!(timeout.is_none_or(|(timeout, _)| time <= timeout));
        if let Some(deadline) = self.plan.deadline {
            prop_assert!(time <= deadline.since(self.now));
        }
        prop_assert!(by == TimeLimit::Request || timeout == limit);
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.plan.ends.is_some_and(|ends| self.now.reached(ends))
    }

    fn act(&mut self, event: &Event) -> Result<(), TestCaseError> {
        let (before, was_racing) = (self.plan.ends, self.plan.is_racing);
        match event {
            Event::Trip(index, outcome) if !self.running.is_empty() => self.trip(*index, outcome)?,
            Event::Trip(..) => {}
            Event::Wake => {
                let at = self.plan.next_wake(false);
                self.now = self.now.max(at.unwrap_or(self.now));
                let waited = matches!(self.plan.next, Next::At(_));
                self.plan.wake(self.now);
                // The timer fires for the plan or for the end, and moves it on.
                let is_moved =
                    !waited || matches!(self.plan.next, Next::Now | Next::Hedge) || at == Some(Moment::NEVER);
                prop_assert!(is_moved || self.is_over());
            }
            Event::Pass(time) => {
                self.now = self.now.after(*time);
                self.plan.wake(self.now);
            }
            Event::Forget => self.can_send = false,
        }
        // C16, C51: the end never moves away, and a race stays a race.
        prop_assert!(before.is_none_or(|before| self.plan.ends.is_some_and(|ends| ends <= before)));
        prop_assert!(!was_racing || self.plan.is_racing);
        self.check()?;
        self.start()
    }

    fn trip(&mut self, index: usize, outcome: &Outcome) -> Result<(), TestCaseError> {
        self.running.remove(index % self.running.len());
        // A backend that named a time is not for the next attempt.
        let has_named = outcome.failure().is_some_and(|failure| failure.retry_delay().is_some());
        let has_same = !has_named && self.last.is_some_and(|last| self.may_attempt(last));
        let has_new = (0..self.case.backends).any(|backend| !self.attempts.contains_key(&backend));
        let (now, can_send, may_repeat) = (self.now, self.can_send, self.case.may_repeat);
        let trip = Trip { outcome, now, can_send, may_repeat, has_same, has_new };
        let stopped = self.plan.tripped(&self.case.settings, &trip, &mut self.rng);
        prop_assert!(!self.plan.same_backend || has_same || self.plan.next == Next::Never);
        let failure = outcome.failure().expect("a failure");
        let forbidden = can_send && failure.forbids_retry();
        let repeated = can_send && !may_repeat && !failure.kind().is_unprocessed();
        match stopped {
            Some(Stopped::Pushback) => prop_assert!(forbidden),
            Some(Stopped::NotIdempotent) => prop_assert!(repeated && !forbidden),
            // C51: only if there is an end, and the pause would reach it.
            Some(Stopped::OutOfTime) => {
                prop_assert!(self.plan.ends.is_some() && self.case.settings.mode == Mode::Sequential);
            }
            Some(other) => prop_assert!(false, "the plan cannot know of {other:?}"),
            None => prop_assert!(!forbidden && !repeated),
        }
        if stopped.is_some() || !can_send {
            prop_assert_eq!(self.plan.next, Next::Never);
        } else {
            // Something follows.
            prop_assert!(matches!(self.plan.next, Next::Now | Next::All | Next::At(_)), "{:?}", self.plan.next);
        }
        if forbidden || repeated {
            // The request is given up, so that no attempt follows.
            (self.can_send, self.is_final) = (false, true);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        if let Next::At(at) = self.plan.next {
            prop_assert!(self.plan.ends.is_none_or(|ends| at < ends), "{at:?} is not before {:?}", self.plan.ends);
            prop_assert_eq!(self.plan.next_wake(false), Some(at));
        } else {
            prop_assert_eq!(self.plan.next_wake(false), self.plan.ends);
        }
        // C15, C23: bounded, and an attempt after the other unless the mode says otherwise.
        for (backend, attempts) in &self.attempts {
            prop_assert!(*attempts <= self.most_attempts(*backend));
        }
        let most_running = match self.case.settings.mode {
            Mode::Race if self.plan.is_racing => self.case.settings.race_width as usize,
            Mode::Hedged(_) if self.case.may_hedge => usize::MAX,
            Mode::Race | Mode::Sequential | Mode::Hedged(_) => 1,
        };
        prop_assert!(self.running.len() <= most_running.max(1), "{} running", self.running.len());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    // C13, C15, C16, C23, C26, C51, C52, C58
    #[test]
    fn no_sequence_of_events_breaks_a_plan(case in case()) {
        let events = case.events.clone();
        let mut driver = Driver::new(case);
        driver.start()?;
        for event in &events {
            driver.act(event)?;
        }
        // It comes to an end: every attempt trips, and what follows does too.
        let most = driver.case.backends as u32 * (driver.case.settings.attempts_per_backend + 1);
        let outcome = FailureKind::Status(503).into();
        for _ in 0..3 * most {
            if driver.is_over() {
                break;
            }
            driver.act(&Event::Trip(0, outcome))?;
            driver.act(&Event::Wake)?;
        }
        let is_stuck = matches!(driver.plan.next, Next::At(_)) && driver.plan.next_wake(false) == Some(Moment::NEVER);
        prop_assert!(driver.running.is_empty() || driver.is_over() || is_stuck);
    }
}
