//! Response bodies that go on at another backend: scripted backends in paused time, and real servers on loopback.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bounds;
#[cfg(feature = "json")]
mod chats;
mod downloads;
mod replica;
mod wire;
