//! The strategies against plain models of what they promise.

mod round_robin;
mod shuffle;
mod weighted;

use std::{
    collections::HashMap,
    sync::{Arc, Barrier},
    thread,
};

use super::{Candidate, Desk, Pick, Rng};
use crate::fleet::{Backend, Fleet};

/// Candidates with these weights, in this order.
fn candidates(weights: &[u32]) -> Vec<Candidate> {
    (1..).zip(weights).map(|(id, weight)| Candidate::alone(id, id, *weight)).collect()
}

/// So many candidates of weight 1.
fn equals(count: usize) -> Vec<Candidate> {
    candidates(&vec![1; count])
}

/// The strategy, made for these candidates.
fn made_for<P: Pick>(pick: P, candidates: &[Candidate]) -> P {
    pick.renew(&[], candidates)
}

/// The next so many choices.
fn picks<P: Pick>(pick: &P, candidates: &[Candidate], count: usize) -> Vec<usize> {
    let mut rng = Rng::seeded(0);
    (0..count).map(|_| pick.pick(candidates, &mut rng)).collect()
}

/// How often each of `backends` was chosen.
fn counts(picks: &[usize], backends: usize) -> Vec<usize> {
    let mut counts = vec![0; backends];
    picks.iter().for_each(|index| counts[*index] += 1);
    counts
}

const THREADS: usize = 8;

/// The choices of eight threads that choose so often each, at once.
fn picks_of_threads<P: Pick>(pick: &P, candidates: &[Candidate], each: usize) -> Vec<usize> {
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        let chooser = |_| {
            scope.spawn(|| {
                start.wait();
                picks(pick, candidates, each)
            })
        };
        let choosers: Vec<_> = (0..THREADS).map(chooser).collect();
        choosers.into_iter().flat_map(|chooser| chooser.join().expect("a chooser")).collect()
    })
}

/// A door's way to its backends, without the door: the fleet, and the strategy that follows it.
struct Table<P> {
    fleet: Fleet<()>,
    desk: Arc<Desk<(), P>>,
    rng: Rng,
}

impl<P: Pick> Table<P> {
    fn set(names: &[&str], pick: P) -> Self {
        let backends = names.iter().map(|name| Backend::new(*name, ()));
        let fleet = Fleet::builder().backends(backends).build().expect("good backends");
        let desk = Desk::open(fleet.shared(), pick);
        Self { fleet, desk, rng: Rng::seeded(0) }
    }

    fn pick(&mut self) -> Option<String> {
        let member = self.desk.plan().choose(&mut self.rng)?;
        Some(member.facts.name.to_string())
    }

    fn picks(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.pick().expect("somebody eligible")).collect()
    }
}

/// Pearson's statistic: how far the counts are from being all alike.
fn chi_square(counts: impl ExactSizeIterator<Item = u64> + Clone) -> f64 {
    let expected = counts.clone().sum::<u64>() as f64 / counts.len() as f64;
    counts.map(|count| (count as f64 - expected).powi(2) / expected).sum()
}

/// Holds a statistic against the chi-square distribution, from both sides: by the approximation of Wilson and Hilferty
/// the cube root of `statistic / freedom` is normal, with mean `1 - 2 / 9 freedom` and variance `2 / 9 freedom`.
///
/// Four standard deviations lie beyond 1 in 15,000 on either side. Seeds are fixed, so that a test which passes passes
/// always; a deck that is not uniform is off by dozens.
#[track_caller]
fn assert_uniform(what: &str, statistic: f64, freedom: usize) {
    let spread = 2.0 / (9.0 * freedom as f64);
    let deviations = ((statistic / freedom as f64).cbrt() - (1.0 - spread)) / spread.sqrt();
    assert!(deviations.abs() < 4.0, "{what}: chi-square {statistic:.1} with {freedom} degrees, {deviations:.1} sigma");
}

/// Counts what it is told.
#[derive(Default)]
struct Tally<K>(HashMap<K, u64>);

impl<K: std::hash::Hash + Eq> Tally<K> {
    fn add(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    /// One count for each of so many keys, those that never came included.
    fn counts(&self, keys: usize) -> Vec<u64> {
        assert!(self.0.len() <= keys, "{} keys where {keys} are possible", self.0.len());
        let mut counts: Vec<u64> = self.0.values().copied().collect();
        counts.resize(keys, 0);
        counts
    }
}
