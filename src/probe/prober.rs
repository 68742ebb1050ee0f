//! The future that probes the backends of a fleet.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use futures::{
    future::{AbortHandle, Abortable, BoxFuture, FutureExt},
    stream::{FuturesUnordered, StreamExt},
};
use tokio::time::{Sleep, sleep_until};

use super::{
    error::ProbeError,
    running::{self, End},
    settings::{OnSuccess, Rules, Scope},
    target::{Target, asks_gate, hold, is_out},
    targets::{News, Targets},
};
use crate::{
    fleet::{Change, Changes, FleetCore},
    foreign,
    health::{CircuitState, Timed},
    name::BackendId,
    telemetry,
    time::{Clock, Moment},
};

/// The future that probes the backends of a fleet, from [`Fleet::probe`](crate::Fleet::probe). Ends with the fleet.
///
/// Spawn it, or poll it in a task of yours, within a tokio runtime with time enabled. It holds the fleet weakly.
///
/// # Cancel safety
///
/// Dropping it drops the probes that run, and nothing is probed any more. A backend that failing probes keep out returns
/// by itself, after a few intervals.
#[must_use = "nothing is probed unless the future is polled"]
pub struct Probing {
    core: Weak<FleetCore>,
    clock: Clock,
    changes: Changes,
    send: running::Send,
    targets: Targets,
    running: FuturesUnordered<Abortable<BoxFuture<'static, (BackendId, End)>>>,
    /// For the next probe that is due.
    timer: Option<Pin<Box<Sleep>>>,
    /// The members are to be compared with the targets: at first, and after missed changes.
    is_behind: bool,
}

/// How many changes are read at a time, before other tasks get their turn.
const BATCH: usize = 1024;

impl Probing {
    pub(super) fn new(core: &Arc<FleetCore>, rules: Rules, send: running::Send) -> Self {
        Self {
            core: Arc::downgrade(core),
            clock: core.clock,
            // First the stream, then the members, so that none is missed.
            changes: core.changes(),
            send,
            targets: Targets::new(rules),
            running: FuturesUnordered::new(),
            timer: None,
            is_behind: true,
        }
    }

    /// Applies the changes of the fleet. Returns false once it has none for now.
    fn follow(&mut self, core: &FleetCore, cx: &mut Context<'_>) -> bool {
        for _ in 0..BATCH {
            match self.changes.poll_next_unpin(cx) {
                Poll::Ready(Some(change)) => self.apply(core, &change),
                Poll::Ready(None) | Poll::Pending => return false,
            }
        }
        true
    }

    fn apply(&mut self, core: &FleetCore, change: &Change) {
        let (name, news) = match change {
            // A missed change may be about any of them.
            Change::Missed(_) => {
                self.is_behind = true;
                return;
            }
            Change::Circuit(name, transition) if transition.to == CircuitState::Open => (name, News::Opened),
            Change::Hint(name, Some(_)) => (name, News::Hinted),
            Change::Inserted(name)
            | Change::Removed(name)
            | Change::Replaced(name)
            | Change::Circuit(name, _)
            | Change::Hint(name, _)
            | Change::Probe(name, _) => (name, News::Other),
            Change::Reweighted(..)
            | Change::Moved(..)
            | Change::Status(..)
            | Change::Outlier(..)
            | Change::CoolDown(..) => return,
        };
        self.targets.update(core, name, news, self.clock.now());
    }

    /// Starts the probes that are due, as far as the bound allows. Returns whether it started any.
    fn start_due(&mut self) -> bool {
        let (now, before) = (self.clock.now(), self.running.len());
        while !self.is_full()
            && let Some((target, rules)) = self.targets.take_due(now)
        {
            let (handle, registration) = AbortHandle::new_pair();
            target.running = Some((handle, now));
            let (id, name) = (target.member.id, target.member.name.clone());
            let gate = rules.gate.clone().filter(|_| asks_gate(&target.member.health, rules, now));
            let probe = running::run(id, name, gate, Arc::clone(&self.send), rules.timeout).map(move |end| (id, end));
            self.running.push(Abortable::new(probe.boxed(), registration));
        }
        self.running.len() > before
    }

    fn is_full(&self) -> bool {
        self.running.len() >= self.targets.rules.max_concurrent
    }

    /// Applies the result of a probe.
    fn finish(&mut self, core: &FleetCore, id: BackendId, end: End) {
        let (now, count) = (self.clock.now(), self.targets.len());
        let Some((target, rules)) = self.targets.target(id) else { return };
        let started = target.running.take().map_or(now, |(_, started)| started);
        match end {
            End::Done(Ok(())) => {
                if target.count_success(rules) {
                    report(target, None);
                    revive(core, target, rules, now);
                }
            }
            End::Done(Err(error)) => {
                if target.count_failure(rules) {
                    report(target, Some(&error));
                    suspend(core, target, rules, count, now);
                }
            }
            // As if it had not been due.
            End::Refused => {}
            // The change follows.
            End::Gone => return,
        }
        self.targets.resume(id, started, now);
    }

    /// Waits for the next probe that is due. If as many run as may, the end of one of them comes first.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.targets.next_due().filter(|_| !self.is_full()) else { return Poll::Pending };
        let due = self.clock.instant(due);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    }
}

/// Ends what keeps a backend out, as far as a good probe can.
fn revive(core: &FleetCore, target: &mut Target, rules: &Rules, now: Moment) {
    if is_out(&target.member.health, rules, now) && target.may_revive(rules, now) {
        target.note_revival(now);
        core.probe_succeeded(&target.member, rules.on_success == OnSuccess::Close);
    }
}

/// Takes a backend out whose probes fail, or keeps it out.
fn suspend(core: &FleetCore, target: &Target, rules: &Rules, targets: usize, now: Moment) {
    let (hold, renew) = hold(rules, targets);
    let rest = target.member.health.until(Timed::Failing).map(|until| until.since(now));
    // Not by each probe, since each time is another version of the fleet.
    if rules.scope == Scope::All && rest.is_none_or(|rest| rest < renew) {
        core.probe_failed(&target.member, hold);
    }
}

/// Reports a change of what the probes of a backend show.
fn report(target: &mut Target, error: Option<&ProbeError>) {
    let is_well = error.is_none();
    if target.is_well.replace(is_well) == Some(is_well) {
        return;
    }
    let backend = &target.member.name;
    foreign::run(|| match error {
        Some(error) => telemetry::probes_fail(backend, error),
        None => telemetry::probes_succeed(backend),
    });
}

impl Future for Probing {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some(core) = this.core.upgrade() else {
            // Free the services at once, also if the future is kept.
            this.running.clear();
            return Poll::Ready(());
        };
        // Opinions that have ended meanwhile are ended for good, also if no request comes.
        core.process_due();
        loop {
            let has_more = this.follow(&core, cx);
            if std::mem::take(&mut this.is_behind) {
                this.targets.catch_up(&core, this.clock.now());
            }
            let mut is_done = true;
            while let Poll::Ready(Some(ended)) = this.running.poll_next_unpin(cx) {
                is_done = false;
                if let Ok((id, end)) = ended {
                    this.finish(&core, id, end);
                }
            }
            is_done &= !this.start_due();
            if is_done && this.poll_timer(cx).is_pending() {
                if has_more {
                    // Other tasks get their turn before the rest of the changes.
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        }
    }
}

impl fmt::Debug for Probing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probing")
            .field("waiting", &self.targets.waiting())
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}
