//! Replicas that share a real server of Valkey or Redis, on loopback.
//!
//! Without `valkey-server` or `redis-server` on the path, these tests say that they are skipped. With
//! `FLEET_REQUIRE_VALKEY` set, they fail instead.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod errors;
mod hostile;
mod outages;
mod process;
mod replica;
mod scripts;
mod server;
mod sharing;
