//! Random histories, told to a circuit and to a slow, plain one that keeps every event in a list.

use crate::time::Moment;
use std::time::Duration;

use super::{window::BUCKETS, *};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// From one state to another.
type Step = (State, State);

/// What the test decides; the draft is made from it, and the reference reads it.
#[derive(Clone, Copy, Debug)]
struct Plan {
    failures: Option<(u32, Duration)>,
    consecutive: Option<u32>,
    failure_rate: Option<(f64, Duration, u32)>,
    slow_calls: Option<(f64, Duration, Duration, u32)>,
    open_for: Duration,
    growth: f64,
    longest: Duration,
    jitter: f64,
    forgive_after: Duration,
    probes: u32,
    probe_timeout: Duration,
    successes_to_close: u32,
}

impl Plan {
    fn random(rng: &mut fastrand::Rng) -> Self {
        let rules = rng.u8(1..16);
        let mut pick = |from: &[u64]| ms(from[rng.usize(..from.len())]);
        let (within, window, slow_window) = (pick(&[40, 100]), pick(&[64, 320]), pick(&[64, 320]));
        let (slower_than, open_for) = (pick(&[5, 20]), pick(&[10, 50]));
        let (forgive_after, probe_timeout) = (pick(&[30, 200]), pick(&[15, 100]));
        let rates = [0.25, 0.5, 0.75, 1.0];
        Self {
            failures: (rules & 1 != 0).then(|| (rng.u32(1..5), within)),
            consecutive: (rules & 2 != 0).then(|| rng.u32(1..5)),
            failure_rate: (rules & 4 != 0).then(|| (rates[rng.usize(..4)], window, rng.u32(1..6))),
            slow_calls: (rules & 8 != 0).then(|| (rates[rng.usize(..4)], slower_than, slow_window, rng.u32(1..6))),
            open_for,
            growth: [1.0, 1.5, 2.0][rng.usize(..3)],
            longest: open_for * rng.u32(1..6),
            jitter: [0.0, 0.5][rng.usize(..2)],
            forgive_after,
            probes: rng.u32(1..4),
            probe_timeout,
            successes_to_close: rng.u32(1..4),
        }
    }

    fn policy(&self) -> Policy {
        let mut draft = Policy::draft()
            .open_for(self.open_for)
            .growth(self.growth)
            .longest(self.longest)
            .jitter(self.jitter)
            .forgive_after(self.forgive_after)
            .probes(self.probes)
            .probe_timeout(self.probe_timeout)
            .successes_to_close(self.successes_to_close);
        if let Some((threshold, within)) = self.failures {
            draft = draft.failures(threshold).within(within);
        }
        if let Some(threshold) = self.consecutive {
            draft = draft.consecutive(threshold);
        }
        if let Some((rate, window, minimum)) = self.failure_rate {
            draft = draft.failure_rate(rate, window, minimum);
        }
        if let Some((rate, slower_than, window, minimum)) = self.slow_calls {
            draft = draft.slow_calls(rate, slower_than, window, minimum);
        }
        draft.build().unwrap()
    }
}

/// A counted outcome; nothing where it says nothing.
#[derive(Clone, Copy, Debug)]
struct Event {
    at: Duration,
    failed: Option<bool>,
    slow: Option<bool>,
    /// Whether it counts as failed in the failure rate; nothing where another event stands for its call.
    in_rate: Option<bool>,
    /// The body of a call that was counted before.
    is_body: bool,
}

/// An admitted call.
#[derive(Clone, Copy, Debug)]
struct Call {
    generation: u64,
    number: u64,
    started: Duration,
}

struct Reference {
    plan: Plan,
    state: State,
    generation: u64,
    /// Since this generation began.
    events: Vec<Event>,
    /// Failed bodies without a good one between them.
    body_streak: u32,
    until: Duration,
    /// Who holds a permit, and until when.
    probing: Vec<(u64, Duration)>,
    openings: u32,
    closed_at: Duration,
    calls: u64,
}

