//! The state of a backend of a fleet, or of the one service behind a lone circuit breaker.

use std::{
    fmt,
    num::NonZeroU32,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    limit::MemberLimit,
    marks::Marks,
    rare::Rare,
    tags::Tags,
    watch::{Over, Watch},
};
use crate::{
    health::{Circuit, CircuitPolicy, FULL_SHARE, Health, Limit, Load, Lowered, Metering, Transition},
    name::{BackendId, BackendName},
    outcome::TimeLimits,
    shard::{self, PerThreadU64},
    time::{Clock, Moment},
};

/// Publishes the changes of circuits. Implemented by the fleet of the members.
pub(crate) trait Publisher: Send + Sync {
    /// The circuit of a member changed its state.
    fn circuit_changed(&self, member: &Arc<MemberInfo>, transition: Transition);

    /// A permit of a member's half-open circuit was taken or released.
    fn permits_changed(&self, member: &Arc<MemberInfo>);

    /// An operator closed a member's circuit by hand.
    fn overruled(&self, member: &Arc<MemberInfo>);

    /// An interval of the detection of outliers is over.
    fn interval_over(&self, over: Over, now: Moment);

    /// A response of a member named the time from which on it takes requests again.
    fn time_named(&self, member: &Arc<MemberInfo>, until: Moment);

    /// A response of a member stated what is left of its rate limit, which changes its share.
    fn headroom_changed(&self, member: &Arc<MemberInfo>, stated: Lowered);
}

/// The requests that wait for a slot of a member. Implemented by those of its fleet.
pub(crate) trait Waiting: Send + Sync {
    /// Returns whether a request waits.
    fn has_waiter(&self) -> bool;

    /// Passes on the slots of a member that are free now, or wakes a task for each.
    fn freed(&self, member: &Arc<MemberInfo>, slots: u32);
}

/// What the members of a fleet refer to: one for all of them.
pub(super) struct Links {
    pub(super) publisher: Weak<dyn Publisher>,
    pub(super) waiting: Arc<dyn Waiting>,
    /// Whether a member gets no requests until the time that it names.
    pub(super) named_times: bool,
    /// Whether a member gets a smaller share while little is left of its rate limit.
    pub(super) headroom: bool,
}

/// The settings, health and load of a backend, without its service.
pub(crate) struct MemberInfo {
    pub(crate) id: BackendId,
    pub(crate) name: BackendName,
    pub(crate) health: Health,
    pub(crate) clock: Clock,
    /// Calls in flight, from `call` to the end of their responses.
    pub(super) flight: PerThreadU64,
    /// The calls in flight and the latencies, as far as they are measured.
    pub(super) load: Load,
    /// A copy of what the fleet measures, which every call reads.
    pub(super) measures: AtomicU32,
    pub(super) metering: Arc<Metering>,
    pub(super) limit: MemberLimit,
    /// Its calls, if outliers are detected.
    pub(super) watch: Option<Box<Watch>>,
    /// The part of its traffic that it gets, as [`FULL_SHARE`] for all.
    share: AtomicU32,
    // Written under the fleet's lock, like `share` and `measures`: `weight`, `priority`, `timeout` and `marks`.
    weight: AtomicU32,
    priority: AtomicI32,
    /// In nanoseconds; `u64::MAX` for no timeout.
    timeout: AtomicU64,
    pub(super) marks: Marks,
    position: u64,
    /// `None` for a lone breaker.
    pub(super) fleet: Option<Arc<Links>>,
    /// Made for the first of them, since most members of a large fleet have none.
    pub(super) rare: OnceLock<Box<Rare>>,
}

/// The checked settings of a backend.
pub(crate) struct Settings {
    pub(crate) name: BackendName,
    pub(crate) weight: NonZeroU32,
    pub(crate) priority: i32,
    pub(crate) timeout: Option<Duration>,
    /// In place of that of the fleet.
    pub(crate) limit: Option<Limit>,
    pub(crate) time_limits: TimeLimits,
    pub(crate) tags: Option<Arc<Tags>>,
}

impl MemberInfo {
    /// Creates a member. Its calls in flight are counted on this number of cache lines.
    pub(super) fn new(
        id: BackendId,
        settings: Settings,
        policy: Option<&Arc<CircuitPolicy>>,
        lines: usize,
        clock: Clock,
        metering: &Arc<Metering>,
        fleet: Option<Arc<Links>>,
    ) -> Self {
        let Settings { name, weight, priority, timeout, time_limits, tags, .. } = settings;
        let member = Self {
            id,
            name,
            health: Health::new(policy.cloned().map(Circuit::new)),
            clock,
            flight: PerThreadU64::new(lines),
            load: Load::new(weight.get() as f32),
            measures: AtomicU32::new(metering.measures().bits()),
            metering: Arc::clone(metering),
            limit: MemberLimit::default(),
            watch: None,
            share: AtomicU32::new(FULL_SHARE),
            weight: AtomicU32::new(weight.get()),
            priority: AtomicI32::new(priority),
            timeout: AtomicU64::new(nanos(timeout)),
            marks: Marks {
                queued: AtomicU64::new(Moment::NEVER.as_nanos()),
                opening: AtomicU64::new(0),
                suspicion: AtomicU64::new(0),
                flags: AtomicU32::new(0),
                restored: AtomicBool::new(false),
            },
            position: id.0,
            fleet,
            rare: OnceLock::new(),
        };
        member.set_time_limits(time_limits);
        member.set_tags(&tags);
        member
    }

