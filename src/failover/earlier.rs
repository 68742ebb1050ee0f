//! What a request brings along: the attempts of an earlier run, and the backends that may get it.

use std::sync::Arc;

use super::{Ledger, counts::AttemptCounts};
use crate::pick::Skip;

/// The earlier attempts of a request whose response body broke off. Put it into the extensions of the request that goes
/// on from there, as a [`ResumeLayer`](crate::resume::ResumeLayer) does.
///
/// A [`Failover`](super::Failover) then continues the run:
///
/// - The [deadline](super::FailoverBuilder::deadline) is the one of the first request.
/// - Every attempt takes a token from the [budget](super::FailoverBuilder::budget), and the request adds none.
/// - The backends whose bodies broke off are attempted only if no other one is ready; of several, the one that broke off
///   first.
/// - The [`Ledger`] of the new response starts with the earlier attempts.
#[derive(Clone, Debug)]
pub struct Earlier(Arc<Ledger>);

impl Earlier {
    /// Creates the extension out of the ledger of a response whose body broke off, when the caller had this many bytes
    /// of the whole.
    pub fn new(mut ledger: Ledger, after: u64) -> Self {
        ledger.cut(after);
        ledger.stopped = None;
        Self(Arc::new(ledger))
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.0
    }

    /// The backends whose bodies broke off last. One of `eligible` backends stays free.
    fn cut(&self, eligible: usize) -> Skip {
        let mut cut = Skip::default();
        for entry in self.0.attempts().iter().rev().filter(|entry| entry.is_cut()) {
            if cut.len() + 1 >= eligible {
                break;
            }
            cut.insert(entry.id);
        }
        cut
    }
}

/// The backends that may get a request, by name: an extension of the request that a [`Failover`](super::Failover)
/// honours. The request is sent to no other backend, even if none of these is available.
///
/// ```
/// # #[cfg(feature = "http")] {
/// use tower_fleet::failover::OnlyAt;
///
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(OnlyAt::new(["openai", "azure"]));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct OnlyAt(Arc<[Box<str>]>);

impl OnlyAt {
    /// Creates the extension out of the names of the backends.
    pub fn new(backends: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(backends.into_iter().map(|name| name.into().into_boxed_str()).collect())
    }

    /// Whether a backend may get the request.
    pub(crate) fn allows(&self, backend: &str) -> bool {
        self.0.iter().any(|name| **name == *backend)
    }
}

/// What a request brings along. Most requests bring nothing.
pub(super) struct Brought {
    pub(super) earlier: Option<Earlier>,
    pub(super) only: Option<OnlyAt>,
}

impl Brought {
    #[inline]
    pub(super) fn new(earlier: Option<&Earlier>, only: Option<&OnlyAt>) -> Option<Box<Self>> {
        if earlier.is_none() && only.is_none() {
            return None;
        }
        Some(Box::new(Self { earlier: earlier.cloned(), only: only.cloned() }))
    }

    /// How many entries of the ledger are of an earlier run.
    pub(super) fn entries(&self) -> usize {
        self.earlier.as_ref().map_or(0, |earlier| earlier.ledger().attempts().len())
    }

    /// Whether a backend may get the request.
    pub(super) fn allows(&self, backend: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.allows(backend))
    }

    /// Begins to count the attempts, while this many backends are eligible.
    pub(super) fn counts(&self, eligible: usize) -> AttemptCounts {
        let Some(earlier) = &self.earlier else { return AttemptCounts::default() };
        AttemptCounts::after(earlier.ledger().attempts(), earlier.cut(eligible))
    }
}
