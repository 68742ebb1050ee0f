//! The section `[failover]`.

use std::{num::NonZeroU32, time::Duration};

use http::HeaderName;
use serde::Deserialize;

use super::{
    Fault, Invalid,
    error::safe,
    units::{Size, Span},
};
use crate::{
    body::{ReplayLayer, ReplayMemory},
    failover::{self, Backoff, CommitPoint, FailoverLayer, Trigger},
    outcome::Statuses,
    pick::StrategyName,
    setting::Field,
    shape::frames_messages,
};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Section {
    mode: Option<Mode>,
    race_bound: Option<Span>,
    timeout: Option<Span>,
    deadline: Option<Span>,
    attempts_per_backend: Option<u32>,
    same_backend_delay: Option<Span>,
    backoff: Option<Pauses>,
    retry_after_cap: Option<Span>,
    budget: Option<Budget>,
    triggers: Option<Vec<On>>,
    statuses: Option<Statuses>,
    idempotent_only: bool,
    on_exhausted: OnExhausted,
    commit: Option<Commit>,
    replay_limit: Option<Size>,
    replay_memory: Option<Size>,
    served_by: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Race,
    Sequential,
    Hedged(Span),
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Pauses {
    base: Option<Span>,
    cap: Option<Span>,
    factor: Option<f64>,
    jitter: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    share: f64,
    reserve: NonZeroU32,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum On {
    Status,
    Timeout,
    Network,
    Custom,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OnExhausted {
    #[default]
    PassThrough,
    Error,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Commit {
    Head,
    FirstFrame,
    Whole(Size),
}

/// Somebody who writes a file wants to be served within a time, and may not know that there is a setting for it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What the keys outside of the section say of it.
pub(super) struct Outside {
    pub(super) strategy: Option<StrategyName>,
    /// One after the other, unless something else is said.
    pub(super) sequential: bool,
}

impl Section {
    pub(super) fn layer(self, outside: &Outside) -> Result<FailoverLayer, Invalid> {
        let mut layer = named(outside).timeout(self.timeout.map_or(TIMEOUT, |Span(timeout)| timeout));
        if let Some(mode) = self.mode {
            layer = layer.mode(mode.into());
        }
        // 0 means the default.
        if let Some(Span(bound)) = self.race_bound.filter(|Span(bound)| !bound.is_zero()) {
            layer = layer.race_bound(bound);
        }
        if let Some(Span(deadline)) = self.deadline {
            layer = layer.deadline(deadline);
        }
        if let Some(attempts) = self.attempts_per_backend {
            layer = layer.attempts_per_backend(attempts);
        }
        if let Some(Span(delay)) = self.same_backend_delay {
            layer = layer.same_backend_delay(delay);
        }
        if let Some(pauses) = self.backoff {
            layer = layer.backoff(pauses.into());
        }
        if let Some(Span(cap)) = self.retry_after_cap {
            layer = layer.retry_after_cap(cap);
        }
        if let Some(Budget { share, reserve }) = self.budget {
            layer = layer.budget(failover::Budget::new(share, reserve));
        }
        if let Some(triggers) = self.triggers {
            layer = layer.triggers(triggers.into_iter().map(Trigger::from));
        }
        if let Some(statuses) = self.statuses {
            layer = layer.statuses(statuses);
        }
        if self.idempotent_only {
            layer = layer.idempotent_only();
        }
        if let OnExhausted::Error = self.on_exhausted {
            layer = layer.error_when_exhausted();
        }
        if let Some(commit) = self.commit {
            layer = layer.commit(commit.into());
        }
        if let Some(name) = self.served_by {
            let fault = |reason| Fault::new(format_args!("\"{}\"", safe(&name)), reason);
            let header = HeaderName::try_from(&name)
                .map_err(|error| fault("must be the name of a header").because(error).at("failover.served_by", None))?;
            if frames_messages(&header) {
                return Err(fault("must not be a header that frames messages").at("failover.served_by", None));
            }
            layer = layer.served_by(header);
        }
        layer = layer.replay(replay(self.replay_limit, self.replay_memory));
        layer.checked().map_err(|refused| {
            let field = if let Field::Fleet(field) = refused.field { field } else { "" };
            Fault::new(&refused.value, refused.reason()).at(format!("failover.{field}"), None)
        })
    }
}

fn named(outside: &Outside) -> FailoverLayer {
    let layer = FailoverLayer::new().named(outside.strategy.unwrap_or_default());
    // These names stand for a mode too, and they were written down.
    let says_mode = matches!(outside.strategy, Some(StrategyName::Failover | StrategyName::WeightedFailover));
    if outside.sequential && !says_mode { layer.mode(failover::Mode::Sequential) } else { layer }
}

fn replay(limit: Option<Size>, memory: Option<Size>) -> ReplayLayer {
    let mut replay = ReplayLayer::new();
    if let Some(Size(limit)) = limit {
        replay = replay.limit(limit);
    }
    if let Some(Size(memory)) = memory {
        replay = replay.memory(ReplayMemory::new(memory));
    }
    replay
}

impl From<Mode> for failover::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Race => Self::Race,
            Mode::Sequential => Self::Sequential,
            Mode::Hedged(Span(delay)) => Self::Hedged(delay),
        }
    }
}

impl From<Pauses> for Backoff {
    fn from(pauses: Pauses) -> Self {
        // The defaults of `Backoff::default`, which are one by one for this place only.
        let base = pauses.base.map_or(Duration::from_secs(2), |Span(base)| base);
        let cap = pauses.cap.map_or(Duration::from_secs(16), |Span(cap)| cap);
        let mut backoff = Self::new(base, cap);
        if let Some(factor) = pauses.factor {
            backoff = backoff.factor(factor);
        }
        if let Some(jitter) = pauses.jitter {
            backoff = backoff.jitter(jitter);
        }
        backoff
    }
}

impl From<On> for Trigger {
    fn from(on: On) -> Self {
        match on {
            On::Status => Self::status(),
            On::Timeout => Self::timeout(),
            On::Network => Self::network(),
            On::Custom => Self::custom(),
        }
    }
}

impl From<Commit> for CommitPoint {
    fn from(commit: Commit) -> Self {
        match commit {
            Commit::Head => Self::Head,
            Commit::FirstFrame => Self::FirstFrame,
            Commit::Whole(Size(bound)) => Self::Whole(bound),
        }
    }
}
