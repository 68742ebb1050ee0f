//! The timer of an attempt.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use crate::body::Upload;

pin_project! {
    /// Ends an attempt after a limit. It stands still while the attempt waits for the caller's request body.
    pub(crate) struct AttemptTimer {
        #[pin]
        sleep: Sleep,
        // When the time is up if the attempt waits no more for the caller than it had when the timer was started.
        ends: Instant,
        waited: Duration,
    }
}

impl AttemptTimer {
    pub(crate) fn start(limit: Duration, upload: Option<&Upload>) -> Self {
        let sleep = sleep(limit);
        Self { ends: sleep.deadline(), sleep, waited: upload.map_or(Duration::ZERO, Upload::waited) }
    }

    /// Ready when the time is up. While the attempt waits for the caller, no timer runs: the end of the wait wakes the
    /// task.
    pub(crate) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, upload: Option<&Upload>) -> Poll<()> {
        let mut this = self.project();
        if let Some(upload) = upload {
            let Some(waited) = upload.poll_waited(cx) else { return Poll::Pending };
            let ends = this.ends.checked_add(waited.saturating_sub(*this.waited)).unwrap_or(*this.ends);
            if this.sleep.deadline() != ends {
                this.sleep.as_mut().reset(ends);
            }
        }
        this.sleep.poll(cx)
    }
}
