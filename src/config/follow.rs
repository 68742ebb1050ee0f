//! A fleet that follows its configuration file.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use futures::stream::Stream;

use super::{Applied, Config, ConfigError, watch::ConfigFile};
use crate::{
    fleet::{Backend, Changes, Fleet, FleetInner},
    foreign,
    outcome::HttpClassifier,
    telemetry,
    upstream::{Upstream, UpstreamLayer},
};

/// Keeps a fleet like its configuration file.
///
/// Each changed version of the file is applied as [`Fleet::reconcile`] does: unchanged backends keep their connections,
/// health and position. A file that is refused changes nothing. It works while it is polled, and ends with the fleet.
///
/// ```no_run
/// # use tower_fleet::{Config, config::{ConfigFile, ConfigFollower}};
/// # #[derive(Clone)] struct Client;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut file = ConfigFile::new("fleet.toml", |text| Config::read(toml::Deserializer::parse(text)?));
/// let config = file.read()?;
/// let fleet = config.fleet(|_backend| Client)?;
/// tokio::spawn(ConfigFollower::new(&fleet, config, file, |_backend| Client).run());
/// # Ok(())
/// # }
/// ```
///
/// | changed in the file | effect |
/// |---|---|
/// | `[[backend]]`: a backend more or less, `weight`, `priority`, `timeout`, `limit` | applied, in place for a backend that stays |
/// | `[[backend]]`: what its requests are rewritten with, secrets too | the backend is replaced; requests in flight finish |
/// | `[[backend]]`: `status` | set, since it is the operator's word; a status that did not change is not set again |
/// | `strategy`, `preset`, `[hash]`, `[failover]` | for doors that are made of [`current`](Self::current) from then on |
/// | everything else | reported as [`needs_restart`](Applied::needs_restart) |
///
/// Backends that were added to the fleet by other means are removed, as by [`Fleet::reconcile`].
#[must_use = "a follower does nothing unless polled"]
pub struct ConfigFollower<T, S, F> {
    fleet: Weak<FleetInner<Upstream<S>, HttpClassifier>>,
    changes: Changes,
    current: T,
    file: ConfigFile<T>,
    client: F,
}

/// What became of a changed file, from [`ConfigFollower::next`].
#[derive(Debug)]
pub enum Followed {
    /// The file was applied.
    Applied(Applied),
    /// The file was refused, and the fleet stays as it was. Returned once per version of the file.
    Refused(ConfigError),
}

impl<T, S, F> ConfigFollower<T, S, F>
where
    T: AsRef<Config> + Send + 'static,
    S: Send + Sync + 'static,
    F: FnMut(&Backend<UpstreamLayer>) -> S,
{
    /// Creates a follower of `file`, for a fleet that was made of `current`. `client` is that of [`Config::fleet`].
    pub fn new(fleet: &Fleet<Upstream<S>>, current: T, file: ConfigFile<T>, client: F) -> Self {
        Self { fleet: Arc::downgrade(fleet.shared()), changes: fleet.changes(), current, file, client }
    }

    /// Returns the version that was applied last.
    pub fn current(&self) -> &T {
        &self.current
    }

    /// Waits until the file changes, and applies it. `None` once the fleet was dropped.
    ///
    /// # Cancel safety
    ///
    /// No version is lost, and none is applied in part.
    pub async fn next(&mut self) -> Option<Followed> {
        let version = tokio::select! {
            () = ended(&mut self.changes) => return None,
            version = self.file.changed() => version,
        };
        let fleet = Fleet::of(self.fleet.upgrade()?);
        let applied = version.and_then(|new| {
            let applied = new.as_ref().apply(self.current.as_ref(), &fleet, &mut self.client);
            let applied = applied.map_err(|refused| ConfigError::new("", refused.to_string()))?;
            self.current = new;
            Ok(applied)
        });
        Some(match applied {
            Ok(applied) => {
                foreign::run(|| telemetry::config_applied(&applied.backends, &applied.needs_restart));
                Followed::Applied(applied)
            }
            Err(error) => {
                foreign::run(|| telemetry::config_refused(&error));
                Followed::Refused(error)
            }
        })
    }

    /// Follows the file until the fleet is dropped. What happens is reported to `tracing` only.
    pub async fn run(mut self) {
        while self.next().await.is_some() {}
    }
}

/// Waits for the end of the fleet.
async fn ended(changes: &mut Changes) {
    std::future::poll_fn(|cx: &mut Context<'_>| {
        while let Poll::Ready(change) = Pin::new(&mut *changes).poll_next(cx) {
            if change.is_none() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
}

impl AsRef<Self> for Config {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl<T: fmt::Debug, S, F> fmt::Debug for ConfigFollower<T, S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigFollower")
            .field("current", &self.current)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
