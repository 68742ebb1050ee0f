//! The breaker itself: admission in `poll_ready` or `call`, then one attempt.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::time::Sleep;
use tower::BoxError;
use tower_service::Service;

use super::{CircuitOpen, ResponseFuture};
use crate::{
    attempt::Attempt,
    fleet::{MemberInfo, Shard, Switch},
    health::{Circuit, CircuitState, Ticket},
    outcome::{Classify, Event, Failure, FailureKind, Guard, HttpClassifier, Outcome, Record, inspect},
    shard::Spread,
    time::Moment,
    wake::Waiter,
};

/// A [`Service`] that calls its inner service while the circuit admits calls, and rejects them otherwise. See
/// [the module](super).
///
/// Clones share the circuit. The response is what the classifier makes of it: over HTTP, its body is watched to its
/// end, so that a body that breaks off counts as a failure.
///
/// Its error is a [`BoxError`]: a [`CircuitOpen`] for a rejected call, or that of the inner
/// service.
pub struct CircuitBreaker<S, C: Send + Sync = HttpClassifier> {
    inner: S,
    /// The circuit: a member of no fleet, shared by the services of a layer, their clones and their handles.
    member: Spread<Shard<(), C>>,
    when_open: WhenOpen,
    /// Whether the inner service is ready and has not been called since.
    is_ready: bool,
    /// The permission for the next call, acquired in `poll_ready` with [`WhenOpen::Wait`].
    admitted: Option<HeldPermit<C>>,
    waiting: Option<Waiting>,
}

/// What to do with a request while the circuit admits no call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum WhenOpen {
    /// Fail in `call`.
    Reject,
    /// Wait in `poll_ready`.
    Wait,
}

/// The permission for one call that has not begun. On drop, releases the permit of a probe.
struct HeldPermit<C: Send + Sync> {
    member: Arc<Shard<(), C>>,
    ticket: Ticket,
}

impl<C: Send + Sync> HeldPermit<C> {
    /// Whether it is still valid: no transition has happened since, and its permit has not expired.
    fn is_current(&self) -> bool {
        let info = self.member.info();
        info.circuit().is_some_and(|circuit| circuit.honours(self.ticket, || info.clock.now()))
    }

    /// Returns the ticket, for a call that begins now. The time since the admission does not count as part of the call.
    fn redeem(mut self) -> Ticket {
        let info = self.member.info();
        let is_timed = info.circuit().is_some_and(Circuit::needs_clock);
        let ticket = if is_timed { self.ticket.started_at(info.clock.now()) } else { self.ticket };
        self.ticket = Ticket::VOID;
        ticket
    }
}

impl<C: Send + Sync> Drop for HeldPermit<C> {
    fn drop(&mut self) {
        if self.ticket.is_probe() {
            self.member.record(&self.ticket, Event::Outcome(&Outcome::Neutral));
        }
    }
}

/// Records that the service failed to become ready: as a call that failed. If it was to be probed, its circuit opens
/// again; otherwise the permit would be handed from waiter to waiter forever.
#[cold]
fn record_unready<C>(member: &Arc<Shard<(), C>>, admitted: &mut Option<HeldPermit<C>>, failure: Failure)
where
    C: Send + Sync + 'static,
{
    let info = member.info();
    let held = admitted.take().filter(HeldPermit::is_current).map(HeldPermit::redeem);
    if let Some(ticket) = held.or_else(|| info.admit(|| info.clock.now()).ok()) {
        Guard::begin(Arc::clone(member), ticket).outcome(&failure.into());
    }
}

/// Records a panic of the service's `poll_ready` while it unwinds. Costs nothing if there is none.
struct RecordPanic<'a, C: Send + Sync + 'static> {
    member: &'a Spread<Shard<(), C>>,
    admitted: &'a mut Option<HeldPermit<C>>,
}

impl<C: Send + Sync + 'static> Drop for RecordPanic<'_, C> {
    #[cold]
    fn drop(&mut self) {
        record_unready(self.member.here(), self.admitted, FailureKind::Panic.into());
    }
}

/// The wait for an admission, until the circuit wakes `waiter` or `timer` ends.
struct Waiting {
    waiter: Waiter,
    // Boxed, since a service is not pinned. Allocated only when a request has to wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Waiting {
    /// Waits until the open time is over, or until the waiter must check by itself.
    fn poll_timer(&mut self, info: &MemberInfo, cx: &mut Context<'_>) -> Poll<()> {
        let now = info.clock.now();
        let state = info.circuit().map_or(CircuitState::Closed, |circuit| circuit.state(now));
        let due = info.circuit().map(Circuit::eligible_at).filter(|at| *at != Moment::NEVER).map(|at| at.since(now));
        let Some(wait) = self.waiter.checks_after(due, state == CircuitState::HalfOpen) else {
            self.timer = None;
            return Poll::Pending;
        };
        let sleep = tokio::time::sleep(wait);
        let timer = match &mut self.timer {
            Some(timer) => {
                timer.as_mut().set(sleep);
                timer
            }
            none => none.insert(Box::pin(sleep)),
        };
        timer.as_mut().poll(cx)
    }
}

