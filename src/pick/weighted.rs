use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{Candidate, Pick, Rng};
use crate::fleet::BackendId;

mod order;

use order::Order;

/// Smooth weighted round robin: each backend gets its share in every period, as evenly spread as it can be, ties to
/// the first. Weights 3, 2, 1 give `abacba`, exactly, also when many choose at once.
///
/// The order of one period is computed when the set changes. Where it would be too long to hold (more than a million
/// steps, from primes in the thousands or very many different weights), shares are still exact in every period and
/// evenly spread, by a low-discrepancy sequence instead.
///
/// When backends come and go, everybody keeps what it is owed, so that a backend that flaps neither starts with a burst
/// nor gives the first in line one.
#[derive(Debug, Default)]
pub struct Weighted {
    ticket: AtomicU64,
    order: Order,
    /// What a backend was owed when the order began, in requests. Also of those who are away, for when they come back.
    owed: HashMap<BackendId, f64>,
}

impl Weighted {
    /// Begins with nobody owed anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// What everybody is owed at this point: its share so far, less what it got.
    fn accounts(&self, before: &[Candidate], ticket: u64) -> HashMap<BackendId, f64> {
        let mut owed = self.owed.clone();
        for (candidate, lag) in before.iter().zip(self.order.lags(ticket)) {
            *owed.entry(candidate.id()).or_default() += lag;
        }
        owed
    }
}

impl Pick for Weighted {
    fn renew(&self, before: &[Candidate], now: &[Candidate]) -> Self {
        let ticket = self.ticket.load(Ordering::Relaxed);
        let mut owed = self.accounts(before, ticket);
        if owed.len() > 2 * now.len() + REMEMBERED {
            // Backends that left for good: their ids never come back.
            let present: HashSet<_> = now.iter().map(Candidate::id).collect();
            owed.retain(|id, _| present.contains(id));
        }
        let weights: Vec<u32> = now.iter().map(|candidate| candidate.weight().get()).collect();
        let wanted: Vec<f64> = now.iter().map(|candidate| *owed.get(&candidate.id()).unwrap_or(&0.0)).collect();
        Self { ticket: AtomicU64::new(0), order: Order::new(&weights, &wanted), owed }
    }

    #[inline]
    fn pick(&self, _: &[Candidate], _: &mut Rng) -> usize {
        self.order.at(self.ticket.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
impl Weighted {
    /// How many accounts are kept.
    pub(super) fn remembers(&self) -> usize {
        self.owed.len()
    }
}

/// So many who are away are remembered in any case.
const REMEMBERED: usize = 64;