impl Reference {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            state: State::Closed,
            generation: 0,
            events: Vec::new(),
            body_streak: 0,
            until: Duration::ZERO,
            probing: Vec::new(),
            openings: 0,
            closed_at: Duration::ZERO,
            calls: 0,
        }
    }

    fn go(&mut self, to: State, now: Duration) -> Step {
        let from = self.state;
        if to == State::Closed {
            self.closed_at = now;
            self.body_streak = 0;
        }
        self.state = to;
        self.generation += 1;
        self.events.clear();
        self.probing.clear();
        (from, to)
    }

    fn open(&mut self, now: Duration, random: u64) -> Step {
        if self.state == State::Closed {
            let mut quiet = self.plan.forgive_after;
            while self.openings > 0 && now - self.closed_at >= quiet {
                self.openings /= 2;
                quiet += self.plan.forgive_after;
            }
        }
        let mut opening = self.plan.open_for;
        for _ in 0..self.openings {
            opening = opening.mul_f64(self.plan.growth).min(self.plan.longest);
        }
        let part = [0.0, 0.5][usize::from(random != 0)];
        opening = opening.mul_f64(1.0 - self.plan.jitter * part);
        self.openings += 1;
        self.until = now + opening;
        self.go(State::Open, now)
    }

    fn shown(&self, now: Duration) -> State {
        if self.state == State::Open && now >= self.until { State::HalfOpen } else { self.state }
    }

    /// From when on somebody is admitted; nothing for never.
    fn eligible_at(&self, now: Duration) -> Option<Duration> {
        match self.state {
            State::Closed | State::ForcedClosed => Some(now),
            State::ForcedOpen => None,
            State::Open => Some(self.until.max(now)),
            State::HalfOpen if self.held(now) < self.plan.probes as usize => Some(now),
            State::HalfOpen => self.probing.iter().map(|(_, lapses)| *lapses).min(),
        }
    }

    fn held(&self, now: Duration) -> usize {
        let held = self.probing.iter().filter(|(_, lapses)| *lapses > now);
        held.count()
    }

    fn admit(&mut self, now: Duration) -> Result<(Call, Option<Step>), Option<Duration>> {
        match self.eligible_at(now) {
            Some(at) if at <= now => {}
            later => return Err(later.map(|at| at - now)),
        }
        let mut transition = None;
        if self.state == State::Open {
            transition = Some(self.go(State::HalfOpen, now));
        }
        self.calls += 1;
        if self.state == State::HalfOpen {
            // The permit that a new one replaces is the longest lapsed, or any: lapsed ones are all alike.
            self.probing.retain(|(_, lapses)| *lapses > now);
            self.probing.push((self.calls, now + self.plan.probe_timeout));
        }
        let call = Call { generation: self.generation, number: self.calls, started: now };
        Ok((call, transition))
    }

    fn record(&mut self, call: Call, verdict: Verdict, now: Duration, random: u64) -> Option<Step> {
        if call.generation != self.generation || self.state.is_forced() {
            return None;
        }
        self.probing.retain(|(number, _)| *number != call.number);
        if verdict == Verdict::Neutral {
            return None;
        }
        let slow = self.plan.slow_calls.map(|(_, slower_than, ..)| now - call.started > slower_than);
        let given_up = verdict == Verdict::GivenUp;
        if given_up && slow != Some(true) {
            return None;
        }
        let failed = (!given_up).then_some(verdict == Verdict::Failure);
        let event = Event { at: now, failed, slow, in_rate: failed, is_body: false };
        if self.state == State::Closed {
            return self.count(event, random);
        }
        self.events.push(event);
        if failed == Some(true) || slow == Some(true) {
            Some(self.open(now, random))
        } else if self.events.len() >= self.plan.successes_to_close as usize {
            Some(self.go(State::Closed, now))
        } else {
            None
        }
    }

    fn count(&mut self, event: Event, random: u64) -> Option<Step> {
        self.events.push(event);
        self.trips(event).then(|| self.open(event.at, random))
    }

    /// The end of a body whose head was recorded as a success.
    fn record_body(&mut self, call: Call, is_good: bool, now: Duration, random: u64) -> Option<Step> {
        if call.generation != self.generation {
            return None;
        }
        match (self.state, is_good) {
            (State::Closed, true) => {
                self.body_streak = 0;
                None
            }
            (State::Closed, false) => {
                self.body_streak += 1;
                // The oldest success in the window makes room for it.
                let window = self.plan.failure_rate.map_or(Duration::ZERO, |(_, window, _)| window);
                let in_window =
                    |event: &&mut Event| is_in_window(event.at, now, window) && event.in_rate == Some(false);
                let replaced = self.events.iter_mut().find(in_window);
                let in_rate = replaced.map(|event| event.in_rate = None).map(|()| true);
                self.count(Event { at: now, failed: Some(true), slow: None, in_rate, is_body: true }, random)
            }
            (State::HalfOpen, false) => Some(self.open(now, random)),
            _ => None,
        }
    }

    fn trips(&self, event: Event) -> bool {
        let now = event.at;
        let recent = self.plan.failures.is_some_and(|(threshold, within)| {
            let failures = self.events.iter().filter(|event| event.failed == Some(true) && now - event.at <= within);
            event.failed == Some(true) && failures.count() >= threshold as usize
        });
        let streak = self.plan.consecutive.is_some_and(|threshold| {
            let heads = self.events.iter().rev().filter(|event| !event.is_body);
            let streak = heads.filter_map(|event| event.failed).take_while(|failed| *failed);
            streak.count() >= threshold as usize || self.body_streak >= threshold
        });
        let failing = self.plan.failure_rate.is_some_and(|(rate, window, minimum)| {
            event.in_rate.is_some() && self.share(now, window, minimum, |event| event.in_rate) >= rate
        });
        let slow = self.plan.slow_calls.is_some_and(|(rate, _, window, minimum)| {
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

/// The documented precision: the bucket of now, and the 31 before it.
fn is_in_window(at: Duration, now: Duration, window: Duration) -> bool {
    let width = (window.as_nanos() / u128::from(BUCKETS)).max(1);
    at.as_nanos() / width + u128::from(BUCKETS) > now.as_nanos() / width
}

/// The two of them, side by side.
struct Pair {
    circuit: Circuit,
    reference: Reference,
    now: Duration,
    tickets: Vec<(Ticket, Call)>,
    /// Those of good heads, whose bodies run.
    bodies: Vec<(Ticket, Call)>,
    /// Which transitions were seen, and whether a body brought them about.
    seen: Vec<(Step, bool)>,
}

impl Pair {
    fn moment(&self) -> Moment {
        Moment::since_epoch(self.now)
    }

    fn same(&mut self, transition: Option<Transition>, expected: Option<Step>, by_body: bool) {
        let found = transition.map(|transition| (transition.from, transition.to));
        assert_eq!(found, expected);
        if let Some(transition) = transition {
            assert_eq!(transition.at, self.moment());
            assert_eq!(transition.generation, self.reference.generation);
        }
        self.seen.extend(expected.map(|step| (step, by_body)));
    }

    fn admit(&mut self) {
        let moment = self.moment();
        let expected = self.reference.admit(self.now);
        match (self.circuit.admit(|| moment), expected) {
            (Admission::Admitted(ticket, transition), Ok((call, expected))) => {
                self.same(transition, expected, false);
                self.tickets.push((ticket, call));
            }
            (Admission::Rejected { state, retry_after }, Err(expected)) => {
                assert_eq!((state, retry_after), (self.reference.shown(self.now), expected));
            }
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }

    fn record(&mut self, rng: &mut fastrand::Rng) {
        if self.tickets.is_empty() {
            return;
        }
        let (ticket, call) = self.tickets.swap_remove(rng.usize(..self.tickets.len()));
        let verdict = match rng.u8(..10) {
            0..4 => Verdict::Success,
            4..7 => Verdict::Failure,
            7..9 => Verdict::GivenUp,
            _ => Verdict::Neutral,
        };
        let random = u64::from(rng.bool()) << 63;
        let moment = self.moment();
        let found = self.circuit.record(ticket, verdict, || moment, || random);
        let expected = self.reference.record(call, verdict, self.now, random);
        self.same(found, expected, false);
        if verdict == Verdict::Success {
            self.bodies.push((ticket, call));
        }
    }

    fn record_body(&mut self, rng: &mut fastrand::Rng) {
        if self.bodies.is_empty() {
            return;
        }
        let (ticket, call) = self.bodies.swap_remove(rng.usize(..self.bodies.len()));
        let is_good = rng.u8(..4) == 0;
        let verdict = if is_good { Verdict::BodyEnded } else { Verdict::BodyFailed };
        let random = u64::from(rng.bool()) << 63;
        let moment = self.moment();
        let found = self.circuit.record(ticket, verdict, || moment, || random);
        let expected = self.reference.record_body(call, is_good, self.now, random);
        self.same(found, expected, true);
    }

    fn meddle(&mut self, rng: &mut fastrand::Rng) {
        let (now, moment) = (self.now, self.moment());
        let state = self.reference.state;
        let reference = &mut self.reference;
        let (found, expected) = match rng.u8(..5) {
            0 => (
                self.circuit.force_open(moment),
                (state != State::ForcedOpen).then(|| reference.go(State::ForcedOpen, now)),
            ),
            1 => (
                self.circuit.force_closed(moment),
                (state != State::ForcedClosed).then(|| reference.go(State::ForcedClosed, now)),
            ),
            2 => {
                reference.openings = 0;
                let transition = reference.go(State::Closed, now);
                let expected = (state != State::Closed).then_some(transition);
                (self.circuit.reset(moment), expected)
            }
            3 => (self.circuit.hasten(moment), (state == State::Open).then(|| reference.go(State::HalfOpen, now))),
            _ => (
                self.circuit.trip(moment, || 0),
                matches!(state, State::Closed | State::HalfOpen).then(|| reference.open(now, 0)),
            ),
        };
        self.same(found, expected, false);
    }

    fn compare(&self) {
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
    }
}

/// One history; the transitions it went through.
fn history(seed: u64) -> Vec<(Step, bool)> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let plan = Plan::random(&mut rng);
    let mut pair = Pair {
        circuit: Circuit::new(plan.policy()),
        reference: Reference::new(plan),
        now: ms(rng.u64(..1_000)),
        tickets: Vec::new(),
        bodies: Vec::new(),
        seen: Vec::new(),
    };
    for _ in 0..rng.usize(10..120) {
        match rng.u8(..100) {
            0..36 => pair.admit(),
            36..66 => pair.record(&mut rng),
            66..74 => pair.record_body(&mut rng),
            74..90 => pair.now += ms(rng.u64(..8)),
            // Right onto a boundary, or around it.
            90..95 => {
                let next = pair.reference.eligible_at(pair.now).unwrap_or(pair.now);
                pair.now = next.max(pair.now) + Duration::from_nanos(rng.u64(..2));
            }
            95..98 => pair.now += ms(rng.u64(..400)),
            98 if rng.u8(..3) > 0 => pair.now += Duration::from_nanos(rng.u64(..1_000_000)),
            _ => pair.meddle(&mut rng),
        }
        pair.compare();
    }
    pair.seen
}

#[test]
fn random_histories_agree_with_the_plain_circuit() {
    // C34 to C41. A failing seed can be run alone: `history(seed)`.
    let mut seen = std::collections::HashMap::new();
    for seed in 0..100_000 {
        let run = std::panic::catch_unwind(|| history(seed));
        let transitions = run.unwrap_or_else(|_| panic!("history {seed}"));
        for transition in transitions {
            *seen.entry(transition).or_insert(0_u32) += 1;
        }
    }
    use State::{Closed, ForcedClosed, ForcedOpen, HalfOpen, Open};
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
        assert!(times > 1_000, "{needed:?} was seen {times} times");
    }
}
