//! Sharing: the same door, alone and while its fleet is shared with another replica.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tower::Layer;
use tower_fleet::{
    Backend, BalanceLayer, CircuitPolicy, Fleet,
    outcome::ErrorsOnly,
    replicas::{Exchange, MemoryExchange, Share, ValkeyStore},
};

use crate::{balance::Unit, row::Row};

/// Fleets that share on a thread of their own, as long as this is kept.
pub(crate) struct Shared {
    server: Option<Child>,
    _runtime: tokio::runtime::Runtime,
}

/// Measures a door alone, and one of a fleet that is shared through a server, or through memory if there is none on the
/// path.
pub(crate) fn rows() -> (Vec<Row>, Shared) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (alone, shared) = (fleet(), fleet());
    let server = ["valkey-server", "redis-server"].into_iter().find_map(start);
    let name = match &server {
        Some((_, port)) => {
            share(&runtime, &shared, ValkeyStore::new(format!("redis://127.0.0.1:{port}")).expect("a URL"));
            "round robin, shared through a store"
        }
        None => {
            share(&runtime, &shared, MemoryExchange::new());
            "round robin, shared through memory"
        }
    };
    let row = |name: &str, fleet: &Fleet<Unit, ErrorsOnly>, callers| {
        Row::kept("share", "ours", name, 100, callers, BalanceLayer::round_robin().layer(fleet.clone()))
    };
    let rows = [1, 64]
        .into_iter()
        .flat_map(|callers| [row("round robin, not shared", &alone, callers), row(name, &shared, callers)]);
    (rows.collect(), Shared { server: server.map(|(server, _)| server), _runtime: runtime })
}

fn fleet() -> Fleet<Unit, ErrorsOnly> {
    let backends = (0..100).map(|index| Backend::new(index.to_string(), Unit));
    let fleet = Fleet::plain().name("versus").backends(backends).circuit_breaker(CircuitPolicy::new());
    fleet.build().expect("a valid fleet")
}

/// Shares a fleet with another replica, whose circuits open and close all the time.
fn share(runtime: &tokio::runtime::Runtime, shared: &Fleet<Unit, ErrorsOnly>, exchange: impl Exchange + Clone) {
    let other = fleet();
    for fleet in [shared, &other] {
        runtime.spawn(fleet.share(Share::new(exchange.clone())).expect("valid settings"));
    }
    runtime.spawn(async move {
        // Of backends that the measured fleet does not have: else its picks would be made anew, as after every change.
        other.insert(Backend::new("other", Unit)).expect("a new name");
        let switch = other.switch("other").expect("a circuit");
        loop {
            switch.trip();
            tokio::time::sleep(Duration::from_millis(100)).await;
            switch.reset();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}

fn start(binary: &str) -> Option<(Child, u16)> {
    let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
    let mut command = Command::new(binary);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    let server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    Some((server, port))
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}
