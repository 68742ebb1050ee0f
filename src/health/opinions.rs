//! The health of a backend: one opinion per writer, packed into one word.

use std::sync::OnceLock;

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
    /// One bit per [`Opinion`] and [`Timed`] that is against the backend, and the [`NOTES`].
    opinions: AtomicU64,
    /// Made for the first opinion with a deadline, since most backends of a large fleet have none.
    deadlines: OnceLock<Box<[AtomicU64; Timed::ALL.len()]>>,
    circuit: Option<Circuit>,
}

/// An opinion against the backend that stays until it is changed, by its bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opinion {
    Degraded = 1,
    Draining = 2,
    /// The backend was removed from the fleet.
    Removed = 4,
}

/// An opinion against the backend that ends at a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timed {
    /// The backend requested a pause, such as with `Retry-After`.
    Cooling,
    /// The backend is an outlier: it fails more or is slower than its peers.
    Outlier,
    /// Active probes of the backend fail.
    Failing,
    /// Another replica reports that the backend fails or requested a pause.
    Hinted,
}

impl Timed {
    const ALL: [Self; 4] = [Self::Cooling, Self::Outlier, Self::Failing, Self::Hinted];
    /// The bits of all of them.
    const BITS: u64 = Self::Cooling.bit() | Self::Outlier.bit() | Self::Failing.bit() | Self::Hinted.bit();

    const fn bit(self) -> u64 {
        8 << self as u64
    }
}

/// Not an opinion: the backend is kept in rotation despite its open circuit or failing probes, since too many backends
/// are out.
const EXEMPT: u64 = 256;

/// Not an opinion: the calls in flight are limited.
const LIMITED: u64 = 512;

/// Not an opinion: when the hint ends, the backend is probed before it gets all its traffic.
const PROBATION: u64 = 1024;

/// The bits that are no opinions.
const NOTES: u64 = EXEMPT | LIMITED | PROBATION;

/// A change of one opinion, for [`Health::apply`]. The circuit alone is changed by other means: the results of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The operator sets the status.
    Status(AdminStatus),
    /// The backend gets no requests until this moment. The longest deadline wins: a later signal does not shorten it.
    Until(Timed, Moment),
    /// An opinion ends.
    Over(Timed),
    /// The backend was removed from the fleet. This is final.
    Removed,
    /// Whether the backend is kept in rotation despite its open circuit or failing probes.
    Exempt(bool),
    /// Whether the calls in flight are limited.
    Limited(bool),
    /// The backend is probed first when the hint ends.
    Probation,
}

