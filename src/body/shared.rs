//! One source, its kept frames, and the readers of both.
//!
//! A short lock guards the bookkeeping. The source is never polled under it: the reader that finds
//! the source idle takes it out, polls it and puts it back, and one that comes meanwhile waits to
//! be woken like any other. So no reader blocks on another's poll, a source may wake or drop
//! readers from inside its poll, and one that panics leaves the bookkeeping whole.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::frames::{Frames, Kept, Slot};
use super::memory::Charge;
use super::waiters::{Waiters, Wakeups};
use super::{ReplayError, ReplayMemory, Unreplayable};

/// What a kept frame takes besides its bytes. It counts, or a body sent a byte at a time would hold
/// many times the memory that it is charged for.
pub(super) const FRAME_COST: usize = 64;

pub(super) struct Shared<B> {
    state: Mutex<State<B>>,
    pub(super) limit: usize,
}

pub(super) struct State<B> {
    pub(super) source: Source<B>,
    /// What the source has yet to say, as it was when it was last put back.
    pub(super) rest: SizeHint,
    /// Bytes that came out of the source so far.
    pub(super) pulled: u64,
    frames: Frames,
    /// Bytes in `frames`; what `limit` bounds.
    kept: usize,
    charge: Charge,
    /// How many frames were dropped at the front, all readers having passed them.
    base: usize,
    /// Handles that have not begun to read. While there is one everything is kept from the very
    /// start.
    unread: usize,
    /// Handles that have begun.
    readers: usize,
    /// Those of them that have read all there is.
    caught_up: usize,
    next_id: u64,
    /// Made when a reader first has to wait.
    waiters: Option<Arc<Waiters>>,
}

pub(super) enum Source<B> {
    /// Nobody polls it.
    Idle(B),
    /// A reader has taken it out to poll it.
    Polled,
    /// It came to its end.
    Ended,
    /// It came to a bad end; the frames before that are still kept.
    Failed(ReplayError),
    /// It went to one reader for good, and no frame is kept.
    Lost(Unreplayable),
}

/// The time in which the source is out; if it ends by a panic, the readers that wait are told.
pub(super) struct Absence<'a, B> {
    shared: &'a Shared<B>,
    over: bool,
}

impl<B: Body> Shared<B> {
    /// With one handle, which has not begun and has the id 0.
    pub(super) fn new(source: B, limit: usize, memory: ReplayMemory) -> Self {
        let state = State {
            rest: source.size_hint(),
            source: Source::Idle(source),
            pulled: 0,
            frames: Frames::default(),
            kept: 0,
            charge: Charge::new(memory),
            base: 0,
            unread: 1,
            readers: 0,
            caught_up: 0,
            next_id: 1,
            waiters: None,
        };
        Self { state: Mutex::new(state), limit }
    }
}

impl<B> Shared<B> {
    pub(super) fn lock(&self) -> MutexGuard<'_, State<B>> {
        // No foreign code runs under this lock but the clone of a frame or a waker, before anything
        // is changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the time in which the source is out.
    pub(super) fn absence(&self) -> Absence<'_, B> {
        Absence { shared: self, over: false }
    }
}

impl<B> State<B> {
    /// One more handle that has not begun; returns its id.
    pub(super) fn join(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.unread += 1;
        id
    }

    /// A handle that has not begun begins, at the first frame.
    pub(super) fn begin(&mut self) {
        self.unread -= 1;
        self.readers += 1;
        self.arrive(0);
    }

    /// The handle goes that has not begun.
    pub(super) fn leave_unread(&mut self) -> Frames {
        self.unread -= 1;
        self.trim()
    }

    /// The reader goes whose next frame is `next`.
    pub(super) fn leave(&mut self, next: usize) -> Frames {
        self.readers -= 1;
        self.depart(next);
        self.trim()
    }

    /// Whether the one who asks is the only handle there is.
    pub(super) fn is_alone(&self) -> bool {
        self.unread + self.readers == 1
    }

    pub(super) fn kept(&self, next: usize) -> Option<&Kept> {
        self.frames.get(next - self.base).map(|slot| &slot.frame)
    }

    /// The reader has read the kept frame `next`. Returns what nobody needs any more.
    pub(super) fn advance(&mut self, next: usize) -> Frames {
        self.depart(next);
        self.arrive(next + 1);
        self.trim()
    }

