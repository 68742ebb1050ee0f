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

use super::{CircuitOpen, Misconfigured, ResponseFuture};
use crate::{
    attempt::Attempt,
    fleet::{MemberInfo, Shard, Switch},
    health::{Circuit, Ticket},
    outcome::{Classify, Event, FailureKind, Guard, HttpClassifier, Outcome, Record},
    shard::Spread,
    time::Moment,
};

/// Calls a service while it is well, and spares it, and its callers, while it is not. See [the module](super).
pub struct CircuitBreaker<S, C: Send + Sync = HttpClassifier> {
    inner: S,
    /// A member without a fleet: the services of a layer, their clones and their handles share it.
    member: Spread<Shard<(), C>>,
    mode: Mode,
    /// The inner service is ready, and was not called since.
    is_ready: bool,
    /// Admitted already, where callers wait.
    admitted: Option<Admitted<C>>,
    waiting: Option<Waiting>,
    // Boxed, since it is nearly never there and goes along with every clone.
    refused: Option<Box<Misconfigured>>,
}

/// What a circuit that admits no call means to a caller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mode {
    /// Its call is answered with an error.
    Reject,
    /// It waits until it is ready.
    Wait,
}

/// Leave to make one call. Dropped unused, it gives its permit back.
struct Admitted<C: Send + Sync> {
    member: Arc<Shard<(), C>>,
    ticket: Ticket,
}

impl<C: Send + Sync> Admitted<C> {
    /// May a call that begins now still be made? Not when the circuit moved on while it waited.
    fn is_current(&self) -> bool {
        let info = self.member.info();
        info.circuit().is_some_and(|circuit| circuit.honours(self.ticket, || info.clock.now()))
    }

    /// The ticket, for a call that begins now, however long it waited since it was admitted.
    fn redeem(mut self) -> Ticket {
        let info = self.member.info();
        let is_timed = info.circuit().is_some_and(Circuit::needs_clock);
        let ticket = if is_timed { self.ticket.started_at(info.clock.now()) } else { self.ticket };
        self.ticket = Ticket::VOID;
        ticket
    }

    /// The service will never be ready. Counts as a failed probe: otherwise the permit would be handed from waiter to
    /// waiter forever.
    fn refuse(mut self) {
        if self.ticket.is_probe() {
            let failure = FailureKind::Other.into();
            self.member.record(&self.ticket, Event::Outcome(&failure));
            self.ticket = Ticket::VOID;
        }
    }
}

impl<C: Send + Sync> Drop for Admitted<C> {
    fn drop(&mut self) {
        if self.ticket.is_probe() {
            self.member.record(&self.ticket, Event::Outcome(&Outcome::Neutral));
        }
    }
}

/// Until the circuit's time is up, or something happens to it.
struct Waiting {
    waker: Arc<AtomicWaker>,
    // Boxed, since a service is not pinned, and only callers that have to wait get here.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S, C> CircuitBreaker<S, C>
where
    C: Send + Sync + 'static,
{
    pub(super) fn new(inner: S, member: Spread<Shard<(), C>>, mode: Mode, refused: Option<Box<Misconfigured>>) -> Self {
        Self { inner, member, mode, is_ready: false, admitted: None, waiting: None, refused }
    }

    /// The handle of this circuit: it outlives clones, boxes and the service itself.
    pub fn switch(&self) -> Switch {
        Switch::new(Arc::clone(self.info())).expect("a breaker has a circuit")
    }

    #[inline(always)]
    fn info(&self) -> &Arc<MemberInfo> {
        self.member.here().info()
    }

    /// May a call be admitted now? Takes no permit.
    #[inline(always)]
    fn would_admit(&self) -> bool {
        let info = self.info();
        info.circuit().is_some_and(|circuit| circuit.serves() || circuit.would_admit(|| info.clock.now()))
    }

    /// Admits the caller before its call, or waits for that.
    #[cold]
    fn poll_admission(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(waiting) = &self.waiting {
                // Its own admission is no news to it.
                waiting.waker.take();
            }
            let member = Arc::clone(self.member.here());
            let info = Arc::clone(member.info());
            let retry_after = match info.admit(|| info.clock.now()) {
                Ok(ticket) => {
                    self.admitted = Some(Admitted { member, ticket });
                    self.waiting = None;
                    return Poll::Ready(());
                }
                Err(retry_after) => retry_after,
            };
            let waiting = self.waiting.get_or_insert_with(|| Waiting { waker: info.waiters().join(), timer: None });
            waiting.waker.register(cx.waker());
            waiting.timer = retry_after.map(|wait| Box::pin(tokio::time::sleep(wait)));
            let is_due = waiting.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
            // Asked after the waker was set, so that what happens in between is not missed.
            if !is_due && !self.would_admit() {
                return Poll::Pending;
            }
        }
    }

