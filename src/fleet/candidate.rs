//! What a strategy sees of a tier.

use std::{fmt, num::NonZeroU32, ops::Index, sync::Arc};

use super::member::MemberInfo;
use crate::name::{BackendId, BackendName};

/// The eligible backends of one tier, for a strategy to choose from.
///
/// They are numbered from 0, in the order of the fleet; `candidates[0]` is the first.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    pub(super) all: &'a [Candidate],
    /// Rows of the view.
    pub(super) eligible: &'a [u32],
    /// The first row of the tier.
    pub(super) base: u32,
}

impl<'a> Candidates<'a> {
    /// How many there are.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.eligible.len()
    }

    /// Whether there is none. A strategy is never asked then.
    pub fn is_empty(&self) -> bool {
        self.eligible.is_empty()
    }

    /// The candidates, in the order of the fleet.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a Candidate> + use<'a> {
        let Self { all, eligible, base } = *self;
        eligible.iter().map(move |row| &all[(row - base) as usize])
    }

    /// The whole tier, those that are not eligible included.
    pub fn tier(&self) -> &'a [Candidate] {
        self.all
    }

    /// The place of a candidate in the whole tier: unlike its number it stays when others become eligible or not.
    #[inline(always)]
    pub fn place(&self, number: usize) -> usize {
        (self.eligible[number] - self.base) as usize
    }

    /// The number of the candidate at this place of the tier, if it is eligible; else that of the next one.
    pub fn number(&self, place: usize) -> Result<usize, usize> {
        self.eligible.binary_search(&(place as u32 + self.base))
    }
}

impl Index<usize> for Candidates<'_> {
    type Output = Candidate;

    #[inline]
    fn index(&self, number: usize) -> &Candidate {
        &self.all[self.place(number)]
    }
}

#[cfg(test)]
impl<'a> Candidates<'a> {
    /// Candidates of no fleet, for the tests of the strategies.
    pub(crate) fn of(all: &'a [Candidate], eligible: &'a [u32]) -> Self {
        Self { all, eligible, base: 0 }
    }
}

/// A backend that a strategy may choose.
#[derive(Clone)]
pub struct Candidate(pub(crate) Arc<MemberInfo>);

impl Candidate {
    /// Which backend this is, whatever its name.
    #[inline]
    pub fn id(&self) -> BackendId {
        self.0.id
    }

    /// Its name.
    pub fn name(&self) -> &BackendName {
        &self.0.name
    }

    /// Its weight; never zero.
    #[inline]
    pub fn weight(&self) -> NonZeroU32 {
        self.0.weight()
    }

    /// Its priority. All candidates of one choice have the same.
    pub fn priority(&self) -> i32 {
        self.0.priority()
    }

    /// Its place in the order of the fleet: grows along the candidates, and stays when others come and go.
    pub fn position(&self) -> u64 {
        self.0.position()
    }

    /// How many calls run there now: one read for each thread that makes calls, no lock.
    #[inline]
    pub fn in_flight(&self) -> usize {
        self.0.in_flight()
    }
}

#[cfg(test)]
impl Candidate {
    /// A candidate of no fleet, for the tests of the strategies.
    pub(crate) fn alone(id: u64, weight: u32) -> Self {
        let name = BackendName::lossy(&format!("backend-{id}"));
        let weight = NonZeroU32::new(weight).expect("a weight");
        let settings = super::member::Settings { name, weight, priority: 0, timeout: None };
        Self(Arc::new(MemberInfo::new(BackendId(id), settings, None, 1, crate::time::Clock::start(), None)))
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("name", self.name())
            .field("weight", &self.weight())
            .field("priority", &self.priority())
            .finish_non_exhaustive()
    }
}
