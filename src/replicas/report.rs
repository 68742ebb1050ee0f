//! What replicas report of one backend, and how reports are merged.

use std::time::Duration;

use crate::{
    health::{AdminStatus, CircuitState},
    name::BackendName,
};

/// A moment of the clock of an [`Exchange`](super::Exchange), in milliseconds since the Unix epoch.
///
/// Replicas share that clock, so that their own ones need not agree. Arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

impl Stamp {
    /// The largest number that every script and protocol passes on exactly.
    const MAX: u64 = (1 << 53) - 1;

    /// Creates the moment this many milliseconds after the Unix epoch. Beyond the year 280,000 it is cut off.
    pub const fn from_millis(millis: u64) -> Self {
        Self(if millis < Self::MAX { millis } else { Self::MAX })
    }

    /// Returns the milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns the moment this much later.
    pub fn after(self, time: Duration) -> Self {
        let millis = u64::try_from(time.as_millis()).unwrap_or(Self::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// Returns the moment this much earlier.
    pub(super) fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(time.as_millis()).unwrap_or(Self::MAX)))
    }

    /// Returns the time from `earlier` to this moment; zero if `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// What an operator set for a backend, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Override {
    /// When it was set. The latest one counts.
    pub(super) at: Stamp,
    code: OverrideCode,
}

/// A status and a forced circuit in one number, so that two overrides of the same moment have an order too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct OverrideCode(u8);

impl Override {
    /// An override that leaves everything to the rules: a healthy status, and a circuit that is not forced.
    pub(super) const NONE: Self = Self { at: Stamp(0), code: OverrideCode(0) };

    const CODES: u64 = 9;

    /// Creates the override of a status and of a circuit. A state that is not forced stands for the rules.
    pub fn new(at: Stamp, status: AdminStatus, circuit: CircuitState) -> Self {
        let status = match status {
            AdminStatus::Healthy => 0,
            AdminStatus::Degraded => 1,
            AdminStatus::Draining => 2,
        };
        let circuit = match circuit {
            CircuitState::ForcedOpen => 1,
            CircuitState::ForcedClosed => 2,
            _ => 0,
        };
        Self { at, code: OverrideCode(3 * status + circuit) }
    }

    /// Restores an override from its [code](Self::code). `None` if the code is unknown.
    pub fn from_code(at: Stamp, code: u64) -> Option<Self> {
        let code = u8::try_from(code).ok().filter(|code| u64::from(*code) < Self::CODES)?;
        Some(Self { at, code: OverrideCode(code) })
    }

    /// Returns the same override, set at another moment.
    pub(super) fn set_at(self, at: Stamp) -> Self {
        Self { at, ..self }
    }

    /// Returns the same override, set at this moment if it was set later.
    pub(super) fn no_later_than(self, at: Stamp) -> Self {
        self.set_at(self.at.min(at))
    }

    /// Returns when it was set.
    pub fn at(self) -> Stamp {
        self.at
    }

    /// Returns the status and the forced circuit as one number below 9, for exchanges that store it.
    pub fn code(self) -> u64 {
        u64::from(self.code.0)
    }

    /// Returns the status.
    pub fn status(self) -> AdminStatus {
        match self.code.0 / 3 {
            0 => AdminStatus::Healthy,
            1 => AdminStatus::Degraded,
            _ => AdminStatus::Draining,
        }
    }

    /// Returns the state that the circuit is forced to, if it is.
    pub fn forced(self) -> Option<CircuitState> {
        match self.code.0 % 3 {
            1 => Some(CircuitState::ForcedOpen),
            2 => Some(CircuitState::ForcedClosed),
            _ => None,
        }
    }

    /// Returns whether it leaves the backend to the rules.
    pub fn is_none(self) -> bool {
        self.code.0 == 0
    }

    /// Returns whether it keeps the backend out.
    pub(super) fn keeps_out(self) -> bool {
        self.status() == AdminStatus::Draining || self.forced() == Some(CircuitState::ForcedOpen)
    }

    /// Returns whether both set the same, at whatever time.
    pub(super) fn is_same_as(self, other: Self) -> bool {
        self.code == other.code
    }
}

/// What replicas report of one backend. Reports are merged: the longest deadline counts.
///
/// ```text
///  epoch ─────────── begins anew with each recovery; in an epoch only its own opening counts
///  open_until ────── the latest end of an opening of this epoch
///  cool_until ────── the latest end of a cool-down
///  operator ──────── the latest override
/// ```
///
/// [`merge`](Self::merge) is idempotent, commutative and associative. So a report may be lost, late, doubled or reordered:
/// after the next one, all replicas hold the same. A recovery begins an epoch, hence what was reported before it, and
/// arrives after it, changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The backend.
    pub backend: BackendName,
    /// The number of recoveries.
    pub epoch: u64,
    /// The end of the open time of a circuit; the Unix epoch if no replica reports an opening.
    pub open_until: Stamp,
    /// The end of a cool-down; the Unix epoch if no replica reports one.
    pub cool_until: Stamp,
    /// What an operator set.
    pub operator: Override,
}

impl Report {
    /// The furthest deadline that is kept: what is later is cut off.
    pub const HORIZON: Duration = Duration::from_secs(3600);

