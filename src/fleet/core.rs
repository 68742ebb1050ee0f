//! The part of a fleet that does not depend on the type of its services.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    changes::Change,
    ejection::EjectionLimits,
    feed::Wakeup,
    member::{MemberInfo, Waiting},
    published::{Published, Wakes, report},
    registry::Registry,
    shares::Shares,
    slots::{Slots, WhenFull},
    spare_turns::SpareTurns,
    watch::Schedule,
};
use crate::{
    foreign,
    health::{AdminStatus, CircuitPolicy, Limit, Measures, Metering, Signal, Timed},
    time::{Clock, Moment},
    wake::{Waiter, Waiters},
};

/// The part of a fleet that does not depend on the type of its services.
///
/// Every change is written to a [`Health`](crate::health::Health) or to the [`Registry`], under one lock, and published
/// as a new version. A door that reads a new version derives its tables again.
pub(crate) struct FleetCore {
    pub(crate) name: Arc<str>,
    pub(crate) clock: Clock,
    /// What its backends measure.
    pub(super) metering: Arc<Metering>,
    /// The policy of the circuits, if the fleet has any.
    pub(super) policy: Option<Arc<CircuitPolicy>>,
    /// When outliers are detected, if they are.
    pub(super) schedule: Option<Arc<Schedule>>,
    limits: EjectionLimits,
    /// The limit of the backends without one of their own.
    pub(super) limit: Option<Limit>,
    pub(crate) slots: Arc<Slots>,
    /// Whether a member gets no requests until the time that it names.
    pub(super) named_times: bool,
    /// Whether a member gets a smaller share while little is left of its rate limit.
    pub(super) headroom: bool,
    version: AtomicU64,
    /// The first deadline of the registry, in nanoseconds; [`Moment::NEVER`] without one.
    next_due: AtomicU64,
    spare_turns: SpareTurns,
    /// Whether a task that waits may have to wait for a permit: a probe is due or running.
    has_probes: AtomicBool,
    /// In an `Arc`, so that it may be saved when the fleet ends.
    pub(super) registry: Arc<Mutex<Registry>>,
    waiters: Waiters,
}

/// The checked rules of a fleet for all its backends.
pub(super) struct Rules {
    pub(super) policy: Option<CircuitPolicy>,
    pub(super) ejection: EjectionLimits,
    pub(super) shares: Shares,
    /// The limit of the backends without one of their own.
    pub(super) limit: Option<Limit>,
    pub(super) when_full: WhenFull,
    pub(super) named_times: bool,
    pub(super) headroom: bool,
}

