//! Who is asked next.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll},
};

use tower::BoxError;
use tower_service::Service;

use super::{
    Accept, Mode,
    racer::Racer,
    schedule::{Last, Schedule},
};
use crate::{
    body::Replay,
    fleet::{BackendId, Member},
    outcome::FailureKind,
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
        if self.has_called() && !self.affords_another() {
            self.waiting.clear();
            return Poll::Ready(None);
        }
        Poll::Ready(self.enter(member, service))
    }

    /// One who is ready now: of those who were asked before, then of the others.
    fn ready_one(&mut self, cx: &mut Context<'_>) -> Option<(Arc<Member<S>>, S)> {
        let mut asked = self.excluded();
        for (member, service) in std::mem::take(&mut self.waiting) {
            asked.push(member.facts.id);
            // Who has left is not waited for.
            if member.facts.health.is_healthy()
                && let Some(ready) = self.ask(cx, member, service)
            {
                return Some(ready);
            }
        }
        while let Some(member) = self.candidate(&asked) {
            asked.push(member.facts.id);
            let service = member.service.clone();
            if let Some(ready) = self.ask(cx, member, service) {
                return Some(ready);
            }
        }
        None
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

    /// The backend of each line of the ledger.
    pub(super) fn tried(&self) -> impl Iterator<Item = BackendId> + '_ {
        self.ledger.attempts.iter().map(|attempt| attempt.id)
    }

    /// Whom not to ask: those who were asked as often as may be.
    pub(super) fn excluded(&self) -> Vec<BackendId> {
        self.tried().filter(|id| self.is_spent(*id)).collect()
    }

    /// In a race everybody is asked once, the one that began it a second time.
    fn is_spent(&self, id: BackendId) -> bool {
        let most = match self.race {
            Some(primary) => 1 + u32::from(primary == id),
            None => self.settings().attempts_per_backend,
        };
        self.asked(id) >= most
    }

    fn asked(&self, id: BackendId) -> u32 {
        self.tried().filter(|tried| *tried == id).count() as u32
    }

    /// Whether no attempt can follow the one at this backend, as far as is known now.
    pub(super) fn is_last_try(&self, id: BackendId) -> bool {
        let again = self.settings().mode != Mode::Race && self.asked(id) + 1 < self.settings().attempts_per_backend;
        !again && !self.run.source.has_other(id, &self.excluded())
    }

    /// The one asked last, if it may be asked again.
    pub(super) fn same(&self) -> Option<Arc<Member<S>>> {
        let last = self.tried().last().filter(|last| !self.is_spent(*last))?;
        self.run.source.again(last)
    }

    /// Somebody of whom `asked` does not know: in a sequence the same as before while it has attempts left, elsewhere
    /// a new face before an old one.
    pub(super) fn candidate(&mut self, asked: &[BackendId]) -> Option<Arc<Member<S>>> {
        if self.stay
            && let Some(member) = self.same().filter(|member| !asked.contains(&member.facts.id))
        {
            return Some(member);
        }
        let source = &self.run.source;
        if self.race.is_some() || self.ledger.attempts.is_empty() {
            return source.next(asked, &mut self.dice);
        }
        let known: Vec<_> = asked.iter().copied().chain(self.tried()).collect();
        source.next(&known, &mut self.dice).or_else(|| source.next(asked, &mut self.dice))
    }
}
