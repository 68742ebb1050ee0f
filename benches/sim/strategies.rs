//! The strategies, by name and with settings: `peak_ewma:choices=5,decay=2`.

use std::{collections::BTreeMap, time::Duration};

use tower_fleet::{
    Failover, FailoverLayer, InvalidSetting, Mode, RoundRobin, Shuffle, Weighted,
    failover::{Budget, Plain},
    outcome::ErrorsOnly,
    pick::{AnyStrategy, Latency, LeastLoaded, PeakEwma, Strategy, pick_fn},
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
pub(crate) const USUAL: &[&str] =
    &["round_robin", "p2c_in_flight", "least_loaded", "peak_ewma", "tower_pending", BASELINE, "oracle"];
/// The same, and the one by latency alone, for scenes in which a backend differs for long.
pub(crate) const WITH_LATENCY: &[&str] =
    &["round_robin", "p2c_in_flight", "least_loaded", "peak_ewma", "latency", "tower_pending", BASELINE, "oracle"];
/// The same, and one that is told the capacities.
pub(crate) const WEIGHTED: &[&str] = &[
    "round_robin",
    "weighted",
    "p2c_in_flight",
    "least_loaded",
    "peak_ewma",
    "latency",
    "tower_pending",
    BASELINE,
    "oracle",
];
/// The hedges, with a delay in milliseconds.
pub(crate) const HEDGES: &[&str] = &["unhedged", "hedged:after=10", "hedged:after=12", "hedged:after=12,budget=0.06"];

/// What the others are compared with.
pub(crate) const BASELINE: &str = "tower_ewma";

type Build = fn(&mut Settings<'_>) -> Result<Way, InvalidSetting>;

/// All strategies: what is not set by name has the default of the library. Times are in seconds, or as said.
const TABLE: &[(&str, Build)] = &[
    ("round_robin", |_| balance(RoundRobin::new())),
    ("shuffle", |_| balance(Shuffle::new())),
    ("weighted", |_| balance(Weighted)),
    ("p2c_in_flight", |settings| {
        let choices = settings.take("choices").unwrap_or(2.0) as usize;
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
    ("least_loaded", |settings| {
        let strategy = LeastLoaded::new().failure_penalty(stretched(1.0))?;
        let strategy = settings.set(strategy, "scan", |it, number| it.scan(number as usize))?;
        let strategy = settings.set(strategy, "choices", |it, number| it.choices(number as usize))?;
        let strategy = settings.set(strategy, "penalty", |it, time| it.failure_penalty(stretched(time)))?;
        balance(strategy)
    }),
    ("peak_ewma", |settings| {
        let strategy = PeakEwma::new().time_constant(stretched(5.0))?.failure_penalty(stretched(1.0))?;
        let strategy = settings.set(strategy, "scan", |it, number| it.scan(number as usize))?;
        let strategy = settings.set(strategy, "choices", |it, number| it.choices(number as usize))?;
        let strategy = settings.set(strategy, "decay", |it, time| it.time_constant(stretched(time)))?;
        let strategy = settings.set(strategy, "exponent", |it, exponent| it.exponent(exponent as f32))?;
        let strategy = settings.set(strategy, "penalty", |it, time| it.failure_penalty(stretched(time)))?;
        balance(strategy)
    }),
    ("latency", |settings| {
        let strategy = Latency::new().threshold(stretched(2.0))?.time_constant(stretched(10.0))?;
        let strategy = strategy.failure_penalty(stretched(1.0))?;
        let strategy = settings.set(strategy, "threshold", |it, time| it.threshold(stretched(time)))?;
        let strategy = settings.set(strategy, "decay", |it, time| it.time_constant(stretched(time)))?;
        let strategy = settings.set(strategy, "explore", |it, share| it.exploration(share as f32))?;
        let strategy = settings.set(strategy, "bound", |it, factor| it.load_bound(factor as f32))?;
        balance(strategy)
    }),
    ("oracle", |_| Ok(Way::Oracle)),
    ("tower_pending", |_| Ok(Way::TowerPending)),
    // The constants of linkerd and of tower's example: 30 ms for a new backend, decaying over 10 s.
    (BASELINE, |settings| {
        let default_rtt = stretched(settings.take("rtt").unwrap_or(30.0) / 1e3);
        let decay = stretched(settings.take("decay").unwrap_or(10.0));
        Ok(Way::TowerEwma { default_rtt, decay })
    }),
    ("unhedged", |_| failover(Mode::Sequential, None)),
    // After so many milliseconds, for at most this share of the requests.
    ("hedged", |settings| {
        let after = stretched(settings.take("after").unwrap_or(12.0) / 1e3);
        failover(Mode::hedged(after), settings.take("budget"))
    }),
];

fn balance(strategy: impl Strategy) -> Result<Way, InvalidSetting> {
    Ok(Way::Balance(AnyStrategy::new(strategy)))
}

fn failover(mode: Mode, budget: Option<f64>) -> Result<Way, InvalidSetting> {
    let layer = FailoverLayer::plain().strategy(RoundRobin::new()).mode(mode).timeout(None);
    let layer = budget.into_iter().fold(layer, |layer, share| layer.budget(Budget::new(share)));
    Ok(Way::Failover(layer.build()?))
}

/// The settings of a strategy, in its name.
struct Settings<'a>(BTreeMap<&'a str, f64>);

impl Settings<'_> {
    fn take(&mut self, name: &str) -> Option<f64> {
        self.0.remove(name)
    }

    fn set<S>(
        &mut self,
        strategy: S,
        name: &str,
        set: impl FnOnce(S, f64) -> Result<S, InvalidSetting>,
    ) -> Result<S, InvalidSetting> {
        match self.take(name) {
            Some(value) => set(strategy, value),
            None => Ok(strategy),
        }
    }
}

/// Builds a strategy anew, so that no state is shared between runs.
pub(crate) fn build(text: &str) -> Result<Way, String> {
    let (name, settings) = text.split_once(':').unwrap_or((text, ""));
    let (_, build) = TABLE.iter().find(|(row, _)| *row == name).ok_or_else(|| {
        let names: Vec<_> = names().collect();
        format!("no strategy `{name}`, only {}", names.join(", "))
    })?;
    let pairs = settings.split(',').filter(|setting| !setting.is_empty()).map(|setting| {
        let (name, value) = setting.split_once('=')?;
        // Times are computed from it, which must be neither negative nor infinite.
        let value = value.parse().ok().filter(|value| (0.0..1e6).contains(value))?;
        Some((name, value))
    });
    let pairs: Option<_> = pairs.collect();
    let mut settings = Settings(pairs.ok_or_else(|| format!("`{text}`: settings are `name=number`"))?);
    let way = build(&mut settings).map_err(|error| format!("`{text}`: {error}"))?;
    match settings.0.keys().next() {
        None => Ok(way),
        Some(unknown) => Err(format!("`{text}`: {name} has no setting `{unknown}`")),
    }
}

/// The names of all strategies.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}