    /// Creates the member of a lone breaker.
    pub(crate) fn alone(name: BackendName, policy: Arc<CircuitPolicy>, clock: Clock) -> Self {
        let settings = Settings {
            name,
            weight: NonZeroU32::MIN,
            priority: 0,
            timeout: None,
            limit: None,
            time_limits: TimeLimits::new(),
            tags: None,
        };
        let metering = Arc::default();
        Self::new(BackendId(0), settings, Some(&policy), shard::line_count(), clock, &metering, None)
    }

    /// Returns a number that orders the members of a fleet.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Sets the position of a replacement, which is that of the member it replaces.
    pub(super) fn at(mut self, position: u64) -> Self {
        self.position = position;
        self
    }

    pub(crate) fn weight(&self) -> NonZeroU32 {
        NonZeroU32::new(self.weight.load(Ordering::Relaxed)).unwrap_or(NonZeroU32::MIN)
    }

    /// Sets the weight. Returns whether it changed.
    pub(super) fn set_weight(&self, weight: NonZeroU32) -> bool {
        let is_changed = self.weight.swap(weight.get(), Ordering::Relaxed) != weight.get();
        self.note_capacity();
        is_changed
    }

    pub(crate) fn priority(&self) -> i32 {
        self.priority.load(Ordering::Relaxed)
    }

    /// Sets the priority. Returns whether it changed.
    pub(super) fn set_priority(&self, priority: i32) -> bool {
        self.priority.swap(priority, Ordering::Relaxed) != priority
    }

    /// The limit on the time of one attempt.
    #[inline]
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let nanos = self.timeout.load(Ordering::Relaxed);
        (nanos != u64::MAX).then(|| Duration::from_nanos(nanos))
    }

    /// Returns whether it has this timeout.
    pub(super) fn has_timeout(&self, timeout: Option<Duration>) -> bool {
        self.timeout.load(Ordering::Relaxed) == nanos(timeout)
    }

    /// Sets the timeout. Returns whether it changed.
    pub(super) fn set_timeout(&self, timeout: Option<Duration>) -> bool {
        self.timeout.swap(nanos(timeout), Ordering::Relaxed) != nanos(timeout)
    }

    /// Returns the number of calls in flight.
    pub(crate) fn in_flight(&self) -> usize {
        // Negative if the reads race with a call that begins on one thread and ends on another.
        usize::try_from(self.flight.sum() as i64).unwrap_or(0)
    }

    /// The calls in flight and the latencies, as far as they are measured.
    #[inline(always)]
    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    /// The part of its traffic that it gets, up to [`FULL_SHARE`].
    #[inline]
    pub(crate) fn share(&self) -> u32 {
        self.share.load(Ordering::Relaxed)
    }

    /// Sets the share, at least 1. Returns whether it changed.
    pub(super) fn set_share(&self, share: u32) -> bool {
        let share = share.clamp(1, FULL_SHARE);
        let is_changed = self.share.swap(share, Ordering::Relaxed) != share;
        self.note_capacity();
        is_changed
    }

    fn note_capacity(&self) {
        let share = self.share() as f32 / FULL_SHARE as f32;
        self.load.set_capacity(self.weight().get() as f32 * share);
    }

    #[inline(always)]
    pub(crate) fn circuit(&self) -> Option<&Circuit> {
        self.health.circuit()
    }

    /// Returns whether a request may probe its circuit now: it is due, and there is a free permit.
    pub(crate) fn may_probe(&self) -> bool {
        self.health.on_probation().is_some_and(|circuit| circuit.would_admit(|| self.clock.now()))
    }

    /// Returns whether its circuit has opened and the registry has not noted it yet.
    pub(super) fn has_unnoted_opening(&self) -> bool {
        self.marks.opening.load(Ordering::Relaxed) == 0 && self.health.on_probation().is_some()
    }

    /// Publishes a change to the fleet. Returns false for a lone breaker, or if the fleet was dropped.
    pub(super) fn publish(&self, publish: impl FnOnce(&dyn Publisher)) -> bool {
        let fleet = self.fleet.as_ref().and_then(|links| links.publisher.upgrade());
        fleet.is_some_and(|fleet| {
            publish(&*fleet);
            true
        })
    }
}

/// Converts a timeout to what `MemberInfo::timeout` holds.
fn nanos(timeout: Option<Duration>) -> u64 {
    timeout.map_or(u64::MAX, |timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX - 1))
}

impl fmt::Debug for MemberInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberInfo").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}
