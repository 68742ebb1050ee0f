//! The part that all doors have: it finds a ready backend, and holds its instance for the next call.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tower::BoxError;
use tower_service::Service;

use super::{
    local::Local,
    ready::{NotReady, Ready, Refusal, Sends, Unready},
    search::ReadySearch,
    state::REFUSED_FOR,
};
use crate::{
    fleet::FleetInner,
    foreign,
    pick::Strategy,
    shard::{SLOTS, slot},
};

/// The part that all doors have: it finds a ready backend, and holds its instance for the next call. `X` is what the
/// door adds, such as its settings.
///
/// A clone refers to the [`Local`] of the thread that makes it, so that threads do not count references on the same
/// cache line.
pub(crate) struct Door<S, C, P: Strategy, X> {
    search: ReadySearch<S, C, P, X>,
    held: Held<S, C>,
    /// For clones that other threads make, and for clones of a door that is not called itself, so that its `Local` may
    /// be of an old version.
    siblings: OnceLock<Siblings<S, C, P, X>>,
}

/// What a door holds between `poll_ready` and `call`.
enum Held<S, C> {
    /// It is not ready.
    Nothing,
    /// It is always ready, without an instance: the strategy needs the key of the request.
    Keyed,
    /// The instance for the next call.
    Ready(Ready<S, C>),
    /// It is ready without an instance: the call searches.
    Deferred(Box<Deferred>),
}

/// How `poll_ready` ended without an instance.
struct Deferred {
    /// These backends failed to become ready.
    refusals: Vec<Refusal>,
    /// All others were pending for as long as they may be.
    is_late: bool,
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
        Self::with(Local::first(fleet, strategy, extra))
    }

    #[inline(always)]
    fn with(local: Arc<Local<S, C, P, X>>) -> Self {
        let held = if local.needs_key { Held::Keyed } else { Held::Nothing };
        Self { search: ReadySearch::new(local), held, siblings: OnceLock::new() }
    }

    #[inline(always)]
    pub(crate) fn current(&self) -> &Local<S, C, P, X> {
        self.search.local()
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
        let lock = || sibling.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().as_ref().filter(|local| local.is_current()).map(Arc::clone);
        known.unwrap_or_else(|| {
            // Outside of the lock, like the drop of the last one: strategies and picks are the caller's code.
            let local = self.search.local().at(slot);
            let last = lock().replace(Arc::clone(&local));
            foreign::discard(last);
            local
        })
    }
}

impl<S, C, P, X> Door<S, C, P, X>
where
    S: Clone + Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
    P: Strategy,
    X: Clone,
{
    /// Ready with an instance, or without one if no backend is eligible or all were pending for as long as `within`, or
    /// if the strategy needs the key of the request. Once ready, it stays so until it is called.
    #[inline(always)]
    pub(crate) fn poll_ready<Req>(&mut self, cx: &mut Context<'_>, within: Option<Duration>, sends: Sends) -> Poll<()>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        let was_ready = match &self.held {
            // The request decides, so the call searches.
            Held::Keyed => {
                self.search.renew();
                return Poll::Ready(());
            }
            Held::Nothing => false,
            Held::Ready(ready) if !ready.is_valid() => true,
            Held::Ready(_) | Held::Deferred(_) => return Poll::Ready(()),
        };
        if was_ready {
            self.held = Held::Nothing;
        }
        match self.search.poll::<Req>(cx, within, sends, None) {
            Poll::Ready(Ok(ready)) => self.held = Held::Ready(ready),
            Poll::Ready(Err(not_ready)) => self.defer(*not_ready),
            Poll::Pending if was_ready => self.stop(),
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(())
    }

    /// Ends the search of `poll_ready`, and leaves it to the call.
    #[cold]
    pub(crate) fn stop(&mut self) {
        let refusals = self.search.stop_with_refusals();
        self.held = Held::Deferred(Box::new(Deferred { refusals, is_late: false }));
    }

    #[cold]
    fn defer(&mut self, NotReady { why, refusals }: NotReady) {
        let is_late = matches!(why, Unready::OutOfTime);
        self.held = Held::Deferred(Box::new(Deferred { refusals, is_late }));
    }

    /// Takes the instance for the call that begins now.
    ///
    /// # Errors
    ///
    /// There is none. Contains the search for one. It leaves out the backends that have only just failed to become
    /// ready, so that one failure is not counted twice.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Result<Ready<S, C>, ReadySearch<S, C, P, X>> {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Ready(ready) => Ok(ready),
            Held::Nothing => Err(self.search()),
            Held::Keyed => {
                self.held = Held::Keyed;
                Err(self.search())
            }
            Held::Deferred(deferred) => Err(self.search_without(*deferred)),
        }
    }

    #[cold]
    fn search_without(&self, Deferred { mut refusals, is_late }: Deferred) -> ReadySearch<S, C, P, X> {
        let (mut search, now) = (self.search(), self.current().core.clock.now());
        refusals.retain(|refusal| !now.reached(refusal.at.after(REFUSED_FOR)));
        if !refusals.is_empty() {
            search.exclude(refusals);
        }
        if is_late {
            search.overflow();
        }
        search
    }

    /// Returns a search for a request, which may need another backend.
    #[inline]
    pub(crate) fn search(&self) -> ReadySearch<S, C, P, X> {
        self.search.another()
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
        Self::with(self.local())
    }
}

impl<S, C, P: Strategy, X> fmt::Debug for Door<S, C, P, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.search.fmt(f)
    }
}