    /// Keeps the frame that a reader which had caught up has pulled, if there is something in it for
    /// the others, or says why that is not done.
    pub(super) fn offer(&mut self, frame: &Frame<Bytes>, limit: usize) -> Result<bool, Unreplayable> {
        if self.is_alone() {
            return Err(Unreplayable::Begun);
        }
        let Some(frame) = Kept::of(frame) else {
            return Ok(false);
        };
        let weight = frame.weight();
        let kept = self.kept.saturating_add(weight);
        if kept > limit || self.frames.len() >= most_frames(limit) {
            return Err(Unreplayable::TooLarge { limit });
        }
        if !self.charge.grow(weight.saturating_add(FRAME_COST)) {
            return Err(Unreplayable::ProcessLimit);
        }
        self.kept = kept;
        // The others that had caught up have it as their next now; the one that pulled it has it
        // already.
        let behind = mem::replace(&mut self.caught_up, 1) - 1;
        self.frames.push(Slot { frame, readers: behind });
        Ok(true)
    }

    /// The source goes to one reader for good. Returns the frames, which nobody can use without it.
    pub(super) fn lose(&mut self, why: Unreplayable) -> Frames {
        self.source = Source::Lost(why);
        self.kept = 0;
        self.charge.clear();
        mem::take(&mut self.frames)
    }

    /// The source is back, with so much to say yet; if it has nothing to say it is returned.
    pub(super) fn put_back(&mut self, source: B, rest: Option<SizeHint>) -> Option<B> {
        let Some(rest) = rest else {
            self.source = Source::Ended;
            return Some(source);
        };
        self.rest = rest;
        self.source = Source::Idle(source);
        None
    }

    /// The list of those who wait, made if there is none.
    pub(super) fn waiters(&mut self) -> &Arc<Waiters> {
        self.waiters.get_or_insert_default()
    }

    pub(super) fn known_waiters(&self) -> Option<&Arc<Waiters>> {
        self.waiters.as_ref()
    }

    /// Everybody who waits: there is news.
    pub(super) fn take_waiting(&self) -> Wakeups {
        self.waiters.as_deref().map(Waiters::take).unwrap_or_default()
    }

    /// Those who wait and have not heard of a wake-up during the poll that ends now.
    pub(super) fn take_late(&self) -> Wakeups {
        self.waiters.as_deref().map(Waiters::take_late).unwrap_or_default()
    }

    fn arrive(&mut self, next: usize) {
        match self.frames.get_mut(next - self.base) {
            Some(slot) => slot.readers += 1,
            None => self.caught_up += 1,
        }
    }

    fn depart(&mut self, next: usize) {
        if matches!(self.source, Source::Lost(_)) {
            // The frames are gone, and with them where everybody was.
            return;
        }
        match self.frames.get_mut(next - self.base) {
            Some(slot) => slot.readers -= 1,
            None => self.caught_up -= 1,
        }
    }

    /// Takes out the frames that everybody has passed, to be dropped when the lock is not held.
    fn trim(&mut self) -> Frames {
        let mut passed = Frames::default();
        // With the last handle goes everything, frames and all.
        if self.unread > 0 || self.readers == 0 {
            return passed;
        }
        let mut freed = 0;
        while let Some(slot) = self.frames.pop_passed() {
            let weight = slot.frame.weight();
            self.kept -= weight;
            self.base += 1;
            freed += weight.saturating_add(FRAME_COST);
            passed.push(slot);
        }
        self.charge.shrink(freed);
        passed
    }
}

impl<'a, B> Absence<'a, B> {
    /// Ends it: the caller says now where the source goes.
    pub(super) fn end(mut self) -> MutexGuard<'a, State<B>> {
        self.over = true;
        self.shared.lock()
    }
}

impl<B> Drop for Absence<'_, B> {
    fn drop(&mut self) {
        if !self.over {
            let waiting = {
                let mut state = self.shared.lock();
                state.source = Source::Failed(ReplayError::Panicked);
                state.take_waiting()
            };
            waiting.wake();
        }
    }
}

/// How many frames are kept of a body: as many as it takes when they are small but not absurd.
fn most_frames(limit: usize) -> usize {
    (limit / FRAME_COST).max(FRAME_COST)
}
