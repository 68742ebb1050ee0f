//! What a pick knows beside the candidates: the skipped backends, random numbers, the time.

use std::{collections::HashSet, fmt, num::NonZeroU64, time::Duration};

use crate::{
    fleet::{Candidate, Candidates},
    name::BackendId,
    rng::Rng,
    time::Moment,
};

/// What a [`Pick`](super::Pick) knows beside the candidates: the skipped backends, random numbers, the time.
pub struct PickContext<'a> {
    rng: &'a mut Rng,
    /// `None` if no candidate is skipped, which is so for nearly every request.
    skipped: Option<Skipped<'a>>,
    key: Option<NonZeroU64>,
    now: &'a dyn Fn() -> Moment,
    pub(super) slot: usize,
}

/// The candidates that a pick must not return.
#[derive(Clone, Copy)]
pub(crate) struct Skipped<'a> {
    /// The backends that have had all their attempts.
    pub(crate) spent: &'a Skip,
    /// The backends that the present search has polled.
    pub(crate) polled: &'a Skip,
    /// The number of candidates at the beginning of the tier that are skipped, as far as is known.
    pub(crate) prefix: usize,
}

impl<'a> PickContext<'a> {
    #[inline(always)]
    pub(crate) fn new(
        rng: &'a mut Rng,
        skipped: Option<Skipped<'a>>,
        key: Option<NonZeroU64>,
        now: &'a dyn Fn() -> Moment,
        slot: usize,
    ) -> Self {
        Self { rng, skipped, key, now, slot }
    }

    /// Returns a random number below `bound`, uniformly distributed; 0 if `bound` is 0.
    #[inline]
    pub fn random_below(&mut self, bound: usize) -> usize {
        self.rng.below(bound)
    }

    /// Returns a random number from 0 to below 1.
    #[inline]
    pub(super) fn random_share(&mut self) -> f32 {
        (self.rng.next_u64() >> 40) as f32 / (1 << 24) as f32
    }

    /// Returns a random number.
    pub(super) fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Returns the key of the request, from the [source](super::Strategy::key) of the strategy. `None` if the request
    /// has none, or if the strategy has no source.
    ///
    /// Keys need not be spread evenly.
    #[inline]
    pub fn key(&self) -> Option<u64> {
        self.key.map(NonZeroU64::get)
    }

    /// Returns the time since a fixed moment, for differences. Reads the clock only when it is called.
    ///
    /// The moment is the same for all requests of a fleet.
    pub fn now(&self) -> Duration {
        (self.now)().since(Moment::EPOCH)
    }

    /// Returns the current moment. Reads the clock.
    #[inline]
    pub(super) fn moment(&self) -> Moment {
        (self.now)()
    }

    /// Returns whether the request must not be sent to this candidate: it is not ready, or was tried for it already.
    ///
    /// A pick that returns a skipped candidate is called again a few times; then another candidate is selected at
    /// random.
    #[inline]
    pub fn skips(&self, candidate: &Candidate) -> bool {
        self.skipped.is_some_and(|skipped| skipped.contains(candidate.id()))
    }

    /// Returns whether no candidate is skipped, which is so for nearly every request.
    #[inline(always)]
    pub fn skips_none(&self) -> bool {
        self.skipped.is_none()
    }

    /// Returns a number below which all candidates are skipped; 0 if that is not known.
    ///
    /// A pick that goes through the candidates in order begins there, so that a request with thousands of failed
    /// attempts does not check all of them each time.
    pub fn skipped_prefix(&self) -> usize {
        self.skipped.map_or(0, |skipped| skipped.prefix)
    }
}

impl<'a> Skipped<'a> {
    /// `None` if both sets are empty.
    pub(crate) fn new(spent: &'a Skip, polled: &'a Skip, prefix: usize) -> Option<Self> {
        (!(spent.is_empty() && polled.is_empty())).then_some(Self { spent, polled, prefix })
    }

    #[inline]
    pub(crate) fn contains(&self, id: BackendId) -> bool {
        self.spent.contains(id) || self.polled.contains(id)
    }
}

impl fmt::Debug for PickContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PickContext").field("skips_none", &self.skips_none()).finish_non_exhaustive()
    }
}

/// A set of backends that a request is not sent to. Allocates nothing while it is empty.
#[derive(Clone, Debug)]
pub(crate) enum Skip {
    /// At most `MAX_SCANNED` ids, which are searched one by one.
    Few(Vec<BackendId>),
    Many(HashSet<BackendId>),
}

/// The empty set.
pub(crate) static SKIP_NONE: Skip = Skip::Few(Vec::new());

const MAX_SCANNED: usize = 16;

impl Default for Skip {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Skip {
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(ids) => ids.len(),
            Self::Many(ids) => ids.len(),
        }
    }

    #[inline]
    pub(crate) fn contains(&self, id: BackendId) -> bool {
        match self {
            Self::Few(ids) => ids.contains(&id),
            Self::Many(ids) => ids.contains(&id),
        }
    }

    pub(crate) fn insert(&mut self, id: BackendId) {
        match self {
            Self::Few(ids) if ids.contains(&id) => {}
            Self::Few(ids) if ids.len() < MAX_SCANNED => ids.push(id),
            Self::Few(ids) => *self = Self::Many(ids.drain(..).chain([id]).collect()),
            Self::Many(ids) => drop(ids.insert(id)),
        }
    }

    pub(crate) fn remove(&mut self, id: BackendId) {
        match self {
            Self::Few(ids) => ids.retain(|other| *other != id),
            Self::Many(ids) => drop(ids.remove(&id)),
        }
    }
}

/// How many candidates at the beginning of a tier are skipped. Kept between the attempts of a request, so that they do
/// not check all of them again. Valid while the set of spent backends only grows.
#[derive(Debug, Default)]
pub(crate) struct Prefix {
    tier_version: u64,
    len: usize,
}

impl Prefix {
    pub(crate) fn update(&mut self, tier_version: u64, candidates: &Candidates<'_>, spent: &Skip) -> usize {
        if self.tier_version != tier_version {
            *self = Self { tier_version, len: 0 };
        }
        while self.len < candidates.len() && spent.contains(candidates[self.len].id()) {
            self.len += 1;
        }
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_with_and_without_an_index() {
        let mut skip = Skip::default();
        for id in 0..100 {
            assert!(!skip.contains(BackendId(id)));
            skip.insert(BackendId(id));
            skip.insert(BackendId(id / 2));
            assert!((0..=id).all(|id| skip.contains(BackendId(id))) && skip.len() as u64 == id + 1);
        }
        for id in 0..100 {
            skip.remove(BackendId(id));
            assert!(!skip.contains(BackendId(id)) && skip.len() as u64 == 99 - id);
        }
    }
}
