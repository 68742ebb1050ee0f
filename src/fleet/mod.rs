//! Who is there: the set of backends, and the view of it that requests see.
//!
//! A [`Fleet`] is a handle: clones share one set of backends. Every change publishes one immutable view of who is
//! eligible, in tiers of equal priority, and a request reads the view and nothing else.
//!
//! ```
//! # use tower_fleet::{Backend, Fleet, Status};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (near, far, spare) = ((), (), ());
//! let fleet = Fleet::builder()
//!     .backend(Backend::new("near", near).weight(2).priority(10))
//!     .backend(Backend::new("far", far))
//!     .build()?;
//!
//! fleet.insert(Backend::new("spare", spare).priority(-1))?;
//! fleet.set_status("near", Status::Degraded);
//! fleet.remove("far");
//! assert!(fleet.reweight("spare", 0).is_err());
//! # Ok(())
//! # }
//! ```
//!
//! For a fixed set of in-process services that never changes, an array and an index do as well.

mod backend;
mod changes;
mod error;
mod follow;
mod member;
mod registry;
mod roster;
mod snapshot;
mod waiters;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::task::AtomicWaker;
use tower_layer::Layer;

pub use self::{
    backend::{Backend, BackendId, Name},
    changes::{Change, Changes},
    error::{Field, Refused},
    member::Candidate,
    snapshot::Snapshot,
};
use self::{
    changes::Listener,
    registry::{Entry, Registry},
    waiters::Waiters,
};
pub(crate) use self::{
    member::Member,
    registry::Subscriber,
    roster::{Roster, Tier},
};
use crate::health::Status;

/// A set of backends that serve as one. Cheap to clone; clones share the set.
pub struct Fleet<S> {
    shared: Arc<Shared<S>>,
}

struct Shared<S> {
    registry: Mutex<Registry<S>>,
    waiters: Waiters,
}

impl<S: Send + Sync + 'static> Fleet<S> {
    /// A fleet of nobody, to which backends are added while it serves.
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared { registry: Mutex::new(Registry::new()), waiters: Waiters::default() }) }
    }

    /// Starts a fleet of known backends.
    pub fn builder() -> FleetBuilder<S> {
        FleetBuilder { backends: Vec::new() }
    }

    /// Adds a backend, last among those of its priority.
    pub fn insert(&self, backend: Backend<S>) -> Result<(), Refused> {
        self.edit(|registry| registry.insert(backend))
    }

    /// Puts another service, weight, priority and timeout in the place of the backend with the same name.
    ///
    /// Running requests of the old one finish there. Nothing that was believed about the old one goes over.
    pub fn replace(&self, backend: Backend<S>) -> Result<(), Refused> {
        self.edit(|registry| registry.replace(backend))
    }

    /// Takes a backend out: when this returns, no further request goes there. Running ones finish, and the last one
    /// frees it. False when there is no such backend.
    pub fn remove(&self, name: &str) -> bool {
        self.edit(|registry| registry.remove(name))
    }

    /// Changes a backend's share of the requests.
    pub fn reweight(&self, name: &str, weight: u32) -> Result<(), Refused> {
        self.edit(|registry| registry.reweight(name, weight))
    }

    /// Moves a backend to the tier of that priority. False when there is no such backend.
    pub fn prioritize(&self, name: &str, priority: i32) -> bool {
        self.edit(|registry| registry.prioritize(name, priority))
    }

    /// Says what you know of a backend: only healthy ones get new requests. False when there is no such backend.
    pub fn set_status(&self, name: &str, status: Status) -> bool {
        self.edit(|registry| registry.set_status(name, status))
    }

    /// Lets a backend finish what runs there and gives it nothing new, before it is removed or while it is mended.
    /// False when there is no such backend.
    pub fn drain(&self, name: &str) -> bool {
        self.set_status(name, Status::Draining)
    }

    /// How every backend is at this moment, in the order they came.
    pub fn snapshot(&self) -> Vec<Snapshot> {
        self.registry().entries().iter().map(Snapshot::from).collect()
    }

    /// What changes from now on.
    pub fn changes(&self) -> Changes {
        let (listener, changes) = Listener::pair();
        self.registry().listen(listener);
        changes
    }

    /// A fleet of the same backends with a layer around each service: a limit, a timeout, a header.
    ///
    /// It is a fleet of its own: what is changed in one later is not changed in the other. A backend that is inserted
    /// later brings its layers along, see [`Backend::layer`].
    pub fn each<L>(&self, layer: L) -> Fleet<L::Service>
    where
        S: Clone,
        L: Layer<S>,
        L::Service: Send + Sync + 'static,
    {
        let entries = |entry: &Entry<S>| (entry.to_backend(), entry.member.facts.health.status());
        let backends: Vec<_> = self.registry().entries().iter().map(entries).collect();
        // The layer is the caller's code: it runs outside the lock.
        let backends: Vec<_> = backends.into_iter().map(|(backend, status)| (backend.layer(&layer), status)).collect();
        let wrapped = Fleet::new();
        wrapped.edit(|registry| {
            for (backend, status) in backends {
                let name = Arc::clone(&backend.name);
                registry.insert(backend).expect("what one fleet took, another takes");
                registry.set_status(&name, status);
            }
        });
        wrapped
    }

    /// Tells a subscriber of every view from now on, and gives it the present one to begin with.
    pub(crate) fn subscribe<T: Subscriber<S> + 'static>(&self, begin: impl FnOnce(Arc<Roster<S>>) -> T) -> Arc<T> {
        let mut registry = self.registry();
        let subscriber = Arc::new(begin(registry.roster()));
        let weak = Arc::downgrade(&subscriber);
        registry.subscribe(weak);
        subscriber
    }

    /// A place for a task that waits for the fleet to change.
    pub(crate) fn wait(&self) -> Arc<AtomicWaker> {
        self.shared.waiters.join()
    }

    /// Everything that changes the fleet goes through here: what `edit` did becomes one new view.
    fn edit<T>(&self, edit: impl FnOnce(&mut Registry<S>) -> T) -> T {
        let mut registry = self.registry();
        let done = edit(&mut registry);
        let gone = registry.publish();
        drop(registry);
        self.shared.waiters.wake();
        drop(gone);
        done
    }

    fn registry(&self) -> MutexGuard<'_, Registry<S>> {
        // A strategy or a service that panicked while it was cloned does not take the fleet along.
        self.shared.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Send + Sync + 'static> Default for Fleet<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Clone for Fleet<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S: Send + Sync + 'static> fmt::Debug for Fleet<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.snapshot()).finish()
    }
}

/// The backends of a fleet before it serves.
#[must_use = "a builder does nothing until it is built"]
pub struct FleetBuilder<S> {
    backends: Vec<Backend<S>>,
}

impl<S: Send + Sync + 'static> FleetBuilder<S> {
    /// Adds a backend.
    pub fn backend(mut self, backend: Backend<S>) -> Self {
        self.backends.push(backend);
        self
    }

    /// Adds several.
    pub fn backends(mut self, backends: impl IntoIterator<Item = Backend<S>>) -> Self {
        self.backends.extend(backends);
        self
    }

    /// The fleet, unless a backend has a bad or a taken name, or a bad value.
    pub fn build(self) -> Result<Fleet<S>, Refused> {
        let fleet = Fleet::new();
        fleet.edit(|registry| self.backends.into_iter().try_for_each(|backend| registry.insert(backend)))?;
        Ok(fleet)
    }
}

impl<S> fmt::Debug for FleetBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.backends).finish()
    }
}

#[cfg(test)]
mod tests;
