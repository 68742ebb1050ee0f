//! The house of DESIGN.md: which room may import which. Widening the table is a commit of its own, with its reason.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A room, and those it may import. Rooms that are not built yet have their place here already.
const HOUSE: &[(&str, &[&str])] = &[
    // The ground floor.
    ("name", &["setting"]),
    ("setting", &[]),
    ("rng", &[]),
    ("time", &[]),
    ("wake", &[]),
    ("outcome", GROUND),
    ("body", GROUND),
    // What a backend needs of a request: a layer, and nobody's business but its own.
    ("shape", GROUND),
    ("health", &["outcome", "name", "setting", "rng", "time", "wake"]),
    ("telemetry", &["outcome", "health", "fleet", "setting", "name"]),
    // Its view knows when an open circuit is to be tried.
    ("fleet", &["health", "telemetry", "name", "setting", "rng", "time", "wake"]),
    ("pick", &["fleet", "health", "rng", "name"]),
    ("attempt", &["fleet", "pick", "health", "outcome", "telemetry", "name", "rng", "time", "wake"]),
    // The doors never import each other.
    ("balance", &["attempt", "outcome", "telemetry", "fleet", "pick", "name", "rng", "time"]),
    ("failover", &["attempt", "outcome", "telemetry", "fleet", "pick", "body", "name", "rng", "time", "setting"]),
    ("breaker", &["attempt", "outcome", "telemetry", "fleet", "pick", "health", "name", "time", "wake", "setting"]),
    // On top: nothing below knows them.
    ("probe", EVERYTHING_BELOW),
    ("state", EVERYTHING_BELOW),
    ("status", EVERYTHING_BELOW),
    ("config", EVERYTHING_BELOW),
];

const GROUND: &[&str] = &["name", "setting", "rng", "time", "wake"];

const EVERYTHING_BELOW: &[&str] = &[
    "name",
    "setting",
    "rng",
    "time",
    "wake",
    "outcome",
    "body",
    "health",
    "telemetry",
    "fleet",
    "pick",
    "attempt",
    "balance",
    "failover",
    "breaker",
    "shape",
];

/// Lines of a file before its tests.
const LONGEST: usize = 400;

struct Source {
    /// Below `src`.
    path: PathBuf,
    /// Without comments and without what is compiled for tests only.
    code: String,
    lines: usize,
}

impl Source {
    fn new(path: PathBuf, text: &str) -> Self {
        let tests = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
        Self { path, code: without_tests(&without_comments(text)), lines: text[..tests].lines().count() }
    }

    fn room(&self) -> String {
        let first = self.path.components().next().expect("a path").as_os_str();
        Path::new(first).file_stem().expect("a name").to_string_lossy().into_owned()
    }

    /// How many `super` lead to the root of the crate.
    fn depth(&self) -> usize {
        self.path.components().count() - usize::from(self.path.ends_with("mod.rs"))
    }

    /// What it imports from the root of the crate, by any way of writing it.
    fn imports(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let root = "super::".repeat(self.depth());
        for start in ["crate::", &root] {
            for (at, _) in self.code.match_indices(start) {
                // `tower_crate::`, or one `super` of a longer way.
                if !self.code[..at].ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before)) {
                    found.extend(heads(&self.code[at + start.len()..]));
                }
            }
        }
        found
    }

    fn trespasses(&self) -> Vec<String> {
        let room = self.room();
        let Some((_, allowed)) = HOUSE.iter().find(|(name, _)| *name == room) else {
            return vec![format!("{} is in no room of the house", self.path.display())];
        };
        let may = |import: &String| *import == room || allowed.contains(&import.as_str());
        let told = |import| format!("{} imports {import}, which {room} may not", self.path.display());
        self.imports().into_iter().filter(|import| !may(import)).map(told).collect()
    }
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or("").to_owned() + "\n").collect()
}

/// Cuts out every item behind `#[cfg(test)]`: up to its closing brace, or its semicolon.
fn without_tests(code: &str) -> String {
    let mut parts = code.split("#[cfg(test)]");
    let mut kept = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let mut depth = 0;
        let end = part.char_indices().find_map(|(at, letter)| {
            depth += i32::from(letter == '{') - i32::from(letter == '}');
            (depth == 0 && (letter == '}' || letter == ';')).then_some(at + 1)
        });
        kept.push_str(&part[end.unwrap_or(part.len())..]);
    }
    kept
}