    /// Admits a call, in every case but that of a closed circuit.
    #[cold]
    fn admit(&mut self) -> Result<Ticket, BoxError> {
        if let Some(refused) = &self.refused {
            return Err(Misconfigured::clone(refused).into());
        }
        if !self.is_ready {
            let info = self.info();
            let at = info.circuit().map_or(Moment::NEVER, Circuit::eligible_at);
            let retry_after = (at != Moment::NEVER).then(|| at.since(info.clock.now()));
            return Err(CircuitOpen::new(info.name.clone(), retry_after).into());
        }
        match self.admitted.take() {
            Some(admitted) if admitted.is_current() => Ok(admitted.redeem()),
            // An instance may have been left alone for long since it was ready.
            stale => {
                drop(stale);
                let info = self.info();
                // The service stays ready for the call that is admitted.
                let open = |retry_after| CircuitOpen::new(info.name.clone(), retry_after).into();
                info.admit(|| info.clock.now()).map_err(open)
            }
        }
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

    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.mode == Mode::Reject {
            // A call that will be rejected need not wait for a service that is not called.
            if !self.would_admit() {
                return Poll::Ready(Ok(()));
            }
        } else if !self.info().circuit().is_some_and(Circuit::serves)
            && !self.admitted.as_ref().is_some_and(Admitted::is_current)
        {
            // An admission of old is given back first.
            self.admitted = None;
            ready!(self.poll_admission(cx));
        }
        self.is_ready = false;
        let ready = ready!(self.inner.poll_ready(cx)).map_err(Into::into);
        self.is_ready = ready.is_ok();
        if ready.is_err()
            && let Some(admitted) = self.admitted.take()
        {
            admitted.refuse();
        }
        Poll::Ready(ready)
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> ResponseFuture<S, C, Req> {
        if self.is_ready
            && self.admitted.is_none()
            && self.refused.is_none()
            && let Some(ticket) = self.info().circuit().and_then(Circuit::pass)
        {
            return self.begin(ticket, request);
        }
        match self.admit() {
            Ok(ticket) => self.begin(ticket, request),
            Err(error) => ResponseFuture::rejected(error),
        }
    }
}

impl<S, C: Send + Sync + 'static> CircuitBreaker<S, C> {
    #[inline(always)]
    fn begin<Req>(&mut self, ticket: Ticket, request: Req) -> ResponseFuture<S, C, Req>
    where
        S: Service<Req>,
        C: Classify<Req, S::Response>,
    {
        self.is_ready = false;
        let guard = Guard::begin(Arc::clone(self.member.here()), ticket);
        ResponseFuture::admitted(Attempt::begin(guard, &mut self.inner, request))
    }
}

/// A clone shares the circuit, and starts unready.
impl<S: Clone, C: Send + Sync + 'static> Clone for CircuitBreaker<S, C> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.member.clone(), self.mode, self.refused.clone())
    }
}

impl<S, C: Send + Sync + 'static> fmt::Debug for CircuitBreaker<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker").field("name", &self.info().name).finish_non_exhaustive()
    }
}
