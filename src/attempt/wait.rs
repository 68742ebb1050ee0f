//! The wait of a search while all backends are pending.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake},
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::time::Sleep;

use crate::{fleet::FleetCore, time::Moment, wake::Waiter};

/// The wait of a search while all backends are pending.
pub(super) struct Wait {
    /// Woken by the changes of the fleet that concern the search.
    waiter: Waiter,
    /// Ends when the search must check by itself, or is over. Boxed, since `poll_ready` does not pin the service.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Wait {
    pub(super) fn new(core: &FleetCore) -> Self {
        Self { waiter: core.add_waker(), timer: None }
    }

    /// Takes out the waker, so that changes made by the search itself do not wake its task.
    pub(super) fn unregister(&mut self) {
        self.waiter.take();
    }

    /// Notes that the search has found the probe for which the task may have been woken. For any other instance, the
    /// wake-up is passed on.
    pub(super) fn used(&mut self) {
        self.waiter.used();
    }

    /// Registers the task for the next change or deadline of the fleet, and for the first of the `ends`. Returns whether
    /// one of these is reached now.
    pub(super) fn register(
        &mut self,
        cx: &mut Context<'_>,
        core: &FleetCore,
        now: Moment,
        ends: [Option<Moment>; 3],
    ) -> bool {
        let ends = ends.into_iter().flatten().map(|end| end.since(now));
        self.waiter.register(cx.waker());
        self.timer = core.checks_after(&self.waiter).into_iter().chain(ends).min().map(|wait| {
            // At least 1 ms: a backend that is due but not ready must not be polled in a busy loop.
            Box::pin(tokio::time::sleep(wait.max(Duration::from_millis(1))))
        });
        self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
    }
}

/// The waker of the pending instances of a large fleet: wakes the task, and notes that it did.
#[derive(Default)]
pub(super) struct Wakeups {
    /// Whether no instance has called it since the last sweep ended.
    pub(super) is_quiet: AtomicBool,
    pub(super) task: AtomicWaker,
}

impl Wake for Wakeups {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_quiet.store(false, Ordering::Release);
        self.task.wake();
    }
}
