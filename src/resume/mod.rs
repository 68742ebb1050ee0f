//! Response bodies that go on at another backend when they break off.
//!
//! A [`Failover`](crate::Failover) can send a request to another backend until the response is final. A
//! [`ResumeLayer`] around it does so after that: when the body of a response fails, it sends a request that goes on from
//! there, and joins the two bodies.
//!
//! ```text
//! caller ◄── bytes 0–5 MB ──── backend a      the body breaks off
//!        ◄── bytes 5–9 MB ──── backend b      Range: bytes=5242880-, If-Range: "v1"; breaks off too
//!        ◄── bytes 9–20 MB ─── backend c      the end
//! ```
//!
//! | [`Resume`] | resumes | how |
//! |---|---|---|
//! | [`ByteRanges`] | downloads | a byte range, if the representation is still the same |
//! | `ChatContinuation` (`json`) | streams of chat completions | a request that has the text so far |
//! | a pair | what either of them resumes | |
//!
//! No byte is passed on twice, and none is missing: if there is a doubt that the rest goes on exactly where the body
//! broke off, or if no backend can send the rest, the caller gets the error with which the body broke off, as without the
//! layer.
//!
//! A request that goes on belongs to the request of the caller:
//!
//! - It starts within the [deadline](crate::failover::FailoverBuilder::deadline) of the first request.
//! - It is an extra attempt to the [budget](crate::failover::FailoverBuilder::budget).
//! - It is sent to a backend whose body broke off only if no other one is ready.
//! - Its attempts follow those of the first request in the [ledger](ResponseBody::ledger).
//!
//! A body that is resumed keeps the head of its first response, and has the trailers of its last one. Each resumption
//! emits the [event](crate#events) `body resumed` or `body not resumed`.
//!
//! **When not to use it:** for responses that are small, where a [commit point](crate::failover::CommitPoint) that waits
//! for the whole response costs less; and for requests with an effect, unless the API has a way to go on.
//!
//! # Cost
//!
//! A request whose response may be resumed costs a copy of its head, and its response body one allocation. What else the
//! layer needs is allocated when a body breaks off. Other requests and responses cost nothing.
//!
//! # Examples
//!
//! Downloads from replicas of one store:
//!
//! ```
//! # use http::{Request, Response};
//! # use http_body_util::Full;
//! # use bytes::Bytes;
//! # use tower::{BoxError, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
//! # use tower_fleet::{Backend, FailoverLayer, Fleet, ReplayBody, resume};
//! # type Client = BoxCloneSyncService<Request<ReplayBody<resume::RequestBody<Full<Bytes>>>>, Response<Full<Bytes>>, BoxError>;
//! # fn client() -> Client {
//! #     BoxCloneSyncService::new(tower::service_fn(|_| async { Ok(Response::new(Full::default())) }))
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use tower_fleet::resume::{ByteRanges, ResumeLayer};
//!
//! let fleet = Fleet::builder()
//!     .backend(Backend::new("north", client()))
//!     .backend(Backend::new("south", client()))
//!     .build()?;
//! let downloads = ServiceBuilder::new()
//!     .layer(ResumeLayer::new(ByteRanges::new()))
//!     .layer(FailoverLayer::new())
//!     .service(fleet);
//! let response = downloads.oneshot(Request::new(Full::<Bytes>::default())).await?;
//! # let _ = response;
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! With other bounds:
//!
//! ```
//! use tower_fleet::{body::ReplayMemory, resume::{ByteRanges, ResumeLayer}};
//!
//! let layer = ResumeLayer::new(ByteRanges::new()).most(32).replay(256 * 1024, ReplayMemory::new(16 * 1024 * 1024));
//! # let _ = layer;
//! ```

mod body;
#[cfg(feature = "json")]
mod chat;
#[cfg(feature = "json")]
mod chat_chunk;
#[cfg(feature = "json")]
mod chat_request;
#[cfg(feature = "json")]
mod chat_stream;
mod content_range;
mod future;
mod kept;
mod layer;
mod ranges;
mod resumption;
mod service;
mod settings;
mod traits;

use crate::body::ReplayBody;

pub use self::{
    body::ResponseBody,
    future::ResponseFuture,
    layer::ResumeLayer,
    ranges::{ByteRanges, Download},
    service::Resuming,
    traits::{Either, Follow, Keep, NotResumed, Resume},
};
#[cfg(feature = "json")]
pub use self::{chat::ChatContinuation, chat_stream::ChatStream};

/// The request body that a [`Resuming`] sends to its inner service: the caller's, or that of a request that goes on.
pub type RequestBody<B> = ReplayBody<B>;
