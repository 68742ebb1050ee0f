//! Failover against scripted backends: time is paused, nothing leaves the process.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod beginnings;
mod commits;
mod content;
mod ledger;
#[path = "../support/http.rs"]
mod mock;
mod modes;
mod pushback;
mod refusals;
mod rejections;
mod requests;
mod streams;
mod times;
mod triggers;
mod wire;
