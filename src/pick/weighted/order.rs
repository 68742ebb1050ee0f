//! The order of smooth weighted round robin: a table for short periods, a walk for long ones.

use std::{cmp::Reverse, collections::BinaryHeap};

/// Computes one period of the order, as indices into the weights. `None` if the period is longer than [`MAX_TABLE`].
pub(super) fn table(weights: &[u64]) -> Option<Box<[u32]>> {
    let period = weights.iter().sum::<u64>();
    (period <= MAX_TABLE).then(|| SmoothOrder::new(weights).take(period as usize).collect())
}

/// The most steps of a table, which is scanned when the eligibility of a backend changes.
const MAX_TABLE: u64 = 1 << 14;

/// Returns the weights by which backends with these weights and shares are selected.
///
/// Only the ratio of the shares matters: if all of them are the same, the weights are as they were. Otherwise the shares
/// are rounded to parts, as finely as a table allows; if none is that long, to the finest.
pub(super) fn effective(weights: impl Iterator<Item = (u32, f32)> + Clone) -> Vec<u64> {
    let plain = reduced(&weights.clone().map(|(weight, _)| weight.into()).collect::<Vec<_>>());
    let mut shares = weights.map(|(_, share)| share);
    let first = shares.next();
    if shares.clone().all(|share| Some(share) == first) {
        return plain;
    }
    let sum = plain.iter().sum::<u64>();
    let parts = PARTS.into_iter().find(|parts| sum * parts <= MAX_TABLE).unwrap_or(PARTS[0]);
    let part = |(weight, share): (&u64, f32)| (((weight * parts) as f64 * f64::from(share)).round() as u64).max(1);
    plain.iter().zip(first.into_iter().chain(shares)).map(part).collect()
}

/// How many parts a weight has when it is multiplied by a share. With fewer than 16, the tenth of slow start would be
/// off by more than a half.
const PARTS: [u64; 3] = [64, 32, 16];

/// Divides the weights by their greatest common divisor.
pub(super) fn reduced(weights: &[u64]) -> Vec<u64> {
    let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, *weight)).max(1);
    weights.iter().map(|weight| weight / divisor).collect()
}

/// The order of nginx: with every step each backend gains its weight as credit. The first backend of the highest credit
/// is selected, and pays the sum of all weights.
struct SmoothOrder {
    classes: Vec<Class>,
    steps: i64,
    sum: i64,
}

/// The backends of one weight. They gain credit alike, so each step compares only the first of each class.
struct Class {
    weight: i64,
    /// The credit of each backend without its gains, and its index. The highest credit is on top; of equals, the first.
    members: BinaryHeap<(i64, Reverse<u32>)>,
}

impl SmoothOrder {
    fn new(weights: &[u64]) -> Self {
        let mut order: Vec<u32> = (0..weights.len() as u32).collect();
        let weight = |index: &u32| weights[*index as usize];
        order.sort_by_key(weight);
        let class = |members: &[u32]| Class {
            weight: weight(&members[0]) as i64,
            members: members.iter().map(|index| (0, Reverse(*index))).collect(),
        };
        let classes = order.chunk_by(|a, b| weight(a) == weight(b)).map(class).collect();
        Self { classes, steps: 0, sum: weights.iter().sum::<u64>() as i64 }
    }
}

impl Iterator for SmoothOrder {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.steps += 1;
        let steps = self.steps;
        let credit = |class: &Class| class.members.peek().map(|(paid, index)| (paid + steps * class.weight, *index));
        let mut highest = self.classes.iter_mut().max_by_key(|class| credit(class))?.members.peek_mut()?;
        highest.0 -= self.sum;
        Some(highest.1.0)
    }
}

/// A walk over the weights laid end to end, for a period that is too long for a table.
///
/// The period is the sum of the weights. A walk of constant step width visits each of its places once, so the shares
/// are exact, and the golden ratio spreads them evenly.
#[derive(Debug)]
pub(super) struct Walk {
    /// The end of each weight, as a place.
    ends: Box<[u64]>,
    /// The step width.
    step: u64,
}

impl Walk {
    pub(super) fn new(weights: impl Iterator<Item = u64>) -> Self {
        let ends: Box<[u64]> = weights
            .scan(0, |end, weight| {
                *end += weight;
                Some(*end)
            })
            .collect();
        let step = golden_step(ends.last().copied().unwrap_or(1));
        Self { ends, step }
    }

