//! The house of DESIGN.md. `src` is a house of rooms: a room is a module of the crate, a folder or a single file. What
//! imports what is read from the sources; no cycle is allowed between rooms, nor between the files of one room.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::{fs, path::Path};

/// Bottom to top. A room imports from the floors below and, where that makes no cycle, from its own.
const FLOORS: &[&[&str]] = &[
    &["setting", "name", "rng", "time", "foreign", "wake", "shard", "boxed"],
    &["health", "content"],
    &["outcome", "body", "upstream", "key"],
    &["telemetry"],
    &["pick", "fleet"],
    &["attempt"],
    DOORS,
    &["dns", "probe", "replicas", "resume", "state", "status"],
    &["config"],
];

/// The one floor whose rooms never import each other.
const DOORS: &[&str] = &["balance", "failover", "breaker"];

/// These only compute: the time is given to them, and effects are left to others.
const PURE: &[&str] = &["pick/", "health/", "content/", "failover/plan/"];
const IMPURE: &[&str] = &["tokio", "Clock", "tracing", "Instant::now", "SystemTime"];

/// Lines of a file before its tests.
const LONGEST: usize = 300;

/// A file of `src`.
struct Module {
    file: String,
    /// Names from the root of the crate: of `fleet/mod.rs` it is `fleet`, of `fleet/roster.rs` it is `fleet::roster`.
    place: Vec<String>,
    lines: usize,
    /// Its words, without what is compiled for tests only.
    code: String,
    imports: Vec<Import>,
}

/// A path of this crate, in a `use` or anywhere else in the code.
struct Import {
    /// From the root of the crate; empty if it leads to another one.
    path: Vec<String>,
    /// What a `use` brings into scope.
    name: String,
    public: bool,
}

impl Module {
    fn new(file: &str, text: &str) -> Self {
        let names = file.trim_end_matches(".rs").split('/').filter(|name| !["mod", "lib"].contains(name));
        let place: Vec<_> = names.map(str::to_owned).collect();
        let lines = text[..text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len())].lines().count();
        let words = without_tests(&words(text));
        Self { file: file.into(), imports: imports(&place, &words), place, lines, code: words.join(" ") }
    }

    fn room(&self) -> &str {
        self.place.first().map_or("", |room| room)
    }

    fn modules(&self) -> impl Iterator<Item = &str> {
        let after = self.code.split(' ').skip(1);
        self.code.split(' ').zip(after).filter(|(word, _)| *word == "mod").map(|(_, module)| module)
    }

    /// The modules that are files of their own. The pages of the guide are none, and hold no code.
    fn files(&self) -> impl Iterator<Item = &str> {
        let words: Vec<_> = self.code.split(' ').collect();
        let files: Vec<_> =
            words.windows(3).filter(|three| three[0] == "mod" && three[2] == ";").map(|it| it[1]).collect();
        files.into_iter()
    }

    /// What this file depends on. Declaring and re-exporting a child is not depending on it, and a file without items
    /// of its own depends on none of its children.
    fn needs(&self) -> impl Iterator<Item = &Import> {
        let items = ["struct", "enum", "union", "impl", "fn", "trait", "type", "const", "static", "macro_rules"];
        let has_items = self.code.split(' ').any(|word| items.contains(&word));
        let of_child = |import: &Import| import.path.starts_with(&self.place);
        self.imports.iter().filter(move |import| !of_child(import) || (has_items && !import.public))
    }

    fn may_import(&self, path: &[String]) -> bool {
        let (room, other) = (self.room(), path.first().map_or("", |room| room));
        let doors = DOORS.contains(&room) && DOORS.contains(&other);
        let downwards = floor(other).is_some() && floor(other) <= floor(room);
        // All of a module at once: that hides which of its files is meant.
        let all = path.ends_with(&["*".into()]) && !path.iter().any(|name| name.starts_with(char::is_uppercase));
        path.is_empty() || !all && (other == room || (downwards && !doors))
    }

    fn trespasses(&self) -> Vec<String> {
        let paths: BTreeSet<_> = self.imports.iter().map(|import| &import.path).collect();
        let told = paths.into_iter().filter(|path| !self.may_import(path)).map(|path| path.join("::"));
        let told = told.map(|path| format!("{} imports {path}, which {} may not", self.file, self.room()));
        told.chain(floor(self.room()).is_none().then(|| format!("{} is on no floor of the house", self.file))).collect()
    }

    fn impurities(&self) -> Vec<String> {
        let (place, code) = (self.place.join("/") + "/", self.code.replace(" :: ", "::"));
        let pure = PURE.iter().any(|pure| place.starts_with(pure));
        let found = IMPURE.iter().filter(|word| pure && code.contains(**word));
        found.map(|word| format!("{} mentions {word}", self.file)).collect()
    }
}

