//! What came of a call over HTTP: status, gRPC status, the end of the body, `Retry-After`, the
//! errors of the wire.

//!
//! The classifier's type and its settings are there without the feature `http` too, since it is the default of every
//! fleet; what it does with a response needs the feature.

#[cfg(feature = "http")]
mod body;
mod classifier;
#[cfg(feature = "http")]
mod classify;
mod codes;
#[cfg(feature = "http")]
mod grpc;
#[cfg(feature = "http")]
mod retry_after;
mod status;
#[cfg(feature = "http")]
mod tower_http;
#[cfg(feature = "http")]
pub(super) mod wire;

#[cfg(feature = "http")]
pub(crate) use self::classify::gateway_status;
#[cfg(feature = "http")]
pub use self::{
    body::{ClassifyEnd, WatchedBody},
    classify::HttpEnd,
    retry_after::retry_after,
    tower_http::{TowerHttp, TowerHttpCall},
};
pub use self::{
    classifier::HttpClassifier,
    status::{InvalidStatus, StatusRange, Statuses},
};