impl<S, C> CircuitBreaker<S, C>
where
    C: Send + Sync + 'static,
{
    pub(super) fn new(inner: S, member: Spread<Shard<(), C>>, when_open: WhenOpen) -> Self {
        Self { inner, member, when_open, is_ready: false, admitted: None, waiting: None }
    }

    /// Returns the handle of the circuit, with which an operator watches and controls it.
    ///
    /// The handle does not depend on this service: it also works when the service is boxed or dropped.
    pub fn switch(&self) -> Switch {
        Switch::new(Arc::clone(self.info())).expect("a breaker has a circuit")
    }

    #[inline(always)]
    fn info(&self) -> &Arc<MemberInfo> {
        self.member.here().info()
    }

    /// Whether a call would be admitted now. Acquires no permit.
    #[inline(always)]
    fn would_admit(&self) -> bool {
        let info = self.info();
        info.circuit().is_some_and(|circuit| circuit.serves() || circuit.would_admit(|| info.clock.now()))
    }

    /// Waits until a call is admitted.
    #[cold]
    fn poll_admission(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                // An admission wakes the next waiter, which must not be this one.
                waiting.waiter.take();
            }
            let member = Arc::clone(self.member.here());
            let info = Arc::clone(member.info());
            if let Ok(ticket) = info.admit(|| info.clock.now()) {
                self.admitted = Some(HeldPermit { member, ticket });
                if let Some(mut waiting) = self.waiting.take() {
                    waiting.waiter.used();
                }
                return Poll::Ready(());
            }
            let waiting = self.waiting.get_or_insert_with(|| Waiting { waiter: info.waiters().join(), timer: None });
            waiting.waiter.register(cx.waker());
            // Read after the waker was registered, so that no change in between is missed.
            if !info.circuit().is_none_or(|circuit| circuit.would_admit(|| info.clock.now()))
                && waiting.poll_timer(&info, cx).is_pending()
            {
                return Poll::Pending;
            }
        }
    }

    /// Admits or rejects a call, unless the fast path in `call` did.
    #[cold]
    fn admit(&mut self) -> Result<Ticket, BoxError> {
        if !self.is_ready {
            let info = self.info();
            let at = info.circuit().map_or(Moment::NEVER, Circuit::eligible_at);
            let retry_after = (at != Moment::NEVER).then(|| at.since(info.clock.now()));
            return Err(CircuitOpen::new(info.name.clone(), retry_after).into());
        }
        match self.admitted.take() {
            Some(admitted) if admitted.is_current() => Ok(admitted.redeem()),
            // The service may have been ready for long, so that the admission is no longer valid.
            stale => {
                drop(stale);
                let info = self.info();
                // `is_ready` stays set after a rejection: the service was not called.
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
        if self.when_open == WhenOpen::Reject {
            // A call that will be rejected does not wait for the inner service.
            if !self.would_admit() {
                return Poll::Ready(Ok(()));
            }
        } else if !self.info().circuit().is_some_and(Circuit::serves)
            && !self.admitted.as_ref().is_some_and(HeldPermit::is_current)
        {
            // An invalid permission is dropped first, which releases its permit.
            self.admitted = None;
            ready!(self.poll_admission(cx));
        } else if self.waiting.is_some() {
            self.waiting = None;
        }
        self.is_ready = false;
        let on_unwind = RecordPanic { member: &self.member, admitted: &mut self.admitted };
        let polled = self.inner.poll_ready(cx);
        std::mem::forget(on_unwind);
        let ready = ready!(polled).map_err(Into::into);
        self.is_ready = ready.is_ok();
        if let Err(error) = &ready {
            let failure = inspect(&**error).failure().copied().unwrap_or(FailureKind::Other.into());
            record_unready(self.member.here(), &mut self.admitted, failure);
        }
        Poll::Ready(ready)
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> ResponseFuture<S, C, Req> {
        if self.is_ready
            && self.admitted.is_none()
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

/// A clone shares the circuit and starts unready.
impl<S: Clone, C: Send + Sync + 'static> Clone for CircuitBreaker<S, C> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.member.clone(), self.when_open)
    }
}

impl<S, C: Send + Sync + 'static> fmt::Debug for CircuitBreaker<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker").field("name", &self.info().name).finish_non_exhaustive()
    }
}
