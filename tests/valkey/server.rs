//! A server of its own for each test.

use std::{
    env, fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// A running server. It ends with this.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    arguments: Vec<String>,
    folder: PathBuf,
}

static SERVERS: AtomicU32 = AtomicU32::new(0);

/// Finds a server on the path.
fn binary() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = ["valkey-server", "redis-server"]
        .into_iter()
        .find_map(|name| env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file()));
    if found.is_none() {
        assert!(env::var_os("FLEET_REQUIRE_VALKEY").is_none(), "neither valkey-server nor redis-server is on the path");
        // Not by `eprintln`, whose text is captured.
        let _ = writeln!(std::io::stderr(), "skipped: neither valkey-server nor redis-server is on the path");
    }
    found
}

impl Server {
    /// Starts a server with further arguments. `None`, visibly, if there is none on the path.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        let binary = binary()?;
        let number = SERVERS.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("tower-fleet-valkey-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for _ in 0..20 {
            // The port is free for a moment, in which another process may take it.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let arguments: Vec<_> =
                arguments.iter().map(|argument| argument.replace("PORT", &port.to_string())).collect();
            let mut server =
                Self { child: spawn(&binary, port, &arguments, &folder), port, arguments, folder: folder.clone() };
            if server.is_up() {
                return Some(server);
            }
        }
        panic!("no server could be started");
    }

    /// Waits until it answers. False if it has ended, or does not.
    fn is_up(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) && self.child.try_wait().unwrap().is_none() {
            // Also an error of access is an answer. A server that expects TLS just closes the connection.
            let is_tls = self.arguments.iter().any(|argument| argument == "--tls-port");
            if exchange(self.port, "PING").is_some_and(|answer| is_tls || !answer.is_empty()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends one command, and returns the answer.
    pub(crate) fn run(&self, command: &str) -> String {
        exchange(self.port, command).expect("an answer")
    }

    pub(crate) fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on its port, with nothing in it.
    pub(crate) fn restart(&mut self) {
        let binary = binary().expect("a server, since there was one");
        self.child = spawn(&binary, self.port, &self.arguments, &self.folder);
        assert!(self.is_up(), "the server does not start again");
    }

    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn spawn(binary: &PathBuf, port: u16, arguments: &[String], folder: &PathBuf) -> Child {
    let mut command = Command::new(binary);
    let port = if arguments.iter().any(|argument| argument == "--tls-port") { 0 } else { port };
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(arguments).arg("--dir").arg(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Sends one command on a connection of its own. `None` if there is no connection.
fn exchange(port: u16, command: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).ok()?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    Some(answer.strip_suffix("+OK\r\n").unwrap_or(&answer).to_owned())
}
