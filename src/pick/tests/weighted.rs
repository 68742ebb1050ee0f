//! Smooth weighted round robin.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::pick::Weighted;

/// The rule of nginx: each backend gains its weight as credit; the first one of the highest credit is picked, and pays
/// the sum of the weights.
fn nginx(weights: &[u32], count: usize) -> Vec<usize> {
    let sum: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
    let mut credits = vec![0; weights.len()];
    let turn = |_| {
        credits.iter_mut().zip(weights).for_each(|(credit, weight)| *credit += i64::from(*weight));
        let highest = (0..weights.len()).rev().max_by_key(|index| credits[*index]).expect("at least one backend");
        credits[highest] -= sum;
        highest
    };
    (0..count).map(turn).collect()
}

fn letters(weights: &[u32], count: usize) -> String {
    let tier = Tier::weighing(weights);
    picks(&new_pick(&Weighted::new(), &tier), &tier, count).iter().map(|index| (b'a' + *index as u8) as char).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

pub(super) fn reduced(weights: &[u32]) -> Vec<usize> {
    let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, u64::from(*weight)));
    weights.iter().map(|weight| (u64::from(*weight) / divisor) as usize).collect()
}

/// Weights with an order that is too long for a table.
pub(super) const LONG: [u32; 4] = [10_007, 4_999, 3_001, 2];

/// One period of the order, by the rule of nginx.
pub(super) fn order(weights: &[u32]) -> Vec<usize> {
    nginx(weights, reduced(weights).iter().sum())
}

// C5
#[test]
fn the_order_is_smooth_and_begins_with_the_first_of_equals() {
    assert_eq!(letters(&[3, 2, 1], 12), "abacbaabacba");
    assert_eq!(letters(&[5, 1, 1], 14), "aabacaaaabacaa");
    assert_eq!(letters(&[2, 1], 6), "abaaba");
    assert_eq!(letters(&[1, 1, 1], 6), "abcabc");
    assert_eq!(letters(&[6, 4, 2], 6), "abacba");
    assert_eq!(letters(&[1], 3), "aaa");
}

// C5
#[test]
fn seventy_to_thirty_is_exactly_seventy_of_a_hundred() {
    let tier = Tier::weighing(&[70, 30]);
    let pick = new_pick(&Weighted::new(), &tier);
    for _ in 0..10 {
        assert_eq!(counts(&picks(&pick, &tier, 100), 2), [70, 30]);
    }
}

proptest! {
    // C5
    #[test]
    fn the_order_is_that_of_nginx(weights in prop::collection::vec(1..=60_u32, 1..=20)) {
        let tier = Tier::weighing(&weights);
        let pick = new_pick(&Weighted::new(), &tier);
        let twice = 2 * weights.iter().sum::<u32>() as usize;
        prop_assert_eq!(picks(&pick, &tier, twice), nginx(&weights, twice));
    }

    // C5
    #[test]
    fn shares_are_exact_in_every_period_from_any_step(
        weights in prop::collection::vec(1..=60_u32, 1..=20),
        offset in 0..2_000_usize,
    ) {
        let tier = Tier::weighing(&weights);
        let pick = new_pick(&Weighted::new(), &tier);
        let shares = reduced(&weights);
        picks(&pick, &tier, offset);
        for _ in 0..3 {
            prop_assert_eq!(&counts(&picks(&pick, &tier, shares.iter().sum()), weights.len()), &shares);
        }
    }
}

// C3, C5
#[test]
fn shares_of_each_of_eight_threads_are_exact_over_a_period() {
    for weights in [vec![3, 2, 1], vec![5, 1, 1], vec![70, 30], (1..=40).collect(), LONG.to_vec()] {
        let tier = Tier::weighing(&weights);
        let pick = new_pick(&Weighted::new(), &tier);
        let shares = reduced(&weights);
        let period = shares.iter().sum::<usize>();
        let of_threads = picks_of_threads(SLOTS, &SKIP_NONE, &pick, &tier, 2 * period);
        for picks in &of_threads {
            // From any step on.
            assert_eq!(counts(&picks[period / 3..][..period], weights.len()), shares, "{weights:?}");
        }
        // At any time, the total deviates by one request per thread at most.
        for each in [1, 2, period / 2, period + period / 3] {
            let all: Vec<_> = of_threads.iter().flat_map(|picks| &picks[..each]).copied().collect();
            for (count, share) in counts(&all, weights.len()).into_iter().zip(&shares) {
                let expected = (all.len() * share) as f64 / period as f64;
                assert!((count as f64 - expected).abs() <= THREADS as f64, "{count} for {expected}, {weights:?}");
            }
        }
        let first: HashSet<_> = of_threads.iter().map(|picks| picks[..6].to_vec()).collect();
        assert!(first.len() > 1, "all threads run in lockstep: {weights:?}");
    }
}

// C6
#[test]
fn ten_thousand_backends_of_the_largest_weight_get_equal_shares() {
    let tier = Tier::weighing(&[u32::MAX; 10_000]);
    let pick = new_pick(&Weighted::new(), &tier);
    assert!(counts(&picks(&pick, &tier, 30_000), 10_000).iter().all(|count| *count == 3));
}
