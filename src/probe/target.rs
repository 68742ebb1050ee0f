//! What a prober knows of one backend: when it is probed, and what its probes have shown.

use std::{sync::Arc, time::Duration};

use futures::future::AbortHandle;

use super::settings::{OnSuccess, Rules, Scope};
use crate::{
    fleet::MemberInfo,
    health::{CircuitState, Health, Timed},
    rng::Rng,
    time::Moment,
};

/// A backend that is probed, or was.
pub(super) struct Target {
    pub(super) member: Arc<MemberInfo>,
    /// When it is probed next, as in the queue.
    pub(super) due: Option<Moment>,
    /// The probe that runs, and its start.
    pub(super) running: Option<(AbortHandle, Moment)>,
    /// Probes in a row.
    successes: u32,
    failures: u32,
    /// Whether its probes succeed, once enough have.
    pub(super) is_well: Option<bool>,
    /// No good probe ends the opening of its circuit before.
    not_before: Moment,
    /// When a good probe ended an opening.
    revived: Option<Moment>,
    /// How often in a row the circuit opened soon after that.
    relapses: u32,
}

/// A tenth of the interval: the first probe after an opening. The backend has just failed, so a probe at once tells
/// nothing new.
const SOON: u32 = 10;
/// Probes that become due at the same time are spread over this much for each of them: a hundred in a second.
const SPREAD: Duration = Duration::from_millis(10);
/// Sixteen intervals are the longest wait after relapses.
const MAX_RELAPSES: u32 = 5;

impl Target {
    pub(super) fn new(member: Arc<MemberInfo>) -> Self {
        Self {
            member,
            due: None,
            running: None,
            successes: 0,
            failures: 0,
            is_well: None,
            not_before: Moment::EPOCH,
            revived: None,
            relapses: 0,
        }
    }

    /// Notes that the circuit opened. Where a good probe was followed by another opening, probes tell less than requests
    /// do, and the next good one counts later: after one interval, then two, four and so on.
    pub(super) fn note_opening(&mut self, rules: &Rules, peers: usize, now: Moment, rng: &mut Rng) {
        let window = rules.interval.saturating_mul(2 << self.relapses);
        let is_relapse = self.revived.take().is_some_and(|revived| now.since(revived) <= window);
        self.relapses = if is_relapse { (self.relapses + 1).min(MAX_RELAPSES) } else { 0 };
        self.not_before = match self.relapses {
            0 => soon(rules, peers, now, rng),
            relapses => {
                let wait = rules.interval.saturating_mul(1 << (relapses - 1));
                now.after(wait.saturating_add(part(rules.interval / SOON, rng)))
            }
        };
    }

    /// Returns when the first probe is due.
    pub(super) fn first(&self, rules: &Rules, is_out: bool, peers: usize, now: Moment, rng: &mut Rng) -> Moment {
        match is_out {
            true if self.not_before > now => self.not_before,
            true => soon(rules, peers, now, rng),
            false => now.after(part(spread(rules, peers), rng)),
        }
    }

    /// Returns when the probe after one that began at `started` is due.
    pub(super) fn next(&self, rules: &Rules, started: Moment, now: Moment, rng: &mut Rng) -> Moment {
        let shortest = rules.interval.mul_f64(1.0 - rules.jitter);
        let wait = shortest.saturating_add(part(rules.interval.mul_f64(2.0 * rules.jitter), rng));
        let next = started.after(wait).max(now);
        match rules.scope {
            _ if self.not_before <= now => next,
            // No other probe is of use.
            Scope::Out => self.not_before,
            Scope::All => self.not_before.min(next),
        }
    }

    /// Counts a good probe. Returns whether the backend is well.
    pub(super) fn count_success(&mut self, rules: &Rules) -> bool {
        self.failures = 0;
        self.successes = self.successes.saturating_add(1);
        self.successes >= rules.healthy_after
    }

    /// Counts a failed probe. Returns whether the backend fails.
    pub(super) fn count_failure(&mut self, rules: &Rules) -> bool {
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        self.failures >= rules.unhealthy_after
    }

    /// Forgets the probes so far, since a new outage will be another one.
    pub(super) fn forget_probes(&mut self) {
        (self.successes, self.failures, self.is_well) = (0, 0, None);
    }

    /// Returns whether a good probe may end what keeps the backend out, now.
    pub(super) fn may_revive(&self, rules: &Rules, now: Moment) -> bool {
        let is_early = now < self.not_before && is_circuit_out(&self.member.health, rules.on_success);
        !is_early || is_timed_out(&self.member.health, now)
    }

    /// Notes that a good probe ended what kept the backend out.
    pub(super) fn note_revival(&mut self, now: Moment) {
        self.revived = Some(now);
    }

    /// Drops the probe that runs.
    pub(super) fn abort(&mut self) {
        if let Some((probe, _)) = self.running.take() {
            probe.abort();
        }
    }
}

/// Returns whether a backend is out for a reason that a probe can end.
pub(super) fn is_out(health: &Health, rules: &Rules, now: Moment) -> bool {
    is_circuit_out(health, rules.on_success) || is_timed_out(health, now)
}

/// Returns whether a gate decides about the probe of a backend. Not while its probes here fail: without further ones, it
/// would return by itself.
pub(super) fn asks_gate(health: &Health, rules: &Rules, now: Moment) -> bool {
    is_out(health, rules, now) && health.until(Timed::Failing).is_none_or(|until| now.reached(until))
}

