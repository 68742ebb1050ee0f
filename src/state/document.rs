//! The document: the state of a fleet as text.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::SystemTime,
};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use serde_json::error::Category;

use super::{entry::Entry, span::Wall};
use crate::{
    fleet::{BackendName, SavedFleet},
    setting::InvalidSetting,
};

/// The version of the format. Fields may be added without another one: unknown fields are ignored.
const VERSION: u64 = 1;

/// A document as it is written, but for its checksum.
#[derive(Serialize)]
struct Written<'a> {
    version: u64,
    fleet: &'a str,
    written_at: Wall,
    backends: BTreeMap<&'a str, Entry>,
}

/// What every version has.
#[derive(Deserialize)]
struct Head {
    version: u64,
}

/// The rest of this version.
#[derive(Deserialize)]
struct Body {
    fleet: String,
    written_at: Wall,
    backends: Backends,
}

/// The backends that are valid, and what is invalid.
#[derive(Default)]
struct Backends {
    valid: SavedFleet,
    invalid: Problems,
}

/// The problems of parts of a document: their number, and the first.
#[derive(Debug, Default)]
pub(super) struct Problems {
    count: usize,
    first: Option<String>,
}

/// A document that was read.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) written_at: SystemTime,
    pub(super) backends: SavedFleet,
    pub(super) problems: Problems,
}

/// Returns the text of a document.
pub(super) fn write(fleet: &str, written_at: SystemTime, backends: &SavedFleet) -> serde_json::Result<Vec<u8>> {
    let backends = backends.iter().map(|(name, saved)| (&**name, Entry::new(saved))).collect();
    let mut text =
        serde_json::to_vec_pretty(&Written { version: VERSION, fleet, written_at: Wall(written_at), backends })?;
    text.truncate(text.len().saturating_sub(END_OF_MAP.len()));
    let checksum = checksum(&text);
    text.extend_from_slice(format!("{CHECKSUM}{checksum}{END}").as_bytes());
    Ok(text)
}

const END_OF_MAP: &str = "\n}";
const CHECKSUM: &str = ",\n  \"checksum\": \"";
const END: &str = "\"\n}\n";

/// FNV-1a of 64 bits, in hexadecimal. It differs for any two texts that differ in one byte.
fn checksum(text: &[u8]) -> String {
    let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.iter().fold(0xcbf2_9ce4_8422_2325, hash))
}

/// Reads a document.
///
/// # Errors
///
/// Why the document as a whole is of no use. Nothing of its text is shown, since it may be any file.
pub(super) fn read(text: &[u8], fleet: &str) -> Result<Document, String> {
    let head: Head = serde_json::from_slice(text).map_err(|error| problem(&error))?;
    if head.version != VERSION {
        let age = if head.version > VERSION { "newer" } else { "older" };
        return Err(format!("version {} is {age} than {VERSION}", head.version));
    }
    if !is_whole(text) {
        return Err("the checksum does not match: the document is damaged or was edited".to_owned());
    }
    let body: Body = serde_json::from_slice(text).map_err(|error| problem(&error))?;
    if body.fleet != fleet {
        return Err("it is of another fleet".to_owned());
    }
    let Backends { valid, invalid } = body.backends;
    Ok(Document { written_at: body.written_at.0, backends: valid, problems: invalid })
}

/// Returns whether the document ends with the checksum of what is before it.
fn is_whole(text: &[u8]) -> bool {
    let strip = || {
        let text = text.strip_suffix(END.as_bytes())?;
        let (text, sum) = text.split_at_checked(text.len().checked_sub(16)?)?;
        Some((text.strip_suffix(CHECKSUM.as_bytes())?, sum))
    };
    strip().is_some_and(|(text, sum)| checksum(text).as_bytes() == sum)
}

/// Describes an error of the parser without the text that it stumbled over.
fn problem(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Eof => "the document ends early",
        Category::Data => "it is no state of a fleet",
        Category::Syntax | Category::Io => "it is no JSON",
    };
    format!("{what}, at line {} column {}", error.line(), error.column())
}

impl<'de> Deserialize<'de> for Backends {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_map(ByName)
    }
}

struct ByName;

impl<'de> Visitor<'de> for ByName {
    type Value = Backends;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("backends by name")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Backends, M::Error> {
        let (mut backends, mut names) = (Backends::default(), BTreeSet::new());
        while let Some(name) = map.next_key::<String>()? {
            // First any value, so that an invalid backend costs no other one.
            let value: serde_json::Value = map.next_value()?;
            let name = match BackendName::checked(&name.into()) {
                Ok(name) => name,
                Err(error) => {
                    backends.invalid.add(|| InvalidSetting::to_string(&error));
                    continue;
                }
            };
            if !names.insert(name.clone()) {
                backends.valid.remove(&name);
                backends.invalid.add(|| format!("backend `{name}` is there twice"));
                continue;
            }
            let entry = Entry::deserialize(value).map_err(|_| "a field is invalid").and_then(Entry::checked);
            match entry {
                Ok(saved) => drop(backends.valid.insert(name, saved)),
                Err(reason) => backends.invalid.add(|| format!("backend `{name}`: {reason}")),
            }
        }
        Ok(backends)
    }
}

impl Problems {
    pub(super) fn add(&mut self, problem: impl FnOnce() -> String) {
        self.add_many(1, problem);
    }

