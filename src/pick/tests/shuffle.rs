use std::collections::HashSet;

use super::*;
use crate::{health::Status, pick::Shuffle};

fn assert_decks(backends: usize, decks: usize) {
    let tier = Tier::equals(backends);
    let pick = made(&Shuffle::seeded(backends as u64), &tier);
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

/// So many decks, one after the other.
fn deal(backends: usize, decks: usize) -> Vec<Vec<usize>> {
    let tier = Tier::equals(backends);
    let pick = made(&Shuffle::seeded(1), &tier);
    (0..decks).map(|_| picks(&pick, &tier, backends)).collect()
}

// C4
#[test]
fn every_order_of_a_small_deck_is_as_likely() {
    for (backends, orders) in [(2, 2), (3, 6), (4, 24), (5, 120)] {
        let mut tally = Tally::default();
        deal(backends, 40_000).into_iter().for_each(|deck| tally.add(deck));
        assert_uniform(&format!("orders of {backends}"), chi_square(tally.counts(orders).into_iter()), orders - 1);
    }
}

// C4
#[test]
fn every_backend_is_as_likely_at_every_place_and_beside_every_other() {
    for (backends, decks) in
        [(5, 40_000), (13, 20_000), (16, 20_000), (17, 20_000), (33, 50_000), (50, 30_000), (100, 10_000)]
    {
        let (mut places, mut pairs, mut seams) = (Tally::default(), Tally::default(), Tally::default());
        let mut last = 0;
        for (number, deck) in deal(backends, decks).into_iter().enumerate() {
            (0..).zip(&deck).for_each(|(place, card)| places.add((place, *card)));
            // One pair of each deck, at a place that moves on, so that the pairs are independent.
            let place = number % (backends - 1);
            pairs.add((deck[place], deck[place + 1]));
            seams.add((last, deck[0]));
            last = deck[backends - 1];
        }
        // Rows and columns of the table both have a fixed sum, a permutation has one card in each. Its statistic is
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
fn the_first_card_after_a_change_is_as_likely_to_be_any() {
    let three = Tier::equals(3);
    let two = three.with(|place| place < 2);
    let strategy = Shuffle::seeded(3);
    let mut pick = made(&strategy, &three);
    let mut tally = Tally::default();
    for _ in 0..30_000 {
        tally.add(picks(&pick, &three, 2));
        let between = remade(&strategy, &two, &pick, &three);
        pick = remade(&strategy, &three, &between, &two);
    }
    assert_uniform("beginnings", chi_square(tally.counts(6).into_iter()), 5);
}

// C3, C4
#[test]
fn each_of_eight_threads_deals_whole_decks_of_its_own() {
    for backends in [3, 12, 13, 100, 1_000] {
        let tier = Tier::equals(backends);
        let pick = made(&Shuffle::seeded(5), &tier);
        let of_threads = picks_of_threads(SLOTS, &SKIP_NONE, &pick, &tier, 10 * backends);
        for picks in &of_threads {
            let is_whole = |deck: &[usize]| counts(deck, backends).iter().all(|count| *count == 1);
            assert!(picks.chunks(backends).all(is_whole), "a deck of {backends} with a card twice");
        }
        let decks: HashSet<_> = of_threads.iter().map(|picks| &picks[..backends]).collect();
        assert!(backends < 12 || decks.len() == THREADS, "the same deck of {backends} twice");
        // And in the midst of a deck: one count apart for each thread at most.
        let half = picks_of_threads(SLOTS, &SKIP_NONE, &pick, &tier, backends / 2);
        let (most, least) = extremes(&half.concat(), backends);
        assert!(half.iter().all(|picks| extremes(picks, backends).0 == 1));
        assert!(most - least <= THREADS, "{backends}: {least} to {most}");
    }
}

// C4
#[test]
fn no_card_comes_twice_in_a_deck_of_threads_that_share_a_line() {
    for backends in [3, 12, 13, 100, 1_000] {
        let tier = Tier::equals(backends);
        let pick = made(&Shuffle::seeded(5), &tier);
        let shared = [SHARED; THREADS];
        // Whole decks only: then every backend was dealt as often, whichever thread drew which card.
        let dealt = picks_of_threads(shared, &SKIP_NONE, &pick, &tier, 10 * backends).concat();
        assert_eq!(extremes(&dealt, backends), (10 * THREADS, 10 * THREADS), "{backends}");
        // And again in the midst of a deck: one count apart at most.
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
fn a_changed_set_gets_a_new_deck_though_its_size_is_the_same() {
    for seed in 0..200 {
        let table = Table::set(&["a", "b", "c", "d"], Shuffle::seeded(seed));
        table.picks(2);
        table.fleet.remove("a");
        table.fleet.insert(named("e")).unwrap();
        assert_eq!(sorted(table.picks(4)), ["b", "c", "d", "e"]);
        table.picks(1);
        // The same name, another backend.
        table.fleet.replace(named("b")).unwrap();
        assert_eq!(sorted(table.picks(4)), ["b", "c", "d", "e"]);
        table.picks(3);
        table.fleet.set_status("c", Status::Degraded);
        assert_eq!(sorted(table.picks(3)), ["b", "d", "e"]);
    }
}

// C4
#[test]
fn a_change_elsewhere_in_the_fleet_goes_on_with_the_deck() {
    for seed in 0..200 {
        let table = Table::set(&["a", "b", "c", "d"], Shuffle::seeded(seed));
        let mut deck = table.picks(1);
        table.fleet.insert(named("reserve").priority(-1)).unwrap();
        deck.extend(table.picks(1));
        table.fleet.drain("reserve");
        table.fleet.set_weight("reserve", 9).unwrap();
        deck.extend(table.picks(1));
        // Weights are none of its business.
        table.fleet.set_weight("a", 5).unwrap();
        table.fleet.set_priority("reserve", -2);
        deck.extend(table.picks(1));
        assert_eq!(sorted(deck), ["a", "b", "c", "d"], "seed {seed}");
    }
}

// C4
#[test]
fn two_doors_of_one_layer_deal_different_decks() {
    let tier = Tier::equals(20);
    let decks = |strategy: Shuffle| [0, 1, 2].map(|_| picks(&made(&strategy, &tier), &tier, 20));
    let [first, second, third] = decks(Shuffle::new());
    assert!(first != second && second != third && first != third, "{first:?} {second:?} {third:?}");
    // For tests there is a seed, and then they are the same.
    let [first, second, third] = decks(Shuffle::seeded(1));
    assert!(first == second && second == third);
}
