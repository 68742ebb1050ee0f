//! The gateway as a process, and the file that it is started with.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

use crate::{backend::Server, in_time};

/// Built by `cargo test` before the tests run.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples/gateway");
    let name = path.display();
    assert!(path.exists(), "{name} is missing: run `cargo build --example gateway` first");
    assert!(!is_stale(&path), "{name} is older than its sources: run `cargo build --example gateway` first");
    path
}

/// Whether something that it was made of has changed since. Cargo lists that beside it.
fn is_stale(binary: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let list = fs::read_to_string(binary.with_extension("d")).unwrap_or_default();
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources);
    sources.split_whitespace().any(|source| changed(Path::new(source)) > changed(binary))
}

/// Runs the gateway to its end.
pub(crate) async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).envs(environment.iter().copied()).kill_on_drop(true).stdin(Stdio::null());
    in_time(command.output()).await.unwrap()
}

/// A file that is there for one test.
pub(crate) struct TempFile(PathBuf);

impl TempFile {
    pub(crate) fn new(extension: &str, text: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("gateway-{}-{}.{extension}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The file in the making.
#[derive(Default)]
pub(crate) struct Setup {
    top: String,
    sections: BTreeMap<&'static str, String>,
    backends: String,
    environment: Vec<(&'static str, &'static str)>,
}

impl Setup {
    /// Listens on a free port, with two workers, however many cores there are.
    pub(crate) fn new() -> Self {
        Self::default().with("server", "listen = \"127.0.0.1:0\"\nworkers = 2")
    }

    /// Everybody is asked in turn.
    pub(crate) fn in_turns() -> Self {
        Self::new().top("strategy = \"round_robin\"")
    }

    pub(crate) fn top(mut self, line: &str) -> Self {
        self.top += &format!("{line}\n");
        self
    }

    pub(crate) fn with(mut self, section: &'static str, lines: &str) -> Self {
        *self.sections.entry(section).or_default() += &format!("{lines}\n");
        self
    }

    pub(crate) fn backend(self, server: &Server) -> Self {
        self.backend_with(server, "")
    }

    pub(crate) fn backend_with(self, server: &Server, lines: &str) -> Self {
        self.origin(server.name, &format!("http://{}", server.address), lines)
    }

    pub(crate) fn origin(mut self, name: &str, origin: &str, lines: &str) -> Self {
        self.backends += &format!("[[backend]]\nname = \"{name}\"\norigin = \"{origin}\"\n{lines}\n");
        self
    }

    pub(crate) fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    pub(crate) fn text(&self) -> String {
        let sections: String = self.sections.iter().map(|(name, lines)| format!("[{name}]\n{lines}\n")).collect();
        format!("{}\n{sections}{}", self.top, self.backends)
    }

    pub(crate) async fn start(self) -> Gateway {
        Gateway::start(TempFile::new("toml", &self.text()), &self.environment).await
    }
}

/// A gateway at work. It is killed when it is dropped.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    child: Child,
    said: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
    file: TempFile,
}

impl Gateway {
    pub(crate) async fn start(file: TempFile, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary());
        command.args(["--config", file.path()]).envs(environment.iter().copied()).kill_on_drop(true);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (said, mut complaint) = (Arc::<Mutex<String>>::default(), BufReader::new(child.stderr.take().unwrap()));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = in_time(lines.next_line()).await.unwrap().unwrap_or_default();
        let Some(address) = first.strip_prefix("listening on http://") else {
            let mut why = String::new();
            let _ = in_time(complaint.read_line(&mut why)).await;
            panic!("the gateway does not start: {first}{why}");
        };
        let address = address.parse().unwrap();
        let reading = tokio::spawn({
            let said = Arc::clone(&said);
            async move {
                tokio::join!(listen(lines.into_inner(), &said), listen(complaint, &said));
            }
        });
        Self { address, child, said, reading, file }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Writes its file anew.
    pub(crate) fn rewrite(&self, setup: &Setup) {
        fs::write(self.file.path(), setup.text()).unwrap();
    }

    /// The polite signal.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Its lines so far, after the first one, on stdout and stderr.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// How it ends, and everything that it said after the first line.
    pub(crate) async fn end(mut self) -> (ExitStatus, String) {
        let status = in_time(self.child.wait()).await.unwrap();
        in_time(&mut self.reading).await.unwrap();
        (status, std::mem::take(&mut self.said.lock().unwrap()))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The most memory that it ever had, in bytes. Zero where nothing says so.
    pub(crate) fn peak_memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap_or(0) * 1024
    }
}

async fn listen(from: impl AsyncRead + Unpin, said: &Mutex<String>) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut said = said.lock().unwrap();
        said.push_str(&line);
        said.push('\n');
    }
}
