//! The part of a fleet that does not depend on the type of its services.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::task::AtomicWaker;

use super::{
    changes::{Change, Changes, Listener},
    ejection::EjectionLimits,
    member::{MemberInfo, Publisher},
    registry::Registry,
    snapshot::Snapshot,
    switch::Switch,
};
use crate::{
    health::{AdminStatus, CircuitPolicy, CircuitState, Signal, Transition},
    setting::InvalidSetting,
    telemetry,
    time::{Clock, Moment},
    wake::Waiters,
};

/// The part of a fleet that does not depend on the type of its services.
///
/// Every change is written to a [`Health`](crate::health::Health) or to the [`Registry`], under one lock, and published
/// as a new version. A door that reads a new version derives its tables again.
pub(crate) struct FleetCore {
    pub(crate) name: Arc<str>,
    pub(crate) clock: Clock,
    /// The policy of the circuits, if the fleet has any.
    pub(super) policy: Option<Arc<CircuitPolicy>>,
    limits: EjectionLimits,
    version: AtomicU64,
    /// The first deadline of the registry, in nanoseconds; [`Moment::NEVER`] without one.
    next_due: AtomicU64,
    /// From when on a request may probe a backend of a lower tier, in nanoseconds.
    spare_turn: AtomicU64,
    registry: Mutex<Registry>,
    waiters: Waiters,
}

impl FleetCore {
    pub(super) fn new(name: Arc<str>, policy: Option<CircuitPolicy>, limits: EjectionLimits) -> Self {
        Self {
            name,
            clock: Clock::start(),
            policy: policy.map(Arc::new),
            limits,
            version: AtomicU64::new(1),
            next_due: AtomicU64::new(Moment::NEVER.as_nanos()),
            spare_turn: AtomicU64::new(0),
            registry: Mutex::new(Registry::new(limits)),
            waiters: Waiters::default(),
        }
    }

    /// Returns the version, which rises with every change that doors must see.
    #[inline(always)]
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Locks the registry.
    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        // The caller's code must not run under the lock. Exceptions: the wakers of listeners, the keys of a discovery.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the fleet, and publishes the change before it returns. Publishes nothing if nothing changed.
    ///
    /// Every change is made here.
    pub(super) fn edit<T>(&self, edit: impl FnOnce(&mut Registry) -> T) -> T {
        let mut registry = self.registry();
        let done = edit(&mut registry);
        let unpublished = self.publish(&mut registry);
        drop(registry);
        let Some(unpublished) = unpublished else { return done };
        self.waiters.wake();
        unpublished.iter().for_each(|change| match change {
            Change::Circuit(name, transition) => telemetry::circuit_changed(name, &transition.from, &transition.to),
            change => telemetry::fleet_changed(change),
        });
        done
    }

    fn publish(&self, registry: &mut Registry) -> Option<Vec<Change>> {
        let is_changed = registry.finish_edit();
        self.next_due.store(registry.next_due().as_nanos(), Ordering::Relaxed);
        if !is_changed {
            return None;
        }
        // Before the listeners: if the waker of one panics, the version is published nevertheless.
        self.version.fetch_add(1, Ordering::Release);
        Some(registry.publish_changes())
    }

    /// Applies a signal to a member and publishes the change. Returns whether anything changed.
    pub(crate) fn signal(&self, member: &Arc<MemberInfo>, signal: Signal) -> bool {
        self.edit(|registry| self.write(registry, member, signal))
    }

    fn write(&self, registry: &mut Registry, member: &Arc<MemberInfo>, signal: Signal) -> bool {
        let is_changed = member.health.apply(signal);
        if is_changed {
            if let Signal::Status(status) = signal {
                registry.announce(Change::Status(member.name.clone(), status));
            }
            registry.refresh(member, false, self.clock.now());
        }
        is_changed
    }

    /// Publishes the deadlines that are reached: circuits that are due for a probe, cool-downs that are over.
    ///
    /// Costs one atomic load while there is no deadline, and reads the clock otherwise.
    #[inline(always)]
    pub(crate) fn process_due(&self) {
        if self.next_due.load(Ordering::Relaxed) != Moment::NEVER.as_nanos() {
            self.process_reached();
        }
    }

    #[cold]
    fn process_reached(&self) {
        let now = self.clock.now();
        if !now.reached(Moment::from_nanos(self.next_due.load(Ordering::Relaxed))) {
            return;
        }
        self.edit(|registry| registry.process_due(now));
    }

    /// Returns whether a request may probe a backend of a lower tier now.
    #[inline(never)]
    pub(crate) fn is_spare_turn(&self) -> bool {
        self.clock.now().reached(Moment::from_nanos(self.spare_turn.load(Ordering::Relaxed)))
    }

