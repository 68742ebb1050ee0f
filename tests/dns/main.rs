//! Backends from DNS, against a name server on loopback. C56, C64, C70
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod hosts;
mod lies;
mod outages;
mod server;
mod services;

use std::{net::SocketAddr, time::Duration};

use futures::StreamExt;
use tower_fleet::dns::{Dns, Endpoint, Endpoints, ResolveError};

use self::server::Server;

/// A lookup of a host with short times.
fn host(server: &Server) -> Dns {
    short(Dns::new("api.test:80")).name_servers([server.address])
}

/// A lookup of a service with short times.
fn service(server: &Server) -> Dns {
    short(Dns::srv("_grpc._tcp.api.test")).name_servers([server.address])
}

fn short(dns: Dns) -> Dns {
    let (shortest, longest) = (Duration::from_millis(100), Duration::from_millis(400));
    dns.min_ttl(shortest).max_ttl(longest).max_backoff(longest).timeout(Duration::from_secs(1))
}

/// Waits for the next set, within a bound that no test reaches.
async fn next(endpoints: &mut Endpoints) -> Vec<Endpoint> {
    tokio::time::timeout(Duration::from_secs(20), endpoints.next()).await.expect("in time").expect("no end")
}

/// Polls for this long, and expects that the set does not change.
async fn stays(endpoints: &mut Endpoints, time: Duration) {
    let changed = tokio::time::timeout(time, endpoints.next()).await;
    assert!(changed.is_err(), "{changed:?}");
}

/// Polls until a lookup fails, and expects that the set does not change.
async fn fails(endpoints: &mut Endpoints) -> ResolveError {
    for _ in 0..400 {
        stays(endpoints, Duration::from_millis(50)).await;
        if let Some(error) = endpoints.status().error() {
            return error;
        }
    }
    panic!("no lookup fails: {endpoints:?}");
}

fn addresses(set: &[Endpoint]) -> Vec<String> {
    set.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

fn socket(address: &str) -> SocketAddr {
    address.parse().unwrap()
}
