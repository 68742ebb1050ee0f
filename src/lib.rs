//! Many backends, one dependable [`tower::Service`].
//!
//! ```text
//!              Fleet                who is there; every change publishes one immutable view
//!    near ─┐     │
//!     far ─┤   view ──► Pick        who is next: one index, no lock, no allocation
//!   spare ─┘     │        │
//!                ▼        ▼
//!   request ──► door ──► ready? ──► call ──► response, or an error that names the backend
//!                │         │
//!                │         └ no: the others of the tier, the first that is ready
//!                └ Balance: one backend per request
//! ```
//!
//! A [`Fleet`] is a handle on a set of [`Backend`]s, which may change while it serves. A door is a
//! [`Service`](tower::Service) over a fleet: `Clone`, without a worker, a channel or a lock, so that axum, hyper and
//! tonic take it as it is, and no `Buffer` is needed.
//!
//! ```
//! # use tower_fleet::{Backend, BalanceLayer, Fleet};
//! # use tower::{ServiceBuilder, ServiceExt, service_fn};
//! # use std::time::Duration;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = |name| service_fn(move |_: ()| async move { Ok::<_, std::convert::Infallible>(name) });
//! # let (openai, azure, spare) = (client("openai"), client("azure"), client("spare"));
//! let fleet = Fleet::builder()
//!     .backend(Backend::new("openai", openai).weight(7))
//!     .backend(Backend::new("azure", azure).weight(3).timeout(Duration::from_secs(30)))
//!     .backend(Backend::new("spare", spare).priority(-1))
//!     .build()?;
//!
//! let balanced = ServiceBuilder::new().layer(BalanceLayer::weighted()).service(fleet.clone());
//! let response = balanced.clone().oneshot(()).await?;
//! # assert_eq!(response, "openai");
//!
//! fleet.drain("openai");
//! fleet.reweight("azure", 5)?;
//! for backend in fleet.snapshot() {
//!     println!("{} {} {} in flight", backend.name, backend.status, backend.in_flight);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | door | a request goes to | module |
//! |---|---|---|
//! | [`Balance`] | one eligible backend that is ready | [`balance`] |
//!
//! Who is chosen is said by a strategy: see [`pick`]. Who may be chosen is said by the [`fleet`].
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod attempt;
pub mod balance;
pub mod body;
pub mod breaker;
mod clock;
pub mod failover;
pub mod fleet;
mod health;
pub mod outcome;
pub mod pick;
mod telemetry;

#[doc(inline)]
pub use crate::{
    attempt::{Limited, TimedOut},
    balance::{Balance, BalanceLayer},
    breaker::{CircuitBreaker, CircuitBreakerLayer},
    failover::{Failover, FailoverLayer},
    fleet::{Backend, Fleet},
    health::{State, Status, Transition},
};