    /// Returns the number of places.
    pub(super) fn period(&self) -> u64 {
        self.ends.last().copied().unwrap_or(1)
    }

    /// Returns the place after this one.
    #[inline]
    pub(super) fn after(&self, place: u64) -> u64 {
        let next = place + self.step;
        if next >= self.period() { next - self.period() } else { next }
    }

    /// Returns the place this many steps after the first.
    pub(super) fn nth(&self, steps: u64) -> u64 {
        (u128::from(steps) * u128::from(self.step) % u128::from(self.period())) as u64
    }

    /// Returns the index of the weight at a place.
    #[inline]
    pub(super) fn at(&self, place: u64) -> usize {
        self.ends.partition_point(|end| *end <= place)
    }

    /// Returns the first place on the walk, from this one on, whose weight is not skipped, and the index of the weight.
    /// Returns the place itself if all weights are skipped.
    pub(super) fn next(&self, place: u64, skips: impl Fn(usize) -> bool) -> (u64, usize) {
        let mut next = place;
        // Nearly always one of the next places is found.
        for _ in 0..MAX_STEPS {
            let index = self.at(next);
            if !skips(index) {
                return (next, index);
            }
            next = self.after(next);
        }
        self.jump(next, skips).unwrap_or((place, self.at(place)))
    }

    /// Does the same if the skipped weights cover nearly all places: computes the number of steps to each stretch of
    /// weights that are not skipped, and takes the smallest.
    #[cold]
    fn jump(&self, place: u64, skips: impl Fn(usize) -> bool) -> Option<(u64, usize)> {
        let period = self.period();
        let (mut fewest, mut begin, mut index) = (None, 0, 0);
        while let Some(mut end) = self.ends.get(index).copied() {
            // Adjacent weights that are all skipped, or all not, are one stretch.
            let is_candidate = !skips(index);
            while let Some(next) = self.ends.get(index + 1).filter(|_| skips(index + 1) != is_candidate) {
                (end, index) = (*next, index + 1);
            }
            if is_candidate {
                let steps = if (begin..end).contains(&place) {
                    0
                } else {
                    let low = if begin >= place { begin - place } else { begin + period - place };
                    steps_into(self.step.into(), period.into(), low.into(), u128::from(low + (end - begin) - 1))
                };
                fewest = Some(fewest.map_or(steps, |fewest: u128| fewest.min(steps)));
            }
            (begin, index) = (end, index + 1);
        }
        let moved = fewest? * u128::from(self.step) % u128::from(period);
        let next = ((u128::from(place) + moved) % u128::from(period)) as u64;
        Some((next, self.at(next)))
    }
}

/// Returns the smallest `n` for which `n * step` modulo `period` lies in `low..=high`. `step` and `period` are coprime.
fn steps_into(step: u128, period: u128, low: u128, high: u128) -> u128 {
    if low == 0 {
        return 0;
    }
    if 2 * step > period {
        // Backwards: the steps in the other direction are shorter.
        return steps_into(period - step, period, period - high, period - low);
    }
    let steps = low.div_ceil(step);
    if steps * step <= high {
        return steps;
    }
    // No multiple in the first round hits the range. The offsets of the rounds are steps modulo `step`: recursion, as
    // in Euclid's algorithm.
    let rounds = steps_into(step - period % step, step, low % step, high % step);
    (low + period * rounds).div_ceil(step)
}

/// The most places that are tried one by one.
const MAX_STEPS: usize = 16;

/// Returns a step width near the golden section of the period and coprime to it, so that consecutive places lie far
/// apart and every place is visited.
///
/// Of several such numbers, takes the one with the smallest sum of quotients in Euclid's algorithm. The sum bounds the
/// discrepancy of the walk: how unevenly it visits any stretch of places.
fn golden_step(period: u64) -> u64 {
    let golden = (period as f64 * 0.618_033_988_749_894_9) as u64;
    let coprime = (golden..=period).filter(|step| gcd(*step, period) == 1);
    coprime.take(MAX_TRIED).min_by_key(|step| quotients(period, *step)).unwrap_or(1)
}

/// How many step widths are compared. More improve the result little, and each costs two runs of Euclid's algorithm.
const MAX_TRIED: usize = 16;

