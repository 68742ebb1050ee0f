//! The requests that wait for a slot at a backend with a limit.

use std::{
    collections::BTreeMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    task::Waker,
};

use super::{
    class_queue::{ClassQueue, Key},
    member::{MemberInfo, Waiting},
};
use crate::{
    foreign,
    outcome::PriorityClass,
    setting::InvalidSetting,
    wake::{Waiter, Waiters},
};

/// What a door does while all backends of the tier that serves have as many calls in flight as their
/// [limits](crate::Backend::limit) allow.
///
/// A full backend is still eligible. So a first attempt is not sent to a lower tier, which would be overloaded next;
/// a [`Failover`](crate::Failover) does so after its [`ready_within`](crate::failover::FailoverBuilder::ready_within).
/// Its further attempts, hedges included, are sent to backends that are not full, and wait for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// `poll_ready` is pending until a call ends. The default.
    ///
    /// This is the backpressure of tower's `ConcurrencyLimit`: it reaches what is in front of the door, such as
    /// a `LoadShed` or a `Buffer`. Tasks that wait are woken in the order in which they came, one for each call that
    /// ends. A request that comes at that moment may be faster.
    #[default]
    Wait,
    /// `call` returns an error at once, over HTTP for a status 503.
    Refuse,
    /// `call` waits in a queue of at most this many requests, from 1 to 1,000,000, for the whole fleet.
    ///
    /// The queue is in the order of the [classes](crate::PriorityClass) of the requests, and within a class first come,
    /// first served. Over the bound, the last request of the lowest class fails as with [`Refuse`](Self::Refuse). A call
    /// that ends passes its slot on to the first request. `poll_ready` does not wait.
    ///
    /// A waiting request respects the [deadline](crate::failover::FailoverBuilder::deadline) of a failover. A
    /// [`Balance`](crate::Balance) has none: put a timeout in front of it.
    Queue(u32),
}

/// A longer queue bounds nothing.
const MAX_QUEUE: u32 = 1_000_000;

impl WhenFull {
    /// Returns the setting if its bound makes sense.
    pub(crate) fn checked(self) -> Result<Self, InvalidSetting> {
        let Self::Queue(bound) = self else { return Ok(self) };
        let reason = match bound {
            0 => "must be at least 1: to let no request wait, set refuse",
            1..=MAX_QUEUE => return Ok(self),
            _ => "must be at most 1000000",
        };
        Err(InvalidSetting::of("fleet", "when_full.queue", bound, reason))
    }
}

/// The requests that wait for a slot, of the whole fleet.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(crate) when_full: WhenFull,
    /// The tasks that wait before their call, and those whose call was overtaken.
    waiters: Waiters,
    line: Mutex<Line>,
    /// The number of requests in line.
    lined_up: AtomicUsize,
    /// The priority of the tier that serves.
    tier: AtomicI64,
}

/// The queue of [`WhenFull::Queue`].
#[derive(Debug)]
struct Line {
    /// With the wakers of the requests, once they are registered.
    waiting: ClassQueue<Option<Waker>>,
    /// The requests that have got a slot at this member, and did not take it yet.
    served: BTreeMap<Key, Arc<MemberInfo>>,
}

impl Slots {
    pub(super) fn new(when_full: WhenFull) -> Self {
        let bound = if let WhenFull::Queue(bound) = when_full { bound } else { 0 };
        let line = Line { waiting: ClassQueue::new(bound), served: BTreeMap::new() };
        Self {
            when_full,
            waiters: Waiters::default(),
            line: Mutex::new(line),
            lined_up: AtomicUsize::new(0),
            tier: AtomicI64::new(i64::MAX),
        }
    }

    /// Adds a task as the last one.
    pub(crate) fn join(&self) -> Waiter {
        self.waiters.join()
    }

    /// Adds a request to the queue. `None` if it is refused.
    pub(crate) fn line_up(self: &Arc<Self>, class: PriorityClass) -> Option<Place> {
        let (key, evicted) = self.line().waiting.push(class, None).ok()?;
        // Before the request checks for a slot, so that it or the next call that ends notices the other one.
        self.lined_up.fetch_add(1, Ordering::SeqCst);
        if let Some((_, Some(waker))) = evicted {
            foreign::run(|| waker.wake());
        }
        Some(Place { slots: Arc::clone(self), key })
    }

