use std::{any::Any, error::Error, fmt, str::FromStr, sync::Arc};

use super::{Candidates, Pick, PickContext, Primary, RoundRobin, Shuffle, Strategy, Weighted};

macro_rules! strategies {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// A strategy by name, as it stands in a configuration file.
        ///
        /// Names are trimmed and read without regard to case, `_`, `-` and spaces. No name means `failover`.
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
}

impl fmt::Display for StrategyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for StrategyName {
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
        for (index, strategy) in StrategyName::ALL.iter().enumerate() {
            write!(f, "{}{strategy}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Error for UnknownStrategy {}

/// A strategy whose type was chosen at run time.
#[derive(Clone)]
pub struct AnyStrategy(Arc<dyn Erased>);

/// The pick of a strategy whose type was chosen at run time.
pub struct AnyPick(Box<dyn Pick>);

trait Erased: Send + Sync {
    fn make(&self, candidates: &Candidates<'_>, before: Option<(&dyn Pick, &Candidates<'_>)>) -> Box<dyn Pick>;
}

impl<P: Strategy> Erased for P {
    fn make(&self, candidates: &Candidates<'_>, before: Option<(&dyn Pick, &Candidates<'_>)>) -> Box<dyn Pick> {
        // A door keeps its strategy, so that its picks are all of one type.
        let before = before.and_then(|(pick, before)| Some(((pick as &dyn Any).downcast_ref()?, before)));
        Box::new(Strategy::make(self, candidates, before))
    }
}

impl AnyStrategy {
    /// Forgets the type of a strategy.
    pub fn new(strategy: impl Strategy) -> Self {
        Self(Arc::new(strategy))
    }
}

impl From<StrategyName> for AnyStrategy {
    fn from(name: StrategyName) -> Self {
        match name {
            StrategyName::Failover => Self::new(Primary),
            StrategyName::RoundRobin => Self::new(RoundRobin),
            StrategyName::Shuffle => Self::new(Shuffle::new()),
            StrategyName::WeightedRoundRobin | StrategyName::WeightedFailover => Self::new(Weighted),
        }
    }
}

impl Strategy for AnyStrategy {
    type Pick = AnyPick;

    fn make(&self, candidates: &Candidates<'_>, before: Option<(&AnyPick, &Candidates<'_>)>) -> AnyPick {
        AnyPick(self.0.make(candidates, before.map(|(AnyPick(pick), before)| (&**pick, before))))
    }
}

impl Pick for AnyPick {
    #[inline]
    fn pick(&self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize {
        self.0.pick(candidates, cx)
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
    fn names_parse_trimmed_and_whatever_their_case_and_separators() {
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
    fn no_name_means_failover() {
        assert_eq!("".parse(), Ok(StrategyName::Failover));
        assert_eq!("  ".parse(), Ok(StrategyName::Failover));
    }

    // C9
    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_valid_ones() {
        for unknown in ["fastest", "_", "--", "round_robin2", "runde\u{0}"] {
            let error = unknown.parse::<StrategyName>().unwrap_err().to_string();
            for strategy in StrategyName::ALL {
                assert!(error.contains(strategy.name()), "{error}");
            }
            assert!(!error.contains('\u{0}'));
        }
    }
}
