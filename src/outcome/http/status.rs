//! Sets of status codes.

use std::{error, fmt, ops::RangeInclusive, str::FromStr};

/// What `http::StatusCode` can hold, and so what a response can have.
const FIRST: u16 = 100;
const LAST: u16 = 999;
const WORDS: usize = (LAST - FIRST) as usize / 64 + 1;

/// A set of status codes.
///
/// The default is what counts as a failure when nothing else is said: 429 and 500–599.
///
/// ```
/// use tower_fleet::outcome::Statuses;
///
/// let statuses = Statuses::none().and(408)?.and(502..=504)?;
/// assert_eq!(statuses, "408, 502-504".parse()?);
/// assert!(!statuses.contains(500));
///
/// let error = "429, 5000".parse::<Statuses>().unwrap_err();
/// assert!(error.to_string().starts_with(r#"invalid status "5000": expected"#));
/// # Ok::<_, tower_fleet::outcome::InvalidStatus>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Statuses {
    bits: [u64; WORDS],
}

/// One code, or a range of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRange(RangeInclusive<u16>);

/// A status code that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidStatus {
    value: String,
}

impl Statuses {
    /// No status at all.
    pub const fn none() -> Self {
        Self { bits: [0; WORDS] }
    }

    /// Adds a code or a range: `429`, `500..=599`.
    pub fn and(mut self, codes: impl Into<StatusRange>) -> Result<Self, InvalidStatus> {
        let StatusRange(codes) = codes.into();
        let (first, last) = (*codes.start(), *codes.end());
        if first < FIRST || last > LAST || first > last {
            let value = if first == last { first.to_string() } else { format!("{first}-{last}") };
            return Err(InvalidStatus { value });
        }
        for code in codes {
            self.insert(code);
        }
        Ok(self)
    }

    /// Whether the code is in the set.
    pub const fn contains(&self, code: u16) -> bool {
        if code < FIRST || code > LAST {
            return false;
        }
        let index = (code - FIRST) as usize;
        self.bits[index / 64] >> (index % 64) & 1 == 1
    }

    /// The codes of the set, the lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u16> + use<> {
        let this = *self;
        (FIRST..=LAST).filter(move |code| this.contains(*code))
    }

    /// `code` lies between `FIRST` and `LAST`.
    pub(super) const fn insert(&mut self, code: u16) {
        let index = (code - FIRST) as usize;
        self.bits[index / 64] |= 1 << (index % 64);
    }

    const FAILURES: Self = {
        let mut failures = Self::none();
        failures.insert(429);
        let mut code = 500;
        while code < 600 {
            failures.insert(code);
            code += 1;
        }
        failures
    };
}

/// 429 and 500–599: too much was asked of the backend, or it broke. Other 4xx are the caller's.
impl Default for Statuses {
    fn default() -> Self {
        Self::FAILURES
    }
}

/// Codes, ranges and classes between commas: `429, 500-599`, `429,5xx`. Nothing is the empty set.
impl FromStr for Statuses {
    type Err = InvalidStatus;

    fn from_str(list: &str) -> Result<Self, InvalidStatus> {
        if list.trim().is_empty() {
            return Ok(Self::none());
        }
        list.split(',').try_fold(Self::none(), |statuses, item| statuses.and(item.parse::<StatusRange>()?))
    }
}

impl fmt::Debug for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut codes = self.iter().peekable();
        let mut ranges = f.debug_set();
        while let Some(first) = codes.next() {
            let mut last = first;
            while let Some(next) = codes.next_if_eq(&(last + 1)) {
                last = next;
            }
            if first == last {
                ranges.entry(&first)
            } else {
                ranges.entry(&(first..=last))
            };
        }
        ranges.finish()
    }
}

impl FromStr for StatusRange {
    type Err = InvalidStatus;

