use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{channel::mpsc, stream::Stream};

use super::core::Core;
use crate::{
    fleet::BackendName,
    health::{State, Transition},
};

/// The handle of a circuit: what an operator looks at and turns. It outlives the service, its clones and its boxes.
#[derive(Clone)]
pub struct Switch {
    core: Arc<Core>,
}

impl Switch {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Whose circuit it is.
    pub fn name(&self) -> &BackendName {
        self.core.name()
    }

    /// Its state as a call would find it now: open, its time up, is half-open.
    pub fn state(&self) -> State {
        self.core.circuit().state(self.core.clock().now())
    }

    /// Rejects every new call until it is reset, or forced closed. Running ones finish.
    pub fn force_open(&self) {
        let now = self.core.clock().now();
        self.core.tell(self.core.circuit().force_open(now));
    }

    /// Admits every call, whatever comes of it, until it is reset or forced open.
    pub fn force_closed(&self) {
        let now = self.core.clock().now();
        self.core.tell(self.core.circuit().force_closed(now));
    }

    /// Opens it as if its rules had said so: it is probed when its time is up.
    pub fn trip(&self) {
        let now = self.core.clock().now();
        self.core.tell(self.core.circuit().trip(now, || fastrand::u64(..)));
    }

    /// Lets an open circuit be probed before its time is up: something says that the service is back.
    pub fn hasten(&self) {
        let now = self.core.clock().now();
        self.core.tell(self.core.circuit().hasten(now));
    }

    /// Closes it and forgets what it has counted.
    pub fn reset(&self) {
        let now = self.core.clock().now();
        self.core.tell(self.core.circuit().reset(now));
    }

    /// Its transitions from now on. A listener that sleeps through more than a few hundred misses some; a gap in
    /// [`Transition::generation`] shows it.
    pub fn transitions(&self) -> Transitions {
        Transitions(self.core.listen())
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").field("name", self.name()).field("state", &self.state()).finish()
    }
}

/// The transitions of one circuit. Ends when the circuit is gone.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Transitions(mpsc::Receiver<Transition>);

impl Stream for Transitions {
    type Item = Transition;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Transition>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}
