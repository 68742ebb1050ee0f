//! Where a request may begin, and whether an attempt may follow another one.

use super::{
    Commit, Mode,
    counts::AttemptCounts,
    progress::{FollowUp, Progress},
};
use crate::{attempt::Ready, body::Replay, fleet::BackendService, name::BackendId, outcome::Classify, pick::SKIP_NONE};

impl<S, H, C, Req> Progress<S, H, C, Req>
where
    S: BackendService<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Reply>,
{
    /// Whether the first attempt of the request may be at this backend. A spare backend is probed by a request that may
    /// be hedged only: if the probe fails or takes long, the request is sent to the tier that serves.
    pub(super) fn may_begin_at(&self, ready: &Ready<S, C>) -> bool {
        // A request that brings something along is not for any backend.
        let is_spare = ready.is_probe() && self.search.local().is_spare(ready.shard().info());
        let is_replayable = |kept| self.policy().protocol.unreplayable(kept).is_none();
        self.brought.is_none() && (!is_spare || self.may_hedge() && self.kept.as_ref().is_none_or(is_replayable))
    }

    /// Whether an attempt may follow an attempt at this backend.
    pub(super) fn follow_up(&mut self, id: BackendId) -> FollowUp {
        let attempts = self.settings().attempts_per_backend;
        let repeats = self.settings().mode != Mode::Race && attempts > 1;
        let is_first = self.ledger.attempts().is_empty() && self.brought.is_none();
        if !is_first {
            self.count();
        }
        let counts = self.counts.as_deref().filter(|_| !is_first);
        let made = counts.and_then(|counts| counts.per_backend.get(&id)).copied().unwrap_or_default();
        let spent = counts.map_or(&SKIP_NONE, |counts| &counts.spent);
        if repeats && made + 1 < attempts {
            FollowUp::Now
        } else if counts.is_some_and(AttemptCounts::has_resting) {
            FollowUp::Later
        } else if !self.search.local().may_have_another(spent, id) {
            FollowUp::Never
        } else if self.search.local().has_another(spent, Some(id)) {
            FollowUp::Now
        } else {
            FollowUp::Later
        }
    }
}
