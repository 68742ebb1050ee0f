//! What a door goes by.

use std::{sync::Arc, time::Duration};

use super::{Backoff, Budget, Trigger};
use crate::{
    outcome::{Outcome, Statuses},
    setting::InvalidSetting,
};

/// When the next attempt starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// At the first trip, at all eligible backends at once, up to the [width](super::FailoverLayer::race_width), the
    /// primary included.
    #[default]
    Race,
    /// One after the other, each when the one before has tripped.
    Sequential,
    /// The next one after each such delay, or at a trip if that is earlier.
    ///
    /// A backend that loses to its hedge is cancelled, so no failure is recorded. Set
    /// [`slow_calls`](crate::CircuitBreakerLayer::slow_calls) below this delay, or a backend that hangs stays primary,
    /// and every request waits for its hedge.
    Hedged(Duration),
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) mode: Mode,
    pub(super) race_bound: Duration,
    pub(super) race_width: u32,
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Duration>,
    pub(super) attempts_per_backend: u32,
    pub(super) same_backend_delay: Duration,
    pub(super) backoff: Option<Backoff>,
    pub(super) retry_after_cap: Duration,
    pub(super) budget: Option<Budget>,
    pub(super) triggers: Arc<[Trigger]>,
    pub(super) statuses: Option<Statuses>,
    pub(super) idempotent_only: bool,
    pub(super) pass_through: bool,
}

/// What all requests of a door have in common.
#[derive(Clone, Debug)]
pub(super) struct Run<H> {
    pub(super) terms: H,
    pub(super) settings: Arc<Settings>,
    /// Why no request is sent.
    pub(super) refused: Option<Arc<InvalidSetting>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Race,
            // A race is a last resort, and a caller is waiting.
            race_bound: Duration::from_secs(5),
            // As many as help: one good backend among so many failing ones is found.
            race_width: 16,
            // No timer unless it is asked for.
            timeout: None,
            deadline: None,
            // Another backend is a better bet than the same one again.
            attempts_per_backend: 1,
            same_backend_delay: Duration::ZERO,
            backoff: None,
            // What a caller may be expected to wait for.
            retry_after_cap: Duration::from_secs(60),
            // Saving every request comes first; breakers end an outage's storm.
            budget: None,
            triggers: Trigger::defaults().into(),
            statuses: None,
            idempotent_only: false,
            // A client had better see the upstream's 429 than ours.
            pass_through: true,
        }
    }
}

impl Settings {
    /// The name of the first trigger that the outcome trips.
    pub(super) fn tripped(&self, outcome: &Outcome) -> Option<&'static str> {
        Trigger::tripped(&self.triggers, self.statuses.as_ref(), outcome)
    }

    /// What a response with this status is to the failover, where its status alone moves the request on.
    pub(super) fn on_status(&self, outcome: Outcome, status: Option<u16>) -> Option<Outcome> {
        Trigger::on_status(&self.triggers, self.statuses.as_ref(), outcome, status)
    }

    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        let positive = [
            ("mode.hedged", if let Mode::Hedged(delay) = self.mode { Some(delay) } else { None }),
            ("race_bound", Some(self.race_bound)),
            ("timeout", self.timeout),
            ("deadline", self.deadline),
        ];
        for (field, value) in positive {
            if value.is_some_and(|value| value.is_zero()) {
                return Err(InvalidSetting::setting(field, "0 s", "must be longer than zero"));
            }
        }
        if !(1..=100).contains(&self.attempts_per_backend) {
            let value = self.attempts_per_backend.to_string();
            return Err(InvalidSetting::setting("attempts_per_backend", &value, "must be from 1 to 100"));
        }
        if self.race_width == 0 {
            return Err(InvalidSetting::setting("race_width", "0", "must be at least 1"));
        }
        self.backoff.map_or(Ok(()), |backoff| backoff.checked().map(drop))?;
        self.budget.clone().map_or(Ok(()), |budget| budget.checked().map(drop))
    }
}
