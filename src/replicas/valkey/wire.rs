//! The text of reports in keys and messages, and the names of the keys.

use super::super::report::{Override, Report, Stamp};
use crate::name::BackendName;

/// The keys of a fleet. They have one hash tag, so that a cluster keeps them in one slot.
#[derive(Debug)]
pub(super) struct Keys {
    /// With the version of the format: replicas of another version neither read nor overwrite these.
    prefix: String,
}

impl Keys {
    pub(super) fn new(fleet: &str) -> Self {
        Self { prefix: format!("tower-fleet:1:{{{fleet}}}") }
    }

    /// The channel of the reports that changed.
    pub(super) fn channel(&self) -> &str {
        &self.prefix
    }

    /// The key of what is reported of a backend.
    pub(super) fn report(&self, backend: &str) -> String {
        format!("{}:report:{backend}", self.prefix)
    }

    /// The key of the permit to probe a backend.
    pub(super) fn permit(&self, backend: &str) -> String {
        format!("{}:permit:{backend}", self.prefix)
    }
}

/// The numbers of a report, in their order: the epoch, the ends of an opening and of a cool-down, when an operator set
/// something, and what.
pub(super) fn numbers(report: &Report) -> [u64; 5] {
    let (open, cool, set) = (report.open_until, report.cool_until, report.operator.at());
    [report.epoch, open.as_millis(), cool.as_millis(), set.as_millis(), report.operator.code()]
}

/// Parses the numbers of a report.
pub(super) fn report(backend: BackendName, text: &str) -> Option<Report> {
    let mut numbers = [0; 5];
    let mut parts = text.split(' ');
    for number in &mut numbers {
        *number = self::number(parts.next()?)?;
    }
    let [epoch, open, cool, set, code] = numbers;
    let mut report = Report::new(backend);
    report.epoch = epoch;
    report.open_until = Stamp::from_millis(open);
    report.cool_until = Stamp::from_millis(cool);
    report.operator = Override::from_code(Stamp::from_millis(set), code)?;
    parts.next().is_none().then_some(report)
}

/// Parses a message: the time, the name of a backend, and the numbers of its report.
pub(super) fn message(text: &[u8]) -> Option<(Stamp, Report)> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= MAX_MESSAGE)?;
    let (now, rest) = text.split_once(' ')?;
    let (name, numbers) = rest.split_once(' ')?;
    let name = BackendName::checked(&name.into()).ok()?;
    Some((stamp(now)?, report(name, numbers)?))
}

/// Parses a time.
pub(super) fn stamp(text: &str) -> Option<Stamp> {
    number(text).map(Stamp::from_millis)
}

/// Digits only: no sign, as `u64` would accept.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A name and six numbers.
const MAX_MESSAGE: usize = 300;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // C60
    #[test]
    fn keys_of_a_fleet_have_one_hash_tag_and_a_version() {
        let keys = Keys::new("search");
        assert_eq!(keys.channel(), "tower-fleet:1:{search}");
        assert_eq!(keys.report("eu-1"), "tower-fleet:1:{search}:report:eu-1");
        assert_eq!(keys.permit("eu-1"), "tower-fleet:1:{search}:permit:eu-1");
    }

    // C58
    #[test]
    fn garbage_is_no_report() {
        let parse = |text: &str| report(BackendName::lossy("a"), text).is_some();
        assert!(parse("0 0 0 0 0") && parse("3 99999999999999999 7 8 8"));
        for text in
            ["", "0", "0 0 0 0", "0 0 0 0 0 0", "0 0 0 0 9", "-1 0 0 0 0", "+1 0 0 0 0", "0  0 0 0 0", "a b c d e"]
        {
            assert!(!parse(text), "{text}");
        }
        assert!(!parse(&format!("{}9 0 0 0 0", u64::MAX)));
        assert!(message(b"5 a 0 0 0 0 0").is_some());
        for text in [&b"5 a"[..], b"5 <a> 0 0 0 0 0", b"x a 0 0 0 0 0", b"\xff", b"", &[b'1'; 400]] {
            assert!(message(text).is_none(), "{}", text.escape_ascii());
        }
    }

    proptest! {
        // C55
        #[test]
        fn a_report_survives_its_text(numbers in prop::array::uniform4(0..1_u64 << 53), code in 0..9_u64) {
            let [epoch, open, cool, set] = numbers;
            let text = format!("{epoch} {open} {cool} {set} {code}");
            let report = report(BackendName::lossy("a"), &text).expect("a report");
            prop_assert_eq!(super::numbers(&report), [epoch, open, cool, set, code]);
        }

        // C58
        #[test]
        fn no_message_panics(text in prop::collection::vec(any::<u8>(), 0..400)) {
            message(&text);
        }
    }
}
