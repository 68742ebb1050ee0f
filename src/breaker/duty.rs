use std::sync::Arc;

use super::{CircuitOpen, core::Core};
use crate::{
    health::Ticket,
    outcome::{self, FailureKind, Outcome, Record, Report, Verdict},
};

/// What all calls of one instance have in common. Each kept clone has its own, so that threads do not count references
/// on the same line of memory.
pub(super) struct Post<C> {
    pub(super) core: Arc<Core>,
    pub(super) classifier: C,
}

impl<C> Post<C> {
    /// Asks the circuit for admission.
    pub(super) fn admit(self: &Arc<Self>) -> Result<Admitted<C>, CircuitOpen> {
        let ticket = match self.core.circuit().pass() {
            Some(ticket) => ticket,
            None => self.core.admit()?,
        };
        Ok(Admitted { post: Arc::clone(self), ticket, timed: false })
    }
}

impl<C: Send + Sync> Record for Post<C> {
    #[inline]
    fn record(&self, ticket: outcome::Ticket, outcome: &Outcome) {
        self.core.record(&ticket.into(), outcome);
    }
}

/// Leave to make one call, with nothing owed for it yet.
pub(super) struct Admitted<C> {
    pub(super) post: Arc<Post<C>>,
    pub(super) ticket: Ticket,
    /// The call has begun, under a rule on slow calls.
    pub(super) timed: bool,
}

impl<C> Admitted<C> {
    /// The call begins now, however long it waited since it was admitted.
    #[inline]
    pub(super) fn begun(mut self) -> Self {
        self.timed = self.post.core.circuit().needs_clock();
        if self.timed {
            self.ticket = self.ticket.started_at(self.post.core.clock().now());
        }
        self
    }
}

/// Says that a call panicked, unless it is forgotten.
pub(super) struct Panic<'a, C> {
    pub(super) post: &'a Post<C>,
    pub(super) ticket: Ticket,
}

impl<C> Drop for Panic<'_, C> {
    fn drop(&mut self) {
        self.post.core.record(&self.ticket, &FailureKind::Panic.into());
    }
}

/// The duty to say what came of one admitted call. Dropped, it gives the permit back and says nothing of the backend:
/// the caller left. Unless slow calls count, and it was one by then.
pub(super) struct Duty<C> {
    /// None once it is done, or in other hands.
    post: Option<Arc<Post<C>>>,
    ticket: Ticket,
    /// The call is being polled. Found so when dropped, it has panicked, and the panic goes on its way.
    polling: bool,
    /// What it means when it is dropped otherwise.
    dropped: Dropped,
}

/// What a duty leaves behind when it is dropped.
#[derive(Clone, Copy, PartialEq)]
enum Dropped {
    Nothing,
    /// Its permit is free.
    Permit,
    /// And the call, begun under a rule on slow calls, may have been one.
    Time,
}

impl<C> Duty<C> {
    #[inline]
    pub(super) fn new(post: Arc<Post<C>>, ticket: Ticket, timed: bool) -> Self {
        let dropped = if timed {
            Dropped::Time
        } else if ticket.is_probe() {
            Dropped::Permit
        } else {
            Dropped::Nothing
        };
        Self { post: Some(post), ticket, polling: false, dropped }
    }

    /// The leave to call that was taken before the call.
    pub(super) fn redeem(mut self) -> Admitted<C> {
        let post = self.post.take().expect("a duty that was not used has its post");
        Admitted { post, ticket: self.ticket, timed: false }
    }

    /// No duty: for a call that was not admitted.
    #[inline]
    pub(super) fn none() -> Self {
        Self { post: None, ticket: Ticket::VOID, polling: false, dropped: Dropped::Nothing }
    }

    /// May a call that begins now still go by it? Not when the circuit moved on while it waited.
    #[inline]
    pub(super) fn is_current(&self) -> bool {
        let honoured = |post: &Arc<Post<C>>| post.core.circuit().honours(self.ticket, || post.core.clock().now());
        self.post.as_ref().is_some_and(honoured)
    }

    /// The service said that it will never be ready. To a probe that is an answer; given back unsaid, its permit would
    /// go from one who waits to the next without an end.
    #[cold]
    pub(super) fn refused(mut self) {
        if self.is_probe() {
            self.fulfil(&FailureKind::Other.into());
        }
    }

    pub(super) fn is_probe(&self) -> bool {
        self.ticket.is_probe()
    }

    #[inline]
    pub(super) fn classifier(&self) -> &C {
        &self.post.as_ref().expect("a call is classified before it is done").classifier
    }

    /// Runs a part of the call, which may panic.
    #[inline]
    pub(super) fn during<T>(&mut self, run: impl FnOnce() -> T) -> T {
        self.polling = true;
        let done = run();
        self.polling = false;
        done
    }

    #[cold]
    fn abandon(&mut self) {
        if self.polling {
            self.fulfil(&FailureKind::Panic.into());
        } else if self.dropped == Dropped::Permit {
            self.fulfil(&Outcome::Neutral);
        } else if let Some(post) = self.post.take() {
            post.core.give_up(self.ticket);
        }
    }

    #[inline]
    pub(super) fn fulfil(&mut self, outcome: &Outcome) {
        if let Some(post) = self.post.take() {
            post.core.record(&self.ticket, outcome);
        }
    }
}

impl<C: Send + Sync + 'static> Duty<C> {
    /// Says what the head of the response says, and hands the duty on to whoever sees its end.
    #[inline]
    pub(super) fn hand_on(&mut self, verdict: &Verdict) -> Report {
        let Some(post) = self.post.take() else { return Report::none() };
        match verdict {
            Verdict::AtEnd => Report::new(post, self.ticket.into()),
            Verdict::Now(outcome) => {
                post.core.record(&self.ticket, outcome);
                Report::said(post, self.ticket.into(), outcome)
            }
        }
    }
}

impl<C> Drop for Duty<C> {
    #[inline]
    fn drop(&mut self) {
        if (self.polling || self.dropped != Dropped::Nothing) && self.post.is_some() {
            self.abandon();
        }
    }
}
