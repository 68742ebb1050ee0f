//! What is saved of a load for the next start of the process: its estimates. Calls in flight end with the process.

use std::time::Duration;

use super::{super::estimate::SavedEstimate, Load};
use crate::time::Moment;

/// The estimates of a load as they are saved.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SavedLoad {
    pub(crate) peak: Option<SavedEstimate>,
    pub(crate) mean: Option<SavedEstimate>,
    /// A count, in units of a thousandth.
    pub(crate) failures: Option<SavedEstimate>,
}

impl SavedLoad {
    /// Returns the estimates as they are after some time without calls.
    pub(crate) fn aged(self, by: Duration) -> Self {
        let aged = |saved: Option<SavedEstimate>| saved?.aged(by);
        Self { peak: aged(self.peak), mean: aged(self.mean), failures: aged(self.failures) }
    }

    /// Returns whether there is no estimate.
    pub(crate) fn is_empty(&self) -> bool {
        self.peak.or(self.mean).or(self.failures).is_none()
    }
}

impl Load {
    /// Returns what is to be saved.
    pub(crate) fn saved(&self, now: Moment) -> SavedLoad {
        SavedLoad { peak: self.peak.saved(now), mean: self.mean.saved(now), failures: self.failures.saved(now) }
    }

    /// Continues from what was saved, where there is no sample yet.
    pub(crate) fn restore(&self, saved: SavedLoad, now: Moment) {
        let estimates = [(&self.peak, saved.peak), (&self.mean, saved.mean), (&self.failures, saved.failures)];
        for (estimate, saved) in estimates {
            if let Some(saved) = saved {
                estimate.restore(saved, now);
            }
        }
    }
}
