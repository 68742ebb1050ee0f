use std::{error::Error, fmt, str::FromStr};

use super::{Candidate, Pick, Primary, Rng, RoundRobin, Shuffle, Weighted};

macro_rules! strategies {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// A strategy by name, as it stands in a configuration file.
        ///
        /// Names are trimmed and read without regard to case, `_`, `-` and spaces. No name means `failover`.
        ///
        /// ```
        /// # use tower_fleet::pick::Strategy;
        /// assert_eq!(" Weighted-RoundRobin ".parse(), Ok(Strategy::WeightedRoundRobin));
        /// assert!("fastest".parse::<Strategy>().unwrap_err().to_string().contains("least_loaded"));
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Strategy {
            $($(#[$doc])* $variant,)*
        }

        impl Strategy {
            /// Every strategy there is a name for.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name as it is written in full.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

strategies! {
    /// One after the other.
    RoundRobin => "round_robin",
    /// Every backend once in random order, then again.
    Shuffle => "shuffle",
    /// In proportion to the weights, evenly spread.
    WeightedRoundRobin => "weighted_round_robin",
    /// The first of the highest tier, the others when it fails.
    #[default]
    Failover => "failover",
    /// In proportion to the weights, the others when it fails.
    WeightedFailover => "weighted_failover",
    /// The fewest requests in flight.
    LeastLoaded => "least_loaded",
    /// The lower decaying peak latency of two.
    PeakEwma => "peak_ewma",
    /// The lowest time to the first byte.
    Latency => "latency",
    /// By a key from the request.
    Hash => "hash",
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(name: &str) -> Result<Self, UnknownStrategy> {
        let letters = |name: &str| -> String {
            let ignored = |letter: &char| !matches!(letter, '_' | '-') && !letter.is_whitespace();
            name.chars().filter(ignored).map(|letter| letter.to_ascii_lowercase()).collect()
        };
        let wanted = letters(name);
        if wanted.is_empty() && name.trim().is_empty() {
            return Ok(Self::default());
        }
        let found = Self::ALL.iter().find(|strategy| letters(strategy.name()) == wanted);
        found.copied().ok_or_else(|| UnknownStrategy(name.escape_debug().take(80).collect()))
    }
}

/// A name that stands for no strategy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownStrategy(String);

impl fmt::Display for UnknownStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown strategy `{}`, expected one of ", self.0)?;
        for (index, strategy) in Strategy::ALL.iter().enumerate() {
            write!(f, "{}{strategy}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Error for UnknownStrategy {}

/// A strategy that cannot choose a backend yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsupportedStrategy(Strategy);

impl fmt::Display for UnsupportedStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "strategy {} is not supported by this version", self.0)
    }
}

impl Error for UnsupportedStrategy {}

/// A strategy that was chosen at run time.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyPick {
    /// Always the first.
    Primary(Primary),
    /// One after the other.
    RoundRobin(RoundRobin),
    /// Dealt cards.
    Shuffle(Shuffle),
    /// Smooth weighted round robin.
    Weighted(Weighted),
}

impl TryFrom<Strategy> for AnyPick {
    type Error = UnsupportedStrategy;

    fn try_from(strategy: Strategy) -> Result<Self, UnsupportedStrategy> {
        match strategy {
            Strategy::Failover => Ok(Self::Primary(Primary)),
            Strategy::RoundRobin => Ok(Self::RoundRobin(RoundRobin::new())),
            Strategy::Shuffle => Ok(Self::Shuffle(Shuffle::new())),
            Strategy::WeightedRoundRobin | Strategy::WeightedFailover => Ok(Self::Weighted(Weighted::new())),
            Strategy::LeastLoaded | Strategy::PeakEwma | Strategy::Latency | Strategy::Hash => {
                Err(UnsupportedStrategy(strategy))
            }
        }
    }
}

impl Pick for AnyPick {
    fn renew(&self, before: &[Candidate], now: &[Candidate]) -> Self {
        match self {
            Self::Primary(pick) => Self::Primary(pick.renew(before, now)),
            Self::RoundRobin(pick) => Self::RoundRobin(pick.renew(before, now)),
            Self::Shuffle(pick) => Self::Shuffle(pick.renew(before, now)),
            Self::Weighted(pick) => Self::Weighted(pick.renew(before, now)),
        }
    }

    #[inline]
    fn pick(&self, candidates: &[Candidate], rng: &mut Rng) -> usize {
        match self {
            Self::Primary(pick) => pick.pick(candidates, rng),
            Self::RoundRobin(pick) => pick.pick(candidates, rng),
            Self::Shuffle(pick) => pick.pick(candidates, rng),
            Self::Weighted(pick) => pick.pick(candidates, rng),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C9
    #[test]
    fn names_parse_trimmed_and_whatever_their_case_and_separators() {
        for strategy in Strategy::ALL {
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
    fn no_name_means_failover() {
        assert_eq!("".parse(), Ok(Strategy::Failover));
        assert_eq!("  ".parse(), Ok(Strategy::Failover));
    }

    // C9
    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_valid_ones() {
        for unknown in ["fastest", "_", "--", "round_robin2", "runde\u{0}"] {
            let error = unknown.parse::<Strategy>().unwrap_err().to_string();
            for strategy in Strategy::ALL {
                assert!(error.contains(strategy.name()), "{error}");
            }
            assert!(!error.contains('\u{0}'));
        }
    }
}
