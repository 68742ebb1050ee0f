//! Finds the backend of the next attempt.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use super::{
    Attempted, Commit, Ending,
    counts::AttemptCounts,
    progress::{LastFailure, Progress},
};
use crate::{
    attempt::{AtLimit, Ready, Refusal, Scope, Sends, Unready, Wanted},
    body::Replay,
    fleet::BackendService,
    outcome::{Classify, FailureKind, inspect},
    pick::Prefix,
};

impl<S, H, C, Req> Progress<S, H, C, Req>
where
    S: BackendService<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Reply>,
{
    /// Counts the attempts at each backend, and leaves out those that may not get the request.
    pub(super) fn count(&mut self) -> &AttemptCounts {
        let (local, brought) = (self.search.local(), self.brought.as_deref());
        let eligible = local.selection.rows().len();
        let begin = || Box::new(brought.map(|brought| brought.counts(eligible)).unwrap_or_default());
        let counts = self.counts.get_or_insert_with(begin);
        let begins_race = counts.count(self.ledger.attempts(), &local.extra.settings, self.plan.is_racing);
        if let Some(brought) = brought.filter(|brought| brought.only.is_some()) {
            let others = local.selection.infos().filter(|info| !brought.allows(&info.name));
            for info in others {
                if !counts.spent.contains(info.id) {
                    counts.leave_out(info.id);
                }
            }
        }
        if begins_race {
            self.search.scan_again();
        }
        counts
    }

    /// How many entries of the ledger are of an earlier run of the request.
    pub(super) fn earlier(&self) -> usize {
        self.brought.as_ref().map_or(0, |brought| brought.entries())
    }

    /// Finds the next backend that is ready: the same one as before if the plan keeps it. Otherwise a backend without
    /// an attempt comes before one that had an attempt; a hedge takes no other.
    pub(super) fn poll_backend(&mut self, cx: &mut Context<'_>, is_hedge: bool) -> Poll<Option<Ready<S, C>>> {
        self.count();
        self.release_rested();
        self.leave_out_untagged();
        let last = self.ledger.attempts().last().map(|last| (last.id, last.position));
        let prefers_new = !self.plan.is_racing && last.is_some() && self.settings().attempts_per_backend > 1;
        // Those whose bodies broke off in an earlier run count as attempted.
        let prefers_new = prefers_new || self.earlier() > 0;
        // The first attempt waits like `poll_ready`. Those after it wait for no slot.
        let is_first = !self.has_called();
        let within = self.settings().ready_within().filter(|_| is_first);
        let class = || {
            let classifier = self.search.local().classifier();
            self.kept.as_ref().map(|request| classifier.class(request)).unwrap_or_default()
        };
        let when_full = self.search.local().core.slots.when_full;
        let at_limit = if is_first { AtLimit::in_call(when_full, class) } else { AtLimit::Skip };
        let counts = self.counts.as_deref_mut().expect("the attempts were counted");
        let (spent, prefix) = match is_hedge {
            true => (&counts.attempted, &mut Prefix::default()),
            false => (&counts.spent, &mut counts.prefix),
        };
        let wanted = Wanted {
            scope: Scope::AllTiers,
            spent,
            prefix,
            avoid: prefers_new.then_some(&counts.attempted),
            prefer: last.filter(|_| self.plan.same_backend),
            sends: Sends::Again,
            within,
            at_limit,
            stays: is_first,
        };
        let mut refusals = Vec::new();
        let found = self.search.poll_further::<H::Request>(cx, wanted, &mut refusals);
        self.record_refusals(refusals);
        found.map(|found| {
            self.full = if let Err(Unready::AtLimit(backends)) = found { backends } else { 0 };
            found.ok()
        })
    }

    /// Adds the backends that failed to become ready to the ledger.
    fn record_refusals(&mut self, refusals: Vec<Refusal>) {
        for Refusal { id, position, name: backend, error, .. } in refusals {
            let outcome = error.as_ref().map_or(FailureKind::Panic.into(), |error| inspect(&**error));
            let (ending, took) = (Ending::NotReady { outcome }, Duration::ZERO);
            self.ledger.entries.push(Attempted { backend, ending, took, note: None, id, position });
            self.last = self.last.take().or(error.map(LastFailure::Error));
        }
    }
}
