//! Histories of outliers: what the comparison and the answer come to over many intervals.

use std::time::Duration;

use proptest::prelude::*;

use super::{settings::Outliers, *};
use crate::{health::share::FULL_SHARE, time::Moment};

const SECOND: Duration = Duration::from_secs(1);

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The calls of a backend in an interval.
#[derive(Clone, Copy, Debug)]
struct Calls {
    good: u32,
    failed: u32,
    took: Duration,
}

/// This many calls of 20 ms, of which some failed.
fn calls(calls: u32, failed: u32) -> Calls {
    Calls { good: calls - failed, failed, took: millis(20) }
}

fn slow(calls: u32, took: Duration) -> Calls {
    Calls { good: calls, failed: 0, took }
}

fn counts(calls: Calls) -> Counts {
    let tally = Tally::default();
    (0..calls.good).for_each(|call| tally.succeeded(calls.took.mul_f64(0.8 + 0.4 * f64::from(call % 11) / 10.0)));
    (0..calls.failed).for_each(|_| tally.failed());
    tally.take()
}

fn verdicts(settings: &Outliers, tier: &[Calls]) -> Vec<Verdict> {
    let hosts: Vec<_> = tier.iter().map(|calls| Host { share: FULL_SHARE, counts: counts(*calls) }).collect();
    judge(settings, &hosts)
}

const NONE: [usize; 0] = [];

/// The places of the outliers of a tier.
fn outliers(tier: &[Calls]) -> Vec<usize> {
    let verdicts = verdicts(&Outliers::new(), tier);
    (0..).zip(verdicts).filter(|(_, verdict)| matches!(verdict, Verdict::Outlier(_))).map(|(place, _)| place).collect()
}

// C67
#[test]
fn each_rule_finds_its_outlier() {
    let good = calls(100, 0);
    let reason = |tier: &[Calls]| match verdicts(&Outliers::new(), tier)[..] {
        [Verdict::Outlier(reason), ..] => reason.to_string(),
        ref verdicts => panic!("{verdicts:?}"),
    };
    assert_eq!(reason(&[calls(100, 80), good, good]), "80 of 100 calls failed");
    let few = calls(100, 20);
    assert_eq!(reason(&[few, good, good]), "20 of 100 calls failed, and 0.0 % of those of its peers");
    let slow = reason(&[slow(100, millis(100)), good, good]);
    assert!(slow.starts_with("the first byte took 9") && slow.contains("the median of the tier is 19."), "{slow}");
}

// C67
#[test]
fn a_rule_that_is_switched_off_finds_nothing() {
    let good = calls(100, 0);
    let off = |settings: Outliers, tier: &[Calls]| verdicts(&settings, tier)[0] == Verdict::Usual;
    let failing = [calls(100, 80), good, good];
    assert!(off(Outliers::new().failure_share(None).success_rate(None), &failing));
    assert!(!off(Outliers::new().failure_share(None), &failing) && !off(Outliers::new().success_rate(None), &failing));
    assert!(off(Outliers::new().latency(None), &[slow(100, SECOND), good, good]));
}

// C67: a tier in which most fail or are slow has another problem.
#[test]
fn no_backend_of_a_tier_that_is_slow_or_fails_is_an_outlier() {
    for bad in [slow(100, SECOND), calls(100, 100), calls(100, 60), calls(100, 95)] {
        for size in [3, 4, 10] {
            assert_eq!(outliers(&vec![bad; size]), NONE, "{bad:?}");
            let mut most = vec![bad; size];
            most[0] = calls(100, 0);
            assert_eq!(outliers(&most), NONE, "all but one of {size}: {bad:?}");
        }
    }
    let (slow, good) = (slow(100, SECOND), calls(100, 0));
    assert_eq!(outliers(&[slow, good, slow, good]), [0, 2], "half of them");
    assert_eq!(outliers(&[slow, good, slow, good, slow]), NONE, "more than half of them");
}

// C67
#[test]
fn fewer_than_three_backends_are_not_compared() {
    let (slow, good, few) = (slow(100, SECOND), calls(100, 0), calls(49, 0));
    for tier in [&[slow][..], &[slow, good], &[slow, good, few], &[slow, good, few, few, few]] {
        assert_eq!(verdicts(&Outliers::new(), tier), vec![Verdict::Unknown; tier.len()]);
    }
    assert_eq!(outliers(&[slow, good, good]), [0]);
    let four = Outliers::new().minimum_hosts(4);
    assert_eq!(verdicts(&four, &[slow, good, good])[0], Verdict::Unknown);
}

