use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use crate::{
    fleet::{Candidates, FleetCore, Selection, Shard, Shared},
    pick::{Pick, PickContext, SKIP_NONE, Skip, Strategy},
    rng::Rng,
    shard::slot,
    telemetry,
};

/// What all clones of a door share: a fleet, a strategy, and what the door adds.
struct Group<S, C, P: Strategy, X> {
    fleet: Arc<Shared<S, C>>,
    strategy: P,
    extra: X,
    /// Made by the first request that sees a change.
    choice: Mutex<Choice<S, C, P>>,
}

/// The selection of the fleet, and the pick for its first tier.
struct Choice<S, C, P: Strategy> {
    selection: Arc<Selection<S, C>>,
    pick: Option<Arc<P::Pick>>,
    /// The selection with the candidates that the pick was made for.
    made_for: Arc<Selection<S, C>>,
}

/// The choice of one version as one thread refers to it. Held by the doors of that thread, and by the requests that may
/// need another backend: apart from other memory, since each of them counts a reference.
#[repr(align(128))]
pub(crate) struct Local<S, C, P: Strategy, X> {
    pub(crate) core: Arc<FleetCore>,
    pub(crate) selection: Arc<Selection<S, C>>,
    /// Of the selection, beside what is read with it.
    version: u64,
    pub(super) has_ripe: bool,
    pick: Option<Arc<P::Pick>>,
    /// The candidates of the pick as this thread refers to them; none of a large fleet, whose references are looked up.
    near: Box<[Weak<Shard<S, C>>]>,
    slot: usize,
    pub(crate) extra: X,
    group: Arc<Group<S, C, P, X>>,
}

impl<S, C, P, X> Group<S, C, P, X>
where
    S: Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
    P: Strategy,
    X: Clone,
{
    fn local(self: &Arc<Self>, slot: usize) -> Arc<Local<S, C, P, X>> {
        let mut choice = self.choice.lock().unwrap_or_else(PoisonError::into_inner);
        if choice.selection.version != self.fleet.core.version() {
            self.renew(&mut choice);
        }
        let selection = Arc::clone(&choice.selection);
        Arc::new(Local {
            core: Arc::clone(&self.fleet.core),
            version: selection.version,
            has_ripe: !selection.ripe().is_empty(),
            near: selection.near(slot),
            selection,
            pick: choice.pick.clone(),
            slot,
            extra: self.extra.clone(),
            group: Arc::clone(self),
        })
    }

    #[cold]
    fn renew(&self, choice: &mut Choice<S, C, P>) {
        choice.selection = self.fleet.selection();
        let candidates = choice.selection.first_tier();
        // With no candidate, what was learnt waits for the next one.
        let is_made = choice.pick.is_some() && choice.made_for.tier_version == choice.selection.tier_version;
        if candidates.is_empty() || is_made {
            return;
        }
        let before = choice.made_for.first_tier();
        let before = choice.pick.as_deref().map(|pick| (pick, &before));
        // A strategy may be the caller's code. One that panics leaves the choice to chance.
        let made = catch_unwind(AssertUnwindSafe(|| self.strategy.make(&candidates, before)));
        if made.is_err() {
            telemetry::strategy_panicked(&self.fleet.core.name);
        }
        choice.pick = made.ok().map(Arc::new);
        choice.made_for = Arc::clone(&choice.selection);
    }
}

impl<S, C, P, X> Local<S, C, P, X>
where
    S: Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
    P: Strategy,
    X: Clone,
{
    #[inline(always)]
    pub(super) fn is_current(&self) -> bool {
        self.version == self.core.version()
    }

    /// The first one of a door.
    pub(super) fn first(fleet: &Arc<Shared<S, C>>, strategy: P, extra: X) -> Arc<Self> {
        let selection = fleet.selection();
        let choice = Choice { made_for: Arc::clone(&selection), selection, pick: None };
        let group = Group { fleet: Arc::clone(fleet), strategy, extra, choice: Mutex::new(choice) };
        let mut choice = group.choice.lock().unwrap_or_else(PoisonError::into_inner);
        group.renew(&mut choice);
        drop(choice);
        Arc::new(group).local(slot())
    }

    /// That of this thread as of now.
    pub(super) fn renewed(&self) -> Arc<Self> {
        self.at(slot())
    }

    /// That of the threads with this slot as of now.
    pub(super) fn at(&self, slot: usize) -> Arc<Self> {
        self.group.local(slot)
    }

    #[inline(always)]
    pub(super) fn slot(&self) -> usize {
        self.slot
    }

    /// The strategy's choice for the next request; none when no backend is eligible, or it was removed just now.
    #[inline(always)]
    pub(super) fn choose(&self, slot: usize, rng: &mut Rng) -> Option<Arc<Shard<S, C>>> {
        let candidates = self.selection.first_tier();
        if candidates.is_empty() {
            return None;
        }
        let number = self.ask(&candidates, slot, &SKIP_NONE, rng);
        match self.near.get(number) {
            Some(shard) => shard.upgrade(),
            None => self.selection.shard(*self.selection.first_rows().get(number)?, slot),
        }
    }

    /// The strategy's choice, or that of chance where the strategy makes none.
    #[inline(always)]
    fn ask(&self, candidates: &Candidates<'_>, slot: usize, skip: &Skip, rng: &mut Rng) -> usize {
        let number = match &self.pick {
            Some(pick) => {
                let now = || self.core.clock.now();
                pick.pick(candidates, &mut PickContext::new(rng, skip, &now, slot))
            }
            None => usize::MAX,
        };
        if number < candidates.len() { number } else { rng.below(candidates.len()) }
    }

    /// The strategy's choice among those that are not skipped, by row; none when all of the first tier are skipped.
    pub(super) fn choose_another(&self, slot: usize, skip: &Skip, rng: &mut Rng) -> Option<u32> {
        let (candidates, rows) = (self.selection.first_tier(), self.selection.first_rows());
        if candidates.is_empty() {
            return None;
        }
        for _ in 0..ASKED {
            let number = self.ask(&candidates, slot, skip, rng);
            if !skip.contains(candidates[number].id()) {
                return Some(rows[number]);
            }
        }
        let first = rng.below(rows.len());
        let mut rest = (0..rows.len()).map(|index| (first + index) % rows.len());
        rest.find(|number| !skip.contains(candidates[*number].id())).map(|number| rows[number])
    }

    /// The member in a row as this thread refers to it; none when it was removed just now.
    #[inline]
    pub(super) fn shard(&self, row: u32, slot: usize) -> Option<Arc<Shard<S, C>>> {
        self.selection.shard(row, slot)
    }
}

/// How often a strategy is asked that chooses what it is told to skip.
const ASKED: usize = 4;

impl<S, C, P: Strategy, X> fmt::Debug for Local<S, C, P, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("fleet", &self.core.name).field("backends", &self.core.snapshot()).finish()
    }
}
