//! The bound on the load of each candidate.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::shard::{PerThreadU64, SLOTS};

/// The most calls in flight that a candidate may have, relative to the others: its part of all calls in flight, times a
/// factor.
///
/// Consistent hashing with bounded loads: Mirrokni, Thorup and Zadimoghaddam, 2016.
#[derive(Debug)]
pub(super) struct Bound {
    /// The factor times the part of each candidate, by its weight and its share.
    parts: Box<[f64]>,
    total: Total,
}

impl Bound {
    /// Makes the bound for candidates of these capacities, which are positive.
    pub(super) fn new(factor: f64, capacities: &[f64]) -> Self {
        let sum: f64 = capacities.iter().sum();
        let parts = capacities.iter().map(|capacity| factor * capacity / sum).collect();
        Self { parts, total: Total::new(capacities.len()) }
    }

    /// Returns whether a candidate may get one more call. `load` returns the number of calls in flight at a candidate.
    #[inline]
    pub(super) fn admits(
        &self,
        number: usize,
        slot: usize,
        sum: &mut Option<u64>,
        load: impl Fn(usize) -> u32,
    ) -> bool {
        let own = load(number);
        // An idle one may always get one: all bounds are rounded up.
        own == 0 || {
            let sum = *sum.get_or_insert_with(|| self.total.sum(slot, self.parts.len(), load));
            f64::from(own) + 1.0 <= self.most(number, sum + 1)
        }
    }

    /// Returns the bound of a candidate while there are this many calls in flight.
    fn most(&self, number: usize, sum: u64) -> f64 {
        // Less by what the multiplications may have added, which would be rounded up to a whole call.
        (self.parts[number] * sum as f64 * (1.0 - 1e-12)).ceil()
    }

    /// Returns how full a candidate would be with one more call.
    pub(super) fn fill(&self, number: usize, load: u32) -> f64 {
        (f64::from(load) + 1.0) / self.parts[number]
    }
}

/// The calls in flight at all candidates.
#[derive(Debug)]
enum Total {
    /// Summed for each request that needs it.
    Exact,
    /// Summed by each thread once in a while, since that many counters are not read for each request.
    Kept {
        sum: AtomicU64,
        /// The requests of each thread.
        requests: PerThreadU64,
    },
}

/// The most candidates whose calls are summed for each request, and how many are read per request on average if there
/// are more.
const MAX_SUMMED: usize = 32;

impl Total {
    fn new(candidates: usize) -> Self {
        match candidates {
            ..=MAX_SUMMED => Self::Exact,
            _ => Self::Kept { sum: AtomicU64::new(0), requests: PerThreadU64::new(SLOTS) },
        }
    }

    fn sum(&self, slot: usize, candidates: usize, load: impl Fn(usize) -> u32) -> u64 {
        let exact = || (0..candidates).map(|number| u64::from(load(number))).sum();
        let Self::Kept { sum, requests } = self else { return exact() };
        let request = requests.update(slot, |request| (request + 1, request));
        if request % (candidates / MAX_SUMMED) as u64 != 0 {
            return sum.load(Ordering::Relaxed);
        }
        let exact = exact();
        sum.store(exact, Ordering::Relaxed);
        exact
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Admits calls in random order of preference, and ends some of them, with the capacities of the candidates.
    fn play(seed: u64, factor: f64, capacities: &[f64], mut check: impl FnMut(&[u32], usize, &Bound)) {
        let (bound, mut rng) = (Bound::new(factor, capacities), fastrand::Rng::with_seed(seed));
        let mut loads = vec![0_u32; capacities.len()];
        for _ in 0..2_000 {
            if rng.u32(..100) < 45 {
                let busy: Vec<_> = (0..loads.len()).filter(|number| loads[*number] > 0).collect();
                if !busy.is_empty() {
                    loads[busy[rng.usize(..busy.len())]] -= 1;
                }
                continue;
            }
            // Half of the calls are of one hot key.
            let start = if rng.bool() { 0 } else { rng.usize(..loads.len()) };
            let mut sum = None;
            let mut order = (start..loads.len()).chain(0..start);
            let admitted = order.find(|number| bound.admits(*number, 1, &mut sum, |other| loads[other]));
            let admitted = admitted.expect("not all candidates are over their parts of the sum");
            loads[admitted] += 1;
            check(&loads, admitted, &bound);
        }
    }

    // C48
    #[test]
    fn no_admitted_call_exceeds_the_part_of_its_candidate() {
        for (seed, factor) in [(1, 1.25), (2, 1.000_1), (3, 2.0), (4, 1.01)] {
            for capacities in [vec![1.0; 2], vec![1.0; 10], vec![5.0, 3.0, 1.0, 0.1], vec![1.0, 1e-3], vec![2.0; 32]] {
                let parts: f64 = capacities.iter().sum();
                let mut most: f64 = 0.0;
                play(seed, factor, &capacities, |loads, number, _| {
                    let sum: u32 = loads.iter().sum();
                    let allowed = (factor * f64::from(sum) * capacities[number] / parts * (1.0 - 1e-12)).ceil();
                    assert!(f64::from(loads[number]) <= allowed, "{loads:?}: {number} exceeds {allowed}");
                    most = most.max(f64::from(loads[number]) / allowed);
                });
                assert!(most > 0.99, "the hot candidate is filled up to its bound, not {most} of it");
            }
        }
    }

    // C48
    #[test]
    fn the_sum_of_many_candidates_is_renewed_after_some_requests() {
        let candidates = 10 * MAX_SUMMED;
        let (bound, mut loads) = (Bound::new(1.25, &vec![1.0; candidates]), vec![1_u32; candidates]);
        let mut reads = 0;
        let mut admits = |loads: &[u32], number: usize| {
            let read = std::cell::Cell::new(0);
            let admits = bound.admits(number, 1, &mut None, |other| {
                read.set(read.get() + 1);
                loads[other]
            });
            reads += read.get();
            admits
        };
        for _ in 0..10 {
            assert!(admits(&loads, 0), "a second call, of 1.25 rounded up");
        }
        // The mean is now 100.
        loads = vec![100; candidates];
        let refused = (0..11).take_while(|_| !admits(&loads, 0)).count();
        assert!(refused <= 10, "the sum is renewed");
        let requests = 10 + refused + 1;
        assert!(reads <= 2 * candidates + 2 * requests + candidates, "{reads} counters read for {requests} requests");
    }
}
