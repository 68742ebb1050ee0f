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
