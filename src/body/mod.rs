//! Request bodies that several attempts can send.
//!
//! - [`Replay`] makes the request of each attempt out of the caller's request.
//! - [`ReplayBody`] is an HTTP request body that several attempts can read, also at the same time.
//! - [`ReplayMemory`] bounds the memory that all such bodies hold together.
//! - [`ReplayLayer`] makes the bodies of requests replayable, for `tower::retry` or a service of your own.
//! - [`Upload`] tells a door how long an attempt has waited for the caller's body, so that a slow caller is not a
//!   failure of the backend.
//!
//! ```text
//! caller's body ──► reader in front        streams, without a delay
//!                        │
//!                    kept data ──► other readers     from the start, then live
//!                        │
//!                        └────────► unread handle     can be copied; sent by the last attempt
//! ```
//!
//! The reader in front gets the frames of the caller's body. The data that is kept for others is copied into buffers, so
//! that small frames become large ones, and the bounds count what these buffers hold.
//!
//! **When not to use it:** for a request that is `Clone`, such as `Request<Full<Bytes>>`, where [`CloneRequest`] is
//! enough; and for an upload that must not be sent twice ([`Once`]).
//!
//! # Examples
//!
//! By default, up to 1 MiB of a body is kept:
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
//!         let another = request.body().again(); // the body of a second attempt
//!         Ok::<_, std::convert::Infallible>(Response::new(another.is_ok()))
//!     });
//! # fn check(_: impl tower::Service<Request<String>, Response = Response<bool>>) {}
//! # check(service);
//! # }
//! ```
//!
//! In a `tower::retry` policy, `clone_request` returns `ReplayLayer::new().again(request).ok()`, and `retry` returns
//! `Some` only while `request.body().unreplayable()` is `None`.
//!
//! A smaller limit, and memory that only this service uses:
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

mod error;
mod replay;
#[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only bodies of HTTP requests are tracked"))]
mod upload;

#[cfg(feature = "http")]
mod frames;
#[cfg(feature = "http")]
mod layer;
#[cfg(feature = "http")]
mod memory;
#[cfg(feature = "http")]
mod pause;
#[cfg(feature = "http")]
mod put_back;
#[cfg(feature = "http")]
mod reader;
#[cfg(feature = "http")]
mod replay_body;
#[cfg(feature = "http")]
mod service;
#[cfg(feature = "http")]
mod shared;
#[cfg(feature = "http")]
mod trailers;
#[cfg(feature = "http")]
mod uploading;
#[cfg(feature = "http")]
mod wakers;

pub(crate) use self::upload::RunningUpload;
pub use self::{
    error::ReplayError,
    replay::{CloneRequest, Once, Replay, ReplayFn, Unreplayable, replay_fn},
    upload::Upload,
};
#[cfg(feature = "http")]
pub use self::{
    layer::ReplayLayer, memory::ReplayMemory, put_back::PutBack, replay_body::ReplayBody, service::ReplayService,
};

#[cfg(feature = "http")]
pub(crate) use self::{frames::into_bytes, memory::Charge, pause::Pause};

#[cfg(test)]
#[cfg(feature = "http")]
mod tests;
