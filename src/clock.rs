//! The one place that reads the time: pure rooms get it as an argument.

use tokio::time::Instant;

use crate::health::Moment;

/// Tells the time since it was made, for as long as the process runs. Follows tokio's paused time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Moment {
        Moment::since_epoch(self.0.elapsed())
    }
}
