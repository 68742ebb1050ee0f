//! The weighted order while the shares of backends change.

use proptest::prelude::*;

use super::{
    weighted::{LONG, order},
    *,
};
use crate::pick::Weighted;

/// The tier with other shares. Its candidates are new, with the same ids.
fn shared(weights: &[u32], shares: &[f32]) -> Tier {
    let tier = Tier::weighing(weights);
    tier.all.iter().zip(shares).for_each(|(candidate, share)| candidate.set_share(*share));
    tier
}

// C49: equal shares have no effect.
#[test]
fn equal_shares_leave_the_order_as_it_is() {
    for weights in [&[3, 2, 1][..], &[1, 1, 1], &LONG] {
        let tier = shared(weights, &vec![0.1; weights.len()]);
        let pick = new_pick(&Weighted::new(), &tier);
        assert_eq!(picks(&pick, &tier, 100), picks(&new_pick(&Weighted::new(), &Tier::weighing(weights)), &tier, 100));
    }
}

// C5, C49
#[test]
fn a_share_is_exact_to_a_part_of_the_weight() {
    for (weights, shares, expected) in [
        (&[1, 1][..], &[1.0, 0.5][..], &[2, 1][..]),
        (&[1, 1, 1], &[1.0, 1.0, 0.1], &[32, 32, 3]),
        (&[3, 2, 1], &[0.5, 1.0, 1.0], &[3, 4, 2]),
        // At least one part.
        (&[1, 1], &[1.0, 0.001], &[64, 1]),
        (&[70, 30], &[1.0, 0.25], &[28, 3]),
    ] {
        let tier = shared(weights, shares);
        let period = expected.iter().sum::<u32>() as usize;
        let chosen = picks(&new_pick(&Weighted::new(), &tier), &tier, period);
        assert_eq!(chosen, order(expected), "{weights:?} by {shares:?}");
    }
}

// C49, C6: too many for a table.
#[test]
fn one_of_ten_thousand_gets_its_share() {
    let mut shares = vec![1.0; 10_000];
    shares[77] = 0.25;
    let tier = shared(&vec![u32::MAX; 10_000], &shares);
    let chosen = picks(&new_pick(&Weighted::new(), &tier), &tier, 80_000);
    let counts = counts(&chosen, 10_000);
    assert!((1..=3).contains(&counts[77]) && counts[78] == 8, "{} and {}", counts[77], counts[78]);
}

// C7, C49
#[test]
fn the_backend_that_was_next_before_a_step_is_next_after_it() {
    let steps: [(f32, &[u32]); 4] = [(1.0, &[1, 1, 1, 1]), (0.5, &[2, 2, 2, 1]), (0.25, &[4, 4, 4, 1]), (1.0, &[1; 4])];
    for window in steps.windows(2) {
        let [(share, parts), (next_share, _)] = window else { continue };
        for done in 0..20 {
            let before = shared(&[1; 4], &[1.0, 1.0, 1.0, *share]);
            let pick = new_pick(&Weighted::new(), &before);
            picks(&pick, &before, done);
            let order = order(parts);
            let after = shared(&[1; 4], &[1.0, 1.0, 1.0, *next_share]);
            let pick = next_pick(&Weighted::new(), &after, &pick, &before);
            assert_eq!(picks(&pick, &after, 1), [order[done % order.len()]], "{share} to {next_share} after {done}");
        }
    }
}

proptest! {
    // C5, C7, C49: a step is no burst: no backend gets more than its part and two requests, however often shares change.
    #[test]
    fn no_step_of_a_share_is_followed_by_a_burst(
        weights in prop::collection::vec(1..=9_u32, 2..=6),
        steps in prop::collection::vec((any::<prop::sample::Index>(), 1..=10_u32, 1..200_usize), 1..30),
    ) {
        let mut shares = vec![1.0_f32; weights.len()];
        let mut tier = shared(&weights, &shares);
        let mut pick = new_pick(&Weighted::new(), &tier);
        for (which, tenths, requests) in steps {
            shares[which.index(weights.len())] = tenths as f32 / 10.0;
            let next = shared(&weights, &shares);
            pick = next_pick(&Weighted::new(), &next, &pick, &tier);
            let counts = counts(&picks(&pick, &next, requests), weights.len());
            let parts: Vec<f64> = weights.iter().zip(&shares).map(|(weight, share)| f64::from(*weight) * f64::from(*share)).collect();
            let sum: f64 = parts.iter().sum();
            for (count, part) in counts.iter().zip(&parts) {
                // Rounding to 1/64 of a weight, or to 1/16 of one in the longest tables.
                let expected = *part / sum * requests as f64;
                let bound = 2.5 + 0.1 * expected;
                prop_assert!((*count as f64 - expected).abs() <= bound, "{count} in place of {expected:.1} of {requests}: {weights:?} by {shares:?}");
            }
            tier = next;
        }
    }
}
