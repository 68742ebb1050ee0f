use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Candidate, Pick, Rng};

/// One after the other: A, B, C, A …, exactly, also when many choose at once.
///
/// When the set changes, the one after the last one chosen is next, wherever it now stands.
#[derive(Debug, Default)]
pub struct RoundRobin {
    next: AtomicUsize,
    /// Where `next` began.
    first: usize,
    /// The position of the last one chosen before `next` began.
    last: Option<u64>,
}

impl RoundRobin {
    /// Begins with the first.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Pick for RoundRobin {
    fn renew(&self, before: &[Candidate], now: &[Candidate]) -> Self {
        let next = self.next.load(Ordering::Relaxed);
        let last = match next {
            untouched if untouched == self.first => self.last,
            _ => before.get(next.wrapping_sub(1) % before.len().max(1)).map(Candidate::position),
        };
        let behind = |last| now.iter().position(|candidate| candidate.position() > last);
        let first = last.and_then(behind).unwrap_or(0);
        Self { next: AtomicUsize::new(first), first, last }
    }

    #[inline]
    fn pick(&self, candidates: &[Candidate], _: &mut Rng) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % candidates.len()
    }
}
