//! The health of a backend: one opinion per writer, packed into one word.

use super::{
    AdminStatus, Circuit, CircuitState,
    sync::{AtomicU64, Ordering},
};
use crate::time::Moment;

/// The health of one backend: one opinion per writer. A backend is eligible while no opinion is against it.
///
/// No writer overrides another: a successful probe does not undo a drain. An opinion that ends by itself carries its
/// deadline, which the fleet keeps in a queue.
#[derive(Debug)]
pub(crate) struct Health {
    /// One bit per [`Opinion`] that is against the backend, [`EXEMPT`] and [`LIMITED`].
    opinions: AtomicU64,
    /// The end of the cool-down; the epoch without one.
    cool_until: AtomicU64,
    /// The end of the ejection as an outlier; the epoch without one.
    ejected_until: AtomicU64,
    circuit: Option<Circuit>,
}

/// An opinion against the backend, by its bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opinion {
    Degraded = 1,
    Draining = 2,
    /// The backend was removed from the fleet.
    Removed = 4,
    /// The backend requested a pause, such as with `Retry-After`.
    Cooling = 8,
    /// The backend is an outlier: it fails more or is slower than its peers.
    Outlier = 32,
}

/// Not an opinion: the backend is kept in rotation despite its open circuit, since too many circuits are open.
const EXEMPT: u64 = 16;

/// Not an opinion: the calls in flight are limited.
const LIMITED: u64 = 64;

/// A change of one opinion, for [`Health::apply`]. The circuit alone is changed by other means: the results of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The operator sets the status.
    Status(AdminStatus),
    /// The backend gets no requests until this moment.
    Cool(Moment),
    /// The cool-down is over.
    Cooled,
    /// The backend was removed from the fleet. This is final.
    Removed,
    /// Whether the backend is kept in rotation despite its open circuit.
    Exempt(bool),
    /// Whether the calls in flight are limited.
    Limited(bool),
    /// The backend is an outlier, and gets no requests until this moment.
    Eject(Moment),
    /// The ejection as an outlier is over.
    Return,
}

impl Health {
    /// Creates the health of a backend that no opinion is against.
    pub(crate) fn new(circuit: Option<Circuit>) -> Self {
        Self { opinions: AtomicU64::new(0), cool_until: AtomicU64::new(0), ejected_until: AtomicU64::new(0), circuit }
    }

    /// Applies a signal. Returns whether that changed anything. Under the fleet's lock, like every write.
    pub(crate) fn apply(&self, signal: Signal) -> bool {
        let before = self.opinions.load(Ordering::Relaxed);
        let set = |bit: u64, is_set: bool| if is_set { before | bit } else { before & !bit };
        let after = match signal {
            Signal::Status(status) => {
                let operator = Opinion::Degraded as u64 | Opinion::Draining as u64;
                (before & !operator)
                    | match status {
                        AdminStatus::Healthy => 0,
                        AdminStatus::Degraded => Opinion::Degraded as u64,
                        AdminStatus::Draining => Opinion::Draining as u64,
                    }
            }
            Signal::Cool(until) => {
                // The longest deadline wins: a later signal does not shorten it.
                if until.as_nanos() <= self.cool_until.load(Ordering::Relaxed) {
                    return false;
                }
                self.cool_until.store(until.as_nanos(), Ordering::Relaxed);
                self.opinions.store(before | Opinion::Cooling as u64, Ordering::Release);
                return true;
            }
            Signal::Cooled => {
                self.cool_until.store(0, Ordering::Relaxed);
                set(Opinion::Cooling as u64, false)
            }
            Signal::Eject(until) => {
                self.ejected_until.store(until.as_nanos(), Ordering::Relaxed);
                set(Opinion::Outlier as u64, true)
            }
            Signal::Return => {
                self.ejected_until.store(0, Ordering::Relaxed);
                set(Opinion::Outlier as u64, false)
            }
            Signal::Removed => set(Opinion::Removed as u64, true),
            Signal::Exempt(exempt) => set(EXEMPT, exempt),
            Signal::Limited(limited) => set(LIMITED, limited),
        };
        self.opinions.store(after, Ordering::Release);
        after != before
    }

