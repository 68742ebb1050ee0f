//! Which backends may get a request that one of them has rejected.

use super::{Commit, Follow, progress::Progress};
use crate::{body::Replay, fleet::BackendService, outcome::Classify};

impl<S, H, C, Req> Progress<S, H, C, Req>
where
    S: BackendService<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Reply>,
{
    /// Notes that the backend of the attempt in a ledger entry has rejected the request. Returns whether another attempt
    /// may follow: not if only backends with a tag may, and none of them is left.
    #[cold]
    pub(super) fn may_follow(&mut self, entry: usize, follow: Follow) -> bool {
        self.count();
        let id = self.ledger.attempts()[entry].id;
        let counts = self.counts.as_deref_mut().expect("the attempts were counted");
        match follow {
            Follow::Answer => return false,
            Follow::Later => return true,
            Follow::Next => {
                counts.leave_out(id);
                return true;
            }
            Follow::Tagged(tag) => {
                counts.leave_out(id);
                counts.tag = Some(tag);
            }
        }
        self.leave_out_untagged();
        let spent = &self.counts.as_deref().expect("the attempts were counted").spent;
        self.search.local().has_another(spent, Some(id))
    }

    /// Leaves out the backends without the tag that is wanted, if one is.
    pub(super) fn leave_out_untagged(&mut self) {
        let Some(counts) = self.counts.as_deref_mut() else { return };
        let Some(tag) = counts.tag else { return };
        for info in self.search.local().selection.infos().filter(|info| !info.has_tag(tag)) {
            if !counts.spent.contains(info.id) {
                counts.leave_out(info.id);
            }
        }
    }
}
