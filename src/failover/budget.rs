//! The limit on the extra attempts of all requests together.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::invalid::invalid;
use crate::setting::{InvalidSetting, share_reason};

/// A limit on the extra attempts of all requests together: a share of the requests, plus a reserve. An extra attempt is
/// any attempt of a request after its first.
///
/// The budget is a token bucket. Every request adds its share of a token, every extra attempt takes a whole token, and
/// the bucket never holds more than the reserve and the share of one request. So in every span of time, however short,
/// and however long there was no traffic before, there are at most share × (requests + 1) + reserve extra attempts.
/// While every request needs an extra attempt, exactly the share of them gets one. `tower`'s budget fills up over ten
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

/// Tokens are counted in billionths, so that shares add up. The largest reserve fits a `u64` four times.
const TOKEN: u64 = 1_000_000_000;

impl Default for Budget {
    /// The default budget: extra attempts for a fifth of the requests, and a reserve of 10.
    fn default() -> Self {
        // The default values of `tower::retry` and of Finagle.
        Self::new(0.2)
    }
}

impl Budget {
    /// Creates a budget of extra attempts for this share of the requests, from 0 to 1 (0.2 is a fifth), and a reserve of
    /// 10.
    pub fn new(share: f64) -> Self {
        Self { share, reserve: 0, tokens: Arc::default() }.reserve(10)
    }

    /// Sets the reserve: the extra attempts that a burst of failures gets at once; at least 1. Default 10. The bucket
    /// starts with it.
    pub fn reserve(mut self, attempts: u32) -> Self {
        self.reserve = attempts;
        self.tokens = Arc::new(AtomicU64::new(u64::from(attempts) * TOKEN));
        self
    }

    /// The tokens that one request adds. Rounded down, so that the limit holds.
    fn step(&self) -> u64 {
        (self.share * TOKEN as f64) as u64
    }

    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        if self.reserve == 0 {
            return Err(invalid("budget.reserve", 0, "must be at least 1"));
        }
        match (0.0..=1.0).contains(&self.share) {
            true => Ok(()),
            false => {
                let reason = share_reason(self.share, "must be a share from 0 to 1");
                Err(invalid("budget.share", self.share, reason))
            }
        }
    }

    /// Adds the share of one request.
    pub(super) fn deposit(&self) {
        let step = self.step();
        // Room for one step over the reserve: with less, a reserve of 1 would cut the steps that end above it, and a
        // share of 0.3 would grant every fourth request an extra attempt.
        let full = u64::from(self.reserve) * TOKEN + step;
        // The bucket is usually full. Then it is not written to, and threads do not contend for it.
        let add = |tokens: u64| (tokens < full).then(|| (tokens + step).min(full));
        let _ = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Whether there is a token for an extra attempt.
    pub(super) fn has_token(&self) -> bool {
        self.tokens.load(Ordering::Relaxed) >= TOKEN
    }

    /// Takes the token of an extra attempt; `false` if there is none.
    pub(super) fn withdraw(&self) -> bool {
        self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| tokens.checked_sub(TOKEN)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{bool::weighted, collection::vec, prelude::*};

    use super::*;

    fn budget(share: f64, reserve: u32) -> Budget {
        Budget::new(share).reserve(reserve)
    }

    /// Shares as they are set, with their ends.
    fn share() -> impl Strategy<Value = f64> {
        prop_oneof![4 => 0.0..=1.0_f64, 2 => (0..=100_u32).prop_map(|percent| f64::from(percent) / 100.0), 1 => Just(1.0)]
    }

    fn reserve() -> impl Strategy<Value = u32> {
        prop_oneof![2 => Just(1_u32), 3 => 1..20_u32]
    }

    proptest! {
        // C53: issue 11.10
        #[test]
        fn extra_attempts_never_exceed_the_share_plus_the_reserve_in_any_window(
            share in share(), reserve in reserve(), calm in any::<bool>(), events in vec(weighted(0.4), 1..200),
        ) {
            let budget = budget(share, reserve);
            if calm {
                // The bucket is full.
                (0..20).for_each(|_| budget.deposit());
            }
            let mut history = vec![(0, 0)];
            for is_request in events {
                let (requests, extra) = history[history.len() - 1];
                history.push(if is_request {
                    budget.deposit();
                    (requests + 1, extra)
                } else {
                    (requests, extra + u32::from(budget.withdraw()))
                });
            }
            for (index, (from, before)) in history.iter().enumerate() {
                for (to, after) in &history[index..] {
                    let (requests, extra) = (to - from, after - before);
                    let most = share * f64::from(requests + 1) + f64::from(reserve);
                    // Above the rounding of `most` itself.
                    prop_assert!(f64::from(extra) <= most + 1e-9, "{} extra attempts of {} requests", extra, requests);
                }
            }
        }

        // C53: issue 11.10
        #[test]
        fn a_constant_demand_gets_exactly_the_share(share in share(), reserve in reserve()) {
            const REQUESTS: u32 = 3_000;
            let budget = budget(share, reserve);
            while budget.withdraw() {}
            let granted = (0..REQUESTS).filter(|_| {
                budget.deposit();
                budget.withdraw()
            });
            let (granted, exact) = (granted.count() as f64, share * f64::from(REQUESTS));
            // The last attempt may not be complete yet, but none is lost.
            prop_assert!(granted <= exact + 1e-9 && granted > exact - 1.001, "{} of {}", granted, exact);
        }
    }

    // C53: issue 11.10
    #[test]
    fn a_reserve_of_one_grants_the_share_that_is_set() {
        for (share, expected) in [(0.3, 300), (0.25, 250), (0.6, 600), (0.9, 900), (1.0, 1_000)] {
            let budget = budget(share, 1);
            assert!(budget.withdraw());
            let granted = (0..1_000).filter(|_| {
                budget.deposit();
                budget.withdraw()
            });
            let granted = granted.count();
            assert!((expected - 1..=expected).contains(&granted), "{share}: {granted}");
        }
    }

    // C58
    #[test]
    fn invalid_shares_are_refused() {
        for share in [f64::NAN, -0.1, f64::INFINITY, 1.000_1, 20.0, 100.1] {
            assert!(Budget::new(share).check().unwrap_err().to_string().contains("budget.share"), "{share}");
        }
        for share in [0.0, 0.2, 1.0] {
            assert_eq!(Budget::new(share).check(), Ok(()));
        }
    }

    // C58
    #[test]
    fn a_percentage_is_refused_with_the_share_to_write() {
        let refused = Budget::new(20.0).check().unwrap_err();
        assert_eq!(refused.to_string(), "failover: budget.share 20 must be a share from 0 to 1; for 20 %, write 0.2");
        let refused = Budget::new(29.0).check().unwrap_err();
        assert_eq!(refused.reason(), "must be a share from 0 to 1; for 29 %, write 0.29");
        assert_eq!(Budget::new(-1.0).check().unwrap_err().reason(), "must be a share from 0 to 1");
    }

    // C53, C58: issue 11.10
    #[test]
    fn the_largest_reserve_does_not_overflow() {
        let budget = budget(1.0, u32::MAX);
        for _ in 0..3 {
            budget.deposit();
            assert!(budget.withdraw());
        }
    }

    // C53: issue 11.10
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