impl Health {
    /// Creates the health of a backend that no opinion is against.
    pub(crate) fn new(circuit: Option<Circuit>) -> Self {
        Self { opinions: AtomicU64::new(0), deadlines: OnceLock::new(), circuit }
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
            Signal::Until(opinion, until) => {
                let deadline = &self.deadlines.get_or_init(Box::default)[opinion as usize];
                if until.as_nanos() <= deadline.load(Ordering::Relaxed) {
                    return false;
                }
                deadline.store(until.as_nanos(), Ordering::Relaxed);
                self.opinions.store(before | opinion.bit(), Ordering::Release);
                return true;
            }
            Signal::Over(opinion) => {
                if let Some(deadlines) = self.deadlines.get() {
                    deadlines[opinion as usize].store(0, Ordering::Relaxed);
                }
                set(opinion.bit() | if opinion == Timed::Hinted { PROBATION } else { 0 }, false)
            }
            Signal::Removed => set(Opinion::Removed as u64, true),
            Signal::Exempt(exempt) => set(EXEMPT, exempt),
            Signal::Limited(limited) => set(LIMITED, limited),
            Signal::Probation => set(PROBATION, true),
        };
        self.opinions.store(after, Ordering::Release);
        after != before
    }

    #[inline(always)]
    fn opinions(&self) -> u64 {
        self.opinions.load(Ordering::Acquire)
    }

    /// The opinions against the backend, without those that an exemption suspends.
    #[inline(always)]
    fn against(&self) -> u64 {
        let opinions = self.opinions();
        let suspended = if opinions & EXEMPT != 0 { Timed::Failing.bit() } else { 0 };
        opinions & !(NOTES | suspended)
    }

    /// Returns whether new requests may be sent to the backend.
    #[inline(always)]
    pub(crate) fn is_eligible(&self) -> bool {
        self.against() == 0 && (self.is_exempt() || self.circuit.as_ref().is_none_or(Circuit::serves))
    }

    /// Returns whether new requests may be sent to the backend once this opinion has ended.
    pub(crate) fn is_eligible_after(&self, opinion: Timed) -> bool {
        self.against() & !opinion.bit() == 0 && (self.is_exempt() || self.circuit.as_ref().is_none_or(Circuit::serves))
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
        self.against() == 0
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

    /// The end of an opinion, if it is held.
    pub(crate) fn until(&self, opinion: Timed) -> Option<Moment> {
        let deadlines = self.deadlines.get().filter(|_| self.opinions() & opinion.bit() != 0)?;
        Some(Moment::from_nanos(deadlines[opinion as usize].load(Ordering::Relaxed)))
    }

    /// The ends of the opinions that are held.
    fn ends(&self) -> impl Iterator<Item = Moment> {
        Timed::ALL.into_iter().filter_map(|opinion| self.until(opinion))
    }

    /// The opinions whose deadline is reached.
    pub(crate) fn lapsed(&self, now: Moment) -> impl Iterator<Item = Timed> {
        Timed::ALL.into_iter().filter(move |opinion| self.until(*opinion).is_some_and(|until| now.reached(until)))
    }

    /// Returns whether the limits on ejections count the backend: nothing keeps requests from it but its circuit,
    /// failing probes, the detection of outliers, or a hint.
    pub(crate) fn is_counted(&self) -> bool {
        self.opinions() & !(NOTES | Self::EJECTS) == 0 && !self.is_forced_open()
    }

    /// The opinions that eject a backend, besides its circuit.
    const EJECTS: u64 = Timed::Outlier.bit() | Timed::Failing.bit() | Timed::Hinted.bit();

    /// Returns whether its open circuit or failing probes eject the backend, and neither another opinion nor an operator.
    pub(crate) fn is_down(&self) -> bool {
        let is_failing = self.opinions() & Timed::Failing.bit() != 0;
        let others = self.opinions() & !(NOTES | Timed::Failing.bit());
        others == 0 && !self.is_forced_open() && (is_failing || self.opened().is_some())
    }

    /// Returns whether the circuit of the backend is probed when the hint ends.
    pub(crate) fn is_probed_after_hint(&self) -> bool {
        self.opinions() & PROBATION != 0
    }

    /// The circuit, if the backend has one.
    #[inline]
    pub(crate) fn circuit(&self) -> Option<&Circuit> {
        self.circuit.as_ref()
    }

    /// The circuit, while it is open or half-open by its rules.
    fn opened(&self) -> Option<&Circuit> {
        let opened =
            |circuit: &&Circuit| matches!(circuit.state(Moment::EPOCH), CircuitState::Open | CircuitState::HalfOpen);
        self.circuit.as_ref().filter(opened)
    }

    /// The circuit, while it is open or half-open by its rules and no opinion is against the backend. Such a backend is
    /// probed by a request once its open time is over.
    pub(crate) fn on_probation(&self) -> Option<&Circuit> {
        self.opened().filter(|_| self.is_willing())
    }

    /// Returns whether an operator forced the circuit open.
    pub(crate) fn is_forced_open(&self) -> bool {
        self.circuit.as_ref().is_some_and(|circuit| circuit.state(Moment::EPOCH) == CircuitState::ForcedOpen)
    }

    /// Returns whether an operator forced the circuit closed.
    pub(crate) fn is_forced_closed(&self) -> bool {
        self.circuit.as_ref().is_some_and(|circuit| circuit.state(Moment::EPOCH) == CircuitState::ForcedClosed)
    }

    /// Returns whether the backend is kept in rotation despite its open circuit or failing probes.
    #[inline]
    pub(crate) fn is_exempt(&self) -> bool {
        self.opinions() & EXEMPT != 0
    }

    /// The first moment at which one of its opinions ends, or when a request may probe it.
    pub(crate) fn due(&self) -> Option<Moment> {
        self.ends_at().into_iter().chain(self.probe_at()).min()
    }

    /// The first moment at which one of its opinions ends.
    pub(crate) fn ends_at(&self) -> Option<Moment> {
        self.ends().min().filter(|_| !self.is_removed())
    }

    /// The moment from which on a request may probe it. `None` while an opinion is against it.
    pub(crate) fn probe_at(&self) -> Option<Moment> {
        self.on_probation().map(Circuit::eligible_at).filter(|at| *at != Moment::NEVER)
    }

    /// The moment from which on requests may be sent to it, unless an operator has to act before.
    pub(crate) fn serves_at(&self) -> Option<Moment> {
        let is_blocked = self.opinions() & !(NOTES | Timed::BITS) != 0;
        let opens_at = match self.circuit.as_ref().map(|circuit| (circuit, circuit.state(Moment::EPOCH))) {
            Some((_, CircuitState::ForcedOpen)) => Moment::NEVER,
            Some((circuit, CircuitState::Open | CircuitState::HalfOpen)) => circuit.eligible_at(),
            _ => Moment::EPOCH,
        };
        let at = self.ends().max().unwrap_or(Moment::EPOCH).max(opens_at);
        Some(at).filter(|at| !is_blocked && *at != Moment::NEVER)
    }
}

#[cfg(all(test, not(fleet_loom)))]
mod tests;
