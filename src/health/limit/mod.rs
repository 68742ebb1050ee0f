//! Limits on the calls in flight at one backend: fixed, or adapted to its latency. Pure.

mod adaptive;
mod settings;

pub(crate) use self::adaptive::{Controller, Ended};
pub use self::settings::{AdaptiveLimit, Limit};

#[cfg(test)]
mod tests;
