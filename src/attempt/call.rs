use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{Timed, TimedOut};
use crate::fleet::{BackendName, Member};

pin_project! {
    /// A request that runs at a backend, which counts it in flight until this is dropped.
    pub(crate) struct Attempt<F, S> {
        #[pin]
        call: Timed<F>,
        member: Arc<Member<S>>,
    }
}

/// Why there is no response.
pub(crate) enum Failed<E> {
    /// The backend's own error.
    Error(BackendName, E),
    /// It took too long.
    Timeout(TimedOut),
}

impl<F, S> Attempt<F, S> {
    #[inline]
    pub(super) fn new(call: F, member: Arc<Member<S>>) -> Self {
        Self { call: Timed::new(call), member }
    }
}

impl<F, S, T, E> Future for Attempt<F, S>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, Failed<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.call.poll(cx, this.member.timeout) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(response))) => Poll::Ready(Ok(response)),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(Failed::Error(this.member.facts.name.clone(), error))),
            Poll::Ready(None) => Poll::Ready(Err(this.member.timed_out())),
        }
    }
}

impl<S> Member<S> {
    #[cold]
    fn timed_out<E>(&self) -> Failed<E> {
        Failed::Timeout(TimedOut::new(self.facts.name.clone(), self.timeout.unwrap_or_default()))
    }
}
