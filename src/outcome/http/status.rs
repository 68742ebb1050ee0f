//! Sets of status codes.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use crate::setting::InvalidSetting;

/// The range of `http::StatusCode`, and so of every response.
const FIRST: u16 = 100;
const LAST: u16 = 999;
const WORDS: usize = (LAST - FIRST) as usize / 64 + 1;

/// A set of HTTP status codes.
///
/// The default is the set that counts as failures by default: 429 and 500–599.
///
/// ```
/// use tower_fleet::outcome::Statuses;
///
/// let statuses = Statuses::none().and(408)?.and_range(502..=504)?;
/// assert_eq!(statuses, "408, 502-504".parse()?);
/// assert!(!statuses.contains(500));
///
/// let error = "429, 5000".parse::<Statuses>().unwrap_err();
/// assert!(error.to_string().starts_with("status `5000` must be a code or a range"));
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Statuses {
    bits: [u64; WORDS],
}

impl Statuses {
    /// Creates an empty set.
    pub const fn none() -> Self {
        Self { bits: [0; WORDS] }
    }

    /// Adds a code.
    ///
    /// # Errors
    ///
    /// Returns an error unless the code is from 100 to 999.
    pub fn and(self, code: u16) -> Result<Self, InvalidSetting> {
        self.and_range(code..=code)
    }

    /// Adds a range of codes, such as `500..=599`.
    ///
    /// # Errors
    ///
    /// Returns an error if the range is empty, or has a code that is not from 100 to 999.
    pub fn and_range(mut self, codes: RangeInclusive<u16>) -> Result<Self, InvalidSetting> {
        let (first, last) = (*codes.start(), *codes.end());
        if first < FIRST || last > LAST || first > last {
            return Err(invalid(&if first == last { first.to_string() } else { format!("{first}-{last}") }));
        }
        for code in codes {
            self.insert(code);
        }
        Ok(self)
    }

    /// Returns whether the code is in the set.
    pub const fn contains(&self, code: u16) -> bool {
        if code < FIRST || code > LAST {
            return false;
        }
        let index = (code - FIRST) as usize;
        self.bits[index / 64] >> (index % 64) & 1 == 1
    }

    /// Returns the codes of the set, the lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u16> + use<> {
        let this = *self;
        (FIRST..=LAST).filter(move |code| this.contains(*code))
    }

    /// Adds a code, a range or a class in the notation of files: `429`, `500-599`, `5xx`.
    pub(crate) fn and_text(self, item: &str) -> Result<Self, InvalidSetting> {
        let code = |digits: &str| digits.trim().parse::<u16>().ok();
        let range = if let Some(class) = item.trim().strip_suffix("xx").or_else(|| item.trim().strip_suffix("XX")) {
            code(class).filter(|class| (1..=9).contains(class)).map(|class| class * 100..=class * 100 + 99)
        } else if let Some((first, last)) = item.split_once('-') {
            code(first).zip(code(last)).map(|(first, last)| first..=last)
        } else {
            code(item).map(|code| code..=code)
        };
        self.and_range(range.ok_or_else(|| invalid(item.trim()))?)
    }

    /// Adds a code, which must be from `FIRST` to `LAST`.
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

/// 429 and 500–599: the backend is overloaded or has failed. Other 4xx codes are faults of the request.
impl Default for Statuses {
    fn default() -> Self {
        Self::FAILURES
    }
}

/// Parses codes, ranges and classes, separated by commas: `429, 500-599` or `429,5xx`. An empty text is the empty set.
impl FromStr for Statuses {
    type Err = InvalidSetting;

    fn from_str(list: &str) -> Result<Self, InvalidSetting> {
        if list.trim().is_empty() {
            return Ok(Self::none());
        }
        list.split(',').try_fold(Self::none(), Self::and_text)
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

fn invalid(value: &str) -> InvalidSetting {
    let reason = "must be a code or a range from 100 to 999, or a class (5xx)";
    InvalidSetting::of("", "status", format_args!("`{value}`"), reason)
}

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
    fn the_ends_of_the_range_are_included() {
        let all = Statuses::none().and_range(FIRST..=LAST).unwrap();
        assert_eq!(all.iter().count(), 900);
        assert!(all.contains(100) && all.contains(999) && !all.contains(99) && !all.contains(1000));
    }

    #[test]
    fn invalid_statuses_are_refused_by_name() {
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
            assert_eq!(error.value(), format!("`{}`", value.escape_debug()), "{list}");
        }
        assert!(Statuses::none().and(99).is_err());
        #[expect(clippy::reversed_empty_ranges)]
        let reversed = Statuses::none().and_range(600..=500);
        assert_eq!(reversed.unwrap_err().value(), "`600-500`");
    }

    #[test]
    fn a_refused_text_is_shown_shortened() {
        // C58
        assert!("x".repeat(100_000).parse::<Statuses>().unwrap_err().to_string().len() < 300);
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
        assert_eq!(mixed, Statuses::none().and_range(400..=499).unwrap().and(503).unwrap());
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
        fn a_set_holds_exactly_the_added_codes(
            first in 100u16..=999, len in 0u16..50, code in any::<u16>(),
        ) {
            let last = (first + len).min(999);
            let statuses = Statuses::none().and_range(first..=last).unwrap();
            prop_assert_eq!(statuses.contains(code), (first..=last).contains(&code));
        }
    }
}