    /// Takes the turn of a request to probe a backend of a lower tier. Returns false if another request has taken it.
    pub(crate) fn take_spare_turn(&self) -> bool {
        let now = self.clock.now();
        let next = now.after(SPARE_PROBE_INTERVAL).as_nanos();
        let take = |turn| now.reached(Moment::from_nanos(turn)).then_some(next);
        self.spare_turn.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Returns whether the number of backends that circuits keep out is limited.
    pub(crate) fn has_ejection_limits(&self) -> bool {
        !self.limits.is_off()
    }

    /// Applies the ejection limits to circuits that have opened, but did not publish their transition yet: one of them
    /// may have to be exempt.
    #[cold]
    pub(crate) fn note_openings<'a>(&self, members: impl Iterator<Item = &'a Arc<MemberInfo>>) {
        let is_out = |member: &&Arc<MemberInfo>| member.health.on_probation().is_some() && !member.health.is_exempt();
        let out: Vec<_> = members.filter(is_out).collect();
        if !out.is_empty() {
            let now = self.clock.now();
            self.edit(|registry| {
                let unnoted = out.iter().filter(|member| member.has_unnoted_opening());
                unnoted.for_each(|member| registry.refresh(member, false, now));
            });
        }
    }

    /// Returns the time until another backend may become eligible, if one does without a change from outside.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let now = self.clock.now();
        self.registry().retry_after(now)
    }

    /// Returns the first deadline, at which a task that waits for a backend must search again.
    pub(crate) fn next_due(&self) -> Option<Moment> {
        Some(Moment::from_nanos(self.next_due.load(Ordering::Relaxed))).filter(|due| *due != Moment::NEVER)
    }

    /// Adds a waker for a task that waits for the fleet to change.
    pub(crate) fn add_waker(&self) -> Arc<AtomicWaker> {
        self.waiters.join()
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<MemberInfo>> {
        self.registry().by_name.get(name).cloned()
    }

    pub(super) fn set_weight(&self, name: &str, weight: NonZeroU32) -> Result<(), InvalidSetting> {
        self.edit(|registry| {
            let member = registry.member(name)?;
            if member.set_weight(weight) {
                registry.membership += 1;
                registry.announce(Change::Reweighted(member.name.clone(), weight.get()));
            }
            Ok(())
        })
    }

    pub(super) fn set_priority(&self, name: &str, priority: i32) -> bool {
        self.edit(|registry| {
            let Some(member) = registry.by_name.get(name).cloned() else { return false };
            if member.set_priority(priority) {
                registry.membership += 1;
                registry.announce(Change::Moved(member.name.clone(), priority));
            }
            true
        })
    }

    pub(super) fn set_timeout(&self, name: &str, timeout: Option<Duration>) -> Result<(), InvalidSetting> {
        let registry = self.registry();
        let member = registry.member(name)?;
        member.set_timeout(timeout);
        Ok(())
    }

    pub(super) fn set_status(&self, name: &str, status: AdminStatus) -> bool {
        let Some(member) = self.find(name) else { return false };
        self.signal(&member, Signal::Status(status));
        true
    }

    pub(super) fn cool_down(&self, name: &str, time: Duration) -> bool {
        let Some(member) = self.find(name) else { return false };
        self.signal(&member, Signal::Cool(self.clock.now().after(time)));
        true
    }

    pub(crate) fn snapshot(&self) -> Vec<Snapshot> {
        let now = self.clock.now();
        self.registry().members.iter().map(|member| Snapshot::new(member, now)).collect()
    }

    pub(super) fn switch(&self, name: &str) -> Option<Switch> {
        self.find(name).and_then(Switch::new)
    }

    pub(super) fn changes(&self) -> Changes {
        let (listener, changes) = Listener::pair();
        self.registry().listen(listener);
        changes
    }

    #[cfg(test)]
    pub(super) fn listeners(&self) -> usize {
        self.registry().listeners()
    }
}

/// How often a request of the serving tier is sent to a backend of a lower tier, to probe its circuit. Rare enough to
/// cost the callers nothing that they notice, and frequent enough for a spare to be back before it is needed.
const SPARE_PROBE_INTERVAL: Duration = Duration::from_millis(100);

impl Publisher for FleetCore {
    fn circuit_changed(&self, member: &Arc<MemberInfo>, transition: Transition) {
        self.edit(|registry| {
            if !member.health.is_removed() {
                registry.announce(Change::Circuit(member.name.clone(), transition));
                registry.refresh(member, transition.to == CircuitState::Open, self.clock.now());
            }
        });
    }

    fn permits_changed(&self, member: &Arc<MemberInfo>) {
        self.edit(|registry| registry.refresh(member, false, self.clock.now()));
    }
}
