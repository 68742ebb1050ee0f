//! Replicas in two processes.

use std::{
    env,
    io::{BufRead, Write},
    process::{Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::StreamExt;
use tower_fleet::{
    Backend, Fleet,
    fleet::Change,
    outcome::ErrorsOnly,
    replicas::{Share, ValkeyStore},
};

use crate::{
    replica::{Counted, Replica, wait_until},
    server::Server,
};

/// The environment variable with the URL, in the other process.
const CHILD: &str = "FLEET_TEST_REPLICA";

fn fleet() -> Fleet<Counted, ErrorsOnly> {
    let backends = (0..400).map(|at| Backend::new(format!("b{at}"), Counted::default()));
    let policy = tower_fleet::CircuitPolicy::new().open_for(Duration::from_secs(60));
    Fleet::plain().name("search").backends(backends).circuit_breaker(policy).build().unwrap()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// Not a test, but the other process: opens the circuits that are named on its input.
#[test]
fn the_other_process() {
    let Ok(url) = env::var(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let fleet = fleet();
    let _in_runtime = runtime.enter();
    runtime.spawn(fleet.share(Share::new(ValkeyStore::new(url).unwrap())).unwrap());
    let mut output = std::io::stdout();
    for name in std::io::stdin().lock().lines().map_while(Result::ok) {
        let at = now();
        fleet.switch(&name).unwrap().trip();
        writeln!(output, "@{}", at.as_nanos()).unwrap();
        output.flush().unwrap();
    }
}

/// The other process. It ends with this.
struct Other {
    child: std::process::Child,
    lines: Receiver<String>,
}

impl Other {
    fn start(url: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["process::the_other_process", "--exact", "--nocapture", "--test-threads", "1"]);
        command.env(CHILD, url).envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Other output may be on the same line.
                if let Some((_, line)) = line.split_once('@') {
                    let _ = sender.send(line.to_owned());
                }
            }
        });
        Self { child, lines }
    }

    /// Opens a circuit, and returns when it was opened.
    fn trip(&mut self, name: &str) -> Duration {
        writeln!(self.child.stdin.as_mut().unwrap(), "{name}").unwrap();
        let line = self.lines.recv_timeout(Duration::from_secs(20)).expect("an answer of the other process");
        Duration::from_nanos(line.parse().unwrap())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// C55: the figures of the issue, for 200 openings.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_opening_in_one_process_is_seen_in_another_within_milliseconds() {
    let Some(server) = Server::start(&[]) else { return };
    let fleet = fleet();
    let (sent, seen) = mpsc::channel();
    let mut changes = fleet.changes();
    tokio::spawn(async move {
        while let Some(change) = changes.next().await {
            if let Change::Hint(name, Some(_)) = change {
                let _ = sent.send((name, now()));
            }
        }
    });
    tokio::spawn(fleet.share(Share::new(ValkeyStore::new(server.url()).unwrap())).unwrap());
    let mut other = Other::start(&server.url(), &[]);
    let subscribed = || server.run("PUBSUB NUMSUB tower-fleet:1:{search}").ends_with(":2\r\n");
    wait_until("both are connected", subscribed).await;
    let measuring = tokio::task::spawn_blocking(move || {
        let mut times: Vec<_> = (0..200)
            .map(|at| {
                let opened = other.trip(&format!("b{at}"));
                let (name, seen) = seen.recv_timeout(Duration::from_secs(20)).expect("a hint");
                assert_eq!(name, *format!("b{at}"));
                // The moments between which nothing but the next command is sent.
                std::thread::sleep(Duration::from_millis(2));
                seen.saturating_sub(opened)
            })
            .collect();
        times.sort();
        times
    });
    let times = measuring.await.unwrap();
    let (p50, p99, most) = (times[100], times[197], times[199]);
    println!("an opening is seen elsewhere: p50 {p50:?}, p99 {p99:?}, at most {most:?}");
    assert!(p50 < Duration::from_millis(5), "p50 {p50:?}");
    assert!(p99 < Duration::from_millis(100), "p99 {p99:?}");
}

// C55, C59: TLS, in a process without a default provider of cryptography, and with a certificate of its own authority.
#[tokio::test]
async fn a_server_is_reached_by_tls() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = env::temp_dir().join(format!("tower-fleet-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certificate = file("certificate.pem", key.cert.pem());
    let private = file("key.pem", key.signing_key.serialize_pem());
    let arguments = "--tls-port PORT --tls-auth-clients no --tls-cert-file CERTIFICATE --tls-key-file PRIVATE";
    let plain = "--unixsocket";
    let socket = folder.join("socket").to_str().unwrap().to_owned();
    let mut arguments: Vec<_> = arguments.split(' ').collect();
    for argument in &mut arguments {
        *argument = match *argument {
            "CERTIFICATE" => &certificate,
            "PRIVATE" => &private,
            other => other,
        };
    }
    arguments.extend([plain, &socket]);
    let Some(server) = Server::start(&arguments) else { return };
    let url = format!("rediss://localhost:{}", server.port);
    let mut other = Other::start(&url, &[("SSL_CERT_FILE", &certificate)]);
    other.trip("b0");
    let key = "tower-fleet:1:{search}:report:b0";
    wait_until("the opening is reported", || unix(&socket, &format!("EXISTS {key}")).starts_with(":1")).await;
    // Without that authority, the certificate is refused. The system may trust none at all.
    if let Ok(store) = ValkeyStore::new(&url) {
        let replica = Replica::by(store, &["a", "b"]);
        replica.serve_for(Duration::from_millis(500)).await;
        assert!(unix(&socket, "PUBSUB NUMSUB tower-fleet:1:{search}").ends_with(":1\r\n"));
    }
    let _ = std::fs::remove_dir_all(&folder);
}

/// Sends one command to the socket of a server.
fn unix(path: &str, command: &str) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    answer.strip_suffix("+OK\r\n").unwrap_or(&answer).to_owned()
}
