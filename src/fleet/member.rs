//! What runs: a backend that is part of a fleet, or the one service behind a breaker that stands alone.

use std::{
    fmt,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::channel::mpsc;

use crate::{
    health::{Circuit, Health, Policy, Transition},
    name::{BackendId, BackendName},
    shard::{self, Lines, slot},
    time::{Clock, Moment},
    wake::Waiters,
};

/// Makes known what happens to the circuits of its members: their fleet.
pub(crate) trait Publisher: Send + Sync {
    /// A circuit moved.
    fn circuit_moved(&self, member: &Arc<MemberInfo>, transition: Transition);

    /// The permits of a half-open circuit changed hands.
    fn permits_changed(&self, member: &Arc<MemberInfo>);
}

/// What is known and believed about a backend, without its service.
pub(crate) struct MemberInfo {
    pub(crate) id: BackendId,
    pub(crate) name: BackendName,
    pub(crate) health: Health,
    pub(crate) clock: Clock,
    /// Calls that run, from `call` to the end of their responses.
    flight: Lines,
    /// The next four change under the fleet's lock only.
    weight: AtomicU32,
    priority: AtomicI32,
    /// In nanoseconds; `u64::MAX` for none.
    timeout: AtomicU64,
    pub(super) marks: Marks,
    position: u64,
    /// None where a breaker stands alone.
    fleet: Option<Weak<dyn Publisher>>,
    /// Made for the first of them: most of many members have none.
    watchers: OnceLock<Box<Watchers>>,
}

/// What is told when the circuit of a member moves.
#[derive(Default)]
pub(super) struct Watchers {
    /// Tasks that wait for a breaker that stands alone to admit a call.
    pub(super) waiters: Waiters,
    pub(super) listeners: Mutex<Vec<mpsc::Sender<Transition>>>,
}

/// Where the fleet keeps this backend in its books. Written under the fleet's lock.
#[derive(Debug)]
pub(super) struct Marks {
    /// Its row in the present view.
    pub(super) row: AtomicU32,
    /// When it is in the queue of what is due; [`Moment::NEVER`] when it is not.
    pub(super) queued: AtomicU64,
    /// When its circuit opened, as a serial number; 0 while the circuit keeps it in.
    pub(super) opened: AtomicU64,
    /// [`RIPE`], [`HALF_OPEN`] and [`WILLING`].
    pub(super) flags: AtomicU32,
}

/// A request may probe its circuit now.
pub(super) const RIPE: u32 = 1;
/// Its circuit is half-open.
pub(super) const HALF_OPEN: u32 = 2;
/// Nothing but its circuit may keep it out.
pub(super) const WILLING: u32 = 4;

impl Marks {
    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    /// Sets or clears a flag; whether it was set before.
    pub(super) fn set(&self, flag: u32, is_set: bool) -> bool {
        let flags = self.flags.load(Ordering::Relaxed);
        self.flags.store(if is_set { flags | flag } else { flags & !flag }, Ordering::Relaxed);
        flags & flag != 0
    }
}

/// Settings of a backend that was checked.
pub(crate) struct Settings {
    pub(crate) name: BackendName,
    pub(crate) weight: NonZeroU32,
    pub(crate) priority: i32,
    pub(crate) timeout: Option<Duration>,
}

/// Transitions that a listener may be behind.
const BACKLOG: usize = 256;

impl MemberInfo {
    /// A member with one flight counter for each of so many threads.
    pub(super) fn new(
        id: BackendId,
        settings: Settings,
        policy: Option<&Arc<Policy>>,
        lines: usize,
        clock: Clock,
        fleet: Option<Weak<dyn Publisher>>,
    ) -> Self {
        let Settings { name, weight, priority, timeout } = settings;
        Self {
            id,
            name,
            health: Health::new(policy.cloned().map(Circuit::new)),
            clock,
            flight: Lines::new(lines),
            weight: AtomicU32::new(weight.get()),
            priority: AtomicI32::new(priority),
            timeout: AtomicU64::new(nanos(timeout)),
            marks: Marks {
                row: AtomicU32::new(u32::MAX),
                queued: AtomicU64::new(Moment::NEVER.as_nanos()),
                opened: AtomicU64::new(0),
                flags: AtomicU32::new(0),
            },
            position: id.0,
            fleet,
            watchers: OnceLock::new(),
        }
    }

    /// The member behind a breaker that stands alone.
    pub(crate) fn alone(name: BackendName, policy: Policy, clock: Clock) -> Self {
        let settings = Settings { name, weight: NonZeroU32::MIN, priority: 0, timeout: None };
        Self::new(BackendId(0), settings, Some(&Arc::new(policy)), shard::lines(), clock, None)
    }

    /// The same place in the order of the fleet as the one it replaces.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn at(mut self, position: u64) -> Self {
        self.position = position;
        self
    }

    pub(crate) fn weight(&self) -> NonZeroU32 {
        NonZeroU32::new(self.weight.load(Ordering::Relaxed)).unwrap_or(NonZeroU32::MIN)
    }

    pub(super) fn set_weight(&self, weight: NonZeroU32) -> bool {
        self.weight.swap(weight.get(), Ordering::Relaxed) != weight.get()
    }

    pub(crate) fn priority(&self) -> i32 {
        self.priority.load(Ordering::Relaxed)
    }

    pub(super) fn set_priority(&self, priority: i32) -> bool {
        self.priority.swap(priority, Ordering::Relaxed) != priority
    }

    /// How long one attempt may take.
    #[inline]
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let nanos = self.timeout.load(Ordering::Relaxed);
        (nanos != u64::MAX).then(|| Duration::from_nanos(nanos))
    }

    pub(super) fn set_timeout(&self, timeout: Option<Duration>) -> bool {
        self.timeout.swap(nanos(timeout), Ordering::Relaxed) != nanos(timeout)
    }

    /// How many calls run.
    pub(crate) fn in_flight(&self) -> usize {
        usize::try_from(self.flight.sum() as i64).unwrap_or(0)
    }

    /// A call begins.
    #[inline(always)]
    pub(super) fn begin(&self) {
        self.flight.add(slot(), 1);
    }

    /// A call is over.
    #[inline(always)]
    pub(super) fn end(&self) {
        self.flight.add(slot(), u64::MAX);
    }

    #[inline(always)]
    pub(crate) fn circuit(&self) -> Option<&Circuit> {
        self.health.circuit()
    }

    /// Whether its circuit has opened, and the limits to that do not know yet.
    pub(super) fn opens_unnoted(&self) -> bool {
        self.marks.opened.load(Ordering::Relaxed) == 0 && self.health.on_probation().is_some()
    }

    pub(super) fn publish(&self, publish: impl FnOnce(&dyn Publisher)) -> bool {
        let fleet = self.fleet.as_ref().and_then(Weak::upgrade);
        fleet.is_some_and(|fleet| {
            publish(&*fleet);
            true
        })
    }

    pub(super) fn listen(&self) -> mpsc::Receiver<Transition> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let watchers = self.watchers.get_or_init(Box::default);
        watchers.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    /// Ends the streams of transitions of a backend that is gone. The circuit of a lone breaker lives on in its handles.
    pub(super) fn close(&self) {
        if let Some(watchers) = self.watchers().filter(|_| self.fleet.is_some()) {
            let listeners = std::mem::take(&mut *watchers.listeners.lock().unwrap_or_else(PoisonError::into_inner));
            drop(listeners);
        }
    }

    pub(super) fn watchers(&self) -> Option<&Watchers> {
        self.watchers.get().map(|watchers| &**watchers)
    }

    pub(crate) fn waiters(&self) -> &Waiters {
        &self.watchers.get_or_init(Box::default).waiters
    }
}

fn nanos(timeout: Option<Duration>) -> u64 {
    timeout.map_or(u64::MAX, |timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX - 1))
}

impl fmt::Debug for MemberInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberInfo").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}
