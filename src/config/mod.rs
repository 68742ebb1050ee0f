//! A whole fleet from a file.
//!
//! ```
//! # use tower_fleet::{Config, body::ReplayBody, failover::Ledger};
//! # use tower::{Layer, ServiceExt, service_fn};
//! # use http_body_util::Full;
//! # use bytes::Bytes;
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let text = r#"
//!     strategy = "weighted_failover"
//!
//!     [failover]
//!     deadline = "10s"
//!     commit = "first_frame"
//!
//!     [[backend]]
//!     name = "openai"
//!     origin = "https://api.openai.com/v1"
//!     weight = 0.7
//!     ## bearer = "env:OPENAI_KEY"
//!
//!     [[backend]]
//!     name = "azure"
//!     origin = "https://eu.example.com/openai"
//!     weight = 0.3
//!     timeout = "30min"
//! "#;
//! # let client = service_fn(|request: http::Request<ReplayBody<Full<Bytes>>>| async move {
//! #     assert_eq!(request.uri(), "https://api.openai.com/v1/chat");
//! #     Ok::<_, std::io::Error>(http::Response::new(Full::new(Bytes::new())))
//! # });
//! # let request = http::Request::builder().uri("/chat").body(Full::<Bytes>::default())?;
//! let config = Config::read(toml::Deserializer::parse(text)?)?;
//! let fleet = config.fleet(|_backend| client.clone())?;
//! let door = config.failover().layer(fleet.clone());
//!
//! let response = door.oneshot(request).await?;
//! assert_eq!(response.extensions().get::<Ledger>().unwrap().served().unwrap(), "openai");
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! A [`Config`] is made of the crate's own builders, and what it gives can be built upon: `config.failover().mode(…)`.
//! Where the fleet is known in code, those builders alone do as well.
//!
//! # The keys
//!
//! All are optional but a backend's `name`. An unknown key is an error. Durations are texts with units, `200ms`, `30s`,
//! `5min`, `1h 30min`, or the number 0; sizes are numbers of bytes, or texts: `64KiB`, `1MiB`, `2GiB`.
//!
//! | key | value | without it |
//! |---|---|---|
//! | `name` | what errors call the fleet | `"fleet"` |
//! | `strategy` | the name of a [`Strategy`](crate::pick::StrategyName) | `"failover"` |
//! | `preset` | `"llxprt"`: one after the other in the order of the file, two backends at least | |
//! | `most_ejected`, `panic_below` | shares, as in [`FleetBuilder`](crate::fleet::FleetBuilder) | 1, 0 |
//!
//! What is set beside a preset wins over it; so does a `strategy` that stands for a mode.
//!
//! `[failover]`, as in [`FailoverLayer`](crate::FailoverLayer), with its defaults but for the timeout:
//!
//! | key | value |
//! |---|---|
//! | `mode` | `"race"`, `"sequential"` or `{ hedged = "20ms" }` |
//! | `race_bound`, `deadline`, `same_backend_delay`, `retry_after_cap` | durations; a `race_bound` of 0 is the default, 5 s |
//! | `timeout` | of one attempt, where the backend has none of its own; 60 s without it |
//! | `attempts_per_backend` | from 1 to 100 |
//! | `backoff` | `{ base = "2s", cap = "16s", factor = 2.0, jitter = 0.1 }`, or some of it |
//! | `budget` | `{ share = 0.2, reserve = 10 }` |
//! | `triggers` | of `"status"`, `"timeout"`, `"network"` and `"custom"`; an empty list never fires |
//! | `statuses` | `[429, "500-599"]`: what `"status"` means, in place of the default |
//! | `idempotent_only` | `true` or `false` |
//! | `on_exhausted` | `"pass_through"` or `"error"` |
//! | `commit` | `"head"`, `"first_frame"`, or with the end if it is known to be that near: `{ whole = "64KiB" }` |
//! | `replay_limit`, `replay_memory` | sizes: of one request body, and of all of this door; 0 is no replay |
//! | `served_by` | the name of a header |
//!
//! `[breaker]`, as in [`CircuitBreakerLayer`](crate::CircuitBreakerLayer): `failures`, `within`, `consecutive`,
//! `failure_rate = { rate, window, minimum_calls }`, `slow_calls = { rate, slower_than, window, minimum_calls }`,
//! `open_for`, `growth`, `longest`, `jitter`, `forgive_after`, `probes`, `probe_timeout`, `successes_to_close`, and
//! `statuses`. With `success_at_end = true` a success is counted when the body has ended well, not with its head. With
//! `enabled = false` no circuit opens by itself.
//!
//! `[[backend]]`, as in [`Backend`](crate::Backend) and [`ShapeLayer`](crate::shape::ShapeLayer):
//!
//! | key | value |
//! |---|---|
//! | `name` | unique |
//! | `origin`, `host` | where requests go, and the `Host` they go with |
//! | `weight` | a number from 0, where 0 counts as 1; with a fraction among them, all are brought to one scale |
//! | `priority` | a whole number, higher first |
//! | `timeout` | of one attempt |
//! | `status` | `"healthy"`, `"degraded"` or `"draining"` |
//! | `bearer` | `"env:NAME"`: the token of `Authorization: Bearer` |
//! | `secrets` | `{ api-key = "env:NAME" }`: headers |
//! | `headers` | `{ x-tenant = "a" }`: headers that are no secrets |
//! | `without` | headers that the caller may send, and this backend does not get |
//!
//! Secrets are read once, by reference only. No error and no `Debug` output shows one; a format's own complaint about
//! broken syntax may quote the line it is about.

mod backend;
mod breaker;
mod error;
mod failover;
mod file;
mod node;
mod units;
mod vocabulary;
mod weight;

use self::error::Fault;
pub use self::{error::Invalid, file::Config};

#[cfg(test)]
mod tests;
