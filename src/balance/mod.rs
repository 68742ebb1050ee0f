//! One of many backends per request.
//!
//! ```text
//! poll_ready   the view → the strategy's choice → ready? ─ yes → held for the next call
//!                                                  └ no → the others of its tier
//! call         the held instance → in flight → response, or an error that names the backend
//! ```
//!
//! The default is one after the other:
//!
//! ```
//! # use tower_fleet::{Backend, BalanceLayer, Fleet};
//! # use tower::{ServiceBuilder, ServiceExt, service_fn};
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
//! A strategy that is named in a configuration file:
//!
//! ```
//! # use tower_fleet::BalanceLayer;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let layer = BalanceLayer::named("weighted_round_robin".parse()?);
//! # let _: BalanceLayer<tower_fleet::pick::AnyStrategy> = layer;
//! # Ok(())
//! # }
//! ```
//!
//! A request that must survive the failure of its backend wants a failover, not a balance.

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
