//! Selects a backend with the pick of a strategy.

use std::{
    num::{NonZeroU32, NonZeroU64},
    sync::Arc,
};

use super::{local::Local, ready::Sends};
use crate::{
    fleet::{Candidates, Shard},
    pick::{Pick, PickContext, SKIP_NONE, Skip, Skipped, Strategy},
    rng::Rng,
    shard::slot,
};

impl<S, C, P, X> Local<S, C, P, X>
where
    S: Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
    P: Strategy,
    X: Clone,
{
    /// Selects the backend for the next request. `None` if none is eligible, or if the selected one was removed
    /// meanwhile.
    #[inline(always)]
    pub(super) fn select(&self, slot: usize, rng: &mut Rng) -> Option<Arc<Shard<S, C>>> {
        let candidates = self.selection.serving_tier();
        if candidates.is_empty() {
            return None;
        }
        let number = self.pick(&candidates, slot, None, None, rng);
        self.at_number(number, slot)
    }

    /// The same for a request with a key, or while a circuit is due for a probe or shares matter. `None` also if the
    /// request may have to probe.
    #[inline(never)]
    pub(super) fn select_specially(
        &self,
        sends: Sends,
        slot: usize,
        key: Option<NonZeroU64>,
        rng: &mut Rng,
    ) -> Option<Arc<Shard<S, C>>> {
        let candidates = self.selection.serving_tier();
        if candidates.is_empty() || self.has_probe_to_send(sends) {
            return None;
        }
        let number = self.pick_first(&candidates, slot, None, key, rng);
        self.at_number(number, slot)
    }

    /// Returns the candidate of this number.
    #[inline(always)]
    fn at_number(&self, number: usize, slot: usize) -> Option<Arc<Shard<S, C>>> {
        match self.shards.get(number) {
            Some(shard) => shard.upgrade(),
            None => self.selection.shard(*self.selection.serving_rows().get(number)?, slot),
        }
    }

    /// Returns the number of the strategy's pick. Random if there is no pick, or if its number is out of range.
    #[inline(always)]
    fn pick(
        &self,
        candidates: &Candidates<'_>,
        slot: usize,
        skipped: Option<Skipped<'_>>,
        key: Option<NonZeroU64>,
        rng: &mut Rng,
    ) -> usize {
        let number = match &self.pick {
            Some(pick) => {
                let now = || self.core.clock.now();
                pick.pick(candidates, &mut PickContext::new(rng, skipped, key, &now, slot))
            }
            None => usize::MAX,
        };
        if number < candidates.len() { number } else { rng.below(candidates.len()) }
    }

    /// Returns the number of the first pick for a request, which honours the shares.
    fn pick_first(
        &self,
        candidates: &Candidates<'_>,
        slot: usize,
        skipped: Option<Skipped<'_>>,
        key: Option<NonZeroU64>,
        rng: &mut Rng,
    ) -> usize {
        match self.thins {
            None => self.pick(candidates, slot, skipped, key, rng),
            Some(largest) => self.pick_thinned(candidates, slot, skipped, largest, key, rng),
        }
    }

    /// Returns the number of a pick, for shares that the strategy does not honour: a backend is passed over with the
    /// probability that its share leaves, so that the next one of the strategy gets its turn.
    #[cold]
    fn pick_thinned(
        &self,
        candidates: &Candidates<'_>,
        slot: usize,
        skipped: Option<Skipped<'_>>,
        largest: NonZeroU32,
        key: Option<NonZeroU64>,
        rng: &mut Rng,
    ) -> usize {
        let mut passed_over = skipped.map_or_else(Skip::default, |skipped| skipped.spent.clone());
        let (polled, prefix) = skipped.map_or((&SKIP_NONE, 0), |skipped| (skipped.polled, skipped.prefix));
        let first = self.pick(candidates, slot, skipped, key, rng);
        let mut number = first;
        for _ in 0..MAX_THINNED {
            let candidate = &candidates[number];
            if rng.below(largest.get() as usize) < candidate.0.share() as usize {
                return number;
            }
            passed_over.insert(candidate.id());
            let skipped = Skipped::new(&passed_over, polled, prefix);
            number = self.pick(candidates, slot, skipped, key, rng);
            if skipped.is_some_and(|skipped| skipped.contains(candidates[number].id())) {
                // None is left. The first one was selected by the strategy.
                return first;
            }
        }
        number
    }

    /// Selects another backend of the serving tier, by row. `None` if all of them are skipped. With `is_first`, that is
    /// the first pick for a request, which honours the shares.
    pub(super) fn select_another(
        &self,
        slot: usize,
        skipped: Option<Skipped<'_>>,
        is_first: bool,
        key: Option<NonZeroU64>,
        rng: &mut Rng,
    ) -> Option<u32> {
        let (candidates, rows) = (self.selection.serving_tier(), self.selection.serving_rows());
        if candidates.is_empty() {
            return None;
        }
        let skips = |number: usize| skipped.is_some_and(|skipped| skipped.contains(candidates[number].id()));
        for _ in 0..MAX_PICKS {
            let number = match is_first {
                true => self.pick_first(&candidates, slot, skipped, key, rng),
                false => self.pick(&candidates, slot, skipped, key, rng),
            };
            if !skips(number) {
                return Some(rows[number]);
            }
        }
        let first = rng.below(rows.len());
        let mut rest = (0..rows.len()).map(|index| (first + index) % rows.len());
        rest.find(|number| !skips(*number)).map(|number| rows[number])
    }

    /// Whether a request with this key may probe the circuit of the backend in a row. With a strategy that needs keys,
    /// the strategy decides about its tier, and no request leaves its tier for a probe.
    pub(super) fn may_probe(&self, row: u32, key: Option<NonZeroU64>, rng: &mut Rng) -> bool {
        let (selection, Some(pick)) = (&self.selection, self.pick.as_ref().filter(|_| self.needs_key)) else {
            return true;
        };
        match selection.serving_place(row) {
            Some(place) => {
                let now = || self.core.clock.now();
                pick.may_probe(place, &PickContext::new(rng, None, key, &now, slot()))
            }
            None => selection.is_in_serving_tier(row),
        }
    }
}

/// How many backends are passed over for their shares at most, by one request.
const MAX_THINNED: usize = 16;

/// How many picks of a strategy that ignores the skipped backends are tried before one is selected at random.
const MAX_PICKS: usize = 4;
