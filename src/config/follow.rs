//! A fleet that follows its configuration file.

#[cfg(feature = "dns")]
use std::time::Duration;
use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    sync::{Arc, Weak},
};

use super::{Applied, Client, ClientLayer, Config, ConfigError, file::reconcile, lookups::Lookups, watch::ConfigFile};
#[cfg(feature = "dns")]
use crate::dns::ResolveError;
use crate::{
    fleet::{Backend, Changes, Fleet, FleetInner, Reconciled},
    foreign,
    outcome::HttpClassifier,
    telemetry,
};

/// Keeps a fleet like its configuration file, and like what DNS answers for it.
///
/// Each change is applied as [`Fleet::reconcile`] does: unchanged backends keep their connections, health and position. A
/// file that is refused changes nothing, and neither does DNS when it fails. A follower works while it is polled, and ends
/// with the fleet.
///
/// ```no_run
/// # use tower_fleet::{Config, config::{ConfigFile, ConfigFollower}};
/// # #[derive(Clone)] struct Client;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut file = ConfigFile::new("fleet.toml", |text| Ok(Config::read(toml::Deserializer::parse(text)?)?));
/// let config = file.read()?;
/// let fleet = config.fleet(|_backend| Client)?;
/// tokio::spawn(ConfigFollower::new(&fleet, config, |_backend| Client).file(file).run());
/// # Ok(())
/// # }
/// ```
///
/// | changed in the file | effect |
/// |---|---|
/// | `[[backend]]`: a backend more or less, `weight`, `priority`, `timeout`, `time_limits`, `limit`, `tags` | applied, in place for a backend that stays |
/// | `[[backend]]`, `[json]`: what its requests are rewritten with, secrets too | the backend is replaced; requests in flight finish |
/// | `[[backend]]`: `dns` | looked up from then on; the endpoints found before stay until it has found others |
/// | `[[backend]]`: `status` | set, since it is the operator's word; a status that did not change is not set again |
/// | `strategy`, `preset`, `[hash]`, `[failover]`, `[resume]` | for doors that are made of [`current`](Self::current) from then on |
/// | everything else | reported as [`needs_restart`](Applied::needs_restart) |
///
/// Backends that were added to the fleet by other means are removed, as by [`Fleet::reconcile`], except those of lists that
/// the fleet [follows](Fleet::follow_lists), such as DNS.
#[must_use = "a follower does nothing unless polled"]
pub struct ConfigFollower<T, S, F> {
    fleet: Weak<FleetInner<Client<S>, HttpClassifier>>,
    changes: Changes,
    current: T,
    file: Option<ConfigFile<T>>,
    lookups: Lookups,
    client: F,
}

/// What a follower has done, from [`ConfigFollower::next`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Followed {
    /// The file was applied.
    Applied(Applied),
    /// DNS named other endpoints, which were applied.
    Discovered(Reconciled),
    /// The file was refused, and the fleet stays as it was. Returned once per version of the file.
    Refused(ConfigError),
}

impl<T, S, F> ConfigFollower<T, S, F>
where
    T: AsRef<Config> + Send + 'static,
    S: Send + Sync + 'static,
    F: FnMut(&Backend<ClientLayer>) -> S,
{
    /// Creates a follower for a fleet that was made of `current`. `client` is that of [`Config::fleet`].
    pub fn new(fleet: &Fleet<Client<S>>, current: T, client: F) -> Self {
        let mut lookups = Lookups::default();
        lookups.update(current.as_ref());
        Self { fleet: Arc::downgrade(fleet.shared()), changes: fleet.changes(), current, file: None, lookups, client }
    }

    /// Follows the file that `current` was read from. Default none: only DNS is followed.
    pub fn file(mut self, file: ConfigFile<T>) -> Self {
        self.file = Some(file);
        self
    }

    /// Returns the version that was applied last.
    pub fn current(&self) -> &T {
        &self.current
    }

    /// Waits for the first answer to each lookup, at most for this time, so that a process may serve as soon as it has
    /// backends. Returns the errors of the lookups without one, which go on.
    ///
    /// The answers are applied by [`next`](Self::next), which returns at once if there are any.
    #[cfg(feature = "dns")]
    pub async fn look_up(&mut self, timeout: Duration) -> Vec<ResolveError> {
        self.lookups.first(timeout).await
    }

    /// Waits until the file or an answer of DNS changes, and applies it. `None` once the fleet was dropped.
    ///
    /// # Cancel safety
    ///
    /// No version and no answer is lost, and none is applied in part.
    pub async fn next(&mut self) -> Option<Followed> {
        let version = tokio::select! {
            () = poll_fn(|cx| self.changes.poll_ended(cx)) => return None,
            version = changed(&mut self.file) => Some(version),
            () = self.lookups.changed() => None,
        };
        let fleet = Fleet::of(self.fleet.upgrade()?);
        let followed = match version {
            Some(version) => version.and_then(|new| self.apply(&fleet, new)).map(Followed::Applied),
            None => self.reconcile(&fleet).map(Followed::Discovered),
        };
        Some(followed.unwrap_or_else(|error| {
            foreign::run(|| telemetry::config_refused(&error));
            Followed::Refused(error)
        }))
    }

    /// Applies a new version of the file, or keeps the current one.
    fn apply(&mut self, fleet: &Fleet<Client<S>>, new: T) -> Result<Applied, ConfigError> {
        // A status of the file is the operator's word of that time: it counts when it changes, and not again.
        let status = |backend: Backend<_>| (backend.name().to_owned(), backend.status);
        let earlier: HashMap<_, _> = self.wanted().map(status).collect();
        let before = std::mem::replace(&mut self.current, new);
        let ended = self.lookups.update(self.current.as_ref());
        let backends = match self.reconcile(fleet) {
            Ok(backends) => backends,
            Err(error) => {
                self.current = before;
                self.lookups.undo(ended, self.current.as_ref());
                return Err(error);
            }
        };
        for (name, status) in self.wanted().map(status) {
            if earlier.get(&name).is_some_and(|earlier| *earlier != status) {
                fleet.set_status(&name, status);
            }
        }
        let needs_restart = self.current.as_ref().needs_restart(before.as_ref());
        foreign::run(|| telemetry::config_applied(&backends, &needs_restart));
        Ok(Applied { backends, needs_restart })
    }

    fn reconcile(&mut self, fleet: &Fleet<Client<S>>) -> Result<Reconciled, ConfigError> {
        let wanted: Vec<_> = self.wanted().collect();
        reconcile(fleet, wanted, &mut self.client).map_err(|refused| ConfigError::new("", refused.to_string()))
    }

    /// The backends of the current version, and the endpoints that were found for it.
    fn wanted(&self) -> impl Iterator<Item = Backend<ClientLayer>> {
        let config = self.current.as_ref();
        config.backends().iter().cloned().chain(self.lookups.backends(config))
    }

    /// Follows file and DNS until the fleet is dropped. What happens is reported to `tracing` only.
    pub async fn run(mut self) {
        while self.next().await.is_some() {}
    }
}

/// Waits for another version of the file, if there is one.
async fn changed<T: Send + 'static>(file: &mut Option<ConfigFile<T>>) -> Result<T, ConfigError> {
    match file {
        Some(file) => file.changed().await,
        None => std::future::pending().await,
    }
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
