//! A load balancer: sends each request to one backend of a fleet.
//!
//! ```text
//! poll_ready   select a backend ─► is it ready? ── yes ──► hold it for the next call
//!                    ▲                    │ no
//!                    └─ next of its tier ─┘
//! call         call the held instance ─► response, or an error that names the backend
//! ```
//!
//! Unlike `tower::balance`, a [`Balance`] is `Clone` without a `Buffer`: each clone finds a ready backend of its own.
//!
//! With the default strategy, round robin:
//!
//! ```
//! # use tower_fleet::{Backend, BalanceLayer, Fleet};
//! # use tower::{ServiceBuilder, service_fn};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = |name| service_fn(move |_: ()| async move { Ok::<_, std::convert::Infallible>(name) });
//! let fleet = Fleet::plain()
//!     .backend(Backend::new("a", client("a")))
//!     .backend(Backend::new("b", client("b")))
//!     .build()?;
//! let balanced = ServiceBuilder::new().layer(BalanceLayer::round_robin()).service(fleet.clone());
//!
//! assert_eq!(balanced.clone().oneshot(()).await?, "a");
//! assert_eq!(balanced.clone().oneshot(()).await?, "b");
//! # Ok(())
//! # }
//! ```
//!
//! With a strategy that is selected by name, as from a configuration file:
//!
//! ```
//! # use tower_fleet::BalanceLayer;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let layer = BalanceLayer::named("weighted_round_robin".parse()?)?;
//! # let _: BalanceLayer<tower_fleet::pick::AnyStrategy> = layer;
//! # Ok(())
//! # }
//! ```
//!
//! A `Balance` does not retry: when the backend fails, so does the request. For that, use a
//! [`Failover`](crate::Failover).

mod error;
mod future;
mod layer;
mod service;

pub use self::{
    error::{Error, ErrorKind},
    future::ResponseFuture,
    layer::BalanceLayer,
    service::Balance,
};
