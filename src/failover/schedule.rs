use std::collections::HashMap;
use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{stream::FuturesUnordered, task::AtomicWaker};
use tokio::time::Instant;
use tower::BoxError;
use tower_service::Service;

use super::{
    Accept, Attempted, Ending, Error, ErrorKind, Ledger, Mode, Stopped, Trigger,
    layer::{Run, Settings},
    racer::{End, Entrant, Finish, Racer, Stalled},
};
use crate::{
    attempt::{Held, TimedOut},
    body::Replay,
    fleet::{BackendId, Member},
    outcome::{Failure, FailureKind, Outcome},
    pick::Rng,
};

/// Who was tried, who runs, and when the next one starts.
pub(super) struct Schedule<S, H, Req>
where
    S: Service<H::Request>,
    H: Replay<Req> + Accept<S::Response>,
{
    pub(super) run: Arc<Run<S, H>>,
    /// The caller's request, while a further attempt may be made of it.
    pub(super) kept: Option<H::Request>,
    pub(super) others: Option<FuturesUnordered<Racer<S, H, Req>>>,
    pub(super) ledger: Ledger,
    /// How often each backend stands in the ledger, as far as it was counted.
    pub(super) counts: HashMap<BackendId, usize>,
    /// Those who were asked and are not ready yet.
    pub(super) waiting: Vec<(Arc<Member<S>>, S)>,
    /// Rings when the fleet changes, while somebody is waited for.
    pub(super) bell: Option<Arc<AtomicWaker>>,
    pub(super) next: Next,
    /// When all of it has to be over.
    pub(super) ends: Option<Instant>,
    /// Who began the race, once there is one.
    pub(super) race: Option<BackendId>,
    /// The next attempt of a sequence is at the same backend as the one before.
    pub(super) stay: bool,
    pub(super) last: Option<Last<H::Opening>>,
    pauses: u32,
    last_pause: Duration,
    pub(super) rng: Rng,
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
pub(super) enum Last<O> {
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
            counts: HashMap::new(),
            waiting: Vec::new(),
            bell: None,
            race: None,
            stay: false,
            last: None,
            pauses: 0,
            last_pause: Duration::ZERO,
            rng: Rng::new(),
            run,
        }
    }

    /// Makes the first attempt, at the instance that the door held ready.
    pub(super) fn open_with(&mut self, held: Held<S>) -> Option<Racer<S, H, Req>> {
        if self.run.refused.is_some() {
            return None;
        }
        let (member, service) = held.into_parts();
        self.enter(member, service)
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.run.settings
    }

    /// Makes an attempt at this backend, if there is a request to send.
    pub(super) fn enter(&mut self, member: Arc<Member<S>>, service: S) -> Option<Racer<S, H, Req>> {
        let last_one = self.is_last_try(member.facts.id);
        let request = self.copy(last_one)?;
        let limit = self.limit(&member, last_one);
        let line = self.ledger.attempts.len();
        let (backend, took) = (member.facts.name.clone(), Duration::ZERO);
        self.ledger.attempts.push(Attempted { backend, ending: Ending::Dropped, took, id: member.facts.id });
        self.next = match self.settings().mode {
            Mode::Hedged(delay) if self.kept.is_some() && self.may_hedge() => Next::After(delay),
            _ => Next::Later,
        };
        Some(Racer::new(&self.run, line, Entrant { member, service, limit }, request))
    }

    /// The caller's request, once more. The last possible attempt gets the original, and nothing is copied.
    fn copy(&mut self, last_one: bool) -> Option<H::Request> {
        let kept = self.kept.as_ref()?;
        let first = !self.has_called();
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
        let beside_others = match self.settings().mode {
            Mode::Race => self.race.is_some(),
            Mode::Sequential => false,
            Mode::Hedged(_) => self.may_hedge(),
        };
        match (patience, left) {
            (patience, None) => patience,
            (Some(patience), Some(left)) if patience < left => Some(patience),
            // With others to come after it, it may take half of what is left, so that there is time for them.
            (_, Some(left)) if !last_one && !beside_others => Some(left / 2),
            (_, Some(left)) => Some(left),
        }
    }

    /// A hedge is sent although nothing failed: not for what may be done only once.
    fn may_hedge(&self) -> bool {
        !self.settings().idempotent_only || self.kept.as_ref().is_some_and(|kept| self.run.terms.is_idempotent(kept))
    }

    /// Whether an attempt was made already: a backend that would not get ready had none.
    pub(super) fn has_called(&self) -> bool {
        self.ledger.attempts.iter().any(|attempt| !matches!(attempt.ending, Ending::NotReady { .. }))
    }

    /// A backend that would not get ready is in the ledger too.
    pub(super) fn note(&mut self, member: &Member<S>, outcome: &Outcome) {
        let (backend, took) = (member.facts.name.clone(), Duration::ZERO);
        let ending = Ending::NotReady { outcome: *outcome };
        self.ledger.attempts.push(Attempted { backend, ending, took, id: member.facts.id });
    }

    /// Whether an extra attempt may be made, for its time and its price.
    pub(super) fn affords_another(&mut self) -> bool {
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

    /// Takes note of how long those who run have taken, since they may be dropped next.
    pub(super) fn take_time(&mut self, first: Option<Pin<&Racer<S, H, Req>>>) {
        let others = self.others.iter().flat_map(|others| Pin::new(others).iter_pin_ref());
        for racer in first.into_iter().chain(others) {
            self.ledger.attempts[racer.line()].took = racer.took();
        }
    }

    /// Those who run are given up. A circuit sees that by itself, but for those whose head it has seen.
    pub(super) fn give_up(&mut self, first: Option<Pin<&Racer<S, H, Req>>>) {
        let others = self.others.iter().flat_map(|others| Pin::new(others).iter_pin_ref());
        for racer in first.into_iter().chain(others) {
            self.outrun(racer.member(), racer.took(), racer.place());
        }
        self.others = None;
    }

    fn outrun(&self, member: &Member<S>, took: Duration, place: Stalled) {
        if place == Stalled::InBody {
            self.run.source.fleet().lag(member, took);
        }
    }

    /// Nothing is kept any longer than the answer takes.
    fn over(&mut self) -> Ledger {
        // What others hold for this request is given back before the answer is handed out.
        self.waiting.clear();
        (self.kept, self.last) = (None, None);
        std::mem::take(&mut self.ledger)
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
                self.ledger.attempts[line].ending = Ending::Served;
                let ledger = self.over();
                return Some(Ok(self.run.terms.hand_over(opening, ledger)));
            }
            End::Timeout(limit, place) => {
                // Its circuit cannot see that it was given up. A deadline of the caller's is no fault of its own.
                if member.patience.or(self.settings().timeout).is_some_and(|patience| took >= patience) {
                    self.run.source.fleet().blame(member);
                    self.outrun(member, took, place);
                }
                let error = TimedOut::new(member.facts.name.clone(), limit);
                (FailureKind::Timeout.into(), Some(Last::Error(error.into())))
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
        let broken = outcome.failure().is_some_and(|failure| failure.kind() == FailureKind::Body);
        // A response says more than an error, unless it broke off, and the later one is the news.
        match (&self.last, last) {
            (_, Some(Last::Response(..))) if broken => {}
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
        let ledger = self.over();
        Some(match last {
            Some(Last::Response(opening, _)) => Ok(self.run.terms.hand_over(opening, ledger)),
            Some(Last::Error(source)) => Err(Error::new(ErrorKind::Failed { source }, ledger)),
            None => {
                let failure = outcome.failure().copied().unwrap_or(FailureKind::Other.into());
                Err(Error::new(ErrorKind::Failed { source: failure.into() }, ledger))
            }
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
            Mode::Race if self.race.is_some() && self.waiting.is_empty() => Next::Later,
            Mode::Race if self.race.is_some() => Next::All,
            // What may be done only once is sent to one at a time.
            Mode::Race if !self.may_hedge() => Next::Now,
            Mode::Race => {
                self.race = self.ledger.attempts.last().map(|attempt| attempt.id);
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
        self.count();
        self.stay = self.same().is_some();
        let settings = &self.run.settings;
        // What one backend asks for is nothing to the others.
        let asked_for = outcome.failure().filter(|_| self.stay).and_then(|failure| failure.retry_delay());
        let asked_for = asked_for.unwrap_or_default().min(settings.retry_after_cap);
        let own = match settings.backoff {
            Some(backoff) => backoff.pause(self.pauses, self.last_pause, &mut self.rng),
            None if self.stay => settings.same_backend_delay,
            None => Duration::ZERO,
        };
        (self.pauses, self.last_pause) = (self.pauses.saturating_add(1), own);
        let mut pause = own.max(asked_for);
        let left = self.ends.map(|ends| ends.saturating_duration_since(Instant::now()));
        if let Some(left) = left.filter(|left| pause >= *left) {
            // There is no time to wait for this one, but there may be for another.
            let backoff = settings.backoff.map_or(Duration::ZERO, |_| own);
            if !self.stay || backoff >= left || !self.has_new_face() {
                self.ledger.stopped = Some(Stopped::OutOfTime);
                return Next::Never;
            }
            self.stay = false;
            pause = backoff;
        }
        // A pause so long that there is no such moment would be waited for for ever.
        pause = pause.min(Duration::from_secs(u64::from(u32::MAX)));
        if pause.is_zero() { Next::Now } else { Next::After(pause) }
    }

    /// Nobody could help, or nobody was there.
    pub(super) fn conclude(&mut self) -> Result<<H as Accept<S::Response>>::Response, Error> {
        self.waiting.clear();
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
                ledger.passed_through = Some(line);
                Ok(self.run.terms.hand_over(opening, ledger))
            }
            last => {
                let source = match last {
                    Some(Last::Error(source)) => Some(source),
                    // Nobody had failed yet when time was up: that is a timeout to whoever asked.
                    _ if ledger.stopped == Some(Stopped::OutOfTime) && ledger.last_failure().is_none() => {
                        Some(Failure::new(FailureKind::Timeout).into())
                    }
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
