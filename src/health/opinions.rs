use super::{
    Circuit, State, Status,
    sync::{AtomicU64, Ordering},
};
use crate::time::Moment;

/// What is believed about one backend: one opinion per writer, and a backend is eligible while none is against it.
///
/// No writer overrides another: a good probe does not undo a drain. Opinions that end by themselves carry their end;
/// the fleet notes it in its queue of what is due.
#[derive(Debug)]
pub(crate) struct Health {
    /// One bit per [`Opinion`] that is against the backend, and [`EXEMPT`].
    opinions: AtomicU64,
    /// Until when the backend is to be left alone; the epoch when it is not.
    cool_until: AtomicU64,
    circuit: Option<Circuit>,
}

/// One writer's opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opinion {
    Degraded = 1,
    Draining = 2,
    /// The backend has left the fleet.
    Removed = 4,
    /// It asked to be left alone for a time.
    Cooling = 8,
}

/// Not an opinion: too many circuits are open already, and this backend serves although its own is.
const EXEMPT: u64 = 16;

/// What one writer has to say. [`Health::apply`] is the only way to change a health but for its circuit, which changes
/// by what calls report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The operator's word.
    Status(Status),
    /// The backend is to be left alone until then.
    Cool(Moment),
    /// The backend need not be left alone any longer.
    Cooled,
    /// The backend has left the fleet, for good.
    Removed,
    /// Whether the backend serves although its circuit is open.
    Exempt(bool),
}

impl Health {
    /// A backend that nothing is said against.
    pub(crate) fn new(circuit: Option<Circuit>) -> Self {
        Self { opinions: AtomicU64::new(0), cool_until: AtomicU64::new(0), circuit }
    }

    /// Notes what a writer says; false when that changes nothing. Under the fleet's lock, as everything that writes.
    pub(crate) fn apply(&self, signal: Signal) -> bool {
        let before = self.opinions.load(Ordering::Relaxed);
        let set = |bit: u64, is_set: bool| if is_set { before | bit } else { before & !bit };
        let after = match signal {
            Signal::Status(status) => {
                let operator = Opinion::Degraded as u64 | Opinion::Draining as u64;
                (before & !operator)
                    | match status {
                        Status::Healthy => 0,
                        Status::Degraded => Opinion::Degraded as u64,
                        Status::Draining => Opinion::Draining as u64,
                    }
            }
            Signal::Cool(until) => {
                // The longest deadline wins: a later guess does not shorten it.
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
            Signal::Removed => set(Opinion::Removed as u64, true),
            Signal::Exempt(exempt) => set(EXEMPT, exempt),
        };
        self.opinions.store(after, Ordering::Release);
        after != before
    }

    #[inline(always)]
    fn opinions(&self) -> u64 {
        self.opinions.load(Ordering::Acquire)
    }

    /// May a request that has not started yet go there, as one of many?
    #[inline(always)]
    pub(crate) fn is_eligible(&self) -> bool {
        let opinions = self.opinions();
        opinions & !EXEMPT == 0 && (opinions == EXEMPT || self.circuit.as_ref().is_none_or(Circuit::serves))
    }

    /// Nothing but a circuit keeps requests from it.
    #[inline]
    pub(crate) fn is_willing(&self) -> bool {
        self.opinions() & !EXEMPT == 0
    }

    /// The backend has left the fleet.
    pub(crate) fn is_removed(&self) -> bool {
        self.opinions() & Opinion::Removed as u64 != 0
    }

    /// What the operator says.
    pub(crate) fn status(&self) -> Status {
        match self.opinions() {
            opinions if opinions & Opinion::Draining as u64 != 0 => Status::Draining,
            opinions if opinions & Opinion::Degraded as u64 != 0 => Status::Degraded,
            _ => Status::Healthy,
        }
    }

    /// Until when the backend is to be left alone, if it is.
    pub(crate) fn cools_until(&self) -> Option<Moment> {
        let until = || Moment::from_nanos(self.cool_until.load(Ordering::Relaxed));
        (self.opinions() & Opinion::Cooling as u64 != 0).then(until)
    }

    /// Its circuit, if it has one.
    #[inline]
    pub(crate) fn circuit(&self) -> Option<&Circuit> {
        self.circuit.as_ref()
    }

    /// The circuit, while it is open or half-open by its rules, and nothing else speaks against the backend: then a
    /// request is to probe it once its time is up.
    pub(crate) fn on_probation(&self) -> Option<&Circuit> {
        let opened = |circuit: &&Circuit| matches!(circuit.state(Moment::EPOCH), State::Open | State::HalfOpen);
        self.circuit.as_ref().filter(|_| self.is_willing()).filter(opened)
    }

    /// An operator holds its circuit open.
    pub(crate) fn is_forced_open(&self) -> bool {
        self.circuit.as_ref().is_some_and(|circuit| circuit.state(Moment::EPOCH) == State::ForcedOpen)
    }

    #[inline]
    pub(crate) fn is_exempt(&self) -> bool {
        self.opinions() & EXEMPT != 0
    }

    /// The moment at which something about it ends by itself, or a request may probe it.
    pub(crate) fn due(&self) -> Option<Moment> {
        if self.is_removed() {
            return None;
        }
        let probe = self.on_probation().map(Circuit::eligible_at).filter(|at| *at != Moment::NEVER);
        self.cools_until().or(probe)
    }

    /// The moment from which on it may serve, if that comes by itself.
    pub(crate) fn serves_at(&self) -> Option<Moment> {
        let is_out = self.opinions() & !(EXEMPT | Opinion::Cooling as u64) != 0;
        let opens_at = match self.circuit.as_ref().map(|circuit| (circuit, circuit.state(Moment::EPOCH))) {
            Some((_, State::ForcedOpen)) => Moment::NEVER,
            Some((circuit, State::Open | State::HalfOpen)) => circuit.eligible_at(),
            _ => Moment::EPOCH,
        };
        let at = opens_at.max(self.cools_until().unwrap_or(Moment::EPOCH));
        Some(at).filter(|at| !is_out && *at != Moment::NEVER)
    }
}

#[cfg(all(test, not(fleet_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    // C2
    #[test]
    fn unknown_health_is_healthy() {
        let health = Health::new(None);
        assert_eq!(health.status(), Status::Healthy);
        assert!(health.is_eligible());
    }

    // C2, C11
    #[test]
    fn only_a_healthy_backend_is_eligible() {
        let health = Health::new(None);
        for status in [Status::Degraded, Status::Draining] {
            assert!(health.apply(Signal::Status(status)));
            assert_eq!(health.status(), status);
            assert!(!health.is_eligible());
        }
        assert!(health.apply(Signal::Status(Status::Healthy)));
        assert!(health.is_eligible());
        assert!(health.apply(Signal::Removed));
        assert!(!health.is_eligible());
    }

    // C41: one writer never overrides another.
    #[test]
    fn every_writer_ends_its_own_opinion_only() {
        let health = Health::new(None);
        let until = Moment::since_epoch(Duration::from_secs(9));
        assert!(health.apply(Signal::Status(Status::Draining)) && health.apply(Signal::Cool(until)));
        assert!(health.apply(Signal::Cooled));
        assert!(!health.is_eligible() && health.status() == Status::Draining);
        assert!(health.apply(Signal::Cool(until)) && health.apply(Signal::Status(Status::Healthy)));
        assert!(!health.is_eligible());
        assert_eq!((health.cools_until(), health.due()), (Some(until), Some(until)));
    }

    // C71: of two deadlines the longer one stands.
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