    fn from_str(item: &str) -> Result<Self, InvalidStatus> {
        let item = item.trim();
        let code = |digits: &str| digits.trim().parse::<u16>().ok();
        let range = if let Some(class) = item.strip_suffix("xx").or_else(|| item.strip_suffix("XX")) {
            code(class).filter(|class| (1..=9).contains(class)).map(|class| class * 100..=class * 100 + 99)
        } else if let Some((first, last)) = item.split_once('-') {
            code(first).zip(code(last)).map(|(first, last)| first..=last)
        } else {
            code(item).map(|code| code..=code)
        };
        // What is refused may be a megabyte long.
        range.map(Self).ok_or_else(|| InvalidStatus { value: item.chars().take(80).collect() })
    }
}

impl From<u16> for StatusRange {
    fn from(code: u16) -> Self {
        Self(code..=code)
    }
}

impl From<RangeInclusive<u16>> for StatusRange {
    fn from(codes: RangeInclusive<u16>) -> Self {
        Self(codes)
    }
}

impl InvalidStatus {
    /// What was given.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for InvalidStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = &self.value;
        write!(f, "invalid status {value:?}: expected a code or range from 100 to 999, or a class (5xx)")
    }
}

impl error::Error for InvalidStatus {}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_default_is_429_and_the_five_hundreds() {
        // C27
        let default = Statuses::default();
        for code in 0..=u16::MAX {
            assert_eq!(default.contains(code), code == 429 || (500..=599).contains(&code), "{code}");
        }
        assert_eq!(default, "429, 500-599".parse().unwrap());
        assert_eq!(format!("{default:?}"), "{429, 500..=599}");
    }

    #[test]
    fn the_ends_of_the_range_fit() {
        let all = Statuses::none().and(FIRST..=LAST).unwrap();
        assert_eq!(all.iter().count(), 900);
        assert!(all.contains(100) && all.contains(999) && !all.contains(99) && !all.contains(1000));
    }

    #[test]
    fn what_cannot_be_a_status_is_refused_by_name() {
        // C58
        for (list, value) in [
            ("99", "99"),
            ("1000", "1000"),
            ("429, 70000", "70000"),
            ("599-500", "599-500"),
            ("500-1000", "500-1000"),
            ("500-", "500-"),
            ("-1", "-1"),
            ("429,,500", ""),
            ("axx", "axx"),
            ("0xx", "0xx"),
            ("bad gateway", "bad gateway"),
            ("5xx\u{7f}", "5xx\u{7f}"),
        ] {
            let error = list.parse::<Statuses>().unwrap_err();
            assert_eq!(error.value(), value, "{list}");
            assert!(error.to_string().contains(&format!("{value:?}")), "{error}");
        }
        assert!(Statuses::none().and(99).is_err());
        #[expect(clippy::reversed_empty_ranges)]
        let reversed = Statuses::none().and(600..=500);
        assert_eq!(reversed.unwrap_err().value(), "600-500");
    }

    #[test]
    fn what_is_refused_is_shown_short() {
        // C58
        assert!("x".repeat(100_000).parse::<Statuses>().unwrap_err().to_string().len() < 200);
    }

    #[test]
    fn an_empty_list_is_the_empty_set() {
        // C29
        assert_eq!(" ".parse::<Statuses>().unwrap(), Statuses::none());
        assert_eq!(Statuses::none().iter().count(), 0);
    }

    #[test]
    fn classes_and_codes_mix() {
        let mixed = "4XX, 503".parse::<Statuses>().unwrap();
        assert_eq!(mixed, Statuses::none().and(400..=499).unwrap().and(StatusCode::SERVICE_UNAVAILABLE).unwrap());
        assert_eq!(Statuses::from_iter([StatusCode::BAD_GATEWAY]).iter().collect::<Vec<_>>(), [502]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(list in "\\PC{0,40}", ranges in "[0-9xX, -]{0,24}") {
            // C58
            let _ = list.parse::<Statuses>();
            let _ = ranges.parse::<Statuses>();
        }

        #[test]
        fn holds_exactly_what_was_put_in(
            first in 100u16..=999, len in 0u16..50, code in any::<u16>(),
        ) {
            let last = (first + len).min(999);
            let statuses = Statuses::none().and(first..=last).unwrap();
            prop_assert_eq!(statuses.contains(code), (first..=last).contains(&code));
        }
    }
}