    #[inline(always)]
    fn opinions(&self) -> u64 {
        self.opinions.load(Ordering::Acquire)
    }

    /// Returns whether new requests may be sent to the backend.
    #[inline(always)]
    pub(crate) fn is_eligible(&self) -> bool {
        let opinions = self.opinions();
        opinions & !(EXEMPT | LIMITED) == 0
            && (opinions & EXEMPT != 0 || self.circuit.as_ref().is_none_or(Circuit::serves))
    }

    /// Returns whether no opinion is against the backend, and nothing else is to be considered but its circuit.
    #[inline(always)]
    pub(crate) fn is_unmarked(&self) -> bool {
        self.opinions() == 0
    }

    /// Returns whether new requests may be sent to the backend, and nothing else is to be considered.
    #[inline(always)]
    pub(crate) fn is_plain(&self) -> bool {
        self.is_unmarked() && self.circuit.as_ref().is_none_or(Circuit::serves)
    }

    /// Returns whether the calls in flight are limited.
    #[inline(always)]
    pub(crate) fn is_limited(&self) -> bool {
        self.opinions() & LIMITED != 0
    }

    /// Returns whether only a circuit can keep requests from the backend.
    #[inline]
    pub(crate) fn is_willing(&self) -> bool {
        self.opinions() & !(EXEMPT | LIMITED) == 0
    }

    /// Returns whether the backend was removed from the fleet.
    pub(crate) fn is_removed(&self) -> bool {
        self.opinions() & Opinion::Removed as u64 != 0
    }

    /// The status that the operator set.
    pub(crate) fn status(&self) -> AdminStatus {
        match self.opinions() {
            opinions if opinions & Opinion::Draining as u64 != 0 => AdminStatus::Draining,
            opinions if opinions & Opinion::Degraded as u64 != 0 => AdminStatus::Degraded,
            _ => AdminStatus::Healthy,
        }
    }

    /// The end of the cool-down, if there is one.
    pub(crate) fn cools_until(&self) -> Option<Moment> {
        let until = || Moment::from_nanos(self.cool_until.load(Ordering::Relaxed));
        (self.opinions() & Opinion::Cooling as u64 != 0).then(until)
    }

    /// The end of its ejection as an outlier, if it is ejected.
    pub(crate) fn ejected_until(&self) -> Option<Moment> {
        let until = || Moment::from_nanos(self.ejected_until.load(Ordering::Relaxed));
        (self.opinions() & Opinion::Outlier as u64 != 0).then(until)
    }

    /// Returns whether only its circuit, or the detection of outliers, can keep requests from the backend.
    pub(crate) fn is_counted(&self) -> bool {
        self.opinions() & !(EXEMPT | LIMITED | Opinion::Outlier as u64) == 0 && !self.is_forced_open()
    }

    /// The circuit, if the backend has one.
    #[inline]
    pub(crate) fn circuit(&self) -> Option<&Circuit> {
        self.circuit.as_ref()
    }

    /// The circuit, while it is open or half-open by its rules and no opinion is against the backend. Such a backend is
    /// probed by a request once its open time is over.
    pub(crate) fn on_probation(&self) -> Option<&Circuit> {
        let opened =
            |circuit: &&Circuit| matches!(circuit.state(Moment::EPOCH), CircuitState::Open | CircuitState::HalfOpen);
        self.circuit.as_ref().filter(|_| self.is_willing()).filter(opened)
    }

    /// Returns whether an operator forced the circuit open.
    pub(crate) fn is_forced_open(&self) -> bool {
        self.circuit.as_ref().is_some_and(|circuit| circuit.state(Moment::EPOCH) == CircuitState::ForcedOpen)
    }

    /// Returns whether the backend is kept in rotation despite its open circuit.
    #[inline]
    pub(crate) fn is_exempt(&self) -> bool {
        self.opinions() & EXEMPT != 0
    }

    /// The moment when its cool-down or its ejection ends or, without one, when a request may probe it.
    pub(crate) fn due(&self) -> Option<Moment> {
        if self.is_removed() {
            return None;
        }
        let probe = self.on_probation().map(Circuit::eligible_at).filter(|at| *at != Moment::NEVER);
        let returns = [self.cools_until(), self.ejected_until()].into_iter().flatten().min();
        returns.or(probe)
    }