// C67
#[test]
fn a_backend_with_few_calls_is_not_known() {
    let good = calls(100, 0);
    assert_eq!(verdicts(&Outliers::new(), &[calls(49, 49), good, good, good])[0], Verdict::Unknown);
    assert_eq!(outliers(&[calls(50, 50), good, good, good]), [0]);
    // Calls that failed have no time that counts.
    let tier = [Calls { good: 49, failed: 6, took: SECOND }, good, good, good];
    assert_eq!(outliers(&tier), NONE);
}

// C67: a backend with a tenth of the traffic has a tenth of the calls.
#[test]
fn a_backend_with_less_traffic_needs_fewer_calls() {
    let host = |share, calls| Host { share, counts: counts(calls) };
    let good = host(FULL_SHARE, calls(100, 0));
    let verdict = |share, few| judge(&Outliers::new(), &[host(share, few), good, good])[0];
    let tenth = FULL_SHARE / 10;
    assert!(matches!(verdict(tenth, slow(5, SECOND)), Verdict::Outlier(_)));
    assert_eq!(verdict(tenth, slow(4, SECOND)), Verdict::Unknown);
    assert_eq!(verdict(FULL_SHARE / 2, slow(24, SECOND)), Verdict::Unknown);
    assert_eq!(verdict(tenth, calls(5, 1)), Verdict::Usual, "one of five is chance");
}

// C67
#[test]
fn what_chance_explains_is_no_outlier() {
    let good = calls(50, 0);
    for failed in 0..=6 {
        assert_eq!(outliers(&[calls(50, failed), good, good, good]), NONE, "{failed} of 50");
    }
    // More calls show a smaller difference.
    let good = calls(2_000, 0);
    assert_eq!(outliers(&[calls(2_000, 80), good, good]), NONE, "4 %");
    assert_eq!(outliers(&[calls(2_000, 150), good, good]), [0], "7.5 %");
}

// C67
#[test]
fn a_small_difference_of_latency_is_none() {
    let usual = |took| slow(100, took);
    assert_eq!(outliers(&[usual(millis(59)), usual(millis(20)), usual(millis(20))]), NONE, "not three times");
    assert_eq!(outliers(&[usual(millis(62)), usual(millis(20)), usual(millis(20))]), [0]);
    assert_eq!(outliers(&[usual(millis(9)), usual(millis(1)), usual(millis(1))]), NONE, "under the floor");
    let near = [usual(millis(14)), usual(millis(4)), usual(millis(4))];
    assert_eq!(outliers(&near), [0]);
    let settings = Outliers::new().latency_difference(millis(15));
    assert_eq!(verdicts(&settings, &near)[0], Verdict::Usual, "10 ms apart");
}

// C67: two kinds of requests, of 2 and of 200 ms, in any mixture that chance makes of them.
#[test]
fn different_mixtures_of_requests_eject_no_backend() {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut mixture = || {
        let tally = Tally::default();
        (0..50).for_each(|_| tally.succeeded(millis(if rng.bool() { 2 } else { 200 })));
        Host { share: FULL_SHARE, counts: tally.take() }
    };
    let mut histories: Vec<_> = (0..10).map(|_| History::new()).collect();
    let mut reduced = 0;
    for _ in 0..1_000 {
        let hosts: Vec<_> = histories.iter().map(|_| mixture()).collect();
        for (history, verdict) in histories.iter_mut().zip(judge(&Outliers::new(), &hosts)) {
            reduced += usize::from(history.interval(verdict) < 100.0);
            assert!(!history.standing.is_ejected(&history.settings));
        }
    }
    assert!(reduced < 30, "in {reduced} of 10,000 intervals");
}

/// A backend and what happens to it, one interval of 10 s after the other.
struct History {
    settings: Outliers,
    standing: Standing,
    now: Moment,
    may_eject: bool,
    /// How often an interval ended with an ejection.
    ejections: u32,
}

impl History {
    fn new() -> Self {
        Self { settings: Outliers::new(), standing: Standing::USUAL, now: Moment::EPOCH, may_eject: true, ejections: 0 }
    }

    /// Passes this long without an evaluation. Returns the change, if there is one.
    fn pass(&mut self, time: Duration) -> Option<OutlierChange> {
        self.now = self.now.after(time);
        self.standing.expire(&self.settings, self.now)
    }

    /// Passes an interval and evaluates it.
    fn interval(&mut self, verdict: Verdict) -> f32 {
        self.pass(self.settings.interval);
        let change = self.standing.judge(&self.settings, verdict, || self.may_eject, self.now);
        self.ejections += u32::from(matches!(change, Some(OutlierChange::Ejected { .. })));
        self.share()
    }