/// Returns the sum of the quotients in Euclid's algorithm.
fn quotients(a: u64, b: u64) -> u64 {
    a.checked_div(b).map_or(0, |quotient| quotient + quotients(b, a % b))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets() -> Vec<Vec<u64>> {
        let mut rng = fastrand::Rng::with_seed(6);
        let mut sets = vec![vec![1], vec![1, 1], vec![3, 2, 1], vec![1_000, 1], (1..=60).collect(), vec![7; 31]];
        sets.extend((1..40).map(|backends| (0..backends).map(|_| rng.u64(1..=300)).collect()));
        sets
    }

    fn walk(weights: &[u64]) -> Walk {
        Walk::new(weights.iter().copied())
    }

    // C6
    #[test]
    fn shares_of_a_walk_are_exact_in_every_period_from_any_place() {
        for weights in sets() {
            let (walk, period) = (walk(&weights), weights.iter().sum::<u64>());
            for first in [0, period / 3, period - 1] {
                let (mut got, mut place) = (vec![0; weights.len()], first);
                for _ in 0..period {
                    got[walk.at(place)] += 1;
                    place = walk.after(place);
                }
                assert_eq!((got, place), (weights.clone(), first), "from {first}");
            }
        }
    }

    // C5
    #[test]
    fn a_jump_finds_the_same_place_as_single_steps() {
        let mut rng = fastrand::Rng::with_seed(9);
        for weights in sets() {
            let walk = walk(&weights);
            for _ in 0..20 {
                let skipped: Vec<_> = weights.iter().map(|_| rng.bool()).collect();
                let place = rng.u64(..walk.period());
                let steps = std::iter::successors(Some(place), |place| Some(walk.after(*place)));
                let found = steps.take(walk.period() as usize).find(|place| !skipped[walk.at(*place)]);
                let expected = found.map(|place| (place, walk.at(place)));
                assert_eq!(walk.jump(place, |index| skipped[index]), expected, "{weights:?} {skipped:?} from {place}");
                let place = expected.unwrap_or((place, walk.at(place)));
                assert_eq!(walk.next(place.0, |index| skipped[index]), place);
            }
        }
    }

    // C6
    #[test]
    fn no_weight_lags_far_behind_its_share_of_a_walk() {
        let mut most: f64 = 0.0;
        let mut rng = fastrand::Rng::with_seed(8);
        let long = (2..20).map(|backends| (0..backends).map(|_| rng.u64(1..=3_000)).collect());
        for weights in sets().into_iter().chain(long) {
            let (walk, period) = (walk(&weights), weights.iter().sum::<u64>());
            let (mut lags, mut place) = (vec![0.0; weights.len()], 0);
            for _ in 0..period {
                lags.iter_mut().zip(&weights).for_each(|(lag, weight)| *lag += *weight as f64 / period as f64);
                lags[walk.at(place)] -= 1.0;
                place = walk.after(place);
                most = lags.iter().fold(most, |most: f64, lag: &f64| most.max(lag.abs()));
            }
        }
        assert!(most < MAX_LAG, "{most} requests");
    }

    /// In requests. An observation: holds for the weights of these tests.
    const MAX_LAG: f64 = 5.0;

    // C5, C6
    #[test]
    fn only_a_period_over_the_limit_has_no_table() {
        assert!(table(&[MAX_TABLE - 1, 1]).is_some());
        assert!(table(&[MAX_TABLE, 1]).is_none());
        assert_eq!(reduced(&[u32::MAX.into(); 3]), [1, 1, 1]);
    }

    // C6
    #[test]
    fn ten_thousand_backends_of_the_largest_weight_do_not_overflow() {
        // The last weight makes the common divisor 1, and the period 4.3 · 10^13.
        let mut weights = vec![u64::from(u32::MAX); 10_000];
        weights[9_999] -= 1;
        let walk = Walk::new(reduced(&weights).into_iter());
        for first in [0, walk.period() - 1, walk.period() / 2] {
            let (mut got, mut place) = (vec![0; 10_000], first);
            for _ in 0..20_000 {
                got[walk.at(place)] += 1;
                place = walk.after(place);
            }
            let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
            assert!((1..=4).contains(least) && (1..=4).contains(most), "{least} to {most} from {first}");
        }
    }
}
