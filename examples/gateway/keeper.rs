//! What is done beside the requests: the file is followed.

use std::{
    error::Error,
    io,
    sync::{Arc, PoisonError},
    thread::{self, JoinHandle},
};

use tokio::sync::oneshot;
use tower_fleet::config::{Applied, ConfigFile, ConfigFollower, Followed, Reload};

use crate::{
    log::Log,
    proxy::{Current, Doors, Fleet},
    server::runtime,
    settings::Settings,
    upstream::{Clients, take_seat},
};

/// A thread with a runtime of its own for what is done beside the requests.
pub(crate) struct Keeper {
    reload: Option<Reload>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// What the keeper works with.
struct Work {
    fleet: Fleet,
    clients: Clients,
    /// The doors of each worker.
    doors: Vec<Current>,
    log: Arc<Log>,
}

impl Keeper {
    pub(crate) fn start(
        settings: Settings,
        file: Option<ConfigFile<Settings>>,
        fleet: &Fleet,
        clients: Clients,
        doors: Vec<Current>,
        log: Arc<Log>,
    ) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (runtime, reload) = (runtime()?, file.as_ref().map(ConfigFile::reload));
        let seat = settings.server.workers.get();
        let work = Work { fleet: fleet.clone(), clients, doors, log };
        let thread = thread::Builder::new().name("keeper".to_owned()).spawn(move || {
            take_seat(seat);
            runtime.block_on(async {
                tokio::select! {
                    () = work.follow(settings, file) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { reload, stop, thread })
    }

    /// Has the file read again.
    pub(crate) fn reload(&self) {
        if let Some(reload) = &self.reload {
            reload.request();
        }
    }

    pub(crate) fn stop(self) {
        // The receiver is dropped if the thread has ended already.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

impl Work {
    /// Keeps the fleet and the doors like the file.
    async fn follow(&self, settings: Settings, file: Option<ConfigFile<Settings>>) {
        let Some(file) = file else { return std::future::pending().await };
        let started = settings.clone();
        let client = |backend: &_| self.clients.of(backend);
        let mut follower = ConfigFollower::new(&self.fleet, settings, client).file(file);
        while let Some(followed) = follower.next().await {
            match followed {
                Followed::Refused(error) => {
                    self.log.line(format_args!("the file is refused, and nothing changed: {error}"))
                }
                Followed::Applied(applied) => match self.exchange(follower.current()) {
                    Ok(()) => self.report(applied, &started, follower.current()),
                    Err(error) => self.log.line(format_args!("the doors of the file are refused: {error}")),
                },
            }
        }
    }

    /// Gives each worker doors with the settings of the file. Requests that run keep theirs.
    fn exchange(&self, settings: &Settings) -> Result<(), Box<dyn Error>> {
        let doors = Doors::new(&self.fleet, &settings.config)?;
        for current in &self.doors {
            *current.write().unwrap_or_else(PoisonError::into_inner) = doors.clone();
        }
        Ok(())
    }

    fn report(&self, Applied { backends, mut needs_restart, .. }: Applied, before: &Settings, now: &Settings) {
        let own = [("server", before.server != now.server), ("upstreams", before.upstreams != now.upstreams)];
        needs_restart.extend(own.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()));
        let names = |what: &str, names: &[_]| match names.len() {
            0 => String::new(),
            count => format!(", {count} {what}"),
        };
        let restart = match needs_restart.is_empty() {
            true => String::new(),
            false => format!("; needs a restart: {}", needs_restart.join(", ")),
        };
        self.log.line(format_args!(
            "the file is applied: {} unchanged{}{}{}{}{restart}",
            backends.unchanged,
            names("inserted", &backends.inserted),
            names("replaced", &backends.replaced),
            names("updated", &backends.updated),
            names("removed", &backends.removed),
        ));
    }
}
