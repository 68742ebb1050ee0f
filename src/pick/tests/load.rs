//! The strategies that compare loads and latencies.

use std::time::Duration;

use super::*;
use crate::{
    health::{Measures, Metering, Sample},
    pick::{Latency, LeastLoaded, Needs, PeakEwma},
};

/// A tier whose backends measure what a strategy needs.
struct Loads<P: Strategy> {
    tier: Tier,
    pick: P::Pick,
    metering: Metering,
    measures: Measures,
    now: Moment,
    rng: Rng,
}

impl<P: Strategy> Loads<P> {
    fn new(strategy: &P, tier: Tier) -> Self {
        let (pick, needs) = (new_pick(strategy, &tier), strategy.needs());
        let metering = Metering::default();
        needs.apply(&metering);
        let now = Moment::since_epoch(Duration::from_secs(100));
        Self { pick, tier, metering, measures: needs.measures(), now, rng: Rng::seeded(7) }
    }

    fn pick(&mut self) -> usize {
        self.pick_skipping(&SKIP_NONE)
    }

    fn pick_skipping(&mut self, skip: &Skip) -> usize {
        let now = self.now;
        let clock = move || now;
        let skipped = Skipped::new(skip, &SKIP_NONE, 0);
        self.pick.pick(&self.tier.candidates(), &mut PickContext::new(&mut self.rng, skipped, None, &clock, SLOT))
    }

    fn shares(&mut self, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; self.tier.all.len()];
        (0..picks).for_each(|_| counts[self.pick()] += 1);
        counts
    }

    fn begin(&self, number: usize, calls: usize) {
        (0..calls).for_each(|_| self.tier.all[number].0.load().begin());
    }

    fn sample(&self, number: usize, sample: Sample, millis: u64) {
        let took = Duration::from_millis(millis);
        self.tier.all[number].0.load().sample(self.measures, sample, took, self.now, &self.metering);
    }

    fn took(&self, millis: &[u64]) {
        (0..).zip(millis).for_each(|(number, millis)| self.sample(number, Sample::FirstByte, *millis));
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }
}

const FAILED: Sample = Sample::Failed { retry_after: None };

// C45
#[test]
fn the_fewest_calls_in_flight_by_weight_are_selected_and_equals_at_random() {
    let mut loads = Loads::new(&LeastLoaded::new(), Tier::weighing(&[1, 1, 1, 4]));
    loads.begin(0, 1);
    loads.begin(3, 6);
    // (1 + 1) / 1, 1 / 1, 1 / 1, (6 + 1) / 4
    let shares = loads.shares(1_000);
    assert_eq!((shares[0], shares[3]), (0, 0), "{shares:?}");
    assert!((400..600).contains(&shares[1]), "{shares:?}");
    loads.begin(1, 1);
    loads.begin(2, 1);
    assert_eq!(loads.shares(100)[3], 100);
}

// C45
#[test]
fn skipped_candidates_are_never_selected() {
    for strategy in [LeastLoaded::new(), LeastLoaded::new().scan(0).unwrap()] {
        let mut loads = Loads::new(&strategy, Tier::equals(50));
        let skip = loads.tier.skip((0..50).filter(|place| *place != 33));
        (0..100).for_each(|_| assert_eq!(loads.pick_skipping(&skip), 33));
    }
    let mut loads = Loads::new(&PeakEwma::new(), Tier::equals(50));
    let skip = loads.tier.skip((0..50).filter(|place| *place != 33));
    (0..100).for_each(|_| assert_eq!(loads.pick_skipping(&skip), 33));
    let mut loads = Loads::new(&Latency::new(), Tier::equals(50));
    let skip = loads.tier.skip((0..50).filter(|place| *place != 33));
    (0..100).for_each(|_| assert_eq!(loads.pick_skipping(&skip), 33));
}

