//! Virtual time: a simulated microsecond is a millisecond of tokio's paused clock, which is as fine as its timers are.

use std::time::Duration;

use tokio::time::Instant;

/// Simulated microseconds, since the start of the run or as a length.
pub(crate) type Micros = u64;

pub(crate) const SECOND: f64 = 1e6;

/// How much slower tokio's clock is.
const STRETCH: f64 = 1000.0;

/// Converts simulated seconds to a setting of a door, which measures by tokio's clock.
pub(crate) fn stretched(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds * STRETCH)
}

/// Converts simulated seconds to microseconds.
pub(crate) fn micros(seconds: f64) -> Micros {
    (seconds * SECOND) as Micros
}

/// The clock of one run.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Micros {
        self.0.elapsed().as_millis() as Micros
    }

    pub(crate) fn instant(self, at: Micros) -> Instant {
        self.0 + Duration::from_millis(at)
    }
}