/// The first names of a path: one, or those of a group.
fn heads(path: &str) -> Vec<String> {
    let name =
        |path: &str| -> String { path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut heads, mut begin) = (1, Vec::new(), 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && letter == ',') {
            heads.push(name(&group[begin..at]));
            begin = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

/// Everything in `src`. Files that are tests as a whole are reached by `#[cfg(test)] mod tests;` only.
fn sources() -> Vec<Source> {
    fn walk(below: &Path, folder: &Path, sources: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let inside = path.strip_prefix(below).expect("a path below").to_owned();
            if inside.file_stem().is_some_and(|name| name == "tests" || name.to_string_lossy().ends_with("_tests")) {
                continue;
            }
            if path.is_dir() {
                walk(below, &path, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(Source::new(inside, &fs::read_to_string(&path).expect("text")));
            }
        }
    }
    let below = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    walk(&below, &below, &mut sources);
    sources
}

fn library() -> Source {
    sources().into_iter().find(|source| source.path == Path::new("lib.rs")).expect("lib.rs")
}

#[test]
fn rooms_import_what_the_table_allows() {
    let rooms: Vec<_> = sources().into_iter().filter(|source| source.path != Path::new("lib.rs")).collect();
    assert!(rooms.len() > 20 && rooms.iter().any(|source| !source.imports().is_empty()), "the sources are not read");
    let trespasses: Vec<_> = rooms.iter().flat_map(Source::trespasses).collect();
    assert!(trespasses.is_empty(), "{}", trespasses.join("\n"));
}

#[test]
fn every_module_of_the_crate_is_a_room_of_the_house() {
    for line in library().code.lines() {
        if let Some(module) = line.split("mod ").nth(1).and_then(|rest| rest.strip_suffix(';')) {
            assert!(HOUSE.iter().any(|(room, _)| *room == module), "{module} is not in the table");
        }
    }
}

#[test]
fn tests_modules_are_built_for_tests_only() {
    for source in sources() {
        assert!(!source.code.contains("mod tests"), "{} has tests in the crate", source.path.display());
    }
}

#[test]
fn files_are_short() {
    for source in sources() {
        assert!(source.lines <= LONGEST, "{} has {} lines before its tests", source.path.display(), source.lines);
    }
}

// C58
#[test]
fn unsafe_code_is_forbidden() {
    assert!(library().code.contains("#![forbid(unsafe_code)]"));
}

#[test]
fn a_trespass_is_seen_however_it_is_written() {
    let seen = |path: &str, code: &str| Source::new(path.into(), code).trespasses().len();
    assert_eq!(seen("pick/desk.rs", "use crate::fleet::{BackendId, Fleet};\nuse crate::pick::Rng;"), 0);
    assert_eq!(seen("pick/desk.rs", "use crate::attempt::Seek;"), 1);
    assert_eq!(seen("pick/desk.rs", "use crate::{\n    fleet::{Fleet, Name},\n    balance::Error, telemetry,\n};"), 2);
    assert_eq!(seen("pick/desk.rs", "fn f() -> crate::balance::Error { crate::Status::default() }"), 2);
    assert_eq!(seen("pick/desk.rs", "use super::super::balance::Error; use super::Rng;"), 1);
    assert_eq!(seen("pick/mod.rs", "use super::balance::Error; use self::desk::Desk;"), 1);
    assert_eq!(seen("pick/weighted/order.rs", "use super::super::Rng; use super::super::super::balance::Error;"), 1);
    assert_eq!(seen("telemetry.rs", "use super::balance::Error; use crate::fleet::Change;"), 1);
    assert_eq!(seen("failover/mod.rs", "use crate::{balance::Balance, body::Replay};"), 1);
    assert_eq!(seen("pick/mod.rs", "#[cfg(test)]\nmod tests { use crate::balance::Error; }\n// crate::balance"), 0);
    assert_eq!(seen("pick/mod.rs", "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::balance::Error;"), 1);
    assert_eq!(seen("attic/mod.rs", ""), 1);
}
