//! A rotation over a fixed sequence of steps, of which only some are eligible at a time.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::shard::{PerThreadU64, SHARED, SLOTS};

/// The position of each thread in the sequence. It is kept as a step of the whole sequence, so a thread continues from
/// its position whichever steps are eligible.
#[derive(Clone, Debug)]
pub(super) struct Rotation(Arc<Cursors>);

#[derive(Debug)]
struct Cursors {
    cursors: PerThreadU64,
    /// The number of threads that have begun.
    begun: AtomicU64,
}

/// The position of a thread: the first step that it may take next, that step's index among the eligible ones when the
/// cursor was written, and whether the thread has begun. 0 is a thread that has not.
#[derive(Clone, Copy)]
struct Cursor(u64);

const BEGUN: u64 = 1 << 63;

impl Cursor {
    fn new(next: usize, index: usize) -> Self {
        Self(BEGUN | (next as u64) << 32 | index as u64)
    }

    fn next(self) -> usize {
        ((self.0 & !BEGUN) >> 32) as usize
    }

    fn index(self) -> usize {
        self.0 as u32 as usize
    }

    fn has_begun(self) -> bool {
        self.0 & BEGUN != 0
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self(Arc::new(Cursors { cursors: PerThreadU64::new(SLOTS), begun: AtomicU64::new(0) }))
    }
}

impl Rotation {
    /// Takes the next eligible step that is not skipped. Returns its index among the eligible steps, or `None` if all
    /// are skipped.
    ///
    /// `len` is the number of eligible steps, and `step` maps an index to its step; steps ascend.
    #[inline(always)]
    pub(super) fn take(
        &self,
        slot: usize,
        len: usize,
        step: impl Fn(usize) -> usize,
        skips: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        match self.0.cursors.own(slot) {
            Some(cursor) => {
                let (after, index) = self.advance(Cursor(cursor.load(Ordering::Relaxed)), len, &step, &skips);
                cursor.store(after.0, Ordering::Relaxed);
                index
            }
            None => self.take_shared(len, &step, &skips),
        }
    }

    #[inline(never)]
    fn take_shared(&self, len: usize, step: &impl Fn(usize) -> usize, skips: &impl Fn(usize) -> bool) -> Option<usize> {
        self.0.cursors.update(SHARED, |cursor| {
            let (after, index) = self.advance(Cursor(cursor), len, step, skips);
            (after.0, index)
        })
    }

    #[inline(always)]
    fn advance(
        &self,
        cursor: Cursor,
        len: usize,
        step: &impl Fn(usize) -> usize,
        skips: &impl Fn(usize) -> bool,
    ) -> (Cursor, Option<usize>) {
        let mut index = cursor.index();
        // The index is a hint, valid while the same steps are eligible.
        if index.wrapping_sub(1) >= len || step(index - 1) + 1 != cursor.next() {
            index = self.find(cursor, len, step);
        }
        if index >= len {
            index = 0;
        }
        if skips(index) {
            match self.next_unskipped(index, len, skips) {
                Some(next) => index = next,
                None => return (cursor, None),
            }
        }
        (Cursor::new(step(index) + 1, index + 1), Some(index))
    }

    #[inline(never)]
    fn next_unskipped(&self, from: usize, len: usize, skips: &impl Fn(usize) -> bool) -> Option<usize> {
        (from..len).chain(0..from).find(|index| !skips(*index))
    }

    /// Finds the index of the first step that the cursor may take; `len` if there is none behind it.
    #[inline(never)]
    fn find(&self, cursor: Cursor, len: usize, step: &impl Fn(usize) -> usize) -> usize {
        if !cursor.has_begun() {
            // Each thread begins one step after the last one, so that threads do not select the same backends in
            // lockstep.
            let begun = self.0.begun.fetch_add(1, Ordering::Relaxed);
            return (begun % len.max(1) as u64) as usize;
        }
        let (mut low, mut high) = (0, len);
        while low < high {
            let middle = low.midpoint(high);
            if step(middle) < cursor.next() { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Copies the rotation to another sequence. `next` maps the next step of a thread to that of the new sequence.
    pub(super) fn moved(&self, next: impl Fn(usize) -> usize) -> Self {
        let move_cursor = |cursor| {
            let cursor = Cursor(cursor);
            if cursor.has_begun() { Cursor::new(next(cursor.next()), 0).0 } else { 0 }
        };
        let begun = AtomicU64::new(self.0.begun.load(Ordering::Relaxed));
        Self(Arc::new(Cursors { cursors: self.0.cursors.map(move_cursor), begun }))
    }
}
