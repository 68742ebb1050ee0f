//! Who is asked next.

use std::sync::Arc;

use tower::BoxError;
use tower_service::Service;

use super::{Accept, Mode, schedule::Schedule};
use crate::{
    body::Replay,
    fleet::{BackendId, Member},
};

impl<S, H, Req> Schedule<S, H, Req>
where
    S: Service<H::Request> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    H: Replay<Req> + Accept<S::Response>,
{
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
