//! The order of smooth weighted round robin.

use std::{cmp::Reverse, collections::BinaryHeap};

/// One period of the order, as indices into the weights; none when it is longer than a table may be.
pub(super) fn table(weights: &[u64]) -> Option<Box<[u32]>> {
    let period = weights.iter().sum::<u64>();
    (period <= LONGEST).then(|| Richest::new(weights).take(period as usize).collect())
}

/// Steps that are kept, and looked through when a backend comes or goes.
const LONGEST: u64 = 1 << 14;

/// The weights without their common divisor.
pub(super) fn reduced(weights: &[u32]) -> Vec<u64> {
    let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, u64::from(*weight))).max(1);
    weights.iter().map(|weight| u64::from(*weight) / divisor).collect()
}

/// The classic rule: with every step each one gains its weight, and the first of the richest is chosen and pays the sum
/// of all weights.
struct Richest {
    classes: Vec<Class>,
    steps: i64,
    price: i64,
}

/// Those of the same weight gain alike: one look at the richest of a class is enough.
struct Class {
    weight: i64,
    /// Wealth at the first step less what was paid since; the richest on top, the first among equals.
    members: BinaryHeap<(i64, Reverse<u32>)>,
}

impl Richest {
    fn new(weights: &[u64]) -> Self {
        let mut order: Vec<u32> = (0..weights.len() as u32).collect();
        let weight = |index: &u32| weights[*index as usize];
        order.sort_by_key(weight);
        let class = |members: &[u32]| Class {
            weight: weight(&members[0]) as i64,
            members: members.iter().map(|index| (0, Reverse(*index))).collect(),
        };
        let classes = order.chunk_by(|a, b| weight(a) == weight(b)).map(class).collect();
        Self { classes, steps: 0, price: weights.iter().sum::<u64>() as i64 }
    }
}

impl Iterator for Richest {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.steps += 1;
        let steps = self.steps;
        let wealth = |class: &Class| class.members.peek().map(|(start, index)| (start + steps * class.weight, *index));
        let mut richest = self.classes.iter_mut().max_by_key(|class| wealth(class))?.members.peek_mut()?;
        richest.0 -= self.price;
        Some(richest.1.0)
    }
}

/// A walk over weights that are laid end to end, which visits every place once in a period: for orders that are too long
/// for a table. Shares are exact in every period, and evenly spread.
#[derive(Debug)]
pub(super) struct Walk {
    ends: Box<[u64]>,
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

    pub(super) fn period(&self) -> u64 {
        self.ends.last().copied().unwrap_or(1)
    }

    /// The place after this one.
    #[inline]
    pub(super) fn after(&self, place: u64) -> u64 {
        let next = place + self.step;
        if next >= self.period() { next - self.period() } else { next }
    }

    /// The place so many steps after the first.
    pub(super) fn nth(&self, steps: u64) -> u64 {
        (u128::from(steps) * u128::from(self.step) % u128::from(self.period())) as u64
    }

    /// The index of the weight that lies at a place.
    #[inline]
    pub(super) fn at(&self, place: u64) -> usize {
        self.ends.partition_point(|end| *end <= place)
    }

    /// The first place from this one on where a weight lies that is not skipped, and its index. The place itself when
    /// all are skipped.
    pub(super) fn next(&self, place: u64, skips: impl Fn(usize) -> bool) -> (u64, usize) {
        let mut next = place;
        // Nearly always one of the first.
        for _ in 0..STEPS {
            let index = self.at(next);
            if !skips(index) {
                return (next, index);
            }
            next = self.after(next);
        }
        self.jump(next, skips).unwrap_or((place, self.at(place)))
    }