    /// Creates the report that nothing was reported.
    pub fn new(backend: BackendName) -> Self {
        let (epoch, open_until, cool_until) = (0, Stamp::default(), Stamp::default());
        Self { backend, epoch, open_until, cool_until, operator: Override::NONE }
    }

    /// Merges another report of the same backend into this one. Returns whether that changed it.
    pub fn merge(&mut self, other: &Self) -> bool {
        let before = (self.epoch, self.open_until, self.cool_until, self.operator);
        (self.epoch, self.open_until) = (self.epoch, self.open_until).max((other.epoch, other.open_until));
        self.cool_until = self.cool_until.max(other.cool_until);
        self.operator = self.operator.max(other.operator);
        before != (self.epoch, self.open_until, self.cool_until, self.operator)
    }

    /// Cuts off what no replica can have meant at this moment: deadlines beyond the [horizon](Self::HORIZON), overrides
    /// of the future. An exchange does so before it merges, and a replica with what an exchange delivers.
    pub fn clamped(mut self, now: Stamp) -> Self {
        let horizon = now.after(Self::HORIZON);
        self.epoch = self.epoch.min(Stamp::MAX);
        self.open_until = self.open_until.min(horizon);
        self.cool_until = self.cool_until.min(horizon);
        self.operator.at = self.operator.at.min(now.after(SKEW));
        self
    }

    /// The end of an opening or of a cool-down, whichever is later.
    pub(super) fn out_until(&self) -> Stamp {
        self.open_until.max(self.cool_until)
    }

    /// Begins the next epoch, since the backend has recovered. The cool-down stays: the backend named its end itself.
    pub(super) fn recover(&mut self) {
        self.epoch = self.epoch.saturating_add(1).min(Stamp::MAX);
        self.open_until = Stamp::default();
    }
}

/// By how much the clock of a replica may be wrong about that of the exchange.
const SKEW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reports() -> impl Strategy<Value = Report> {
        let stamp = || (0..5_u64).prop_map(|n| Stamp::from_millis([0, 1, 1_000, 4_000_000, u64::MAX][n as usize]));
        (0..3_u64, stamp(), stamp(), stamp(), 0..9_u64).prop_map(|(epoch, open_until, cool_until, at, code)| Report {
            epoch,
            open_until,
            cool_until,
            operator: Override::from_code(at, code).expect("a known code"),
            ..Report::new(BackendName::lossy("a"))
        })
    }

    fn merged(reports: &[&Report]) -> Report {
        let mut merged = Report::new(BackendName::lossy("a"));
        for report in reports {
            merged.merge(report);
        }
        merged
    }

    proptest! {
        // C69
        #[test]
        fn reports_may_be_lost_doubled_and_reordered(a in reports(), b in reports(), c in reports()) {
            let all = merged(&[&a, &b, &c]);
            prop_assert_eq!(&merged(&[&c, &a, &b]), &all);
            prop_assert_eq!(&merged(&[&a, &a, &c, &b, &c, &a]), &all);
            prop_assert_eq!(&merged(&[&merged(&[&a, &b]), &c]), &all);
            prop_assert_eq!(&merged(&[&a, &merged(&[&b, &c])]), &all);
            prop_assert!(!all.clone().merge(&b), "nothing is new");
        }

        // C69: of one epoch the longest deadline counts, of two the later epoch.
        #[test]
        fn the_longest_deadline_of_the_last_epoch_counts(a in reports(), b in reports()) {
            let both = merged(&[&a, &b]);
            prop_assert_eq!(both.cool_until, a.cool_until.max(b.cool_until));
            prop_assert_eq!(both.epoch, a.epoch.max(b.epoch));
            let of_last = [&a, &b].into_iter().filter(|report| report.epoch == both.epoch);
            prop_assert_eq!(Some(both.open_until), of_last.map(|report| report.open_until).max());
        }

        // C69: a late report from before a recovery changes nothing.
        #[test]
        fn a_recovery_ends_what_was_reported_before_it(a in reports(), b in reports()) {
            let mut recovered = merged(&[&a, &b]);
            recovered.recover();
            prop_assert_eq!(recovered.open_until, Stamp::default());
            prop_assert!(!recovered.merge(&a) && !recovered.merge(&b));
        }

        // C40, C55: nothing hostile lasts.
        #[test]
        fn absurd_deadlines_are_cut_off(a in reports()) {
            let now = Stamp::from_millis(10_000);
            let clamped = a.clamped(now);
            prop_assert!(clamped.out_until().since(now) <= Report::HORIZON);
            prop_assert!(clamped.operator.at().since(now) <= SKEW);
            prop_assert_eq!(clamped.clone().clamped(now), clamped);
        }
    }

    // C55
    #[test]
    fn an_override_has_a_code() {
        for code in 0..9 {
            let set = Override::from_code(Stamp::from_millis(7), code).expect("a known code");
            let circuit = set.forced().unwrap_or(CircuitState::HalfOpen);
            assert_eq!((Override::new(set.at(), set.status(), circuit), set.code()), (set, code));
        }
        assert_eq!(
            (Override::from_code(Stamp::default(), 9), Override::from_code(Stamp::default(), 256)),
            (None, None)
        );
    }
}
