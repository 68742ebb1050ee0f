//! What one error of a source chain means, and what the whole chain does.

use super::{FailureKind, Outcome};

/// What a chain of errors means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::outcome) struct Finding {
    pub(in crate::outcome) outcome: Outcome,
    /// Whether the deciding error is one of the network or unknown, rather than one of a middleware that states its
    /// reason. A classifier may ignore such errors (C28).
    pub(in crate::outcome) network: bool,
}

/// What one error of a chain means.
pub(in crate::outcome) enum Meaning {
    /// It decides.
    Final(Finding),
    /// A transport failed. A deeper error may be more specific.
    Transport {
        /// Whether the request was sent on a connection. Then no deeper error can mean that it was not.
        sent: bool,
    },
}

impl Meaning {
    pub(in crate::outcome) fn network(kind: FailureKind) -> Self {
        Self::Final(Finding { outcome: kind.into(), network: true })
    }

    pub(in crate::outcome) fn local(outcome: impl Into<Outcome>) -> Self {
        Self::Final(Finding { outcome: outcome.into(), network: false })
    }
}