/// Circuits that an operator forced are not for probes. A half-open one is for requests, unless probes close it.
fn is_circuit_out(health: &Health, on_success: OnSuccess) -> bool {
    // As it was set, also if its open time is over: until a request comes, a good probe tells earlier.
    match health.circuit().map(|circuit| circuit.state(Moment::EPOCH)) {
        Some(CircuitState::Open) => true,
        Some(CircuitState::HalfOpen) => on_success == OnSuccess::Close,
        _ => false,
    }
}

fn is_timed_out(health: &Health, now: Moment) -> bool {
    let opinions = [Timed::Failing, Timed::Hinted].into_iter();
    opinions.filter_map(|opinion| health.until(opinion)).any(|until| !now.reached(until))
}

/// Returns for how long failing probes keep a backend out: until two further ones should have failed, also if all
/// backends hang. So a prober that is dropped leaves nothing behind.
pub(super) fn hold(rules: &Rules, targets: usize) -> (Duration, Duration) {
    let rounds = u32::try_from(targets / rules.max_concurrent).unwrap_or(u32::MAX).saturating_add(2);
    let cycle = rules.interval.mul_f64(1.0 + rules.jitter).saturating_add(rules.timeout.saturating_mul(rounds));
    (cycle.saturating_mul(4), cycle.saturating_mul(2))
}

fn soon(rules: &Rules, peers: usize, now: Moment, rng: &mut Rng) -> Moment {
    let soon = rules.interval / SOON;
    now.after(soon / 2 + part(soon / 2, rng) + part(spread(rules, peers), rng))
}

/// Returns the time over which the first probes of this many backends are spread.
fn spread(rules: &Rules, peers: usize) -> Duration {
    SPREAD.saturating_mul(u32::try_from(peers).unwrap_or(u32::MAX)).min(rules.interval)
}

/// Returns a random part of a time.
fn part(time: Duration, rng: &mut Rng) -> Duration {
    time.mul_f64(rng.below(1 << 32) as f64 / (1_u64 << 32) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, Fleet, probe::Probes};

    const SECOND: Duration = Duration::from_secs(1);

    fn target() -> Target {
        let fleet = Fleet::plain().backend(Backend::new("a", ())).build().unwrap();
        Target::new(fleet.shared().core.find("a").unwrap())
    }

    // C43
    #[tokio::test]
    async fn waits_stay_within_the_jitter_and_differ() {
        let (rules, target, mut rng) = (Probes::new(()).rules, target(), Rng::seeded(1));
        let started = Moment::since_epoch(100 * SECOND);
        let waits: Vec<_> =
            (0..1_000).map(|_| target.next(&rules, started, started, &mut rng).since(started)).collect();
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!((8 * SECOND..9 * SECOND).contains(least) && (11 * SECOND..=12 * SECOND).contains(most), "{least:?}");
        // A probe that took longer than the interval is followed by the next one.
        let late = started.after(60 * SECOND);
        assert_eq!(target.next(&rules, started, late, &mut rng), late);
    }

    // C43
    #[tokio::test]
    async fn the_first_probes_of_many_backends_are_spread() {
        let (rules, target, mut rng) = (Probes::new(()).rules, target(), Rng::seeded(1));
        let now = Moment::since_epoch(100 * SECOND);
        let mut seconds = [0; 10];
        for _ in 0..10_000 {
            seconds[target.first(&rules, false, 10_000, now, &mut rng).since(now).as_secs() as usize] += 1;
        }
        assert!(seconds.iter().all(|probes| (800..1_200).contains(probes)), "{seconds:?}");
        assert!(target.first(&rules, false, 1, now, &mut rng).since(now) <= SPREAD);
        let opened = target.first(&rules, true, 1, now, &mut rng).since(now);
        assert!((SECOND / 2..=SECOND + SPREAD).contains(&opened), "{opened:?}");
    }

    // C43
    #[tokio::test]
    async fn after_each_relapse_a_good_probe_counts_later() {
        let (rules, mut target, mut rng) = (Probes::new(()).rules, target(), Rng::seeded(1));
        let mut now = Moment::since_epoch(100 * SECOND);
        let mut waits = Vec::new();
        for _ in 0..8 {
            target.note_opening(&rules, 1, now, &mut rng);
            waits.push(target.not_before.since(now).as_secs());
            now = target.not_before;
            target.note_revival(now);
            now = now.after(SECOND);
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 160, 160]);
        // Having served for long, it starts anew.
        target.note_opening(&rules, 1, now.after(3_600 * SECOND), &mut rng);
        assert_eq!(target.relapses, 0);
    }

    // C43, C58
    #[tokio::test]
    async fn extreme_settings_do_not_overflow() {
        let month = Duration::from_secs(30 * 24 * 60 * 60);
        let rules = Probes::new(()).interval(month).timeout(month).jitter(0.5).max_concurrent(1).rules;
        let (mut target, mut rng, now) = (target(), Rng::seeded(1), Moment::from_nanos(u64::MAX - 2));
        for _ in 0..10 {
            target.note_opening(&rules, usize::MAX, now, &mut rng);
            target.note_revival(now);
            target.next(&rules, now, now, &mut rng);
        }
        let (hold, renew) = hold(&rules, usize::MAX);
        assert!(renew <= hold);
    }
}
