//! One probe that runs: within its time, and without its panics.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::time::timeout;

use super::{error::ProbeError, gate::AnyGate};
use crate::{
    foreign::Guarded,
    name::{BackendId, BackendName},
};

/// How a probe ended.
pub(super) enum End {
    Done(Result<(), ProbeError>),
    /// Another replica probes the backend.
    Refused,
    /// The backend was removed before the probe was sent.
    Gone,
}

/// Probes a backend. `None` if it was removed before.
pub(super) type Send = Arc<dyn Fn(BackendId, BackendName) -> Sent + std::marker::Send + Sync>;

pub(super) type Sent = BoxFuture<'static, Option<Result<(), ProbeError>>>;

/// Asks the gate, and sends one probe. Each may take `limit`.
pub(super) async fn run(
    id: BackendId,
    name: BackendName,
    gate: Option<Arc<dyn AnyGate>>,
    send: Send,
    limit: Duration,
) -> End {
    if let Some(gate) = gate {
        let name = name.clone();
        let answer = timeout(limit, Guarded::new(async move { gate.ask(&name).await })).await;
        if let Ok(Some(false)) = answer {
            return End::Refused;
        }
    }
    // The call of the user's probe can panic too, hence within the future.
    match timeout(limit, Guarded::new(async move { send(id, name).await })).await {
        Ok(Some(Some(result))) => End::Done(result),
        Ok(Some(None)) => End::Gone,
        Ok(None) => End::Done(Err(ProbeError::panicked())),
        Err(_) => End::Done(Err(ProbeError::timed_out(limit))),
    }
}
