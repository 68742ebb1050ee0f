//! A middleware that stops calling a service that fails, and probes it before it is trusted again.
//!
//! ```text
//!            a rule is met                        open time over
//!   Closed ─────────────────────────────► Open ───────────────► HalfOpen
//!     ▲                                     ▲──── a probe failed ────┤
//!     └────────────── enough probes succeeded ───────────────────────┘
//! ```
//!
//! | circuit | `poll_ready` | `call` |
//! |---|---|---|
//! | closed | that of the service | calls the service and counts the outcome |
//! | open | is ready | fails with [`CircuitOpen`]; the service is not called |
//! | half-open, a permit is free | that of the service | probes the service |
//! | half-open, no permit is free | is ready | fails with [`CircuitOpen`] |
//!
//! With [`waiting`](CircuitBreakerLayer::waiting), `poll_ready` is pending until the circuit admits a call, and `call`
//! then calls the service.
//!
//! A breaker around a single service, such as an HTTP client:
//!
//! ```
//! # #[cfg(feature = "http")] {
//! # use tower_fleet::CircuitBreakerLayer;
//! # use tower::{ServiceBuilder, service_fn};
//! # let client = service_fn(|_: http::Request<String>| async { Ok::<_, std::io::Error>(http::Response::new(String::new())) });
//! let guarded = ServiceBuilder::new().layer(CircuitBreakerLayer::new()).service(client);
//!
//! let switch = guarded.switch(); // a handle for the operator
//! switch.force_open();
//! # }
//! ```
//!
//! A service that is not HTTP, with another rule, and requests that wait for the circuit:
//!
//! ```
//! # use std::time::Duration;
//! # use tower::{ServiceBuilder, service_fn};
//! # use tower_fleet::{CircuitBreakerLayer, CircuitPolicy};
//! # let database = service_fn(|_: u32| async { Ok::<_, std::io::Error>(()) });
//! let policy = CircuitPolicy::new().consecutive(3).open_for(Duration::from_secs(5)).growth(2.0);
//! let layer = CircuitBreakerLayer::plain(policy)?.name("orders-db")?.waiting();
//! let guarded = ServiceBuilder::new().layer(layer).service(database);
//! # let _ = guarded;
//! # Ok::<_, tower_fleet::InvalidSetting>(())
//! ```
//!
//! In a fleet, use [`FleetBuilder::circuit_breaker`](crate::fleet::FleetBuilder::circuit_breaker) instead of a breaker
//! around each service. There an open circuit takes its backend out of rotation; a breaker inside the fleet would
//! reject its calls, and so look like a fast and idle backend.
//!
//! A breaker is not a limit: it does not bound how many calls run at a time.

mod error;
mod future;
mod keyed;
mod layer;
mod service;

pub use self::{
    error::CircuitOpen,
    future::ResponseFuture,
    keyed::{KeyedCircuitBreaker, KeyedCircuitBreakerLayer},
    layer::CircuitBreakerLayer,
    service::CircuitBreaker,
};
pub use crate::{
    fleet::{Switch, Transitions},
    health::{CircuitPolicy, Rate},
};
