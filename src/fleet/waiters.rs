use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures::task::AtomicWaker;

/// The tasks that found every eligible backend pending. A change of the fleet wakes them: somebody ready may have
/// come, or the last one they wait for may have gone.
#[derive(Default)]
pub(super) struct Waiters(Mutex<Vec<Weak<AtomicWaker>>>);

impl Waiters {
    /// A place to wait: kept as long as the task waits, forgotten when it is dropped.
    pub(super) fn join(&self) -> Arc<AtomicWaker> {
        let place = Arc::new(AtomicWaker::new());
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() == places.capacity() {
            // Before it would grow, so that those who left cost no memory.
            places.retain(|place| place.strong_count() > 0);
        }
        places.push(Arc::downgrade(&place));
        place
    }

    pub(super) fn wake(&self) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|place| place.upgrade().inspect(|place| place.wake()).is_some());
    }
}
