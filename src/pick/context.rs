use std::{collections::HashSet, fmt, time::Duration};

use crate::{fleet::Candidate, name::BackendId, rng::Rng, time::Moment};

/// What a pick may look at beside the candidates.
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

    /// A source of random numbers.
    pub fn rng(&mut self) -> &mut Rng {
        self.rng
    }

    /// The time since a moment that stays the same. Reads the clock when it is called, and not before.
    pub fn now(&self) -> Duration {
        (self.now)().since(Moment::EPOCH)
    }

    /// Whether the request must not be sent to this candidate: it is not ready, failed, or was tried already.
    ///
    /// A pick that ignores this is asked again a few times, and then chance decides among the rest.
    #[inline]
    pub fn skips(&self, candidate: &Candidate) -> bool {
        self.skip.contains(candidate.id())
    }

    /// Whether nothing is to be skipped, as for nearly every request.
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

/// The backends that a request is not to be sent to. Empty it costs nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Skip {
    few: Vec<BackendId>,
    /// All of them, once they are many.
    many: Option<HashSet<BackendId>>,
}

/// Nothing is to be skipped.
pub(crate) static SKIP_NONE: Skip = Skip { few: Vec::new(), many: None };

/// So many are looked through one by one.
const FEW: usize = 16;

impl Skip {
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.few.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.few.len()
    }

    #[inline]
    pub(crate) fn contains(&self, id: BackendId) -> bool {
        match &self.many {
            None => self.few.contains(&id),
            Some(many) => many.contains(&id),
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = BackendId> {
        self.few.iter().copied()
    }

    pub(crate) fn insert(&mut self, id: BackendId) {
        if self.contains(id) {
            return;
        }
        self.few.push(id);
        match &mut self.many {
            Some(many) => drop(many.insert(id)),
            None if self.few.len() > FEW => self.many = Some(self.few.iter().copied().collect()),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_are_skipped_alike() {
        let mut skip = Skip::default();
        for id in 0..100 {
            assert!(!skip.contains(BackendId(id)));
            skip.insert(BackendId(id));
            skip.insert(BackendId(id / 2));
            assert!((0..=id).all(|id| skip.contains(BackendId(id))) && skip.len() as u64 == id + 1);
        }
    }
}
