//! Smooth weighted round robin.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use self::order::{Walk, effective, reduced, table};
use super::{Candidate, Candidates, Needs, Pick, PickContext, Strategy, rotation::Rotation, round_robin::carried};
use crate::shard::{PerThreadU64, SLOTS};

mod order;

/// Smooth weighted round robin: each backend gets its exact share of the requests in every period, evenly spread.
///
/// Weights 3, 2, 1 give `abacba`; of equals, the first is selected first. The order is exact among the requests of one
/// thread.
///
/// The order is that of the whole tier. The steps of a backend that is not eligible or skipped are passed over: the
/// others keep exact shares among themselves, and a backend that returns gets no burst of requests. If a period has
/// more than 16,384 steps, as with large weights without a common divisor, it is not stored in a table: a
/// low-discrepancy sequence then gives the same exact shares in every period, less evenly spread.
///
/// A backend with a [share](Candidate::share) of less than 1 has that part of its weight, to within 1/32 of the weight.
/// With each step of a share the order continues where it was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weighted;

impl Weighted {
    /// Creates the strategy. The order begins with the backend of the largest weight.
    pub fn new() -> Self {
        Self
    }
}

/// The order of [`Weighted`] over one set of candidates.
#[derive(Debug)]
pub struct WeightedPick {
    /// The weights of the tier, as far as their shares allow.
    weights: Arc<[u64]>,
    order: Order,
}

#[derive(Debug)]
enum Order {
    /// All weights are equal: plain round robin.
    Equal(Rotation),
    /// The steps of one period of the whole tier.
    Table {
        /// The place of the backend of each step.
        table: Arc<[u32]>,
        /// The steps of eligible backends, each with the number of its candidate.
        eligible: Box<[(u32, u32)]>,
        rotation: Rotation,
    },
    /// The candidates on a walk, for a period that is too long for a table.
    Walk {
        walk: Walk,
        /// The next place of each thread, plus one; 0 before it has begun.
        places: PerThreadU64,
        /// The number of threads that have begun.
        begun: AtomicU64,
    },
}

impl Strategy for Weighted {
    type Pick = WeightedPick;

    fn needs(&self) -> Needs {
        Needs::NOTHING.shares()
    }

    fn make(&self, candidates: &Candidates<'_>, before: Option<(&WeightedPick, &Candidates<'_>)>) -> WeightedPick {
        let weights = effective(candidates.tier().iter().map(|it| (it.weight().get(), it.share())));
        let before = before.map(|(pick, before)| {
            let is_same_tier = before.tier().iter().map(Candidate::id).eq(candidates.tier().iter().map(Candidate::id));
            (pick, Before { order: &pick.order, tier: before.tier(), is_same_tier })
        });
        let order = match before {
            Some((pick, Before { order: Order::Table { table, rotation, .. }, is_same_tier: true, .. }))
                if *pick.weights == *weights =>
            {
                Order::table(Arc::clone(table), rotation.clone(), candidates)
            }
            before => Order::new(&weights, candidates, before.map(|(_, before)| before)),
        };
        WeightedPick { weights: weights.into(), order }
    }
}

/// The order from which the next one continues.
struct Before<'a> {
    order: &'a Order,
    tier: &'a [Candidate],
    /// The tier has the same backends as before, so their places are the same.
    is_same_tier: bool,
}

impl Before<'_> {
    /// Copies the rotation for a sequence of another length, in which `place` maps a step to the place of its backend:
    /// each thread continues at the same fraction of it, with the backend that would have been next.
    fn rotation(&self, len: usize, place: impl Fn(usize) -> usize) -> Rotation {
        let (rotation, before) = match self.order {
            Order::Table { table, rotation, .. } => (rotation, table.len()),
            Order::Equal(rotation) => (rotation, self.tier.len()),
            Order::Walk { .. } => return Rotation::default(),
        };
        rotation.moved(|next| {
            let wanted = match self.order {
                Order::Table { table, .. } => table[next % before] as usize,
                _ => next % before,
            };
            let step = next * len / before;
            let is_wanted = |step: &usize| self.is_same_tier && place(*step % len) == wanted;
            (step..step + len).find(is_wanted).map_or(step, |step| step % len)
        })
    }
}

impl Order {
    fn new(weights: &[u64], candidates: &Candidates<'_>, before: Option<Before<'_>>) -> Self {
        let reduced = reduced(weights);
        if reduced.iter().all(|weight| *weight == 1) {
            return Self::Equal(match before {
                Some(Before { order: Self::Equal(rotation), tier, .. }) => carried(rotation, tier, candidates.tier()),
                Some(before) => before.rotation(reduced.len(), |step| step),
                None => Rotation::default(),
            });
        }
        match table(&reduced) {
            Some(table) => {
                let rotation = before.map(|before| before.rotation(table.len(), |step| table[step] as usize));
                Self::table(table.into(), rotation.unwrap_or_default(), candidates)
            }
            None => {
                let walk = Walk::new((0..candidates.len()).map(|number| reduced[candidates.place(number)]));
                let period = u128::from(walk.period());
                let (places, begun) = match before {
                    Some(Before { order: Self::Walk { walk: old, places, begun }, .. }) => {
                        let places = places.map(|place| match place.checked_sub(1) {
                            Some(place) => (u128::from(place) * period / u128::from(old.period().max(1))) as u64 + 1,
                            None => 0,
                        });
                        (places, begun.load(Ordering::Relaxed))
                    }
                    _ => (PerThreadU64::new(SLOTS), 0),
                };
                Self::Walk { walk, places, begun: AtomicU64::new(begun) }
            }
        }
    }

    fn table(table: Arc<[u32]>, rotation: Rotation, candidates: &Candidates<'_>) -> Self {
        let mut numbers = vec![u32::MAX; candidates.tier().len()];
        for number in 0..candidates.len() {
            numbers[candidates.place(number)] = number as u32;
        }
        let steps = (0..).zip(table.iter().map(|place| numbers[*place as usize]));
        let eligible = steps.filter(|(_, number)| *number != u32::MAX).collect();
        Self::Table { table, eligible, rotation }
    }
}

impl Pick for WeightedPick {
    #[inline(always)]
    fn pick(&self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize {
        let skips_none = cx.skips_none();
        let skips = |number: usize| !skips_none && cx.skips(&candidates[number]);
        match &self.order {
            Order::Equal(rotation) => {
                let place = |number| candidates.place(number);
                rotation.take(cx.slot, candidates.len(), place, skips).unwrap_or(0)
            }
            Order::Table { eligible, rotation, .. } => {
                let step = |index: usize| eligible[index].0 as usize;
                let number = |index: usize| eligible[index].1 as usize;
                let taken = rotation.take(cx.slot, eligible.len(), step, |index| skips(number(index)));
                taken.map_or(0, number)
            }
            Order::Walk { walk, places, begun } => places.update(cx.slot, |place| {
                let place = match place.checked_sub(1) {
                    Some(place) => place,
                    // Each thread begins one step after the last one, so that they do not run in lockstep.
                    None => walk.nth(begun.fetch_add(1, Ordering::Relaxed)),
                };
                let (place, number) = if skips_none { (place, walk.at(place)) } else { walk.next(place, skips) };
                (walk.after(place) + 1, number)
            }),
        }
    }
}