impl FleetCore {
    pub(super) fn new(name: Arc<str>, rules: Rules) -> Self {
        let Rules { policy, ejection: limits, shares, limit, when_full, named_times, headroom } = rules;
        let (clock, metering) = (Clock::start(), Arc::<Metering>::default());
        let schedule = shares.outliers().map(|outliers| Arc::new(Schedule::new(outliers.every(), clock.now())));
        if schedule.is_some() {
            metering.add(Measures::OUTCOMES);
        }
        Self {
            name,
            clock,
            metering,
            policy: policy.map(Arc::new),
            schedule,
            limits,
            limit,
            slots: Arc::new(Slots::new(when_full)),
            named_times,
            headroom,
            version: AtomicU64::new(1),
            next_due: AtomicU64::new(Moment::NEVER.as_nanos()),
            spare_turns: SpareTurns::default(),
            has_probes: AtomicBool::new(false),
            registry: Arc::new(Mutex::new(Registry::new(limits, shares))),
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
        // No code of the crate's users runs under the lock: no waker, key, service, classifier or subscriber.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the fleet, and publishes the change before it returns. Publishes nothing if nothing changed.
    ///
    /// Every change is made here. Streams get it under the lock, in order; tasks are woken after it, and may read and
    /// change the fleet.
    pub(super) fn edit<T>(&self, edit: impl FnOnce(&mut Registry) -> T) -> T {
        let mut registry = self.registry();
        let done = edit(&mut registry);
        let (published, wakes) = self.publish(&mut registry);
        let transitions = std::mem::take(&mut registry.transitions);
        // There may be other backends, or more slots. They are given to the requests in line in their order.
        let offers = if wakes.all && self.slots.has_line() { registry.members() } else { Vec::new() };
        drop(registry);
        offers.iter().filter(|member| member.is_limited()).for_each(|member| self.slots.freed(member, 0));
        self.wake(wakes);
        if let Some(Published { changes, wakeups }) = published {
            wakeups.into_iter().for_each(Wakeup::wake);
            changes.iter().for_each(|change| foreign::run(|| report(change)));
        }
        transitions.into_iter().for_each(|(member, transition)| member.moved(transition));
        done
    }

    fn publish(&self, registry: &mut Registry) -> (Option<Published>, Wakes) {
        let is_changed = registry.finish_edit(|| self.clock.now());
        let (due, has_probes) = (registry.next_due().as_nanos(), registry.has_probes());
        let had_due = self.next_due.swap(due, Ordering::Relaxed);
        let had_probes = self.has_probes.swap(has_probes, Ordering::Relaxed);
        let mut wakes = registry.take_wakes();
        // The tasks that wait have timers for a later deadline, or none. While there are probes, they check anyway.
        wakes.all |= due < had_due && !had_probes;
        if !is_changed {
            return (None, wakes);
        }
        self.version.fetch_add(1, Ordering::Release);
        (Some(registry.publish_changes()), wakes)
    }

    /// Wakes the tasks that wait for a backend, as far as a change concerns them.
    fn wake(&self, Wakes { all, some }: Wakes) {
        if all {
            self.waiters.wake_all();
        } else if some > 0 {
            self.waiters.wake_first(some);
        }
    }

    /// Makes all backends measure these quantities, also those that are added later. `smooth` sets how.
    pub(crate) fn measure(&self, measures: Measures, smooth: impl FnOnce(&Metering)) {
        if measures == Measures::NOTHING {
            return;
        }
        let registry = self.registry();
        smooth(&self.metering);
        if self.metering.add(measures) {
            registry.members.values().for_each(|member| member.measure(self.metering.measures()));
        }
    }

    /// Applies a signal to a member and publishes the change. Returns whether anything changed.
    pub(crate) fn signal(&self, member: &Arc<MemberInfo>, signal: Signal) -> bool {
        self.edit(|registry| self.write(registry, member, signal))
    }

    pub(super) fn write(&self, registry: &mut Registry, member: &Arc<MemberInfo>, signal: Signal) -> bool {
        // Its name may belong to another one by now.
        if member.health.is_removed() {
            return false;
        }
        let cooled_until = member.health.until(Timed::Cooling).unwrap_or(Moment::EPOCH);
        let is_changed = member.health.apply(signal);
        if is_changed {
            let now = self.clock.now();
            match signal {
                Signal::Status(status) => registry.announce(Change::Status(member.name.clone(), status)),
                // Each response of a burst may extend it by an instant.
                Signal::Until(Timed::Cooling, until) if until.since(cooled_until) >= NOTABLE => {
                    registry.announce(Change::CoolDown(member.name.clone(), until.since(now)));
                }
                _ => {}
            }
            registry.refresh(member, false, now);
            if signal == Signal::Status(AdminStatus::Healthy) {
                registry.start_slowly(member, now);
            }
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
        self.spare_turns.is_next(self.clock.now())
    }

    /// Takes the turn of a request to probe a backend of a lower tier. Returns false if another request has taken it.
    pub(crate) fn take_spare_turn(&self) -> bool {
        self.spare_turns.take(self.clock.now())
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

    /// Adds a task that waits for a backend. It is woken by the changes that concern it, and must check by itself
    /// [after some time](Self::checks_after).
    pub(crate) fn add_waker(&self) -> Waiter {
        self.waiters.join()
    }

    /// Returns the time after which a task that waits for a backend must search again by itself, if there is one.
    pub(crate) fn checks_after(&self, waiter: &Waiter) -> Option<Duration> {
        let due = self.next_due().map(|due| due.since(self.clock.now()));
        waiter.checks_after(due, self.has_probes.load(Ordering::Relaxed))
    }
}

/// The least extension of a cool-down that is announced.
const NOTABLE: Duration = Duration::from_secs(1);