/// Finds every path that leads into this crate.
fn imports(place: &[String], words: &[&str]) -> Vec<Import> {
    let word = |at: usize| words.get(at).copied().unwrap_or("");
    let children: Vec<_> = words.windows(3).filter(|w| w[0] == "mod" && w[2] == ";").map(|w| w[1]).collect();
    // The braces around a path, each with the name of its module if it is one.
    let mut braces: Vec<Option<&str>> = Vec::new();
    let (mut at, mut imports, mut others) = (0, Vec::new(), Vec::new());
    while at < words.len() {
        let before = if at == 0 { "" } else { words[at - 1] };
        let mut paths = Vec::new();
        match words[at] {
            "{" => braces.push((at > 1 && words[at - 2] == "mod").then_some(before)),
            "}" => drop(braces.pop()),
            "use" if word(at + 1) != "<" => at = leaves(words, at + 1, &mut paths),
            name if is_name(name) && !["::", ".", "'", "mod", "fn", "type"].contains(&before) => {
                let mut path = vec![name];
                while word(at + 1) == "::" && is_name(word(at + 2)) {
                    path.push(words[at + 2]);
                    at += 2;
                }
                paths.push((path, ""));
            }
            _ => {}
        }
        at += 1;
        let inline: Vec<_> = braces.iter().flatten().map(|name| (*name).to_owned()).collect();
        for (path, name) in paths {
            let of_child = inline.is_empty() && path.len() > 1 && children.contains(&path[0]);
            if of_child || ["crate", "self", "super"].contains(&path[0]) {
                let path = absolute([place, &inline].concat(), &path);
                imports.push(Import { path, name: name.to_owned(), public: before == "pub" && !name.is_empty() });
            } else {
                others.push((path, name));
            }
        }
    }
    // Paths that begin with a name which a `use` has brought into scope, and names from other crates.
    for (path, name) in others {
        let prefix = imports.iter().find(|import| import.name == path[0] && !import.path.is_empty());
        let path = prefix.map_or(vec![], |import| absolute(import.path.clone(), &path[1..]));
        imports.push(Import { path, name: name.to_owned(), public: false });
    }
    imports
}

/// A path from the root of the crate, for one that stands in `module`.
fn absolute(mut module: Vec<String>, path: &[&str]) -> Vec<String> {
    for name in path {
        match *name {
            "crate" => module.clear(),
            "super" => drop(module.pop()),
            "self" => {}
            _ => module.push((*name).to_owned()),
        }
    }
    module
}

/// The paths of a `use`, each with the name that it brings into scope. Answers where they end.
fn leaves<'a>(words: &[&'a str], start: usize, found: &mut Vec<(Vec<&'a str>, &'a str)>) -> usize {
    // How much of the path is shared by the leaves of each group around it.
    let (mut path, mut shared, mut at) = (Vec::new(), Vec::new(), start);
    loop {
        match words[at] {
            "{" => shared.push(path.len()),
            "as" => at += 1,
            // A leading `::` stays: such a path leads to another crate.
            "::" if !path.is_empty() => {}
            end @ ("," | "}" | ";") => {
                if !["{", ",", "}"].contains(&words[at - 1]) {
                    let of_group = path.iter().rev().find(|name| **name != "self");
                    let name = if words[at - 1] == "self" { of_group } else { words.get(at - 1) };
                    found.push((path.clone(), name.copied().unwrap_or("")));
                }
                match end {
                    "," => path.truncate(shared.last().copied().unwrap_or(0)),
                    "}" => drop(shared.pop()),
                    _ => return at,
                }
            }
            name => path.push(name),
        }
        at += 1;
    }
}

