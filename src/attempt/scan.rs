//! The order in which a search polls backends.

use std::{num::NonZeroU64, time::Duration};

use super::{local::Local, ready::Sends};
use crate::{
    fleet::WhenFull,
    name::BackendId,
    outcome::PriorityClass,
    pick::{Prefix, Skip, Skipped, Strategy},
    rng::Rng,
    shard::slot,
};

/// The backends that a search may take.
pub(crate) struct Wanted<'a> {
    pub(crate) scope: Scope,
    /// Never these.
    pub(crate) spent: &'a Skip,
    /// The candidates at the beginning of the tier that are all in `spent`.
    pub(crate) prefix: &'a mut Prefix,
    /// These only if no other backend is ready.
    pub(crate) avoid: Option<&'a Skip>,
    /// This one first, by its id and position.
    pub(crate) prefer: Option<(BackendId, u64)>,
    pub(crate) sends: Sends,
    /// How long all of them may be pending.
    pub(crate) within: Option<Duration>,
    pub(crate) at_limit: AtLimit,
    /// Whether no lower tier is considered while a backend of the serving tier is full.
    pub(crate) stays: bool,
}

impl Wanted<'_> {
    /// Considers the lower tiers, and waits for no slot.
    pub(super) fn overflow(&mut self) {
        (self.stays, self.within, self.at_limit) = (false, None, AtLimit::Skip);
    }
}

/// What a search does while no backend is ready and some are full.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum AtLimit {
    /// It waits for a slot.
    Wait,
    /// It waits for a slot in the queue of its class.
    Queue(PriorityClass),
    /// It waits for the pending backends only, and fails if there is none.
    Skip,
}

impl AtLimit {
    /// For `poll_ready`.
    pub(super) fn before_call(when_full: WhenFull) -> Self {
        match when_full {
            WhenFull::Wait => Self::Wait,
            WhenFull::Refuse | WhenFull::Queue(_) => Self::Skip,
        }
    }

    /// For a request whose first attempt has not begun.
    pub(crate) fn in_call(when_full: WhenFull, class: impl FnOnce() -> PriorityClass) -> Self {
        match when_full {
            WhenFull::Wait => Self::Wait,
            WhenFull::Queue(_) => Self::Queue(class()),
            WhenFull::Refuse => Self::Skip,
        }
    }
}

/// The tiers that a search includes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scope {
    /// The serving tier: the first one that has an eligible backend.
    ServingTier,
    /// All tiers, one after the other. For further attempts of a request.
    AllTiers,
}

/// What a search polls next.
pub(super) enum Visit {
    /// The first of the pending instances.
    Pending,
    /// A new instance of the backend in this row, for a probe or for any other request.
    Row { row: u32, is_probe: bool },
}

/// The position of a search in its order: pending instances, due probes, the picks of the strategy, the rest of the
/// tier, and with [`Scope::AllTiers`] the lower tiers and the due probes of all tiers.
///
/// A search that avoids some backends goes through the order twice. The first time it takes none of them, and does not
/// poll their pending instances either: one that became ready and was dropped would hand its turn to the next request in
/// the queue, which would do the same, forever.
pub(super) struct Scan {
    /// The version of the fleet that is being scanned; 0 before the first scan.
    version: u64,
    pub(super) avoids: bool,
    /// Whether only the pending instances are polled, since the rest was scanned before.
    is_sweep: bool,
    /// Whether a backend was full.
    pub(super) has_full: bool,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Pending {
        rest: usize,
    },
    Preferred,
    Probes {
        next: usize,
        /// Whether circuits of lower tiers are probed too, if that is known.
        may_leave: Option<bool>,
    },
    Picks {
        made: usize,
    },
    /// The rest of the tier, beginning at a random row: a fixed order would send all requests of backends that are not
    /// ready to their neighbour.
    Rest {
        start: usize,
        done: usize,
    },
    Lower {
        next: usize,
    },
    LateProbes {
        next: usize,
    },
    Done,
}

impl Scan {
    pub(super) fn new() -> Self {
        Self { version: 0, avoids: false, is_sweep: false, has_full: false, stage: Stage::Done }
    }

    /// Begins a poll of the search: continues a scan that is not done, or begins another one. Returns whether all
    /// backends are scanned again.
    pub(super) fn begin(&mut self, version: u64, avoids: bool, pending: usize) -> bool {
        let is_new = self.version != version;
        if is_new || self.stage == Stage::Done {
            let (has_full, stage) = (self.has_full && !is_new, Stage::Pending { rest: pending });
            *self = Self { version, avoids, is_sweep: !is_new, has_full, stage };
        }
        is_new
    }

    /// Goes on for another attempt of the same request: from its position, except that the strategy picks anew.
    pub(super) fn go_on(&mut self) {
        if let Stage::Picks { made } = &mut self.stage {
            *made = 0;
        }
    }

    /// Begins from the start with the next poll.
    pub(super) fn reset(&mut self) {
        self.version = 0;
    }

