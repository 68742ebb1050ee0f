//! The state that all readers of a body share: the source, the kept frames, and the position of each reader.
//!
//! A short lock guards the state. The source is never polled under the lock: the reader that finds it idle takes it
//! out, polls it and puts it back. A reader that comes meanwhile waits until it is woken. So no reader blocks on the
//! poll of another one, a source may wake or drop readers from inside its poll, and a source that panics leaves the
//! state intact.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{
    ReplayError, ReplayMemory, Unreplayable,
    frames::Frames,
    memory::Charge,
    wakers::{ReaderWakers, Wakeups},
};

pub(super) struct SharedBody<B> {
    state: Mutex<State<B>>,
    pub(super) limit: usize,
}

pub(super) struct State<B> {
    pub(super) source: Source<B>,
    /// The size hint of the source when it was last put back.
    pub(super) rest: SizeHint,
    /// How many bytes were pulled from the source.
    pub(super) pulled: u64,
    frames: Frames,
    /// What `frames` are charged for.
    charge: Charge,
    /// How many handles have not started to read. While there is one, every frame is kept from the very start.
    unread: usize,
    /// How many handles have started to read.
    readers: usize,
    /// How many of the readers have read all kept frames.
    caught_up: usize,
    next_id: u64,
    /// Made when a reader first has to wait.
    wakers: Option<Arc<ReaderWakers>>,
}

pub(super) enum Source<B> {
    /// No reader polls it.
    Idle(B),
    /// A reader has taken it out to poll it.
    Polled,
    /// It came to its end.
    Ended,
    /// It failed. The frames before the failure are still kept.
    Failed(ReplayError),
    /// One reader took it over for good, and no frame is kept.
    TakenOver(Unreplayable),
}

/// Held while the source is out of the state for a poll. If the poll panics, marks the source as failed and wakes the
/// waiting readers.
pub(super) struct PollGuard<'a, B> {
    shared: &'a SharedBody<B>,
    is_done: bool,
}

impl<B: Body> SharedBody<B> {
    /// Creates the state with one handle, which has not started to read and has the id 0.
    pub(super) fn new(source: B, limit: usize, memory: ReplayMemory) -> Self {
        let state = State {
            rest: source.size_hint(),
            source: Source::Idle(source),
            pulled: 0,
            frames: Frames::default(),
            charge: Charge::new(memory),
            unread: 1,
            readers: 0,
            caught_up: 0,
            next_id: 1,
            wakers: None,
        };
        Self { state: Mutex::new(state), limit }
    }
}

impl<B> SharedBody<B> {
    pub(super) fn lock(&self) -> MutexGuard<'_, State<B>> {
        // The only foreign code under this lock is the clone of a waker, before anything is changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Guards a poll of the source.
    pub(super) fn poll_guard(&self) -> PollGuard<'_, B> {
        PollGuard { shared: self, is_done: false }
    }
}

impl<B> State<B> {
    /// Adds a handle that has not started to read, and returns its id.
    pub(super) fn add_unread(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.unread += 1;
        id
    }

    /// Makes an unread handle a reader, at the first frame.
    pub(super) fn start_reading(&mut self) {
        self.unread -= 1;
        self.readers += 1;
        self.add_position(0);
    }

    /// Removes an unread handle. Returns the frames that are not needed any more.
    pub(super) fn remove_unread(&mut self) -> Frames {
        self.unread -= 1;
        self.trim()
    }

    /// Removes a reader at a position. Returns the frames that are not needed any more.
    pub(super) fn remove_reader(&mut self, position: u64) -> Frames {
        self.readers -= 1;
        self.remove_position(position);
        self.trim()
    }

    /// Whether there is only one handle.
    pub(super) fn has_one_handle(&self) -> bool {
        self.unread + self.readers == 1
    }

    /// Whether a frame is kept for a reader at a position.
    pub(super) fn has_kept(&self, position: u64) -> bool {
        self.frames.has(position)
    }

    /// Returns what is kept for a reader at `position` as one frame, and the position after it.
    pub(super) fn read(&mut self, position: u64) -> Option<(Frame<Bytes>, u64)> {
        let read = self.frames.read(position);
        self.charge.shrink_to(self.frames.cost());
        read
    }

    /// Moves a reader that has read a kept frame. Returns the frames that are not needed any more.
    pub(super) fn advance(&mut self, from: u64, to: u64) -> Frames {
        self.remove_position(from);
        self.add_position(to);
        self.trim()
    }

