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
mod bounds;
mod builder;
mod changes;
mod entrance;
mod follow;
mod member;
mod registry;
mod roster;
mod snapshot;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures::task::AtomicWaker;

pub use self::{
    backend::Backend,
    builder::FleetBuilder,
    changes::{Change, Changes},
    member::Candidate,
    snapshot::Snapshot,
};
use self::{
    bounds::Bounds,
    changes::Listener,
    entrance::Bare,
    registry::{Recruit, Registry},
};
pub(crate) use self::{
    entrance::{Entrance, Newcomer, Overseer},
    member::Member,
    registry::Subscriber,
    roster::{Roster, Tier},
};
pub(crate) use crate::wake::Waiters;
use crate::{
    health::{Circuit, Health, Policy, Status, Transition},
    time::Clock,
};
pub use crate::{
    name::{BackendId, BackendName},
    setting::{Field, InvalidSetting},
};

/// A set of backends that serve as one. Cheap to clone; clones share the set.
///
/// Backends are given as services `R` and serve as `S`, which is the same unless the fleet was built with something
/// around each of them.
pub struct Fleet<S, R = S> {
    shared: Arc<Shared<S>>,
    entrance: Arc<dyn Entrance<R, S>>,
}

/// A fleet that nobody named.
const UNNAMED: &str = "fleet";

/// What a fleet, its doors and the circuits of its backends have in common.
pub(crate) struct Shared<S> {
    name: Arc<str>,
    registry: Mutex<Registry<S>>,
    waiters: Waiters,
    /// What the circuit of each backend goes by, if there are circuits.
    policy: Option<Policy>,
    clock: Clock,
}

impl<S: Send + Sync + 'static> Fleet<S> {
    /// A fleet of nobody, to which backends are added while it serves.
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared::new(Arc::from(UNNAMED), None, Bounds::default())), entrance: Arc::new(Bare) }
    }

    /// Starts a fleet of known backends.
    pub fn builder() -> FleetBuilder<S> {
        FleetBuilder::new()
    }
}

impl<S: Send + Sync + 'static, R> Fleet<S, R> {
    /// Adds a backend, last among those of its priority.
    pub fn insert(&self, backend: Backend<R>) -> Result<(), InvalidSetting> {
        let recruit = self.recruit(backend)?;
        self.shared.edit(|registry| registry.insert(recruit))
    }

    /// Puts another service, weight, priority and timeout in the place of the backend with the same name.
    ///
    /// Running requests of the old one finish there. Nothing that was believed about the old one goes over.
    pub fn replace(&self, backend: Backend<R>) -> Result<(), InvalidSetting> {
        let recruit = self.recruit(backend)?;
        self.shared.edit(|registry| registry.replace(recruit))
    }

    /// Takes a backend out: when this returns, no further request goes there. Running ones finish, and the last one
    /// frees it. False when there is no such backend.
    pub fn remove(&self, name: &str) -> bool {
        self.shared.edit(|registry| registry.remove(name))
    }

    /// Changes a backend's share of the requests.
    pub fn reweight(&self, name: &str, weight: u32) -> Result<(), InvalidSetting> {
        self.shared.edit(|registry| registry.reweight(name, weight))
    }

    /// Moves a backend to the tier of that priority. False when there is no such backend.
    pub fn prioritize(&self, name: &str, priority: i32) -> bool {
        self.shared.edit(|registry| registry.prioritize(name, priority))
    }

    /// Says what you know of a backend: only healthy ones get new requests. False when there is no such backend.
    pub fn set_status(&self, name: &str, status: Status) -> bool {
        self.shared.edit(|registry| registry.set_status(name, status))
    }

    /// Lets a backend finish what runs there and gives it nothing new, before it is removed or while it is mended.
    /// False when there is no such backend.
    pub fn drain(&self, name: &str) -> bool {
        self.set_status(name, Status::Draining)
    }

    /// How every backend is at this moment, in the order they came.
    pub fn snapshot(&self) -> Vec<Snapshot> {
        self.shared.snapshot()
    }

    /// What changes from now on.
    pub fn changes(&self) -> Changes {
        let (listener, changes) = Listener::pair();
        self.shared.registry().listen(listener);
        changes
    }

    /// Looks at a backend and leads it through the entrance. The caller's layers run here, outside the lock.
    fn recruit(&self, backend: Backend<R>) -> Result<Recruit<S>, InvalidSetting> {
        let (name, weight) = backend.checked()?;
        let Backend { priority, timeout, status, service, .. } = backend;
        let health = Arc::new(self.shared.health());
        health.set_status(status);
        let newcomer = Newcomer {
            service,
            name: name.clone(),
            timeout,
            health: Arc::clone(&health),
            clock: self.shared.clock,
            fleet: self.overseer(),
        };
        let service = self.entrance.enter(newcomer);
        Ok(Recruit { name, weight, priority, timeout, keeps_time: self.entrance.keeps_time(), health, service })
    }

    fn overseer(&self) -> Weak<dyn Overseer> {
        Arc::<Shared<S>>::downgrade(&self.shared)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<S>> {
        &self.shared
    }
}

