//! Values with one copy per thread, so that no two threads write to the same cache line.
//!
//! Values that every request writes (rotations, reference counts, calls in flight) have one copy per thread. A thread
//! leases one of [`SLOTS`] slots for as long as it runs. Its slot has a single writer, so it is written with a load and
//! a store. The threads that found no free slot use slot [`SHARED`], which is written with atomic read-modify-write
//! operations.

use std::{
    cell::Cell,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// The number of slots, [`SHARED`] included.
pub(crate) const SLOTS: usize = 64;

/// The slot of all threads without one of their own.
pub(crate) const SHARED: usize = 0;

/// One bit per leased slot.
static LEASED: AtomicU64 = AtomicU64::new(1 << SHARED);

thread_local! {
    static SLOT: Cell<u8> = const { Cell::new(UNKNOWN) };
    static LEASE: Lease = Lease::take();
}

const UNKNOWN: u8 = u8::MAX;

/// Returns the slot of this thread.
#[inline(always)]
pub(crate) fn slot() -> usize {
    match SLOT.get() {
        UNKNOWN => assign(),
        slot => slot.into(),
    }
}

#[cold]
fn assign() -> usize {
    // While the thread ends, its lease cannot be accessed any more.
    let slot = LEASE.try_with(|Lease(slot)| *slot).unwrap_or(SHARED);
    SLOT.set(slot as u8);
    slot
}

/// The lease of a slot, for as long as the thread runs.
struct Lease(usize);

impl Lease {
    /// Takes the lowest free slot. A counter with fewer lines than slots thus has one for each of the first threads.
    fn take() -> Self {
        let lowest = |leased: u64| (leased != u64::MAX).then(|| leased | (leased + 1));
        // Acquire: the writes of the slot's last thread are visible.
        match LEASED.fetch_update(Ordering::AcqRel, Ordering::Relaxed, lowest) {
            Ok(leased) => Self(leased.trailing_ones() as usize),
            Err(_) => Self(SHARED),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Code that still runs on this thread uses the shared slot.
        SLOT.set(SHARED as u8);
        if self.0 != SHARED {
            LEASED.fetch_and(!(1 << self.0), Ordering::Release);
        }
    }
}

/// Returns how many cache lines a per-thread counter gets by default: one per core, and a few more.
pub(crate) fn line_count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let cores = thread::available_parallelism().map_or(4, usize::from);
        (cores + 2).next_power_of_two().clamp(4, SLOTS)
    })
}

/// A value on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Line<T>(pub(crate) T);

/// A `u64` per thread: one cache line per slot, or fewer. The slots without a line write to that of [`SHARED`].
#[derive(Debug)]
pub(crate) enum PerThreadU64 {
    /// One number for all threads.
    Single(AtomicU64),
    PerSlot(Box<[Line<AtomicU64>]>),
}

impl PerThreadU64 {
    pub(crate) fn new(lines: usize) -> Self {
        match lines {
            0 | 1 => Self::Single(AtomicU64::new(0)),
            _ => Self::PerSlot((0..lines).map(|_| Line::default()).collect()),
        }
    }

    /// Returns the number of this slot, which has no other writer. `None` if the slot writes to the shared number.
    #[inline(always)]
    pub(crate) fn own(&self, slot: usize) -> Option<&AtomicU64> {
        match self {
            Self::PerSlot(lines) if slot != SHARED => lines.get(slot).map(|Line(number)| number),
            _ => None,
        }
    }

    fn shared(&self) -> &AtomicU64 {
        match self {
            Self::Single(number) => number,
            Self::PerSlot(lines) => &lines[SHARED].0,
        }
    }

    /// Changes the number of this slot, and returns the second part of `change`'s result. On the shared number `change`
    /// may run several times, since threads race.
    #[inline(always)]
    pub(crate) fn update<T>(&self, slot: usize, mut change: impl FnMut(u64) -> (u64, T)) -> T {
        let Some(number) = self.own(slot) else { return self.update_shared(change) };
        let (after, result) = change(number.load(Ordering::Relaxed));
        number.store(after, Ordering::Relaxed);
        result
    }

