//! The strategies, by name and with settings: `peak_ewma:choices=5,decay=2`.

use std::{collections::BTreeMap, time::Duration};

use tower_fleet::{
    Failover, FailoverLayer, Mode, RoundRobin, Shuffle, Weighted,
    failover::{Budget, Plain},
    outcome::ErrorsOnly,
    pick::{AnyStrategy, pick_fn},
};

use crate::{server::Server, time::stretched};

/// How requests get to the servers.
#[derive(Clone)]
pub(crate) enum Way {
    /// Our `Balance`.
    Balance(AnyStrategy),
    /// Our `Failover`.
    Failover(FailoverLayer<Plain>),
    /// Knows what no client knows: the server at which the request will be done first.
    Oracle,
    /// tower's `p2c::Balance` over `PendingRequests`.
    TowerPending,
    /// tower's `p2c::Balance` over `PeakEwma`.
    TowerEwma { default_rtt: Duration, decay: Duration },
}

/// The door of a [`Way::Failover`].
pub(crate) type FailoverDoor = Failover<Server, Plain, ErrorsOnly>;

/// The strategies of a scene that asks for nothing else.
pub(crate) const USUAL: &[&str] = &["round_robin", "p2c_in_flight", "tower_pending", BASELINE, "oracle"];
/// The same, and one that is told the capacities.
pub(crate) const WEIGHTED: &[&str] = &["round_robin", "weighted", "p2c_in_flight", "tower_pending", BASELINE, "oracle"];
/// The hedges, with a delay in milliseconds.
pub(crate) const HEDGES: &[&str] = &["unhedged", "hedged:after=10", "hedged:after=12", "hedged:after=12,budget=0.06"];

/// What the others are compared with.
pub(crate) const BASELINE: &str = "tower_ewma";

type Build = fn(&mut Settings<'_>) -> Way;

/// All strategies. Settings are taken by name, with their default.
const TABLE: &[(&str, Build)] = &[
    ("round_robin", |_| balance(RoundRobin::new())),
    ("shuffle", |_| balance(Shuffle::new())),
    ("weighted", |_| balance(Weighted)),
    ("p2c_in_flight", |settings| {
        let choices = settings.take("choices", 2.0) as usize;
        balance(pick_fn(move |candidates, cx| {
            let mut best = cx.random_below(candidates.len());
            for _ in 1..choices {
                let other = cx.random_below(candidates.len());
                if candidates[other].in_flight() < candidates[best].in_flight() {
                    best = other;
                }
            }
            best
        }))
    }),
    ("oracle", |_| Way::Oracle),
    ("tower_pending", |_| Way::TowerPending),
    // The constants of linkerd and of tower's example: 30 ms for a new backend, decaying over 10 s.
    (BASELINE, |settings| Way::TowerEwma {
        default_rtt: stretched(settings.take("rtt", 30.0) / 1e3),
        decay: stretched(settings.take("decay", 10.0)),
    }),
    ("unhedged", |_| failover(Mode::Sequential, None)),
    ("hedged", |settings| {
        let after = stretched(settings.take("after", 12.0) / 1e3);
        let budget = settings.take("budget", 1.0);
        failover(Mode::Hedged(after), Some(Budget::new(budget)))
    }),
];

fn balance(strategy: impl tower_fleet::pick::Strategy) -> Way {
    Way::Balance(AnyStrategy::new(strategy))
}

fn failover(mode: Mode, budget: Option<Budget>) -> Way {
    let layer = FailoverLayer::plain().strategy(RoundRobin::new()).mode(mode).timeout(None);
    let layer = if let Some(budget) = budget { layer.budget(budget) } else { layer };
    Way::Failover(layer.build().expect("valid settings"))
}

/// The settings of a strategy, in its name.
struct Settings<'a>(BTreeMap<&'a str, f64>);

impl Settings<'_> {
    fn take(&mut self, name: &str, default: f64) -> f64 {
        self.0.remove(name).unwrap_or(default)
    }
}

/// Builds a strategy anew, so that no state is shared between runs.
pub(crate) fn build(text: &str) -> Result<Way, String> {
    let (name, settings) = text.split_once(':').unwrap_or((text, ""));
    let (_, build) = TABLE.iter().find(|(row, _)| *row == name).ok_or_else(|| {
        let names: Vec<_> = TABLE.iter().map(|(name, _)| *name).collect();
        format!("no strategy `{name}`, only {}", names.join(", "))
    })?;
    let pairs = settings.split(',').filter(|setting| !setting.is_empty()).map(|setting| {
        let (name, value) = setting.split_once('=')?;
        Some((name, value.parse().ok()?))
    });
    let pairs: Option<_> = pairs.collect();
    let mut settings = Settings(pairs.ok_or_else(|| format!("`{text}`: settings are `name=number`"))?);
    let way = build(&mut settings);
    match settings.0.keys().next() {
        None => Ok(way),
        Some(unknown) => Err(format!("`{text}`: {name} has no setting `{unknown}`")),
    }
}

/// The names of all strategies.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}
