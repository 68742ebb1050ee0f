//! A configuration file that is read again when it changes.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};
use tower::BoxError;

use super::{ConfigError, error::safe};
use crate::setting::InvalidSetting;

/// A configuration file that is read again when it changes.
///
/// `T` is what its text is parsed to: a [`Config`](super::Config), or settings of your own that contain one. Pass it to a
/// [`ConfigFollower`](super::ConfigFollower), which applies each version to a fleet.
///
/// ```no_run
/// # use tower_fleet::{Config, config::ConfigFile};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut file = ConfigFile::new("fleet.toml", |text| Ok(Config::read(toml::Deserializer::parse(text)?)?));
/// let config = file.read()?;
/// # Ok(())
/// # }
/// ```
///
/// The file is polled. That needs no further dependency, and sees changes that notifications of the system miss: the
/// links of a Kubernetes `ConfigMap` that are exchanged, an editor that renames, and file systems of other machines. It
/// costs one read of a small file per interval, on a thread for blocking work. Only the content counts: a file that is
/// touched is not applied again. A changed content counts once it is the same twice in a row, so that a file which is
/// being written is not applied by half.
pub struct ConfigFile<T> {
    path: PathBuf,
    parse: Parse<T>,
    every: Duration,
    reload: Reload,
    /// The version that was returned or refused last.
    seen: Option<Version>,
    /// A change that has to be confirmed by the next read.
    unconfirmed: Option<Version>,
    /// When it is read next. Kept when the future that waits for it is dropped, as is the request below.
    due: Option<Instant>,
    /// A reload was requested, and is not done yet.
    is_requested: bool,
}

type Parse<T> = Arc<dyn Fn(&str) -> Result<T, BoxError> + Send + Sync>;

/// The content of the file, or why it cannot be read.
type Version = Result<String, String>;

/// Beyond it, a file is taken for another one by mistake.
const MAX_BYTES: u64 = 64 << 20;

/// How soon a change is confirmed.
const SETTLE: Duration = Duration::from_millis(50);

impl<T: Send + 'static> ConfigFile<T> {
    /// Creates a file that is polled once a second. `parse` reads the text in whatever format it has.
    pub fn new(path: impl Into<PathBuf>, parse: impl Fn(&str) -> Result<T, BoxError> + Send + Sync + 'static) -> Self {
        Self {
            path: path.into(),
            parse: Arc::new(parse),
            every: Duration::from_secs(1),
            reload: Reload::default(),
            seen: None,
            unconfirmed: None,
            due: None,
            is_requested: false,
        }
    }

    /// Sets the interval between two reads. Default 1 s.
    ///
    /// # Errors
    ///
    /// An interval under 10 ms, or over a day.
    pub fn every(mut self, interval: Duration) -> Result<Self, InvalidSetting> {
        if !(Duration::from_millis(10)..=Duration::from_secs(24 * 60 * 60)).contains(&interval) {
            let reason = "must be from 10 ms to 1 day";
            return Err(InvalidSetting::of("config file", "every", format_args!("{interval:?}"), reason));
        }
        self.every = interval;
        Ok(self)
    }

    /// Returns a handle that has the file read again at once, such as for SIGHUP.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// Reads the file now, before the fleet is built. Blocks the thread.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or its content is refused. The error names the path.
    pub fn read(&mut self) -> Result<T, ConfigError> {
        let version = load(&self.path);
        let parsed = parsed(&self.path, &self.parse, &version);
        self.seen = Some(version);
        parsed
    }

    /// Waits for the next version of the file, and returns it. An error is returned once per version.
    ///
    /// # Cancel safety
    ///
    /// No version and no request is lost, and the interval goes on.
    pub async fn changed(&mut self) -> Result<T, ConfigError> {
        loop {
            if !self.is_requested {
                let wait = if self.unconfirmed.is_some() { SETTLE.min(self.every) } else { self.every };
                let due = *self.due.get_or_insert_with(|| Instant::now() + wait);
                self.is_requested = tokio::select! {
                    () = sleep_until(due) => false,
                    () = self.reload.0.notified() => true,
                };
            }
            let path = self.path.clone();
            let version = blocking(move || load(&path)).await;
            self.due = None;
            if !self.is_requested {
                if self.seen.as_ref() == Some(&version) {
                    self.unconfirmed = None;
                    continue;
                }
                if self.unconfirmed.as_ref() != Some(&version) {
                    self.unconfirmed = Some(version);
                    continue;
                }
            }
            let (path, parse) = (self.path.clone(), Arc::clone(&self.parse));
            let (version, parsed) = blocking(move || {
                let parsed = parsed(&path, &parse, &version);
                (version, parsed)
            })
            .await;
            (self.unconfirmed, self.is_requested) = (None, false);
            self.seen = Some(version);
            return parsed;
        }
    }
}

impl<T> fmt::Debug for ConfigFile<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigFile").field("path", &self.path).field("every", &self.every).finish_non_exhaustive()
    }
}

/// Has a [`ConfigFile`] read again at once, and applied even if its text did not change: secrets that it refers to may
/// have.
#[derive(Clone, Debug, Default)]
pub struct Reload(Arc<Notify>);

impl Reload {
    /// Requests that the file is read again.
    pub fn request(&self) {
        self.0.notify_one();
    }
}

/// Runs blocking work, whose panics are caught by itself, on a thread for it.
async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    match spawn_blocking(work).await {
        Ok(done) => done,
        // The runtime shuts down, and drops this future.
        Err(_) => std::future::pending().await,
    }
}

fn load(path: &Path) -> Version {
    let read = || {
        // Opening a named pipe or a device may not end, and neither holds a configuration.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("is not a file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!("is larger than {MAX_BYTES} bytes")));
        }
        String::from_utf8(bytes).map_err(|_| io::Error::other("is not UTF-8"))
    };
    read().map_err(|error| error.to_string())
}

fn parsed<T>(path: &Path, parse: &Parse<T>, version: &Version) -> Result<T, ConfigError> {
    let named = |error: ConfigError| error.in_file(path);
    let text = version.as_ref().map_err(|reason| named(ConfigError::new("", safe(reason))))?;
    let parsed = catch_unwind(AssertUnwindSafe(|| parse(text)));
    let parsed = parsed.unwrap_or_else(|_| Err("the code that parses it panicked".into()));
    parsed.map_err(|error| {
        named(match error.downcast::<ConfigError>() {
            Ok(error) => *error,
            Err(error) => ConfigError::new("", error.to_string()),
        })
    })
}
