//! Many backends, one dependable [`tower::Service`].
//!
//! A [`Fleet`] is a handle on a set of named [`Backend`]s, which may change while it serves. A door is a [`Service`] over a
//! fleet: `Clone + Send + Sync`, without a worker task or a queue, so that axum, hyper and tonic take it as it is.
//!
//! ```text
//!                    ┌──────────────────────────── Fleet ───────────────────────────┐
//! request ─► door ──►│ eligible backends ─► strategy ─► ready? ─► attempt ──► client │──► response
//!            │       │   ▲ circuit, probe, outlier, hint, operator  │ permit, timer  │
//!            │       └───┴──────────────── outcome ◄────────────────┘ classification ┘
//!            ├ Balance         one backend per request
//!            └ Failover        the primary; when it fails, all race, or the others follow or are hedged
//! ```
//!
//! | door | a request goes to | module |
//! |---|---|---|
//! | [`Balance`] | one eligible backend that is ready | [`balance`] |
//! | [`Failover`] | the primary, and to other backends when it fails | [`failover`] |
//! | [`CircuitBreaker`] | its one service, while that is well | [`breaker`] |
//!
//! # A complete program
//!
//! ```
//! # #[cfg(feature = "http")]
//! # mod program {
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode};
//! use http_body_util::Full;
//! use tower::{BoxError, ServiceBuilder, util::BoxCloneSyncService};
//! use tower_fleet::{Backend, CircuitPolicy, Failover, FailoverLayer, Fleet, Ledger, ReplayBody};
//!
//! /// The client of a backend. Its requests may be sent again, hence the `ReplayBody`.
//! type Client = BoxCloneSyncService<Request<ReplayBody<Full<Bytes>>>, Response<Full<Bytes>>, BoxError>;
//!
//! /// The state of an application: doors and fleets are cheap to clone.
//! #[derive(Clone)]
//! struct App {
//!     door: Failover<Client>,
//!     fleet: Fleet<Client>,
//! }
//!
//! /// Stands in for a client of hyper, reqwest or tonic: a backend that answers with this status.
//! fn client(status: StatusCode) -> Client {
//!     BoxCloneSyncService::new(tower::service_fn(move |_request| async move {
//!         let mut response = Response::new(Full::from("hello"));
//!         *response.status_mut() = status;
//!         Ok(response)
//!     }))
//! }
//!
//! #[tokio::main]
//! # pub
//! async fn main() -> Result<(), BoxError> {
//!     let fleet = Fleet::builder()
//!         .backend(Backend::new("openai", client(StatusCode::TOO_MANY_REQUESTS)).priority(10))
//!         .backend(Backend::new("azure", client(StatusCode::OK)).timeout(Duration::from_secs(30)))
//!         .circuit_breaker(CircuitPolicy::new().failures(5).within(Duration::from_secs(60)))
//!         .build()?;
//!     let door = ServiceBuilder::new().layer(FailoverLayer::new()).service(fleet.clone());
//!     let app = App { door, fleet };
//!
//!     // The primary answers 429, so both race, and the first good response wins.
//!     let response = app.door.clone().oneshot(Request::new(Full::default())).await?;
//!     let ledger = response.extensions().get::<Ledger>().expect("every response has one");
//!     assert_eq!(ledger.served().unwrap(), "azure");
//!     println!("{ledger}"); // `openai`: status 429 (0.1ms); `openai` dropped (0.0ms); `azure` served (0.1ms)
//!
//!     // The fleet changes while it serves.
//!     app.fleet.insert(Backend::new("spare", client(StatusCode::OK)).priority(-1))?;
//!     app.fleet.drain("openai");
//!     for backend in app.fleet.snapshot() {
//!         println!("{} {} {} {} in flight", backend.name, backend.status, backend.state, backend.in_flight);
//!     }
//!     Ok(())
//! }
//! # }
//! # #[cfg(feature = "http")]
//! # program::main().unwrap();
//! ```
//!
//! **A `POST` may be sent twice.** By default a failed request is sent to another backend whatever its method is; a hedge,
//! which is sent although nothing has failed, is sent for idempotent methods only. Both are settings:
//! [`retry_methods`](failover::FailoverBuilder::retry_methods), [`hedge_methods`](failover::FailoverBuilder::hedge_methods).
//!
//! # Where things are
//!
//! | module | what it holds |
//! |---|---|
//! | [`fleet`] | the backends, their health, and every change of them |
//! | [`pick`] | strategies: which of the eligible backends is the next |
//! | [`outcome`] | what a call came to: success, failure, neutral |
//! | [`probe`] | active checks, which need no traffic |
//! | [`body`] | request bodies that several attempts may read |
//! | `content` (`http`) | what bodies mean: the events of a stream, paths into JSON |
//! | [`replicas`] | what replicas tell each other of their backends |
//! | `upstream` (`http`) | origin, headers and credentials per backend; fields of JSON bodies (`json`) |
//! | `resume` (`http`) | response bodies that go on at another backend |
//! | `config` (`serde`) | a whole fleet from a file |
//! | `state` (`file-state`) | what is known of the backends, across restarts |
//! | `dns` (`dns`) | backends from DNS: hosts and services |
//! | [`guide`] | choosing, strategies, migrating, compile errors, performance |
//!
//! # Cancellation
//!
//! Dropping the future of a door ends all its attempts, returns their permits, and records them as cancelled, which is
//! neutral for a circuit unless the call was already slow. No door spawns a task. Dropping a response body ends its call.
//!
//! # Events
//!
//! With `tracing`, target `tower_fleet`:
//!
//! | level | message | fields |
//! |---|---|---|
//! | `INFO` | `circuit changed state` | `backend`, `from`, `to` |
//! | `INFO` | `fleet changed` | `change` |
//! | `INFO` | `body resumed` | `bytes`, `ledger` |
//! | `INFO` | `body not resumed` | `bytes`, `reason`, `ledger` |
//! | `WARN` | `backend rejects requests` | `backend`, `rule` |
//! | `WARN` | `probes fail` | `backend`, `reason` |
//! | `INFO` | `probes succeed` | `backend` |
//! | `WARN` | `discovered backend rejected` | `error` |
//! | `INFO` | `configuration applied` | `change` |
//! | `WARN` | `configuration applied in part` | `change`, `needs_restart` |
//! | `WARN` | `configuration refused` | `error` |
//! | `WARN` | `list of backends refused; the previous one stays` | `error` |
//! | `WARN` | `listed backend skipped; its name is taken` | `backend` |
//! | `INFO` | `state restored` | `fleet`, `store`, `backends` |
//! | `WARN` | `state not restored` | `fleet`, `store`, `reason` |
//! | `WARN` | `state not saved` | `fleet`, `store`, `error` |
//! | `INFO` | `state saved again` | `fleet`, `store` |
//! | `WARN` | `sharing interrupted; this replica decides alone` | `fleet`, `error` |
//! | `INFO` | `sharing resumed` | `fleet`, `after` |
//! | `WARN` | `garbled report of a replica ignored; further ones are ignored silently` | `fleet` |
//! | `WARN` | `DNS lookup failed; the last good endpoints stay` | `source`, `error`, `cause`, `endpoints` |
//! | `INFO` | `DNS lookup succeeded again` | `source`, `failures` |
//! | `WARN` | `too many endpoints in DNS; the surplus is left out` | `source`, `found`, `kept` |
//! | `ERROR` | `strategy panicked; backends are selected at random until the next change` | `fleet` |
//!
//! The same as streams: [`Fleet::changes`], [`Switch::transitions`](fleet::Switch::transitions).
//!
//! # Features and requirements
//!
//! | feature | adds |
//! |---|---|
//! | `http` (default) | statuses, gRPC, `Retry-After`, bodies that are watched and replayed, `upstream` |
//! | `dns` | backends from DNS |
//! | `json` (with `http`) | paths into JSON, the events of three APIs of language models, edits of JSON bodies per backend |
//! | `file-state` | `state`: what is known of the backends, in a file for the next start |
//! | `valkey` | what replicas know of their backends, through Valkey or Redis |
//! | `serde` (with `json`) | `config`: a whole fleet from TOML, JSON or any other format of serde |
//!
//! Rust 1.88. Timeouts, deadlines, pauses and the waiting for a circuit use tokio's timers. A [`Failover`] has a timeout by
//! default, so it is polled inside of a tokio runtime with time enabled. A [`Balance`] without timeouts, circuits and rules
//! on events runs on any executor.
//!
//! [`Service`]: tower::Service
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod attempt;
pub mod balance;
pub mod body;
#[cfg(feature = "http")]
mod boxed;
pub mod breaker;
#[cfg(feature = "serde")]
pub mod config;
#[cfg(feature = "http")]
pub mod content;
#[cfg(feature = "dns")]
pub mod dns;
pub mod failover;
pub mod fleet;
mod foreign;
mod health;
mod key;
mod name;
pub mod outcome;
pub mod pick;
pub mod probe;
pub mod replicas;
#[cfg(feature = "http")]
pub mod resume;
mod rng;
mod setting;
mod shard;
#[cfg(feature = "file-state")]
pub mod state;
mod telemetry;
mod time;
#[cfg(feature = "http")]
pub mod upstream;
mod wake;