    /// Returns what to poll next; `None` once everything was polled.
    pub(super) fn next<S, C, P, X>(
        &mut self,
        local: &Local<S, C, P, X>,
        wanted: &mut Wanted<'_>,
        polled: &Skip,
        pending: usize,
        key: Option<NonZeroU64>,
        rng: &mut Rng,
    ) -> Option<Visit>
    where
        S: Send + Sync + 'static,
        C: Clone + Send + Sync + 'static,
        P: Strategy,
        X: Clone,
    {
        let selection = &local.selection;
        let stays = wanted.stays && self.has_full;
        let (rows, tier, probes_due) = (selection.rows(), selection.serving_rows(), selection.probes_due());
        loop {
            let excluded = wanted.avoid.filter(|_| self.avoids).unwrap_or(wanted.spent);
            let is_free = |row: u32| {
                let id = selection.info(row).id;
                !excluded.contains(id) && !polled.contains(id)
            };
            let (visit, next) = match self.stage {
                Stage::Pending { rest: 0 } if self.is_sweep => (None, Stage::Done),
                Stage::Pending { rest: 0 } => (None, Stage::Preferred),
                Stage::Pending { rest } => (Some(Visit::Pending), Stage::Pending { rest: rest - 1 }),
                Stage::Preferred => {
                    let may_poll = |(id, _): &(BackendId, u64)| !wanted.spent.contains(*id) && !polled.contains(*id);
                    let preferred = wanted.prefer.filter(may_poll);
                    let row = preferred.and_then(|(id, position)| selection.eligible_row(id, position));
                    let next = match wanted.scope {
                        Scope::ServingTier => Stage::Probes { next: 0, may_leave: None },
                        Scope::AllTiers => Stage::Picks { made: 0 },
                    };
                    (row.map(regular), next)
                }
                Stage::Probes { next, mut may_leave } => match probes_due.get(next) {
                    None => (None, Stage::Picks { made: 0 }),
                    Some(row) => {
                        // The circuit of a spare backend is probed too, so that it is closed before the backend is
                        // needed; but only by a few of the requests, and by none that cannot be sent again. Such a
                        // request polls the spares until one is ready, so that one that is not does not keep the others
                        // from being probed.
                        let may_probe = is_free(*row)
                            && selection.info(*row).may_probe()
                            && local.may_probe(*row, key, rng)
                            && (selection.is_in_serving_tier(*row)
                                || *may_leave.get_or_insert_with(|| {
                                    wanted.sends == Sends::Again && local.core.take_spare_turn()
                                }));
                        (may_probe.then(|| probe(*row)), Stage::Probes { next: next + 1, may_leave })
                    }
                },
                Stage::Picks { made } if made < MAX_PICKS && made < tier.len() => {
                    let prefix = wanted.prefix.update(selection.tier_version, &selection.serving_tier(), wanted.spent);
                    let skipped = Skipped::new(excluded, polled, prefix);
                    match local.select_another(slot(), skipped, made == 0, key, rng) {
                        Some(row) => (Some(regular(row)), Stage::Picks { made: made + 1 }),
                        None => (None, Stage::Lower { next: tier.len() }),
                    }
                }
                Stage::Picks { .. } if tier.len() <= MAX_PICKS => (None, Stage::Lower { next: tier.len() }),
                Stage::Picks { .. } => (None, Stage::Rest { start: rng.below(tier.len()), done: 0 }),
                Stage::Rest { start, done } if done < tier.len() => {
                    let row = Some(tier[(start + done) % tier.len()]).filter(|row| is_free(*row));
                    (row.map(regular), Stage::Rest { start, done: done + 1 })
                }
                Stage::Rest { .. } => (None, Stage::Lower { next: tier.len() }),
                Stage::Lower { .. } if wanted.scope == Scope::ServingTier => (None, Stage::Done),
                Stage::Lower { next } if stays && next == tier.len() => (None, Stage::LateProbes { next: 0 }),
                Stage::Lower { next } => match rows.get(next) {
                    Some(row) => (Some(*row).filter(|row| is_free(*row)).map(regular), Stage::Lower { next: next + 1 }),
                    None => (None, Stage::LateProbes { next: 0 }),
                },
                Stage::LateProbes { next } => match probes_due.get(next) {
                    Some(row) => {
                        let may_leave = !stays || selection.is_in_serving_tier(*row);
                        let may_probe = may_leave && is_free(*row) && selection.info(*row).may_probe();
                        (may_probe.then(|| probe(*row)), Stage::LateProbes { next: next + 1 })
                    }
                    None => (None, Stage::Done),
                },
                Stage::Done if self.avoids => {
                    self.avoids = false;
                    (None, Stage::Pending { rest: pending })
                }
                Stage::Done => return None,
            };
            self.stage = next;
            if visit.is_some() {
                return visit;
            }
        }
    }
}

fn regular(row: u32) -> Visit {
    Visit::Row { row, is_probe: false }
}

fn probe(row: u32) -> Visit {
    Visit::Row { row, is_probe: true }
}

/// How many picks of the strategy are polled before the rest of the tier.
const MAX_PICKS: usize = 16;
