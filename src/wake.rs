//! The wakers of tasks that wait for a backend to become eligible.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use futures::task::AtomicWaker;

/// The wakers of tasks that found every backend pending, or a circuit open. All are woken at each change, and search
/// again.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<Vec<Weak<AtomicWaker>>>);

impl Waiters {
    /// Adds a waker. The task owns it and registers itself in it; dropping it removes it.
    pub(crate) fn join(&self) -> Arc<AtomicWaker> {
        let waker = Arc::new(AtomicWaker::new());
        let mut wakers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if wakers.len() == wakers.capacity() {
            // Before the list grows, so that dropped wakers take up no memory.
            wakers.retain(|waker| waker.strong_count() > 0);
        }
        wakers.push(Arc::downgrade(&waker));
        waker
    }

    /// Wakes all tasks.
    pub(crate) fn wake(&self) {
        let mut wakers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.retain(|waker| waker.strong_count() > 0);
        let waiting: Vec<_> = wakers.iter().filter_map(Weak::upgrade).collect();
        drop(wakers);
        // Outside the lock: a waker may drop its task, and with it guards that wake others. A waker that panics must
        // not keep the others from being woken.
        let woken = waiting.iter().map(|waker| catch_unwind(AssertUnwindSafe(|| waker.wake())));
        if let Some(panic) = woken.filter_map(Result::err).reduce(|first, _| first) {
            resume_unwind(panic);
        }
    }
}
