use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::task::AtomicWaker;
use tokio::time::Sleep;
use tower::BoxError;
use tower_service::Service;

use super::{
    CircuitOpen, Misconfigured, ResponseFuture, Switch,
    duty::{Admitted, Duty, Post},
};
use crate::{health::Ticket, outcome::Classify};

/// Calls a service while it is well, and spares it, and its callers, while it is not. See [the module](super).
pub struct CircuitBreaker<S, C> {
    inner: S,
    post: Arc<Post<C>>,
    loan: Loan,
    mode: Mode,
    /// The inner service said that it is ready, and was not called since.
    inner_ready: bool,
    /// The circuit served when that was asked before the call.
    passed: bool,
    /// Admitted already, where that is asked before the call.
    admitted: Option<Duty<C>>,
    waiting: Option<Waiting>,
    // Boxed, since it is nearly never there and goes along with every clone.
    refused: Option<Box<Misconfigured>>,
}

/// What a circuit that admits nobody means to a caller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mode {
    /// Its call is answered with an error.
    Reject,
    /// It waits until it is ready.
    Wait,
    /// It is not ready, and may look elsewhere: what a fleet wants.
    Refuse,
}

/// Whose post it is. An instance that is called a second time is kept, and gets its own; the clones that axum makes for
/// one request each do without.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Loan {
    Own,
    Unused,
    Used,
}

/// Until the circuit's time is up, or something happens to it.
struct Waiting {
    bell: Arc<AtomicWaker>,
    // Boxed, since a service is not pinned, and only callers that have to wait get here.
    time: Option<Pin<Box<Sleep>>>,
}

impl<S, C> CircuitBreaker<S, C> {
    pub(super) fn new(inner: S, post: Arc<Post<C>>, mode: Mode, refused: Option<Box<Misconfigured>>) -> Self {
        Self {
            inner,
            post,
            loan: Loan::Own,
            mode,
            inner_ready: false,
            passed: false,
            admitted: None,
            waiting: None,
            refused,
        }
    }

    /// The handle of this circuit: it outlives clones, boxes and the service itself.
    pub fn switch(&self) -> Switch {
        Switch::new(Arc::clone(&self.post.core))
    }

    /// Is it admitted already? An admission of old is given back.
    #[inline]
    fn is_admitted(&mut self) -> bool {
        if !self.admitted.as_ref().is_some_and(Duty::is_current) {
            self.admitted = None;
        }
        self.admitted.is_some()
    }

    /// Admits the caller before its call, or waits for that.
    #[cold]
    fn poll_admission(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CircuitOpen>> {
        loop {
            if let Some(waiting) = &self.waiting {
                // Its own admission is no news to it.
                waiting.bell.take();
            }
            let open = match self.post.admit() {
                Ok(Admitted { post, ticket, timed }) => {
                    self.admitted = Some(Duty::new(post, ticket, timed));
                    self.waiting = None;
                    return Poll::Ready(Ok(()));
                }
                Err(open) => open,
            };
            if self.mode == Mode::Refuse {
                return Poll::Ready(Err(open));
            }
            let core = &self.post.core;
            let waiting = self.waiting.get_or_insert_with(|| Waiting { bell: core.waiters().join(), time: None });
            waiting.bell.register(cx.waker());
            waiting.time = open.retry_after.map(|wait| Box::pin(tokio::time::sleep(wait)));
            let time_is_up = waiting.time.as_mut().is_some_and(|time| time.as_mut().poll(cx).is_ready());
            // Asked after the bell was set, so that what happens in between is not slept through.
            if !time_is_up && !core.would_admit() {
                return Poll::Pending;
            }
        }
    }
}

impl<S, C: Clone> CircuitBreaker<S, C> {
    /// The post to count references at.
    #[inline]
    fn own_post(&mut self) -> &Arc<Post<C>> {
        match self.loan {
            Loan::Own => {}
            Loan::Unused => self.loan = Loan::Used,
            Loan::Used => self.repay(),
        }
        &self.post
    }

    #[cold]
    fn repay(&mut self) {
        self.post = Arc::new(Post { core: Arc::clone(&self.post.core), classifier: self.post.classifier.clone() });
        self.loan = Loan::Own;
    }
}

impl<S, C, Req> Service<Req> for CircuitBreaker<S, C>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
    C: Classify<Req, S::Response>,
{
    type Response = C::Watched;
    type Error = BoxError;
    type Future = ResponseFuture<S, C, Req>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.mode == Mode::Reject {
            // Whoever will be rejected need not wait for a service that is not called.
            if !self.post.core.would_admit() {
                return Poll::Ready(Ok(()));
            }
        } else {
            // While it serves there is nothing to hold.
            self.passed = self.post.core.circuit().serves();
            if !self.passed && !self.is_admitted() {
                ready!(self.poll_admission(cx))?;
            }
        }
        self.inner_ready = false;
        let ready = ready!(self.inner.poll_ready(cx)).map_err(Into::into);
        self.inner_ready = ready.is_ok();
        if ready.is_err()
            && let Some(duty) = self.admitted.take()
        {
            duty.refused();
        }
        Poll::Ready(ready)
    }

    #[inline]
    fn call(&mut self, request: Req) -> ResponseFuture<S, C, Req> {
        if self.inner_ready
            && self.admitted.is_none()
            && self.refused.is_none()
            && let Some(ticket) = self.post.core.circuit().pass()
        {
            self.inner_ready = false;
            let post = Arc::clone(self.own_post());
            return ResponseFuture::begin(&mut self.inner, request, Admitted { post, ticket, timed: false });
        }
        // The future is put together here in any case: it is not passed through a place in memory that others write to.
        match self.admit_with_care() {
            Ok(admitted) => ResponseFuture::begin(&mut self.inner, request, admitted),
            Err(error) => ResponseFuture::rejected(error),
        }
    }
}

impl<S, C> CircuitBreaker<S, C> {
    /// The way of all calls but those that a closed circuit simply serves.
    #[cold]
    fn admit_with_care(&mut self) -> Result<Admitted<C>, Box<BoxError>> {
        if let Some(refused) = &self.refused {
            return Err(Box::new(Misconfigured::clone(refused).into()));
        }
        if !self.inner_ready {
            return Err(Box::new(self.post.core.closed_to_calls().into()));
        }
        let admitted = match self.admitted.take() {
            Some(duty) if duty.is_current() => Ok(duty.redeem()),
            // An instance may have been left alone for long since it was ready.
            stale => {
                drop(stale);
                self.post.admit()
            }
        };
        let admitted = match admitted {
            Ok(admitted) => admitted.begun(),
            // Its door made sure a moment ago: it was on its way already when the circuit opened.
            Err(_) if self.mode == Mode::Refuse && self.passed => {
                Admitted { post: Arc::clone(&self.post), ticket: Ticket::VOID, timed: false }
            }
            // The service stays ready for the call that is admitted.
            Err(open) => return Err(Box::new(open.into())),
        };
        self.inner_ready = false;
        Ok(admitted)
    }
}

/// A clone shares the circuit, and starts unready.
impl<S: Clone, C> Clone for CircuitBreaker<S, C> {
    fn clone(&self) -> Self {
        let (inner, post, refused) = (self.inner.clone(), Arc::clone(&self.post), self.refused.clone());
        Self { loan: Loan::Unused, ..Self::new(inner, post, self.mode, refused) }
    }
}

impl<S, C> fmt::Debug for CircuitBreaker<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker").field("name", self.post.core.name()).finish_non_exhaustive()
    }
}
