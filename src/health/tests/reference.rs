//! Random histories, run on a circuit and on a slow reference model that keeps every event in a list.

use std::time::Duration;

use crate::{
    health::{Admission, CallResult, Circuit, CircuitPolicy, CircuitState, Rate, Ticket, Transition, window::BUCKETS},
    time::Moment,
};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A transition from one state to another.
pub(super) type Step = (CircuitState, CircuitState);

/// The settings of one history: the policy is made from them, and the reference reads them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    failures: Option<(u32, Duration)>,
    consecutive: Option<u32>,
    failure_rate: Option<(f64, Duration, u32)>,
    slow_calls: Option<(f64, Duration, Duration, u32)>,
    open_for: Duration,
    growth: f64,
    max_open_for: Duration,
    jitter: f64,
    backoff_reset_after: Duration,
    probes: u32,
    probe_timeout: Duration,
    successes_to_close: u32,
}

impl Settings {
    pub(super) fn random(rng: &mut fastrand::Rng) -> Self {
        let rules = rng.u8(1..16);
        let mut pick = |from: &[u64]| ms(from[rng.usize(..from.len())]);
        let (within, window, slow_window) = (pick(&[40, 100]), pick(&[64, 320]), pick(&[64, 320]));
        let (slower_than, open_for) = (pick(&[5, 20]), pick(&[10, 50]));
        let (backoff_reset_after, probe_timeout) = (pick(&[30, 200]), pick(&[15, 100]));
        let rates = [0.25, 0.5, 0.75, 1.0];
        Self {
            failures: (rules & 1 != 0).then(|| (rng.u32(1..5), within)),
            consecutive: (rules & 2 != 0).then(|| rng.u32(1..5)),
            failure_rate: (rules & 4 != 0).then(|| (rates[rng.usize(..4)], window, rng.u32(1..6))),
            slow_calls: (rules & 8 != 0).then(|| (rates[rng.usize(..4)], slower_than, slow_window, rng.u32(1..6))),
            open_for,
            growth: [1.0, 1.5, 2.0][rng.usize(..3)],
            max_open_for: open_for * rng.u32(1..6),
            jitter: [0.0, 0.5][rng.usize(..2)],
            backoff_reset_after,
            probes: rng.u32(1..4),
            probe_timeout,
            successes_to_close: rng.u32(1..4),
        }
    }

    pub(super) fn policy(&self) -> CircuitPolicy {
        let mut policy = CircuitPolicy::new()
            .open_for(self.open_for)
            .growth(self.growth)
            .max_open_for(self.max_open_for)
            .jitter(self.jitter)
            .backoff_reset_after(self.backoff_reset_after)
            .probes(self.probes)
            .probe_timeout(self.probe_timeout)
            .successes_to_close(self.successes_to_close);
        if let Some((threshold, within)) = self.failures {
            policy = policy.failures(threshold).within(within);
        }
        if let Some(threshold) = self.consecutive {
            policy = policy.consecutive(threshold);
        }
        if let Some((rate, window, minimum)) = self.failure_rate {
            policy = policy.failure_rate(Rate::new(rate).window(window).minimum_calls(minimum));
        }
        if let Some((rate, slower_than, window, minimum)) = self.slow_calls {
            policy = policy.slow_calls(slower_than, Rate::new(rate).window(window).minimum_calls(minimum));
        }
        policy.checked().unwrap()
    }
}

/// A counted result.
#[derive(Clone, Copy, Debug)]
struct Event {
    at: Duration,
    /// `None` if the event does not count for the rules on failures.
    failed: Option<bool>,
    /// `None` if it does not count for the rule on slow calls.
    slow: Option<bool>,
    /// `failed`, as the failure rate counts it. `None` if a failed body took the place of this call.
    in_rate: Option<bool>,
    /// Whether it is the end of a body whose head was counted before.
    is_body: bool,
}

/// An admitted call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    generation: u64,
    number: u64,
    started: Duration,
}

struct Reference {
    settings: Settings,
    state: CircuitState,
    generation: u64,
    /// The events of this generation.
    events: Vec<Event>,
    /// Failed bodies without a good one between them.
    body_streak: u32,
    open_until: Duration,
    /// The probes that hold a permit, and when it expires.
    permits: Vec<(u64, Duration)>,
    openings: u32,
    closed_at: Duration,
    calls: u64,
}

