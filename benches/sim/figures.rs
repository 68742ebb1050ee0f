//! The figures of one run.

use crate::{
    run::End,
    scene::Scene,
    server::Server,
    time::{Micros, SECOND, micros},
};

/// Into how many parts the time of a run is divided for its picture.
pub(crate) const PARTS: usize = 80;

/// The figures of one run. Latencies are in milliseconds, shares are from 0 to 1.
///
/// Latencies are those of the requests that succeeded or timed out; an instant failure has none.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// The share of the requests that failed.
    pub(crate) failed: f64,
    /// When the last request arrived that failed, in seconds since the measured time began.
    pub(crate) last_failure: Option<f64>,
    /// The share of each server of all requests that were sent.
    pub(crate) shares: Vec<f64>,
    /// Attempts beyond the first, as a share of the requests.
    pub(crate) extra: f64,
    /// The 99th percentile in each part of the time; `NaN` in a part without a latency.
    pub(crate) over_time: Vec<f64>,
}

impl Figures {
    pub(crate) fn new(scene: &Scene, ends: Vec<End>, servers: &[Server]) -> Self {
        let measured = micros(scene.measured.start)..micros(scene.measured.end);
        let counts = |end: &&End| measured.contains(&end.arrived);
        let latency = |end: &End| end.took.filter(|took| end.ok || Some(*took) >= scene.timeout.or(Some(Micros::MAX)));
        let mut latencies: Vec<_> = ends.iter().filter(counts).filter_map(latency).collect();
        latencies.sort_unstable();

        let total = ends.iter().filter(counts).count();
        let failed = || ends.iter().filter(counts).filter(|end| !end.ok);
        let last_failure = failed().next_back().map(|end| (end.arrived - measured.start) as f64 / SECOND);

        let part = micros(scene.seconds) / PARTS as u64;
        let mut parts = vec![Vec::new(); PARTS];
        for end in &ends {
            let number = (end.arrived / part) as usize;
            parts[number.min(PARTS - 1)].extend(latency(end));
        }
        let over_time = parts.iter_mut().map(|part| {
            part.sort_unstable();
            percentile(part, 0.99)
        });

        let sent: u64 = servers.iter().map(Server::sent).sum();
        let counted: u64 = servers.iter().map(Server::counted).sum();
        Self {
            p50: percentile(&latencies, 0.5),
            p99: percentile(&latencies, 0.99),
            p999: percentile(&latencies, 0.999),
            failed: failed().count() as f64 / total.max(1) as f64,
            last_failure,
            shares: servers.iter().map(|server| server.counted() as f64 / counted.max(1) as f64).collect(),
            extra: (sent as f64 / ends.len().max(1) as f64 - 1.0).max(0.0),
            over_time: over_time.collect(),
        }
    }
}

/// The smallest value that at least this share of the sorted values does not exceed, in milliseconds.
fn percentile(sorted: &[Micros], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).map_or(f64::NAN, |micros| *micros as f64 / 1e3)
}

/// Returns the least, the middle and the greatest of some values.
pub(crate) fn spread(values: impl IntoIterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<_> = values.into_iter().filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    match (values.first(), values.last()) {
        (Some(least), Some(greatest)) => {
            let middle = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
            [*least, middle, *greatest]
        }
        _ => [f64::NAN; 3],
    }
}

/// Returns the middle of some values.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    spread(values)[1]
}
