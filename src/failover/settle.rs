//! What follows the end of an attempt: the response to the caller, or a further attempt.

use std::sync::Arc;

use tower::BoxError;

use super::{
    Commit, Ending, Error, ErrorKind, Ledger, Mode, Stopped,
    end::{AttemptEnd, End, Peek, Watched},
    plan::Trip,
    progress::{LastFailure, Progress},
};
use crate::{
    body::{Replay, ReplayError},
    fleet::BackendService,
    foreign,
    outcome::{Classify, Failure, FailureKind, Outcome, find_replay_error},
    telemetry,
    time::Moment,
};

/// The result of a request.
pub(super) type CallResult<S, H, C, Req> = Result<<H as Commit<Watched<S, H, C, Req>>>::Response, Error>;

impl<S, H, C, Req> Progress<S, H, C, Req>
where
    S: BackendService<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Reply>,
{
    /// Releases what is held for the request, before the caller gets the result. Returns the ledger.
    fn release(&mut self) -> Ledger {
        self.search.stop();
        let (kept, last) = (self.kept.take(), self.last.take());
        foreign::discard(kept);
        foreign::discard(last);
        std::mem::take(&mut self.ledger)
    }

    /// Records the end of an attempt, and plans what follows. Returns the result of the request if that is known.
    ///
    /// `is_alone` is whether no other attempt is running.
    pub(super) fn settle(
        &mut self,
        ended: AttemptEnd<Peek<S, H, C, Req>>,
        now: Moment,
        is_alone: bool,
        cancel_others: impl FnOnce(&mut Ledger),
    ) -> Option<CallResult<S, H, C, Req>> {
        let AttemptEnd { entry, started, end } = ended;
        self.ledger.set_took(entry, now.since(started));
        let mut rejected = None;
        let (outcome, last) = match end {
            End::Final(peek) => {
                cancel_others(&mut self.ledger);
                return Some(self.serve(entry, peek));
            }
            End::Response(peek, outcome) => (outcome, Some(LastFailure::Response(peek, entry))),
            End::Rejected(peek, rejection, failure) => {
                if !self.may_follow(entry, rejection.follow) && is_alone {
                    return Some(self.serve(entry, peek));
                }
                if rejection.is_failure {
                    foreign::run(|| telemetry::rejected(&self.ledger.attempts()[entry].backend, rejection.name));
                }
                rejected = Some(rejection);
                (failure.into(), Some(LastFailure::Response(peek, entry)))
            }
            End::Error(error, outcome) => (outcome, error.map(LastFailure::Error)),
        };
        // A neutral error was caused on our side, by the request body for example. It is not returned if another
        // attempt may have a better result.
        if outcome == Outcome::Neutral
            && matches!(last, Some(LastFailure::Error(_)))
            && (!is_alone || self.last.is_some())
        {
            self.ledger.set_ending(entry, Ending::BrokenOff { outcome });
            if let Some(LastFailure::Error(error)) = &last {
                self.record_failed_body(&**error);
            }
            let dropped = if self.last.is_some() { last } else { std::mem::replace(&mut self.last, last) };
            foreign::discard(dropped);
            return None;
        }
        let Some(trigger) = rejected.map(|_| "rejection").or_else(|| self.settings().fired(&outcome)) else {
            cancel_others(&mut self.ledger);
            return Some(self.pass_on(entry, outcome, last));
        };
        self.ledger.set_ending(entry, Ending::Tripped { trigger, outcome });
        // What a backend says of a fault of its own, such as a wrong key, is not for the caller.
        let is_private = rejected.is_some_and(|rejected| rejected.is_failure);
        let is_broken = is_private || outcome.failure().is_some_and(|failure| failure.kind().breaks_body());
        // The last failure replaces an earlier one. But a response is of more use than an error, unless it was cut
        // short.
        let dropped = match (&self.last, last) {
            (_, last @ Some(LastFailure::Response(..))) if is_broken => last,
            (Some(LastFailure::Response(..)), last @ Some(LastFailure::Error(_))) | (_, last @ None) => last,
            (_, last) => std::mem::replace(&mut self.last, last),
        };
        foreign::discard(dropped);
        let is_unprocessed = rejected.is_some_and(|rejected| rejected.is_unprocessed);
        self.plan_next(entry, &outcome, is_unprocessed, now);
        None
    }

    fn serve(&mut self, entry: usize, peek: Peek<S, H, C, Req>) -> CallResult<S, H, C, Req> {
        self.ledger.set_ending(entry, Ending::Served);
        let ledger = self.release();
        Ok(self.policy().protocol.finish(peek, ledger))
    }

    /// Returns a result that fires no trigger to the caller.
    fn pass_on(
        &mut self,
        entry: usize,
        outcome: Outcome,
        last: Option<LastFailure<Peek<S, H, C, Req>>>,
    ) -> CallResult<S, H, C, Req> {
        let source = match last {
            Some(LastFailure::Response(peek, _)) => return self.serve(entry, peek),
            Some(LastFailure::Error(source)) => source,
            None => outcome.failure().copied().unwrap_or(FailureKind::Other.into()).into(),
        };
        // If the caller's body failed, the backend has served nothing.
        let is_broken = outcome == Outcome::Neutral && self.record_failed_body(&*source);
        self.ledger.set_ending(entry, if is_broken { Ending::BrokenOff { outcome } } else { Ending::Served });
        Err(Error::new(ErrorKind::Failed { source }, self.release()))
    }

    /// Records that the request cannot be sent again if its body failed. Returns whether the error says so.
    fn record_failed_body(&mut self, error: &(dyn std::error::Error + 'static)) -> bool {
        let Some(error) = find_replay_error(error) else { return false };
        // An attempt that fell behind does not affect the others.
        if !matches!(error, ReplayError::NotKept(_)) {
            self.ledger.stopped = Some(Stopped::Unreplayable(error.reason()));
        }
        true
    }

    /// Plans what follows the trip of the attempt in this ledger entry.
    fn plan_next(&mut self, entry: usize, outcome: &Outcome, is_unprocessed: bool, now: Moment) {
        self.search.renew();
        let (can_send, may_repeat) = (self.kept.is_some(), is_unprocessed || self.may_repeat());
        if can_send {
            self.note_failure(entry, outcome, now);
        }
        let (mut has_same, mut has_new) = (false, false);
        if self.settings().mode == Mode::Sequential {
            let last = self.ledger.attempts().last().map(|last| (last.id, last.position));
            self.count();
            let counts = self.counts.as_deref().expect("the attempts were counted");
            has_same = last.is_some_and(|(id, position)| {
                !counts.spent.contains(id) && self.search.local().selection.eligible_row(id, position).is_some()
            });
            has_new = self.search.local().has_another(&counts.attempted, last.map(|(id, _)| id));
        }
        let trip = Trip { outcome, now, can_send, may_repeat, has_same, has_new };
        let stopped = self.plan.tripped(&self.search.local().extra.settings, &trip, &mut self.rng);
        if matches!(stopped, Some(Stopped::NotIdempotent | Stopped::Pushback)) {
            // Final, whatever the running attempts come to. So the backends that are not ready need not be waited for.
            self.kept = None;
            self.search.stop();
        }
        self.ledger.stopped = stopped.or(self.ledger.stopped);
    }

    /// Ends a request without a success: no attempt succeeded, or none was made.
    pub(super) fn conclude(&mut self) -> CallResult<S, H, C, Req> {
        self.full = self.full.max(self.search.full());
        self.search.stop();
        let mut ledger = std::mem::take(&mut self.ledger);
        if ledger.attempts().is_empty() {
            let kind = match self.search.local().selection.backends() {
                0 => ErrorKind::NoBackends,
                _ if self.full > 0 => ErrorKind::AtLimit { backends: self.full },
                backends => ErrorKind::NoneAvailable { backends, retry_after: self.search.local().retry_after() },
            };
            return Err(Error::new(kind, ledger));
        }
        match self.last.take() {
            Some(LastFailure::Response(peek, entry)) if self.settings().pass_through => {
                ledger.passed_through = Some(entry);
                Ok(self.policy().protocol.finish(peek, ledger))
            }
            last => {
                let (last, dropped) = match last {
                    Some(LastFailure::Error(source)) => (Some(source), None),
                    last => (None, last),
                };
                foreign::discard(dropped);
                let source = match last {
                    Some(source) => Some(source),
                    // No attempt had failed when the time was up, so the error is a timeout.
                    _ if ledger.stopped == Some(Stopped::OutOfTime) && ledger.last_failure().is_none() => {
                        Some(Failure::new(FailureKind::Timeout).into())
                    }
                    _ => ledger.last_failure().and_then(|outcome| outcome.failure().copied()).map(BoxError::from),
                };
                let fleet = Arc::clone(&self.search.local().core.name);
                Err(Error::new(ErrorKind::Exhausted { fleet, source }, ledger))
            }
        }
    }
}