    /// The same where what is skipped holds nearly all places: some arithmetic for each stretch between skipped weights.
    #[cold]
    fn jump(&self, place: u64, skips: impl Fn(usize) -> bool) -> Option<(u64, usize)> {
        let period = self.period();
        let (mut soonest, mut begin, mut index) = (None, 0, 0);
        while let Some(mut end) = self.ends.get(index).copied() {
            // Neighbours that are skipped alike are one stretch.
            let is_open = !skips(index);
            while let Some(next) = self.ends.get(index + 1).filter(|_| skips(index + 1) != is_open) {
                (end, index) = (*next, index + 1);
            }
            if is_open {
                let steps = if (begin..end).contains(&place) {
                    0
                } else {
                    let low = if begin >= place { begin - place } else { begin + period - place };
                    steps_into(self.step.into(), period.into(), low.into(), u128::from(low + (end - begin) - 1))
                };
                soonest = Some(soonest.map_or(steps, |soonest: u128| soonest.min(steps)));
            }
            (begin, index) = (end, index + 1);
        }
        let moved = soonest? * u128::from(self.step) % u128::from(period);
        let next = ((u128::from(place) + moved) % u128::from(period)) as u64;
        Some((next, self.at(next)))
    }
}

/// The first multiple of `step` that lies between `low` and `high` on a circle of this period, to which `step` is
/// coprime: how many times `step` it is.
fn steps_into(step: u128, period: u128, low: u128, high: u128) -> u128 {
    if low == 0 {
        return 0;
    }
    if 2 * step > period {
        // The other way round.
        return steps_into(period - step, period, period - high, period - low);
    }
    let steps = low.div_ceil(step);
    if steps * step <= high {
        return steps;
    }
    // Not in this round: the rounds themselves are steps on the circle of `step`.
    let rounds = steps_into(step - period % step, step, low % step, high % step);
    (low + period * rounds).div_ceil(step)
}

/// Places that are looked at one by one.
const STEPS: usize = 16;

/// About the golden section of the period and coprime to it: consecutive places lie far apart, and all are visited.
///
/// Of the numbers near by the one that is hardest to come close to by a fraction: the quotients in Euclid's algorithm
/// add up to a bound of how unevenly the walk ever treats a stretch of places.
fn golden_step(period: u64) -> u64 {
    let golden = (period as f64 * 0.618_033_988_749_894_9) as u64;
    let coprime = (golden..=period).filter(|step| gcd(*step, period) == 1);
    coprime.take(NEAR_BY).min_by_key(|step| quotients(period, *step)).unwrap_or(1)
}

/// More improve it little; each costs two runs of Euclid's algorithm.
const NEAR_BY: usize = 16;

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
    fn a_walk_is_exact_in_every_period_wherever_it_begins() {
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
    fn a_jump_leads_where_single_steps_lead() {
        let mut rng = fastrand::Rng::with_seed(9);
        for weights in sets() {
            let walk = walk(&weights);
            for _ in 0..20 {
                let skipped: Vec<_> = weights.iter().map(|_| rng.bool()).collect();
                let place = rng.u64(..walk.period());
                let steps = std::iter::successors(Some(place), |place| Some(walk.after(*place)));
                let open = steps.take(walk.period() as usize).find(|place| !skipped[walk.at(*place)]);
                let expected = open.map(|place| (place, walk.at(place)));
                assert_eq!(walk.jump(place, |index| skipped[index]), expected, "{weights:?} {skipped:?} from {place}");
                let place = expected.unwrap_or((place, walk.at(place)));
                assert_eq!(walk.next(place.0, |index| skipped[index]), place);
            }
        }
    }

    // C6
    #[test]
    fn no_weight_is_ever_far_from_its_share_of_a_walk() {
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
        assert!(most < WALK_LAG, "{most} requests");
    }

    /// In requests; observed over the sets of these tests: below 5.
    const WALK_LAG: f64 = 5.0;

    // C5, C6
    #[test]
    fn only_a_period_that_is_too_long_has_no_table() {
        assert!(table(&[LONGEST - 1, 1]).is_some());
        assert!(table(&[LONGEST, 1]).is_none());
        assert_eq!(reduced(&[u32::MAX; 3]), [1, 1, 1]);
    }

    // C6
    #[test]
    fn the_largest_weights_of_ten_thousand_backends_overflow_nothing() {
        // The last one makes the common divisor 1, and the period 4.3 · 10^13.
        let mut weights = vec![u32::MAX; 10_000];
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
