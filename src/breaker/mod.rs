//! A service that fails is left alone for a while, and probed before it is trusted again.
//!
//! ```text
//!            failures, as the rules say          time is up
//!   Closed ─────────────────────────────► Open ─────────────► HalfOpen
//!     ▲                                     ▲──── a probe failed ──┤
//!     └────────────── enough probes succeeded ─────────────────────┘
//! ```
//!
//! | | `poll_ready` | `call` |
//! |---|---|---|
//! | closed | the service's | goes to the service, and what comes of it counts |
//! | open | at once | [`CircuitOpen`], the service is not called |
//! | half-open | the service's, while a permit is left | a probe; without a permit as if open |
//! | [waiting](CircuitBreakerLayer::waiting) | when the call will be admitted | goes to the service |
//!
//! The default suits an HTTP client:
//!
//! ```
//! # #[cfg(feature = "http")] {
//! # use tower_fleet::CircuitBreakerLayer;
//! # use tower::{ServiceBuilder, service_fn};
//! # let client = service_fn(|_: http::Request<String>| async { Ok::<_, std::io::Error>(http::Response::new(String::new())) });
//! let guarded = ServiceBuilder::new().layer(CircuitBreakerLayer::new()).service(client);
//!
//! let switch = guarded.switch(); // for the operator
//! switch.force_open();
//! # }
//! ```
//!
//! Another service, another rule, and callers that wait:
//!
//! ```
//! # use std::time::Duration;
//! # use tower::{ServiceBuilder, service_fn};
//! # use tower_fleet::{CircuitBreakerLayer, outcome::ErrorsOnly};
//! # let database = service_fn(|_: u32| async { Ok::<_, std::io::Error>(()) });
//! let layer = CircuitBreakerLayer::with_classifier(ErrorsOnly)
//!     .name("orders-db")
//!     .consecutive(3)
//!     .open_for(Duration::from_secs(5))
//!     .growth(2.0)
//!     .waiting()
//!     .checked()?;
//! let guarded = ServiceBuilder::new().layer(layer).service(database);
//! # let _ = guarded;
//! # Ok::<_, tower_fleet::breaker::Misconfigured>(())
//! ```
//!
//! Around each backend of a fleet it is [`FleetBuilder::circuit_breaker`](crate::fleet::FleetBuilder::circuit_breaker):
//! then an open circuit takes its backend out of the view, where a breaker alone would only reject, and look idle.
//! A breaker is no limit: it does not bound how many calls run at a time.

mod error;
mod fleet;
mod future;
mod keyed;
mod layer;
mod service;

pub use self::{
    error::{CircuitOpen, Misconfigured},
    future::ResponseFuture,
    keyed::{KeyedCircuitBreaker, KeyedCircuitBreakerLayer},
    layer::CircuitBreakerLayer,
    service::CircuitBreaker,
};
pub use crate::fleet::{Switch, Transitions};