/// Names, `::` and single marks, without comments, strings and characters.
fn words(mut text: &str) -> Vec<&str> {
    let mut words: Vec<&str> = Vec::new();
    while let Some(first) = text.chars().next() {
        let name = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        let through = |end: &str| text[1..].find(end).map_or(text.len(), |at| 1 + at + end.len());
        let hashes = words.iter().rev().take_while(|word| **word == "#").count();
        let raw = words.iter().rev().nth(hashes).is_some_and(|word| ["r", "br", "cr"].contains(word));
        let is_character = || text[1..].starts_with('\\') || text.chars().nth(2) == Some('\'');
        let (length, kept) = match first {
            '/' if text.starts_with("//") => (through("\n"), false),
            '/' if text.starts_with("/*") => (through("*/"), false),
            '"' if raw => (through(&format!("\"{}", "#".repeat(hashes))), false),
            '"' | '\'' if first == '"' || is_character() => {
                let (mut at, bytes) = (1, text.as_bytes());
                while bytes[at] != bytes[0] {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                (at + 1, false)
            }
            ':' | '.' if text.starts_with("::") || text.starts_with("..") => (2, true),
            _ if name > 0 => (name, true),
            _ => (first.len_utf8(), !first.is_whitespace()),
        };
        words.extend(kept.then_some(&text[..length]));
        text = &text[length..];
    }
    words
}

/// Cuts out every item behind `#[cfg(test)]`, up to its closing brace or its semicolon. Of `pub(crate)` leaves `pub`.
fn without_tests<'a>(mut words: &[&'a str]) -> Vec<&'a str> {
    let mut kept = Vec::new();
    while !words.is_empty() {
        let cut = match words {
            ["#", "[", "cfg", "(", "test", ")", ..] | ["#", "[", "cfg", "(", "all", "(", "test", ..] => {
                let mut depth = 0;
                let end = words.iter().position(|word| {
                    depth += i32::from(["(", "[", "{"].contains(word)) - i32::from([")", "]", "}"].contains(word));
                    depth < 0 || (depth == 0 && ["}", ";"].contains(word))
                });
                end.map_or(words.len(), |end| end + usize::from(depth == 0))
            }
            ["pub", "(", "in", ..] | ["pub", "(", _, ")", ..] => {
                kept.push("pub");
                words.iter().position(|word| *word == ")").map_or(words.len(), |end| end + 1)
            }
            _ => {
                kept.push(words[0]);
                1
            }
        };
        words = &words[cut..];
    }
    kept
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn is_tests(module: &str) -> bool {
    module == "tests" || module.ends_with("_tests")
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

struct House(Vec<Module>);

impl House {
    fn of(sources: &[(&str, &str)]) -> Self {
        Self(sources.iter().map(|(file, text)| Module::new(file, text)).collect())
    }

    /// Everything in `src`, but for files that are tests as a whole.
    fn built() -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let (mut modules, mut folders) = (Vec::new(), vec![source.clone()]);
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
            for path in entries.filter(|path| !path.file_stem().is_some_and(|name| is_tests(&name.to_string_lossy()))) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let file = path.strip_prefix(&source).expect("a path below").to_string_lossy().replace('\\', "/");
                    modules.push(Module::new(&file, &fs::read_to_string(&path).expect("text")));
                }
            }
        }
        modules.sort_by(|one, other| one.file.cmp(&other.file));
        assert!(modules.len() > 20, "the sources are not read");
        Self(modules)
    }

    fn at(&self, place: &[String]) -> Option<&Module> {
        self.0.iter().find(|module| module.place == place)
    }

    /// The file that a path leads to, through the re-exports on its way, and the name of what it defines.
    fn target(&self, path: &[String]) -> Option<(&Module, String)> {
        let (names, module) = (0..=path.len()).rev().find_map(|names| Some((names, self.at(&path[..names])?)))?;
        let Some(item) = path.get(names) else { return Some((module, path.last()?.clone())) };
        let passes = |import: &&Import| import.name == *item && !import.path.starts_with(&path[..=names]);
        match module.imports.iter().find(passes) {
            Some(import) => self.target(&[&import.path, &path[names + 1..]].concat()),
            None => Some((module, item.clone())),
        }
    }

    /// Which room imports which, with the files that do.
    fn rooms(&self) -> Graph {
        let mut graph = Graph::default();
        for module in &self.0 {
            for import in module.imports.iter().filter(|import| !import.path.is_empty()) {
                graph.draw(module.room(), &import.path[0], &module.file);
            }
        }
        graph
    }

    /// Which file imports which of its own room, with the names that it imports.
    fn files(&self) -> Graph {
        let mut graph = Graph::default();
        for module in &self.0 {
            for (target, item) in module.needs().filter_map(|import| self.target(&import.path)) {
                if target.room() == module.room() {
                    graph.draw(&module.file, &target.file, &item);
                }
            }
        }
        graph
    }
}

