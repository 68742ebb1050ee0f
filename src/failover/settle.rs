//! What the end of an attempt means for its request: the answer, or a further attempt.

use std::sync::Arc;

use tower::BoxError;
use tower_service::Service;

use super::{
    Commit, Ending, Error, ErrorKind, Ledger, Mode, Stopped,
    plan::Tripped,
    progress::{Last, Progress},
    running::{End, Finish, Peek, Watched},
};
use crate::{
    body::Replay,
    outcome::{Classify, Failure, FailureKind, Outcome},
    time::Moment,
};

/// The answer to a request.
pub(super) type Answer<S, H, C, Req> = Result<<H as Commit<Watched<S, H, C, Req>>>::Response, Error>;

impl<S, H, C, Req> Progress<S, H, C, Req>
where
    S: Service<H::Request> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Response>,
{
    /// Nothing is kept any longer than the answer takes.
    fn over(&mut self) -> Ledger {
        // What is held for this request is given back before the answer is handed out.
        self.search.stop();
        (self.kept, self.last) = (None, None);
        std::mem::take(&mut self.ledger)
    }

    /// Takes note of how an attempt ended. Some when that is the answer.
    pub(super) fn settle(
        &mut self,
        finish: Finish<Peek<S, H, C, Req>>,
        now: Moment,
        is_alone: bool,
        cancel_others: impl FnOnce(&mut Ledger),
    ) -> Option<Answer<S, H, C, Req>> {
        let Finish { line, began, end } = finish;
        self.ledger.took(line, now.since(began));
        let (outcome, last) = match end {
            End::Answer(peek) => {
                cancel_others(&mut self.ledger);
                return Some(self.serve(line, peek));
            }
            End::Response(peek, outcome) => (outcome, Some(Last::Response(peek, line))),
            End::Error(error, outcome) => (outcome, error.map(Last::Error)),
        };
        // An error that says nothing of its backend is ours, and no answer while there may be a better one.
        if outcome == Outcome::Neutral && matches!(last, Some(Last::Error(_))) && (!is_alone || self.last.is_some()) {
            self.ledger.end(line, Ending::BrokenOff { outcome });
            self.last = self.last.take().or(last);
            return None;
        }
        let Some(trigger) = self.settings().tripped(&outcome) else {
            cancel_others(&mut self.ledger);
            return Some(self.answer_as_it_is(line, outcome, last));
        };
        self.ledger.end(line, Ending::Tripped { trigger, outcome });
        let is_broken = outcome.failure().is_some_and(|failure| failure.kind() == FailureKind::Body);
        // A response says more than an error, unless it broke off, and the later one is the news.
        match (&self.last, last) {
            (_, Some(Last::Response(..))) if is_broken => {}
            (Some(Last::Response(..)), Some(Last::Error(_))) | (_, None) => {}
            (_, last) => self.last = last,
        }
        self.go_on(&outcome, now);
        None
    }

    fn serve(&mut self, line: usize, peek: Peek<S, H, C, Req>) -> Answer<S, H, C, Req> {
        self.ledger.end(line, Ending::Served);
        let ledger = self.over();
        Ok(self.run().terms.finish(peek, ledger))
    }

    /// What trips nothing is the caller's, good or bad.
    fn answer_as_it_is(
        &mut self,
        line: usize,
        outcome: Outcome,
        last: Option<Last<Peek<S, H, C, Req>>>,
    ) -> Answer<S, H, C, Req> {
        let source = match last {
            Some(Last::Response(peek, _)) => return self.serve(line, peek),
            Some(Last::Error(source)) => source,
            None => outcome.failure().copied().unwrap_or(FailureKind::Other.into()).into(),
        };
        self.ledger.end(line, Ending::Served);
        Err(Error::new(ErrorKind::Failed { source }, self.over()))
    }

    /// Plans what follows a trip.
    fn go_on(&mut self, outcome: &Outcome, now: Moment) {
        self.search.renew();
        let (can_send, may_repeat) = (self.kept.is_some(), self.may_repeat());
        let (mut has_same, mut has_new) = (false, false);
        if self.settings().mode == Mode::Sequential {
            let last = self.ledger.attempts().last().map(|last| last.id);
            self.count();
            let tries = self.tries.as_deref().expect("they were counted");
            has_same = last.is_some_and(|last| {
                !tries.spent.contains(last) && self.search.local().selection.eligible_row(last).is_some()
            });
            has_new = self.search.has_another(&tries.tried, last);
        }
        let end = Tripped { outcome, now, can_send, may_repeat, has_same, has_new };
        let stopped = self.plan.tripped(&self.search.local().extra.settings, &end, &mut self.rng);
        if stopped == Some(Stopped::NotIdempotent) {
            self.kept = None;
        }
        self.ledger.stopped = stopped.or(self.ledger.stopped);
    }

    /// No attempt succeeded, or none was made.
    pub(super) fn conclude(&mut self) -> Answer<S, H, C, Req> {
        self.search.stop();
        let mut ledger = std::mem::take(&mut self.ledger);
        if ledger.attempts().is_empty() {
            let kind = match self.search.local().selection.backends() {
                0 => ErrorKind::NoBackends,
                backends => ErrorKind::NoneAvailable { backends, retry_after: self.search.retry_after() },
            };
            return Err(Error::new(kind, ledger));
        }
        match self.last.take() {
            Some(Last::Response(peek, line)) if self.settings().pass_through => {
                ledger.passed_through = Some(line);
                Ok(self.run().terms.finish(peek, ledger))
            }
            last => {
                let source = match last {
                    Some(Last::Error(source)) => Some(source),
                    // No attempt had failed yet when time was up: that is a timeout to the caller.
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
