use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{Timed, TimedOut};
use crate::fleet::{Member, Name};

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
    Error(Name, E),
    /// It took too long.
    Timeout(TimedOut),
}

impl<F, S> Attempt<F, S> {
    #[inline]
    pub(super) fn new(call: F, member: Arc<Member<S>>) -> Self {
        Self { call: Timed::new(call, member.timeout), member }
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
        let name = || this.member.facts.name.clone();
        Poll::Ready(match std::task::ready!(this.call.poll(cx)) {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Failed::Error(name(), error)),
            Err(limit) => Err(Failed::Timeout(TimedOut::new(name(), limit))),
        })
    }
}
