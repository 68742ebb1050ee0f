//! A walk round a fixed sequence of steps, of which only some may be taken at a time.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::shard::{Lines, SHARED, SLOTS};

/// Where each thread stands in the sequence. Steps are numbered in the whole sequence, so that a thread goes on from
/// its place whatever may be taken now.
#[derive(Clone, Debug)]
pub(super) struct Rotation(Arc<Cursors>);

#[derive(Debug)]
struct Cursors {
    lines: Lines,
    /// How many threads have begun.
    begun: AtomicU64,
}

/// The first step that comes into question, the index at which it was among the open ones, and whether the thread has
/// begun at all.
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
        Self(Arc::new(Cursors { lines: Lines::new(SLOTS), begun: AtomicU64::new(0) }))
    }
}

impl Rotation {
    /// Takes the next open step that is not skipped; its index among the open ones.
    ///
    /// `step` tells the step behind an index among `open` of them; steps rise with the index.
    #[inline(always)]
    pub(super) fn take(
        &self,
        slot: usize,
        open: usize,
        step: impl Fn(usize) -> usize,
        skips: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        match self.0.lines.own(slot) {
            Some(cursor) => {
                let (after, index) = self.advance(Cursor(cursor.load(Ordering::Relaxed)), open, &step, &skips);
                cursor.store(after.0, Ordering::Relaxed);
                index
            }
            None => self.take_shared(open, &step, &skips),
        }
    }

    #[inline(never)]
    fn take_shared(
        &self,
        open: usize,
        step: &impl Fn(usize) -> usize,
        skips: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        self.0.lines.update(SHARED, |cursor| {
            let (after, index) = self.advance(Cursor(cursor), open, step, skips);
            (after.0, index)
        })
    }

    #[inline(always)]
    fn advance(
        &self,
        cursor: Cursor,
        open: usize,
        step: &impl Fn(usize) -> usize,
        skips: &impl Fn(usize) -> bool,
    ) -> (Cursor, Option<usize>) {
        let mut index = cursor.index();
        // The index is a hint: it holds as long as the same steps are open.
        if index.wrapping_sub(1) >= open || step(index - 1) + 1 != cursor.next() {
            index = self.find(cursor, open, step);
        }
        if index >= open {
            index = 0;
        }
        if skips(index) {
            match self.next_open(index, open, skips) {
                Some(next) => index = next,
                None => return (cursor, None),
            }
        }
        (Cursor::new(step(index) + 1, index + 1), Some(index))
    }

    #[inline(never)]
    fn next_open(&self, from: usize, open: usize, skips: &impl Fn(usize) -> bool) -> Option<usize> {
        (from..open).chain(0..from).find(|index| !skips(*index))
    }

    #[inline(never)]
    fn find(&self, cursor: Cursor, open: usize, step: &impl Fn(usize) -> usize) -> usize {
        if !cursor.has_begun() {
            // Each further thread begins one step later, so that they are not in step.
            let begun = self.0.begun.fetch_add(1, Ordering::Relaxed);
            return (begun % open.max(1) as u64) as usize;
        }
        let (mut low, mut high) = (0, open);
        while low < high {
            let middle = low.midpoint(high);
            if step(middle) < cursor.next() { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The same threads at other places, in another sequence.
    pub(super) fn moved(&self, next: impl Fn(usize) -> usize) -> Self {
        let move_one = |cursor| {
            let cursor = Cursor(cursor);
            if cursor.has_begun() { Cursor::new(next(cursor.next()), 0).0 } else { 0 }
        };
        let begun = AtomicU64::new(self.0.begun.load(Ordering::Relaxed));
        Self(Arc::new(Cursors { lines: self.0.lines.map(move_one), begun }))
    }
}
