use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tower::BoxError;
use tower_service::Service;

use super::{
    Accept, Attempted, Ending, Error, ErrorKind, Ledger, Mode, Stopped, Trigger,
    layer::{Run, Settings},
    ledger::HowOften,
    racer::{End, Entrant, Finish, Racer},
};
use crate::{
    attempt::Held,
    body::Replay,
    fleet::Member,
    outcome::{FailureKind, Outcome},
    pick::Dice,
};

/// Who was tried, who runs, and when the next one starts.
pub(super) struct Schedule<S, H, Req>
where
    S: Service<H::Request>,
    H: Replay<Req> + Accept<S::Response>,
{
    pub(super) run: Arc<Run<S, H>>,
    /// The caller's request, while a further attempt may be made of it.
    kept: Option<H::Request>,
    pub(super) others: Option<FuturesUnordered<Racer<S, H, Req>>>,
    pub(super) ledger: Ledger,
    pub(super) next: Next,
    /// When all of it has to be over.
    pub(super) ends: Option<Instant>,
    racing: bool,
    last: Option<Last<H::Opening>>,
    pauses: u32,
    last_pause: Duration,
    dice: Dice,
}

/// When the next attempt starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    /// When one that runs has come to its end.
    Later,
    Now,
    /// Everybody who is left, now.
    All,
    After(Duration),
    /// None any more.
    Never,
}

/// What there is to pass on when nobody can help.
enum Last<O> {
    Response(O, usize),
    Error(BoxError),
}

