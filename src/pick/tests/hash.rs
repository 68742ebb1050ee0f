//! Consistent hashing: few keys move, shares are by weight, and no load exceeds its bound.

use std::collections::HashMap;

use super::*;
use crate::{
    key::hash_key,
    pick::{Hash, HashPick},
};

const KEYS: u64 = 20_000;

/// Makes a tier of backends of these names and weights.
fn tier(backends: &[(u64, u32)]) -> Tier {
    let all: Vec<_> = backends.iter().map(|(id, weight)| Candidate::alone(*id, *weight)).collect();
    Tier { eligible: (0..all.len() as u32).collect(), all }
}

fn key(number: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(hash_key(&number.to_le_bytes()))
}

/// The candidate of a key, by name.
fn pick_of(pick: &HashPick, tier: &Tier, skip: &Skip, key: Option<NonZeroU64>, rng: &mut Rng) -> String {
    let candidates = tier.candidates();
    let skipped = Skipped::new(skip, &SKIP_NONE, 0);
    let number = pick.pick(&candidates, &mut PickContext::new(rng, skipped, key, &|| Moment::EPOCH, SLOT));
    candidates[number].name().to_string()
}

/// The backend of each key.
fn owners(pick: &HashPick, tier: &Tier) -> Vec<String> {
    owners_without(pick, tier, &SKIP_NONE)
}

fn owners_without(pick: &HashPick, tier: &Tier, skip: &Skip) -> Vec<String> {
    let mut rng = Rng::seeded(1);
    (0..KEYS).map(|number| pick_of(pick, tier, skip, key(number), &mut rng)).collect()
}

fn moved(before: &[String], after: &[String]) -> Vec<usize> {
    (0..before.len()).filter(|key| before[*key] != after[*key]).collect()
}

fn name(id: u64) -> String {
    format!("backend-{id}")
}

/// Small and large tiers are searched in different ways, with and without weights.
fn tiers() -> Vec<Vec<(u64, u32)>> {
    let sizes = [2, 3, 10, 33, 200];
    let equal = sizes.iter().map(|count| (1..=*count).map(|id| (id, 1)).collect());
    let weighted = sizes.iter().map(|count| (1..=*count).map(|id| (id, 1 + (id % 5) as u32)).collect());
    equal.chain(weighted).collect()
}

// C48
#[test]
fn only_the_keys_of_a_backend_that_leaves_move_and_they_return_with_it() {
    for backends in tiers() {
        let all = tier(&backends);
        let pick = new_pick(&Hash::by_classifier(), &all);
        let before = owners(&pick, &all);
        let gone = backends[backends.len() / 2].0;
        let share =
            f64::from(backends[backends.len() / 2].1) / backends.iter().map(|(_, w)| f64::from(*w)).sum::<f64>();
        let own = before.iter().filter(|owner| **owner == name(gone)).count();
        let expected = KEYS as f64 * share;
        assert!((own as f64 - expected).abs() < 4.5 * expected.sqrt(), "{own} keys of about {expected:.0}");

        // It is removed, is not eligible, or is skipped.
        let rest: Vec<_> = backends.iter().copied().filter(|(id, _)| *id != gone).collect();
        let removed = tier(&rest);
        let without = owners(&next_pick(&Hash::by_classifier(), &removed, &pick, &all), &removed);
        assert!(moved(&before, &without).iter().all(|key| before[*key] == name(gone)));
        assert!(without.iter().all(|owner| *owner != name(gone)));
        let out = all.with(|place| backends[place].0 != gone);
        let out_pick = next_pick(&Hash::by_classifier(), &out, &pick, &all);
        assert_eq!(owners(&out_pick, &out), without, "not eligible");
        let skip = all.skip([backends.len() / 2]);
        assert_eq!(owners_without(&pick, &all, &skip), without, "skipped");

        // Its keys are spread over the others, by weight.
        if backends.len() == 10 {
            let mut counts = HashMap::<_, usize>::new();
            moved(&before, &without).iter().for_each(|key| *counts.entry(&without[*key]).or_default() += 1);
            assert_eq!(counts.len(), 9, "{counts:?}");
        }

        // It returns, at another place.
        let mut returned = rest.clone();
        returned.push(backends[backends.len() / 2]);
        let returned = tier(&returned);
        assert_eq!(owners(&new_pick(&Hash::by_classifier(), &returned), &returned), before);
        assert_eq!(owners(&next_pick(&Hash::by_classifier(), &all, &out_pick, &out), &all), before);
    }
}

// C48
#[test]
fn replicas_agree_whatever_the_order_of_their_backends() {
    for backends in tiers() {
        let replica = tier(&backends);
        let expected = owners(&new_pick(&Hash::by_classifier(), &replica), &replica);
        let mut other = backends.clone();
        fastrand::Rng::with_seed(5).shuffle(&mut other);
        let other = tier(&other);
        assert_eq!(owners(&new_pick(&Hash::by_classifier(), &other), &other), expected);
    }
}

// C48
#[test]
fn the_backends_of_some_keys_are_the_same_in_all_versions() {
    let ten = tier(&(1..=10).map(|id| (id, 1)).collect::<Vec<_>>());
    let owners = owners(&new_pick(&Hash::by_classifier(), &ten), &ten);
    assert_eq!(owners[..5], ["backend-7", "backend-2", "backend-8", "backend-8", "backend-2"]);
}

