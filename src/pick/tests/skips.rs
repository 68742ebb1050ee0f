//! Skipped backends are passed over, and the others keep their shares among themselves.

use super::{weighted::LONG, *};
use crate::pick::{PickFn, Primary, RoundRobin, Shuffle, Weighted, pick_fn};

/// Weights with an order that is a table.
const TABLE: [u32; 4] = [5, 3, 2, 1];
/// The largest weight covers nearly all of the order, which is too long for a table.
const STEEP: [u32; 4] = [4_000_000, 3, 2, 1];

/// Skips each backend in turn, on one thread and on eight concurrent ones. Checks that over one period of the others
/// each of them gets its weight.
fn assert_shares<P: Strategy>(strategy: &P, weights: &[u32]) {
    let tier = Tier::weighing(weights);
    for skipped in 0..weights.len() {
        let skip = tier.skip([skipped]);
        let shares: Vec<_> = (0..weights.len()).map(|i| if i == skipped { 0 } else { weights[i] as usize }).collect();
        let period: usize = shares.iter().sum();
        if period > 100_000 {
            continue;
        }
        let pick = new_pick(strategy, &tier);
        for _ in 0..2 {
            let chosen = picks_without(&skip, &pick, &tier, period, SLOT);
            assert_eq!(counts(&chosen, weights.len()), shares, "{weights:?} without {skipped}");
        }
        for chosen in picks_of_threads(SLOTS, &skip, &pick, &tier, period) {
            assert_eq!(counts(&chosen, weights.len()), shares, "{weights:?} without {skipped}, on one thread");
        }
        // Threads that share a slot share one order.
        let chosen = picks_of_threads([SHARED; THREADS], &skip, &pick, &tier, period).concat();
        let expected: Vec<_> = shares.iter().map(|share| THREADS * share).collect();
        assert_eq!(counts(&chosen, weights.len()), expected, "{weights:?} without {skipped}, on threads of one slot");
    }
}

// C3
#[test]
fn round_robin_continues_among_the_others() {
    for backends in [2, 3, 7, 100] {
        assert_shares(&RoundRobin::new(), &vec![1; backends]);
    }
    let tier = Tier::equals(4);
    let pick = new_pick(&RoundRobin::new(), &tier);
    assert_eq!(picks(&pick, &tier, 2), [0, 1]);
    assert_eq!(picks_without(&tier.skip([0, 2]), &pick, &tier, 4, SLOT), [3, 1, 3, 1]);
    assert_eq!(picks(&pick, &tier, 3), [2, 3, 0]);
}

// C4
#[test]
fn a_deck_contains_the_others_once() {
    // Small and large decks are computed in different ways.
    for backends in [2, 3, 7, 16, 17, 100] {
        assert_shares(&Shuffle::seeded(3), &vec![1; backends]);
    }
}

// C5
#[test]
fn a_weighted_order_keeps_the_shares_of_the_others() {
    assert_shares(&Weighted::new(), &[1; 5]);
    assert_shares(&Weighted::new(), &TABLE);
    assert_shares(&Weighted::new(), &LONG);
    assert_shares(&Weighted::new(), &STEEP);
}

// C5
#[test]
fn a_weighted_order_passes_over_the_skipped() {
    let cases = [(TABLE, 0, 11), (TABLE, 2, 11), (LONG, 0, 18_009), (LONG, 1, 18_009), (STEEP, 0, 4_000_006)];
    for (weights, skipped, period) in cases {
        let tier = Tier::weighing(&weights);
        let whole = picks(&new_pick(&Weighted::new(), &tier), &tier, period);
        let expected: Vec<_> = whole.into_iter().filter(|place| *place != skipped).collect();
        let pick = new_pick(&Weighted::new(), &tier);
        let chosen = picks_without(&tier.skip([skipped]), &pick, &tier, expected.len(), SLOT);
        assert!(chosen == expected, "{weights:?} without {skipped}");
    }
}

// C7
#[test]
fn a_backend_that_is_no_longer_skipped_keeps_its_place() {
    let tier = Tier::weighing(&[3, 2, 1]);
    let pick = new_pick(&Weighted::new(), &tier);
    // `abacba`: two steps, two steps without c, then the rest.
    assert_eq!(picks(&pick, &tier, 2), [0, 1]);
    assert_eq!(picks_without(&tier.skip([2]), &pick, &tier, 2, SLOT), [0, 1]);
    assert_eq!(picks(&pick, &tier, 7), [0, 0, 1, 0, 2, 1, 0]);
}

#[test]
fn primary_is_the_first_that_is_not_skipped() {
    let tier = Tier::equals(3);
    let pick = new_pick(&Primary, &tier);
    assert_eq!(picks(&pick, &tier, 2), [0, 0]);
    assert_eq!(picks_without(&tier.skip([0]), &pick, &tier, 2, SLOT), [1, 1]);
    assert_eq!(picks_without(&tier.skip([0, 1]), &pick, &tier, 2, SLOT), [2, 2]);
}

#[test]
fn a_closure_sees_the_skipped() {
    let tier = Tier::equals(3);
    let last: PickFn<_> = pick_fn(|candidates: &Candidates<'_>, cx: &mut PickContext<'_>| {
        let others: Vec<_> = (0..candidates.len()).filter(|number| !cx.skips(&candidates[*number])).collect();
        others.last().copied().unwrap_or(0)
    });
    assert_eq!(picks(&new_pick(&last, &tier), &tier, 1), [2]);
    assert_eq!(picks_without(&tier.skip([2]), &new_pick(&last, &tier), &tier, 1, SLOT), [1]);
}

fn assert_in_range<P: Strategy>(strategy: &P, tier: &Tier) {
    let all = tier.skip(0..tier.all.len());
    let chosen = picks_without(&all, &new_pick(strategy, tier), tier, 3, SLOT);
    assert!(chosen.iter().all(|place| *place < tier.all.len()), "{chosen:?}");
}

// C58
#[test]
fn a_pick_is_in_range_even_if_all_are_skipped() {
    for weights in [&[1; 4], &TABLE, &LONG, &STEEP] {
        let tier = Tier::weighing(weights);
        assert_in_range(&Weighted::new(), &tier);
        assert_in_range(&RoundRobin::new(), &tier);
        assert_in_range(&Shuffle::new(), &tier);
        assert_in_range(&Primary, &tier);
    }
}
