//! The rounds of a search: each polls the backends, and ends with a wait if none is ready.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower::BoxError;
use tower_service::Service;

use super::{
    ready::{Ready, Refusal, Turn, Unready},
    scan::{AtLimit, Scope, Wanted},
    search::{Polled, ReadySearch},
    state::{Scanned, SearchState},
    turn::{take_slot, wait_for_slot},
    underway::Underway,
    wait::Wait,
};
use crate::{
    fleet::MemberInfo,
    pick::{Skip, Strategy},
};

impl<S, C, P, X> ReadySearch<S, C, P, X>
where
    S: Clone + Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
    P: Strategy,
    X: Clone,
{
    /// Searches for a request whose first pick, with its result in `first`, was not ready.
    #[cold]
    pub(super) fn search<Req>(
        &mut self,
        cx: &mut Context<'_>,
        mut wanted: Wanted<'_>,
        refusals: &mut Vec<Refusal>,
        first: Option<Polled<S, C, S::Error>>,
    ) -> Poll<Result<Ready<S, C>, Unready>>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        let mut underway = self.underway.take().unwrap_or_default();
        let Underway { state, has_found, since, wait, turn, rescans_at, overflows } = &mut *underway;
        if let Some(wait) = wait {
            wait.unregister();
        }
        self.renew();
        let now = self.local.core.clock.now();
        if wanted.stays && *overflows {
            wanted.overflow();
        }
        let mut ends = wanted.within.map(|within| since.get_or_insert(now).after(within));
        state.forgive(now);
        if rescans_at.take_if(|at| now.reached(*at)).is_some() {
            state.scan_again();
        }
        let mut first = first.and_then(|(instance, polled)| state.accept(instance, polled));
        if first.is_none() && turn.is_some() {
            match take_slot(turn, state, cx, &self.local, &wanted) {
                Ok(found) => first = found,
                Err(full) => return Poll::Ready(Err(full)),
            }
        }
        for _ in 0..MAX_ROUNDS {
            let scanned = match first.take() {
                Some(ready) => Scanned::Ready(ready),
                None => state.poll(cx, &self.local, &mut wanted, self.key, &mut self.rng),
            };
            refusals.append(&mut state.refusals);
            match scanned {
                Scanned::Ready(ready) => {
                    if let Some(mut wait) = wait.take()
                        && ready.is_probe()
                    {
                        wait.used();
                    }
                    let mut ready = ready;
                    ready.set_turn(turn.take());
                    (*has_found, *since, *rescans_at) = (true, None, None);
                    self.underway = Some(underway);
                    return Poll::Ready(Ok(ready));
                }
                _ if (state.is_pending() || state.has_full()) && ends.is_some_and(|ends| now.reached(ends)) => {
                    if wanted.scope == Scope::ServingTier {
                        return Poll::Ready(Err(Unready::OutOfTime));
                    }
                    (*overflows, *turn, ends) = (true, None, None);
                    wanted.overflow();
                    state.scan_again();
                    continue;
                }
                Scanned::Unfinished => break,
                Scanned::Nothing => {}
            }
            let waits = wanted.at_limit != AtLimit::Skip && state.has_full();
            // A slot that the request has got is kept while its instance is pending.
            if !waits && !matches!(turn.as_deref(), Some(Turn::Granted(..))) {
                *turn = None;
            }
            let version = self.local.selection.version;
            // Registers the waker before it reads the version again, so that no change in between is missed.
            let must_repeat = if state.is_pending() || waits {
                // A slot that was freed before the task had its place was announced to others.
                let mut is_new = false;
                if waits {
                    let Some((registered, check)) = wait_for_slot(turn, wanted.at_limit, cx, &self.local.core) else {
                        return Poll::Ready(Err(self.local.unready(false, true)));
                    };
                    is_new = registered;
                    // Not later than before: the task may be woken more often than that, for a permit.
                    *rescans_at = check.map(|check| rescans_at.unwrap_or_else(|| now.after(check)));
                }
                let wait = wait.get_or_insert_with(|| Wait::new(&self.local.core));
                wait.register(cx, &self.local.core, now, [ends, state.forgives_at(), *rescans_at]) || is_new
            } else {
                // A tier is not left because its backends are full or fail to become ready: those below it are not missed.
                let stays = match wanted.scope {
                    Scope::ServingTier => state.has_full() || !refusals.is_empty(),
                    Scope::AllTiers => state.has_full() && wanted.stays,
                };
                !stays && self.misses(state, wanted.spent)
            };
            if must_repeat {
                state.scan_again();
            }
            self.renew();
            // The fleet may have changed while its backends were polled.
            let is_final = self.local.selection.version == version && !must_repeat;
            if is_final && !state.is_pending() && !waits {
                return Poll::Ready(Err(self.local.unready(!refusals.is_empty(), state.has_full())));
            }
            if is_final {
                self.underway = Some(underway);
                return Poll::Pending;
            }
        }
        // The fleet is too large for one poll, or changes faster than it is polled. Yields to other tasks.
        cx.waker().wake_by_ref();
        self.underway = Some(underway);
        Poll::Pending
    }

    /// Returns whether the last round missed an eligible backend: its circuit has an unpublished transition.
    fn misses(&self, state: &SearchState<S, C>, spent: &Skip) -> bool {
        let (core, selection) = (&self.local.core, &self.local.selection);
        let is_missed = |info: &Arc<MemberInfo>| {
            let is_full = state.has_full() && info.is_full();
            info.health.is_eligible() && !spent.contains(info.id) && !state.has_polled(info.id) && !is_full
        };
        if core.has_ejection_limits() {
            core.note_openings(selection.infos());
            selection.infos().any(is_missed)
        } else {
            selection.rows().iter().any(|row| is_missed(selection.info(*row)))
        }
    }
}

/// How many rounds one poll makes if the fleet changes meanwhile.
const MAX_ROUNDS: u32 = 3;
