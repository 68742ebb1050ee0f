//! The handle of a circuit, for operators.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::stream::Stream;

use super::{feed::Reader, member::MemberInfo};
use crate::{
    health::{Circuit, CircuitState, Transition},
    name::BackendName,
};

/// The handle of a circuit: shows its state, and opens or closes it by hand.
///
/// Returned by [`Fleet::switch`](super::Fleet::switch), [`CircuitBreaker::switch`](crate::CircuitBreaker::switch) and
/// [`CircuitBreakerLayer::switch`](crate::CircuitBreakerLayer::switch). It stays valid after the service was dropped.
///
/// ```
/// # use tower_fleet::{Backend, CircuitPolicy, CircuitState, Fleet};
/// let fleet = Fleet::plain().backend(Backend::new("a", ())).circuit_breaker(CircuitPolicy::new()).build()?;
/// let switch = fleet.switch("a").expect("backend `a` has a circuit");
/// switch.force_open();
/// assert_eq!(switch.state(), CircuitState::ForcedOpen);
/// switch.reset();
/// assert_eq!(switch.state(), CircuitState::Closed);
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
#[derive(Clone)]
pub struct Switch(Arc<MemberInfo>);

impl Switch {
    /// Returns the handle of a member's circuit. `None` if it has none.
    pub(crate) fn new(member: Arc<MemberInfo>) -> Option<Self> {
        member.circuit().is_some().then(|| Self(member))
    }

    fn circuit(&self) -> &Circuit {
        self.0.circuit().expect("only a member with a circuit has a switch")
    }

    fn publish(&self, transition: Option<Transition>) {
        if let Some(transition) = transition {
            self.0.moved(transition);
        }
    }

    /// Returns the name of the backend or the service.
    pub fn name(&self) -> &BackendName {
        &self.0.name
    }

    /// Returns the state that a call would find now. An open circuit whose open time is over is half-open.
    pub fn state(&self) -> CircuitState {
        self.circuit().state(self.0.clock.now())
    }

    /// Forces the circuit open: it rejects every new call until it is reset or forced closed. Calls in flight finish.
    pub fn force_open(&self) {
        self.publish(self.circuit().force_open(self.0.clock.now()));
    }

    /// Forces the circuit closed: it admits every call, whatever their outcomes, until it is reset or forced open.
    ///
    /// Until then, failing [probes](crate::probe) and reports of other [replicas](crate::replicas) do not count either.
    pub fn force_closed(&self) {
        self.publish(self.circuit().force_closed(self.0.clock.now()));
        self.overrule();
    }

    /// Opens the circuit as its rules do: it is probed once its open time is over.
    pub fn trip(&self) {
        self.publish(self.circuit().trip(self.0.clock.now(), || fastrand::u64(..)));
    }

    /// Makes an open circuit due for a probe now, for example because a health check succeeded.
    pub fn probe_now(&self) {
        self.publish(self.circuit().probe_now(self.0.clock.now()));
    }

    /// Closes the circuit and clears its counters, and what [probes](crate::probe) and other
    /// [replicas](crate::replicas) reported so far. A backend whose probes fail is out again with the next of them.
    pub fn reset(&self) {
        self.publish(self.circuit().reset(self.0.clock.now()));
        self.overrule();
    }

    fn overrule(&self) {
        self.0.publish(|fleet| fleet.overruled(&self.0));
    }

    /// Returns a stream of the transitions from now on.
    ///
    /// Holds up to 256 transitions. If the stream is not polled often enough, further ones are lost, which a gap in
    /// [`Transition::generation`] shows.
    pub fn transitions(&self) -> Transitions {
        Transitions(self.0.listen())
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").field("name", self.name()).field("state", &self.state()).finish()
    }
}

/// A stream of the transitions of one circuit, from [`Switch::transitions`].
///
/// Ends with the circuit: for a backend, after its removal and the end of its last call; for a lone breaker, when its
/// last handle is dropped.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Transitions(Reader<Transition>);

impl Stream for Transitions {
    type Item = Transition;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Transition>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}
