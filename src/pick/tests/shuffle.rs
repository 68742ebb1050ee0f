//! Shuffled decks.

use std::collections::HashSet;

use super::*;
use crate::{health::AdminStatus, pick::Shuffle};

fn assert_decks(backends: usize, decks: usize) {
    let tier = Tier::equals(backends);
    let pick = new_pick(&Shuffle::seeded(backends as u64), &tier);
    for _ in 0..decks {
        let dealt = counts(&picks(&pick, &tier, backends), backends);
        assert!(dealt.iter().all(|count| *count == 1), "a deck of {backends}: {dealt:?}");
    }
}

// C4
#[test]
fn every_deck_holds_every_backend_once() {
    (1..=300).for_each(|backends| assert_decks(backends, 5));
    [1_000, 1_023, 1_024, 1_025, 4_096, 10_000].iter().for_each(|backends| assert_decks(*backends, 2));
}

/// Deals this many decks, one after the other.
fn deal(backends: usize, decks: usize) -> Vec<Vec<usize>> {
    let tier = Tier::equals(backends);
    let pick = new_pick(&Shuffle::seeded(1), &tier);
    (0..decks).map(|_| picks(&pick, &tier, backends)).collect()
}

// C4
#[test]
fn every_order_of_a_small_deck_is_equally_likely() {
    for (backends, orders) in [(2, 2), (3, 6), (4, 24), (5, 120)] {
        let mut tally = Tally::default();
        deal(backends, 40_000).into_iter().for_each(|deck| tally.add(deck));
        assert_uniform(&format!("orders of {backends}"), chi_square(tally.counts(orders).into_iter()), orders - 1);
    }
}

// C4
#[test]
fn every_backend_is_equally_likely_at_every_place_and_after_every_other() {
    for (backends, decks) in
        [(5, 40_000), (13, 20_000), (16, 20_000), (17, 20_000), (33, 50_000), (50, 30_000), (100, 10_000)]
    {
        let (mut places, mut pairs, mut seams) = (Tally::default(), Tally::default(), Tally::default());
        let mut last = 0;
        for (number, deck) in deal(backends, decks).into_iter().enumerate() {
            (0..).zip(&deck).for_each(|(place, card)| places.add((place, *card)));
            // One pair per deck, each time at the next place, so that the pairs are independent.
            let place = number % (backends - 1);
            pairs.add((deck[place], deck[place + 1]));
            seams.add((last, deck[0]));
            last = deck[backends - 1];
        }
        // The rows and columns of the table have fixed sums, since a permutation has one card in each. Its statistic is
        // n / (n - 1) times one with (n - 1)² degrees of freedom.
        let (cells, others) = (backends * backends, backends - 1);
        let statistic = chi_square(places.counts(cells).into_iter()) * others as f64 / backends as f64;
        assert_uniform(&format!("places of {backends}"), statistic, others * others);
        let ordered = backends * others;
        assert_uniform(&format!("pairs of {backends}"), chi_square(pairs.counts(ordered).into_iter()), ordered - 1);
        assert_uniform(&format!("seams of {backends}"), chi_square(seams.counts(cells).into_iter()), cells - 1);
    }
}

// C4
#[test]
fn every_first_card_after_a_change_is_equally_likely() {
    let three = Tier::equals(3);
    let two = three.with(|place| place < 2);
    let strategy = Shuffle::seeded(3);
    let mut pick = new_pick(&strategy, &three);
    let mut tally = Tally::default();
    for _ in 0..30_000 {
        tally.add(picks(&pick, &three, 2));
        let between = next_pick(&strategy, &two, &pick, &three);
        pick = next_pick(&strategy, &three, &between, &two);
    }
    assert_uniform("beginnings", chi_square(tally.counts(6).into_iter()), 5);
}

