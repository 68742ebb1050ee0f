//! What a request is not to be sent to is left out, and the others keep their shares among themselves.

use super::{weighted::LONG, *};
use crate::pick::{PickFn, Primary, RoundRobin, Shuffle, Weighted, pick_fn};

/// Weights whose order is a table.
const TABLE: [u32; 4] = [5, 3, 2, 1];
/// The heaviest holds nearly all of the order, which is too long for a table.
const STEEP: [u32; 4] = [4_000_000, 3, 2, 1];

/// Skips each in turn, from one thread and from eight at once: over one period of the others each of them gets its
/// weight.
fn assert_shares<P: Strategy>(strategy: &P, weights: &[u32]) {
    let tier = Tier::weighing(weights);
    for skipped in 0..weights.len() {
        let skip = tier.skip([skipped]);
        let shares: Vec<_> = (0..weights.len()).map(|i| if i == skipped { 0 } else { weights[i] as usize }).collect();
        let period: usize = shares.iter().sum();
        if period > 100_000 {
            continue;
        }
        let pick = made(strategy, &tier);
        for _ in 0..2 {
            let chosen = picks_without(&skip, &pick, &tier, period, SLOT);
            assert_eq!(counts(&chosen, weights.len()), shares, "{weights:?} without {skipped}");
        }
        for chosen in picks_of_threads(SLOTS, &skip, &pick, &tier, period) {
            assert_eq!(counts(&chosen, weights.len()), shares, "{weights:?} without {skipped}, of a thread");
        }
        // Threads that share a line share one order.
        let chosen = picks_of_threads([SHARED; THREADS], &skip, &pick, &tier, period).concat();
        let expected: Vec<_> = shares.iter().map(|share| THREADS * share).collect();
        assert_eq!(counts(&chosen, weights.len()), expected, "{weights:?} without {skipped}, of threads on one line");
    }
}

// C3
#[test]
fn a_rotation_goes_round_the_others() {
    for backends in [2, 3, 7, 100] {
        assert_shares(&RoundRobin::new(), &vec![1; backends]);
    }
    let tier = Tier::equals(4);
    let pick = made(&RoundRobin::new(), &tier);
    assert_eq!(picks(&pick, &tier, 2), [0, 1]);
    assert_eq!(picks_without(&tier.skip([0, 2]), &pick, &tier, 4, SLOT), [3, 1, 3, 1]);
    assert_eq!(picks(&pick, &tier, 3), [2, 3, 0]);
}

// C4
#[test]
fn a_deck_deals_the_others_once() {
    // Small decks and large ones are dealt in different ways.
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
fn a_weighted_order_is_that_of_the_whole_set_without_what_is_skipped() {
    let cases = [(TABLE, 0, 11), (TABLE, 2, 11), (LONG, 0, 18_009), (LONG, 1, 18_009), (STEEP, 0, 4_000_006)];
    for (weights, skipped, period) in cases {
        let tier = Tier::weighing(&weights);
        let whole = picks(&made(&Weighted::new(), &tier), &tier, period);
        let expected: Vec<_> = whole.into_iter().filter(|place| *place != skipped).collect();
        let pick = made(&Weighted::new(), &tier);
        let chosen = picks_without(&tier.skip([skipped]), &pick, &tier, expected.len(), SLOT);
        assert!(chosen == expected, "{weights:?} without {skipped}");
    }
}

// C7
#[test]
fn what_is_skipped_at_times_takes_its_place_again() {
    let tier = Tier::weighing(&[3, 2, 1]);
    let pick = made(&Weighted::new(), &tier);
    // `abacba`: two, two without c, then the rest.
    assert_eq!(picks(&pick, &tier, 2), [0, 1]);
    assert_eq!(picks_without(&tier.skip([2]), &pick, &tier, 2, SLOT), [0, 1]);
    assert_eq!(picks(&pick, &tier, 7), [0, 0, 1, 0, 2, 1, 0]);
}

#[test]
fn the_first_that_is_not_skipped_is_the_primary() {
    let tier = Tier::equals(3);
    let pick = made(&Primary, &tier);
    assert_eq!(picks(&pick, &tier, 2), [0, 0]);
    assert_eq!(picks_without(&tier.skip([0]), &pick, &tier, 2, SLOT), [1, 1]);
    assert_eq!(picks_without(&tier.skip([0, 1]), &pick, &tier, 2, SLOT), [2, 2]);
}

#[test]
fn a_closure_sees_what_is_skipped() {
    let tier = Tier::equals(3);
    let last: PickFn<_> = pick_fn(|candidates: &Candidates<'_>, cx: &mut PickContext<'_>| {
        let left: Vec<_> = (0..candidates.len()).filter(|number| !cx.skips(&candidates[*number])).collect();
        left.last().copied().unwrap_or(0)
    });
    assert_eq!(picks(&made(&last, &tier), &tier, 1), [2]);
    assert_eq!(picks_without(&tier.skip([2]), &made(&last, &tier), &tier, 1, SLOT), [1]);
}

// C58
#[test]
fn with_all_of_them_skipped_a_pick_still_answers() {
    for weights in [&[1; 4], &TABLE, &LONG, &STEEP] {
        let tier = Tier::weighing(weights);
        let all = tier.skip(0..4);
        let pick = made(&Weighted::new(), &tier);
        assert!(picks_without(&all, &pick, &tier, 3, SLOT).iter().all(|place| *place < 4));
        assert!(picks_without(&all, &made(&RoundRobin::new(), &tier), &tier, 3, SLOT).iter().all(|place| *place < 4));
        assert!(picks_without(&all, &made(&Shuffle::new(), &tier), &tier, 3, SLOT).iter().all(|place| *place < 4));
        assert!(picks_without(&all, &made(&Primary, &tier), &tier, 3, SLOT).iter().all(|place| *place < 4));
    }
}
