//! REPLAY: one request, several attempts.
//!
//! - [`Replay`] says how an attempt is made out of the caller's request, or that there can be none.
//! - [`ReplayBody`] is an HTTP request body that several attempts read, also at the same time.
//! - [`ReplayMemory`] bounds what all such bodies hold together.
//! - [`ReplayLayer`] puts them around requests, for `tower::retry` or a service of your own.
//!
//! ```text
//! caller's body ── source ──► leading reader          streams, nothing held back
//!                     │
//!                kept frames ─► other readers         from the start, then live
//!                     │
//!                     └───────► a handle not begun    may be copied; the last attempt
//! ```
//!
//! **When not to use it:** when the client around it already keeps the body whole
//! (`Request<Full<Bytes>>` is `Clone`: [`CloneRequest`] does), and for uploads that must not be
//! sent twice ([`Once`]).
//!
//! By default 1 MiB of a body is kept:
//!
//! ```
//! # #[cfg(feature = "http")] {
//! use http::{Request, Response};
//! use tower::ServiceBuilder;
//! use tower_fleet::body::{ReplayBody, ReplayLayer};
//!
//! let service = ServiceBuilder::new()
//!     .layer(ReplayLayer::new())
//!     .service_fn(async |request: Request<ReplayBody<String>>| {
//!         let another = request.body().again(); // what a second attempt would send
//!         Ok::<_, std::convert::Infallible>(Response::new(another.is_ok()))
//!     });
//! # fn check(_: impl tower::Service<Request<String>, Response = Response<bool>>) {}
//! # check(service);
//! # }
//! ```
//!
//! Under `tower::retry`, a policy answers `clone_request` with `ReplayLayer::new().again(request).ok()`,
//! and tries again only while `request.body().unreplayable()` is `None`.
//!
//! Less of it, and out of a memory that only this service uses:
//!
//! ```
//! # #[cfg(feature = "http")] {
//! use tower_fleet::body::{ReplayLayer, ReplayMemory};
//!
//! let memory = ReplayMemory::new(8 * 1024 * 1024);
//! let layer = ReplayLayer::new().limit(64 * 1024).memory(memory.clone());
//! println!("{} bytes are held for replay", memory.used());
//! # }
//! ```

mod replay;

#[cfg(feature = "http")]
mod error;
#[cfg(feature = "http")]
mod frames;
#[cfg(feature = "http")]
mod layer;
#[cfg(feature = "http")]
mod memory;
#[cfg(feature = "http")]
mod reader;
#[cfg(feature = "http")]
mod replay_body;
#[cfg(feature = "http")]
mod service;
#[cfg(feature = "http")]
mod shared;
#[cfg(feature = "http")]
mod waiters;

pub use self::replay::{CloneRequest, Once, Replay, ReplayFn, Unreplayable, replay_fn};
#[cfg(feature = "http")]
pub use self::{
    error::ReplayError, layer::ReplayLayer, memory::ReplayMemory, replay_body::ReplayBody, service::ReplayService,
};

#[cfg(test)]
#[cfg(feature = "http")]
mod tests;
