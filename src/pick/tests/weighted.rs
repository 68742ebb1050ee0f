use proptest::prelude::*;

use super::*;
use crate::pick::Weighted;

/// The classic rule: everybody gains its weight, the first of the richest is chosen and pays the sum.
fn classic(weights: &[u32], count: usize) -> Vec<usize> {
    let sum: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
    let mut wealth = vec![0; weights.len()];
    let turn = |_| {
        wealth.iter_mut().zip(weights).for_each(|(wealth, weight)| *wealth += i64::from(*weight));
        let richest = (0..weights.len()).rev().max_by_key(|index| wealth[*index]).expect("somebody");
        wealth[richest] -= sum;
        richest
    };
    (0..count).map(turn).collect()
}

fn letters(weights: &[u32], count: usize) -> String {
    let candidates = candidates(weights);
    let pick = made_for(Weighted::new(), &candidates);
    picks(&pick, &candidates, count).iter().map(|index| (b'a' + *index as u8) as char).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn reduced(weights: &[u32]) -> Vec<usize> {
    let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, u64::from(*weight)));
    weights.iter().map(|weight| (u64::from(*weight) / divisor) as usize).collect()
}

// C5
#[test]
fn is_smooth_and_ties_go_to_the_first() {
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
    let candidates = candidates(&[70, 30]);
    let pick = made_for(Weighted::new(), &candidates);
    for _ in 0..10 {
        assert_eq!(counts(&picks(&pick, &candidates, 100), 2), [70, 30]);
    }
}

proptest! {
    // C5
    #[test]
    fn the_order_is_the_classic_one(weights in prop::collection::vec(1..=60_u32, 1..=20)) {
        let candidates = candidates(&weights);
        let pick = made_for(Weighted::new(), &candidates);
        let twice = 2 * weights.iter().sum::<u32>() as usize;
        prop_assert_eq!(picks(&pick, &candidates, twice), classic(&weights, twice));
    }

    // C5
    #[test]
    fn shares_are_exact_in_every_period_wherever_it_begins(
        weights in prop::collection::vec(1..=60_u32, 1..=20),
        offset in 0..2_000_usize,
    ) {
        let candidates = candidates(&weights);
        let pick = made_for(Weighted::new(), &candidates);
        let shares = reduced(&weights);
        picks(&pick, &candidates, offset);
        for _ in 0..3 {
            prop_assert_eq!(&counts(&picks(&pick, &candidates, shares.iter().sum()), weights.len()), &shares);
        }
    }
}

// C5
#[test]
fn shares_are_exact_over_whole_periods_with_eight_threads() {
    for weights in [vec![3, 2, 1], vec![5, 1, 1], vec![70, 30], (1..=40).collect()] {
        let candidates = candidates(&weights);
        let pick = made_for(Weighted::new(), &candidates);
        let shares = reduced(&weights);
        // Somewhere in a period, then eight periods, one for each thread.
        picks(&pick, &candidates, 5);
        let chosen = picks_of_threads(&pick, &candidates, shares.iter().sum());
        let expected: Vec<_> = shares.iter().map(|share| share * THREADS).collect();
        assert_eq!(counts(&chosen, weights.len()), expected, "{weights:?}");
    }
}

/// Who is there at a step, by index.
type Presence<'a> = &'a dyn Fn(u64, &mut fastrand::Rng, &mut [bool]);

/// The accounts of a time in which backends come and go: with every choice each one that is there gains its share of
/// a request, and the one chosen pays one.
struct Accounts {
    /// The largest that anybody ever owed or was owed.
    most: f64,
    /// What each got while everybody was there.
    full: Vec<usize>,
}

fn flapping(weights: &[u32], steps: u64, presence: Presence<'_>) -> Accounts {
    let everybody = candidates(weights);
    let mut present = vec![true; weights.len()];
    let mut now = everybody.clone();
    let mut pick = made_for(Weighted::new(), &now);
    let mut rng = fastrand::Rng::with_seed(7);
    let mut owed = vec![0.0_f64; weights.len()];
    let mut accounts = Accounts { most: 0.0, full: vec![0; weights.len()] };
    for step in 0..steps {
        let before = present.clone();
        presence(step, &mut rng, &mut present);
        if present != before && present.contains(&true) {
            let next: Vec<_> = (0..weights.len()).filter(|i| present[*i]).map(|i| everybody[i].clone()).collect();
            pick = pick.renew(&now, &next);
            now = next;
        }
        let sum: f64 = now.iter().map(|candidate| f64::from(candidate.weight().get())).sum();
        let chosen = now[picks(&pick, &now, 1)[0]].position() as usize - 1;
        for candidate in &now {
            let index = candidate.position() as usize - 1;
            owed[index] += f64::from(candidate.weight().get()) / sum;
        }
        owed[chosen] -= 1.0;
        if now.len() == weights.len() {
            accounts.full[chosen] += 1;
        }
        accounts.most = owed.iter().fold(accounts.most, |most, owed| most.max(owed.abs()));
    }
    accounts
}