/// Arrows between nodes, each with its reasons.
#[derive(Default)]
struct Graph(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Graph {
    fn draw(&mut self, from: &str, to: &str, reason: &str) {
        if from != to {
            self.0.entry(from.into()).or_default().entry(to.into()).or_default().insert(reason.into());
        }
    }

    /// `a -> b -> a (reasons of the first arrow; of the second)`: for each arrow that is on a cycle, the shortest.
    fn cycles(&self) -> Vec<String> {
        let arrows = self.0.iter().flat_map(|(from, arrows)| arrows.keys().map(move |to| (from, to)));
        let cycles: BTreeSet<_> = arrows
            .filter_map(|(from, to)| self.way(to, from))
            .map(|mut cycle| {
                let least = (0..cycle.len()).min_by_key(|at| cycle[*at]).unwrap_or(0);
                cycle.rotate_left(least);
                cycle
            })
            .collect();
        let told = |cycle: &Vec<&String>| {
            let arrows = cycle.iter().zip(cycle.iter().cycle().skip(1));
            let reasons = arrows.map(|(from, to)| self.0[*from][*to].iter().cloned().collect::<Vec<_>>().join(", "));
            let nodes: String = cycle.iter().map(|node| format!("{node} -> ")).collect();
            format!("{nodes}{} ({})", cycle[0], reasons.collect::<Vec<_>>().join("; "))
        };
        cycles.iter().map(told).collect()
    }

    /// The shortest way.
    fn way<'a>(&'a self, from: &'a String, to: &String) -> Option<Vec<&'a String>> {
        let (mut ways, mut seen) = (VecDeque::from([vec![from]]), BTreeSet::new());
        while let Some(way) = ways.pop_front() {
            let end = way[way.len() - 1];
            if end == to {
                return Some(way);
            }
            let next = self.0.get(end).into_iter().flat_map(BTreeMap::keys).filter(|next| seen.insert(*next));
            ways.extend(next.map(|next| [&way[..], &[next]].concat()));
        }
        None
    }
}

fn assert_none(found: impl IntoIterator<Item = String>) {
    let found: Vec<_> = found.into_iter().collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn rooms_make_no_cycle() {
    assert_none(House::built().rooms().cycles());
}

#[test]
fn files_of_a_room_make_no_cycle() {
    assert_none(House::built().files().cycles());
}

#[test]
fn rooms_import_downwards() {
    let house = House::built();
    assert_none(house.0.iter().filter(|module| !module.place.is_empty()).flat_map(Module::trespasses));
}

#[test]
fn every_module_of_the_crate_is_a_room_of_the_house() {
    let house = House::built();
    let root = house.at(&[]).expect("lib.rs");
    let outside = root.files().filter(|module| floor(module).is_none());
    assert_none(outside.map(|module| format!("{module} is on no floor of the house")));
    // Nor is there code in what it holds in place.
    let code = root.code.split(' ').filter(|word| ["fn", "impl", "trait", "static"].contains(word));
    assert_none(code.map(|word| format!("lib.rs has a `{word}` of its own")));
}

#[test]
fn tests_modules_are_built_for_tests_only() {
    let house = House::built();
    let with_tests = house.0.iter().filter(|module| module.modules().any(is_tests));
    assert_none(with_tests.map(|module| format!("{} has tests in the crate", module.file)));
}

#[test]
fn files_are_short() {
    let long = |module: &&Module| module.lines > LONGEST;
    let told = |module: &Module| format!("{} has {} lines before its tests", module.file, module.lines);
    assert_none(House::built().0.iter().filter(long).map(told));
}

// C58
#[test]
fn unsafe_code_is_forbidden() {
    assert!(House::built().at(&[]).expect("lib.rs").code.contains("# ! [ forbid ( unsafe_code ) ]"));
}

#[test]
fn what_only_computes_mentions_no_clock_and_no_effects() {
    assert_none(House::built().0.iter().flat_map(Module::impurities));
}

#[test]
fn an_impurity_is_seen_in_code_only() {
    let seen = |file: &str, code: &str| Module::new(file, code).impurities().len();
    assert_eq!(seen("health/circuit.rs", "use std::time::Instant; fn f() { Instant::now(); }"), 1);
    assert_eq!(seen("failover/plan.rs", "use tokio::time; use crate::time::Clock;"), 2);
    assert_eq!(seen("failover/layer.rs", "use tokio::time;"), 0);
    assert_eq!(seen("pick/mod.rs", "// tokio\nconst A: &str = \"tracing\"; /* Clock */"), 0);
    assert_eq!(seen("pick/mod.rs", "#[cfg(test)]\nmod tests { use tokio::time; }"), 0);
}

#[test]
fn a_trespass_is_seen_however_it_is_written() {
    let seen = |file: &str, code: &str| Module::new(file, code).trespasses().len();
    assert_eq!(seen("pick/desk.rs", "use crate::fleet::{BackendId, Fleet};\nuse crate::pick::Rng;"), 0);
    assert_eq!(seen("pick/desk.rs", "use crate::attempt::Seek;"), 1);
    assert_eq!(seen("pick/desk.rs", "use crate::{\n    fleet::{A, B},\n    balance::{self, a::{C},}, config, };"), 3);
    assert_eq!(seen("pick/desk.rs", "fn f() -> crate::balance::Error { crate::Status::default() }"), 2);
    assert_eq!(seen("pick/desk.rs", "use super::super::balance::Error; use super::Rng;"), 1);
    assert_eq!(seen("pick/mod.rs", "use super::{balance::Error}; use self::desk::Desk; use ::config::A;"), 1);
    assert_eq!(seen("pick/mod.rs", "mod inner { use super::super::balance::Error; use super::config::A; }"), 1);
    assert_eq!(seen("pick/a/order.rs", "use super::super::Rng; use super::{super::super::balance::Error};"), 1);
    assert_eq!(seen("telemetry.rs", "use super::balance::Error; use crate::health::Change;"), 1);
    assert_eq!(seen("failover/mod.rs", "use crate::{balance::Balance, body::Replay};"), 1);
    assert_eq!(seen("pick/mod.rs", "#[cfg(test)]\nmod tests { use crate::balance::Error; }\n// crate::balance"), 0);
    assert_eq!(seen("pick/mod.rs", "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::balance::Error;"), 1);
    assert_eq!(seen("pick/mod.rs", r##"const A: [&str; 2] = [r#""crate::balance"#, "\"crate::config"];"##), 0);
    assert_eq!(seen("pick/mod.rs", r#"fn f<'a>() -> (char, char) { ('"', '\'') } use crate::balance::Error;"#), 1);
    assert_eq!(seen("pick/desk.rs", "use super::*; use super::a::Kind::*;"), 1);
    assert_eq!(seen("pick/desk.rs", "fn f() { if let crate::config::A = b { C { ..crate::balance::d() } } }"), 2);
    assert_eq!(seen("pick/desk.rs", "struct A { #[cfg(test)] b: u8 }\nimpl A { fn c() { crate::balance::d(); } }"), 1);
    assert_eq!(seen("attic/mod.rs", ""), 1);
}

#[test]
fn a_cycle_of_rooms_is_told_with_its_files() {
    let house = House::of(&[
        ("lib.rs", "mod fleet; mod telemetry; mod name; pub use crate::fleet::A;"),
        ("fleet/mod.rs", "mod follow; use crate::name::Name;"),
        ("fleet/follow.rs", "use crate::{name, telemetry};"),
        ("telemetry.rs", "fn f(_: super::fleet::Change) {}\n#[cfg(test)]\nmod tests { use crate::name::A; }"),
        (
            "name.rs",
            "#[cfg(test)]\nuse crate::fleet::{A, b::C};\n#[cfg(all(test, unix))]\nfn f() { crate::fleet::g() }",
        ),
    ]);
    assert_eq!(house.rooms().cycles(), ["fleet -> telemetry -> fleet (fleet/follow.rs; telemetry.rs)"]);
}

#[test]
fn a_cycle_of_files_is_told_with_the_names_they_import() {
    let house = |a, b| House::of(&[("pick/mod.rs", "mod a; mod b;"), ("pick/a.rs", a), ("pick/b.rs", b)]);
    let cycle = ["pick/a.rs -> pick/b.rs -> pick/a.rs (B; A)"];
    assert_eq!(house("use super::b::B;", "use crate::pick::a::A;").files().cycles(), cycle);
    assert_eq!(house("use super::{b::B};", "use crate::{pick::{a::{A}}};").files().cycles(), cycle);
    assert_eq!(house("fn f() { super::b::B::new() }", "mod x { use super::super::a::A; }").files().cycles(), cycle);
    let tests = "#[cfg(test)]\nmod tests { use super::super::a::A; }";
    assert_eq!(house("use super::b::B;", tests).files().cycles(), [""; 0]);
}

#[test]
fn a_name_that_a_module_re_exports_leads_to_the_file_that_defines_it() {
    let cycles = |map: &str, a: &str| {
        let (b, c) = ("pub struct B; use super::A;", "pub(in super::super) struct C; use super::super::Own;");
        let folder = [("pick/d/mod.rs", "mod c; pub use c::C;"), ("pick/d/c.rs", c)];
        let files = [("pick/mod.rs", map), ("pick/a.rs", a), ("pick/b.rs", b), folder[0], folder[1]];
        House::of(&files).files().cycles()
    };
    let map = "mod a; mod b; mod d; pub(crate) use self::{a::A, b::{B as Bee}}; use d::C;";
    assert_eq!(cycles(map, "use super::Bee;"), ["pick/a.rs -> pick/b.rs -> pick/a.rs (B; A)"]);
    // To declare and re-export is no import.
    assert_eq!(cycles(map, "use super::C;"), [""; 0]);
    let foreign = "mod a; pub use self::a::A; pub use tower::BoxError; pub struct Own(A);";
    assert_eq!(cycles(foreign, "use super::BoxError;"), [""; 0]);
    // With items, what it imports itself is one, and so is each re-exported name that its items mention.
    let own = |code: &str| format!("{map} pub struct Own; {code}");
    let to_a = "pick/a.rs -> pick/mod.rs -> pick/a.rs";
    let to_c = "pick/d/c.rs -> pick/mod.rs -> pick/d/c.rs (Own; C)";
    assert_eq!(cycles(&own(""), "use super::Own;"), [to_c]);
    assert_eq!(cycles(&own("fn f(_: A) {}"), "use super::Own;"), [&format!("{to_a} (Own; A)"), to_c]);
    assert_eq!(cycles(&own("fn f() { a::g(); }"), "use super::Own;"), [&format!("{to_a} (Own; g)"), to_c]);
}
