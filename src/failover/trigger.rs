use std::{fmt, sync::Arc};

use crate::outcome::{Failure, FailureKind, Outcome, Statuses};

/// Says of a failed attempt that another backend is to be asked. Named, so that the ledger can say which one did.
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
    trips: Arc<dyn Fn(&Outcome) -> bool + Send + Sync>,
    /// A list of statuses, where one is set, decides in its place.
    is_status: bool,
}

impl Trigger {
    /// A trigger of your own. It is asked about failures only: a success and a caller that left trip nothing.
    pub fn new(name: &'static str, trips: impl Fn(&Outcome) -> bool + Send + Sync + 'static) -> Self {
        Self { name, trips: Arc::new(trips), is_status: false }
    }

    fn kinds(name: &'static str, of: fn(FailureKind) -> bool) -> Self {
        Self::new(name, move |outcome| outcome.failure().is_some_and(|failure| of(failure.kind())))
    }

    /// A status, of HTTP or gRPC, that the classifier counts as a failure: 429 and 500 to 599 by default.
    pub fn status() -> Self {
        let by_kind = Self::kinds("status", |kind| matches!(kind, FailureKind::Status(_) | FailureKind::Grpc(_)));
        Self { is_status: true, ..by_kind }
    }

    /// The answer did not come in time.
    pub fn timeout() -> Self {
        Self::kinds("timeout", |kind| kind == FailureKind::Timeout)
    }

    /// The connection was refused or broke, or the service in front of it failed, panicked or shed the request.
    pub fn network() -> Self {
        Self::kinds("network", |kind| {
            !matches!(
                kind,
                FailureKind::Status(_) | FailureKind::Grpc(_) | FailureKind::Timeout | FailureKind::Custom(_)
            )
        })
    }

    /// A failure with a name of the classifier's own.
    pub fn custom() -> Self {
        Self::kinds("custom", |kind| matches!(kind, FailureKind::Custom(_)))
    }

    /// Those that are in force unless others are set: a status, a timeout, the network, a failure with its own name.
    pub fn defaults() -> Vec<Self> {
        vec![Self::status(), Self::timeout(), Self::network(), Self::custom()]
    }

    /// What the ledger calls it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The first of them that the outcome trips.
    pub(super) fn tripped(triggers: &[Self], statuses: Option<&Statuses>, outcome: &Outcome) -> Option<&'static str> {
        let failure = outcome.failure()?;
        let trips = |trigger: &&Self| match (statuses, failure.kind()) {
            (Some(statuses), FailureKind::Status(status)) if trigger.is_status => statuses.contains(status),
            _ => (trigger.trips)(outcome),
        };
        triggers.iter().find(trips).map(|trigger| trigger.name)
    }

    /// What a response with this status is to the failover where a list of statuses says so, whatever it is to the
    /// circuit: a 404 may move a request on, and be no failure.
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

impl fmt::Debug for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trigger").field(&self.name).finish()
    }
}
