//! Tasks that wait for a backend or a permit, in the order in which they came.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};

use crate::foreign;

/// The tasks that wait for one thing: a change of a fleet, or a permit of a circuit.
///
/// A change that serves one task, such as a permit that is free again, wakes the one that came first. A task that is
/// dropped before it has used that wake-up passes it on. A change that serves all wakes each once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiters(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// The number of tasks with a place, so that no change locks the queue while there is none.
    places: AtomicUsize,
}

#[derive(Debug, Default)]
struct Queue {
    last_place: u64,
    /// The wakers of the tasks that wait, by place.
    waiting: BTreeMap<u64, Waker>,
    /// The places of the tasks that [`Waiters::wake_first`] has woken and that have not searched since, each with what
    /// it was woken for.
    woken: BTreeMap<u64, u64>,
}

/// The place of one task among the [`Waiters`], which it keeps until it is dropped.
pub(crate) struct Waiter {
    waiters: Waiters,
    place: u64,
    /// The number of tasks before it when it was last registered.
    ahead: u64,
}

impl Waiters {
    /// Adds a task as the last one. It is woken once it has [registered](Waiter::register).
    pub(crate) fn join(&self) -> Waiter {
        let mut queue = self.lock();
        queue.last_place += 1;
        let (place, ahead) = (queue.last_place, queue.waiting.len() as u64);
        drop(queue);
        // Before the task checks what it waits for, so that it or the next change notices the other one.
        self.0.places.fetch_add(1, Ordering::SeqCst);
        Waiter { waiters: self.clone(), place, ahead }
    }

    /// Returns whether a task has a place.
    #[inline]
    pub(crate) fn has_waiter(&self) -> bool {
        self.0.places.load(Ordering::SeqCst) > 0
    }

    /// Wakes the first tasks, at most this many.
    pub(crate) fn wake_first(&self, count: usize) {
        self.wake_first_for(count, NO_HINT);
    }

    /// Wakes the first tasks, at most this many, and tells them what for.
    pub(crate) fn wake_first_for(&self, count: usize, hint: u64) {
        let mut queue = self.lock();
        let first: Vec<_> = (0..count).map_while(|_| queue.take_first(hint)).collect();
        drop(queue);
        first.into_iter().for_each(wake);
    }

    /// Wakes all tasks, each once.
    pub(crate) fn wake_all(&self) {
        let mut queue = self.lock();
        let waiting = std::mem::take(&mut queue.waiting);
        // Nothing to pass on: all are awake.
        queue.woken.clear();
        drop(queue);
        waiting.into_values().for_each(wake);
    }

    /// Locks the queue. No waker is cloned, woken or dropped under the lock, since that is the code of a runtime.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Woken for nothing in particular.
const NO_HINT: u64 = u64::MAX;

impl Queue {
    fn take_first(&mut self, hint: u64) -> Option<Waker> {
        let (place, waker) = self.waiting.pop_first()?;
        self.woken.insert(place, hint);
        Some(waker)
    }
}

/// Wakes a task. A waker may drop its task, and with it guards that wake others. One that panics must not keep the
/// others from being woken.
fn wake(waker: Waker) {
    foreign::run(|| waker.wake());
}

impl Waiter {
    /// Registers the task, to be woken by the next change. It must then check once more, so that no change in between
    /// is missed.
    ///
    /// A wake-up that it did not use ends here: the task has searched, and found nothing. Returns whether it was not
    /// registered before.
    pub(crate) fn register(&mut self, waker: &Waker) -> bool {
        let waker = waker.clone();
        let mut queue = self.waiters.lock();
        queue.woken.remove(&self.place);
        let before = queue.waiting.insert(self.place, waker);
        let first = queue.waiting.first_key_value().map_or(self.place, |(first, _)| *first);
        // The tasks between the first one and this one, as far as they still wait.
        self.ahead = (self.place - first).min(queue.waiting.len() as u64 - 1);
        drop(queue);
        let is_new = before.is_none();
        foreign::discard(before);
        is_new
    }

    /// Returns what the task was woken for, if it was woken and did not use that yet.
    pub(crate) fn hint(&self) -> Option<u64> {
        self.waiters.lock().woken.get(&self.place).copied()
    }

    /// Passes on a wake-up that the task cannot use.
    pub(crate) fn pass_on(&mut self) {
        let mut queue = self.waiters.lock();
        let next = queue.woken.remove(&self.place).and_then(|hint| queue.take_first(hint));
        drop(queue);
        next.into_iter().for_each(wake);
    }

    /// Returns the time after which the task must check by itself: the task before it may have been woken and not be
    /// polled any more. The tasks behind the first one check less often, so that all together check a few hundred times
    /// a second at most.
    pub(crate) fn checks_turn_after(&self) -> Duration {
        Duration::from_millis(self.ahead.saturating_mul(10).saturating_add(500))
    }

    /// Takes the task out while it searches, so that the changes it makes itself do not wake it. It keeps its place.
    pub(crate) fn take(&mut self) {
        let before = self.waiters.lock().waiting.remove(&self.place);
        foreign::discard(before);
    }

    /// Notes that the task has used its wake-up, so that it is not passed on.
    pub(crate) fn used(&mut self) {
        self.waiters.lock().woken.remove(&self.place);
    }

    /// Returns the time after which the task must check by itself, if there is one. `due` is the time until something
    /// is due that no change announces. `for_permit` is whether the task may wait for a permit.
    ///
    /// At `due`, the tasks that wait check one after the other within a second, the first one in time. The first one
    /// usually announces what they wait for, or takes it. They must not rely on it: it may be kept without being polled
    /// again. For the same reason a task that waits for a permit checks once a second.
    pub(crate) fn checks_after(&self, due: Option<Duration>, for_permit: bool) -> Option<Duration> {
        let turn = |spread: u64| Duration::from_millis(self.ahead % spread);
        let due = due.map(|due| due.saturating_add(turn(1_000)));
        let check = for_permit.then(|| Duration::from_millis(500) + turn(500));
        due.into_iter().chain(check).min()
    }
}

/// Passes on a wake-up that was not used.
impl Drop for Waiter {
    fn drop(&mut self) {
        let mut queue = self.waiters.lock();
        let own = queue.waiting.remove(&self.place);
        let next = queue.woken.remove(&self.place).and_then(|hint| queue.take_first(hint));
        drop(queue);
        self.waiters.0.places.fetch_sub(1, Ordering::SeqCst);
        foreign::discard(own);
        next.into_iter().for_each(wake);
    }
}
