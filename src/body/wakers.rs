//! The wakers of the readers that wait for one source.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Wake, Waker},
};

use super::upload::wake_all;

/// The wakers of all readers that wait for one source.
///
/// The source keeps the waker of its last poll only, which would be that of one reader. That reader may be slow or
/// dropped while any of the others could go on. So the source is polled with this waker, which wakes all of them.
///
/// It holds no reference to the source: a source that keeps its waker must not keep itself alive.
#[derive(Default)]
pub(super) struct ReaderWakers {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    // Inline: only a second waiting reader costs an allocation.
    first: Option<(u64, Waker)>,
    rest: Vec<(u64, Waker)>,
    /// Whether the source has woken the readers since its last poll began.
    woken: bool,
}

/// Wakers taken out of the list, to be woken or dropped when no lock is held. Both can run any code, including code
/// that drops a reader.
#[must_use]
#[derive(Default)]
pub(super) struct Wakeups {
    first: Option<(u64, Waker)>,
    rest: Vec<(u64, Waker)>,
}

impl ReaderWakers {
    /// Adds the waker of a reader, and returns the one that it replaces.
    #[must_use = "to be dropped when no lock is held"]
    pub(super) fn register(&self, reader: u64, waker: &Waker) -> Option<Waker> {
        // Cloned outside of the lock: a waker may be any code.
        let waker = waker.clone();
        self.lock().register(reader, waker)
    }

    /// Adds the waker of the reader that is about to poll the source, and starts to watch for wake-ups during that
    /// poll.
    #[must_use = "to be dropped when no lock is held"]
    pub(super) fn arm(&self, reader: u64, waker: &Waker) -> Option<Waker> {
        let waker = waker.clone();
        let mut waiting = self.lock();
        waiting.woken = false;
        waiting.register(reader, waker)
    }

    /// Takes the wakers that were added after a wake-up during the poll that ends now: they have missed it. None if
    /// there was no wake-up.
    pub(super) fn take_late(&self) -> Wakeups {
        let mut waiting = self.lock();
        if waiting.woken { waiting.take() } else { Wakeups::default() }
    }

    /// Takes all wakers.
    pub(super) fn take(&self) -> Wakeups {
        self.lock().take()
    }

    /// Takes the waker of one reader.
    #[must_use = "to be dropped when no lock is held"]
    pub(super) fn remove(&self, reader: u64) -> Option<Waker> {
        self.lock().remove(reader)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No foreign code runs under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn register(&mut self, reader: u64, waker: Waker) -> Option<Waker> {
        let mut all = self.first.iter_mut().chain(&mut self.rest);
        if let Some((_, known)) = all.find(|(id, _)| *id == reader) {
            return Some(mem::replace(known, waker));
        }
        let new = (reader, waker);
        match self.first {
            None => self.first = Some(new),
            Some(_) => self.rest.push(new),
        }
        None
    }

    fn remove(&mut self, reader: u64) -> Option<Waker> {
        if let Some((_, waker)) = self.first.take_if(|(id, _)| *id == reader) {
            return Some(waker);
        }
        let at = self.rest.iter().position(|(id, _)| *id == reader)?;
        Some(self.rest.swap_remove(at).1)
    }

    fn take(&mut self) -> Wakeups {
        Wakeups { first: self.first.take(), rest: mem::take(&mut self.rest) }
    }
}

impl Wakeups {
    pub(super) fn wake(self) {
        wake_all(self.first.into_iter().chain(self.rest).map(|(_, waker)| waker));
    }
}

impl Wake for ReaderWakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wakeups = {
            let mut waiting = self.lock();
            waiting.woken = true;
            waiting.take()
        };
        wakeups.wake();
    }
}
