//! One round of `poll_ready` over the backends that a search may take.

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

/// One round of `poll_ready` over the backends that a search may take.
pub(super) struct Round<'a, 'b, S, C, E> {
    pub(super) cx: &'a mut Context<'b>,
    pub(super) scope: Scope,
    /// The backends whose `poll_ready` failed in this search.
    pub(super) refused: Skip,
    pub(super) refusals: &'a mut Vec<Refusal<S, C, E>>,
    pub(super) pending: &'a mut Vec<Pending<S, C>>,
}

impl<S, C, E> Round<'_, '_, S, C, E>
where
    S: Clone + Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    /// Polls backends until one is ready. Does not poll those in `skip`.
    ///
    /// Polls the pending instances first, then a due probe, then the picks of the strategy.
    pub(super) fn run<Req, P: Strategy, X: Clone>(
        &mut self,
        local: &Local<S, C, P, X>,
        skip: &Skip,
        rng: &mut Rng,
    ) -> Option<Ready<S, C>>
    where
        S: Service<Req, Error = E>,
    {
        let (selection, slot) = (&local.selection, slot());
        let mut polled = skip.clone();
        self.refused.ids().for_each(|id| polled.insert(id));
        for Pending { id, shard, mut service, is_probe } in std::mem::take(self.pending) {
            let Some(shard) = shard.upgrade() else { continue };
            let health = &shard.info().health;
            let may_probe =
                || health.on_probation().is_some_and(|circuit| circuit.would_admit(|| shard.info().clock.now()));
            if polled.contains(id) || !(health.is_eligible() || (is_probe && may_probe())) {
                continue;
            }
            polled.insert(id);
            let result = self.poll_instance(&mut service);
            // The other pending instances are dropped: the search is over.
            if let Some(ready) = self.accept(shard, service, result, is_probe) {
                return Some(ready);
            }
        }
        let mut probes = selection.probes_due().iter().copied().filter(|row| selection.is_in_serving_tier(*row));
        if self.scope == Scope::ServingTier
            && let Some(ready) = probes.find_map(|row| self.poll_row(local, row, slot, &mut polled, true))
        {
            return Some(ready);
        }
        // First the picks of the strategy, as far as they are cheap. Then the others, beginning at a random one, so
        // that their neighbour does not get all the requests of backends that are not ready.
        let tier = selection.serving_rows();
        for _ in 0..tier.len().min(MAX_PICKS) {
            let Some(row) = local.select_another(slot, &polled, rng) else { break };
            if let Some(ready) = self.poll_row(local, row, slot, &mut polled, false) {
                return Some(ready);
            }
            polled.insert(selection.info(row).id);
        }
        if tier.len() > MAX_PICKS {
            let start = rng.below(tier.len());
            let rest = (0..tier.len()).map(|index| tier[(start + index) % tier.len()]);
            if let Some(ready) = rest.into_iter().find_map(|row| self.poll_row(local, row, slot, &mut polled, false)) {
                return Some(ready);
            }
        }
        if self.scope == Scope::ServingTier {
            return None;
        }
        let lower = selection.rows()[tier.len()..].iter().map(|row| (*row, false));
        let probes = selection.probes_due().iter().map(|row| (*row, true));
        lower.chain(probes).find_map(|(row, is_probe)| self.poll_row(local, row, slot, &mut polled, is_probe))
    }

    /// Runs a round without the backends in `avoid`. Their pending instances are kept and not polled: one that became
    /// ready and was dropped would hand its turn to the next request in the queue, which would do the same, forever.
    pub(super) fn run_avoiding<Req, P: Strategy, X: Clone>(
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
        let found = self.run(local, avoid, rng);
        self.pending.extend(avoided);
        found
    }

    /// Polls a new instance of the backend in a row, unless it was polled before or is not eligible.
    fn poll_row<Req, P: Strategy, X: Clone>(
        &mut self,
        local: &Local<S, C, P, X>,
        row: u32,
        slot: usize,
        polled: &mut Skip,
        is_probe: bool,
    ) -> Option<Ready<S, C>>
    where
        S: Service<Req, Error = E>,
    {
        let info = local.selection.info(row);
        let may_poll = match info.health.on_probation() {
            Some(circuit) if is_probe => circuit.would_admit(|| info.clock.now()),
            _ => !is_probe && info.health.is_eligible(),
        };
        if !may_poll || polled.contains(info.id) {
            return None;
        }
        polled.insert(info.id);
        let shard = local.shard(row, slot)?;
        let mut service = shard.service().clone();
        let result = self.poll_instance(&mut service);
        self.accept(shard, service, result, is_probe)
    }

    fn poll_instance<Req>(&mut self, service: &mut S) -> Result<Poll<Result<(), E>>, Box<dyn Any + Send>>
    where
        S: Service<Req, Error = E>,
    {
        catch_unwind(AssertUnwindSafe(|| service.poll_ready(self.cx)))
    }

    /// Processes the result of a `poll_ready`: returns an instance that is ready, keeps a pending one, notes a failure.
    pub(super) fn accept(
        &mut self,
        shard: Arc<Shard<S, C>>,
        service: S,
        result: Result<Poll<Result<(), E>>, Box<dyn Any + Send>>,
        is_probe: bool,
    ) -> Option<Ready<S, C>> {
        let id = shard.info().id;
        let (error, kind) = match result {
            Ok(Poll::Ready(Ok(()))) => return Some(Ready { shard, service, is_probe }),
            Ok(Poll::Pending) => {
                self.pending.push(Pending { id, shard: Arc::downgrade(&shard), service, is_probe });
                return None;
            }
            Ok(Poll::Ready(Err(error))) => (Some(error), FailureKind::Other),
            // A door that sends each request once passes the panic to its caller. Not that of a probe, since another
            // backend can serve the request.
            Err(panic) if self.scope == Scope::ServingTier && !is_probe => resume_unwind(panic),
            Err(_) => (None, FailureKind::Panic),
        };
        if is_probe {
            // Counts as a failed probe, so that the circuit opens again. Otherwise every request would poll the
            // backend.
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

/// How many picks of the strategy are polled in one round.
const MAX_PICKS: usize = 16;
