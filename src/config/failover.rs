//! The section `[failover]`.

use std::{collections::BTreeSet, num::NonZeroU32, time::Duration};

use http::HeaderName;
use serde::Deserialize;

use super::{
    ConfigError, ValueError,
    commit::Commit,
    content::{self, Limits},
    error::safe,
    hedge::Hedge,
    rejection,
    units::{Share, Size, Span},
};
use crate::{
    body::{ReplayLayer, ReplayMemory},
    failover::{self, Backoff, FailoverBuilder, FailoverLayer, Methods, Trigger},
    outcome::Statuses,
    pick::{Hash, StrategyName},
    upstream::frames_messages,
};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Section {
    mode: Option<Mode>,
    race_bound: Option<Span>,
    race_width: Option<u32>,
    timeout: Option<Span>,
    time_limits: Option<Limits>,
    deadline: Option<Span>,
    ready_within: Option<Span>,
    attempts_per_backend: Option<u32>,
    same_backend_delay: Option<Span>,
    backoff: Option<BackoffKeys>,
    retry_after_cap: Option<Span>,
    budget: Option<Budget>,
    triggers: Option<Vec<TriggerName>>,
    statuses: Option<Statuses>,
    retry_methods: Option<MethodNames>,
    hedge_methods: Option<MethodNames>,
    on_exhausted: OnExhausted,
    commit: Option<Commit>,
    replay_limit: Option<Size>,
    replay_memory: Option<Size>,
    upload_idle_timeout: Option<Span>,
    served_by: Option<String>,
    rejections: Option<rejection::Preset>,
    rejection: Vec<rejection::Section>,
    rejection_bound: Option<Size>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Race,
    Sequential,
    Hedged(Hedge),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum MethodNames {
    All,
    Idempotent,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BackoffKeys {
    base: Option<Span>,
    cap: Option<Span>,
    factor: Option<f64>,
    jitter: Option<Share>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    share: Share,
    reserve: Option<NonZeroU32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum TriggerName {
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

/// The keys outside of the section that matter to it.
pub(super) struct RootKeys {
    pub(super) strategy: Option<StrategyName>,
    /// The settings of the strategy `hash`.
    pub(super) hash: Option<Hash>,
    /// Whether the default mode is sequential.
    pub(super) sequential: bool,
    /// The tags of the backends.
    pub(super) tags: BTreeSet<String>,
}

impl Section {
    /// The longest delay of a hedge, if the mode is hedged.
    pub(super) fn hedge_delay(&self) -> Option<Duration> {
        match &self.mode {
            Some(Mode::Hedged(hedge)) => Some(hedge.longest()),
            _ => None,
        }
    }

    /// Whether events have to be read for its commit point.
    pub(super) fn reads_events(&self) -> bool {
        self.commit.as_ref().is_some_and(Commit::reads_events)
    }

    pub(super) fn layer(self, root: RootKeys) -> Result<FailoverLayer, ConfigError> {
        let rejections = rejection::rejections(self.rejections, self.rejection, self.rejection_bound, &root.tags)?;
        let mut builder = builder(root);
        if let Some(rejections) = rejections {
            builder = builder.rejections(rejections);
        }
        if let Some(Span(timeout)) = self.timeout {
            builder = builder.timeout(timeout);
        }
        if let Some(limits) = self.time_limits {
            builder = builder.time_limits(limits.time_limits());
        }
        if let Some(mode) = self.mode {
            builder = builder.mode(mode.into());
        }
        // 0 means the default.
        if let Some(Span(bound)) = self.race_bound.filter(|Span(bound)| !bound.is_zero()) {
            builder = builder.race_bound(bound);
        }
        if let Some(width) = self.race_width {
            builder = builder.race_width(width);
        }
        if let Some(Span(deadline)) = self.deadline {
            builder = builder.deadline(deadline);
        }
        if let Some(Span(time)) = self.ready_within {
            builder = builder.ready_within(time);
        }
        if let Some(attempts) = self.attempts_per_backend {
            builder = builder.attempts_per_backend(attempts);
        }
        if let Some(Span(delay)) = self.same_backend_delay {
            builder = builder.same_backend_delay(delay);
        }
        if let Some(keys) = self.backoff {
            builder = builder.backoff(keys.into());
        }
        if let Some(Span(cap)) = self.retry_after_cap {
            builder = builder.retry_after_cap(cap);
        }
        if let Some(Budget { share: Share(share), reserve }) = self.budget {
            let budget = failover::Budget::new(share);
            builder = builder.budget(match reserve {
                Some(reserve) => budget.reserve(reserve.get()),
                None => budget,
            });
        }
        if let Some(triggers) = self.triggers {
            builder = builder.triggers(triggers.into_iter().map(Trigger::from));
        }
        if let Some(statuses) = self.statuses {
            builder = builder.statuses(statuses);
        }
        if let Some(methods) = self.retry_methods {
            builder = builder.retry_methods(methods.into());
        }
        if let Some(methods) = self.hedge_methods {
            builder = builder.hedge_methods(methods.into());
        }
        if let OnExhausted::Error = self.on_exhausted {
            builder = builder.error_when_exhausted();
        }
        if let Some(commit) = self.commit {
            builder = builder.commit(commit.point()?);
        }
        if let Some(name) = self.served_by {
            let refused = |reason| ValueError::new(format_args!("\"{}\"", safe(&name)), reason);
            let header = HeaderName::try_from(&name).map_err(|error| {
                refused("must be the name of a header").because(error).at("failover.served_by", None)
            })?;
            if frames_messages(&header) {
                return Err(refused("must not be a header that frames messages").at("failover.served_by", None));
            }
            builder = builder.served_by(header);
        }
        builder = builder.replay(replay(self.replay_limit, self.replay_memory, self.upload_idle_timeout));
        builder.build().map_err(|refused| {
            let path = format!("failover.{}{}", content::section_of(refused.field()), refused.field());
            ValueError::new(refused.value(), refused.reason()).at(path, None)
        })
    }
}

/// A builder with the strategy, and with the mode that it or the preset sets.
fn builder(root: RootKeys) -> FailoverBuilder {
    let builder = FailoverLayer::builder();
    let builder = match root.hash {
        Some(hash) => builder.strategy(hash),
        None => builder.strategy_named(root.strategy.unwrap_or_default()),
    };
    // These names set a mode too, which takes precedence over the preset.
    let sets_mode = matches!(root.strategy, Some(StrategyName::Failover | StrategyName::WeightedFailover));
    if root.sequential && !sets_mode { builder.mode(failover::Mode::Sequential) } else { builder }
}

fn replay(limit: Option<Size>, memory: Option<Size>, idle_timeout: Option<Span>) -> ReplayLayer {
    let mut replay = ReplayLayer::new();
    if let Some(Size(limit)) = limit {
        replay = replay.limit(limit);
    }
    if let Some(Size(memory)) = memory {
        replay = replay.memory(ReplayMemory::new(memory));
    }
    if let Some(Span(timeout)) = idle_timeout {
        replay = replay.idle_timeout(timeout);
    }
    replay
}

impl From<Mode> for failover::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Race => Self::Race,
            Mode::Sequential => Self::Sequential,
            Mode::Hedged(hedge) => Self::Hedged(hedge.into()),
        }
    }
}

impl From<MethodNames> for Methods {
    fn from(methods: MethodNames) -> Self {
        match methods {
            MethodNames::All => Self::All,
            MethodNames::Idempotent => Self::Idempotent,
        }
    }
}

impl From<BackoffKeys> for Backoff {
    fn from(keys: BackoffKeys) -> Self {
        // The values of `Backoff::default`, since each key is optional here.
        let base = keys.base.map_or(Duration::from_secs(2), |Span(base)| base);
        let cap = keys.cap.map_or(Duration::from_secs(16), |Span(cap)| cap);
        let mut backoff = Self::new(base, cap);
        if let Some(factor) = keys.factor {
            backoff = backoff.factor(factor);
        }
        if let Some(Share(jitter)) = keys.jitter {
            backoff = backoff.jitter(jitter);
        }
        backoff
    }
}

impl From<TriggerName> for Trigger {
    fn from(name: TriggerName) -> Self {
        match name {
            TriggerName::Status => Self::status(),
            TriggerName::Timeout => Self::timeout(),
            TriggerName::Network => Self::network(),
            TriggerName::Custom => Self::custom(),
        }
    }
}
