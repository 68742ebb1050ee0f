//! What is done beside the requests: the file and DNS are followed, backends probed, the state saved and shared.

use std::{
    error::Error,
    fmt,
    future::pending,
    sync::{Arc, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::oneshot;
use tower_fleet::{
    Backend, Config, InvalidSetting,
    config::{Applied, ClientLayer, ConfigFile, ConfigFollower, Followed, Reload},
    fleet::Reconciled,
    replicas::Sharing,
    state::Store,
};

use crate::{
    log::Log,
    proxy::{Current, Doors, Fleet, ToBackend},
    server::runtime,
    settings::Settings,
    upstream::{BackendClient, Clients, take_seat},
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

/// How long a start waits for the first answers of DNS.
const LOOK_UP: Duration = Duration::from_secs(3);

impl Keeper {
    /// Returns once the fleet is what it was before the last stop: with the endpoints that DNS names, and without the
    /// backends that are known to fail.
    pub(crate) fn start(
        settings: Settings,
        file: Option<ConfigFile<Settings>>,
        fleet: &Fleet,
        clients: Clients,
        doors: Vec<Current>,
        log: Arc<Log>,
    ) -> Result<Self, Box<dyn Error>> {
        let (stop, stopped) = oneshot::channel();
        let (runtime, reload) = (runtime()?, file.as_ref().map(ConfigFile::reload));
        let seat = settings.server.workers.get();
        let work = Work { fleet: fleet.clone(), clients, doors, log };
        let (begun, ready) = mpsc::channel();
        let thread = thread::Builder::new().name("keeper".to_owned()).spawn(move || {
            take_seat(seat);
            runtime.block_on(work.run(settings, file, begun, stopped));
        })?;
        match ready.recv() {
            Ok(Ok(())) => Ok(Self { reload, stop, thread }),
            Ok(Err(refused)) => Err(refused.into()),
            Err(_) => Err("the keeper has ended".into()),
        }
    }

    /// Has the file read again.
    pub(crate) fn reload(&self) {
        if let Some(reload) = &self.reload {
            reload.request();
        }
    }

    /// Saves the state of the fleet, and ends.
    pub(crate) fn stop(self) {
        // The receiver is dropped if the thread has ended already.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

impl Work {
    async fn run(
        self,
        settings: Settings,
        file: Option<ConfigFile<Settings>>,
        begun: mpsc::Sender<Result<(), InvalidSetting>>,
        stopped: oneshot::Receiver<()>,
    ) {
        let config = settings.config.clone();
        let client = |backend: &_| self.clients.of(backend);
        let mut follower = ConfigFollower::new(&self.fleet, settings.clone(), client);
        for error in follower.look_up(LOOK_UP).await {
            self.log.line(format_args!("serving without the endpoints of a lookup: {error}"));
        }
        // The endpoints that are known by now.
        if let Some(Some(followed)) = follower.next().now_or_never() {
            self.tell(followed, &settings, &settings);
        }
        let store = config.store();
        let location = store.as_ref().map(Store::location).unwrap_or_default();
        let mut saver = match store {
            Some(store) => Some(self.fleet.restore(store).await),
            None => None,
        };
        let (sharing, probing) = match self.neighbours(&config) {
            Ok(futures) => futures,
            Err(refused) => return drop(begun.send(Err(refused))),
        };
        let _ = begun.send(Ok(()));
        if let Some(file) = file {
            follower = follower.file(file);
        }
        let save = async {
            match &mut saver {
                Some(saver) => saver.run().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.follow(&mut follower, &settings) => {}
            () = save => {}
            () = sharing => {}
            () = probing => {}
            _ = stopped => {}
        }
        if let Some(saver) = &mut saver
            && let Err(error) = saver.save().await
        {
            self.log.line(format_args!("the state is not saved in {location}: {error}"));
        }
    }

    /// What replicas tell each other, and the probes, which get their permits from there.
    fn neighbours(&self, config: &Config) -> Result<(BoxFuture<'static, ()>, BoxFuture<'static, ()>), InvalidSetting> {
        let sharing = config.share().map(|share| self.fleet.share(share)).transpose()?;
        let permits = sharing.as_ref().map(Sharing::permits);
        let probes = config.probes::<ToBackend>().map(|probes| match permits {
            Some(permits) => self.fleet.probe(probes.gate(permits)),
            None => self.fleet.probe(probes),
        });
        let probing = probes.transpose()?;
        let sharing = sharing.map_or_else(|| pending().boxed(), |sharing| sharing.boxed());
        Ok((sharing, probing.map_or_else(|| pending().boxed(), |probing| probing.boxed())))
    }

    /// Keeps the fleet and the doors like the file and DNS.
    async fn follow<F>(&self, follower: &mut ConfigFollower<Settings, BackendClient, F>, started: &Settings)
    where
        F: FnMut(&Backend<ClientLayer>) -> BackendClient,
    {
        while let Some(followed) = follower.next().await {
            self.tell(followed, started, follower.current());
        }
    }

    /// Takes over what the follower has done.
    fn tell(&self, followed: Followed, started: &Settings, now: &Settings) {
        match followed {
            Followed::Refused(error) => {
                self.log.line(format_args!("the file is refused, and nothing changed: {error}"));
            }
            Followed::Discovered(backends) => {
                self.log.line(format_args!("the endpoints of DNS are applied: {}", Changed(&backends)));
            }
            Followed::Applied(applied) => match self.exchange(now) {
                Ok(()) => self.report(applied, started, now),
                Err(error) => self.log.line(format_args!("the doors of the file are refused: {error}")),
            },
            _ => {}
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
        let restart = match needs_restart.is_empty() {
            true => String::new(),
            false => format!("; needs a restart: {}", needs_restart.join(", ")),
        };
        self.log.line(format_args!("the file is applied: {}{restart}", Changed(&backends)));
    }
}

/// The numbers of changed backends.
struct Changed<'a>(&'a Reconciled);

impl fmt::Display for Changed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reconciled { inserted, replaced, updated, removed, unchanged, .. } = self.0;
        write!(f, "{unchanged} unchanged")?;
        for (what, names) in
            [("inserted", inserted), ("replaced", replaced), ("updated", updated), ("removed", removed)]
        {
            if !names.is_empty() {
                write!(f, ", {} {what}", names.len())?;
            }
        }
        Ok(())
    }
}
