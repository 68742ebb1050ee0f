//! The header `Content-Range` (RFC 9110, section 14.4).

use http::{HeaderMap, header::CONTENT_RANGE};

/// A satisfied byte range: `bytes 0-499/1234`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ContentRange {
    pub(super) start: u64,
    /// The position behind the last byte.
    pub(super) end: u64,
    /// The length of the representation; `None` if it is unknown (`*`).
    pub(super) total: Option<u64>,
}

impl ContentRange {
    /// Reads the header; `None` if it is missing, repeated or not a valid range.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(CONTENT_RANGE).iter();
        let value = values.next()?.to_str().ok()?;
        if values.next().is_some() { None } else { Self::parse(value) }
    }

    fn parse(value: &str) -> Option<Self> {
        let (unit, range) = value.split_once(' ')?;
        let (span, total) = range.trim_start().split_once('/')?;
        let (first, last) = span.split_once('-')?;
        let (start, end) = (number(first)?, number(last)?.checked_add(1)?);
        let total = if total == "*" { None } else { Some(number(total)?) };
        let is_valid = unit.eq_ignore_ascii_case("bytes") && start < end && total.is_none_or(|total| end <= total);
        is_valid.then_some(Self { start, end, total })
    }
}

/// Digits only: `parse` takes a sign too.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // C75
    #[test]
    fn a_range_is_read_or_refused() {
        let range = |start, end, total| Some(ContentRange { start, end, total });
        assert_eq!(ContentRange::parse("bytes 0-499/1234"), range(0, 500, Some(1234)));
        assert_eq!(ContentRange::parse("Bytes 7-7/8"), range(7, 8, Some(8)));
        assert_eq!(ContentRange::parse("bytes 7-9/*"), range(7, 10, None));
        let last = u64::MAX;
        for garbage in [
            "",
            "bytes",
            "bytes ",
            "bytes */1234",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "items 0-4/10",
            "bytes 0-4",
            "bytes +0-4/10",
            "bytes 0-4/+10",
            "bytes -4/10",
            "bytes 0-/10",
            "bytes 0-4/",
            "bytes 0-4/10, 5-6/10",
            &format!("bytes 0-{last}/*"),
            "bytes 0-99999999999999999999/*",
            "bytes=0-4/10",
        ] {
            assert_eq!(ContentRange::parse(garbage), None, "{garbage}");
        }
    }

    proptest! {
        // C58, C75
        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,40}", numbers in any::<(u64, u64, u64)>()) {
            let _ = ContentRange::parse(&text);
            let (start, last, total) = numbers;
            let read = ContentRange::parse(&format!("bytes {start}-{last}/{total}"));
            let is_valid = start <= last && last < total;
            prop_assert_eq!(read.is_some(), is_valid);
            if let Some(range) = read {
                prop_assert_eq!((range.start, range.end - 1, range.total), (start, last, Some(total)));
            }
        }
    }
}