impl<S: Send + Sync + 'static> Shared<S> {
    fn new(name: Arc<str>, policy: Option<Policy>, bounds: Bounds) -> Self {
        let clock = Clock::start();
        let registry = Mutex::new(Registry::new(bounds, clock));
        Self { name, registry, waiters: Waiters::default(), policy, clock }
    }

    /// What errors call the fleet.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts a failure that its circuit could not see: a call that was given up by whoever made it, for its slowness.
    pub(crate) fn blame(&self, member: &Member<S>) {
        self.tell(member, |circuit| circuit.blame(self.clock.now(), || fastrand::u64(..)));
    }

    /// Counts a call as slow whose circuit has seen a quick head: it was given up while its body was waited for.
    pub(crate) fn lag(&self, member: &Member<S>, took: Duration) {
        self.tell(member, |circuit| circuit.lag(took, self.clock.now(), || fastrand::u64(..)));
    }

    fn tell(&self, member: &Member<S>, tell: impl FnOnce(&Circuit) -> Option<Transition>) {
        if let Some(transition) = member.facts.health.circuit().and_then(tell) {
            self.circuit_moved(&member.facts.name, &member.facts.health, transition);
        }
    }

    fn health(&self) -> Health {
        self.policy.clone().map(Circuit::new).map(Health::from).unwrap_or_default()
    }

    fn snapshot(&self) -> Vec<Snapshot> {
        let now = self.clock.now();
        self.registry().entries().iter().map(|entry| Snapshot::new(entry, now)).collect()
    }

    /// Looks at the service of a backend.
    pub(crate) fn with_service<T>(&self, name: &str, look: impl FnOnce(&S) -> T) -> Option<T> {
        let registry = self.registry();
        registry.entries().iter().find(|entry| entry.name() == name).map(|entry| look(&entry.member.service))
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
        self.waiters.join()
    }

    /// Everything that changes the fleet goes through here: what `edit` did becomes one new view.
    fn edit<T>(&self, edit: impl FnOnce(&mut Registry<S>) -> T) -> T {
        let mut registry = self.registry();
        let done = edit(&mut registry);
        let after = registry.publish();
        drop(registry);
        self.waiters.wake();
        after.settle();
        done
    }

    /// Returns when the change that is being made, if one is, is published.
    pub(crate) fn settle(&self) {
        drop(self.registry());
    }

    fn registry(&self) -> MutexGuard<'_, Registry<S>> {
        // A strategy that panicked while it was renewed does not take the fleet along.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Send + Sync + 'static> Overseer for Shared<S> {
    fn circuit_moved(&self, backend: &BackendName, health: &Health, transition: Transition) {
        self.edit(|registry| registry.circuit_moved(backend, health, transition));
    }

    fn permit_returned(&self) {
        let roster = self.registry().roster();
        roster.reconsider();
        self.waiters.wake();
    }
}

impl<S: Send + Sync + 'static> Default for Fleet<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S, R> Clone for Fleet<S, R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), entrance: Arc::clone(&self.entrance) }
    }
}

impl<S: Send + Sync + 'static, R> fmt::Debug for Fleet<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.shared, f)
    }
}

impl<S: Send + Sync + 'static> fmt::Debug for Shared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.snapshot()).finish()
    }
}

#[cfg(test)]
mod tests;
