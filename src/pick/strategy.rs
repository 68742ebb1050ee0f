//! Strategies that are chosen at run time, by name.

use std::{any::Any, fmt, str::FromStr, sync::Arc};

use super::{
    Candidates, KeySource, Latency, LeastLoaded, Needs, PeakEwma, Pick, PickContext, Primary, RoundRobin, Shuffle,
    Strategy, Weighted,
};
use crate::setting::InvalidSetting;

macro_rules! strategies {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// The name of a strategy, as in a configuration file.
        ///
        /// Parsing ignores case, `_`, `-` and white space. An empty name means `failover`.
        ///
        /// ```
        /// # use tower_fleet::pick::StrategyName;
        /// assert_eq!(" Weighted-RoundRobin ".parse(), Ok(StrategyName::WeightedRoundRobin));
        /// assert!("fastest".parse::<StrategyName>().unwrap_err().to_string().contains("round_robin"));
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum StrategyName {
            $($(#[$doc])* $variant,)*
        }

        impl StrategyName {
            /// All names.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Returns the name as text.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

strategies! {
    /// One after the other: [`RoundRobin`](super::RoundRobin).
    RoundRobin => "round_robin",
    /// Every backend once in random order, then again: [`Shuffle`](super::Shuffle).
    Shuffle => "shuffle",
    /// In proportion to the weights, evenly spread: [`Weighted`](super::Weighted).
    WeightedRoundRobin => "weighted_round_robin",
    /// The first of the highest tier, the others when it fails: [`Primary`](super::Primary).
    #[default]
    Failover => "failover",
    /// By a key of the request: [`Hash`](super::Hash).
    Hash => "hash",
    /// Few calls in flight: [`LeastLoaded`](super::LeastLoaded).
    LeastLoaded => "least_loaded",
    /// The lowest time to the first byte: [`Latency`](super::Latency).
    Latency => "latency",
    /// A low expected latency: [`PeakEwma`](super::PeakEwma).
    PeakEwma => "peak_ewma",
    /// In proportion to the weights, the others when the selected one fails: [`Weighted`](super::Weighted).
    WeightedFailover => "weighted_failover",
}

impl fmt::Display for StrategyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for StrategyName {
    type Err = InvalidSetting;

    fn from_str(name: &str) -> Result<Self, InvalidSetting> {
        let letters = |name: &str| -> String {
            let ignored = |letter: &char| !matches!(letter, '_' | '-') && !letter.is_whitespace();
            name.chars().filter(ignored).map(|letter| letter.to_ascii_lowercase()).collect()
        };
        let wanted = letters(name);
        if wanted.is_empty() && name.trim().is_empty() {
            return Ok(Self::default());
        }
        let found = Self::ALL.iter().find(|strategy| letters(strategy.name()) == wanted);
        found.copied().ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|strategy| strategy.name()).collect();
            let reason = format!("must be one of {}", names.join(", "));
            InvalidSetting::of("", "strategy", format_args!("`{name}`"), reason)
        })
    }
}

/// A strategy of any type, for a strategy that is chosen at run time.
#[derive(Clone)]
pub struct AnyStrategy(Arc<dyn Erased>);

/// The pick of an [`AnyStrategy`].
pub struct AnyPick(Box<dyn Pick>);

trait Erased: Send + Sync {
    fn needs(&self) -> Needs;

    fn key(&self) -> Option<&KeySource>;

    fn make(&self, candidates: &Candidates<'_>, before: Option<(&dyn Pick, &Candidates<'_>)>) -> Box<dyn Pick>;
}

impl<P: Strategy> Erased for P {
    fn needs(&self) -> Needs {
        Strategy::needs(self)
    }

    fn key(&self) -> Option<&KeySource> {
        Strategy::key(self)
    }

    fn make(&self, candidates: &Candidates<'_>, before: Option<(&dyn Pick, &Candidates<'_>)>) -> Box<dyn Pick> {
        // A door keeps its strategy, so all its picks have one type.
        let before = before.and_then(|(pick, before)| Some(((pick as &dyn Any).downcast_ref()?, before)));
        Box::new(Strategy::make(self, candidates, before))
    }
}

impl AnyStrategy {
    /// Erases the type of a strategy.
    pub fn new(strategy: impl Strategy) -> Self {
        Self(Arc::new(strategy))
    }
}

/// Refuses [`StrategyName::Hash`], which needs a key: create a [`Hash`](super::Hash) with one.
impl TryFrom<StrategyName> for AnyStrategy {
    type Error = InvalidSetting;

    fn try_from(name: StrategyName) -> Result<Self, InvalidSetting> {
        Ok(match name {
            StrategyName::Failover => Self::new(Primary),
            StrategyName::RoundRobin => Self::new(RoundRobin),
            StrategyName::Latency => Self::new(Latency::new()),
            StrategyName::LeastLoaded => Self::new(LeastLoaded::new()),
            StrategyName::PeakEwma => Self::new(PeakEwma::new()),
            StrategyName::Shuffle => Self::new(Shuffle::new()),
            StrategyName::WeightedRoundRobin | StrategyName::WeightedFailover => Self::new(Weighted),
            StrategyName::Hash => {
                let reason = "needs the key of the request: write Hash::by_header(\"x-user\")? or another of its \
                              constructors, or in a file key = { header = \"x-user\" } under [hash]";
                return Err(InvalidSetting::of("", "strategy", "hash", reason));
            }
        })
    }
}

impl Strategy for AnyStrategy {
    type Pick = AnyPick;

    fn needs(&self) -> Needs {
        self.0.needs()
    }

    fn key(&self) -> Option<&KeySource> {
        self.0.key()
    }

    fn make(&self, candidates: &Candidates<'_>, before: Option<(&AnyPick, &Candidates<'_>)>) -> AnyPick {
        AnyPick(self.0.make(candidates, before.map(|(AnyPick(pick), before)| (&**pick, before))))
    }
}

impl Pick for AnyPick {
    #[inline]
    fn pick(&self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize {
        self.0.pick(candidates, cx)
    }

    fn may_probe(&self, place: usize, cx: &PickContext<'_>) -> bool {
        self.0.may_probe(place, cx)
    }
}

impl fmt::Debug for AnyStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyStrategy").finish_non_exhaustive()
    }
}

impl fmt::Debug for AnyPick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyPick").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C9
    #[test]
    fn parsing_ignores_case_separators_and_white_space() {
        for strategy in StrategyName::ALL {
            let name = strategy.name();
            let spellings = [
                name.to_owned(),
                format!("  {}\t", name.to_uppercase()),
                name.replace('_', "-"),
                name.replace('_', " "),
                name.replace('_', ""),
            ];
            for spelling in spellings {
                assert_eq!(spelling.parse(), Ok(*strategy), "{spelling:?}");
            }
        }
    }

    // C9
    #[test]
    fn an_empty_name_means_failover() {
        assert_eq!("".parse(), Ok(StrategyName::Failover));
        assert_eq!("  ".parse(), Ok(StrategyName::Failover));
    }

    // C9
    #[test]
    fn the_error_for_an_unknown_name_lists_the_valid_ones() {
        for unknown in ["fastest", "_", "--", "round_robin2", "runde\u{0}"] {
            let error = unknown.parse::<StrategyName>().unwrap_err().to_string();
            for strategy in StrategyName::ALL {
                assert!(error.contains(strategy.name()), "{error}");
            }
            assert!(!error.contains('\u{0}'));
        }
    }
}