// C65: 100 requests over 100 backends: with one choice the fullest one has about 5, with two ln ln 100 / ln 2 + O(1).
#[test]
fn two_choices_keep_the_fullest_backend_near_the_average() {
    for seed in 0..200 {
        let mut loads = Loads::new(&LeastLoaded::new().scan(0).unwrap(), Tier::equals(100));
        loads.rng = Rng::seeded(seed);
        for _ in 0..100 {
            let number = loads.pick();
            loads.begin(number, 1);
        }
        let fullest = loads.tier.all.iter().map(|candidate| candidate.load()).max();
        assert!(fullest.is_some_and(|calls| calls <= 4), "{fullest:?} with seed {seed}");
    }
}

// C65
#[test]
fn loads_follow_the_weights_within_five_percent() {
    let weights = [1, 2, 3, 4];
    let mut loads = Loads::new(&LeastLoaded::new(), Tier::weighing(&weights));
    for _ in 0..1_000 {
        let number = loads.pick();
        loads.begin(number, 1);
    }
    for (candidate, weight) in loads.tier.all.iter().zip(weights) {
        let (calls, exact) = (f64::from(candidate.load()), f64::from(weight) * 100.0);
        assert!((calls - exact).abs() <= 0.05 * exact, "{calls} calls of weight {weight}");
    }
}

// C44, C45
#[test]
fn a_failure_counts_as_a_call_in_flight_for_a_second() {
    let mut loads = Loads::new(&LeastLoaded::new(), Tier::equals(2));
    loads.sample(0, FAILED, 0);
    assert_eq!(loads.shares(100), [0, 100]);
    loads.begin(1, 1);
    assert!(loads.shares(100)[0] > 20, "one failure beside one call");
    loads.wait(Duration::from_millis(500));
    assert_eq!(loads.shares(100), [100, 0], "the failure is half forgotten");
    loads.tier.all[1].0.load().end();
    loads.wait(Duration::from_secs(10));
    assert!(loads.shares(100)[0] > 20, "forgotten");
}

// C46
#[test]
fn the_lowest_peak_times_calls_is_selected() {
    let mut loads = Loads::new(&PeakEwma::new(), Tier::equals(3));
    loads.took(&[10, 20, 90]);
    assert_eq!(loads.shares(100), [100, 0, 0]);
    loads.begin(0, 2);
    assert_eq!(loads.shares(100), [0, 100, 0], "3 × 10 ms, 1 × 20 ms");
    loads.sample(1, Sample::FirstByte, 500);
    assert_eq!(loads.shares(100), [100, 0, 0], "a peak counts at once");
}

// C46
#[test]
fn a_peak_decays_when_it_is_read_and_an_idle_backend_is_tried_again() {
    let mut loads = Loads::new(&PeakEwma::new(), Tier::equals(2));
    loads.took(&[10, 1_000]);
    loads.wait(Duration::from_secs(5));
    loads.sample(0, Sample::FirstByte, 10);
    assert_eq!(loads.shares(100), [100, 0], "368 ms are left");
    loads.wait(Duration::from_secs(50));
    loads.sample(0, Sample::FirstByte, 10);
    let shares = loads.shares(100);
    assert!(shares[1] > 20, "{shares:?}");
    loads.begin(1, 1);
    assert_eq!(loads.shares(100), [100, 0], "an old estimate is not taken for the fastest, so calls in flight count");
}

// C44, C46
#[test]
fn a_failure_is_never_a_fast_answer() {
    let mut loads = Loads::new(&PeakEwma::new(), Tier::equals(2));
    loads.took(&[10, 500]);
    loads.sample(0, FAILED, 0);
    assert_eq!(loads.shares(100), [0, 100], "at least a second");
    loads.sample(1, Sample::Failed { retry_after: Some(Duration::from_secs(30)) }, 0);
    assert_eq!(loads.shares(100), [100, 0], "at least its Retry-After");
    (0..3).for_each(|_| loads.sample(0, FAILED, 0));
    assert_eq!(loads.shares(100), [0, 100], "more with each failure: 64 s");
    let mut slow = Loads::new(&PeakEwma::new(), Tier::equals(2));
    slow.took(&[5_000, 4_000]);
    slow.sample(1, FAILED, 0);
    assert_eq!(slow.shares(100), [100, 0], "never below the present estimate");
}

