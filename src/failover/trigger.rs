//! The failures that move a request on to another backend.

use std::{fmt, sync::Arc};

use crate::outcome::{Failure, FailureKind, Outcome, Statuses};

/// A class of failures that move a request on to another backend. When an attempt fails with one of them, the trigger
/// fires, and the ledger records its name.
///
/// The [defaults](Self::defaults) cover statuses, timeouts, network errors and failures with a name of their own. Set
/// others with [`FailoverBuilder::triggers`](super::FailoverBuilder::triggers).
///
/// ```
/// # use tower_fleet::failover::Trigger;
/// # use tower_fleet::outcome::FailureKind;
/// let quota = Trigger::new("quota", |outcome| {
///     outcome.failure().is_some_and(|failure| failure.kind() == FailureKind::Custom("quota"))
/// });
/// assert_eq!(quota.name(), "quota");
/// ```
#[derive(Clone)]
pub struct Trigger {
    name: &'static str,
    fires: Arc<dyn Fn(&Outcome) -> bool + Send + Sync>,
    /// If a list of statuses is set, it decides about statuses in place of `fires`.
    is_status: bool,
}

impl Trigger {
    /// Creates a trigger that fires on the failures for which `fires` returns `true`.
    ///
    /// `fires` is called with failures only: a success and a cancelled request fire no trigger.
    pub fn new(name: &'static str, fires: impl Fn(&Outcome) -> bool + Send + Sync + 'static) -> Self {
        Self { name, fires: Arc::new(fires), is_status: false }
    }

    fn kinds(name: &'static str, fires: fn(FailureKind) -> bool) -> Self {
        Self::new(name, move |outcome| outcome.failure().is_some_and(|failure| fires(failure.kind())))
    }

    /// Fires on an HTTP or gRPC status that the classifier counts as a failure: over HTTP, 429 and 500 to 599 by
    /// default.
    pub fn status() -> Self {
        let by_kind = Self::kinds("status", |kind| matches!(kind, FailureKind::Status(_) | FailureKind::Grpc(_)));
        Self { is_status: true, ..by_kind }
    }

    /// Fires on a timeout.
    pub fn timeout() -> Self {
        Self::kinds("timeout", |kind| kind == FailureKind::Timeout)
    }

    /// Fires when the connection was refused or broke, or when the service failed, panicked, shed the request, or did not
    /// send it because it is [unsuitable](FailureKind::Unsuitable).
    pub fn network() -> Self {
        Self::kinds("network", |kind| {
            !matches!(
                kind,
                FailureKind::Status(_)
                    | FailureKind::Grpc(_)
                    | FailureKind::Timeout
                    | FailureKind::Custom(_)
                    | FailureKind::NotHeld
            )
        })
    }

    /// Fires on a failure that the classifier or a commit point has named.
    pub fn custom() -> Self {
        Self::kinds("custom", |kind| matches!(kind, FailureKind::Custom(_) | FailureKind::NotHeld))
    }

    /// Returns the triggers of a failover that sets no others: [`status`](Self::status), [`timeout`](Self::timeout),
    /// [`network`](Self::network) and [`custom`](Self::custom).
    pub fn defaults() -> Vec<Self> {
        vec![Self::status(), Self::timeout(), Self::network(), Self::custom()]
    }

    /// Returns the name, as the ledger records it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The name of the first trigger that fires on the outcome.
    pub(super) fn fired(triggers: &[Self], statuses: Option<&Statuses>, outcome: &Outcome) -> Option<&'static str> {
        let failure = outcome.failure()?;
        let fires = |trigger: &&Self| match (statuses, failure.kind()) {
            (Some(statuses), FailureKind::Status(status)) if trigger.is_status => statuses.contains(status),
            _ => (trigger.fires)(outcome),
        };
        triggers.iter().find(fires).map(|trigger| trigger.name)
    }

    /// The failure that a response with this status is to the failover, if a list of statuses makes it one although the
    /// classifier does not: a 404 may move a request on without counting in the circuit.
    pub(super) fn on_status(
        triggers: &[Self],
        statuses: Option<&Statuses>,
        outcome: Outcome,
        status: Option<u16>,
    ) -> Option<Outcome> {
        let status = status.filter(|status| statuses.is_some_and(|statuses| statuses.contains(*status)))?;
        let is_watched = triggers.iter().any(|trigger| trigger.is_status);
        (is_watched && !outcome.is_failure()).then(|| Failure::new(FailureKind::Status(status)).into())
    }
}

impl Trigger {
    /// Whether a list of statuses decides in its place.
    pub(super) fn is_status(&self) -> bool {
        self.is_status
    }
}

impl fmt::Debug for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trigger").field(&self.name).finish()
    }
}