impl<S, H, Req> Schedule<S, H, Req>
where
    S: Service<H::Request> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    H: Replay<Req> + Accept<S::Response>,
{
    pub(super) fn new(run: Arc<Run<S, H>>, request: Req) -> Self {
        let settings = &run.settings;
        if let Some(budget) = &settings.budget {
            budget.pay_in();
        }
        Self {
            kept: Some(run.terms.keep(request)),
            ends: settings.deadline.and_then(|deadline| Instant::now().checked_add(deadline)),
            next: Next::Now,
            others: None,
            ledger: Ledger::default(),
            racing: false,
            last: None,
            pauses: 0,
            last_pause: Duration::ZERO,
            dice: Dice::new(),
            run,
        }
    }

    /// Makes the first attempt, at the instance that the door held ready.
    pub(super) fn open_with(&mut self, held: Held<S>) -> Option<Racer<S, H, Req>> {
        if self.run.refused.is_some() {
            return None;
        }
        let (member, service) = held.into_parts();
        self.enter(member, service, true)
    }

    fn settings(&self) -> &Settings {
        &self.run.settings
    }

    /// Makes an attempt at this backend, if there is a request to send.
    fn enter(&mut self, member: Arc<Member<S>>, service: S, ready: bool) -> Option<Racer<S, H, Req>> {
        let id = member.facts.id;
        let often = self.how_often();
        let last_one = !self.run.source.has_next(&|other| self.ledger.may_ask(other, often, Some(id)));
        let request = self.copy(last_one)?;
        let limit = self.limit(&member, last_one);
        let line = self.ledger.attempts.len();
        let (backend, took) = (member.facts.name.clone(), Duration::ZERO);
        self.ledger.attempts.push(Attempted { backend, ending: Ending::Dropped, took, id });
        self.next = match self.settings().mode {
            Mode::Hedged(delay) if self.kept.is_some() && self.may_hedge() => Next::After(delay),
            _ => Next::Later,
        };
        Some(Racer::new(&self.run, line, Entrant { member, service, ready, limit }, request))
    }

    /// The caller's request, once more. The last possible attempt gets the original, and nothing is copied.
    fn copy(&mut self, last_one: bool) -> Option<H::Request> {
        let kept = self.kept.as_ref()?;
        let first = self.ledger.begun().next().is_none();
        if last_one {
            if let Some(reason) = self.run.terms.unreplayable(kept).filter(|_| !first) {
                self.ledger.stopped = Some(Stopped::Unreplayable(reason));
                return None;
            }
            return self.kept.take();
        }
        match self.run.terms.again(kept) {
            Ok(copy) => Some(copy),
            Err(reason) => {
                self.ledger.stopped = Some(Stopped::Unreplayable(reason));
                // It can be sent once, and that is now or was before.
                self.kept.take().filter(|_| first)
            }
        }
    }

    /// How long an attempt at this backend may take: what was set for it, or for all, or its share of what is left.
    fn limit(&self, member: &Member<S>, last_one: bool) -> Option<Duration> {
        let patience = member.patience.or(self.settings().timeout);
        let left = self.ends.map(|ends| ends.saturating_duration_since(Instant::now()));
        match (patience, left) {
            (patience, None) => patience,
            (Some(patience), Some(left)) => Some(patience.min(left)),
            // With others to come it may take half of it, so that there is time for them.
            (None, Some(left)) if !last_one && !self.racing => Some(left / 2),
            (None, Some(left)) => Some(left),
        }
    }

    /// A hedge is sent although nothing failed: not for what may be done only once.
    fn may_hedge(&self) -> bool {
        !self.settings().idempotent_only || self.kept.as_ref().is_some_and(|kept| self.run.terms.is_idempotent(kept))
    }

    /// Starts one more attempt, unless something speaks against it: at one that is ready now, if there is one.
    pub(super) fn start(&mut self, cx: &mut Context<'_>) -> Option<Racer<S, H, Req>> {
        self.kept.as_ref()?;
        let mut waiting = None;
        // Those who were asked just now whether they are ready.
        let mut asked = Vec::new();
        let often = self.how_often();
        let entrant = loop {
            let fresh = |id| !asked.contains(&id) && self.ledger.may_ask(id, often, None);
            let Some(member) = self.run.source.next(&fresh, &mut self.dice) else { break waiting };
            let mut service = member.service.clone();
            match service.poll_ready(cx) {
                Poll::Ready(Ok(())) => break Some((member, service, true)),
                Poll::Pending => _ = waiting.get_or_insert((Arc::clone(&member), service, false)),
                Poll::Ready(Err(error)) => {
                    // Out for this request; what it says is all we know if everybody says so.
                    let error = error.into();
                    let outcome = self.run.terms.error(&error);
                    self.note(&member, &outcome);
                    self.last.get_or_insert(Last::Error(error));
                }
            }
            asked.push(member.facts.id);
        };
        let (member, service, ready) = entrant?;
        if self.ledger.begun().next().is_some() && !self.affords_another() {
            return None;
        }
        self.enter(member, service, ready)
    }

    fn how_often(&self) -> HowOften {
        if self.racing { HowOften::Race } else { HowOften::Times(self.settings().attempts_per_backend) }
    }

    /// A backend that would not get ready is in the ledger too.
    fn note(&mut self, member: &Member<S>, outcome: &Outcome) {
        let (backend, took) = (member.facts.name.clone(), Duration::ZERO);
        let ending = Ending::NotReady { outcome: *outcome };
        self.ledger.attempts.push(Attempted { backend, ending, took, id: member.facts.id });
    }

    /// Whether an extra attempt may be made, for its time and its price.
    fn affords_another(&mut self) -> bool {
        if self.ends.is_some_and(|ends| ends <= Instant::now()) {
            self.ledger.stopped = Some(Stopped::OutOfTime);
            return false;
        }
        let affordable = self.settings().budget.as_ref().is_none_or(|budget| budget.take());
        if !affordable {
            self.ledger.stopped = Some(Stopped::OverBudget);
        }
        affordable
    }

    /// Takes note of how an attempt ended. Some when that is the answer.
    pub(super) fn settle(
        &mut self,
        finish: Finish<H::Opening>,
        member: &Member<S>,
        alone: bool,
    ) -> Option<Result<<H as Accept<S::Response>>::Response, Error>> {
        let Finish { line, took, end } = finish;
        self.ledger.attempts[line].took = took;
        let (outcome, last) = match end {
            End::Answer(opening) => {
                // What is kept of the request for others is given back now, whenever the future goes.
                self.kept = None;
                self.ledger.attempts[line].ending = Ending::Served;
                let ledger = std::mem::take(&mut self.ledger);
                return Some(Ok(self.run.terms.hand_over(opening, ledger)));
            }
            End::Timeout => {
                // Its circuit cannot see that it was given up. A deadline of the caller's is no fault of its own.
                if member.patience.or(self.settings().timeout).is_some_and(|patience| took >= patience) {
                    self.run.source.fleet().blame(member);
                }
                (FailureKind::Timeout.into(), None)
            }
            End::Response(opening, outcome) => (outcome, Some(Last::Response(opening, line))),
            End::Error(error, outcome) => (outcome, error.map(Last::Error)),
        };
        // An error that says nothing of its backend is ours, and no answer while there may be a better one.
        if outcome == Outcome::Neutral && matches!(last, Some(Last::Error(_))) && (!alone || self.last.is_some()) {
            self.ledger.attempts[line].ending = Ending::BrokenOff { outcome };
            self.last = self.last.take().or(last);
            return None;
        }
        let Some(trigger) = Trigger::tripped(&self.settings().triggers, &outcome) else {
            return self.answer_as_it_is(line, outcome, last);
        };
        self.ledger.attempts[line].ending = Ending::Tripped { trigger, outcome };
        // A response says more than an error, and the later one is the news.
        match (&self.last, last) {
            (Some(Last::Response(..)), Some(Last::Error(_))) | (_, None) => {}
            (_, last) => self.last = last,
        }
        self.go_on(&outcome);
        None
    }

    /// What trips nothing is the caller's, good or bad.
    fn answer_as_it_is(
        &mut self,
        line: usize,
        outcome: Outcome,
        last: Option<Last<H::Opening>>,
    ) -> Option<Result<<H as Accept<S::Response>>::Response, Error>> {
        self.ledger.attempts[line].ending = Ending::Served;
        let ledger = std::mem::take(&mut self.ledger);
        Some(match last {
            Some(Last::Response(opening, _)) => Ok(self.run.terms.hand_over(opening, ledger)),
            Some(Last::Error(source)) => Err(Error::new(ErrorKind::Failed { source }, ledger)),
            None => Err(Error::new(ErrorKind::Failed { source: outcome.to_string().into() }, ledger)),
        })
    }

    /// Plans what follows a trip.
    fn go_on(&mut self, outcome: &Outcome) {
        let unprocessed = outcome.failure().is_some_and(|failure| failure.kind().is_unprocessed());
        if !unprocessed && !self.may_hedge() && self.kept.is_some() {
            self.ledger.stopped = Some(Stopped::NotIdempotent);
            self.kept = None;
        }
        self.next = match self.settings().mode {
            _ if self.kept.is_none() => Next::Never,
            Mode::Race if self.racing => Next::Later,
            Mode::Race => {
                self.racing = true;
                let bound = Instant::now().checked_add(self.settings().race_bound);
                self.ends = self.ends.into_iter().chain(bound).min();
                Next::All
            }
            Mode::Hedged(_) => Next::Now,
            Mode::Sequential => self.pause(outcome),
        };
    }

    /// The pause before the next attempt of a sequence.
    fn pause(&mut self, outcome: &Outcome) -> Next {
        let settings = &self.run.settings;
        let same = self.ledger.attempts.last().is_some_and(|last| self.ledger.may_ask(last.id, self.how_often(), None));
        let retry_after = outcome.failure().and_then(|failure| failure.retry_delay()).unwrap_or_default();
        let mut pause = match settings.backoff {
            Some(backoff) => {
                let pause = backoff.pause(self.pauses, self.last_pause, &mut self.dice);
                pause.max(retry_after.min(settings.retry_after_cap))
            }
            None if same => settings.same_backend_delay.max(retry_after.min(settings.retry_after_cap)),
            None => Duration::ZERO,
        };
        if self.settings().backoff.is_some() {
            (self.pauses, self.last_pause) = (self.pauses.saturating_add(1), pause);
        }
        let left = self.ends.map(|ends| ends.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| pause >= left) {
            self.ledger.stopped = Some(Stopped::OutOfTime);
            return Next::Never;
        }
        // A pause so long that there is no such moment would be waited for for ever.
        pause = pause.min(Duration::from_secs(u64::from(u32::MAX)));
        if pause.is_zero() { Next::Now } else { Next::After(pause) }
    }

    /// Nobody could help, or nobody was there.
    pub(super) fn conclude(&mut self) -> Result<<H as Accept<S::Response>>::Response, Error> {
        let mut ledger = std::mem::take(&mut self.ledger);
        if ledger.attempts.is_empty() {
            let kind = match self.run.source.absence() {
                (0, _) => ErrorKind::NoBackends,
                (backends, retry_after) => ErrorKind::NoneAvailable { backends, retry_after },
            };
            return Err(Error::new(kind, ledger));
        }
        match self.last.take() {
            Some(Last::Response(opening, line)) if self.settings().pass_through => {
                ledger.attempts[line].ending = Ending::Served;
                Ok(self.run.terms.hand_over(opening, ledger))
            }
            last => {
                let source = match last {
                    Some(Last::Error(source)) => Some(source),
                    _ => ledger.last_failure().and_then(|outcome| outcome.failure().copied()).map(BoxError::from),
                };
                let fleet = Arc::clone(self.run.source.fleet().name());
                Err(Error::new(ErrorKind::Exhausted { fleet, source }, ledger))
            }
        }
    }

    pub(super) fn running(&self) -> bool {
        self.others.as_ref().is_some_and(|others| !others.is_empty())
    }

    pub(super) fn launch(&mut self, racer: Racer<S, H, Req>) {
        self.others.get_or_insert_with(FuturesUnordered::new).push(racer);
    }
}
