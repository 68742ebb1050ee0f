//! The default classifier for HTTP and gRPC.

use super::{Statuses, codes::FailureCodes};

/// What came of an HTTP or gRPC call.
///
/// | seen | outcome |
/// |---|---|
/// | status 429 or 500–599 | failure, with the `Retry-After` it came with |
/// | any other status | success |
/// | an error | what [`inspect`](crate::outcome::inspect) finds in it |
/// | a body that breaks off | failure |
/// | `grpc-status` in the headers of `application/grpc*` | decides at once |
/// | `application/grpc` without one | the trailers decide at the end of the body; ending without is a failure |
///
/// Which gRPC codes count is told at [`grpc_codes`](Self::grpc_codes).
///
/// ```
/// use tower_fleet::outcome::{HttpClassifier, Statuses};
///
/// // What most APIs need.
/// let classifier = HttpClassifier::new();
///
/// // Only an overloaded gateway counts, and a stream is good when it has ended well.
/// let classifier = HttpClassifier::new()
///     .statuses(Statuses::none().and(429)?.and(502..=504)?)
///     .success_at_end(true);
/// # let _ = classifier;
/// # Ok::<_, tower_fleet::outcome::InvalidStatus>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct HttpClassifier {
    pub(super) statuses: Statuses,
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "asked about responses"))]
    pub(super) grpc: FailureCodes,
    pub(super) network_errors: bool,
    pub(super) success_at_end: bool,
}

impl HttpClassifier {
    /// The defaults, as in the table above.
    pub fn new() -> Self {
        Self {
            statuses: Statuses::default(),
            grpc: FailureCodes::default(),
            network_errors: true,
            success_at_end: false,
        }
    }

    /// Replaces the list of statuses that are failures.
    pub fn statuses(mut self, statuses: Statuses) -> Self {
        self.statuses = statuses;
        self
    }

    /// Whether errors of the network count, connections that break under a body included. They do
    /// by default.
    ///
    /// Switched off, what is left are errors with a reason of their own: timeouts of a middleware,
    /// shed requests, a [`Failure`](crate::outcome::Failure) in the chain. A timeout of the socket is an error of the
    /// network.
    pub fn network_errors(mut self, count: bool) -> Self {
        self.network_errors = count;
        self
    }

    /// Whether a good head is not enough for a success and the body must end well too.
    ///
    /// Off by default: a stream that never ends would never succeed, and a half-open breaker would
    /// wait for it. gRPC waits for its trailers in any case.
    pub fn success_at_end(mut self, wait: bool) -> Self {
        self.success_at_end = wait;
        self
    }
}

impl Default for HttpClassifier {
    fn default() -> Self {
        Self::new()
    }
}
