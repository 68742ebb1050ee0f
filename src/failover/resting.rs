//! The backends that named a time: none is attempted before it, and a request may wait for it.

use super::{
    Commit, Mode,
    counts::{AttemptCounts, Rest},
    progress::Progress,
};
use crate::{
    body::Replay,
    fleet::BackendService,
    health::Timed,
    outcome::{Classify, Outcome},
    time::Moment,
};

impl<S, H, C, Req> Progress<S, H, C, Req>
where
    S: BackendService<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Reply>,
{
    /// Notes how the attempt in a ledger entry failed, which decides whether its backend may be attempted again.
    pub(super) fn note_failure(&mut self, entry: usize, outcome: &Outcome, now: Moment) {
        self.count();
        let is_only = self.search.local().selection.backends() == 1;
        if let Some(counts) = &mut self.counts {
            let settings = &self.search.local().extra.settings;
            counts.note(&self.ledger.attempts()[entry], outcome, settings, is_only, now);
        }
    }

    /// Makes the backends free whose time has come.
    pub(super) fn release_rested(&mut self) {
        if !self.counts.as_deref().is_some_and(AttemptCounts::has_resting) {
            return;
        }
        let now = self.now();
        let selection = &self.search.local().selection;
        let is_over = |rest: &Rest| {
            let cools_until =
                selection.member(rest.id, rest.position).and_then(|info| info.health.until(Timed::Cooling));
            now.reached(rest.until) && cools_until.is_none_or(|until| now.reached(until))
        };
        if self.counts.as_deref_mut().is_some_and(|counts| counts.release(is_over)) {
            self.search.scan_again();
        }
    }

    /// Plans a wait for the first backend whose time comes, since there is no other one to attempt. Returns whether the
    /// request waits.
    ///
    /// The time is the later one of what the backend named to this request and of its cool-down, which other requests may
    /// have extended. A backend that something else keeps out is not waited for: it was drained, for example, or its
    /// circuit has opened.
    #[cold]
    pub(super) fn waits_for_rested(&mut self) -> bool {
        if self.kept.is_none() || self.ledger.stopped.is_some() || self.settings().mode != Mode::Sequential {
            return false;
        }
        let selection = &self.search.local().selection;
        let ends_at = |rest: &Rest| {
            let health = &selection.member(rest.id, rest.position)?.health;
            let until = health.until(Timed::Cooling).unwrap_or(Moment::EPOCH).max(rest.until);
            health.is_eligible_after(Timed::Cooling).then_some((until, rest.named_at))
        };
        let resting = self.counts.as_deref().map_or(&[][..], AttemptCounts::resting);
        let Some((until, named_at)) = resting.iter().filter_map(ends_at).min() else { return false };
        let cap = self.settings().retry_after_cap;
        self.ledger.stopped = self.plan.wait_for(until, named_at, cap);
        self.ledger.stopped.is_none()
    }
}
