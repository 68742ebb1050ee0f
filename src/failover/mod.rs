//! Failover: sends a request to one backend, and to further backends when that one fails.
//!
//! ```text
//! first attempt, at the primary ──► no trigger fires ──► the response is final, and returned to the caller
//!         │
//!         │ a trigger fires: 429, 5xx, timeout, network error
//!         ▼
//! further attempts, by mode ──────► no trigger fires ──► the response is final; the other attempts are cancelled
//!         │
//!         │ every attempt has tripped
//!         ▼
//! the last response, unchanged, or an error that lists the attempts
//! ```
//!
//! | [`Mode`] | further attempts |
//! |---|---|
//! | [`Race`](Mode::Race), the default | after the first trip, at up to 16 eligible backends in parallel, primary included |
//! | [`Sequential`](Mode::Sequential) | one after the other, each when the one before has tripped |
//! | [`Hedged`](Mode::Hedged) | one more after each delay, fixed or a [percentile](Percentile), or when an attempt trips |
//!
//! Which backend is attempted again, up to `attempts_per_backend`, depends on how an attempt ended:
//!
//! | an attempt ends with | the next one is at |
//! |---|---|
//! | a status, or a refused connection | the same backend, under [`Sequential`](Mode::Sequential), or another one |
//! | a timeout | another backend |
//! | a time that the backend named, with `Retry-After` for example | another backend. Under `Sequential`, if there is none, the same one at exactly that time, if the request [may wait](FailoverBuilder::retry_after_cap) so long. A race and hedges leave it out |
//!
//! A backend that named a time is out for other requests too: see
//! [`FleetBuilder::named_times`](crate::fleet::FleetBuilder::named_times).
//!
//! A [`Trigger`] decides which failures move the request on. Each attempt sends the caller's request; its body is kept
//! for that, [within bounds](crate::body). Every HTTP response has a [`Ledger`] in its extensions, and every [`Error`]
//! has one too: which backends were attempted, how each attempt ended, how long it took, and which backend served.
//!
//! When one attempt per request is enough, use a [balance](crate::balance): it costs less, and keeps no request body.
//!
//! # Cancel safety
//!
//! All attempts run inside the response future, and dropping it cancels them. A cancelled attempt is not a failure of
//! its backend; with [`slow_calls`](crate::CircuitPolicy::slow_calls) it counts as slow if it was already slow.
//!
//! # Examples
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
//! One attempt after the other, within a deadline, for any service with requests that are `Clone`:
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
//!     .build()?;
//! let fleet = Fleet::plain().backend(Backend::new("only", client)).build()?;
//! let dependable = ServiceBuilder::new().layer(layer).service(fleet);
//! # let _ = dependable;
//! # Ok(())
//! # }
//! ```

mod attempts;
mod backoff;
mod budget;
mod builder;
mod commit;
#[cfg(feature = "http")]
mod commit_point;
mod counts;
mod earlier;
mod end;
mod error;
mod follow;
mod follow_up;
mod future;
mod hedge;
mod hedging;
#[cfg(feature = "http")]
mod http;
mod invalid;
mod layer;
mod ledger;
#[cfg(feature = "http")]
mod ledger_header;
mod measure;
#[cfg(feature = "http")]
mod peek;
#[cfg(feature = "http")]
mod peeked_body;
mod plan;
mod progress;
mod rejected;
#[cfg(feature = "http")]
mod rejection;
mod resting;
mod running;
mod search;
mod service;
mod settings;
mod settle;
mod trigger;

#[cfg(not(feature = "http"))]
pub use self::commit::Http;
#[cfg(feature = "serde")]
pub(crate) use self::rejection::{Refused, intern};
pub use self::{
    backoff::Backoff,
    budget::Budget,
    builder::FailoverBuilder,
    commit::{Commit, GuardOf, Plain},
    earlier::{Earlier, OnlyAt},
    error::{Error, ErrorKind},
    follow::{Follow, Rejected},
    future::ResponseFuture,
    hedge::{HedgeDelay, Percentile},
    layer::FailoverLayer,
    ledger::{Attempted, Ending, Ledger, Stopped},
    service::Failover,
    settings::{Methods, Mode},
    trigger::Trigger,
};
#[cfg(feature = "http")]
pub use self::{
    commit_point::{Beyond, CommitPoint, Decision},
    http::Http,
    peek::Peek,
    peeked_body::{PeekedBody, ResponseBody},
    rejection::{Rejection, Rejections},
};
