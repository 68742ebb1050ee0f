//! The shipped files for language models, judged by faults of providers: what the caller gets, and what is asked of the
//! providers.
//!
//! Of the files only the address, the origins and the keys are replaced, and the limits that are waited for in real time
//! are shortened, all by one factor: [`FASTER`].

mod answers;
mod faults;
mod memory;
mod outages;
mod throttles;

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use http::Version;

use self::answers::{Answer, Kind, ask};
use crate::{
    client::Client,
    in_time,
    process::{Gateway, TempFile},
    provider::{Asked, Play, Provider},
};

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Profile {
    /// `llm.toml`: an answer is streamed from its first token.
    Streaming,
    /// `llm-safe.toml`: an answer is held until it is complete.
    Safe,
}

/// The factor by which the limits of the files are shortened: the values of every line that begins with `time_limits`.
const FASTER: u32 = 20;

/// A recovered request takes no longer than this, beside the times that a provider or a limit names.
const SOON: Duration = Duration::from_secs(1);

/// How long this machine may make a test wait for its processor.
const SLACK: Duration = Duration::from_secs(2);

/// Words that no answer may show.
const KEY: &str = "hush-hush-key-of-";

/// How a shipped file is served.
#[derive(Clone, Copy)]
struct Setting {
    profile: Profile,
    /// Of both sides.
    version: Version,
    /// The factor by which the limits are shortened.
    faster: u32,
    /// More lines at the end of the file.
    more: &'static str,
}

impl From<Profile> for Setting {
    fn from(profile: Profile) -> Self {
        Self { profile, version: Version::HTTP_11, faster: FASTER, more: "" }
    }
}

/// A gateway with a shipped file, and its providers.
struct World {
    profile: Profile,
    gateway: Gateway,
    providers: Vec<Provider>,
    /// The longest time without a token, as shortened.
    silence: Duration,
    client: Client,
}

impl World {
    /// What each provider plays is decided by its name and the request.
    async fn new(setting: impl Into<Setting>, script: impl Fn(&str, &Asked) -> Play + Send + Sync + 'static) -> Self {
        let Setting { profile, version, faster, more } = setting.into();
        let name = if profile == Profile::Streaming { "llm.toml" } else { "llm-safe.toml" };
        let path = format!("{}/examples/gateway/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(path).unwrap();
        let script = Arc::new(script);
        let (mut lines, mut providers, mut environment) = (Vec::new(), Vec::new(), BTreeMap::new());
        let (mut silence, mut section) = (Duration::ZERO, "");
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name;
            }
            let (key, value) = line.split_once('=').map_or((line, ""), |(key, value)| (key.trim(), value));
            let quoted = value.split('"').nth(1).unwrap_or_default();
            lines.push(match key {
                "listen" => line.replace(quoted, "127.0.0.1:0"),
                "name" if section.starts_with("[backend]") => {
                    let (name, script) = (quoted.to_owned(), Arc::clone(&script));
                    providers.push(Provider::start(quoted, move |asked| script(&name, asked)).await);
                    line.to_owned()
                }
                "origin" => {
                    let provider: &Provider = providers.last().expect("the name is before the origin");
                    let path = quoted.splitn(4, '/').nth(3).expect("an origin with a path");
                    line.replace(quoted, &format!("http://{}/{path}", provider.address))
                }
                "bearer" => {
                    let name = providers.last().expect("the name is before the key").name.clone();
                    environment.insert(quoted.trim_start_matches("env:").to_owned(), format!("{KEY}{name}"));
                    line.to_owned()
                }
                "time_limits" => {
                    let (line, longest) = shortened(line, faster);
                    silence = silence.max(longest);
                    line
                }
                _ => line.to_owned(),
            });
        }
        let environment: Vec<_> = environment.iter().map(|(name, key)| (&**name, &**key)).collect();
        if version == Version::HTTP_2 {
            let names: Vec<_> = providers.iter().map(|provider| &provider.name).collect();
            lines.push(format!("[upstreams]\nh2c = {names:?}"));
        }
        let file = TempFile::new("toml", &format!("{}\n{more}\n", lines.join("\n")));
        let gateway = Gateway::start(file, &environment).await;
        let client = Client::new(version);
        Self { profile, gateway, providers, silence, client }
    }

    async fn ask(&self, stream: bool) -> Answer {
        self.ask_for(stream, "Say something.").await
    }

    async fn ask_for(&self, stream: bool, prompt: &str) -> Answer {
        let answer = in_time(ask(self, stream, prompt)).await;
        assert!(!answer.shows.iter().any(|text| text.contains(KEY)), "C77: {answer:?}");
        answer
    }

    fn provider(&self, name: &str) -> &Provider {
        self.providers.iter().find(|provider| provider.name == name).expect("a provider of the file")
    }

    /// The requests to all providers, with what was played, in the order of their times.
    fn seen(&self) -> Vec<(String, Asked, Play)> {
        let of = |provider: &Provider| {
            let name = provider.name.clone();
            provider.seen().into_iter().map(move |(asked, play)| (name.clone(), asked, play)).collect::<Vec<_>>()
        };
        let mut seen: Vec<_> = self.providers.iter().flat_map(of).collect();
        seen.sort_by_key(|(_, asked, _)| asked.at);
        seen
    }

    /// How many requests got a fault.
    fn faults(&self) -> usize {
        self.seen().iter().filter(|(.., play)| *play != Play::Answer).count()
    }

    /// Whether the request took no longer than it may: a second, and the time that is named.
    fn assert_soon(&self, answer: &Answer, named: Duration) {
        let bound = SOON + SLACK + named;
        assert!(answer.took < bound, "{:?}: {:?} is more than {bound:?}: {answer:?}", self.profile, answer.took);
    }
}

/// The line with shorter durations, and the longest of them.
fn shortened(line: &str, factor: u32) -> (String, Duration) {
    let (mut longest, mut parts) = (Duration::ZERO, Vec::new());
    for part in line.split('"') {
        let Ok(duration) = humantime(part) else {
            parts.push(part.to_owned());
            continue;
        };
        let shorter = duration / factor;
        longest = longest.max(shorter);
        parts.push(format!("{}ms", shorter.as_millis()));
    }
    (parts.join("\""), longest)
}

/// Seconds or minutes.
fn humantime(text: &str) -> Result<Duration, std::num::ParseIntError> {
    let (number, unit) = match text.strip_suffix("min") {
        Some(number) => (number, 60),
        None => (text.strip_suffix('s').unwrap_or_default(), 1),
    };
    Ok(Duration::from_secs(number.parse::<u64>()? * unit))
}

/// Plays a fault for the first request to any provider, and answers all others.
fn once(fault: Play) -> impl Fn(&str, &Asked) -> Play + Send + Sync + 'static {
    let played = AtomicBool::new(false);
    move |_, _| if played.swap(true, SeqCst) { Play::Answer } else { fault }
}

/// Plays a fault for all requests to the provider that gets the first one; the others answer.
fn always(fault: Play) -> impl Fn(&str, &Asked) -> Play + Send + Sync + 'static {
    let first = OnceLock::new();
    move |name, _| if first.get_or_init(|| name.to_owned()) == name { fault } else { Play::Answer }
}

/// Runs a test with both files at once.
async fn both(test: impl AsyncFn(Profile)) {
    tokio::join!(test(Profile::Streaming), test(Profile::Safe));
}

/// How long ago, for messages.
fn since(begin: Instant, at: Instant) -> Duration {
    at.saturating_duration_since(begin)
}
