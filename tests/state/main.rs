//! The state of a fleet across restarts: what is restored, what damages it, when it is saved, and the file. C54, C58, C59
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod damaged;
mod file;
mod restoring;
mod saving;

use std::{
    fmt, fs,
    future::{Ready, pending, ready},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tower::Service;
use tower_fleet::{
    Backend, Balance, CircuitPolicy, Fleet, RoundRobin,
    fleet::{FleetBuilder, Snapshot},
    outcome::ErrorsOnly,
    state::Store,
};
use tracing::{Level, subscriber::DefaultGuard};

/// A backend that responds with its name, or with an error.
#[derive(Clone)]
struct Site {
    name: &'static str,
    fails: bool,
    calls: Arc<AtomicUsize>,
}

impl Service<()> for Site {
    type Response = &'static str;
    type Error = io::Error;
    type Future = Ready<io::Result<&'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        self.calls.fetch_add(1, Ordering::SeqCst);
        ready(if self.fails { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(self.name) })
    }
}

type Sites = Fleet<Site, ErrorsOnly>;

fn site(name: &'static str) -> Backend<Site> {
    Backend::new(name, Site { name, fails: false, calls: Arc::default() })
}

fn policy() -> CircuitPolicy {
    CircuitPolicy::new().consecutive(2).open_for(secs(10)).growth(2.0).max_open_for(secs(60))
}

/// The fleet `api` of the backends `a`, `b` and `c`, with circuits.
fn builder() -> FleetBuilder<Site, ErrorsOnly> {
    Fleet::plain().name("api").backends(["a", "b", "c"].map(site)).circuit_breaker(policy())
}

fn fleet() -> Sites {
    builder().build().unwrap()
}

fn door(fleet: &Sites) -> Balance<Site, RoundRobin, ErrorsOnly> {
    Balance::new(fleet, RoundRobin::new())
}

/// The number of backends that serve requests of a door now.
async fn serving(fleet: &Sites) -> usize {
    let mut names = std::collections::BTreeSet::new();
    let door = door(fleet);
    for _ in 0..500 {
        if let Ok(name) = door.clone().oneshot(()).await {
            names.insert(name);
        }
    }
    names.len()
}

fn snapshot(fleet: &Sites, name: &str) -> Snapshot {
    fleet.snapshot().into_iter().find(|one| one.name == *name).unwrap()
}

/// The share of a backend in its traffic, in percent.
fn percent(fleet: &Sites, name: &str) -> f32 {
    (snapshot(fleet, name).share * 100.0).round()
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What a store in memory does with the next documents.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Disk {
    Works,
    IsFull,
    Hangs,
    Panics,
}

/// A store in memory, as a disk would be. Clones share it.
#[derive(Clone)]
struct Shelf(Arc<Shelved>);

struct Shelved {
    document: Mutex<Option<Vec<u8>>>,
    disk: Mutex<Disk>,
    tries: AtomicUsize,
    saves: AtomicUsize,
}

impl Shelf {
    fn empty() -> Self {
        let (document, disk) = (Mutex::default(), Mutex::new(Disk::Works));
        Self(Arc::new(Shelved { document, disk, tries: AtomicUsize::new(0), saves: AtomicUsize::new(0) }))
    }

    fn with(document: impl Into<Vec<u8>>) -> Self {
        let shelf = Self::empty();
        *shelf.0.document.lock().unwrap() = Some(document.into());
        shelf
    }

    fn set(&self, disk: Disk) {
        *self.0.disk.lock().unwrap() = disk;
    }

    /// The document, as text.
    fn text(&self) -> String {
        let document = self.0.document.lock().unwrap().clone();
        String::from_utf8(document.unwrap_or_default()).unwrap()
    }

    /// The number of documents that were saved.
    fn saves(&self) -> usize {
        self.0.saves.load(Ordering::SeqCst)
    }

    /// The number of documents that were to be saved.
    fn tries(&self) -> usize {
        self.0.tries.load(Ordering::SeqCst)
    }
}

impl Store for Shelf {
    fn location(&self) -> String {
        "the shelf".to_owned()
    }

    async fn load(&self) -> io::Result<Option<Vec<u8>>> {
        let disk = *self.0.disk.lock().unwrap();
        if disk == Disk::Hangs {
            pending::<()>().await;
        }
        assert_ne!(disk, Disk::Panics);
        Ok(self.0.document.lock().unwrap().clone())
    }

    async fn save(&self, document: Vec<u8>) -> io::Result<()> {
        self.0.tries.fetch_add(1, Ordering::SeqCst);
        while *self.0.disk.lock().unwrap() == Disk::Hangs {
            tokio::time::sleep(millis(10)).await;
        }
        let disk = *self.0.disk.lock().unwrap();
        assert_ne!(disk, Disk::Panics);
        if disk == Disk::IsFull {
            return Err(io::Error::other("the disk is full"));
        }
        *self.0.document.lock().unwrap() = Some(document);
        self.0.saves.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// A document of the fleet `api` with these backends.
fn document(written_at: &str, backends: &str) -> Vec<u8> {
    sealed(&format!(r#"{{"version": 1, "fleet": "api", "written_at": "{written_at}", "backends": {{{backends}}}"#))
}

/// Ends a document with its checksum, as the module describes it.
fn sealed(text: &str) -> Vec<u8> {
    let fnv = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{text},\n  \"checksum\": \"{fnv:016x}\"\n}}\n").into_bytes()
}

/// A moment that a wall clock shows now or later, wherever it stands: so no time has passed since then.
const FUTURE: &str = "9999-12-31T23:59:59Z";
/// A moment long ago.
const PAST: &str = "1971-01-01T00:00:00Z";

/// The warnings of this thread, from now on.
struct Warnings {
    texts: Arc<Mutex<Vec<String>>>,
    _guard: DefaultGuard,
}

impl Warnings {
    fn collect() -> Self {
        let texts = Arc::<Mutex<Vec<String>>>::default();
        let guard = tracing::subscriber::set_default(Collector(Arc::clone(&texts)));
        Self { texts, _guard: guard }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.texts.lock().unwrap())
    }
}

struct Collector(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Collector {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                self.0.push_str(&format!("{}={value:?} ", field.name()));
            }
        }
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// A directory that is removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tower-fleet-{}-{test}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// The names of what is in it.
    fn names(&self) -> Vec<String> {
        names(&self.0)
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
