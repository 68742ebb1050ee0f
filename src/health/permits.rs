//! The permits of a half-open circuit: a fixed number, each with a deadline.

use std::num::NonZeroU64;

use crate::time::Moment;

/// The permit of one probe, by a serial that is never used twice. At one per nanosecond they last 584 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permit(NonZeroU64);

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    permit: Option<Permit>,
    /// When the slot may be used again; the epoch while it is free.
    expires_at: Moment,
}

/// The permits of one circuit, one slot for each probe that may run at a time.
#[derive(Debug)]
pub(super) struct Permits {
    slots: Box<[Slot]>,
    next: NonZeroU64,
}

impl Permits {
    pub(super) fn new(probes: u32) -> Self {
        Self { slots: vec![Slot::default(); probes as usize].into(), next: NonZeroU64::MIN }
    }

    /// Acquires a free or expired slot, until `expires_at`.
    pub(super) fn acquire(&mut self, now: Moment, expires_at: Moment) -> Option<Permit> {
        let slot = self.slots.iter_mut().find(|slot| now.reached(slot.expires_at))?;
        let permit = Permit(self.next);
        self.next = self.next.saturating_add(1);
        *slot = Slot { permit: Some(permit), expires_at };
        Some(permit)
    }

    /// Releases a permit. Has no effect if it expired and its slot was acquired again.
    pub(super) fn release(&mut self, permit: Permit) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.permit == Some(permit)) {
            *slot = Slot::default();
        }
    }

    /// Whether the permit is still held and has not expired.
    pub(super) fn holds(&self, permit: Permit, now: Moment) -> bool {
        self.slots.iter().any(|slot| slot.permit == Some(permit) && !now.reached(slot.expires_at))
    }

    /// The moment from which on a permit can be acquired; the epoch while a slot is free.
    pub(super) fn next_free_at(&self) -> Moment {
        self.slots.iter().map(|slot| slot.expires_at).min().unwrap_or(Moment::NEVER)
    }

    /// Frees all slots. Serials are not reset, so that the release of an earlier permit has no effect.
    pub(super) fn clear(&mut self) {
        self.slots.fill(Slot::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    #[test]
    fn no_more_permits_are_held_than_configured() {
        // C38
        let mut permits = Permits::new(2);
        let first = permits.acquire(at(1), at(100)).unwrap();
        assert_eq!(permits.next_free_at(), Moment::EPOCH);
        assert!(permits.acquire(at(2), at(101)).is_some());
        assert_eq!(permits.next_free_at(), at(100));
        assert!(permits.acquire(at(99), at(199)).is_none());
        permits.release(first);
        assert!(permits.acquire(at(99), at(199)).is_some());
        assert!(permits.acquire(at(99), at(199)).is_none());
    }

    #[test]
    fn the_release_of_an_expired_permit_does_not_free_its_slot() {
        // C38
        let mut permits = Permits::new(1);
        let first = permits.acquire(at(1), at(100)).unwrap();
        let second = permits.acquire(at(100), at(200)).unwrap();
        permits.release(first);
        assert!(permits.acquire(at(150), at(250)).is_none());
        permits.release(second);
        assert!(permits.acquire(at(150), at(250)).is_some());
    }

    #[test]
    fn the_release_of_a_permit_from_before_a_clear_has_no_effect() {
        // C39
        let mut permits = Permits::new(1);
        let old = permits.acquire(at(1), at(100)).unwrap();
        permits.clear();
        assert!(permits.acquire(at(2), at(100)).is_some());
        permits.release(old);
        assert!(permits.acquire(at(3), at(100)).is_none());
    }
}
