//! The handle by which a prober asks whether it may probe.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{name::BackendName, probe::Gate};

/// A handle that asks for the permit to probe a backend, of which there is one for all replicas. Cheap to clone.
///
/// From [`Sharing::permits`](super::Sharing::permits). A permit ends when the circuit of the backend opens or closes again
/// here, and otherwise with its [lease](super::Share::lease): so does that of a failed probe.
#[derive(Clone, Debug)]
pub struct Permits(mpsc::Sender<Ask>);

/// A question, and where its answer is sent.
pub(super) struct Ask {
    pub(super) backend: BackendName,
    answer: oneshot::Sender<bool>,
}

/// How many questions wait for the exchange: several times the probes that a prober sends at the same time by default.
const BACKLOG: usize = 1024;

/// How long a prober waits for the answer.
const PATIENCE: Duration = Duration::from_millis(100);

impl Permits {
    pub(super) fn channel() -> (Self, mpsc::Receiver<Ask>) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        (Self(sender), receiver)
    }

    /// Returns whether this replica may probe a backend now: no other replica does.
    ///
    /// Waits for 100 ms at most, and is true if the exchange does not answer by then, or the sharing has ended: without it,
    /// each replica decides alone.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, this replica may hold the permit until its lease is over.
    pub async fn may_probe(&self, backend: &BackendName) -> bool {
        let (answer, answered) = oneshot::channel();
        if self.0.try_send(Ask { backend: backend.clone(), answer }).is_err() {
            return true;
        }
        timeout(PATIENCE, answered).await.ok().and_then(Result::ok).unwrap_or(true)
    }
}

/// For [`Probes::gate`](crate::probe::Probes::gate). One replica probes a backend, and the others learn of its recovery.
impl Gate for Permits {
    fn may_probe(&self, backend: &BackendName) -> impl Future<Output = bool> + Send {
        // The method of the handle itself.
        Permits::may_probe(self, backend)
    }
}

impl Ask {
    /// Returns whether the prober still waits.
    pub(super) fn is_waiting(&self) -> bool {
        !self.answer.is_closed()
    }

    pub(super) fn answer(self, may_probe: bool) {
        // The prober may wait no longer.
        let _ = self.answer.send(may_probe);
    }
}
