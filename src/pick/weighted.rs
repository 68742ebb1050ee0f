use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{Candidate, Candidates, Pick, PickContext, Strategy, rotation::Rotation, round_robin::carried};
use crate::shard::{Lines, SLOTS};

mod order;

use order::{Walk, reduced, table};

/// Smooth weighted round robin: each backend gets its share in every period, as evenly spread as it can be, ties to
/// the first. Weights 3, 2, 1 give `abacba`, exactly for what one thread sends.
///
/// The order of one period is that of the whole tier. While a backend is out, not ready or tried already, its steps are
/// left out: the others keep exact shares among themselves, and a backend that comes back finds its place where it was,
/// without a burst. An order of more than 16,384 steps (primes in the thousands, very many different weights) is not
/// held: shares are still exact in every period and evenly spread, by a low-discrepancy sequence.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weighted;

impl Weighted {
    /// Begins with the heaviest.
    pub fn new() -> Self {
        Self
    }
}

/// The order of [`Weighted`] over one set.
#[derive(Debug)]
pub struct WeightedPick {
    weights: Arc<[u32]>,
    order: Order,
}

#[derive(Debug)]
enum Order {
    /// All weigh the same.
    Equal(Rotation),
    /// The steps of one period, and which of them may be taken: the step, and the number of its candidate.
    Table { table: Arc<[u32]>, open: Box<[(u32, u32)]>, rotation: Rotation },
    /// Places of the candidates, and where each thread stands, plus one; 0 when it has not begun. And how many have.
    Walk { walk: Walk, places: Lines, begun: AtomicU64 },
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
                // Another period: each thread goes on from the same part of it.
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
                    _ => (Lines::new(SLOTS), 0),
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
        let open = steps.filter(|(_, number)| *number != u32::MAX).collect();
        Self::Table { table, open, rotation }
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
            Order::Table { open, rotation, .. } => {
                let (step, number) = (|index: usize| open[index].0 as usize, |index: usize| open[index].1 as usize);
                let taken = rotation.take(cx.slot, open.len(), step, |index| skips(number(index)));
                taken.map_or(0, number)
            }
            Order::Walk { walk, places, begun } => places.update(cx.slot, |place| {
                let place = match place.checked_sub(1) {
                    Some(place) => place,
                    // Each further thread begins one step later.
                    None => walk.nth(begun.fetch_add(1, Ordering::Relaxed)),
                };
                let (place, number) = if skips_none { (place, walk.at(place)) } else { walk.next(place, skips) };
                (walk.after(place) + 1, number)
            }),
        }
    }
}
