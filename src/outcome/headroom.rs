//! What is left of the rate limit of a backend.

use std::time::Duration;

/// What is left of the rate limit of a backend, as a good response of it states: for a
/// [classifier](super::Classify::headroom).
///
/// ```
/// # use std::time::Duration;
/// # use tower_fleet::outcome::Headroom;
/// // 12 of 600 requests are left, and in 8 s all of them are.
/// let headroom = Headroom::new(12.0 / 600.0).until_reset(Duration::from_secs(8));
/// assert_eq!((headroom.left(), headroom.reset()), (0.02, Some(Duration::from_secs(8))));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Headroom {
    left: f64,
    reset: Option<Duration>,
}

impl Headroom {
    /// Creates the headroom of a backend with this part of its limit left, from 0 for nothing to 1 for all of it.
    ///
    /// More counts as 1, less as 0. What is no number counts as 1, since it states nothing.
    pub const fn new(left: f64) -> Self {
        let left = if left.is_nan() { 1.0 } else { left.clamp(0.0, 1.0) };
        Self { left, reset: None }
    }

    /// Sets the time until the limit is whole again, if the response states it.
    pub fn until_reset(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.reset = time.into();
        self
    }

    /// Returns the part of the limit that is left, from 0 to 1.
    pub const fn left(self) -> f64 {
        self.left
    }

    /// Returns the time until the limit is whole again.
    pub const fn reset(self) -> Option<Duration> {
        self.reset
    }
}
