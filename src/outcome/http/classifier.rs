//! The settings of the default classifier.

use super::{Statuses, codes::FailureCodes};

/// The default classifier, for HTTP and gRPC.
///
/// | event | outcome |
/// |---|---|
/// | status 429 or 500–599 | failure, with the [time](#the-time-that-a-backend-names) that the response names |
/// | any other status | success |
/// | an error | that of [`inspect`](crate::outcome::inspect) |
/// | a body that ends with an error | failure |
/// | `application/grpc*` with a `grpc-status` among the headers | by the code, at the head |
/// | `application/grpc` without it | by the code in the trailers; a failure if there is none |
///
/// With a failure, a `grpc-retry-pushback-ms` takes precedence over a `Retry-After`. A negative or invalid one forbids a
/// retry (gRFC A6), as [`Failure::no_retry`](crate::outcome::Failure::no_retry) does.
///
/// For the gRPC codes that are failures, see `grpc_codes` (feature `http`).
///
/// # The time that a backend names
///
/// A failed response may name the time from which on its backend takes requests again. The first of these headers counts;
/// what has none of the known forms is ignored:
///
/// 1. `retry-after-ms`, in milliseconds;
/// 2. `Retry-After`, in seconds or as a date. A 0 means at once;
/// 3. with status 429 or gRPC `RESOURCE_EXHAUSTED`, the reset of the rate limit that is used up: `x-ratelimit-reset*`,
///    `anthropic-ratelimit-*-reset`, `ratelimit-reset` or `RateLimit`. Of several limits the one with a `remaining` of 0
///    counts, else those without a `remaining`; of several of these, the latest. Forms: seconds (`30`, `1.5`), durations
///    as in Go (`6m0s`, `250ms`), Unix time in seconds or milliseconds, RFC 3339, HTTP dates.
///
/// A moment is compared with the `Date` of the response, so the clock of the backend may differ from ours. For a service
/// with other headers, see `named_time` (feature `http`). What follows is described at
/// [`FleetBuilder::named_times`](crate::fleet::FleetBuilder::named_times).
///
/// # What is left of a limit
///
/// In a fleet with [`headroom`](crate::fleet::FleetBuilder::headroom), each response that is no failure is read for what is
/// left of the rate limits of its backend:
///
/// | headers | of |
/// |---|---|
/// | `x-ratelimit-remaining`, `-limit` and `-reset`, also with `-requests`, `-tokens` and others behind them | most APIs |
/// | `anthropic-ratelimit-requests-remaining`, `-limit` and `-reset`, also of `-tokens-` and others | Anthropic |
/// | `ratelimit-remaining`, `-limit` and `-reset`; `RateLimit`, with its `RateLimit-Policy` | the IETF drafts |
///
/// The limit with the least left counts. A `remaining` without a limit counts if it is 0. Limits of 0, and what is no
/// number, are ignored.
///
/// ```
/// use tower_fleet::outcome::{HttpClassifier, Statuses};
///
/// // The default suits most APIs.
/// let classifier = HttpClassifier::new();
///
/// // Other statuses are failures, and a success is recorded at the end of the body.
/// let classifier = HttpClassifier::new()
///     .statuses(Statuses::none().and(429)?.and_range(502..=504)?)
///     .success_at_end(true);
/// # let _ = classifier;
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
#[derive(Clone, Debug)]
pub struct HttpClassifier {
    pub(super) statuses: Statuses,
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "read when a response is classified"))]
    pub(super) grpc: FailureCodes,
    pub(super) network_errors: bool,
    pub(super) success_at_end: bool,
    #[cfg(feature = "http")]
    pub(super) events: Option<crate::content::EventRules>,
    #[cfg(feature = "http")]
    pub(super) named_time: Option<super::retry_after::NamedTime>,
}

impl HttpClassifier {
    /// Creates a classifier with the defaults of the table above.
    pub fn new() -> Self {
        Self {
            statuses: Statuses::default(),
            grpc: FailureCodes::default(),
            network_errors: true,
            success_at_end: false,
            #[cfg(feature = "http")]
            events: None,
            #[cfg(feature = "http")]
            named_time: None,
        }
    }

    /// Sets the statuses that are failures. Default 429 and 500–599.
    pub fn statuses(mut self, statuses: Statuses) -> Self {
        self.statuses = statuses;
        self
    }

    /// Sets whether errors of the network are failures, such as a connection that breaks, a timeout of the socket, or
    /// an unknown error. Default `true`; with `false` they are neutral.
    ///
    /// Other errors always count: timeouts of a middleware, shed requests, and a [`Failure`](crate::outcome::Failure)
    /// in the source chain.
    pub fn network_errors(mut self, count: bool) -> Self {
        self.network_errors = count;
        self
    }

    /// Sets whether a success is recorded when the body has ended well, and not with the head. Default `false`.
    ///
    /// With `true`, a stream that never ends never succeeds, so that a half-open circuit does not close. Native gRPC
    /// always waits for the trailers.
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
