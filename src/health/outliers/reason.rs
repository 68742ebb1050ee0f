//! Why a backend is an outlier, and what follows.

use std::{fmt, time::Duration};

/// Why a backend is an [outlier](crate::fleet::Outliers), with the numbers of the interval.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum OutlierReason {
    /// Too many of its calls failed.
    #[non_exhaustive]
    Failures {
        /// The calls that failed.
        failed: u32,
        /// All its calls.
        calls: u32,
    },
    /// More of its calls failed than those of its peers.
    #[non_exhaustive]
    SuccessRate {
        /// The calls that failed.
        failed: u32,
        /// All its calls.
        calls: u32,
        /// The mean success rate of its peers, from 0 to 1.
        peers: f32,
    },
    /// Its first bytes took longer than those of its peers.
    #[non_exhaustive]
    Latency {
        /// The geometric mean of the times to its first bytes.
        took: Duration,
        /// The median of the backends of its tier.
        median: Duration,
    },
}

impl fmt::Display for OutlierReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures { failed, calls } => write!(f, "{failed} of {calls} calls failed"),
            Self::SuccessRate { failed, calls, peers } => {
                write!(f, "{failed} of {calls} calls failed, and {:.1} % of those of its peers", 100.0 * (1.0 - peers))
            }
            Self::Latency { took, median } => {
                write!(f, "the first byte took {}, the median of the tier is {}", Millis(*took), Millis(*median))
            }
        }
    }
}

/// Shows a duration in milliseconds, to one decimal.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms", self.0.as_secs_f64() * 1e3)
    }
}

/// What the detection of [outliers](crate::fleet::Outliers) changed at a backend.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum OutlierChange {
    /// It is an outlier, and gets this share of its traffic.
    #[non_exhaustive]
    Reduced {
        /// Its share, from 0 to 1.
        share: f32,
        /// Why it is an outlier.
        reason: OutlierReason,
    },
    /// It is still an outlier with the smallest share, and gets no requests.
    #[non_exhaustive]
    Ejected {
        /// How long it gets none.
        time: Duration,
        /// Why it is an outlier.
        reason: OutlierReason,
    },
    /// It is no outlier any more, or its ejection is over, and it gets this share of its traffic.
    #[non_exhaustive]
    Returned {
        /// Its share, from 0 to 1.
        share: f32,
    },
}
