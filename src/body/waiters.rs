//! Who is to be woken when the source has something.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// The wakers of all readers that wait for one source.
///
/// The source keeps the waker of its last poll only, which would be that of one reader. So it is
/// polled with this one, which wakes them all: the one that polled may be slow or gone, and any of
/// the others can carry on.
///
/// It knows nothing of the source: a source that keeps its waker must not keep itself alive by it.
#[derive(Default)]
pub(super) struct Waiters {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    // The second reader to wait at the same time is the first to cost an allocation.
    first: Option<(u64, Waker)>,
    rest: Vec<(u64, Waker)>,
    woken: bool,
}

/// Wakers taken out of the list, to be woken (or dropped) when no lock is held: both can run any
/// code, also code that drops a reader.
#[must_use]
#[derive(Default)]
pub(super) struct Wakeups {
    first: Option<(u64, Waker)>,
    rest: Vec<(u64, Waker)>,
}

impl Waiters {
    /// Adds a reader, and returns the waker that its own replaces.
    #[must_use = "to be dropped when no lock is held"]
    pub(super) fn register(&self, reader: u64, waker: &Waker) -> Option<Waker> {
        self.lock().register(reader, waker)
    }

    /// Adds the reader that is about to poll the source, and begins to watch for wake-ups during
    /// that poll.
    #[must_use = "to be dropped when no lock is held"]
    pub(super) fn arm(&self, reader: u64, waker: &Waker) -> Option<Waker> {
        let mut waiting = self.lock();
        waiting.woken = false;
        waiting.register(reader, waker)
    }

    /// Those who came after a wake-up that fell into the poll which ends now with nothing: they
    /// heard nothing of it.
    pub(super) fn take_late(&self) -> Wakeups {
        let mut waiting = self.lock();
        if waiting.woken { waiting.take() } else { Wakeups::default() }
    }

    /// Everybody.
    pub(super) fn take(&self) -> Wakeups {
        self.lock().take()
    }

    /// Takes out one reader's waker.
    #[must_use = "to be dropped when no lock is held"]
    pub(super) fn remove(&self, reader: u64) -> Option<Waker> {
        self.lock().remove(reader)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing inside can be left half done: a waker that panicked while it was cloned was not
        // stored.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn register(&mut self, reader: u64, waker: &Waker) -> Option<Waker> {
        let mut all = self.first.iter_mut().chain(&mut self.rest);
        if let Some((_, known)) = all.find(|(id, _)| *id == reader) {
            return (!known.will_wake(waker)).then(|| mem::replace(known, waker.clone()));
        }
        let new = (reader, waker.clone());
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
        for (_, waker) in self.first.into_iter().chain(self.rest) {
            waker.wake();
        }
    }
}

impl Wake for Waiters {
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
