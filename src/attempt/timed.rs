use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Sleep;

use crate::{
    fleet::BackendName,
    outcome::{Failure, FailureKind},
};

pin_project! {
    /// A call that may take only so long.
    pub(crate) struct Timed<F> {
        #[pin]
        call: F,
        // Set only once the call was pending: a call that is done at once costs no timer.
        #[pin]
        timer: Option<Sleep>,
    }
}

impl<F> Timed<F> {
    #[inline]
    pub(crate) fn new(call: F) -> Self {
        Self { call, timer: None }
    }
}

impl<F: Future> Timed<F> {
    /// What the call came to; none when it took longer than the limit.
    #[inline]
    pub(crate) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, limit: Option<Duration>) -> Poll<Option<F::Output>> {
        let mut this = self.project();
        match this.call.poll(cx) {
            Poll::Ready(output) => return Poll::Ready(Some(output)),
            Poll::Pending => {}
        }
        let Some(limit) = limit else { return Poll::Pending };
        if this.timer.is_none() {
            this.timer.set(Some(tokio::time::sleep(limit)));
        }
        if let Some(timer) = this.timer.as_mut().as_pin_mut() {
            ready!(timer.poll(cx));
        }
        Poll::Ready(None)
    }
}

/// A backend did not answer in time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimedOut {
    /// Who.
    pub backend: BackendName,
    /// How long it had.
    pub timeout: Duration,
}

impl TimedOut {
    pub(crate) fn new(backend: BackendName, timeout: Duration) -> Self {
        Self { backend, timeout }
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backend `{}` did not answer within {:?}", self.backend, self.timeout)
    }
}

impl Error for TimedOut {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        const FAILURE: &Failure = &Failure::new(FailureKind::Timeout);
        Some(FAILURE)
    }
}
