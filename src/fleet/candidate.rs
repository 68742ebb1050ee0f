//! What a strategy sees of the backends that it selects from.

use std::{fmt, num::NonZeroU32, ops::Index, sync::Arc, time::Duration};

use super::member::MemberInfo;
use crate::{
    health::{Decay, FULL_SHARE},
    name::{BackendId, BackendName},
    time::Moment,
};

/// The eligible backends of one tier, from which a strategy selects one.
///
/// They are numbered from 0, in the order of the fleet. `candidates[0]` is the first one.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    /// The whole tier.
    pub(super) all: &'a [Candidate],
    /// Rows of the view, in ascending order.
    pub(super) eligible: &'a [u32],
    /// The first row of the tier.
    pub(super) base: u32,
}

impl<'a> Candidates<'a> {
    /// Returns the number of candidates.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.eligible.len()
    }

    /// Returns whether there is no candidate. No strategy is called then.
    pub fn is_empty(&self) -> bool {
        self.eligible.is_empty()
    }

    /// Returns the candidates, in the order of the fleet.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a Candidate> + use<'a> {
        let Self { all, eligible, base } = *self;
        eligible.iter().map(move |row| &all[(row - base) as usize])
    }

    /// Returns the whole tier, including the backends that are not eligible.
    pub fn tier(&self) -> &'a [Candidate] {
        self.all
    }

    /// Returns the place of a candidate in the whole tier.
    ///
    /// Unlike its number, the place stays the same when the eligibility of other backends changes.
    ///
    /// # Panics
    ///
    /// If there is no candidate with this number.
    #[inline(always)]
    pub fn place(&self, number: usize) -> usize {
        (self.eligible[number] - self.base) as usize
    }

    /// Returns the number of the candidate at a place of the tier.
    ///
    /// # Errors
    ///
    /// The backend at this place is not eligible. Contains the number of the next candidate behind it, which is
    /// [`len`](Self::len) if there is none.
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
    /// Candidates without a fleet, for the tests of the strategies.
    pub(crate) fn of(all: &'a [Candidate], eligible: &'a [u32]) -> Self {
        Self { all, eligible, base: 0 }
    }
}

/// A backend that a strategy may select.
#[derive(Clone)]
pub struct Candidate(pub(crate) Arc<MemberInfo>);

impl Candidate {
    /// Returns the id of the backend.
    #[inline]
    pub fn id(&self) -> BackendId {
        self.0.id
    }

    /// Returns the name of the backend.
    pub fn name(&self) -> &BackendName {
        &self.0.name
    }

    /// Returns the weight of the backend.
    #[inline]
    pub fn weight(&self) -> NonZeroU32 {
        self.0.weight()
    }

    /// Returns the priority of the backend, which all candidates of one pick share.
    pub fn priority(&self) -> i32 {
        self.0.priority()
    }

    /// Returns a number that orders the backends of the fleet: candidates have ascending positions.
    ///
    /// It stays the same while other backends are added and removed, and a replacement inherits it.
    pub fn position(&self) -> u64 {
        self.0.position()
    }

    /// Returns the part of its traffic that the backend gets: 1, or less while it [starts slowly](super::FleetBuilder)
    /// or is slower than its peers. More than 0.
    #[inline]
    pub fn share(&self) -> f32 {
        self.0.share() as f32 / FULL_SHARE as f32
    }

    /// Returns the number of calls in flight at the backend, from one counter: for a strategy that
    /// [needs](crate::pick::Needs::in_flight) it. 0 for other fleets. Calls that began before the first such door was
    /// made are not counted.
    #[inline]
    pub fn load(&self) -> u32 {
        self.0.load().in_flight()
    }

    /// Returns the decaying peak of the time to the first byte at a time of [`now`](crate::pick::PickContext::now), for
    /// this time constant. `None` before the first sample, or if no strategy [needs](crate::pick::Needs::peak) it.
    pub fn peak(&self, now: Duration, time_constant: Duration) -> Option<Duration> {
        let (value, left) = self.0.load().peak(Moment::since_epoch(now), Decay::over(time_constant))?;
        Some(Duration::from_nanos((value * left) as u64))
    }

    /// Returns the mean time to the first byte as of the last sample. `None` before the first one, or if no strategy
    /// [needs](crate::pick::Needs::latency) it.
    pub fn latency(&self) -> Option<Duration> {
        let (value, _) = self.0.load().mean(Moment::EPOCH, Decay::over(Duration::MAX))?;
        Some(Duration::from_nanos(value as u64))
    }

    /// Returns the number of calls in flight at the backend, up to the end of their responses.
    ///
    /// Takes no lock, but reads one counter per thread.
    #[inline]
    pub fn in_flight(&self) -> usize {
        self.0.in_flight()
    }
}

#[cfg(test)]
impl Candidate {
    /// Sets the share of a candidate without a fleet.
    pub(crate) fn set_share(&self, share: f32) {
        self.0.set_share((share * FULL_SHARE as f32) as u32);
    }

    /// A candidate without a fleet, for the tests of the strategies.
    pub(crate) fn alone(id: u64, weight: u32) -> Self {
        let name = BackendName::lossy(&format!("backend-{id}"));
        let weight = NonZeroU32::new(weight).expect("a weight of at least 1");
        let settings = super::member::Settings {
            name,
            weight,
            priority: 0,
            timeout: None,
            limit: None,
            time_limits: Default::default(),
            tags: None,
        };
        Self(Arc::new(MemberInfo::new(
            BackendId(id),
            settings,
            None,
            1,
            crate::time::Clock::start(),
            &Arc::default(),
            None,
        )))
    }

    /// Sets the share of a candidate without a fleet.
    pub(crate) fn with_share(self, share: f32) -> Self {
        self.0.set_share((share * FULL_SHARE as f32) as u32);
        self
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