    /// Locks the queue. No waker is cloned, woken or dropped under the lock, since that is the code of a runtime.
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_line(&self) -> bool {
        self.lined_up.load(Ordering::SeqCst) > 0
    }

    /// Sets the tier whose slots the requests wait for.
    pub(super) fn set_tier(&self, priority: i32) {
        self.tier.store(priority.into(), Ordering::Relaxed);
    }
}

impl Waiting for Slots {
    fn has_waiter(&self) -> bool {
        self.has_line() || self.waiters.has_waiter()
    }

    #[cold]
    fn freed(&self, member: &Arc<MemberInfo>, slots: u32) {
        if i64::from(member.priority()) != self.tier.load(Ordering::Relaxed) || !member.health.is_eligible() {
            return;
        }
        if self.waiters.has_waiter() {
            self.waiters.wake_first_for(slots as usize, member.position());
        }
        if !self.has_line() {
            return;
        }
        let mut woken = Vec::new();
        let mut line = self.line();
        while !line.waiting.is_empty() && member.take_slot() {
            if let Some((key, waker)) = line.waiting.pop() {
                line.served.insert(key, Arc::clone(member));
                woken.push(waker);
            }
        }
        drop(line);
        woken.into_iter().flatten().for_each(|waker| foreign::run(|| waker.wake()));
    }
}

/// The place of one request in the queue, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    slots: Arc<Slots>,
    key: Key,
}

/// What has become of a request in the queue.
pub(crate) enum Progress {
    Waits,
    /// It has got a slot.
    Served(Granted),
    /// It has made room for one of a higher class.
    Evicted,
}

impl Place {
    /// Returns what has become of the request.
    pub(crate) fn progress(&self) -> Progress {
        let mut line = self.slots.line();
        match line.served.remove(&self.key) {
            Some(member) => Progress::Served(Granted(Some(member))),
            None if line.waiting.get_mut(self.key).is_some() => Progress::Waits,
            None => Progress::Evicted,
        }
    }

    /// Puts the request back to its place, since its slot was of no use.
    pub(crate) fn put_back(&self) {
        self.slots.line().waiting.put_back(self.key, None);
    }

    /// Registers the task of the request. Returns whether it must look for a slot once more: it was not registered
    /// before.
    pub(crate) fn register(&self, waker: &Waker) -> bool {
        let waker = Some(waker.clone());
        let mut line = self.slots.line();
        let (unused, is_new) = match line.waiting.get_mut(self.key) {
            Some(entry) => {
                let before = mem::replace(entry, waker);
                let is_new = before.is_none();
                (before, is_new)
            }
            // It was served or evicted just now.
            None => (waker, true),
        };
        drop(line);
        foreign::discard(unused);
        is_new
    }
}

/// Frees the slot that the request has got and not taken.
impl Drop for Place {
    fn drop(&mut self) {
        let mut line = self.slots.line();
        let waker = line.waiting.remove(self.key);
        let slot = line.served.remove(&self.key).map(|member| Granted(Some(member)));
        drop(line);
        self.slots.lined_up.fetch_sub(1, Ordering::SeqCst);
        foreign::discard(waker.flatten());
        drop(slot);
    }
}

/// A slot that was passed on to a request. Frees it on drop.
#[derive(Debug)]
pub(crate) struct Granted(Option<Arc<MemberInfo>>);

impl Granted {
    /// The member of the slot.
    pub(crate) fn member(&self) -> Option<&Arc<MemberInfo>> {
        self.0.as_ref()
    }

    /// Leaves the slot to the call that begins.
    pub(crate) fn used(mut self) {
        self.0 = None;
    }

    /// Frees a slot that is of no use to the request. It is offered to no other one, which would find the same.
    pub(crate) fn discard(mut self) {
        if let Some(member) = self.0.take() {
            member.discard_slot();
        }
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        if let Some(member) = self.0.take() {
            member.return_slot();
        }
    }
}