    pub(super) fn add_many(&mut self, count: usize, problem: impl FnOnce() -> String) {
        if count > 0 {
            self.count += count;
            self.first.get_or_insert_with(problem);
        }
    }

    /// Returns the problems in one line, if there are any.
    pub(super) fn summary(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(match self.count {
            1 => first.clone(),
            count => format!("{first}, and {} more", count - 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::{option, prelude::*};

    use super::*;
    use crate::{
        fleet::{OutlierReason, SavedBackend, SavedShare},
        health::{AdminStatus, SavedCircuit, SavedEstimate, SavedLoad, SavedStanding},
    };

    /// Of whole milliseconds, as they are written.
    fn span() -> impl Strategy<Value = Duration> {
        prop_oneof![0..100_000_u64, Just(u64::from(u32::MAX) * 1_000), Just(0)].prop_map(Duration::from_millis)
    }

    fn estimate() -> impl Strategy<Value = Option<SavedEstimate>> {
        let value = prop_oneof![(1..1_000_000_u32), Just(600_000_000)].prop_map(|micros| micros as f32 * 1_000.0);
        let value = (value, any::<bool>()).prop_map(|(value, is_bound)| if is_bound { -value } else { value });
        option::of((value, span()).prop_map(|(value, age)| SavedEstimate { value, age }))
    }

    fn circuit() -> impl Strategy<Value = SavedCircuit> {
        prop_oneof![
            (any::<u32>(), span()).prop_map(|(openings, closed_for)| SavedCircuit::Closed { openings, closed_for }),
            (any::<u32>(), span()).prop_map(|(openings, remaining)| SavedCircuit::Open { openings, remaining }),
            Just(SavedCircuit::ForcedOpen),
            Just(SavedCircuit::ForcedClosed),
        ]
    }

    fn standing() -> impl Strategy<Value = SavedStanding> {
        let reason = prop_oneof![
            any::<(u32, u32)>().prop_map(|(failed, calls)| OutlierReason::Failures { failed, calls }),
            (any::<(u32, u32)>(), 0.0_f32..=1.0).prop_map(|((failed, calls), peers)| OutlierReason::SuccessRate {
                failed,
                calls,
                peers
            }),
            (span(), span()).prop_map(|(took, median)| OutlierReason::Latency { took, median }),
        ];
        (any::<u8>(), span(), any::<u32>(), reason).prop_map(|(level, remaining, ejections, reason)| SavedStanding {
            level,
            remaining,
            ejections,
            reason: Some(reason),
        })
    }

    fn backend() -> impl Strategy<Value = SavedBackend> {
        let status = prop_oneof![Just(AdminStatus::Healthy), Just(AdminStatus::Degraded), Just(AdminStatus::Draining)];
        let share = (option::of(standing()), option::of(span()));
        let share = share.prop_map(|(outlier, started_for)| SavedShare { outlier, started_for });
        let failures = option::of((0..1_000_u16, span()))
            .prop_map(|it| it.map(|(count, age)| SavedEstimate { value: f32::from(count) * 1_000.0, age }));
        let load = (estimate(), estimate(), failures);
        let load = load.prop_map(|(peak, mean, failures)| SavedLoad { peak, mean, failures });
        (option::of(status), option::of(circuit()), option::of(span()), share, load).prop_map(
            |(status, circuit, cools_for, share, load)| SavedBackend { status, circuit, cools_for, share, load },
        )
    }

    fn fleet() -> impl Strategy<Value = SavedFleet> {
        let name = "[a-zA-Z0-9_.:/\\[\\]-]{1,128}".prop_map(|name| BackendName::checked(&name.into()).unwrap());
        proptest::collection::btree_map(name, backend(), 0..6)
    }

    proptest! {
        // C54
        #[test]
        fn what_is_written_is_read(fleet in fleet(), millis in 0..4_000_000_000_000_u64) {
            let written_at = UNIX_EPOCH + Duration::from_millis(millis);
            let text = write("api", written_at, &fleet).unwrap();
            let document = read(&text, "api").unwrap();
            prop_assert_eq!(document.problems.summary(), None);
            prop_assert_eq!(document.written_at, written_at);
            prop_assert_eq!(document.backends, fleet);
        }

        // C54: one step of time or two.
        #[test]
        fn time_adds_up(saved in backend(), one in span(), other in span()) {
            prop_assert_eq!(saved.aged(one).aged(other), saved.aged(one + other));
        }

        // C58: also if the checksum is right.
        #[test]
        fn no_text_is_a_panic(fleet in fleet(), edits in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4)) {
            let mut text = write("api", UNIX_EPOCH, &fleet).unwrap();
            let end = text.len() - END.len() - 16 - CHECKSUM.len();
            edits.iter().for_each(|(at, byte)| text[usize::from(*at) % end] = *byte);
            let sum = checksum(&text[..end]);
            text.splice(end + CHECKSUM.len()..text.len() - END.len(), sum.into_bytes());
            drop(read(&text, "api"));
        }
    }

    // C54, C58: a wall clock that is far off costs no save.
    #[test]
    fn every_moment_of_the_wall_clock_can_be_written() {
        let far = Duration::from_secs(400_000_000_000);
        for (moment, expected) in [(UNIX_EPOCH - far, "1970-01-01T"), (UNIX_EPOCH + far, "9999-12-31T")] {
            let text = write("api", moment, &SavedFleet::new()).unwrap();
            assert!(String::from_utf8_lossy(&text).contains(expected));
            assert!(read(&text, "api").is_ok());
        }
    }
}
