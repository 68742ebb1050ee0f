//! Many backends, one dependable [`tower::Service`].
//!
//! ```text
//!   Fleet                    raw services, one classifier; every change is one new version
//!    near ─┐
//!     far ─┤ selection ─► Pick   which is next: one index, no lock, no allocation
//!   spare ─┘  ▲            │
//!             │            ▼
//!  request ───┼──► door ─► ready? ──► attempt: permit, call, one verdict ──► response, and in its body the guard
//!             │              │           │                                             │
//!             │              │           ├ Failover: trips? then further attempts      │ end: in flight −1,
//!             │              │           └ Balance: one backend per request            │ late failure
//!             │              └ pending: the others of the tier                         │
//!             └── Health: circuit, operator, cool-down ◄───────────────────────────────┘
//! ```
//!
//! A [`Fleet`] is a handle on a set of [`Backend`]s, which may change while it serves. A door is a
//! [`Service`](tower::Service) over a fleet: `Clone`, without a worker or a channel, so that axum, hyper and
//! tonic take it as it is, and no `Buffer` is needed.
//!
//! | door | a request goes to | module |
//! |---|---|---|
//! | [`Balance`] | one eligible backend that is ready | [`balance`] |
//! | [`Failover`] | the primary, and to others when it fails | [`failover`] |
//! | [`CircuitBreaker`] | its one service, while that is well | [`breaker`] |
//!
//! ```
//! # #[cfg(feature = "http")] {
//! # use std::time::Duration;
//! # use bytes::Bytes;
//! # use http::{Request, Response};
//! # use http_body_util::Full;
//! # use tower_fleet::{Backend, BalanceLayer, CircuitBreakerLayer, FailoverLayer, Fleet, body::ReplayBody, failover::Ledger};
//! # use tower::{ServiceBuilder, ServiceExt, service_fn};
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! # let client = || service_fn(|_: Request<ReplayBody<Full<Bytes>>>| async {
//! #     Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::new())))
//! # });
//! # let (openai, azure, spare) = (client(), client(), client());
//! # let request = Request::new(Full::<Bytes>::default());
//! let fleet = Fleet::builder()
//!     .backend(Backend::new("openai", openai).priority(10))
//!     .backend(Backend::new("azure", azure).timeout(Duration::from_secs(30)))
//!     .circuit_breaker(CircuitBreakerLayer::new().failures(5).within(Duration::from_secs(60)))
//!     .build()?;
//!
//! // The primary, and on trouble everybody at once.
//! let dependable = ServiceBuilder::new().layer(FailoverLayer::new()).service(fleet.clone());
//! let response = dependable.oneshot(request).await?;
//! println!("{}", response.extensions().get::<Ledger>().unwrap());
//!
//! // While it serves.
//! fleet.insert(Backend::new("spare", spare).priority(-1))?;
//! fleet.drain("openai");
//! for backend in fleet.snapshot() {
//!     println!("{} {} {} {} in flight", backend.name, backend.status, backend.state, backend.in_flight);
//! }
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! # }
//! ```
//!
//! A strategy chooses the backend: see [`pick`]. The [`fleet`] decides which may be chosen. A classifier tells how a call
//! ended: see [`outcome`]. [`body`] sends a request again, `shape` adapts it to one backend, and `config` reads a whole
//! fleet and its door from a file.
//!
//! What a user writes into a struct is short, with circuits or without: `Fleet<Client>`, `Failover<Client>`,
//! `Balance<Client, Weighted>`.
//!
//! # Features
//!
//! `http` (default): statuses, gRPC, `Retry-After`, bodies that are watched, replayed and shaped.
//!
//! `serde` (with `http`): a whole fleet from TOML, JSON or any other format of serde, in `config`.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod attempt;
pub mod balance;
pub mod body;
pub mod breaker;
#[cfg(feature = "serde")]
pub mod config;
pub mod failover;
pub mod fleet;
mod health;
mod name;
pub mod outcome;
pub mod pick;
mod rng;
mod setting;
#[cfg(feature = "http")]
pub mod shape;
mod shard;
mod telemetry;
mod time;
mod wake;

#[cfg(feature = "serde")]
#[doc(inline)]
pub use crate::config::Config;
#[doc(inline)]
pub use crate::{
    attempt::{TimeLimit, TimedOut},
    balance::{Balance, BalanceLayer},
    breaker::{CircuitBreaker, CircuitBreakerLayer},
    failover::{Failover, FailoverLayer},
    fleet::{Backend, Fleet},
    health::{State, Status, Transition},
};

/// The example of the README, which is to run too.
#[cfg(all(doctest, feature = "serde"))]
#[doc = include_str!("../README.md")]
struct Readme;