// C6, C48
#[test]
fn shares_of_the_keys_are_those_of_the_weights() {
    for weights in [vec![1, 1, 1], vec![3, 2, 1], vec![100, 50, 10, 5], vec![u32::MAX, u32::MAX / 2], vec![1; 33]] {
        let tier = Tier::weighing(&weights);
        let pick = new_pick(&Hash::by_classifier(), &tier);
        let (mut rng, total) = (Rng::seeded(2), weights.iter().map(|weight| f64::from(*weight)).sum::<f64>());
        let keys = 120_000;
        for is_keyed in [true, false] {
            let mut counts = HashMap::<_, u64>::new();
            for number in 0..keys {
                let key = key(number).filter(|_| is_keyed);
                *counts.entry(pick_of(&pick, &tier, &SKIP_NONE, key, &mut rng)).or_default() += 1;
            }
            for (id, weight) in (1..).zip(&weights) {
                let expected = keys as f64 * f64::from(*weight) / total;
                let count = counts.get(&name(id)).copied().unwrap_or(0) as f64;
                assert!((count / expected - 1.0).abs() < 0.05, "{weights:?}: {count} in place of {expected}");
            }
        }
    }
}

// C6, C48
#[test]
fn a_higher_weight_moves_keys_to_its_backend_only() {
    let light = tier(&[(1, 1), (2, 1), (3, 1), (4, 1)]);
    let heavy = tier(&[(1, 1), (2, 3), (3, 1), (4, 1)]);
    let pick = new_pick(&Hash::by_classifier(), &light);
    let before = owners(&pick, &light);
    let after = owners(&next_pick(&Hash::by_classifier(), &heavy, &pick, &light), &heavy);
    let moved = moved(&before, &after);
    assert!(moved.iter().all(|key| after[*key] == name(2)));
    assert!(moved.len().abs_diff(KEYS as usize / 4) < 300, "from a quarter to a half: {}", moved.len());
}

// C48
#[test]
fn a_hot_key_spills_always_to_the_same_backends() {
    let tier = Tier::equals(6);
    let pick = new_pick(&Hash::by_classifier(), &tier);
    let mut rng = Rng::seeded(3);
    for number in 0..100 {
        let order = |rng: &mut Rng| -> Vec<String> {
            let mut skip = Skip::default();
            (0..6)
                .map(|_| {
                    let next = pick_of(&pick, &tier, &skip, key(number), rng);
                    let place = tier.all.iter().position(|candidate| *candidate.name() == *next).unwrap();
                    assert!(!skip.contains(tier.all[place].id()), "each backend once");
                    skip.insert(tier.all[place].id());
                    next
                })
                .collect()
        };
        assert_eq!(order(&mut rng), order(&mut rng));
    }
}

/// How many calls a backend gets in a row, from its own keys, while each of nine others has this many in flight.
fn calls_in_a_row(share: f32, others: u32) -> u32 {
    let mut tier = Tier::equals(10);
    tier.all[0] = Candidate::alone(1, 1).with_share(share);
    tier.all[1..].iter().for_each(|other| (0..others).for_each(|_| other.0.load().begin()));
    let pick = new_pick(&Hash::by_classifier(), &tier);
    let (own, rng) = (name(1), &mut Rng::seeded(4));
    for number in (0..KEYS).filter(|number| pick_of(&pick, &tier, &SKIP_NONE, key(*number), &mut Rng::seeded(4)) == own)
    {
        if pick_of(&pick, &tier, &SKIP_NONE, key(number), rng) != own {
            break;
        }
        tier.all[0].0.load().begin();
    }
    tier.all[0].0.load().in_flight()
}

// C48, C49
#[test]
fn a_backend_that_starts_slowly_gets_its_keys_as_its_share_rises() {
    let calls: Vec<_> = [1e-4, 0.1, 0.5, 1.0].map(|share| calls_in_a_row(share, 10)).into();
    assert_eq!(calls, [1, 2, 7, 13], "1.25 times its part of about 90 calls, and its own");
    assert!(Hash::by_classifier().needs().honours_shares());
    // Without a bound, the door sends it fewer requests.
    assert!(!Hash::by_classifier().unbounded().needs().honours_shares());
}

// C48
#[test]
fn a_request_whose_other_backends_are_all_full_goes_to_the_least_full_of_them() {
    let tier = Tier::weighing(&[1, 1, 2]);
    tier.all.iter().for_each(|candidate| (0..50).for_each(|_| candidate.0.load().begin()));
    let pick = new_pick(&Hash::by_classifier(), &tier);
    // The third has room, but was tried.
    let skip = tier.skip([2]);
    tier.all[1].0.load().begin();
    let mut rng = Rng::seeded(5);
    assert!((0..50).all(|number| pick_of(&pick, &tier, &SKIP_NONE, key(number), &mut rng) == name(3)));
    assert!((0..50).all(|number| pick_of(&pick, &tier, &skip, key(number), &mut rng) == name(1)));
}

// C48, C58
#[test]
fn a_bound_out_of_its_range_is_refused() {
    for factor in [1.0, 0.0, -1.5, f64::NAN, f64::INFINITY, 1_000.5] {
        let error = Hash::by_classifier().bound(factor).unwrap_err();
        assert_eq!((error.field(), error.value()), ("bound", &*factor.to_string()));
    }
    assert!(Hash::by_classifier().bound(1.000_1).is_ok() && Hash::by_classifier().bound(1_000.0).is_ok());
}
