//! The order of the backends for each key: weighted rendezvous hashing.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::rng::mix;

/// Ranks the backends of a tier for each key.
///
/// The rank of a backend depends on the key, and on the name and weight of the backend, and on nothing else. So when a
/// backend leaves, its keys move to the next backend in their order, and no other key moves.
#[derive(Debug)]
pub(super) struct Ranks {
    /// A hash of each name, in the order of the tier.
    seeds: Box<[u64]>,
    /// `None` if all weights are equal.
    weights: Option<Box<[f64]>>,
    /// The first backends of recent keys. `None` for a small tier, which is searched as fast.
    recent: Option<Recent>,
}

impl Ranks {
    /// Makes the ranks for the hashes of the names, and for the weights.
    pub(super) fn new(seeds: Box<[u64]>, weights: &[u32]) -> Self {
        let is_equal = weights.iter().all(|weight| *weight == weights[0]);
        let weights = (!is_equal).then(|| weights.iter().copied().map(f64::from).collect());
        let recent = (seeds.len() > MAX_SEARCHED).then(|| Recent::new(seeds.len()));
        Self { seeds, weights, recent }
    }

    /// Returns the first backend of a key, as a place of the tier.
    #[inline]
    pub(super) fn first(&self, key: u64) -> usize {
        let Some(recent) = &self.recent else { return self.first_accepted(key, |_| true).unwrap_or(0) };
        recent.get(key).unwrap_or_else(|| {
            let first = self.first_accepted(key, |_| true).unwrap_or(0);
            recent.set(key, first);
            first
        })
    }

    /// Returns the first of the accepted backends. `accepts` is called for few of them: for those that rank above all
    /// that were accepted before.
    #[inline]
    pub(super) fn first_accepted(&self, key: u64, accepts: impl FnMut(usize) -> bool) -> Option<usize> {
        match &self.weights {
            None => self.first_of_equals(key, accepts),
            Some(weights) => self.first_by_weight(weights, key, accepts),
        }
    }

    fn first_of_equals(&self, key: u64, mut accepts: impl FnMut(usize) -> bool) -> Option<usize> {
        let (mut highest, mut first) = (0, None);
        for (place, seed) in self.seeds.iter().enumerate() {
            let rank = mix(key ^ seed);
            if (rank > highest || first.is_none()) && accepts(place) {
                (highest, first) = (rank, Some(place));
            }
        }
        first
    }

    /// The backend with the smallest `-ln(u) / weight`, where `u` is uniform in (0, 1]: an exponential variable whose
    /// rate is the weight. Each is the smallest with the probability of its weight among all.
    fn first_by_weight(&self, weights: &[f64], key: u64, mut accepts: impl FnMut(usize) -> bool) -> Option<usize> {
        let (mut least, mut first) = (f64::INFINITY, None);
        for (place, (seed, weight)) in self.seeds.iter().zip(weights).enumerate() {
            let u = (((mix(key ^ seed) >> 11) + 1) as f64) * (1.0 / (1_u64 << 53) as f64);
            // 1 - u is at most -ln(u), and tells nearly always that a backend is not the first.
            if 1.0 - u > least * weight {
                continue;
            }
            let score = -u.ln() / weight;
            if (score < least || first.is_none()) && accepts(place) {
                (least, first) = (score, Some(place));
            }
        }
        first
    }
}

/// The largest tier that is searched for each request.
const MAX_SEARCHED: usize = 32;

/// The first backends of keys that were looked up before. Two keys have the same pair of entries, in which a third one
/// replaces the older.
///
/// An entry has 32 bits of the key. With those that select the pair, that is at least 41 bits: of a trillion keys that
/// are looked up, about one finds the entry of another one.
#[derive(Debug)]
struct Recent(Box<[[AtomicU64; 2]]>);

impl Recent {
    fn new(backends: usize) -> Self {
        let pairs = (PAIRS_PER_BACKEND * backends).next_power_of_two().min(MAX_PAIRS);
        Self((0..pairs).map(|_| [const { AtomicU64::new(0) }; 2]).collect())
    }

    #[inline]
    fn pair(&self, key: u64) -> &[AtomicU64; 2] {
        // The high bits, since the low ones are in the entry. There are at least two pairs, and a power of two.
        &self.0[(key >> (64 - self.0.len().trailing_zeros())) as usize]
    }

    #[inline]
    fn get(&self, key: u64) -> Option<usize> {
        let mut entries = self.pair(key).iter().map(|entry| entry.load(Ordering::Relaxed));
        let place = |entry: u64| (entry as u32).checked_sub(1).filter(|_| (entry >> 32) as u32 == key as u32);
        entries.find_map(place).map(|place| place as usize)
    }

    fn set(&self, key: u64, place: usize) {
        let [newer, older] = self.pair(key);
        older.store(newer.load(Ordering::Relaxed), Ordering::Relaxed);
        newer.store((key << 32) | (place as u64 + 1), Ordering::Relaxed);
    }
}

const PAIRS_PER_BACKEND: usize = 8;
const MAX_PAIRS: usize = 1 << 15;
