//! What a changed configuration changed.

use crate::fleet::Reconciled;

/// The changes that a new version of a configuration made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// The changes of the backends.
    pub backends: Reconciled,
    /// The keys at the root of the file that changed, and that a running fleet cannot follow.
    pub needs_restart: Vec<String>,
}
