//! What a fleet is apart from its services: its members, what is believed about them, and what is due.

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
    books::Books,
    changes::{Change, Changes, Listener},
    ejection::EjectionLimits,
    member::{MemberInfo, Publisher},
    snapshot::Snapshot,
    switch::Switch,
};
use crate::{
    health::{Policy, Signal, State, Status, Transition},
    setting::InvalidSetting,
    telemetry,
    time::{Clock, Moment},
    wake::Waiters,
};

/// The core of a fleet, which knows no service type.
///
/// Whatever changes is written to one [`Health`] or to the books, under one lock, and published by a new version. A door
/// that sees a version it does not know derives its tables anew.
pub(crate) struct FleetCore {
    pub(crate) name: Arc<str>,
    pub(crate) clock: Clock,
    /// What the circuit of each member goes by, if there are circuits.
    pub(super) policy: Option<Arc<Policy>>,
    limits: EjectionLimits,
    version: AtomicU64,
    /// When the first of what is due is due; [`Moment::NEVER`] when nothing is.
    next_due: AtomicU64,
    books: Mutex<Books>,
    waiters: Waiters,
}

impl FleetCore {
    pub(super) fn new(name: Arc<str>, policy: Option<Policy>, limits: EjectionLimits) -> Self {
        Self {
            name,
            clock: Clock::start(),
            policy: policy.map(Arc::new),
            limits,
            version: AtomicU64::new(1),
            next_due: AtomicU64::new(Moment::NEVER.as_nanos()),
            books: Mutex::new(Books::new(limits)),
            waiters: Waiters::default(),
        }
    }

    /// Rises with everything that a pick has to see. Unchanged it costs a door next to nothing to read.
    #[inline(always)]
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        // No foreign code runs under the lock, but for the wakers of listeners and the keys of a discovery.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one way to change a fleet: what `edit` did is published when this returns. An edit that changed nothing
    /// publishes nothing.
    pub(super) fn edit<T>(&self, edit: impl FnOnce(&mut Books) -> T) -> T {
        let mut books = self.books();
        let done = edit(&mut books);
        let news = self.publish(&mut books);
        drop(books);
        let Some(news) = news else { return done };
        self.waiters.wake();
        news.iter().for_each(|change| match change {
            Change::Circuit(name, transition) => telemetry::circuit_moved(name, &transition.from, &transition.to),
            change => telemetry::fleet_changed(change),
        });
        done
    }

    fn publish(&self, books: &mut Books) -> Option<Vec<Change>> {
        let is_changed = books.settle();
        self.next_due.store(books.next_due().as_nanos(), Ordering::Relaxed);
        if !is_changed {
            return None;
        }
        // Before a word of it: what happens to those that listen is no matter of the fleet.
        self.version.fetch_add(1, Ordering::Release);
        Some(books.tell_news())
    }

    /// Notes a signal about a member: writes it and publishes it. False when it changes nothing.
    pub(crate) fn signal(&self, member: &Arc<MemberInfo>, signal: Signal) -> bool {
        self.edit(|books| self.write(books, member, signal))
    }

    fn write(&self, books: &mut Books, member: &Arc<MemberInfo>, signal: Signal) -> bool {
        let changes = member.health.apply(signal);
        if changes {
            if let Signal::Status(status) = signal {
                books.tell(Change::Status(member.name.clone(), status));
            }
            books.refresh(member, false, self.clock.now());
        }
        changes
    }

    /// Publishes what is due by now: circuits to be probed, cool-downs that are over. Costs one read while nothing is in
    /// the queue, and a look at the clock otherwise.
    #[inline(always)]
    pub(crate) fn settle_due(&self) {
        if self.next_due.load(Ordering::Relaxed) != Moment::NEVER.as_nanos() {
            self.settle_what_is_due();
        }
    }

    #[cold]
    fn settle_what_is_due(&self) {
        let now = self.clock.now();
        if !now.reached(Moment::from_nanos(self.next_due.load(Ordering::Relaxed))) {
            return;
        }
        self.edit(|books| books.settle_due(now));
    }

    /// Whether only so many may be out.
    pub(crate) fn has_limits(&self) -> bool {
        !self.limits.is_off()
    }

    /// Notes circuits that have opened but for the note of it: one of them may have to serve. When this returns, what was
    /// about to be noted is.
    #[cold]
    pub(crate) fn catch_up<'a>(&self, members: impl Iterator<Item = &'a Arc<MemberInfo>>) {
        let is_out = |member: &&Arc<MemberInfo>| member.health.on_probation().is_some() && !member.health.is_exempt();
        let out: Vec<_> = members.filter(is_out).collect();
        if !out.is_empty() {
            let now = self.clock.now();
            self.edit(|books| {
                let late = out.iter().filter(|member| member.opens_unnoted());
                late.for_each(|member| books.refresh(member, false, now));
            });
        }
    }

    /// After how long a backend may be eligible that is not now, if any ever is by itself.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let now = self.clock.now();
        self.books().retry_after(now)
    }

    /// Until when a task that waits for a backend has to look again by itself.
    pub(crate) fn next_due(&self) -> Option<Moment> {
        Some(Moment::from_nanos(self.next_due.load(Ordering::Relaxed))).filter(|due| *due != Moment::NEVER)
    }

    /// A place for a task that waits for the fleet to change.
    pub(crate) fn wait(&self) -> Arc<AtomicWaker> {
        self.waiters.join()
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<MemberInfo>> {
        self.books().by_name.get(name).cloned()
    }

    pub(super) fn set_weight(&self, name: &str, weight: NonZeroU32) -> Result<(), InvalidSetting> {
        self.edit(|books| {
            let member = books.known(name)?;
            if member.set_weight(weight) {
                books.membership += 1;
                books.tell(Change::Reweighted(member.name.clone(), weight.get()));
            }
            Ok(())
        })
    }

    pub(super) fn set_priority(&self, name: &str, priority: i32) -> bool {
        self.edit(|books| {
            let Some(member) = books.by_name.get(name).cloned() else { return false };
            if member.set_priority(priority) {
                books.membership += 1;
                books.tell(Change::Moved(member.name.clone(), priority));
            }
            true
        })
    }

    pub(super) fn set_timeout(&self, name: &str, timeout: Option<Duration>) -> Result<(), InvalidSetting> {
        let books = self.books();
        let member = books.known(name)?;
        member.set_timeout(timeout);
        Ok(())
    }

    pub(super) fn set_status(&self, name: &str, status: Status) -> bool {
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
        self.books().members.iter().map(|member| Snapshot::new(member, now)).collect()
    }

    pub(super) fn switch(&self, name: &str) -> Option<Switch> {
        self.find(name).and_then(Switch::new)
    }

    pub(super) fn changes(&self) -> Changes {
        let (listener, changes) = Listener::pair();
        self.books().listen(listener);
        changes
    }

    #[cfg(test)]
    pub(super) fn listeners(&self) -> usize {
        self.books().listeners()
    }
}

impl Publisher for FleetCore {
    /// The circuit of a member moved.
    fn circuit_moved(&self, member: &Arc<MemberInfo>, transition: Transition) {
        self.edit(|books| {
            if !member.health.is_removed() {
                books.tell(Change::Circuit(member.name.clone(), transition));
                books.refresh(member, transition.to == State::Open, self.clock.now());
            }
        });
    }

    /// The permits of a half-open circuit changed hands.
    fn permits_changed(&self, member: &Arc<MemberInfo>) {
        self.edit(|books| books.refresh(member, false, self.clock.now()));
    }
}