// C46
#[test]
fn a_cancelled_call_took_at_least_as_long_as_it_ran() {
    let mut loads = Loads::new(&PeakEwma::new(), Tier::equals(2));
    loads.took(&[10, 20]);
    loads.sample(0, Sample::Cancelled, 1);
    assert_eq!(loads.shares(100), [100, 0], "not faster");
    loads.sample(1, Sample::Cancelled, 1);
    assert_eq!(loads.shares(100), [100, 0], "not faster");
    loads.sample(0, Sample::Cancelled, 30);
    assert_eq!(loads.shares(100), [0, 100], "slower");
}

// C46
#[test]
fn a_newcomer_starts_at_the_median_with_one_request_until_its_first_sample() {
    let mut loads = Loads::new(&PeakEwma::new(), Tier::equals(4));
    loads.took(&[10, 30, 50]);
    // The median is 30 ms.
    assert_eq!(loads.shares(100), [100, 0, 0, 0]);
    loads.begin(0, 3);
    let shares = loads.shares(100);
    assert!(shares[1] > 20 && shares[3] > 20, "{shares:?}");
    loads.begin(1, 10);
    assert_eq!(loads.shares(100), [0, 0, 0, 100], "4 × 10, 11 × 30, 50 and 30");
    loads.begin(3, 1);
    (0..3).for_each(|number| loads.begin(number, 100));
    assert_eq!(loads.shares(100)[3], 0, "one request at a time");
    loads.sample(3, Sample::FirstByte, 10);
    assert_eq!(loads.shares(100)[3], 100);
}

// C46
#[test]
fn a_newcomer_beside_a_slow_backend_is_tried_at_once() {
    let mut loads = Loads::new(&PeakEwma::new(), Tier::equals(3));
    loads.took(&[1, 40]);
    let shares = loads.shares(100);
    assert!(shares[0] > 30 && shares[1] == 0 && shares[2] > 30, "{shares:?}");
}

// C46
#[test]
fn a_fleet_of_newcomers_is_spread_over() {
    let mut loads = Loads::new(&PeakEwma::new(), Tier::equals(5));
    for _ in 0..20 {
        let number = loads.pick();
        loads.begin(number, 1);
    }
    assert!(loads.tier.all.iter().all(|candidate| candidate.load() == 4), "{:?}", loads.tier.all);
}

// C47
#[test]
fn the_lowest_time_under_the_threshold_is_selected_and_slower_ones_when_none_is_left() {
    let mut loads = Loads::new(&Latency::new(), Tier::equals(4));
    loads.took(&[300, 305, 900, 2_500]);
    let shares = loads.shares(1_000);
    assert!(shares[0] > 400 && shares[1] > 400, "equal within a tenth: {shares:?}");
    assert_eq!((shares[2], shares[3]), (0, 0));
    let fast = loads.tier.skip([0, 1]);
    assert_eq!(loads.pick_skipping(&fast), 2);
    let but_slow = loads.tier.skip([0, 1, 2]);
    assert_eq!(loads.pick_skipping(&but_slow), 3);
    let mut all_slow = Loads::new(&Latency::new(), Tier::equals(2));
    all_slow.took(&[9_000, 4_000]);
    assert_eq!(all_slow.shares(100), [0, 100]);
}

// C47: a fast backend at its load bound is not gone.
#[test]
fn a_backend_over_the_threshold_gets_no_call_however_loaded_the_fast_ones_are() {
    for times in [&[10, 5_000][..], &[10, 20, 5_000, 9_000], &[5_000, 1_000]] {
        let mut loads = Loads::new(&Latency::new(), Tier::equals(times.len()));
        loads.took(times);
        for _ in 0..1_000 {
            let number = loads.pick();
            loads.begin(number, 1);
        }
        for (candidate, time) in loads.tier.all.iter().zip(times) {
            assert_eq!(candidate.load() > 0, *time <= 2_000, "{times:?}: {:?}", loads.tier.all);
        }
    }
    // Not even while the fast ones share the load with one that is not measured yet.
    let mut loads = Loads::new(&Latency::new(), Tier::equals(3));
    loads.took(&[10, 5_000]);
    for _ in 0..1_000 {
        let number = loads.pick();
        loads.begin(number, 1);
    }
    assert_eq!(loads.tier.all[1].load(), 0);
}

