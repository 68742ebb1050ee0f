//! The comparison of the backends of a tier, once per interval.

use std::ops::RangeInclusive;

use super::{
    reason::OutlierReason,
    settings::Outliers,
    tally::{Counts, time},
};

/// A backend of a tier, by what it did in an interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    /// The share of its traffic that it got.
    pub(crate) share: u32,
    pub(crate) counts: Counts,
}

/// What the comparison came to, for one backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The backend, or its tier, had too few calls.
    Unknown,
    /// The backend is like its peers.
    Usual,
    Outlier(OutlierReason),
}

/// Compares the backends of one tier. O(n).
pub(crate) fn judge(settings: &Outliers, hosts: &[Host]) -> Vec<Verdict> {
    let is_known = |host: &&Host| host.counts.calls >= settings.calls_for(host.share);
    let known: Vec<&Host> = hosts.iter().filter(is_known).collect();
    if known.len() < settings.minimum_hosts as usize {
        return vec![Verdict::Unknown; hosts.len()];
    }
    let peers = Peers::new(settings, &known);
    let verdict = |host: &Host| match is_known(&host) {
        false => Verdict::Unknown,
        true => peers.reason(settings, host).map_or(Verdict::Usual, Verdict::Outlier),
    };
    hosts.iter().map(verdict).collect()
}

/// What the backends with enough calls have in common.
struct Peers {
    count: f64,
    /// The sum of their success rates, and of the squares of these.
    rates: f64,
    squares: f64,
    median_failures: f64,
    /// The median of the mean logarithms of their times. `None` if too few of them have enough times.
    median_latency: Option<f64>,
}

impl Peers {
    fn new(settings: &Outliers, hosts: &[&Host]) -> Self {
        let rates = || hosts.iter().map(|host| 1.0 - failures(&host.counts));
        let mut peers = Self {
            count: hosts.len() as f64,
            rates: rates().sum(),
            squares: rates().map(|rate| rate * rate).sum(),
            median_failures: median(hosts.iter().map(|host| failures(&host.counts)).collect()),
            median_latency: None,
        };
        // Not those that fail: what succeeds at them is often what is fast, and their peers would look slow.
        let timed = hosts.iter().filter(|host| is_timed(settings, host) && peers.fails(settings, host).is_none());
        let latencies: Vec<f64> = timed.map(|host| host.counts.latency().0).collect();
        let is_compared = latencies.len() >= settings.minimum_hosts as usize;
        peers.median_latency = is_compared.then(|| median(latencies));
        peers
    }

    fn reason(&self, settings: &Outliers, host: &Host) -> Option<OutlierReason> {
        self.fails(settings, host).or_else(|| self.is_slow(settings, host))
    }

    fn fails(&self, settings: &Outliers, host: &Host) -> Option<OutlierReason> {
        let Counts { calls, failed, .. } = host.counts;
        let range = wilson(f64::from(failed), f64::from(calls));
        let limit = settings.failure_share.map(|share| share.max(2.0 * self.median_failures));
        if limit.is_some_and(|limit| *range.start() > limit) {
            return Some(OutlierReason::Failures { failed, calls });
        }
        if let Some(factor) = settings.success_rate {
            // Without the backend itself. Else, of three backends, none could be that far from the mean.
            let (rate, others) = (1.0 - failures(&host.counts), self.count - 1.0);
            let mean = (self.rates - rate) / others;
            let variance = ((self.squares - rate * rate) / others - mean * mean).max(0.0);
            if 1.0 - *range.start() < mean - (factor * variance.sqrt()).max(LEAST_DIFFERENCE) {
                return Some(OutlierReason::SuccessRate { failed, calls, peers: mean as f32 });
            }
        }
        None
    }

    fn is_slow(&self, settings: &Outliers, host: &Host) -> Option<OutlierReason> {
        let (factor, median) = settings.latency.zip(self.median_latency)?;
        if !is_timed(settings, host) {
            return None;
        }
        let (mean, squared_error) = host.counts.latency();
        let (took, usual) = (time(mean), time(median));
        let is_slow = took.as_secs_f64() >= factor * usual.as_secs_f64()
            && took.saturating_sub(usual) >= settings.latency_difference
            && took >= settings.latency_floor
            && mean - median > DEVIATIONS * squared_error.sqrt();
        is_slow.then_some(OutlierReason::Latency { took, median: usual })
    }
}

/// How much lower the success rate of an outlier is, at least. Without it, a backend with one failure in a thousand would
/// be an outlier if its peers have none.
const LEAST_DIFFERENCE: f64 = 0.05;

/// How many standard errors a difference must have. Chance alone exceeds it about once in a thousand times.
const DEVIATIONS: f64 = 3.0;

fn is_timed(settings: &Outliers, host: &Host) -> bool {
    host.counts.timed >= settings.calls_for(host.share)
}

fn failures(counts: &Counts) -> f64 {
    f64::from(counts.failed) / f64::from(counts.calls.max(1))
}

/// Returns the lower one of the two medians of an even number: so at most half of the backends are above it.
fn median(mut values: Vec<f64>) -> f64 {
    let middle = values.len().saturating_sub(1) / 2;
    if values.is_empty() { 0.0 } else { *values.select_nth_unstable_by(middle, f64::total_cmp).1 }
}

/// The range in which the share is whose sample has this many hits, by Wilson (1927). Unlike the normal approximation, it
/// is right for few calls and for shares near 0 and 1.
fn wilson(hits: f64, calls: f64) -> RangeInclusive<f64> {
    let (share, squared) = (hits / calls, DEVIATIONS * DEVIATIONS);
    let centre = (share + squared / (2.0 * calls)) / (1.0 + squared / calls);
    let spread = (share * (1.0 - share) / calls + squared / (4.0 * calls * calls)).sqrt();
    let half = DEVIATIONS * spread / (1.0 + squared / calls);
    (centre - half).max(0.0)..=(centre + half).min(1.0)
}
