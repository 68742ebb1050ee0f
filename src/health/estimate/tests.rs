//! Tests of the estimate.

use super::*;

const TAU: Duration = Duration::from_secs(2);

fn at(millis: u64) -> Moment {
    Moment::since_epoch(Duration::from_secs(1_000) + Duration::from_millis(millis))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn value(estimate: &Estimate, now: Moment) -> f64 {
    let (value, left) = estimate.read(now, Decay::over(TAU)).expect("a sample");
    f64::from(value * left) / 1e6
}

fn assert_close(value: f64, expected: f64) {
    assert!((value - expected).abs() <= 0.01 * expected.max(1.0), "{value}, expected {expected}");
}

#[test]
fn the_decay_is_exponential() {
    for x in 0..2_000 {
        let x = x as f32 / 50.0;
        let (value, exact) = (f64::from(half_to_the(x)), 0.5_f64.powf(f64::from(x)));
        assert!((value - exact).abs() <= 1e-3 * exact, "{x}: {value}, expected {exact}");
    }
    assert_eq!((half_to_the(0.0), half_to_the(1e9)), (1.0, 0.0));
}

// C46
#[test]
fn a_peak_jumps_up_and_decays_with_the_time_also_without_samples() {
    let (estimate, decay) = (Estimate::default(), Decay::over(TAU));
    assert_eq!(estimate.read(at(0), decay), None);
    estimate.peak(ms(10), at(0), decay);
    estimate.peak(ms(500), at(0), decay);
    assert_close(value(&estimate, at(0)), 500.0);
    assert_close(value(&estimate, at(2_000)), 500.0 * (-1_f64).exp());
    estimate.peak(ms(10), at(2_000), decay);
    assert_close(value(&estimate, at(2_000)), 500.0 * (-1_f64).exp() + 10.0 * (1.0 - (-1_f64).exp()));
    // With many fast samples it falls as fast, and not faster.
    for millis in 2_001..4_000 {
        (0..10).for_each(|_| estimate.peak(ms(10), at(millis), decay));
    }
    assert_close(value(&estimate, at(4_000)), 500.0 * (-2_f64).exp() + 10.0 * (1.0 - (-2_f64).exp()));
}

// C47
#[test]
fn a_mean_weighs_by_time() {
    let (estimate, decay) = (Estimate::default(), Decay::over(TAU));
    estimate.mean(ms(100), at(0), decay);
    for millis in 1..20_000 {
        estimate.mean(ms(if millis % 2 == 0 { 100 } else { 300 }), at(millis), decay);
    }
    let (value, _) = estimate.read(at(20_000), decay).unwrap();
    assert!((190e6..210e6).contains(&value), "{value}");
}

// C46
#[test]
fn a_lower_bound_raises_an_estimate_and_never_lowers_it() {
    let (estimate, decay) = (Estimate::default(), Decay::over(TAU));
    estimate.at_least(ms(1), at(0), decay);
    assert_eq!(estimate.read(at(0), decay), None, "a cancelled call is no first sample");
    let bound = |millis| f64::from(estimate.bound(at(millis), decay)) / 1e6;
    assert_close(bound(0), 1.0);
    estimate.at_least(ms(80), at(0), decay);
    estimate.at_least(ms(60), at(0), decay);
    assert_close(bound(0), 80.0);
    assert!(bound(1_000_000) < 1.0, "decays");
    for first in [Estimate::peak, Estimate::mean] {
        let other = Estimate::default();
        other.at_least(ms(80), at(0), decay);
        first(&other, ms(5), at(0), decay);
        assert_close(value(&other, at(0)), 5.0);
        assert_eq!(other.bound(at(0), decay), 0.0);
    }
    estimate.peak(ms(50), at(0), decay);
    estimate.at_least(ms(1), at(5), decay);
    assert_close(value(&estimate, at(0)), 50.0);
    estimate.at_least(ms(70), at(5), decay);
    assert_close(value(&estimate, at(5)), 70.0);
}

// C46
#[test]
fn a_failure_never_lowers_an_estimate_and_grows_with_the_next() {
    let (estimate, decay) = (Estimate::default(), Decay::over(TAU));
    estimate.penalize(ms(1_000), at(0), decay);
    assert_close(value(&estimate, at(0)), 1_000.0);
    estimate.penalize(ms(1_000), at(0), decay);
    assert_close(value(&estimate, at(0)), 4_000.0);
    (0..100).for_each(|_| estimate.penalize(ms(1), at(0), decay));
    assert_close(value(&estimate, at(0)), 600_000.0);
    let slow = Estimate::default();
    slow.peak(Duration::from_secs(3_600), at(0), decay);
    slow.penalize(ms(1), at(0), decay);
    assert_close(value(&slow, at(0)), 3_600_000.0);
}

#[test]
fn samples_of_zero_late_readers_and_extreme_times_are_harmless() {
    let (estimate, decay) = (Estimate::default(), Decay::over(Duration::ZERO));
    estimate.peak(Duration::ZERO, at(0), decay);
    assert!(estimate.read(at(0), decay).is_some());
    estimate.peak(Duration::MAX, at(10), decay);
    let (value, left) = estimate.read(at(0), decay).unwrap();
    assert!(value.is_finite() && left == 1.0, "a reader with an earlier time sees the estimate undecayed");
    estimate.mean(Duration::MAX, Moment::NEVER, Decay::over(Duration::MAX));
    estimate.penalize(Duration::MAX, Moment::EPOCH, Decay::over(Duration::MAX));
    assert!(estimate.read(Moment::NEVER, decay).unwrap().0.is_finite());
}
