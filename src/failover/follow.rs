//! What follows a response that was rejected by its content.

use crate::outcome::{Failure, FailureKind, Outcome};

/// What follows a response that a `Rejection` matches (feature `http`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Follow {
    /// The next backend gets the request.
    Next,
    /// The next backend with this [tag](crate::Backend::tag) gets the request. If none is left, the response is the
    /// answer.
    Tagged(&'static str),
    /// The same backend gets the request again, later: after the pause between attempts, and not before the time that it
    /// named, if it did. Needs [`Mode::Sequential`](super::Mode::Sequential) and
    /// [`attempts_per_backend`](super::FailoverBuilder::attempts_per_backend) of at least 2.
    Later,
    /// The caller gets the response: no backend would answer otherwise.
    Answer,
}

/// A response that is a rejection by the rules of a protocol. See [`Commit::rejection`](super::Commit::rejection).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The name of the rule, which the ledger shows.
    pub name: &'static str,
    /// What follows.
    pub follow: Follow,
    /// Whether it is a failure of the backend, for its circuit too.
    pub is_failure: bool,
    /// Whether the backend has certainly not processed the request, so that it may be sent again whatever its method is.
    pub is_unprocessed: bool,
}

impl Rejected {
    /// The failure that the response is to the failover. `head` is the outcome of its head: a backend that named a time
    /// is not asked earlier.
    pub(super) fn failure(&self, head: &Outcome) -> Failure {
        let named = head.failure().and_then(Failure::retry_delay).filter(|_| self.follow == Follow::Later);
        Failure::new(FailureKind::Rejected(self.name)).retry_after(named)
    }
}