/// The most that anybody may owe or be owed, in requests, whatever flaps and however long. Observed: 1.12 where the
/// order is exact, 1.34 where it is spread; smooth weighted round robin without any change comes close to 1.
const EXACT_LAG: f64 = 1.25;
const SPREAD_LAG: f64 = 2.0;

fn assert_fair(weights: &[u32], steps: u64, bound: f64) {
    let last = weights.len() - 1;
    let hold = |case: &str, presence: Presence<'_>| {
        let most = flapping(weights, steps, presence).most;
        assert!(most < bound, "{weights:?}, {case}: {most:.2} requests");
    };
    for every in [2, 3, 5, 7, 8, 11, 55, 610] {
        hold(&format!("last away at each {every}th"), &|step, _, present| present[last] = step % every != 0);
        hold(&format!("last there at each {every}th"), &|step, _, present| present[last] = step % every == 0);
        hold(&format!("first there at each {every}th"), &|step, _, present| present[0] = step % every == 0);
        hold(&format!("two at each {every}th"), &|step, _, present| {
            (present[0], present[1]) = (step % every == 0, step % every < 2);
        });
    }
    for one_in in [1, 3, 20] {
        hold(&format!("one in {one_in} at random"), &|_, rng, present| {
            if rng.u64(..one_in) == 0 {
                let index = rng.usize(..present.len());
                present[index] ^= true;
            }
        });
    }
}

// C7
#[test]
fn everybody_gets_its_share_whoever_flaps_and_however_often() {
    let sets: [&[u32]; 12] = [
        &[1, 1],
        &[1, 1, 1],
        &[2, 1],
        &[3, 2, 1],
        &[5, 1, 1],
        &[7, 1, 7, 1],
        &[30, 30, 1],
        &[97, 89, 83, 79],
        &[100, 1, 1, 1, 1, 1],
        &[20, 19, 18, 1, 1],
        &[1; 10],
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    ];
    sets.iter().for_each(|weights| assert_fair(weights, 1_000, EXACT_LAG));
}

// C6, C7
#[test]
fn a_spread_order_is_fair_under_flapping_too() {
    assert_fair(&[1_000_003, 999_983, 999_979], 1_000, SPREAD_LAG);
    assert_fair(&[u32::MAX, 1_000_003, 9_973, 10], 1_000, SPREAD_LAG);
}

// C7
#[test]
fn the_first_gains_nothing_from_a_neighbour_that_flaps_after_every_request() {
    let accounts = flapping(&[1, 1], 2_000, &|step, _, present| present[1] = step % 2 == 0);
    assert_eq!(accounts.full, [500, 500]);
    let accounts = flapping(&[5, 1, 1], 14_000, &|step, _, present| present[2] = step % 2 == 0);
    // Of 7,000 requests with all three there the last one gets its seventh; when it is away the first takes 5 of 6.
    assert_eq!(accounts.full[2], 1_000);
    assert!(accounts.most < 1.0, "{}", accounts.most);
}

// C7
#[test]
fn a_backend_that_stays_away_long_is_owed_nothing_for_it() {
    let away = |step, _: &mut fastrand::Rng, present: &mut [bool]| present[1] = !(10..10_000).contains(&step);
    let accounts = flapping(&[1, 1], 10_100, &away);
    assert_eq!(accounts.full, [55, 55]);
}

// C7
#[test]
fn the_accounts_of_those_who_never_come_back_are_forgotten() {
    let mut pick = Weighted::new();
    let mut before = Vec::new();
    for id in 1..1_000 {
        let now = [Candidate::alone(id, id, 3), Candidate::alone(id + 1, id + 1, 1)];
        pick = pick.renew(&before, &now);
        picks(&pick, &now, 1);
        before = now.to_vec();
    }
    assert!(pick.remembers() <= 70, "{} accounts", pick.remembers());
}

// C6
#[test]
fn the_largest_weights_are_fair_among_ten_thousand() {
    let candidates = candidates(&[u32::MAX; 10_000]);
    let pick = made_for(Weighted::new(), &candidates);
    assert!(counts(&picks(&pick, &candidates, 30_000), 10_000).iter().all(|count| *count == 3));
}
