use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{channel::mpsc, stream::Stream};

use super::member::MemberInfo;
use crate::{
    health::{Circuit, State, Transition},
    name::BackendName,
};

/// The handle of a circuit: what an operator looks at and turns. It outlives the service, its clones and its boxes.
#[derive(Clone)]
pub struct Switch(Arc<MemberInfo>);

impl Switch {
    /// The handle of a member's circuit; none when it has no circuit.
    pub(crate) fn new(member: Arc<MemberInfo>) -> Option<Self> {
        member.circuit().is_some().then(|| Self(member))
    }

    fn circuit(&self) -> &Circuit {
        self.0.circuit().expect("a switch is made of a member with a circuit")
    }

    fn publish(&self, transition: Option<Transition>) {
        if let Some(transition) = transition {
            self.0.moved(transition);
        }
    }

    /// The name of the backend or the service whose circuit it is.
    pub fn name(&self) -> &BackendName {
        &self.0.name
    }

    /// Its state as a call would find it now: open, its time up, is half-open.
    pub fn state(&self) -> State {
        self.circuit().state(self.0.clock.now())
    }

    /// Rejects every new call until it is reset, or forced closed. Running ones finish.
    pub fn force_open(&self) {
        self.publish(self.circuit().force_open(self.0.clock.now()));
    }

    /// Admits every call, whatever comes of it, until it is reset or forced open.
    pub fn force_closed(&self) {
        self.publish(self.circuit().force_closed(self.0.clock.now()));
    }

    /// Opens it as if its rules had said so: it is probed when its time is up.
    pub fn trip(&self) {
        self.publish(self.circuit().trip(self.0.clock.now(), || fastrand::u64(..)));
    }

    /// Lets an open circuit be probed before its time is up: something says that the service is back.
    pub fn hasten(&self) {
        self.publish(self.circuit().hasten(self.0.clock.now()));
    }

    /// Closes it and forgets what it has counted.
    pub fn reset(&self) {
        self.publish(self.circuit().reset(self.0.clock.now()));
    }

    /// Its transitions from now on. A listener that sleeps through more than a few hundred misses some; a gap in
    /// [`Transition::generation`] shows it.
    pub fn transitions(&self) -> Transitions {
        Transitions(self.0.listen())
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").field("name", self.name()).field("state", &self.state()).finish()
    }
}

/// The transitions of one circuit. Ends with the circuit: that of a backend with the last call after its removal, that of
/// a lone breaker with the last handle on it.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Transitions(mpsc::Receiver<Transition>);

impl Stream for Transitions {
    type Item = Transition;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Transition>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}
