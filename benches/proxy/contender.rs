//! The proxies that are compared, and how each is started: a process of its own that listens on one port.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{child, child::Child, load, peers};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    Gateway,
    Bare,
    BareRetry,
    /// One runtime of many threads instead of one runtime per core.
    BareMt,
    Nginx,
    NginxLeastConn,
    HaProxy,
    HaProxyLeastConn,
}

use Contender::{Bare, BareMt, BareRetry, Gateway, HaProxy, HaProxyLeastConn, Nginx, NginxLeastConn};

/// The strategy of a peer makes no difference to the throughput of healthy backends.
pub(crate) const THROUGHPUT: [Contender; 6] = [Gateway, Bare, BareRetry, BareMt, Nginx, HaProxy];
/// Nor the runtime to faults.
pub(crate) const FAULTS: [Contender; 7] = [Gateway, Bare, BareRetry, Nginx, NginxLeastConn, HaProxy, HaProxyLeastConn];

/// A running proxy; it ends when dropped.
pub(crate) struct Proxy {
    pub(crate) child: Child,
    pub(crate) port: u16,
}

impl Contender {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Gateway => "gateway",
            Bare => "bare",
            BareRetry => "bare-retry",
            BareMt => "bare-mt",
            Nginx => "nginx",
            NginxLeastConn => "nginx-least",
            HaProxy => "haproxy",
            HaProxyLeastConn => "haproxy-least",
        }
    }

    /// Why it cannot take part here.
    pub(crate) fn missing(self) -> Option<String> {
        let program = match self {
            Gateway => return (!gateway().exists()).then(|| "examples/gateway is not there".to_owned()),
            Bare | BareRetry | BareMt => return None,
            Nginx | NginxLeastConn => "nginx",
            HaProxy | HaProxyLeastConn => "haproxy",
        };
        peers::find(program).is_none().then(|| format!("{program} is not installed"))
    }

    /// Starts it in front of these backends and waits until it serves.
    pub(crate) fn start(self, backends: &[u16]) -> Proxy {
        let folder = folder();
        let mut proxy = match self {
            Gateway => announced(Child::start(Command::new(gateway()).arg("--config").arg(config(&folder, backends)))),
            Bare | BareRetry | BareMt => announced(Child::again(self.name(), backends.iter().map(u16::to_string))),
            Nginx | NginxLeastConn => {
                let port = child::free_ports(1)[0];
                let child = Child::start(&mut peers::nginx(&folder, port, backends, self == NginxLeastConn));
                Proxy { child, port }
            }
            HaProxy | HaProxyLeastConn => {
                let port = child::free_ports(1)[0];
                let child = Child::start(&mut peers::haproxy(&folder, port, backends, self == HaProxyLeastConn));
                Proxy { child, port }
            }
        };
        proxy.child.ignore_output();
        proxy.wait_until_good(self.name());
        proxy
    }
}

impl Proxy {
    /// Waits until nothing fails for a while.
    pub(crate) fn wait_until_good(&self, name: &str) {
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            let tally = load::run(load::closed(self.port, 6, Duration::from_millis(100), load::GETS));
            if tally.failed() == 0 {
                return;
            }
            assert!(Instant::now() < patience, "{name} does not serve: {:?}", tally.failures);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// It says itself where it listens.
fn announced(mut child: Child) -> Proxy {
    let line = child.line();
    let port = line.rsplit_once(':').and_then(|(_, port)| port.trim_end_matches('/').parse().ok());
    Proxy { port: port.unwrap_or_else(|| panic!("no address in `{line}`")), child }
}

/// Builds the gateway if it is among them.
pub(crate) fn build(contenders: &[Contender]) {
    if contenders.contains(&Gateway) && Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gateway").exists() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--quiet", "--profile", "bench", "--example", "gateway"])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        let built = cargo.stdout(Stdio::null()).status();
        assert!(built.is_ok_and(|status| status.success()), "the gateway does not build");
    }
}

fn gateway() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target folder");
    target.join("release/examples/gateway")
}

/// Where configurations are written; cargo keeps it for this bench.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("proxy");
    std::fs::create_dir_all(&folder).expect("cargo's folder for this bench can be written");
    folder
}

/// The gateway's shipped file as it is, with the backends of the bench in place of its own.
fn config(folder: &Path, backends: &[u16]) -> PathBuf {
    let shipped = include_str!("../../examples/gateway/fleet.toml");
    let (settings, _) = shipped.split_once("[[backend]]").expect("the file has backends");
    let mut text = settings.replace("127.0.0.1:8080", "127.0.0.1:0");
    for (index, port) in backends.iter().enumerate() {
        text += &format!("\n[[backend]]\nname = \"b{}\"\norigin = \"http://127.0.0.1:{port}\"\n", index + 1);
    }
    let file = folder.join("gateway.toml");
    std::fs::write(&file, text).expect("a configuration can be written");
    file
}
