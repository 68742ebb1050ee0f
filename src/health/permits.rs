//! The half-open permits: so many at a time, each with a deadline.

use std::num::NonZeroU64;

use crate::time::Moment;

/// Which permit a ticket holds: a serial that is never used twice. At one per nanosecond they last 584 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permit(NonZeroU64);

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    holder: Option<Permit>,
    /// When it may be given away (again); the epoch when it is free.
    lapses: Moment,
}

/// The places for probes, as many as may run at a time.
#[derive(Debug)]
pub(super) struct Permits {
    places: Box<[Place]>,
    next: NonZeroU64,
}

impl Permits {
    pub(super) fn new(probes: u32) -> Self {
        Self { places: vec![Place::default(); probes as usize].into(), next: NonZeroU64::MIN }
    }

    /// Takes a free permit, or one whose holder kept it too long; it lapses at `lapses`.
    pub(super) fn take(&mut self, now: Moment, lapses: Moment) -> Option<Permit> {
        let mut places = self.places.iter_mut();
        let place = places.find(|place| now.reached(place.lapses))?;
        let permit = Permit(self.next);
        self.next = self.next.saturating_add(1);
        *place = Place { holder: Some(permit), lapses };
        Some(permit)
    }

    /// Gives a permit back, unless it has passed on to somebody else meanwhile.
    pub(super) fn give_back(&mut self, permit: Permit) {
        let mut places = self.places.iter_mut();
        if let Some(place) = places.find(|place| place.holder == Some(permit)) {
            *place = Place::default();
        }
    }

    /// Is it still the holder's own, and in time?
    pub(super) fn holds(&self, permit: Permit, now: Moment) -> bool {
        self.places.iter().any(|place| place.holder == Some(permit) && !now.reached(place.lapses))
    }

    /// When the next one may be taken: the epoch while one is free.
    pub(super) fn next_free(&self) -> Moment {
        let lapses = self.places.iter().map(|place| place.lapses);
        lapses.min().unwrap_or(Moment::NEVER)
    }

    /// Frees all of them. Serials go on, so a permit from before gives nothing back.
    pub(super) fn clear(&mut self) {
        self.places.fill(Place::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    #[test]
    fn no_more_than_configured_at_a_time() {
        // C38
        let mut permits = Permits::new(2);
        let first = permits.take(at(1), at(100)).unwrap();
        assert_eq!(permits.next_free(), Moment::EPOCH);
        assert!(permits.take(at(2), at(101)).is_some());
        assert_eq!(permits.next_free(), at(100));
        assert!(permits.take(at(99), at(199)).is_none());
        permits.give_back(first);
        assert!(permits.take(at(99), at(199)).is_some());
        assert!(permits.take(at(99), at(199)).is_none());
    }

    #[test]
    fn a_lapsed_permit_passes_on_and_cannot_be_given_back_by_its_first_holder() {
        // C38
        let mut permits = Permits::new(1);
        let first = permits.take(at(1), at(100)).unwrap();
        let second = permits.take(at(100), at(200)).unwrap();
        permits.give_back(first);
        assert!(permits.take(at(150), at(250)).is_none());
        permits.give_back(second);
        assert!(permits.take(at(150), at(250)).is_some());
    }

    #[test]
    fn a_permit_from_before_a_clearing_gives_nothing_back() {
        // C39
        let mut permits = Permits::new(1);
        let old = permits.take(at(1), at(100)).unwrap();
        permits.clear();
        assert!(permits.take(at(2), at(100)).is_some());
        permits.give_back(old);
        assert!(permits.take(at(3), at(100)).is_none());
    }
}