    /// Keeps a frame for the other readers, if there is anything in it for them. It was pulled by a reader that had
    /// read all kept frames.
    ///
    /// Returns how far the end has moved, or why the frame cannot be kept.
    pub(super) fn keep(
        &mut self,
        frame: &Frame<Bytes>,
        has_own_buffer: bool,
        limit: usize,
    ) -> Result<u64, Unreplayable> {
        if self.has_one_handle() {
            return Err(Unreplayable::Begun);
        }
        let Some(addition) = self.frames.plan(frame, has_own_buffer, limit)? else {
            return Ok(0);
        };
        if !self.charge.grow(addition.cost) {
            return Err(Unreplayable::ProcessLimit);
        }
        let (start, span) = (self.frames.end(), addition.span);
        self.frames.add(addition);
        self.charge.shrink_to(self.frames.cost());
        // The other readers that had caught up have yet to read it. The reader that pulled it has read it.
        let behind = mem::replace(&mut self.caught_up, 1) - 1;
        if let Some(readers) = self.frames.readers(start) {
            *readers += behind;
        }
        Ok(span)
    }

    /// Marks the source as taken over by one reader. Returns the frames, which are of no use without the source.
    pub(super) fn take_over(&mut self, reason: Unreplayable) -> Frames {
        self.source = Source::TakenOver(reason);
        self.charge.shrink_to(0);
        mem::take(&mut self.frames)
    }

    /// Puts the source back with its new size hint. If that is `None` the source has ended, and is returned.
    pub(super) fn put_back(&mut self, source: B, rest: Option<SizeHint>) -> Option<B> {
        let Some(rest) = rest else {
            self.end(Source::Ended);
            return Some(source);
        };
        self.rest = rest;
        self.source = Source::Idle(source);
        None
    }

    /// Marks the source as ended or failed: no frame follows the kept ones.
    pub(super) fn end(&mut self, source: Source<B>) {
        self.source = source;
        self.frames.seal();
        self.charge.shrink_to(self.frames.cost());
    }

    /// The list of waiting readers, which is made if there is none.
    pub(super) fn wakers(&mut self) -> &Arc<ReaderWakers> {
        self.wakers.get_or_insert_default()
    }

    /// The list of waiting readers, if there is one.
    pub(super) fn existing_wakers(&self) -> Option<&Arc<ReaderWakers>> {
        self.wakers.as_ref()
    }

    /// Takes the wakers of all waiting readers.
    pub(super) fn take_wakers(&self) -> Wakeups {
        self.wakers.as_deref().map(ReaderWakers::take).unwrap_or_default()
    }

    /// Takes the wakers of the readers that have missed a wake-up during the poll that ends now.
    pub(super) fn take_late_wakers(&self) -> Wakeups {
        self.wakers.as_deref().map(ReaderWakers::take_late).unwrap_or_default()
    }

    /// Counts a reader at a position.
    fn add_position(&mut self, position: u64) {
        match self.frames.readers(position) {
            Some(readers) => *readers += 1,
            None => self.caught_up += 1,
        }
    }

    fn remove_position(&mut self, position: u64) {
        if matches!(self.source, Source::TakenOver(_)) {
            // The positions were dropped together with the frames.
            return;
        }
        match self.frames.readers(position) {
            Some(readers) => *readers -= 1,
            None => self.caught_up -= 1,
        }
    }

    /// Takes out the frames that all readers have passed, to be dropped when the lock is not held.
    fn trim(&mut self) -> Frames {
        // An unread handle needs every frame. Without any handle, the state is about to be dropped with its frames.
        if self.unread > 0 || self.readers == 0 {
            return Frames::default();
        }
        let passed = self.frames.take_passed();
        self.charge.shrink_to(self.frames.cost());
        passed
    }
}

impl<'a, B> PollGuard<'a, B> {
    /// Ends the poll. Returns the locked state, where the caller has to set the source.
    pub(super) fn finish(mut self) -> MutexGuard<'a, State<B>> {
        self.is_done = true;
        self.shared.lock()
    }
}

impl<B> Drop for PollGuard<'_, B> {
    fn drop(&mut self) {
        if !self.is_done {
            let wakeups = {
                let mut state = self.shared.lock();
                state.source = Source::Failed(ReplayError::Panicked);
                state.take_wakers()
            };
            wakeups.wake();
        }
    }
}
