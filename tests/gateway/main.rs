//! The gateway end to end: the example as a process, with real backends and clients on the loopback.
//!
//! `cargo test` builds the example first. For these tests alone, `cargo build --example gateway` has to go before
//! `cargo test --test gateway`.
//!
//! Real time passes here, and nothing depends on how much: what is waited for is bounded by [`IN_TIME`].
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacks;
mod backend;
mod bulk;
mod client;
mod config;
mod credentials;
mod demo;
mod departure;
mod faults;
mod forwarding;
mod limits;
mod log;
#[path = "../dns/server.rs"]
#[allow(dead_code, reason = "the tests of DNS need more of it")]
mod name_server;
mod neighbours;
mod problems;
mod process;
#[path = "../support/provider.rs"]
mod provider;
mod providers;
mod reload;
mod shutdown;
mod streams;
mod tls;
mod uploads;
#[path = "../valkey/server.rs"]
#[allow(dead_code, reason = "the tests of Valkey need more of it")]
mod valkey_server;
mod versions;
mod websocket;

use std::{io, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};

/// The bound on everything that is waited for.
const IN_TIME: Duration = Duration::from_secs(20);

/// What clients and backends send.
type Body = UnsyncBoxBody<Bytes, io::Error>;

fn text(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(IN_TIME, future).await.expect("it is over in time")
}

/// Waits until something has happened that nobody tells of.
async fn until(what: &str, happened: impl Fn() -> bool) {
    let waiting = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(IN_TIME, waiting).await.is_ok(), "still waiting for: {what}");
}
