use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Sleep;

use crate::fleet::{Member, Name};

pin_project! {
    /// A request that runs at a backend, which counts it in flight until this is dropped.
    pub(crate) struct Attempt<F, S> {
        #[pin]
        call: F,
        // Set only once the call was pending: a call that is done at once costs no timer.
        #[pin]
        timer: Option<Sleep>,
        member: Arc<Member<S>>,
    }
}

/// Why there is no response.
pub(crate) enum Failed<E> {
    /// The backend's own error.
    Error(Name, E),
    /// It took longer than this.
    Timeout(Name, Duration),
}

impl<F, S> Attempt<F, S> {
    pub(super) fn new(call: F, member: Arc<Member<S>>) -> Self {
        Self { call, timer: None, member }
    }
}

impl<F, S, T, E> Future for Attempt<F, S>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, Failed<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        match this.call.poll(cx) {
            Poll::Ready(Ok(response)) => return Poll::Ready(Ok(response)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(Failed::Error(this.member.facts.name.clone(), error))),
            Poll::Pending => {}
        }
        let Some(timeout) = this.member.timeout else { return Poll::Pending };
        if this.timer.is_none() {
            this.timer.set(Some(tokio::time::sleep(timeout)));
        }
        if let Some(timer) = this.timer.as_mut().as_pin_mut() {
            ready!(timer.poll(cx));
        }
        Poll::Ready(Err(Failed::Timeout(this.member.facts.name.clone(), timeout)))
    }
}
