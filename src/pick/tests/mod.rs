//! Compares each strategy with a simple model of its order.

mod flaps;
mod hash;
mod load;
mod round_robin;
mod shares;
mod shuffle;
mod skips;
mod weighted;

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    num::NonZeroU64,
    sync::Barrier,
    task::{Context, Poll},
    thread,
};

use futures::FutureExt;
use tower::Service;

use super::{Candidate, Candidates, Pick, PickContext, SKIP_NONE, Skip, Skipped, Strategy};
use crate::{
    balance::Balance,
    fleet::{Backend, Fleet},
    outcome::ErrorsOnly,
    rng::Rng,
    shard::SHARED,
    time::Moment,
};

/// A tier, and the places of its eligible backends.
#[derive(Clone)]
struct Tier {
    all: Vec<Candidate>,
    eligible: Vec<u32>,
}

impl Tier {
    /// Makes a tier of backends of these weights, all of them eligible.
    fn weighing(weights: &[u32]) -> Self {
        let all: Vec<_> = (1..).zip(weights).map(|(id, weight)| Candidate::alone(id, *weight)).collect();
        Self { eligible: (0..all.len() as u32).collect(), all }
    }

    /// Makes a tier of this many backends of weight 1.
    fn equals(count: usize) -> Self {
        Self::weighing(&vec![1; count])
    }

    /// Copies the tier with other eligible backends.
    fn with(&self, is_eligible: impl Fn(usize) -> bool) -> Self {
        let eligible = (0..self.all.len()).filter(|place| is_eligible(*place)).map(|place| place as u32);
        Self { all: self.all.clone(), eligible: eligible.collect() }
    }

    fn candidates(&self) -> Candidates<'_> {
        Candidates::of(&self.all, &self.eligible)
    }

    fn skip(&self, places: impl IntoIterator<Item = usize>) -> Skip {
        let mut skip = Skip::default();
        places.into_iter().for_each(|place| skip.insert(self.all[place].id()));
        skip
    }
}

/// Makes the pick of a strategy for a tier.
fn new_pick<P: Strategy>(strategy: &P, tier: &Tier) -> P::Pick {
    strategy.make(&tier.candidates(), None)
}

/// Makes the pick of a strategy for a tier that changed, continuing from the one before.
fn next_pick<P: Strategy>(strategy: &P, tier: &Tier, pick: &P::Pick, before: &Tier) -> P::Pick {
    strategy.make(&tier.candidates(), Some((pick, &before.candidates())))
}

/// The slot of the thread that runs a test, and those of the threads that it starts.
const SLOT: usize = 1;
const THREADS: usize = 8;
const SLOTS: std::ops::RangeInclusive<usize> = 2..=THREADS + 1;

/// Picks this many times. Returns the places of the picked backends.
fn picks(pick: &impl Pick, tier: &Tier, count: usize) -> Vec<usize> {
    picks_without(&SKIP_NONE, pick, tier, count, SLOT)
}

/// Picks this many times, without the skipped backends, on the thread with this slot. Returns the places.
fn picks_without(skip: &Skip, pick: &impl Pick, tier: &Tier, count: usize, slot: usize) -> Vec<usize> {
    let (candidates, mut rng) = (tier.candidates(), Rng::seeded(0));
    let one = |_| {
        let mut cx = PickContext::new(&mut rng, Skipped::new(skip, &SKIP_NONE, 0), None, &|| Moment::EPOCH, slot);
        candidates.place(pick.pick(&candidates, &mut cx))
    };
    (0..count).map(one).collect()
}

/// Counts how often each of the backends was picked.
fn counts(picks: &[usize], backends: usize) -> Vec<usize> {
    let mut counts = vec![0; backends];
    picks.iter().for_each(|index| counts[*index] += 1);
    counts
}

/// Picks on concurrent threads, `each` times on each. Returns the places by thread.
fn picks_of_threads(
    slots: impl IntoIterator<Item = usize>,
    skip: &Skip,
    pick: &impl Pick,
    tier: &Tier,
    each: usize,
) -> Vec<Vec<usize>> {
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        let start = &start;
        let spawn = |slot| {
            scope.spawn(move || {
                start.wait();
                picks_without(skip, pick, tier, each, slot)
            })
        };
        let threads: Vec<_> = slots.into_iter().map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().expect("the thread returns its picks")).collect()
    })
}

/// Returns the largest and the smallest count of picks of a backend.
fn extremes(picks: &[usize], backends: usize) -> (usize, usize) {
    let counts = counts(picks, backends);
    (*counts.iter().max().expect("at least one backend"), *counts.iter().min().expect("at least one backend"))
}

/// A service that responds with the name of its backend.
#[derive(Clone)]
struct Named(String);

impl Service<()> for Named {
    type Response = String;
    type Error = Infallible;
    type Future = Ready<Result<String, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(self.0.clone()))
    }
}

fn named(name: &str) -> Backend<Named> {
    Backend::new(name, Named(name.to_owned()))
}

/// A door over a fleet that changes.
struct Harness<P: Strategy> {
    fleet: Fleet<Named, ErrorsOnly>,
    door: Balance<Named, P, ErrorsOnly>,
}

impl<P: Strategy> Harness<P> {
    fn new(names: &[&str], strategy: P) -> Self {
        let backends = names.iter().map(|name| named(name));
        let fleet = Fleet::plain().backends(backends).build().expect("valid backends");
        Self { door: Balance::new(&fleet, strategy), fleet }
    }

    fn pick(&self) -> Option<String> {
        let response = self.door.clone().oneshot(()).now_or_never();
        response.expect("the service responds without waiting").ok()
    }

    fn picks(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.pick().expect("an eligible backend")).collect()
    }
}

/// Pearson's statistic: how far the counts are from being equal.
fn chi_square(counts: impl ExactSizeIterator<Item = u64> + Clone) -> f64 {
    let expected = counts.clone().sum::<u64>() as f64 / counts.len() as f64;
    counts.map(|count| (count as f64 - expected).powi(2) / expected).sum()
}

/// Compares a statistic with the chi-square distribution, on both sides. By the approximation of Wilson and Hilferty,
/// the cube root of `statistic / freedom` is normal with mean `1 - 2 / (9 freedom)` and variance `2 / (9 freedom)`.
///
/// The bound of four standard deviations is exceeded by chance once in 15,000 times. Seeds are fixed, so the result of
/// a test never changes. A deck that is not uniform is off by dozens of deviations.
#[track_caller]
fn assert_uniform(what: &str, statistic: f64, freedom: usize) {
    let spread = 2.0 / (9.0 * freedom as f64);
    let deviations = ((statistic / freedom as f64).cbrt() - (1.0 - spread)) / spread.sqrt();
    assert!(deviations.abs() < 4.0, "{what}: chi-square {statistic:.1} with {freedom} degrees, {deviations:.1} sigma");
}

/// Counts keys.
#[derive(Default)]
struct Tally<K>(HashMap<K, u64>);

impl<K: std::hash::Hash + Eq> Tally<K> {
    fn add(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    /// Returns one count for each of this many possible keys, including those that never occurred.
    fn counts(&self, keys: usize) -> Vec<u64> {
        assert!(self.0.len() <= keys, "{} keys, but only {keys} are possible", self.0.len());
        let mut counts: Vec<u64> = self.0.values().copied().collect();
        counts.resize(keys, 0);
        counts
    }
}