    #[inline(never)]
    fn update_shared<T>(&self, mut change: impl FnMut(u64) -> (u64, T)) -> T {
        let number = self.shared();
        let mut before = number.load(Ordering::Relaxed);
        loop {
            let (after, result) = change(before);
            match number.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return result,
                Err(now) => before = now,
            }
        }
    }

    /// Adds to the number of this slot. Wraps, so adding `u64::MAX` subtracts one.
    #[inline(always)]
    pub(crate) fn add(&self, slot: usize, amount: u64) {
        match self.own(slot) {
            // Release: a reader that sees the end of a call also sees its effects.
            Some(number) => number.store(number.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Release),
            None => drop(self.shared().fetch_add(amount, Ordering::Release)),
        }
    }

    /// Returns the sum over all threads. Wraps.
    pub(crate) fn sum(&self) -> u64 {
        match self {
            Self::Single(number) => number.load(Ordering::Acquire),
            Self::PerSlot(lines) => {
                lines.iter().fold(0, |sum, Line(number)| sum.wrapping_add(number.load(Ordering::Acquire)))
            }
        }
    }

    /// Returns a copy with each number changed.
    pub(crate) fn map(&self, change: impl Fn(u64) -> u64) -> Self {
        let changed = |number: &AtomicU64| AtomicU64::new(change(number.load(Ordering::Relaxed)));
        match self {
            Self::Single(number) => Self::Single(changed(number)),
            Self::PerSlot(lines) => Self::PerSlot(lines.iter().map(|Line(number)| Line(changed(number))).collect()),
        }
    }
}

/// A value with one copy per thread.
pub(crate) trait PerThread {
    /// Returns the slot of this copy.
    fn slot(&self) -> usize;

    /// Makes the copy for another slot.
    fn sibling(&self, slot: usize) -> Arc<Self>;
}

/// A reference to the copy of the current thread. Each thread counts its clones on its own copy.
#[derive(Debug)]
pub(crate) struct Spread<T> {
    home: Arc<T>,
    /// The copies of other threads, made when such a thread first uses or clones this reference.
    siblings: OnceLock<Box<[OnceLock<Arc<T>>]>>,
}

impl<T: PerThread> Spread<T> {
    pub(crate) fn new(home: Arc<T>) -> Self {
        Self { home, siblings: OnceLock::new() }
    }

    /// Returns the copy of this thread.
    #[inline]
    pub(crate) fn here(&self) -> &Arc<T> {
        let slot = slot();
        if self.home.slot() == slot { &self.home } else { self.sibling(slot) }
    }

    #[inline(never)]
    fn sibling(&self, slot: usize) -> &Arc<T> {
        let siblings = self.siblings.get_or_init(|| (0..SLOTS).map(|_| OnceLock::new()).collect());
        siblings[slot].get_or_init(|| self.home.sibling(slot))
    }
}

impl<T: PerThread> Clone for Spread<T> {
    #[inline]
    fn clone(&self) -> Self {
        Self::new(Arc::clone(self.here()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    // C3
    #[test]
    fn the_sum_is_exact_with_more_threads_than_lines() {
        for lines in [1, 3] {
            let numbers = PerThreadU64::new(lines);
            let start = Barrier::new(16);
            thread::scope(|scope| {
                for _ in 0..16 {
                    scope.spawn(|| {
                        start.wait();
                        (0..10_000).for_each(|_| numbers.add(slot(), 1));
                    });
                }
            });
            assert_eq!(numbers.sum(), 160_000);
        }
    }

    #[test]
    fn concurrent_threads_have_different_slots() {
        let start = Barrier::new(8);
        let slots = thread::scope(|scope| {
            let slot = || {
                start.wait();
                let slot = slot();
                start.wait();
                slot
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(slot)).collect();
            threads.into_iter().map(|thread| thread.join().expect("the thread returns its slot")).collect::<Vec<_>>()
        });
        let own: std::collections::HashSet<_> = slots.iter().filter(|slot| **slot != SHARED).collect();
        assert_eq!(own.len(), slots.iter().filter(|slot| **slot != SHARED).count(), "{slots:?}");
    }
}
