use std::sync::Arc;

use super::core::{Core, Rejected};
use crate::{
    health::Ticket,
    outcome::{self, FailureKind, Outcome, Record, Report},
};

/// What all calls of one instance have in common. Each kept clone has its own, so that threads do not count references
/// on the same line of memory.
pub(super) struct Post<C> {
    pub(super) core: Arc<Core>,
    pub(super) classifier: C,
}

impl<C: Send + Sync> Record for Post<C> {
    #[inline]
    fn record(&self, ticket: outcome::Ticket, outcome: &Outcome) {
        self.core.record(ticket.into(), outcome);
    }
}

/// The duty to say what came of one admitted call. Dropped, it gives the permit back and says nothing of the backend:
/// the caller left.
pub(super) struct Duty<C> {
    /// None once it was handed on.
    post: Option<Arc<Post<C>>>,
    /// None when nobody asks: the circuit is open, and spared. Or when it was said.
    ticket: Option<Ticket>,
    /// The call is being polled. Found so when dropped, it has panicked, and the panic goes on its way.
    polling: bool,
}

impl<C> Duty<C> {
    /// Asks the circuit for admission.
    #[inline]
    pub(super) fn take_up(post: &Arc<Post<C>>) -> Result<Self, Rejected> {
        let ticket = post.core.admit()?;
        Ok(Self { post: Some(Arc::clone(post)), ticket, polling: false })
    }

    /// The call begins now, however long it waited since it was admitted.
    #[inline]
    pub(super) fn begin(&mut self) {
        let core = &self.post().core;
        if core.circuit().needs_clock() {
            let now = core.clock().now();
            self.ticket = self.ticket.map(|ticket| ticket.started_at(now));
        }
    }

    /// May a call that begins now still go by it? Not when the circuit moved on while it waited.
    #[inline]
    pub(super) fn is_current(&self) -> bool {
        let core = &self.post().core;
        self.ticket.is_some_and(|ticket| core.circuit().honours(ticket, || core.clock().now()))
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
        self.ticket.is_some_and(|ticket| ticket.is_probe())
    }

    #[inline]
    pub(super) fn post(&self) -> &Post<C> {
        self.post.as_deref().expect("the post is left last")
    }

    /// Runs a part of the call, which may panic.
    #[inline]
    pub(super) fn during<T>(&mut self, run: impl FnOnce() -> T) -> T {
        self.polling = true;
        let done = run();
        self.polling = false;
        done
    }

    #[inline]
    pub(super) fn fulfil(&mut self, outcome: &Outcome) {
        if let Some(ticket) = self.ticket.take() {
            self.post().core.record(ticket, outcome);
        }
    }
}

impl<C: Send + Sync + 'static> Duty<C> {
    /// Hands the duty on to whoever sees the end of the response.
    #[inline]
    pub(super) fn hand_on(mut self) -> Report {
        match (self.post.take(), self.ticket.take()) {
            (Some(post), Some(ticket)) => Report::new(post, ticket.into()),
            _ => Report::none(),
        }
    }
}

impl<C> Drop for Duty<C> {
    #[inline]
    fn drop(&mut self) {
        if self.polling {
            self.fulfil(&FailureKind::Panic.into());
        } else if self.is_probe() {
            self.fulfil(&Outcome::Neutral);
        }
    }
}
