//! Outcomes of calls, and the classifiers that decide them.
//!
//! Every call has one [`Outcome`]: [`Success`](Outcome::Success), [`Failure`](Outcome::Failure) with its
//! [kind](FailureKind) and an optional `Retry-After`, or [`Neutral`](Outcome::Neutral), which counts neither for nor
//! against the backend. A [`Classify`] decides which. Failover, circuits and load measurement all read the same
//! outcome.
//!
//! ```text
//!  request(&req) ──► Call ─┐                        state of the classifier for this call
//!                          ▼
//!  error(call, &err) ─────────► Outcome             the call is over
//!  response(&mut call, &head) ► Verdict::Now(..)    known from the head: a failover can retry
//!                             └ Verdict::AtEnd      the end of the body decides (gRPC)
//!  watch(call, response, guard) ─► Watched          returned to the caller; records how the body ends
//! ```
//!
//! | calls | classifier |
//! |---|---|
//! | HTTP or gRPC | [`HttpClassifier`], the default |
//! | HTTP, with a classifier of `tower_http` | `TowerHttp` (feature `http`) |
//! | of a service whose errors are its failures | [`ErrorsOnly`] |
//! | with a rule of your own | [`classify_fn`], or an implementation of [`Classify`] |
//!
//! A service can state the outcome itself: a [`Failure`] anywhere in the [source chain](std::error::Error::source) of
//! its error is used as it is.
//!
//! A classifier does not decide whether a request is retried. That is up to a [`Trigger`](crate::failover::Trigger),
//! which reads the outcome.
//!
//! # Examples
//!
//! A service that is not HTTP:
//!
//! ```
//! use std::io;
//! use tower_fleet::outcome::{Classify, ErrorsOnly, FailureKind, Outcome};
//!
//! let call = Classify::<&str, u32>::request(&ErrorsOnly, &"PING");
//! let refused = io::Error::from(io::ErrorKind::ConnectionRefused).into();
//! let outcome = Classify::<&str, u32>::error(&ErrorsOnly, call, &refused);
//! assert_eq!(outcome, Outcome::from(FailureKind::Connect));
//! ```
//!
//! A rule of your own. The name of its failure is shown in the [ledger](crate::Ledger):
//!
//! ```
//! use tower_fleet::outcome::{BoxError, FailureKind, Outcome, classify_fn, inspect};
//!
//! let classifier = classify_fn(|result: Result<&String, &BoxError>| match result {
//!     Ok(reply) if reply.starts_with("LOADING") => FailureKind::Custom("loading").into(),
//!     Ok(_) => Outcome::Success,
//!     Err(error) => inspect(&**error),
//! });
//! # let _ = classifier;
//! ```

mod body_timer;
mod call_guard;
mod class;
mod classify;
mod error;
mod failure;
mod finding;
mod guard;
mod headroom;
mod http;
mod keyed;
mod note;
mod received;
mod time_limit;

pub use tower::BoxError;

#[cfg(feature = "http")]
pub use self::http::{
    BrokenStream, ClassifyEnd, EventWatch, HttpEnd, Interrupted, PlainErrors, TowerHttp, TowerHttpCall, WatchedBody,
    retry_after,
};
#[cfg(feature = "http")]
pub(crate) use self::http::{gateway_status, grpc_code, has_events, is_encoded};
#[cfg(feature = "http")]
pub(crate) use self::received::Received;
pub(crate) use self::{
    body_timer::BodyTimer,
    error::find_replay_error,
    guard::{Event, Guard, Meter, Record, Timing},
};
pub use self::{
    call_guard::{CallGuard, InFlight},
    class::PriorityClass,
    classify::{Classify, ClassifyFn, ErrorsOnly, Verdict, classify_fn},
    error::inspect,
    failure::{Failure, FailureKind, Outcome},
    headroom::Headroom,
    http::{HttpClassifier, Statuses},
    keyed::{Keyed, keyed},
    note::Note,
    time_limit::{TimeLimit, TimeLimits, TimedOut},
};
