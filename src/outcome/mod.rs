//! What happened: one vocabulary for failover, breakers and load.
//!
//! A call ends as an [`Outcome`]: [`Success`](Outcome::Success), [`Failure`](Outcome::Failure) with
//! its [kind](FailureKind) and any `Retry-After`, or [`Neutral`](Outcome::Neutral), which says
//! nothing about the backend. A [`Classify`] decides which; what follows from it (another attempt,
//! an open circuit, a higher cost) is decided by whoever reads the outcome, never here.
//!
//! ```text
//!  request(&req) ──► Call ─┐         what the classifier wants to remember of this one call
//!                          ▼
//!  error(call, &err) ─────────► Outcome             the call is over
//!  response(&mut call, &head) ► Verdict::Now(..)    known at the head: a failover can move on
//!                             └ Verdict::AtEnd      the end of the body decides (gRPC)
//!  watch(call, response, guard) ─► Watched          for the caller; records how the body ends
//! ```
//!
//! | you have | use |
//! |---|---|
//! | HTTP or gRPC | `HttpClassifier` (feature `http`), the default |
//! | a classifier of `tower_http` | `TowerHttp` (feature `http`) |
//! | any other service whose errors are its failures | [`ErrorsOnly`] |
//! | your own rule | [`classify_fn`], or implement [`Classify`] |
//!
//! A service that knows best says so itself: a [`Failure`] anywhere in the [source
//! chain](std::error::Error::source) of its error is taken at its word.
//!
//! Do not use this room to decide *whether* to retry: an outcome is a fact, a trigger is a
//! decision.
//!
//! # Examples
//!
//! Anything that is not HTTP:
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
//! A rule of your own, with a name that the ledger and the metrics show:
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

mod call_guard;
mod classify;
mod clue;
mod error;
mod failure;
mod guard;
mod http;

pub use self::call_guard::{CallGuard, InFlight};
pub use self::classify::{Classify, ClassifyFn, ErrorsOnly, Verdict, classify_fn};
pub use self::error::inspect;
pub use self::failure::{Failure, FailureKind, Outcome};
pub(crate) use self::guard::{Event, Guard, Record};
#[cfg(feature = "http")]
pub(crate) use self::http::gateway_status;
#[cfg(feature = "http")]
pub use self::http::{ClassifyEnd, HttpEnd, TowerHttp, TowerHttpCall, WatchedBody, retry_after};
pub use self::http::{HttpClassifier, InvalidStatus, StatusRange, Statuses};

pub use tower::BoxError;
