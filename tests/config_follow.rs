//! A fleet that follows its configuration file: C56, C64, C70.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::time::timeout;
use tower::BoxError;
use tower_fleet::{
    AdminStatus, Backend, Config, Fleet,
    config::{self, ClientLayer, ConfigFile, ConfigFollower, Followed, Reload},
};

/// A client that tells apart which call made it.
#[derive(Clone)]
struct Client;

type Make = Box<dyn FnMut(&Backend<ClientLayer>) -> Client + Send>;

/// A folder that is there for one test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("config-follow-{}-{}", std::process::id(), COUNT.fetch_add(1, SeqCst));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("fleet.toml")
    }

    fn write(&self, text: &str) {
        fs::write(self.file(), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn backend(name: &str, lines: &str) -> String {
    format!("[[backend]]\nname = \"{name}\"\norigin = \"http://{name}\"\n{lines}\n")
}

fn parse(text: &str) -> Result<Config, BoxError> {
    Ok(Config::read(toml::Deserializer::parse(text)?)?)
}

struct Setup {
    folder: Folder,
    fleet: Fleet<config::Client<Client>>,
    follower: ConfigFollower<Config, Client, Make>,
    reload: Reload,
    /// The backends for which a client was made.
    made: Arc<Mutex<Vec<String>>>,
}

impl Setup {
    fn new(text: &str) -> Self {
        Self::with(text, parse)
    }

    fn with(text: &str, parse: impl Fn(&str) -> Result<Config, BoxError> + Send + Sync + 'static) -> Self {
        let folder = Folder::new();
        folder.write(text);
        let mut file = ConfigFile::new(folder.file(), parse);
        let (config, reload) = (file.read().unwrap(), file.reload());
        let made = Arc::<Mutex<Vec<String>>>::default();
        let make = || {
            let made = Arc::clone(&made);
            move |backend: &Backend<ClientLayer>| {
                made.lock().unwrap().push(backend.name().to_owned());
                Client
            }
        };
        let fleet = config.fleet(make()).unwrap();
        let make: Make = Box::new(make());
        let follower = ConfigFollower::new(&fleet, config, make).file(file);
        made.lock().unwrap().clear();
        Self { folder, fleet, follower, reload, made }
    }

    /// What follows of the file within a minute.
    async fn next(&mut self) -> Option<Followed> {
        timeout(Duration::from_secs(60), self.follower.next()).await.ok().flatten()
    }

    async fn applied(&mut self) -> tower_fleet::config::Applied {
        match self.next().await {
            Some(Followed::Applied(applied)) => applied,
            other => panic!("{other:?}"),
        }
    }

    async fn refused(&mut self) -> String {
        match self.next().await {
            Some(Followed::Refused(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn names(&self) -> Vec<String> {
        self.fleet.snapshot().into_iter().map(|backend| backend.name.to_string()).collect()
    }

    fn made(&self) -> Vec<String> {
        std::mem::take(&mut self.made.lock().unwrap())
    }
}

// C56, C64
#[tokio::test(start_paused = true)]
async fn unchanged_backends_keep_their_service() {
    let mut setup = Setup::new(&[backend("a", ""), backend("b", ""), backend("c", "")].concat());
    let ids = |setup: &Setup| -> HashMap<_, _> {
        setup.fleet.snapshot().into_iter().map(|backend| (backend.name.to_string(), backend.id)).collect()
    };
    let before = ids(&setup);
    setup.folder.write(&[backend("a", "weight = 3"), backend("d", ""), backend("c", "host = \"other\"")].concat());
    let applied = setup.applied().await.backends;
    assert_eq!((applied.inserted.len(), applied.removed.len(), applied.unchanged), (1, 1, 0));
    assert_eq!((&*applied.updated[0], &*applied.replaced[0]), ("a", "c"));
    assert_eq!(setup.names(), ["a", "c", "d"]);
    assert_eq!(setup.fleet.snapshot()[0].weight, 3);
    assert_eq!(setup.made(), ["d", "c"]);
    assert_eq!(ids(&setup)["a"], before["a"]);
    assert_ne!(ids(&setup)["c"], before["c"]);
}

// C64, C76
#[tokio::test(start_paused = true)]
async fn changed_edits_of_bodies_replace_their_backends() {
    let all = |model: &str| format!("json = {{ set = {{ model = \"{model}\" }} }}\n");
    let own = "json = { set = { model = \"own\" }, memory = \"2MiB\" }";
    let mut setup = Setup::new(&[all("x"), backend("a", own), backend("b", "")].concat());
    setup.folder.write(&[all("y"), backend("a", own), backend("b", ""), backend("c", "")].concat());
    let applied = setup.applied().await;
    assert_eq!((&*applied.backends.replaced[0], applied.backends.unchanged), ("b", 1));
    assert_eq!((setup.made().len(), applied.needs_restart.len()), (2, 0));
}

// C70
#[tokio::test(start_paused = true)]
async fn a_bad_file_changes_nothing_and_says_why_once() {
    let mut setup = Setup::new(&[backend("a", ""), backend("b", "")].concat());
    let id = setup.fleet.snapshot()[0].id;
    setup.folder.write(&[backend("a", "weight = -3"), backend("c", "")].concat());
    let error = setup.refused().await;
    let expected = "fleet.toml: backend[0].weight: -3 of `a` must be a number over 0";
    assert!(error.contains(expected), "{error}");
    assert!(setup.next().await.is_none(), "the same version is refused once");
    for (text, expected) in [
        ("", "a fleet needs at least one [[backend]]"),
        ("[[backend", "TOML parse error"),
        ("name = \"other\"\n[[backend]]\nname = \"a b\"", "backend[0].name"),
        (&[backend("a", ""), backend("a", "")].concat(), "is already the name of backend[0]"),
    ] {
        setup.folder.write(text);
        let error = setup.refused().await;
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!((setup.names(), setup.fleet.snapshot()[0].id), (vec!["a".into(), "b".into()], id));
    setup.folder.write(&backend("a", "weight = 2"));
    setup.applied().await;
    assert_eq!((setup.names(), setup.made()), (vec!["a".into()], vec![]));
}

// C70: valid, but not whole.
#[tokio::test(start_paused = true)]
async fn a_file_that_is_being_written_is_not_applied_by_half() {
    let mut setup = Setup::new(&[backend("a", ""), backend("b", "")].concat());
    setup.folder.write(&backend("a", ""));
    // Long enough for the first read, and not for the one that confirms it.
    let first = timeout(Duration::from_millis(1_020), setup.follower.next()).await;
    assert!(first.is_err(), "{first:?}");
    setup.folder.write(&[backend("a", ""), backend("b", ""), backend("c", "")].concat());
    let applied = setup.applied().await.backends;
    assert_eq!((applied.removed.len(), applied.inserted.len()), (0, 1));
}

// C70
#[tokio::test(start_paused = true)]
async fn a_file_that_is_gone_or_something_else_changes_nothing() {
    let text = [backend("a", ""), backend("b", "")].concat();
    let mut setup = Setup::new(&text);
    let file = setup.folder.file();
    fs::remove_file(&file).unwrap();
    assert!(setup.refused().await.contains("No such file"));
    assert!(setup.next().await.is_none());
    fs::create_dir(&file).unwrap();
    assert!(setup.refused().await.contains("is not a file"));
    fs::remove_dir(&file).unwrap();
    fs::write(&file, b"\xff\xfe").unwrap();
    assert!(setup.refused().await.contains("is not UTF-8"));
    setup.folder.write(&text);
    let applied = setup.applied().await;
    assert_eq!((applied.backends.unchanged, setup.made().len()), (2, 0));
}

// C56: as Kubernetes exchanges a `ConfigMap`.
#[tokio::test(start_paused = true)]
async fn an_exchanged_link_is_noticed_and_a_touch_is_not() {
    let mut setup = Setup::new(&backend("a", ""));
    let (file, other) = (setup.folder.file(), setup.folder.0.join("other.toml"));
    setup.folder.write(&backend("a", ""));
    assert!(setup.next().await.is_none(), "only the content counts");
    fs::write(&other, backend("b", "")).unwrap();
    let link = setup.folder.0.join("link");
    std::os::unix::fs::symlink(&other, &link).unwrap();
    fs::rename(&link, &file).unwrap();
    setup.applied().await;
    assert_eq!(setup.names(), ["b"]);
}

// C41, C64
#[tokio::test(start_paused = true)]
async fn a_status_counts_when_it_changes_in_the_file() {
    let mut setup = Setup::new(&[backend("a", ""), backend("b", "")].concat());
    let status = |setup: &Setup| setup.fleet.snapshot()[0].status;
    setup.fleet.drain("a");
    setup.folder.write(&[backend("a", ""), backend("b", "weight = 2")].concat());
    setup.applied().await;
    assert_eq!(status(&setup), AdminStatus::Draining, "the file does not undo what the operator set");
    setup.folder.write(&[backend("a", "status = \"degraded\""), backend("b", "")].concat());
    setup.applied().await;
    assert_eq!(status(&setup), AdminStatus::Degraded);
    setup.folder.write(&[backend("a", ""), backend("b", "")].concat());
    setup.applied().await;
    assert_eq!(status(&setup), AdminStatus::Healthy);
}

// C64: no setting is ignored in silence.
#[tokio::test(start_paused = true)]
async fn settings_that_need_a_restart_are_named() {
    let mut setup = Setup::new(&backend("a", ""));
    let text = "name = \"other\"\nmax_ejected = 0.5\n[failover]\ndeadline = \"3s\"\n[breaker]\nfailures = 3\n";
    setup.folder.write(&[text, &backend("a", "")].concat());
    assert_eq!(setup.applied().await.needs_restart, ["breaker", "max_ejected", "name"]);
    assert!(format!("{:?}", setup.follower.current().failover()).contains("3s"), "doors can be made anew");
    setup.folder.write(&[text, &backend("a", "weight = 2")].concat());
    assert!(setup.applied().await.needs_restart.is_empty());
}

// C59, C64: a key that was exchanged.
#[tokio::test(start_paused = true)]
async fn a_reload_reads_secrets_again() {
    let secret = Arc::new(Mutex::new("first".to_owned()));
    let known = Arc::clone(&secret);
    let text = [backend("a", "bearer = \"env:KEY\""), backend("b", "")].concat();
    let mut setup = Setup::with(&text, move |text| {
        let source = toml::Deserializer::parse(text).expect("valid TOML");
        Ok(Config::read_with(source, |_| Some(known.lock().unwrap().clone()))?)
    });
    *secret.lock().unwrap() = "second".to_owned();
    assert!(setup.next().await.is_none(), "the file did not change");
    setup.reload.request();
    let applied = setup.applied().await;
    assert_eq!((&*applied.backends.replaced[0], applied.backends.unchanged), ("a", 1));
    assert_eq!(setup.made(), ["a"]);
    assert!(!format!("{:?} {applied:?}", setup.follower).contains("second"));
}

// C56: many changes, with broken ones in between.
#[tokio::test(start_paused = true)]
async fn a_hundred_changes_leave_what_stays_alone() {
    let mut setup = Setup::new(&[backend("a", ""), backend("b", "")].concat());
    let id = setup.fleet.snapshot()[0].id;
    for change in 1..=100 {
        if change % 5 == 0 {
            setup.folder.write(&format!("{}weight = 0", backend("a", "")));
            assert!(setup.refused().await.contains("weight"));
        }
        let other = format!("other-{change}");
        setup.folder.write(&[backend("a", &format!("weight = {change}")), backend(&other, "")].concat());
        setup.applied().await;
        assert_eq!(setup.names(), ["a".to_owned(), other.clone()]);
        assert_eq!(setup.made(), [other]);
    }
    assert_eq!((setup.fleet.snapshot()[0].id, setup.fleet.snapshot()[0].weight), (id, 100));
}

#[tokio::test(start_paused = true)]
async fn a_parser_that_panics_refuses_the_file() {
    let mut setup = Setup::with(&backend("a", ""), |text| {
        assert!(!text.contains("panic"), "the parser panics");
        parse(text)
    });
    setup.folder.write("# panic\n");
    assert!(setup.refused().await.contains("panicked"));
    setup.folder.write(&backend("b", ""));
    setup.applied().await;
}

// C58
#[test]
fn an_interval_that_makes_no_sense_is_refused() {
    for interval in [Duration::ZERO, Duration::from_millis(9), Duration::MAX] {
        let error = ConfigFile::new("a.toml", parse).every(interval).unwrap_err();
        assert!(error.to_string().starts_with("config file: every "), "{error}");
    }
    let missing = ConfigFile::new("/nonexistent/a.toml", parse).read().unwrap_err().to_string();
    assert!(missing.starts_with("/nonexistent/a.toml: No such file"), "{missing}");
}

#[tokio::test(start_paused = true)]
async fn a_follower_ends_with_its_fleet() {
    let Setup { folder: _folder, fleet, mut follower, .. } = Setup::new(&backend("a", ""));
    let waiting = tokio::spawn(async move { follower.next().await.is_none() });
    tokio::task::yield_now().await;
    drop(fleet);
    assert!(waiting.await.unwrap());
}

/// Waits for a change, and drops that future and makes it anew all the time, as where something else happens too.
async fn changed(file: &mut ConfigFile<Config>, interval: Duration) -> bool {
    for _ in 0..100 {
        if timeout(interval, file.changed()).await.is_ok() {
            return true;
        }
    }
    false
}

// C56: neither a request nor the interval begins anew with the future.
#[tokio::test(start_paused = true)]
async fn a_future_that_is_dropped_loses_no_change_and_no_request() {
    let folder = Folder::new();
    folder.write(&backend("a", ""));
    let mut file = ConfigFile::new(folder.file(), parse).every(Duration::from_secs(60)).unwrap();
    file.read().unwrap();
    folder.write(&backend("b", ""));
    assert!(changed(&mut file, Duration::from_secs(5)).await, "more often than the interval");
    file.reload().request();
    // Dropped while the file is read.
    assert!(futures::FutureExt::now_or_never(file.changed()).is_none());
    assert!(timeout(Duration::from_secs(1), file.changed()).await.is_ok(), "the request");
}
