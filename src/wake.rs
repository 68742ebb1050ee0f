use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use futures::task::AtomicWaker;

/// Tasks that wait for somebody to become eligible: every backend was pending, or a circuit was open. Woken when
/// something changed, they look again.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<Vec<Weak<AtomicWaker>>>);

impl Waiters {
    /// A place to wait: kept as long as the task waits, forgotten when it is dropped.
    pub(crate) fn join(&self) -> Arc<AtomicWaker> {
        let place = Arc::new(AtomicWaker::new());
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() == places.capacity() {
            // Before it would grow, so that those who left cost no memory.
            places.retain(|place| place.strong_count() > 0);
        }
        places.push(Arc::downgrade(&place));
        place
    }

    pub(crate) fn wake(&self) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|place| place.strong_count() > 0);
        let waiting: Vec<_> = places.iter().filter_map(Weak::upgrade).collect();
        drop(places);
        // Outside the lock: a waker may drop the task, and what it held may wake others. One that panics is not to keep
        // the rest asleep.
        let woken = waiting.iter().map(|place| catch_unwind(AssertUnwindSafe(|| place.wake())));
        if let Some(panic) = woken.filter_map(Result::err).reduce(|first, _| first) {
            resume_unwind(panic);
        }
    }
}
