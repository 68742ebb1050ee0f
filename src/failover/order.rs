//! Who is asked next.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll},
};

use tower::BoxError;
use tower_service::Service;

use super::{
    Accept, Mode, Stopped,
    racer::Racer,
    schedule::{Last, Schedule},
};
use crate::{
    body::Replay,
    fleet::{BackendId, Member},
    outcome::FailureKind,
    pick::Rng,
};

impl<S, H, Req> Schedule<S, H, Req>
where
    S: Service<H::Request> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    H: Replay<Req> + Accept<S::Response>,
{
    /// Starts one more attempt, unless something speaks against it: at the first who is ready. Pending while nobody who
    /// may be asked is.
    pub(super) fn start(&mut self, cx: &mut Context<'_>) -> Poll<Option<Racer<S, H, Req>>> {
        if self.kept.is_none() {
            return Poll::Ready(None);
        }
        let Some((member, service)) = self.ready_one(cx) else {
            if self.waiting.is_empty() {
                return Poll::Ready(None);
            }
            if let Some(bell) = &self.bell {
                bell.register(cx.waker());
                return Poll::Pending;
            }
            // Looked at once more, so that a change in between is not slept through.
            self.bell.insert(self.run.source.fleet().wait()).register(cx.waker());
            return self.start(cx);
        };
        if self.race.is_none() {
            // In a race those who are waited for run too, when they are ready.
            self.waiting.clear();
        }
        // In this order: a coin is not for a request that cannot be sent.
        if self.has_called() && (self.is_unreplayable() || !self.affords_another()) {
            self.waiting.clear();
            return Poll::Ready(None);
        }
        Poll::Ready(self.enter(member, service))
    }

    /// One who is ready now: of those who were asked before, then of the others.
    fn ready_one(&mut self, cx: &mut Context<'_>) -> Option<(Arc<Member<S>>, S)> {
        let mut asked = HashSet::new();
        let mut before = std::mem::take(&mut self.waiting).into_iter();
        while let Some((member, service)) = before.next() {
            asked.insert(member.facts.id);
            // Who has left is not waited for.
            if member.facts.health.is_healthy()
                && let Some(ready) = self.ask(cx, member, service)
            {
                // The others keep their places in their queues.
                self.waiting.extend(before);
                return Some(ready);
            }
        }
        while let Some(member) = self.candidate(&asked) {
            asked.insert(member.facts.id);
            let service = member.service.clone();
            if let Some(ready) = self.ask(cx, member, service) {
                return Some(ready);
            }
        }
        None
    }

    fn is_unreplayable(&mut self) -> bool {
        let reason = self.kept.as_ref().and_then(|kept| self.run.terms.unreplayable(kept));
        self.ledger.stopped = reason.map(Stopped::Unreplayable).or(self.ledger.stopped);
        reason.is_some()
    }

    fn ask(&mut self, cx: &mut Context<'_>, member: Arc<Member<S>>, mut service: S) -> Option<(Arc<Member<S>>, S)> {
        match catch_unwind(AssertUnwindSafe(|| service.poll_ready(cx))) {
            Ok(Poll::Ready(Ok(()))) => return Some((member, service)),
            Ok(Poll::Pending) => self.waiting.push((member, service)),
            // Out for this request; what it says is all we know if everybody says so.
            Ok(Poll::Ready(Err(error))) => {
                let error = error.into();
                let outcome = self.run.terms.error(&error);
                self.note(&member, &outcome);
                self.last.get_or_insert(Last::Error(error));
            }
            Err(_) => self.note(&member, &FailureKind::Panic.into()),
        }
        None
    }

    /// Takes account of the lines that the ledger has since the last time. A request that goes well never comes here.
    pub(super) fn count(&mut self) {
        let counted = self.counts.values().sum::<usize>();
        for attempt in &self.ledger.attempts[counted..] {
            *self.counts.entry(attempt.id).or_default() += 1;
        }
    }

    /// How often one backend may be asked. In a race everybody is asked once, the one that began it a second time.
    fn most(&self, id: BackendId) -> usize {
        match self.race {
            Some(primary) => 1 + usize::from(primary == id),
            None => self.settings().attempts_per_backend as usize,
        }
    }

    fn is_spent(&self, id: BackendId) -> bool {
        self.asked(id) >= self.most(id)
    }

    fn asked(&self, id: BackendId) -> usize {
        self.counts.get(&id).copied().unwrap_or_default()
    }

    /// Whether no attempt can follow the one at this backend, as far as is known now.
    pub(super) fn is_last_try(&mut self, id: BackendId) -> bool {
        self.count();
        let again = self.settings().mode != Mode::Race && self.asked(id) + 1 < self.most(id);
        !again && !self.run.source.has_next(&|other| other != id && !self.is_spent(other))
    }

    /// Whether there is somebody who was not asked at all.
    pub(super) fn has_new_face(&self) -> bool {
        self.run.source.has_next(&|id| self.asked(id) == 0)
    }

    /// The one asked last, if it may be asked again.
    pub(super) fn same(&self) -> Option<Arc<Member<S>>> {
        let last = self.ledger.attempts.last().filter(|last| !self.is_spent(last.id))?;
        self.run.source.again(last.id)
    }

    /// Somebody of whom `asked` does not know: in a sequence the same as before while it has attempts left, elsewhere
    /// a new face before an old one.
    fn candidate(&mut self, asked: &HashSet<BackendId>) -> Option<Arc<Member<S>>> {
        self.count();
        if self.stay
            && let Some(member) = self.same().filter(|member| !asked.contains(&member.facts.id))
        {
            return Some(member);
        }
        // Chance is an argument, and everything else is only looked at.
        let mut rng = std::mem::replace(&mut self.rng, Rng::seeded(0));
        let new = |id| self.asked(id) == 0 && !asked.contains(&id);
        let old = |id| !self.is_spent(id) && !asked.contains(&id);
        let source = &self.run.source;
        let new_first = self.race.is_none() && !self.ledger.attempts.is_empty();
        let new_face = if new_first { source.next(&new, &mut rng) } else { None };
        let found = new_face.or_else(|| source.next(&old, &mut rng));
        self.rng = rng;
        found
    }
}