impl Reference {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: CircuitState::Closed,
            generation: 0,
            events: Vec::new(),
            body_streak: 0,
            open_until: Duration::ZERO,
            permits: Vec::new(),
            openings: 0,
            closed_at: Duration::ZERO,
            calls: 0,
        }
    }

    fn enter(&mut self, to: CircuitState, now: Duration) -> Step {
        let from = self.state;
        if to == CircuitState::Closed {
            self.closed_at = now;
            self.body_streak = 0;
        }
        self.state = to;
        self.generation += 1;
        self.events.clear();
        self.permits.clear();
        (from, to)
    }

    fn open(&mut self, now: Duration, random: u64) -> Step {
        if self.state == CircuitState::Closed {
            let mut quiet = self.settings.backoff_reset_after;
            while self.openings > 0 && now - self.closed_at >= quiet {
                self.openings /= 2;
                quiet += self.settings.backoff_reset_after;
            }
        }
        let mut open_time = self.settings.open_for;
        for _ in 0..self.openings {
            open_time = open_time.mul_f64(self.settings.growth).min(self.settings.max_open_for);
        }
        let part = [0.0, 0.5][usize::from(random != 0)];
        open_time = open_time.mul_f64(1.0 - self.settings.jitter * part);
        self.openings += 1;
        self.open_until = now + open_time;
        self.enter(CircuitState::Open, now)
    }

    fn shown(&self, now: Duration) -> CircuitState {
        if self.state == CircuitState::Open && now >= self.open_until { CircuitState::HalfOpen } else { self.state }
    }

    /// The moment from which on a call is admitted; `None` while forced open.
    fn eligible_at(&self, now: Duration) -> Option<Duration> {
        match self.state {
            CircuitState::Closed | CircuitState::ForcedClosed => Some(now),
            CircuitState::ForcedOpen => None,
            CircuitState::Open => Some(self.open_until.max(now)),
            CircuitState::HalfOpen if self.held(now) < self.settings.probes as usize => Some(now),
            CircuitState::HalfOpen => self.permits.iter().map(|(_, expires_at)| *expires_at).min(),
        }
    }

    fn held(&self, now: Duration) -> usize {
        let held = self.permits.iter().filter(|(_, expires_at)| *expires_at > now);
        held.count()
    }

    fn admit(&mut self, now: Duration) -> Result<(Call, Option<Step>), Option<Duration>> {
        match self.eligible_at(now) {
            Some(at) if at <= now => {}
            later => return Err(later.map(|at| at - now)),
        }
        let mut transition = None;
        if self.state == CircuitState::Open {
            transition = Some(self.enter(CircuitState::HalfOpen, now));
        }
        self.calls += 1;
        if self.state == CircuitState::HalfOpen {
            // Expired permits are all alike, so all of them are dropped here.
            self.permits.retain(|(_, expires_at)| *expires_at > now);
            self.permits.push((self.calls, now + self.settings.probe_timeout));
        }
        let call = Call { generation: self.generation, number: self.calls, started: now };
        Ok((call, transition))
    }

    fn record(&mut self, call: Call, result: CallResult, now: Duration, random: u64) -> Option<Step> {
        if call.generation != self.generation || self.state.is_forced() {
            return None;
        }
        self.permits.retain(|(number, _)| *number != call.number);
        if result == CallResult::Neutral {
            return None;
        }
        let slow = self.settings.slow_calls.map(|(_, slower_than, ..)| now - call.started > slower_than);
        let is_cancelled = result == CallResult::GivenUp;
        if is_cancelled && slow != Some(true) {
            return None;
        }
        let failed = (!is_cancelled).then_some(result == CallResult::Failure);
        let event = Event { at: now, failed, slow, in_rate: failed, is_body: false };
        if self.state == CircuitState::Closed {
            return self.count(event, random);
        }
        self.events.push(event);
        if failed == Some(true) || slow == Some(true) {
            Some(self.open(now, random))
        } else if self.events.len() >= self.settings.successes_to_close as usize {
            Some(self.enter(CircuitState::Closed, now))
        } else {
            None
        }
    }

    /// Whether a ticket that was not used yet is still valid.
    fn honours(&self, call: Call, now: Duration) -> bool {
        let holds = || self.permits.iter().any(|(number, expires_at)| *number == call.number && *expires_at > now);
        call.generation == self.generation && (self.state != CircuitState::HalfOpen || holds())
    }

    fn count(&mut self, event: Event, random: u64) -> Option<Step> {
        self.events.push(event);
        self.is_met(event).then(|| self.open(event.at, random))
    }

    /// Records the end of a body whose head was recorded as a success.
    fn record_body(&mut self, call: Call, is_good: bool, now: Duration, random: u64) -> Option<Step> {
        if call.generation != self.generation {
            return None;
        }
        match (self.state, is_good) {
            (CircuitState::Closed, true) => {
                self.body_streak = 0;
                None
            }
            (CircuitState::Closed, false) => {
                self.body_streak += 1;
                // It takes the place of the oldest success in the window.
                let window = self.settings.failure_rate.map_or(Duration::ZERO, |(_, window, _)| window);
                let in_window =
                    |event: &&mut Event| is_in_window(event.at, now, window) && event.in_rate == Some(false);
                let replaced = self.events.iter_mut().find(in_window);
                let in_rate = replaced.map(|event| event.in_rate = None).map(|()| true);
                self.count(Event { at: now, failed: Some(true), slow: None, in_rate, is_body: true }, random)
            }
            (CircuitState::HalfOpen, false) => Some(self.open(now, random)),
            _ => None,
        }
    }

    /// Whether a rule is met by this event.
    fn is_met(&self, event: Event) -> bool {
        let now = event.at;
        let recent = self.settings.failures.is_some_and(|(threshold, within)| {
            let failures = self.events.iter().filter(|event| event.failed == Some(true) && now - event.at <= within);
            event.failed == Some(true) && failures.count() >= threshold as usize
        });
        let streak = self.settings.consecutive.is_some_and(|threshold| {
            let heads = self.events.iter().rev().filter(|event| !event.is_body);
            let streak = heads.filter_map(|event| event.failed).take_while(|failed| *failed);
            streak.count() >= threshold as usize || self.body_streak >= threshold
        });
        let failing = self.settings.failure_rate.is_some_and(|(rate, window, minimum)| {
            event.in_rate.is_some() && self.share(now, window, minimum, |event| event.in_rate) >= rate
        });
        let slow = self.settings.slow_calls.is_some_and(|(rate, _, window, minimum)| {
            event.slow.is_some() && self.share(now, window, minimum, |event| event.slow) >= rate
        });
        recent || streak || failing || slow
    }

    fn share(&self, now: Duration, window: Duration, minimum: u32, hit: impl Fn(&Event) -> Option<bool>) -> f64 {
        let counted = self.events.iter().filter(|event| is_in_window(event.at, now, window));
        let calls: Vec<_> = counted.filter_map(hit).collect();
        if calls.len() < minimum as usize {
            return 0.0;
        }
        calls.iter().filter(|hit| **hit).count() as f64 / calls.len() as f64
    }
}

