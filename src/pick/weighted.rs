//! Smooth weighted round robin.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use self::order::{Walk, reduced, table};
use super::{Candidate, Candidates, Pick, PickContext, Strategy, rotation::Rotation, round_robin::carried};
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
    weights: Arc<[u32]>,
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

    fn make(&self, candidates: &Candidates<'_>, before: Option<(&WeightedPick, &Candidates<'_>)>) -> WeightedPick {
        let weights: Vec<u32> = candidates.tier().iter().map(|candidate| candidate.weight().get()).collect();
        let before = before.map(|(pick, before)| {
            let is_same_tier = before.tier().iter().map(Candidate::id).eq(candidates.tier().iter().map(Candidate::id));
            (pick, before, is_same_tier && *pick.weights == *weights)
        });
        let order = match before {
            Some((WeightedPick { order: Order::Table { table, rotation, .. }, .. }, _, true)) => {
                Order::table(Arc::clone(table), rotation.clone(), candidates)
            }
            _ => Order::new(&weights, candidates, before.map(|(pick, before, _)| (&pick.order, before))),
        };
        WeightedPick { weights: weights.into(), order }
    }
}

impl Order {
    fn new(weights: &[u32], candidates: &Candidates<'_>, before: Option<(&Self, &Candidates<'_>)>) -> Self {
        let reduced = reduced(weights);
        if reduced.iter().all(|weight| *weight == 1) {
            return Self::Equal(match before {
                Some((Self::Equal(rotation), before)) => carried(rotation, before.tier(), candidates.tier()),
                _ => Rotation::default(),
            });
        }
        match table(&reduced) {
            Some(table) => {
                // The period has another length: each thread continues at the same fraction of it.
                let rotation = match before {
                    Some((Self::Table { table: old, rotation, .. }, _)) => {
                        rotation.moved(|next| next * table.len() / old.len().max(1))
                    }
                    _ => Rotation::default(),
                };
                Self::table(table.into(), rotation, candidates)
            }
            None => {
                let walk = Walk::new((0..candidates.len()).map(|number| reduced[candidates.place(number)]));
                let period = u128::from(walk.period());
                let (places, begun) = match before {
                    Some((Self::Walk { walk: old, places, begun }, _)) => {
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
