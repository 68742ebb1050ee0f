//! What came of a call over HTTP: status, gRPC status, the end of the body, `Retry-After`, the
//! errors of the wire.

mod body;
mod classifier;
mod grpc;
mod retry_after;
mod status;
mod tower_http;
pub(super) mod wire;

pub use self::body::{ClassifyEnd, WatchedBody};
pub use self::classifier::{HttpClassifier, HttpEnd};
pub use self::retry_after::retry_after;
pub(crate) use self::status::gateway_status;
pub use self::status::{InvalidStatus, StatusRange, Statuses};
pub use self::tower_http::{TowerHttp, TowerHttpCall};
