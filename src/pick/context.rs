//! What a pick knows beside the candidates: the skipped backends, random numbers, the time.

use std::{collections::HashSet, fmt, time::Duration};

use crate::{fleet::Candidate, name::BackendId, rng::Rng, time::Moment};

/// What a [`Pick`](super::Pick) knows beside the candidates: the skipped backends, random numbers, the time.
pub struct PickContext<'a> {
    rng: &'a mut Rng,
    skip: &'a Skip,
    now: &'a dyn Fn() -> Moment,
    pub(super) slot: usize,
}

impl<'a> PickContext<'a> {
    pub(crate) fn new(rng: &'a mut Rng, skip: &'a Skip, now: &'a dyn Fn() -> Moment, slot: usize) -> Self {
        Self { rng, skip, now, slot }
    }

    /// Returns a random number below `bound`, uniformly distributed; 0 if `bound` is 0.
    #[inline]
    pub fn random_below(&mut self, bound: usize) -> usize {
        self.rng.below(bound)
    }

    /// Returns the time since a fixed moment, for differences. Reads the clock only when it is called.
    ///
    /// The moment is the same for all requests of a fleet.
    pub fn now(&self) -> Duration {
        (self.now)().since(Moment::EPOCH)
    }

    /// Returns whether the request must not be sent to this candidate: it is not ready, or was tried for it already.
    ///
    /// A pick that returns a skipped candidate is called again a few times; then another candidate is selected at
    /// random.
    #[inline]
    pub fn skips(&self, candidate: &Candidate) -> bool {
        self.skip.contains(candidate.id())
    }

    /// Returns whether no candidate is skipped, which is so for nearly every request.
    #[inline(always)]
    pub fn skips_none(&self) -> bool {
        self.skip.is_empty()
    }
}

impl fmt::Debug for PickContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PickContext").field("skips", &self.skip.len()).finish_non_exhaustive()
    }
}

/// A set of backends that a request is not sent to. Allocates nothing while it is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Skip {
    ids: Vec<BackendId>,
    /// The same ids, once they are more than `MAX_SCANNED`.
    index: Option<HashSet<BackendId>>,
}

/// The empty set.
pub(crate) static SKIP_NONE: Skip = Skip { ids: Vec::new(), index: None };

/// The most ids that are searched one by one.
const MAX_SCANNED: usize = 16;

impl Skip {
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    #[inline]
    pub(crate) fn contains(&self, id: BackendId) -> bool {
        match &self.index {
            None => self.ids.contains(&id),
            Some(index) => index.contains(&id),
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = BackendId> {
        self.ids.iter().copied()
    }

    pub(crate) fn insert(&mut self, id: BackendId) {
        if self.contains(id) {
            return;
        }
        self.ids.push(id);
        match &mut self.index {
            Some(index) => drop(index.insert(id)),
            None if self.ids.len() > MAX_SCANNED => self.index = Some(self.ids.iter().copied().collect()),
            None => {}
        }
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
    }
}
