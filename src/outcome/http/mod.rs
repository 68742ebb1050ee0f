//! Outcomes of calls over HTTP and gRPC: statuses, the ends of bodies, `Retry-After`, errors of hyper and h2.
//!
//! [`HttpClassifier`] and its settings exist without the feature `http`, since it is the default type parameter of
//! every fleet. Its implementation of [`Classify`](super::Classify) needs the feature.

#[cfg(feature = "http")]
mod body;
mod classifier;
#[cfg(feature = "http")]
mod classify;
mod codes;
#[cfg(feature = "http")]
mod end;
#[cfg(feature = "http")]
mod events;
#[cfg(feature = "http")]
mod grpc;
#[cfg(feature = "http")]
mod rate_limits;
#[cfg(feature = "http")]
mod retry_after;
mod status;
#[cfg(feature = "http")]
mod times;
#[cfg(feature = "http")]
mod tower_http;
#[cfg(feature = "http")]
pub(super) mod wire;

#[cfg(feature = "http")]
pub use self::{
    body::{BrokenStream, Interrupted, WatchedBody},
    classify::PlainErrors,
    end::{ClassifyEnd, HttpEnd},
    events::EventWatch,
    retry_after::retry_after,
    tower_http::{TowerHttp, TowerHttpCall},
};
pub use self::{classifier::HttpClassifier, status::Statuses};
#[cfg(feature = "http")]
pub(crate) use self::{
    classify::{gateway_status, grpc_code},
    events::{has_events, is_encoded},
};
