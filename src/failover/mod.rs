//! The first good answer wins.
//!
//! ```text
//! the primary, alone ──► good, or what trips nothing ──────────────────────────► the answer
//!         │ trips: 429, 5xx, timeout, network                                      ▲
//!         ▼                                                                        │
//! Race         everybody at once, the primary too ──► the first that trips nothing ┤  the others are dropped
//! Sequential   one after the other ──────────────────────────────────────────────┤
//! Hedged       the next one after each delay or trip ────────────────────────────┘
//!         │ all of them tripped
//!         ▼
//! the last response as it came, or an error that names everybody
//! ```
//!
//! Every response has a [`Ledger`] among its extensions, and every error brings one along: who was tried, why each was
//! left, how long it took, who served. Each attempt starts from the caller's request, whose body is kept within bounds;
//! all attempts run inside the one future, and dropping it ends them. Who is dropped has not failed; under
//! [`slow_calls`](crate::CircuitBreakerLayer::slow_calls) its circuit learns that it was slow.
//!
//! The default, for HTTP:
//!
//! ```
//! # #[cfg(feature = "http")] {
//! # use tower_fleet::{Backend, FailoverLayer, Fleet, failover::Ledger};
//! # use tower::{ServiceBuilder, ServiceExt, service_fn};
//! # use http::{Request, Response};
//! # use http_body_util::Full;
//! # use bytes::Bytes;
//! # use tower_fleet::body::ReplayBody;
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! # let client = |status: u16| service_fn(move |_: Request<ReplayBody<Full<Bytes>>>| async move {
//! #     Ok::<_, std::convert::Infallible>(Response::builder().status(status).body(Full::new(Bytes::new())).unwrap())
//! # });
//! let fleet = Fleet::builder()
//!     .backend(Backend::new("primary", client(503)).priority(10))
//!     .backend(Backend::new("backup", client(200)))
//!     .build()?;
//! let dependable = ServiceBuilder::new().layer(FailoverLayer::new()).service(fleet);
//!
//! let response = dependable.oneshot(Request::new(Full::<Bytes>::default())).await?;
//! let ledger = response.extensions().get::<Ledger>().unwrap();
//! assert_eq!(ledger.served().unwrap(), "backup");
//! assert_eq!(ledger.attempts().len(), 3); // the primary, then the race of both
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! # }
//! ```
//!
//! One after the other, within a deadline, for any service with requests that are `Clone`:
//!
//! ```
//! # use std::time::Duration;
//! # use tower_fleet::{Backend, FailoverLayer, Fleet, failover::{Backoff, Mode}};
//! # use tower::{ServiceBuilder, service_fn};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = service_fn(|_: u32| async { Ok::<_, std::io::Error>(()) });
//! let layer = FailoverLayer::plain()
//!     .mode(Mode::Sequential)
//!     .attempts_per_backend(2)
//!     .backoff(Backoff::default())
//!     .deadline(Duration::from_secs(30))
//!     .checked()?;
//! let fleet = Fleet::plain().backend(Backend::new("only", client)).build()?;
//! let dependable = ServiceBuilder::new().layer(layer).service(fleet);
//! # let _ = dependable;
//! # Ok(())
//! # }
//! ```
//!
//! When any backend will do and a failure may be the caller's, a [balance](crate::balance) costs less.

#[cfg(feature = "http")]
mod answer;
mod attempts;
mod backoff;
mod budget;
mod commit;
mod error;
mod future;
#[cfg(feature = "http")]
mod http;
mod layer;
mod ledger;
mod plan;
mod progress;
mod running;
mod service;
mod settings;
mod settle;
mod tries;
mod trigger;

#[cfg(not(feature = "http"))]
pub use self::commit::Http;
#[cfg(feature = "http")]
pub use self::{
    answer::AnswerBody,
    http::{CommitPoint, Decision, Http, Peek, Prelude},
};
pub use self::{
    backoff::Backoff,
    budget::Budget,
    commit::{Commit, Plain},
    error::{Error, ErrorKind},
    future::ResponseFuture,
    layer::FailoverLayer,
    ledger::{Attempted, Ending, Ledger, Stopped},
    service::Failover,
    settings::Mode,
    trigger::Trigger,
};