    /// The moment from which on requests may be sent to it, unless an operator has to act before.
    pub(crate) fn serves_at(&self) -> Option<Moment> {
        let ends_by_itself = EXEMPT | LIMITED | Opinion::Cooling as u64 | Opinion::Outlier as u64;
        let is_blocked = self.opinions() & !ends_by_itself != 0;
        let opens_at = match self.circuit.as_ref().map(|circuit| (circuit, circuit.state(Moment::EPOCH))) {
            Some((_, CircuitState::ForcedOpen)) => Moment::NEVER,
            Some((circuit, CircuitState::Open | CircuitState::HalfOpen)) => circuit.eligible_at(),
            _ => Moment::EPOCH,
        };
        let returns = self.cools_until().max(self.ejected_until()).unwrap_or(Moment::EPOCH);
        let at = opens_at.max(returns);
        Some(at).filter(|at| !is_blocked && *at != Moment::NEVER)
    }
}

#[cfg(all(test, not(fleet_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    // C2
    #[test]
    fn a_new_backend_is_healthy() {
        let health = Health::new(None);
        assert_eq!(health.status(), AdminStatus::Healthy);
        assert!(health.is_eligible());
    }

    // C2, C11
    #[test]
    fn only_a_healthy_backend_is_eligible() {
        let health = Health::new(None);
        for status in [AdminStatus::Degraded, AdminStatus::Draining] {
            assert!(health.apply(Signal::Status(status)));
            assert_eq!(health.status(), status);
            assert!(!health.is_eligible());
        }
        assert!(health.apply(Signal::Status(AdminStatus::Healthy)));
        assert!(health.is_eligible());
        assert!(health.apply(Signal::Removed));
        assert!(!health.is_eligible());
    }

    // C41: one writer never overrides another.
    #[test]
    fn a_writer_ends_its_own_opinion_only() {
        let health = Health::new(None);
        let until = Moment::since_epoch(Duration::from_secs(9));
        assert!(health.apply(Signal::Status(AdminStatus::Draining)) && health.apply(Signal::Cool(until)));
        assert!(health.apply(Signal::Cooled));
        assert!(!health.is_eligible() && health.status() == AdminStatus::Draining);
        assert!(health.apply(Signal::Cool(until)) && health.apply(Signal::Status(AdminStatus::Healthy)));
        assert!(!health.is_eligible());
        assert_eq!((health.cools_until(), health.due()), (Some(until), Some(until)));
    }

    // C67: one opinion of several, with a deadline of its own.
    #[test]
    fn an_outlier_is_ejected_until_it_returns() {
        let health = Health::new(None);
        let at = |seconds| Moment::since_epoch(Duration::from_secs(seconds));
        assert!(health.apply(Signal::Eject(at(9))) && !health.is_eligible() && health.is_counted());
        assert_eq!((health.ejected_until(), health.due(), health.serves_at()), (Some(at(9)), Some(at(9)), Some(at(9))));
        assert!(health.apply(Signal::Cool(at(5))) && !health.is_counted());
        assert_eq!((health.due(), health.serves_at()), (Some(at(5)), Some(at(9))));
        assert!(health.apply(Signal::Exempt(true)) && !health.is_eligible(), "exempt is the circuit alone");
        assert!(health.apply(Signal::Cooled) && health.apply(Signal::Return) && health.is_eligible());
        assert_eq!((health.ejected_until(), health.due()), (None, None));
    }

    // C71: the longer deadline wins.
    #[test]
    fn a_shorter_cool_down_does_not_shorten_a_longer_one() {
        let health = Health::new(None);
        let at = |seconds| Moment::since_epoch(Duration::from_secs(seconds));
        assert!(health.apply(Signal::Cool(at(9))));
        assert!(!health.apply(Signal::Cool(at(5))));
        assert_eq!(health.cools_until(), Some(at(9)));
        assert!(health.apply(Signal::Cool(at(12))));
        assert_eq!(health.cools_until(), Some(at(12)));
    }
}
