//! The part of a door that its clones share.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use super::{local::Local, search::ReadySearch};
use crate::{
    fleet::FleetInner,
    pick::Strategy,
    shard::{SLOTS, slot},
};

/// The part of a door that finds backends. `X` is what the door adds, such as its settings.
///
/// A clone refers to the [`Local`] of the thread that makes it, so that threads do not count references on the same
/// cache line.
pub(crate) struct Door<S, C, P: Strategy, X> {
    pub(crate) search: ReadySearch<S, C, P, X>,
    /// For clones that other threads make, and for clones of a door that is not called itself, so that its `Local` may
    /// be of an old version.
    siblings: OnceLock<Siblings<S, C, P, X>>,
}

/// One per slot, made when a clone needs it.
type Siblings<S, C, P, X> = Box<[OnceLock<Box<Sibling<Local<S, C, P, X>>>>]>;

/// What the clones of one thread refer to, on cache lines that no other thread writes to.
#[repr(align(128))]
struct Sibling<T>(Mutex<Option<Arc<T>>>);

impl<S, C, P, X> Door<S, C, P, X>
where
    S: Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
    P: Strategy,
    X: Clone,
{
    pub(crate) fn new(fleet: &Arc<FleetInner<S, C>>, strategy: P, extra: X) -> Self {
        Self { search: ReadySearch::new(Local::first(fleet, strategy, extra)), siblings: OnceLock::new() }
    }

    /// Returns what a clone made by this thread refers to.
    #[inline]
    fn local(&self) -> Arc<Local<S, C, P, X>> {
        let (slot, local) = (slot(), self.search.local());
        if local.slot() == slot && local.is_current() {
            return Arc::clone(local);
        }
        self.sibling(slot)
    }

    #[inline(never)]
    fn sibling(&self, slot: usize) -> Arc<Local<S, C, P, X>> {
        let siblings = self.siblings.get_or_init(|| (0..SLOTS).map(|_| OnceLock::new()).collect());
        let Sibling(sibling) = &**siblings[slot].get_or_init(|| Box::new(Sibling(Mutex::default())));
        let mut sibling = sibling.lock().unwrap_or_else(PoisonError::into_inner);
        match &*sibling {
            Some(local) if local.is_current() => Arc::clone(local),
            _ => Arc::clone(sibling.insert(self.search.local().at(slot))),
        }
    }
}

/// A clone is not ready, even if the original is.
impl<S, C, P, X> Clone for Door<S, C, P, X>
where
    S: Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
    P: Strategy,
    X: Clone,
{
    #[inline]
    fn clone(&self) -> Self {
        Self { search: ReadySearch::new(self.local()), siblings: OnceLock::new() }
    }
}

impl<S, C, P: Strategy, X> fmt::Debug for Door<S, C, P, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.search.fmt(f)
    }
}
