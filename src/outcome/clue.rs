//! What one link of a chain of errors says.

use super::{FailureKind, Outcome};

/// What a chain of errors says, and which of them said it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::outcome) struct Finding {
    pub(in crate::outcome) outcome: Outcome,
    /// The network or an unknown error, rather than a middleware with a reason of its own. Can be
    /// switched off (C28).
    pub(in crate::outcome) network: bool,
}

/// What one link of a chain says.
pub(in crate::outcome) enum Clue {
    /// It settles the matter.
    Settled(Finding),
    /// A transport failed, and a deeper link may know better.
    Transport {
        /// The request was on a connection, so that nothing deeper can mean that it was never sent.
        sent: bool,
    },
}

impl Clue {
    pub(in crate::outcome) fn network(kind: FailureKind) -> Self {
        Self::Settled(Finding { outcome: kind.into(), network: true })
    }

    pub(in crate::outcome) fn local(outcome: impl Into<Outcome>) -> Self {
        Self::Settled(Finding { outcome: outcome.into(), network: false })
    }
}