#[cfg(feature = "serde")]
#[doc(inline)]
pub use crate::config::Config;
#[cfg(feature = "json")]
#[doc(inline)]
pub use crate::upstream::json::{JsonEdit, JsonEditLayer};
#[doc(inline)]
pub use crate::{
    attempt::Oneshot,
    balance::{Balance, BalanceLayer},
    breaker::{CircuitBreaker, CircuitBreakerLayer},
    failover::{Failover, FailoverLayer, Ledger, Methods, Mode, Percentile},
    fleet::{Backend, Fleet, WhenFull},
    health::{AdaptiveLimit, AdminStatus, CircuitPolicy, CircuitState, Limit, Outliers, SlowStart, Transition},
    outcome::{PriorityClass, TimeLimit, TimeLimits, TimedOut},
    pick::{Hash, Latency, LeastLoaded, PeakEwma, Primary, RoundRobin, Shuffle, Weighted},
    setting::InvalidSetting,
};
#[cfg(feature = "http")]
#[doc(inline)]
pub use crate::{
    body::{ReplayBody, ReplayLayer},
    resume::ResumeLayer,
    upstream::{Upstream, UpstreamLayer},
};

#[cfg(all(any(doc, doctest), feature = "http"))]
pub mod guide {
    //! Longer texts: the files of `docs/`.

    #[doc = include_str!("../docs/choosing.md")]
    pub mod choosing {}

    #[doc = include_str!("../docs/strategies.md")]
    pub mod strategies {}

    #[doc = include_str!("../docs/migrating.md")]
    pub mod migrating {}

    #[doc = include_str!("../docs/compile-errors.md")]
    pub mod compile_errors {}

    #[doc = include_str!("../docs/performance.md")]
    pub mod performance {}
}

/// The README, whose examples are compiled too.
#[cfg(all(doctest, feature = "serde"))]
#[doc = include_str!("../README.md")]
struct Readme;
