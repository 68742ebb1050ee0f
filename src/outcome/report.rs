//! The duty to report what came of a call.

use std::{fmt, sync::Arc};

use super::Outcome;

/// Where outcomes go: the health of a backend, a breaker of its own.
///
/// One call is recorded once, with one exception: after a `Success` at the head of the response,
/// its body may still fail, and then a `Failure` with the same ticket follows.
pub trait Record: Send + Sync {
    /// Takes note of an outcome. `ticket` is what [`Report::new`] was given: the state in which the
    /// call began, say.
    fn record(&self, ticket: Ticket, outcome: &Outcome);
}

/// What a [`Record`] wants to remember of one call. Means something to the one who issued it only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticket(pub [u64; 3]);

/// The duty to report one call, and the sign that it is still in flight.
///
/// Dropped before anything was said, it records [`Neutral`](Outcome::Neutral): the caller left.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use tower_fleet::outcome::{FailureKind, Outcome, Record, Report, Ticket};
///
/// #[derive(Default)]
/// struct Seen(Mutex<Vec<Outcome>>);
/// impl Record for Seen {
///     fn record(&self, _ticket: Ticket, outcome: &Outcome) {
///         self.0.lock().unwrap().push(*outcome);
///     }
/// }
///
/// let seen = Arc::new(Seen::default());
/// let mut report = Report::new(seen.clone(), Ticket::default());
/// report.outcome(&Outcome::Success); // a good head
/// report.outcome(&FailureKind::Body.into()); // and a body that broke off
/// report.outcome(&Outcome::Success); // too late to change anything
/// drop(report);
/// assert_eq!(*seen.0.lock().unwrap(), [Outcome::Success, FailureKind::Body.into()]);
/// ```
#[must_use = "dropping it reports that the caller left"]
pub struct Report {
    to: Option<Arc<dyn Record>>,
    ticket: Ticket,
    said: Said,
}

/// How much of the duty is done.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    Nothing,
    /// A later failure of the body still counts.
    Success,
    Everything,
}

impl Said {
    #[inline]
    fn by(outcome: &Outcome) -> Self {
        if outcome.is_success() { Self::Success } else { Self::Everything }
    }
}

impl Report {
    /// The duty to report one call to `to`, under this ticket.
    pub fn new(to: Arc<dyn Record>, ticket: Ticket) -> Self {
        Self { to: Some(to), ticket, said: Said::Nothing }
    }

    /// A duty of which this much is done: the outcome was recorded by whoever had the duty before.
    #[inline]
    pub(crate) fn said(to: Arc<dyn Record>, ticket: Ticket, outcome: &Outcome) -> Self {
        Self { to: Some(to), ticket, said: Said::by(outcome) }
    }

    /// No duty: for calls that nobody keeps a record of.
    pub const fn none() -> Self {
        Self { to: None, ticket: Ticket([0; 3]), said: Said::Everything }
    }

    /// Reports what came of the call. The first outcome counts; after a success, a failure counts
    /// too, once.
    pub fn outcome(&mut self, outcome: &Outcome) {
        let says_more = match self.said {
            Said::Nothing => true,
            Said::Success => outcome.is_failure(),
            Said::Everything => false,
        };
        if !says_more {
            return;
        }
        self.said = Said::by(outcome);
        if let Some(to) = &self.to {
            to.record(self.ticket, outcome);
        }
    }

    /// Whether nothing was reported yet.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.said == Said::Nothing
    }
}

impl Drop for Report {
    #[inline]
    fn drop(&mut self) {
        if self.is_due() {
            self.outcome(&Outcome::Neutral);
        }
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report").field("ticket", &self.ticket).field("said", &self.said).finish_non_exhaustive()
    }
}

/// A record that remembers, for the tests of this room.
#[cfg(test)]
pub(super) mod seen {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    pub(crate) struct Seen(Mutex<Vec<(Ticket, Outcome)>>);

    impl Seen {
        pub(crate) fn report(self: &Arc<Self>) -> Report {
            Report::new(self.clone(), Ticket([1; 3]))
        }

        pub(crate) fn outcomes(&self) -> Vec<Outcome> {
            self.0.lock().unwrap().iter().map(|(_, outcome)| *outcome).collect()
        }

        /// Whether no report is held any more.
        pub(crate) fn is_idle(self: &Arc<Self>) -> bool {
            Arc::strong_count(self) == 1
        }
    }

    impl Record for Seen {
        fn record(&self, ticket: Ticket, outcome: &Outcome) {
            self.0.lock().unwrap().push((ticket, *outcome));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{seen::Seen, *};
    use crate::outcome::FailureKind;

    fn reported(outcomes: &[Outcome]) -> Vec<Outcome> {
        let seen = Arc::new(Seen::default());
        let mut report = seen.report();
        for outcome in outcomes {
            report.outcome(outcome);
        }
        drop(report);
        assert!(seen.is_idle());
        seen.outcomes()
    }

    #[test]
    fn dropped_unsaid_it_is_neutral() {
        // C28, C37
        assert_eq!(reported(&[]), [Outcome::Neutral]);
    }

    #[test]
    fn is_said_once_except_for_a_failure_after_a_success() {
        // C31, C34
        let failure = Outcome::from(FailureKind::Body);
        assert_eq!(reported(&[Outcome::Success]), [Outcome::Success]);
        assert_eq!(reported(&[Outcome::Success, Outcome::Success, Outcome::Neutral]), [Outcome::Success]);
        assert_eq!(reported(&[Outcome::Success, failure, failure]), [Outcome::Success, failure]);
        assert_eq!(reported(&[failure, Outcome::Success, failure]), [failure]);
        assert_eq!(reported(&[Outcome::Neutral, failure]), [Outcome::Neutral]);
    }

    #[test]
    fn carries_the_ticket() {
        struct Expects(Ticket);
        impl Record for Expects {
            fn record(&self, ticket: Ticket, _: &Outcome) {
                assert_eq!(ticket, self.0);
            }
        }
        let ticket = Ticket([u64::MAX, 1, 2]);
        Report::new(Arc::new(Expects(ticket)), ticket).outcome(&Outcome::Success);
    }
}
