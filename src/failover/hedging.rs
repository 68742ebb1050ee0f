//! When a request is hedged, and when a hedge that is due is not sent.

use std::{pin::Pin, time::Duration};

use super::{Commit, HedgeDelay, Mode, Percentile, Stopped, attempts::Attempts, measure::Pace, progress::Progress};
use crate::{
    body::Replay,
    fleet::{BackendService, MemberInfo},
    outcome::Classify,
    time::Moment,
};

/// How many backends are looked at to learn how fast the others are. More would take time, and change little.
const SAMPLE: usize = 16;

impl<S, H, C, Req> Progress<S, H, C, Req>
where
    S: BackendService<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Reply>,
{
    /// After which time an attempt gets a hedge, and after which it is late at its backend, which is `measured`.
    pub(super) fn hedge_delay(&self, measured: Option<&MemberInfo>, now: Moment) -> Option<(Duration, Pace)> {
        match &self.settings().mode {
            Mode::Hedged(HedgeDelay::After(delay)) => Some((*delay, Pace::new(*delay))),
            Mode::Hedged(HedgeDelay::At(percentile)) => {
                let own = measured?.measured(percentile.latency()).percentile(percentile.share, now);
                let median = self.settings().median.get(percentile, now, || self.median(percentile, now));
                Some((percentile.delay(own, median), Pace::new(percentile.late_after(own))))
            }
            Mode::Race | Mode::Sequential => None,
        }
    }

    /// The median of the percentiles of the backends that serve; of two, the lesser one.
    #[cold]
    fn median(&self, percentile: &Percentile, now: Moment) -> Option<Duration> {
        let selection = &self.search.local().selection;
        // With one backend in the serving tier, those that hedges are sent to.
        let serving = selection.serving_rows();
        let rows = if serving.len() > 1 { serving } else { selection.rows() };
        let measured = sample(rows, now).filter_map(|row| selection.info(row).latency());
        let mut found: Vec<_> = measured.filter_map(|latency| latency.percentile(percentile.share, now)).collect();
        found.sort_unstable();
        found.get(found.len().saturating_sub(1) / 2).copied()
    }

    /// Returns whether a hedge that is due is not sent now, and then plans when it is considered again: the budget has no
    /// token, or all backends that could take it are slow.
    #[cold]
    pub(super) fn is_hedge_withheld(&mut self, running: Pin<&mut Attempts<S, H, C, Req>>) -> bool {
        let now = self.now();
        let delay = self.hedge_delay(running.newest_is_due(now), now).map(|(delay, _)| delay);
        let is_over_budget = self.settings().hedge_budget().is_some_and(|budget| !budget.has_token());
        if is_over_budget || self.is_over_budget() {
            self.ledger.stopped = is_over_budget.then_some(Stopped::OverBudget);
        }
        let is_withheld = is_over_budget || self.settings().measures() && self.are_others_slow(now);
        if is_withheld {
            self.plan.started(now, delay);
        }
        is_withheld
    }

    /// Whether the budget had no token for the last attempt.
    pub(super) fn is_over_budget(&self) -> bool {
        self.ledger.stopped == Some(Stopped::OverBudget)
    }

    /// Whether the budget has a token for an extra attempt, which is taken. The ledger records it if there is none.
    pub(super) fn may_spend(&mut self, is_hedge: bool) -> bool {
        let settings = self.settings();
        let budget = if is_hedge { settings.hedge_budget() } else { settings.budget.as_ref() };
        let has_token = budget.is_none_or(|budget| budget.withdraw());
        if !has_token {
            self.ledger.stopped = Some(Stopped::OverBudget);
        }
        has_token
    }

    /// Whether there are backends without an attempt, and all of them are slow.
    fn are_others_slow(&self, now: Moment) -> bool {
        let (selection, attempts) = (&self.search.local().selection, self.ledger.attempts());
        let infos = sample(selection.rows(), now).map(|row| selection.info(row));
        let mut others = infos.filter(|info| attempts.iter().all(|attempt| attempt.id != info.id)).peekable();
        let is_slow = |info: &MemberInfo| info.latency().is_some_and(|latency| latency.slowness.is_slow(now));
        others.peek().is_some() && others.all(|info| is_slow(info))
    }
}

/// Some of the rows: all of a few, and of many others at other times.
fn sample(rows: &[u32], now: Moment) -> impl Iterator<Item = u32> {
    let first = if rows.len() > SAMPLE { (now.as_nanos() >> 20) as usize % rows.len() } else { 0 };
    (0..rows.len().min(SAMPLE)).map(move |index| rows[(first + index) % rows.len()])
}
