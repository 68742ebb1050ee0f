//! The strategies against plain models of what they promise.

mod flaps;
mod round_robin;
mod shuffle;
mod skips;
mod weighted;

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    sync::Barrier,
    task::{Context, Poll},
    thread,
};

use futures::FutureExt;
use tower::{Service, ServiceExt};

use super::{Candidate, Candidates, Pick, PickContext, Rng, SKIP_NONE, Skip, Strategy};
use crate::{
    balance::Balance,
    fleet::{Backend, Fleet},
    outcome::ErrorsOnly,
    shard::SHARED,
    time::Moment,
};

/// A tier, and the places of those of its backends that are eligible.
#[derive(Clone)]
struct Tier {
    all: Vec<Candidate>,
    eligible: Vec<u32>,
}

impl Tier {
    /// Backends of these weights, all of them eligible.
    fn weighing(weights: &[u32]) -> Self {
        let all: Vec<_> = (1..).zip(weights).map(|(id, weight)| Candidate::alone(id, *weight)).collect();
        Self { eligible: (0..all.len() as u32).collect(), all }
    }

    /// So many backends of weight 1.
    fn equals(count: usize) -> Self {
        Self::weighing(&vec![1; count])
    }

    /// The same tier with other eligible ones.
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

/// The pick of a strategy for one tier, as one thread asks it.
fn made<P: Strategy>(strategy: &P, tier: &Tier) -> P::Pick {
    strategy.make(&tier.candidates(), None)
}

/// The pick of a strategy for a tier that changed, going on from the one before.
fn remade<P: Strategy>(strategy: &P, tier: &Tier, pick: &P::Pick, before: &Tier) -> P::Pick {
    strategy.make(&tier.candidates(), Some((pick, &before.candidates())))
}

/// The slot of the thread that runs a test, and those of the threads that it starts.
const SLOT: usize = 1;
const THREADS: usize = 8;
const SLOTS: std::ops::RangeInclusive<usize> = 2..=THREADS + 1;

/// The places of the next so many choices.
fn picks(pick: &impl Pick, tier: &Tier, count: usize) -> Vec<usize> {
    picks_without(&SKIP_NONE, pick, tier, count, SLOT)
}

/// The places of the next so many choices of the thread with this slot.
fn picks_without(skip: &Skip, pick: &impl Pick, tier: &Tier, count: usize, slot: usize) -> Vec<usize> {
    let (candidates, mut rng) = (tier.candidates(), Rng::seeded(0));
    let one = |_| {
        let mut cx = PickContext::new(&mut rng, skip, &|| Moment::EPOCH, slot);
        candidates.place(pick.pick(&candidates, &mut cx))
    };
    (0..count).map(one).collect()
}

/// How often each of `backends` was chosen.
fn counts(picks: &[usize], backends: usize) -> Vec<usize> {
    let mut counts = vec![0; backends];
    picks.iter().for_each(|index| counts[*index] += 1);
    counts
}

/// Threads that choose so often each, at once: the choices of each.
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
        let chooser = |slot| {
            scope.spawn(move || {
                start.wait();
                picks_without(skip, pick, tier, each, slot)
            })
        };
        let choosers: Vec<_> = slots.into_iter().map(chooser).collect();
        choosers.into_iter().map(|chooser| chooser.join().expect("a chooser")).collect()
    })
}

/// The most and the least that any of `backends` got.
fn extremes(picks: &[usize], backends: usize) -> (usize, usize) {
    let counts = counts(picks, backends);
    (*counts.iter().max().expect("a backend"), *counts.iter().min().expect("a backend"))
}

/// Answers with the name of its backend.
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
struct Table<P: Strategy> {
    fleet: Fleet<Named, ErrorsOnly>,
    door: Balance<Named, P, ErrorsOnly>,
}

impl<P: Strategy> Table<P> {
    fn set(names: &[&str], strategy: P) -> Self {
        let backends = names.iter().map(|name| named(name));
        let fleet = Fleet::plain().backends(backends).build().expect("good backends");
        Self { door: Balance::new(&fleet, strategy), fleet }
    }

    fn pick(&self) -> Option<String> {
        let answer = self.door.clone().oneshot(()).now_or_never();
        answer.expect("an answer at once").ok()
    }

    fn picks(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.pick().expect("an eligible backend")).collect()
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