// C3, C4
#[test]
fn each_of_eight_threads_deals_whole_decks_of_its_own() {
    for backends in [3, 12, 13, 100, 1_000] {
        let tier = Tier::equals(backends);
        let pick = new_pick(&Shuffle::seeded(5), &tier);
        let of_threads = picks_of_threads(SLOTS, &SKIP_NONE, &pick, &tier, 10 * backends);
        for picks in &of_threads {
            let is_whole = |deck: &[usize]| counts(deck, backends).iter().all(|count| *count == 1);
            assert!(picks.chunks(backends).all(is_whole), "a deck of {backends} with a card twice");
        }
        let decks: HashSet<_> = of_threads.iter().map(|picks| &picks[..backends]).collect();
        assert!(backends < 12 || decks.len() == THREADS, "the same deck of {backends} twice");
        // In the middle of a deck, the counts differ by one per thread at most.
        let half = picks_of_threads(SLOTS, &SKIP_NONE, &pick, &tier, backends / 2);
        let (most, least) = extremes(&half.concat(), backends);
        assert!(half.iter().all(|picks| extremes(picks, backends).0 == 1));
        assert!(most - least <= THREADS, "{backends}: {least} to {most}");
    }
}

// C4
#[test]
fn threads_that_share_a_slot_deal_no_card_twice_in_a_deck() {
    for backends in [3, 12, 13, 100, 1_000] {
        let tier = Tier::equals(backends);
        let pick = new_pick(&Shuffle::seeded(5), &tier);
        let shared = [SHARED; THREADS];
        // After whole decks, all backends have equal counts, whichever thread dealt a card.
        let dealt = picks_of_threads(shared, &SKIP_NONE, &pick, &tier, 10 * backends).concat();
        assert_eq!(extremes(&dealt, backends), (10 * THREADS, 10 * THREADS), "{backends}");
        // These picks begin and end in the middle of a deck. Each of both makes a difference of one at most.
        picks_without(&SKIP_NONE, &pick, &tier, 1, SHARED);
        let dealt = picks_of_threads(shared, &SKIP_NONE, &pick, &tier, backends / 2).concat();
        let (most, least) = extremes(&dealt, backends);
        assert!(most - least <= 2, "{backends}: {least} to {most}");
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names
}

// C4
#[test]
fn a_changed_set_of_the_same_size_begins_a_new_deck() {
    for seed in 0..200 {
        let harness = Harness::new(&["a", "b", "c", "d"], Shuffle::seeded(seed));
        harness.picks(2);
        harness.fleet.remove("a");
        harness.fleet.insert(named("e")).unwrap();
        assert_eq!(sorted(harness.picks(4)), ["b", "c", "d", "e"]);
        harness.picks(1);
        // The same name, but another backend.
        harness.fleet.replace(named("b")).unwrap();
        assert_eq!(sorted(harness.picks(4)), ["b", "c", "d", "e"]);
        harness.picks(3);
        harness.fleet.set_status("c", AdminStatus::Degraded);
        assert_eq!(sorted(harness.picks(3)), ["b", "d", "e"]);
    }
}

// C4
#[test]
fn a_change_in_another_tier_continues_the_deck() {
    for seed in 0..200 {
        let harness = Harness::new(&["a", "b", "c", "d"], Shuffle::seeded(seed));
        let mut deck = harness.picks(1);
        harness.fleet.insert(named("reserve").priority(-1)).unwrap();
        deck.extend(harness.picks(1));
        harness.fleet.drain("reserve");
        harness.fleet.set_weight("reserve", 9).unwrap();
        deck.extend(harness.picks(1));
        // The deck does not depend on weights.
        harness.fleet.set_weight("a", 5).unwrap();
        harness.fleet.set_priority("reserve", -2);
        deck.extend(harness.picks(1));
        assert_eq!(sorted(deck), ["a", "b", "c", "d"], "seed {seed}");
    }
}

// C4
#[test]
fn two_doors_of_one_layer_deal_different_decks() {
    let tier = Tier::equals(20);
    let decks = |strategy: Shuffle| [0, 1, 2].map(|_| picks(&new_pick(&strategy, &tier), &tier, 20));
    let [first, second, third] = decks(Shuffle::new());
    assert!(first != second && second != third && first != third, "{first:?} {second:?} {third:?}");
    // With a seed they are the same.
    let [first, second, third] = decks(Shuffle::seeded(1));
    assert!(first == second && second == third);
}