    fn intervals(&mut self, verdict: Verdict, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.interval(verdict)).collect()
    }

    /// The share in percent; 0 for an ejected backend.
    fn share(&self) -> f32 {
        let share = self.standing.share(&self.settings) as f32 / FULL_SHARE as f32;
        if self.standing.is_ejected(&self.settings) { 0.0 } else { (share * 100.0).round() }
    }

    fn is_over(&self) -> bool {
        self.standing == Standing::USUAL
    }
}

const SLOW: Verdict = Verdict::Outlier(OutlierReason::Failures { failed: 9, calls: 10 });

// C66, C67
#[test]
fn an_outlier_gets_less_traffic_then_none_and_comes_back_in_steps() {
    let mut history = History::new();
    assert_eq!(history.intervals(SLOW, 4), [50.0, 25.0, 10.0, 0.0]);
    assert!(history.standing.reason().is_some());
    // 30 s without calls, then one level for each interval.
    assert_eq!(history.intervals(Verdict::Unknown, 3), [0.0, 0.0, 10.0]);
    assert_eq!(history.intervals(Verdict::Usual, 4), [25.0, 50.0, 100.0, 100.0]);
    assert!(history.is_over());
}

// C67: recovery does not need traffic, and takes a bounded time.
#[test]
fn a_backend_without_calls_is_back_after_a_while() {
    let mut history = History::new();
    history.intervals(SLOW, 4);
    let shares: Vec<_> = (0..10).map(|_| (history.pass(SECOND * 10), history.share()).1).collect();
    assert_eq!(shares, [0.0, 0.0, 10.0, 10.0, 25.0, 25.0, 50.0, 50.0, 100.0, 100.0]);
    history.pass(SECOND * 10);
    assert!(history.is_over(), "{:?}", history.standing);
}

