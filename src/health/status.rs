use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::{Circuit, Moment, State};

/// What the operator says of a backend.
///
/// A backend of which nothing was said is [`Healthy`](Status::Healthy), and only a healthy backend gets new requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// Gets requests.
    #[default]
    Healthy,
    /// Gets no new request until it is set healthy again.
    Degraded,
    /// Gets no new request and finishes the running ones: the step before it is removed.
    Draining,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
        })
    }
}

/// The one belief about one backend, shared by all who write or read it.
#[derive(Debug, Default)]
pub(crate) struct Health {
    status: AtomicU8,
    circuit: Option<Circuit>,
    /// Too many are out already: this one serves although its circuit is open.
    spared: AtomicBool,
}

const HEALTHY: u8 = 0;
const DEGRADED: u8 = 1;
const DRAINING: u8 = 2;
const RETIRED: u8 = 3;

impl Health {
    pub(crate) fn status(&self) -> Status {
        match self.status.load(Ordering::Acquire) {
            HEALTHY => Status::Healthy,
            DEGRADED => Status::Degraded,
            _ => Status::Draining,
        }
    }

    pub(crate) fn set_status(&self, status: Status) {
        let code = match status {
            Status::Healthy => HEALTHY,
            Status::Degraded => DEGRADED,
            Status::Draining => DRAINING,
        };
        self.status.store(code, Ordering::Release);
    }

    /// Out for good: the backend has left the fleet.
    pub(crate) fn retire(&self) {
        self.status.store(RETIRED, Ordering::Release);
    }

    /// Nothing but a circuit keeps requests from it.
    #[inline]
    pub(crate) fn is_healthy(&self) -> bool {
        self.status.load(Ordering::Acquire) == HEALTHY
    }

    /// May a request that has not started yet go there, as one of many?
    #[inline]
    pub(crate) fn eligible(&self) -> bool {
        self.is_healthy() && (self.is_spared() || self.circuit.as_ref().is_none_or(Circuit::serves))
    }

    /// Its circuit, if it has one.
    #[inline]
    pub(crate) fn circuit(&self) -> Option<&Circuit> {
        self.circuit.as_ref()
    }

    /// An open circuit that will be tried again by itself: one that nobody forced.
    pub(crate) fn on_trial(&self) -> Option<&Circuit> {
        let tried = |circuit: &&Circuit| matches!(circuit.state(Moment::EPOCH), State::Open | State::HalfOpen);
        self.circuit.as_ref().filter(tried)
    }

    /// An operator holds its circuit open.
    pub(crate) fn is_forced_open(&self) -> bool {
        self.circuit.as_ref().is_some_and(|circuit| circuit.state(Moment::EPOCH) == State::ForcedOpen)
    }

    /// Rises with everything that happens to its circuit.
    pub(crate) fn generation(&self) -> u64 {
        self.circuit.as_ref().map_or(0, Circuit::generation)
    }

    pub(crate) fn is_spared(&self) -> bool {
        self.spared.load(Ordering::Relaxed)
    }

    pub(crate) fn spare(&self, spared: bool) {
        self.spared.store(spared, Ordering::Relaxed);
    }
}

impl From<Circuit> for Health {
    fn from(circuit: Circuit) -> Self {
        Self { circuit: Some(circuit), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C2
    #[test]
    fn unknown_health_is_healthy() {
        let health = Health::default();
        assert_eq!(health.status(), Status::Healthy);
        assert!(health.eligible());
    }

    // C2, C11
    #[test]
    fn only_a_healthy_backend_is_eligible() {
        let health = Health::default();
        for status in [Status::Degraded, Status::Draining] {
            health.set_status(status);
            assert_eq!(health.status(), status);
            assert!(!health.eligible());
        }
        health.set_status(Status::Healthy);
        assert!(health.eligible());
        health.retire();
        assert!(!health.eligible());
    }
}
