use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::setting::InvalidSetting;

/// Bounds the attempts that are made beyond the first of each request: a share of the requests, plus a reserve.
///
/// It is a purse. Every request pays in its share, every extra attempt takes one coin out, and the purse holds no more
/// than the reserve. So in every span of time, however short, and after however long a calm, extra attempts are at most
/// share × requests + reserve. `tower`'s budget fills up over ten seconds and may be spent in one of them.
///
/// Clones share the purse.
#[derive(Clone, Debug)]
pub struct Budget {
    share: f64,
    reserve: NonZeroU32,
    purse: Arc<AtomicU64>,
}

/// The purse counts in parts of a coin, so that shares add up.
const COIN: u64 = 1_000_000;

impl Budget {
    /// Extra attempts for this share of the requests (0.2 is a fifth), plus a reserve.
    pub fn new(share: f64, reserve: NonZeroU32) -> Self {
        let purse = Arc::new(AtomicU64::new(u64::from(reserve.get()) * COIN));
        Self { share, reserve, purse }
    }

    pub(super) fn checked(self) -> Result<Self, InvalidSetting> {
        if (0.0..=100.0).contains(&self.share) {
            Ok(self)
        } else {
            Err(InvalidSetting::setting("budget.share", &self.share.to_string(), "must be a number from 0 to 100"))
        }
    }

    /// A request came.
    pub(super) fn pay_in(&self) {
        // Rounded down: a bound is kept.
        let (coins, most) = ((self.share * COIN as f64) as u64, u64::from(self.reserve.get()) * COIN);
        // A full purse is not written to: that is the usual case.
        let add = |purse: u64| (purse < most).then(|| (purse + coins).min(most));
        let _ = self.purse.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Takes a coin for an extra attempt, if there is one.
    pub(super) fn take(&self) -> bool {
        self.purse.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |purse| purse.checked_sub(COIN)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(share: f64, reserve: u32) -> Budget {
        Budget::new(share, NonZeroU32::new(reserve).unwrap()).checked().unwrap()
    }

    // C53
    #[test]
    fn in_every_window_at_most_the_share_plus_the_reserve() {
        let mut rng = crate::rng::Rng::seeded(11);
        let budget = budget(0.2, 5);
        // A history of requests and of wishes for more, far more than it grants.
        let mut history = vec![(0, 0)];
        for _ in 0..4_000 {
            budget.pay_in();
            let granted = (0..rng.below(3)).filter(|_| budget.take()).count();
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
        assert!(budget.take() && budget.take());
        let granted = (0..1_000).filter(|_| {
            budget.pay_in();
            budget.take()
        });
        assert!((590..=600).contains(&granted.count()));
    }

    // C58
    #[test]
    fn refuses_shares_that_make_no_sense() {
        for share in [f64::NAN, -0.1, f64::INFINITY] {
            assert!(Budget::new(share, NonZeroU32::MIN).checked().unwrap_err().to_string().contains("budget.share"));
        }
    }

    // C53
    #[test]
    fn threads_cannot_overdraw_it() {
        let budget = budget(0.0, 100);
        let taken = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| (0..100).filter(|_| budget.take()).count())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(taken, 100);
    }
}
