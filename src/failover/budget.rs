//! The limit on the extra attempts of all requests together.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::invalid::invalid;
use crate::setting::InvalidSetting;

/// A limit on the extra attempts of all requests together: a share of the requests, plus a reserve. An extra attempt is
/// any attempt of a request after its first.
///
/// The budget is a token bucket. Every request adds its share of a token, every extra attempt takes a whole token, and
/// the bucket never holds more than the reserve. So in every span of time, however short, and however long there was no
/// traffic before, there are at most share × requests + reserve extra attempts. `tower`'s budget fills up over ten
/// seconds and may be spent in one of them.
///
/// Clones share the tokens. Set it with [`FailoverBuilder::budget`](super::FailoverBuilder::budget).
///
/// ```
/// # use tower_fleet::failover::Budget;
/// // One extra attempt for five requests, and a burst of fifty after a time with few failures.
/// let budget = Budget::new(0.2).reserve(50);
/// # let _ = budget;
/// ```
#[derive(Clone, Debug)]
pub struct Budget {
    share: f64,
    reserve: u32,
    tokens: Arc<AtomicU64>,
}

/// Tokens are counted in millionths, so that shares add up.
const TOKEN: u64 = 1_000_000;

impl Default for Budget {
    /// The default budget: extra attempts for a fifth of the requests, and a reserve of 10.
    fn default() -> Self {
        // The default values of `tower::retry` and of Finagle.
        Self::new(0.2)
    }
}

impl Budget {
    /// Creates a budget of extra attempts for this share of the requests, from 0 to 100 (0.2 is a fifth), and a reserve
    /// of 10.
    pub fn new(share: f64) -> Self {
        Self { share, reserve: 0, tokens: Arc::default() }.reserve(10)
    }

    /// Sets the reserve: the largest burst of extra attempts; at least 1. Default 10. The bucket starts full.
    pub fn reserve(mut self, attempts: u32) -> Self {
        self.reserve = attempts;
        self.tokens = Arc::new(AtomicU64::new(self.full()));
        self
    }

    fn full(&self) -> u64 {
        u64::from(self.reserve) * TOKEN
    }

    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        if self.reserve == 0 {
            return Err(invalid("budget.reserve", 0, "must be at least 1"));
        }
        match (0.0..=100.0).contains(&self.share) {
            true => Ok(()),
            false => Err(invalid("budget.share", self.share, "must be a number from 0 to 100")),
        }
    }

    /// Adds the share of one request.
    pub(super) fn deposit(&self) {
        // Rounded down, so that the limit holds.
        let (share, full) = ((self.share * TOKEN as f64) as u64, self.full());
        // The bucket is usually full. Then it is not written to, and threads do not contend for it.
        let add = |tokens: u64| (tokens < full).then(|| (tokens + share).min(full));
        let _ = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Takes the token of an extra attempt; `false` if there is none.
    pub(super) fn withdraw(&self) -> bool {
        self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| tokens.checked_sub(TOKEN)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(share: f64, reserve: u32) -> Budget {
        Budget::new(share).reserve(reserve)
    }

    // C53
    #[test]
    fn extra_attempts_never_exceed_the_share_plus_the_reserve() {
        let mut rng = crate::rng::Rng::seeded(11);
        let budget = budget(0.2, 5);
        // Far more extra attempts are requested than the budget grants.
        let mut history = vec![(0, 0)];
        for _ in 0..4_000 {
            budget.deposit();
            let granted = (0..rng.below(3)).filter(|_| budget.withdraw()).count();
            let (requests, extra) = history[history.len() - 1];
            history.push((requests + 1, extra + granted));
        }
        for from in (0..history.len()).step_by(7) {
            for to in (from..history.len()).step_by(13) {
                let (requests, extra) = (history[to].0 - history[from].0, history[to].1 - history[from].1);
                assert!(extra as f64 <= 0.2 * requests as f64 + 5.0, "{extra} of {requests}");
            }
        }
    }

    // C53
    #[test]
    fn shares_are_not_rounded() {
        let budget = budget(0.6, 2);
        assert!(budget.withdraw() && budget.withdraw());
        let granted = (0..1_000).filter(|_| {
            budget.deposit();
            budget.withdraw()
        });
        assert!((590..=600).contains(&granted.count()));
    }

    // C58
    #[test]
    fn invalid_shares_are_refused() {
        for share in [f64::NAN, -0.1, f64::INFINITY] {
            assert!(Budget::new(share).check().unwrap_err().to_string().contains("budget.share"));
        }
    }

    // C53
    #[test]
    fn threads_cannot_overdraw_the_budget() {
        let budget = budget(0.0, 100);
        let taken = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..100).filter(|_| budget.withdraw()).count())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(taken, 100);
    }
}