// C47
#[test]
fn the_fastest_backend_gets_no_more_than_its_bound_of_the_calls() {
    let mut loads = Loads::new(&Latency::new(), Tier::equals(4));
    loads.took(&[100, 200, 300, 400]);
    for _ in 0..100 {
        let number = loads.pick();
        loads.begin(number, 1);
    }
    let calls: Vec<_> = loads.tier.all.iter().map(|candidate| candidate.load()).collect();
    assert!(calls[0] <= 32 && calls[0] >= 30, "1.25 times 25: {calls:?}");
}

// C47
#[test]
fn unmeasured_backends_are_tried_with_one_call_each_and_few_of_the_requests() {
    let mut loads = Loads::new(&Latency::new(), Tier::equals(3));
    loads.took(&[100, 120]);
    let shares = loads.shares(10_000);
    assert!((400..600).contains(&shares[2]), "about 5 %: {shares:?}");
    loads.begin(2, 1);
    assert_eq!(loads.shares(1_000)[2], 0);
    loads.sample(2, Sample::FirstByte, 50);
    loads.tier.all[2].0.load().end();
    assert_eq!(loads.shares(1_000)[2], 1_000);
    // After three time constants without a sample.
    loads.sample(2, Sample::FirstByte, 10_000);
    loads.sample(2, FAILED, 0);
    loads.wait(Duration::from_secs(29));
    loads.took(&[100, 120]);
    assert_eq!(loads.shares(1_000)[2], 0);
    loads.wait(Duration::from_secs(2));
    loads.took(&[100, 120]);
    assert!(loads.shares(1_000)[2] > 0);
}

// C66
#[test]
fn load_aware_strategies_divide_by_the_share() {
    fn calls<P: Strategy>(strategy: &P) -> Vec<u32> {
        let mut loads = Loads::new(strategy, Tier::equals(2));
        loads.took(&[10, 10]);
        loads.tier.all[1].0.load().set_capacity(0.25);
        for _ in 0..100 {
            let number = loads.pick();
            loads.begin(number, 1);
        }
        loads.tier.all.iter().map(Candidate::load).collect()
    }
    for calls in [calls(&LeastLoaded::new()), calls(&PeakEwma::new()), calls(&Latency::new())] {
        assert!((19..=21).contains(&calls[1]), "a fifth: {calls:?}");
    }
}

// C65, C58
#[test]
fn settings_out_of_their_range_are_refused_by_name() {
    let refused = [
        LeastLoaded::new().choices(1).err(),
        LeastLoaded::new().choices(17).err(),
        LeastLoaded::new().scan(257).err(),
        LeastLoaded::new().failure_penalty(Duration::ZERO).err(),
        PeakEwma::new().choices(0).err(),
        PeakEwma::new().exponent(f32::NAN).err(),
        PeakEwma::new().exponent(-1.0).err(),
        PeakEwma::new().time_constant(Duration::ZERO).err(),
        PeakEwma::new().failure_penalty(Duration::MAX).err(),
        Latency::new().exploration(1.5).err(),
        Latency::new().exploration(f32::NAN).err(),
        Latency::new().threshold(Duration::ZERO).err(),
        Latency::new().load_bound(0.9).err(),
        Latency::new().load_bound(f32::INFINITY).err(),
    ];
    for (index, error) in refused.into_iter().enumerate() {
        let error = error.unwrap_or_else(|| panic!("{index} is refused"));
        assert!(!error.field().is_empty() && error.reason().starts_with("must be"), "{error}");
    }
    let error = PeakEwma::new().choices(1).unwrap_err();
    assert_eq!(error.to_string(), "peak ewma: choices 1 must be from 2 to 16");
}

// C65
#[test]
fn strategies_that_compare_no_loads_need_nothing() {
    assert_eq!(Strategy::needs(&super::super::RoundRobin::new()), Needs::NOTHING);
    assert_eq!(Strategy::needs(&super::super::Shuffle::new()), Needs::NOTHING);
}
