//! One look at the backends that a search may take.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{
    local::Local,
    ready::{Pending, Ready, Refusal, Scope},
};
use crate::{
    fleet::Shard,
    outcome::{FailureKind, Guard},
    pick::{Skip, Strategy},
    rng::Rng,
    shard::slot,
};

/// One look at everything that a search may take.
pub(super) struct Round<'a, 'b, S, C, E> {
    pub(super) cx: &'a mut Context<'b>,
    pub(super) scope: Scope,
    /// Those that failed to get ready in this search.
    pub(super) refused: Skip,
    pub(super) refusals: &'a mut Vec<Refusal<S, C, E>>,
    pub(super) pending: &'a mut Vec<Pending<S, C>>,
}

impl<S, C, E> Round<'_, '_, S, C, E>
where
    S: Clone + Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    pub(super) fn look<Req, P: Strategy, X: Clone>(
        &mut self,
        local: &Local<S, C, P, X>,
        skip: &Skip,
        rng: &mut Rng,
    ) -> Option<Ready<S, C>>
    where
        S: Service<Req, Error = E>,
    {
        let (selection, slot) = (&local.selection, slot());
        let mut tried = skip.clone();
        self.refused.ids().for_each(|id| tried.insert(id));
        // Those that were pending before.
        for Pending { id, shard, mut service, is_probe } in std::mem::take(self.pending) {
            let Some(shard) = shard.upgrade() else { continue };
            let health = &shard.info().health;
            let may_probe =
                || health.on_probation().is_some_and(|circuit| circuit.would_admit(|| shard.info().clock.now()));
            if tried.contains(id) || !(health.is_eligible() || (is_probe && may_probe())) {
                continue;
            }
            tried.insert(id);
            let answer = self.ask(&mut service);
            // The rest leave their places: a search that has found one is over.
            if let Some(ready) = self.take(shard, service, answer, is_probe) {
                return Some(ready);
            }
        }
        let first_probes = selection.ripe().iter().filter(|row| selection.is_of_serving_tier(**row));
        if self.scope == Scope::FirstTier
            && let Some(ready) = first_probes.copied().find_map(|row| self.try_row(local, row, slot, &mut tried, true))
        {
            return Some(ready);
        }
        // By the strategy, while it costs little; then the others, from a random one on, so that what some cannot take
        // does not all go to their neighbour.
        let tier = selection.first_rows();
        for _ in 0..tier.len().min(CHOSEN) {
            let Some(row) = local.choose_another(slot, &tried, rng) else { break };
            if let Some(ready) = self.try_row(local, row, slot, &mut tried, false) {
                return Some(ready);
            }
            tried.insert(selection.info(row).id);
        }
        if tier.len() > CHOSEN {
            let start = rng.below(tier.len());
            let rest = (0..tier.len()).map(|index| tier[(start + index) % tier.len()]);
            if let Some(ready) = rest.into_iter().find_map(|row| self.try_row(local, row, slot, &mut tried, false)) {
                return Some(ready);
            }
        }
        if self.scope == Scope::FirstTier {
            return None;
        }
        let lower = selection.rows()[tier.len()..].iter().map(|row| (*row, false));
        let probes = selection.ripe().iter().map(|row| (*row, true));
        lower.chain(probes).find_map(|(row, is_probe)| self.try_row(local, row, slot, &mut tried, is_probe))
    }

    /// Looks at all backends but those to avoid, where those in line keep their places: an instance that was just let in
    /// and is dropped would pass its turn on to the next request in line, and that one to the next, without an end.
    pub(super) fn look_elsewhere<Req, P: Strategy, X: Clone>(
        &mut self,
        local: &Local<S, C, P, X>,
        avoid: &Skip,
        rng: &mut Rng,
    ) -> Option<Ready<S, C>>
    where
        S: Service<Req, Error = E>,
    {
        let pending = std::mem::take(self.pending).into_iter();
        let (avoided, others): (Vec<_>, Vec<_>) = pending.partition(|pending| avoid.contains(pending.id));
        *self.pending = others;
        let found = self.look(local, avoid, rng);
        self.pending.extend(avoided);
        found
    }

    fn try_row<Req, P: Strategy, X: Clone>(
        &mut self,
        local: &Local<S, C, P, X>,
        row: u32,
        slot: usize,
        tried: &mut Skip,
        is_probe: bool,
    ) -> Option<Ready<S, C>>
    where
        S: Service<Req, Error = E>,
    {
        let info = local.selection.info(row);
        let may_ask = match info.health.on_probation() {
            Some(circuit) if is_probe => circuit.would_admit(|| info.clock.now()),
            _ => !is_probe && info.health.is_eligible(),
        };
        if !may_ask || tried.contains(info.id) {
            return None;
        }
        tried.insert(info.id);
        let shard = local.shard(row, slot)?;
        let mut service = shard.service().clone();
        let answer = self.ask(&mut service);
        self.take(shard, service, answer, is_probe)
    }

    fn ask<Req>(&mut self, service: &mut S) -> Result<Poll<Result<(), E>>, Box<dyn Any + Send>>
    where
        S: Service<Req, Error = E>,
    {
        catch_unwind(AssertUnwindSafe(|| service.poll_ready(self.cx)))
    }

    pub(super) fn take(
        &mut self,
        shard: Arc<Shard<S, C>>,
        service: S,
        answer: Result<Poll<Result<(), E>>, Box<dyn Any + Send>>,
        is_probe: bool,
    ) -> Option<Ready<S, C>> {
        let id = shard.info().id;
        let (error, kind) = match answer {
            Ok(Poll::Ready(Ok(()))) => return Some(Ready { shard, service, is_probe }),
            Ok(Poll::Pending) => {
                self.pending.push(Pending { id, shard: Arc::downgrade(&shard), service, is_probe });
                return None;
            }
            Ok(Poll::Ready(Err(error))) => (Some(error), FailureKind::Other),
            // A door that sends each request once passes it on, unless the request need not have gone there.
            Err(panic) if self.scope == Scope::FirstTier && !is_probe => resume_unwind(panic),
            Err(_) => (None, FailureKind::Panic),
        };
        if is_probe {
            // A failed probe: its circuit opens again, and is not asked by every request from now on.
            let info = shard.info();
            if let Ok(ticket) = info.admit(|| info.clock.now()) {
                Guard::begin(Arc::clone(&shard), ticket).outcome(&kind.into());
            }
        }
        self.refused.insert(id);
        self.refusals.push(Refusal { shard, error });
        None
    }
}

/// How many a search lets the strategy choose.
const CHOSEN: usize = 16;