// C67
#[test]
fn an_outlier_again_is_ejected_at_once_and_for_longer() {
    let mut history = History::new();
    let time = |history: &mut History| match history.standing.judge(&history.settings, SLOW, || true, history.now) {
        Some(OutlierChange::Ejected { time, .. }) => time.as_secs(),
        other => panic!("{other:?}"),
    };
    history.intervals(SLOW, 3);
    let mut times = Vec::new();
    for _ in 0..12 {
        let ejected = time(&mut history);
        times.push(ejected);
        assert!(history.pass(Duration::from_secs(ejected) - millis(1)).is_none());
        assert!(matches!(history.pass(millis(1)), Some(OutlierChange::Returned { share }) if share < 0.11));
    }
    assert_eq!(times, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
    // Three intervals for the levels, twelve for the ejections.
    history.intervals(Verdict::Usual, 15);
    assert!(history.is_over(), "{:?}", history.standing);
}

// C42, C67
#[test]
fn an_outlier_that_may_not_be_ejected_keeps_the_smallest_share() {
    let mut history = History::new();
    history.may_eject = false;
    assert_eq!(history.intervals(SLOW, 6), [50.0, 25.0, 10.0, 10.0, 10.0, 10.0]);
    assert_eq!(history.intervals(Verdict::Usual, 3), [25.0, 50.0, 100.0]);
    assert!(history.is_over());
}

// C66, C67
#[test]
fn a_flapping_backend_is_not_ejected() {
    let mut history = History::new();
    for _ in 0..20 {
        assert_eq!((history.interval(SLOW), history.interval(Verdict::Usual)), (50.0, 100.0));
    }
}

// C67
#[test]
fn the_floor_decides_the_levels() {
    for (floor, expected) in [
        (1.0, vec![100.0]),
        (0.6, vec![100.0, 60.0]),
        (0.5, vec![100.0, 50.0]),
        (0.25, vec![100.0, 50.0, 25.0]),
        (0.1, vec![100.0, 50.0, 25.0, 10.0]),
        (0.05, vec![100.0, 50.0, 25.0, 12.5, 5.0]),
    ] {
        let settings = Outliers::new().floor(floor);
        let share = |level| (f64::from(settings.share(level)) / f64::from(FULL_SHARE) * 1_000.0).round() / 10.0;
        assert_eq!((0..=settings.levels()).map(share).collect::<Vec<_>>(), expected, "{floor}");
    }
}

// C58
#[test]
fn a_setting_that_makes_no_sense_is_refused_by_name() {
    let good = Outliers::new();
    assert!(good.checked().is_ok());
    for (settings, expected) in [
        (good.interval(Duration::ZERO), "outliers: interval 0ns must be longer than zero"),
        (good.interval(Duration::MAX), "must be at most 30 days"),
        (good.minimum_calls(4), "outliers: minimum_calls 4 must be from 5 to 1048576"),
        (good.minimum_hosts(2), "outliers: minimum_hosts 2 must be from 3 to"),
        (good.failure_share(0.0), "outliers: failure_share 0 must be a share over 0 and up to 1"),
        (good.failure_share(f64::NAN), "outliers: failure_share NaN must be"),
        (good.failure_share(50.0), "for 50 %, write 0.5"),
        (good.failure_share(1.0), "outliers: failure_share 1 must be less than 1, or no share is above it"),
        (good.success_rate(0.9), "outliers: success_rate 0.9 must be a number from 1 to 1000"),
        (good.success_rate(f64::NAN), "outliers: success_rate NaN must be"),
        (good.latency(f64::INFINITY), "outliers: latency inf must be"),
        (good.latency(0.5), "outliers: latency 0.5 must be a number from 1"),
        (good.latency_difference(Duration::ZERO), "outliers: latency_difference 0ns must be"),
        (good.latency_floor(Duration::ZERO), "outliers: latency_floor 0ns must be"),
        (good.floor(0.0), "outliers: floor 0 must be a share over 0"),
        (good.floor(f64::NAN), "outliers: floor NaN must be"),
        (good.eject_for(Duration::ZERO), "outliers: eject_for 0ns must be"),
        (good.max_eject_for(SECOND), "outliers: max_eject_for 1s must be at least as long as eject_for"),
        (good.failure_share(None).success_rate(None).latency(None), "at least one of failure_share, success_rate"),
    ] {
        let error = settings.checked().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

fn any_calls() -> impl Strategy<Value = Calls> {
    let took = prop_oneof![Just(0), 0..100_000_000_u64, any::<u64>()];
    (0..200_u32, 0..200_u32, took).prop_map(|(good, failed, nanos)| Calls {
        good,
        failed,
        took: Duration::from_nanos(nanos),
    })
}

// C67: a fast failure is not fast.
#[test]
fn what_succeeds_fast_at_failing_backends_makes_none_of_the_others_slow() {
    let failing = Calls { good: 50, failed: 85, took: Duration::ZERO };
    let well = slow(57, Duration::from_micros(14_800));
    assert_eq!(outliers(&[failing, failing, well, well]), [0, 1]);
    assert_eq!(outliers(&[failing, failing, failing, well, well, well, slow(57, millis(150))]), [0, 1, 2, 6]);
}

proptest! {
    // C58, C67
    #[test]
    fn at_most_half_of_a_tier_is_slow_and_one_usual_backend_remains(tier in prop::collection::vec(any_calls(), 0..12)) {
        let verdicts = verdicts(&Outliers::new(), &tier);
        let slow = |verdict: &&Verdict| matches!(verdict, Verdict::Outlier(OutlierReason::Latency { .. }));
        prop_assert!(verdicts.iter().filter(slow).count() <= tier.len() / 2);
        let known: Vec<_> = verdicts.iter().filter(|verdict| **verdict != Verdict::Unknown).collect();
        prop_assert!(known.is_empty() || (known.len() >= 3 && known.iter().any(|verdict| **verdict == Verdict::Usual)));
    }

    // C66, C67: whatever happened before, and whatever is not known since.
    #[test]
    fn every_history_ends_in_a_bounded_time(
        verdicts in prop::collection::vec((0..3_u8, any::<bool>()), 0..60), eject_for in 1..1_000_u64, floor in 0.001..=1.0,
    ) {
        let mut history = History::new();
        let eject_for = Duration::from_secs(eject_for);
        history.settings = history.settings.eject_for(eject_for).max_eject_for(eject_for * 5).floor(floor);
        prop_assert!(history.settings.checked().is_ok());
        for (verdict, may_eject) in verdicts {
            history.may_eject = may_eject;
            let was_ejected = history.standing.is_ejected(&history.settings);
            let before = history.standing.share(&history.settings);
            history.interval([SLOW, Verdict::Usual, Verdict::Unknown][usize::from(verdict)]);
            let is_ejected = history.standing.is_ejected(&history.settings);
            prop_assert!(may_eject || was_ejected || !is_ejected);
            prop_assert!(!is_ejected || was_ejected || before == history.settings.share(history.settings.levels()));
        }
        let steps = u32::from(history.settings.levels()) + 1 + history.ejections;
        let bound = eject_for * 5 + history.settings.interval * 2 * steps;
        let mut passed = Duration::ZERO;
        while !history.is_over() && passed <= bound {
            history.pass(SECOND);
            passed += SECOND;
        }
        prop_assert!(history.is_over(), "{:?} after {passed:?}", history.standing);
    }
}