/// The documented precision: the bucket of `now`, and the 31 before it.
fn is_in_window(at: Duration, now: Duration, window: Duration) -> bool {
    let width = (window.as_nanos() / u128::from(BUCKETS)).max(1);
    at.as_nanos() / width + u128::from(BUCKETS) > now.as_nanos() / width
}

/// A circuit and the reference, side by side.
pub(super) struct Pair {
    circuit: Circuit,
    reference: Reference,
    pub(super) now: Duration,
    /// The running calls, the oldest first.
    pub(super) tickets: Vec<(Ticket, Call)>,
    /// The calls with a good head, whose bodies have not ended.
    pub(super) bodies: Vec<(Ticket, Call)>,
    /// The transitions so far, and whether the end of a body caused each of them.
    pub(super) seen: Vec<(Step, bool)>,
}

impl Pair {
    pub(super) fn new(settings: Settings, now: Duration) -> Self {
        Self {
            circuit: Circuit::new(settings.policy()),
            reference: Reference::new(settings),
            now,
            tickets: Vec::new(),
            bodies: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Moves the time to the moment from which on a call is admitted, and beyond it.
    pub(super) fn pass_deadline(&mut self, beyond: Duration) {
        self.now = self.reference.eligible_at(self.now).unwrap_or(self.now).max(self.now) + beyond;
    }

    fn moment(&self) -> Moment {
        Moment::since_epoch(self.now)
    }

    fn assert_same(&mut self, transition: Option<Transition>, expected: Option<Step>, by_body: bool) {
        let found = transition.map(|transition| (transition.from, transition.to));
        assert_eq!(found, expected);
        if let Some(transition) = transition {
            assert_eq!(transition.at, self.moment());
            assert_eq!(transition.generation, self.reference.generation);
        }
        self.seen.extend(expected.map(|step| (step, by_body)));
    }

    pub(super) fn admit(&mut self) {
        let moment = self.moment();
        let expected = self.reference.admit(self.now);
        match (self.circuit.admit(|| moment), expected) {
            (Admission::Admitted(ticket, transition), Ok((call, expected))) => {
                self.assert_same(transition, expected, false);
                self.tickets.push((ticket, call));
            }
            (Admission::Rejected { state, retry_after }, Err(expected)) => {
                assert_eq!((state, retry_after), (self.reference.shown(self.now), expected));
            }
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    }

    fn record_any(&mut self, rng: &mut fastrand::Rng) {
        if self.tickets.is_empty() {
            return;
        }
        let index = rng.usize(..self.tickets.len());
        let result = match rng.u8(..10) {
            0..4 => CallResult::Success,
            4..7 => CallResult::Failure,
            7..9 => CallResult::GivenUp,
            _ => CallResult::Neutral,
        };
        self.record(index, result, u64::from(rng.bool()) << 63);
    }

    /// Records the result of a running call.
    pub(super) fn record(&mut self, index: usize, result: CallResult, random: u64) {
        let (ticket, call) = self.tickets.remove(index);
        let (moment, before) = (self.moment(), self.public());
        let found = self.circuit.record(ticket, result, || moment, || random);
        let expected = self.reference.record(call, result, self.now, random);
        self.assert_unchanged_by_late(call, &before);
        self.assert_same(found, expected, false);
        if result == CallResult::Success {
            self.bodies.push((ticket, call));
        }
    }

    fn record_any_body(&mut self, rng: &mut fastrand::Rng) {
        if !self.bodies.is_empty() {
            let index = rng.usize(..self.bodies.len());
            self.record_body(index, rng.u8(..4) == 0, u64::from(rng.bool()) << 63);
        }
    }

    /// Records the end of the body of a call with a good head.
    pub(super) fn record_body(&mut self, index: usize, is_good: bool, random: u64) {
        let (ticket, call) = self.bodies.remove(index);
        let result = if is_good { CallResult::BodyEnded } else { CallResult::BodyFailed };
        let (moment, before) = (self.moment(), self.public());
        let found = self.circuit.record(ticket, result, || moment, || random);
        let expected = self.reference.record_body(call, is_good, self.now, random);
        self.assert_unchanged_by_late(call, &before);
        self.assert_same(found, expected, true);
    }

    /// Begins an admitted call only now: it had waited for its service.
    pub(super) fn begin_late(&mut self, index: usize) {
        let (moment, now) = (self.moment(), self.now);
        let (ticket, call) = &mut self.tickets[index];
        (*ticket, call.started) = (ticket.started_at(moment), now);
    }

    /// What calls can see of the circuit.
    fn public(&self) -> (CircuitState, u64, Moment) {
        (self.circuit.state(self.moment()), self.circuit.generation(), self.circuit.eligible_at())
    }

    /// A call that began in another generation changes nothing.
    fn assert_unchanged_by_late(&self, call: Call, before: &(CircuitState, u64, Moment)) {
        if call.generation != before.1 {
            assert_eq!(&self.public(), before, "C39");
        }
    }

    /// Does what an operator, an active check or a neighbour does.
    pub(super) fn operate(&mut self, what: u8) {
        let (now, moment) = (self.now, self.moment());
        let state = self.reference.state;
        let reference = &mut self.reference;
        let (found, expected) = match what {
            0 => (
                self.circuit.force_open(moment),
                (state != CircuitState::ForcedOpen).then(|| reference.enter(CircuitState::ForcedOpen, now)),
            ),
            1 => (
                self.circuit.force_closed(moment),
                (state != CircuitState::ForcedClosed).then(|| reference.enter(CircuitState::ForcedClosed, now)),
            ),
            2 => {
                reference.openings = 0;
                let transition = reference.enter(CircuitState::Closed, now);
                let expected = (state != CircuitState::Closed).then_some(transition);
                (self.circuit.reset(moment), expected)
            }
            3 => (
                self.circuit.probe_now(moment),
                (state == CircuitState::Open).then(|| reference.enter(CircuitState::HalfOpen, now)),
            ),
            _ => (
                self.circuit.trip(moment, || 0),
                matches!(state, CircuitState::Closed | CircuitState::HalfOpen).then(|| reference.open(now, 0)),
            ),
        };
        self.assert_same(found, expected, false);
    }

    pub(super) fn compare(&self) {
        let moment = self.moment();
        assert_eq!(self.circuit.state(moment), self.reference.shown(self.now));
        assert_eq!(self.circuit.generation(), self.reference.generation);
        let eligible_at = self.circuit.eligible_at();
        match self.reference.eligible_at(self.now) {
            None => assert_eq!(eligible_at, Moment::NEVER),
            Some(at) => assert_eq!(eligible_at.max(moment), Moment::since_epoch(at)),
        }
        let admits = self.reference.eligible_at(self.now) == Some(self.now);
        assert_eq!(self.circuit.would_admit(|| moment), admits);
        for (ticket, call) in &self.tickets {
            assert_eq!(self.circuit.honours(*ticket, || moment), self.reference.honours(*call, self.now));
        }
    }
}

/// Runs one history. Returns its transitions.
fn history(seed: u64) -> Vec<(Step, bool)> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let settings = Settings::random(&mut rng);
    let mut pair = Pair::new(settings, ms(rng.u64(..1_000)));
    for _ in 0..rng.usize(10..120) {
        match rng.u8(..100) {
            0..36 => pair.admit(),
            36..66 => pair.record_any(&mut rng),
            66..74 => pair.record_any_body(&mut rng),
            74..90 => pair.now += ms(rng.u64(..8)),
            // To a deadline, or 1 ns past it.
            90..95 => pair.pass_deadline(Duration::from_nanos(rng.u64(..2))),
            95..98 => pair.now += ms(rng.u64(..400)),
            98 if rng.u8(..3) > 0 => pair.now += Duration::from_nanos(rng.u64(..1_000_000)),
            _ => pair.operate(rng.u8(..5)),
        }
        pair.compare();
    }
    pair.seen
}

#[test]
fn random_histories_agree_with_the_reference() {
    // C34 to C41. To run a failing seed alone: `history(seed)`.
    let mut seen = std::collections::HashMap::new();
    for seed in 0..100_000 {
        let run = std::panic::catch_unwind(|| history(seed));
        let transitions = run.unwrap_or_else(|_| panic!("history {seed}"));
        for transition in transitions {
            *seen.entry(transition).or_insert(0_u32) += 1;
        }
    }
    use CircuitState::{Closed, ForcedClosed, ForcedOpen, HalfOpen, Open};
    let (call, body) = (false, true);
    for needed in [
        ((Closed, Open), call),
        ((Closed, Open), body),
        ((Open, HalfOpen), call),
        ((HalfOpen, Open), call),
        ((HalfOpen, Open), body),
        ((HalfOpen, Closed), call),
        ((Open, ForcedOpen), call),
        ((HalfOpen, ForcedClosed), call),
        ((ForcedOpen, ForcedClosed), call),
        ((ForcedClosed, Closed), call),
        ((ForcedOpen, Closed), call),
    ] {
        let times = seen.get(&needed).copied().unwrap_or(0);
        assert!(times > 1_000, "{needed:?} happened {times} times");
    }
}
