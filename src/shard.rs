//! Which line of memory a thread writes to.
//!
//! Numbers that every request writes (rotation, references, calls in flight) are kept once per thread, so that no line
//! of memory travels between cores. A thread leases one of [`SLOTS`] slots for as long as it runs. Slot [`SHARED`] is
//! for all threads beyond them: its numbers are written by atomic read-modify-write, those of the others, which have a
//! single writer, by a load and a store.

use std::{
    cell::Cell,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// How many slots there are, the shared one included.
pub(crate) const SLOTS: usize = 64;

/// The slot of threads that have none of their own.
pub(crate) const SHARED: usize = 0;

/// One bit per slot that is leased.
static LEASED: AtomicU64 = AtomicU64::new(1 << SHARED);

thread_local! {
    static SLOT: Cell<u8> = const { Cell::new(UNKNOWN) };
    static LEASE: Lease = Lease::take();
}

const UNKNOWN: u8 = u8::MAX;

/// The slot of this thread.
#[inline(always)]
pub(crate) fn slot() -> usize {
    match SLOT.get() {
        UNKNOWN => assign(),
        slot => slot.into(),
    }
}

#[cold]
fn assign() -> usize {
    // Without a lease when the thread is ending.
    let slot = LEASE.try_with(|Lease(slot)| *slot).unwrap_or(SHARED);
    SLOT.set(slot as u8);
    slot
}

struct Lease(usize);

impl Lease {
    /// The lowest free slot: the first threads of a process have the lowest ones.
    fn take() -> Self {
        let lowest = |leased: u64| (leased != u64::MAX).then(|| leased | (leased + 1));
        // Acquire: what the slot's last thread wrote is seen.
        match LEASED.fetch_update(Ordering::AcqRel, Ordering::Relaxed, lowest) {
            Ok(leased) => Self(leased.trailing_ones() as usize),
            Err(_) => Self(SHARED),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What runs on this thread after this has no slot of its own.
        SLOT.set(SHARED as u8);
        if self.0 != SHARED {
            LEASED.fetch_and(!(1 << self.0), Ordering::Release);
        }
    }
}

/// How many lines a number is worth that has one line per thread: enough for every core and a few threads more.
pub(crate) fn lines() -> usize {
    static LINES: OnceLock<usize> = OnceLock::new();
    *LINES.get_or_init(|| {
        let cores = thread::available_parallelism().map_or(4, usize::from);
        (cores + 2).next_power_of_two().clamp(4, SLOTS)
    })
}

/// A value on a line of memory of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Line<T>(pub(crate) T);

/// A number with one line per slot, or fewer: then the slots beyond write to the shared line. Of one line it is no more
/// than a number.
#[derive(Debug)]
pub(crate) enum Lines {
    One(AtomicU64),
    Each(Box<[Line<AtomicU64>]>),
}

impl Lines {
    pub(crate) fn new(lines: usize) -> Self {
        match lines {
            0 | 1 => Self::One(AtomicU64::new(0)),
            _ => Self::Each((0..lines).map(|_| Line::default()).collect()),
        }
    }

    /// The number of this slot, which has no other writer; none where threads share one.
    #[inline(always)]
    pub(crate) fn own(&self, slot: usize) -> Option<&AtomicU64> {
        match self {
            Self::Each(lines) if slot != SHARED => lines.get(slot).map(|Line(number)| number),
            _ => None,
        }
    }

    fn shared(&self) -> &AtomicU64 {
        match self {
            Self::One(number) => number,
            Self::Each(lines) => &lines[SHARED].0,
        }
    }

    /// Changes the number of this slot. `change` may be asked several times on the shared line, where threads race.
    #[inline(always)]
    pub(crate) fn update<T>(&self, slot: usize, mut change: impl FnMut(u64) -> (u64, T)) -> T {
        let Some(number) = self.own(slot) else { return self.update_shared(change) };
        let (after, told) = change(number.load(Ordering::Relaxed));
        number.store(after, Ordering::Relaxed);
        told
    }

    #[inline(never)]
    fn update_shared<T>(&self, mut change: impl FnMut(u64) -> (u64, T)) -> T {
        let number = self.shared();
        let mut before = number.load(Ordering::Relaxed);
        loop {
            let (after, told) = change(before);
            match number.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return told,
                Err(now) => before = now,
            }
        }
    }

    /// Adds to the number of this slot; wraps, so that adding `u64::MAX` takes one away.
    #[inline(always)]
    pub(crate) fn add(&self, slot: usize, more: u64) {
        match self.own(slot) {
            // Release, so that a reader which sees a call ended sees what the call did.
            Some(number) => number.store(number.load(Ordering::Relaxed).wrapping_add(more), Ordering::Release),
            None => drop(self.shared().fetch_add(more, Ordering::Release)),
        }
    }

    /// The sum over all threads; wraps.
    pub(crate) fn sum(&self) -> u64 {
        match self {
            Self::One(number) => number.load(Ordering::Acquire),
            Self::Each(lines) => {
                lines.iter().fold(0, |sum, Line(number)| sum.wrapping_add(number.load(Ordering::Acquire)))
            }
        }
    }

    /// The same numbers, changed, on lines of their own.
    pub(crate) fn map(&self, change: impl Fn(u64) -> u64) -> Self {
        let changed = |number: &AtomicU64| AtomicU64::new(change(number.load(Ordering::Relaxed)));
        match self {
            Self::One(number) => Self::One(changed(number)),
            Self::Each(lines) => Self::Each(lines.iter().map(|Line(number)| Line(changed(number))).collect()),
        }
    }
}

/// Something of which each thread has its own copy.
pub(crate) trait PerThread {
    /// The slot this copy is for.
    fn slot(&self) -> usize;

    /// The copy for another slot.
    fn sibling(&self, slot: usize) -> Arc<Self>;
}

/// A reference whose clones are counted on a line of the thread that makes them.
#[derive(Debug)]
pub(crate) struct Spread<T> {
    home: Arc<T>,
    /// Made when another thread first uses or clones this one.
    siblings: OnceLock<Box<[OnceLock<Arc<T>>]>>,
}

impl<T: PerThread> Spread<T> {
    pub(crate) fn new(home: Arc<T>) -> Self {
        Self { home, siblings: OnceLock::new() }
    }

    /// The copy of this thread.
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

    // C3: single writers lose nothing, and nor does the shared line.
    #[test]
    fn a_number_is_exact_over_more_threads_than_lines() {
        for lines in [1, 3] {
            let numbers = Lines::new(lines);
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
    fn threads_that_run_at_once_have_slots_of_their_own() {
        let start = Barrier::new(8);
        let slots = thread::scope(|scope| {
            let slot = || {
                start.wait();
                let slot = slot();
                start.wait();
                slot
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(slot)).collect();
            threads.into_iter().map(|thread| thread.join().expect("a slot")).collect::<Vec<_>>()
        });
        let own: std::collections::HashSet<_> = slots.iter().filter(|slot| **slot != SHARED).collect();
        assert_eq!(own.len(), slots.iter().filter(|slot| **slot != SHARED).count(), "{slots:?}");
    }
}
