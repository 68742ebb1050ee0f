//! A whole fleet from a configuration file: its backends, their circuits, and a failover over them.
//!
//! The smallest file names one backend. Everything else has a default:
//!
//! ```toml
//! [[backend]]
//! name = "only"
//! ```
//!
//! A file with more settings, and the door that is made of it:
//!
//! ```
//! # use tower_fleet::{Config, body::ReplayBody, failover::Ledger};
//! # use tower::{Layer, service_fn};
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
//! A [`Config`] is made with the builders of this crate, and returns what they build:
//! `config.failover().into_builder()` continues from the settings of the file. Without a file, use those builders
//! directly.
//!
//! A fleet may follow its file while it serves: see [`ConfigFollower`].
//!
//! # The keys
//!
//! Required are at least one `[[backend]]`, and a `name` in each. An unknown key is an error.
//!
//! - A duration is a text with units, such as `"200ms"`, `"30s"`, `"5min"` or `"1h 30min"`, or the number 0; at most 31
//!   days.
//! - A size is a number of bytes, or a text such as `"64KiB"`, `"1MiB"` or `"2GiB"`.
//! - A share is a number from 0 to 1, or a text such as `"20%"`.
//!
//! | key | value | default |
//! |---|---|---|
//! | `name` | the name of the fleet in errors | `"fleet"` |
//! | `strategy` | the name of a [strategy](crate::pick::StrategyName); `"failover"` and `"weighted_failover"` also set the `mode` | `"failover"` |
//! | `preset` | `"llxprt"`: sequential, in the order of the file; needs two backends | none |
//! | `max_ejected` | the [share of backends](crate::fleet::FleetBuilder::max_ejected) that circuits may eject | 1 |
//! | `panic_below` | the [share of backends](crate::fleet::FleetBuilder::panic_below) below which none is ejected | 0 |
//! | `max_hinted` | the [share of backends](crate::fleet::FleetBuilder::max_hinted) that may be out by reports of other replicas | 0.5 |
//! | `limit` | [the most calls in flight](crate::fleet::FleetBuilder::limit) at each backend: a number, or a section `[limit]` | none |
//! | `when_full` | [`"wait"`, `"refuse"` or `{ queue = 100 }`](crate::WhenFull): what happens while all backends are at their limits; a queue is from 1 to 1,000,000 | `"wait"` |
//!
//! A `mode` takes precedence over the preset, and so does a `strategy` that sets the mode.
//!
//! ## `[hash]`
//!
//! The settings of a [`Hash`](crate::pick::Hash), for `strategy = "hash"`, which needs a key.
//!
//! | key | value | default |
//! |---|---|---|
//! | `key` | `{ header = "x-user" }`, `{ cookie = "session" }`, `{ query = "id" }`, `"path"` or `"peer"` | required |
//! | `bound` | how many times its part of the calls in flight a backend may have: over 1 and up to 1,000, or `"off"` | 1.25 |
//!
//! ## `[limit]`
//!
//! The settings of an [`AdaptiveLimit`](crate::AdaptiveLimit), which describes them. All are optional.
//!
//! | key | value | default |
//! |---|---|---|
//! | `initial` | number of calls | 20 |
//! | `min` | number of calls | 2 |
//! | `max` | number of calls | 1,000 |
//! | `tolerance` | factor, from 1 to 10 | 1.5 |
//! | `window` | duration, from 10 ms | 1 s |
//! | `recheck_after` | duration | 60 s |
//!
//! ## `[failover]`
//!
//! The settings of a [`FailoverBuilder`](crate::failover::FailoverBuilder), with its defaults.
//!
//! **A `POST` is sent to another backend after a failure, so it may take effect twice.** With `retry_methods =
//! "idempotent"` it is sent again only if the backend cannot have begun to work on it. **A `POST` is not hedged**,
//! unless it has an `Idempotency-Key` or `hedge_methods = "all"` is set.
//!
//! | key | value | default |
//! |---|---|---|
//! | `mode` | `"race"`, `"sequential"`, or hedged: `{ hedged = "20ms" }`, `{ hedged = "p95" }`, or as below | that of the `strategy` or `preset`, else `"race"` |
//! | `race_width` | number of attempts of a race that run at a time | 16 |
//! | `race_bound` | duration of a race; 0 is the default | 5 s |
//! | `timeout` | duration of one attempt, for backends without a `timeout` of their own | 60 s |
//! | `deadline` | duration of the whole request | none |
//! | `ready_within` | duration of the wait in `poll_ready` while all backends of the tier are pending | the deadline, or the timeout |
//! | `attempts_per_backend` | from 1 to 100 | 1 |
//! | `same_backend_delay` | duration of the pause before another attempt at the same backend | 0 |
//! | `backoff` | `{ base = "2s", cap = "16s", factor = 2.0, jitter = 0.1 }`; each of them is optional | none |
//! | `retry_after_cap` | duration of the longest `Retry-After` that is waited for | 60 s |
//! | `budget` | `{ share = "20%", reserve = 10 }`; the reserve is optional | none |
//! | `triggers` | a list of `"status"`, `"timeout"`, `"network"` and `"custom"`; an empty list never fires | all four |
//! | `statuses` | the statuses that fire `"status"`: `[429, "500-599"]` or `"429, 5xx"` | those of `[breaker]` |
//! | `retry_methods` | `"all"` or `"idempotent"`: the requests that are sent again after a failure | `"all"` |
//! | `hedge_methods` | `"all"` or `"idempotent"`: the requests that are hedged | `"idempotent"` |
//! | `on_exhausted` | `"pass_through"` (the last response) or `"error"` | `"pass_through"` |
//! | `commit` | `"head"`, `"first_frame"`, or `{ whole = "64KiB" }` for whole responses of up to that size | `"head"` |
//! | `replay_limit` | size of the request body that can be sent again; 0 for none | 1 MiB |
//! | `replay_memory` | size of all such bodies together; 0 for none | 64 MiB, shared by the process |
//! | `upload_idle_timeout` | duration that an attempt waits for the next part of the request body; then the request fails | 60 s |
//! | `served_by` | the name of a response header that names the backend | none |
//!
//! A hedge is sent after a fixed delay, or after a [`Percentile`](crate::failover::Percentile) of what the backend took
//! lately: `mode = { hedged = { percentile = 0.95, floor = "5ms", cap = "200ms" } }`. Each of its keys is optional:
//!
//! | key | value | default |
//! |---|---|---|
//! | `percentile` | a share over 0.5 and below 1 | 0.9445 |
//! | `floor`, `cap` | the shortest and the longest delay | 1 ms, 1 s |
//! | `until_measured` | duration of the delay while there are too few samples | the `cap` |
//! | `window` | duration, from 100 ms to 7 days | 60 s |
//! | `min_samples` | from 1 to 1,000,000 | 100 |
//!
//! Without a `budget`, hedges at a percentile have one of their own: a share of twice what the percentile leaves.
//!
//! ## `[breaker]`
//!
//! The settings of a [`CircuitPolicy`](crate::CircuitPolicy), which describes them, and of the classifier. Each backend
//! has a circuit of its own.
//!
//! | key | value | default |
//! |---|---|---|
//! | `enabled` | with `false`, only an operator opens a circuit | `true` |
//! | `failures`, `within` | number of failures, and duration of their window | 5 within 60 s, unless another rule is set |
//! | `consecutive` | number of failures | none |
//! | `failure_rate` | `{ share = 0.5, window = "60s", minimum_calls = 20 }`; the last two are optional | none |
//! | `slow_calls` | `{ share = 0.5, slower_than = "2s", window = "60s", minimum_calls = 20 }`; the last two are optional | none |
//! | `open_for` | duration | 30 s |
//! | `growth` | factor, from 1 | 1 |
//! | `max_open_for` | duration | 5 min, or `open_for` if that is longer |
//! | `jitter` | share | 0 |
//! | `backoff_reset_after` | duration | 60 s |
//! | `probes` | from 1 to 1,000 | 1 |
//! | `probe_timeout` | duration | 60 s |
//! | `successes_to_close` | number of probes | 1 |
//! | `statuses` | the statuses that are failures: `[429, "500-599"]` or `"429, 5xx"` | 429 and 500–599 |
//! | `success_at_end` | with `true`, a success is recorded at the end of the body, and not at the head | `false` |
//!
//! With a hedged `mode`, `slower_than` must not exceed the delay of the hedge, nor its `cap`. Otherwise a call that loses
//! to its hedge would be cancelled before it is slow, and the circuit of a hanging backend would never open.
//!
//! ## `[slow_start]`
//!
//! The settings of a [`SlowStart`](crate::fleet::SlowStart), which describes them. Without the section, a new backend
//! gets all its traffic at once.
//!
//! | key | value | default |
//! |---|---|---|
//! | `window` | duration | required |
//! | `aggression` | a number from 0.01 to 100 | 1, linear |
//! | `floor` | share | 0.1 |
//! | `steps` | from 1 to 1,000 | 10 |
//!
//! ## `[outliers]`
//!
//! The settings of [`Outliers`](crate::fleet::Outliers), which describes them. Without the section, backends are not
//! compared; an empty section has all defaults.
//!
//! | key | value | default |
//! |---|---|---|
//! | `failure_share` | share under 1, or `false` | 0.5 |
//! | `success_rate` | number of standard deviations from 1, or `false` | 1.9 |
//! | `latency` | factor from 1, or `false` | 3 |
//! | `latency_difference` | duration | 5 ms |
//! | `latency_floor` | duration | 10 ms |
//! | `interval` | duration | 10 s |
//! | `minimum_calls` | number of calls, from 5 | 50 |
//! | `minimum_hosts` | number of backends, from 3 | 3 |
//! | `floor` | the smallest share | 0.1 |
//! | `eject_for` | duration | 30 s |
//! | `max_eject_for` | duration | 5 min |
//!
//! ## `[probe]`
//!
//! Active [probes](crate::probe) of the backends, sent with the origin and the headers of each. Without the section there
//! are none. [`Config::probes`] returns them.
//!
//! | key | value | default |
//! |---|---|---|
//! | `http` or `grpc` | the path of a request, such as `"/health"`, or the name of a service of gRPC's health protocol, `""` for the whole server | one of them is required |
//! | `method`, `statuses` | for `http`: `"GET"` or `"HEAD"`, and the statuses of a good response | `"GET"`, `"200-299"` |
//! | `interval`, `jitter` | duration from 10 ms, and share up to 0.5 | 10 s, 0.2 |
//! | `timeout` | duration of one probe | 1 s |
//! | `scope` | `"out"`: backends that are out and that a probe can bring back; or `"all"` | `"out"` |
//! | `unhealthy_after`, `healthy_after` | numbers of probes in a row, the first for `scope = "all"` | 3, 1 |
//! | `on_success` | what an open circuit becomes: `"half_open"` or `"close"` | `"half_open"` |
//! | `max_concurrent` | number of probes | 256 |
//!
//! ## `[state]` (feature `file-state`)
//!
//! The [state](crate::state) of the fleet in a file, for the next start: [`Config::store`].
//!
//! | key | value | default |
//! |---|---|---|
//! | `path` | the path of the file | required |
//!
//! ## `[share]` (feature `valkey`)
//!
//! What [replicas](crate::replicas) tell each other, through a server of Valkey or Redis: [`Config::share`]. The `name` of
//! the fleet is that of the group.
//!
//! | key | value | default |
//! |---|---|---|
//! | `url` | `"env:NAME"`, or a URL without a user such as `"redis://cache:6379"` | required |
//! | `max_hint` | the longest time for which others keep a backend out, from 1 s to 1 h | 5 min |
//! | `lease` | for how long one replica may probe, from 100 ms to 1 min | 5 s |
//! | `resync_every` | duration from 100 ms to 10 min | 15 s |
//! | `timeout` | duration of one request to the server, from 10 ms to 30 s | 1 s |
//! | `overrides` | whether statuses and forced circuits are shared | `true` |
//!
//! The share of backends that hints may keep out is `max_hinted`, at the root.
//!
//! ## `[[backend]]`
//!
//! The settings of a [`Backend`](crate::Backend) and of its [`UpstreamLayer`](crate::UpstreamLayer):
//!
//! | key | value | default |
//! |---|---|---|
//! | `name` | a unique name | required |
//! | `origin` | the URI that requests are sent to | the URI of the request |
//! | `dns` (feature `dns`) | `"host:port"`, or as below: the backend stands for all endpoints that are found | none |
//! | `host` | the `Host` header | that of the origin |
//! | `weight` | a number over 0; if any weight is a fraction, all are scaled to whole numbers | 1 |
//! | `priority` | a whole number; the highest tier with an eligible backend is used | 0 |
//! | `timeout` | duration of one attempt | that of `[failover]` |
//! | `limit` | the most calls in flight: a number, or the keys of `[limit]` as `{ max = 200 }` | that of the fleet |
//! | `status` | `"healthy"`, `"degraded"` or `"draining"` | `"healthy"` |
//! | `bearer` | `"env:NAME"`: the token of `Authorization: Bearer` | none |
//! | `secrets` | headers with secret values: `{ api-key = "env:NAME" }` | none |
//! | `headers` | headers with other values: `{ x-tenant = "a" }` | none |
//! | `without` | a list of headers of the caller that this backend does not get | none |
//!
//! With `dns`, the endpoints become backends with the settings of the entry, and are named after it and their address, such
//! as `api/10.0.0.1:8080`. A [`ConfigFollower`] looks them up. The `origin` must have no port; its default is
//! `http://` and the host that was looked up. Weights of SRV records multiply the `weight`, and their priorities lower the
//! `priority`. The keys of a [`Dns`](crate::dns::Dns):
//!
//! | key | value | default |
//! |---|---|---|
//! | `host` or `srv` | `"api.internal:8080"` or `"_grpc._tcp.api.internal"` | one of them is required |
//! | `servers` | a list of name servers, such as `["127.0.0.1:53"]` | those of the system |
//! | `family` | `"prefer_v4"`, `"prefer_v6"`, `"v4"`, `"v6"` or `"both"` | `"prefer_v4"` |
//! | `min_ttl`, `max_ttl` | the shortest and the longest time until the next lookup | 5 s, 5 min |
//! | `max_backoff` | the longest time between lookups that fail | 1 min |
//! | `timeout` | duration of one lookup | 5 s |
//! | `max_endpoints` | number of endpoints | 1,000 |
//! | `allow_empty` | with `true`, an answer without records removes all endpoints | `false` |
//!
//! # Secrets
//!
//! A file contains no secret, but the name of an environment variable, which is read once. No error and no `Debug`
//! output shows a secret. Only a syntax error of the format itself may quote the line of the file that it is about.

mod applied;
mod backend;
mod breaker;
mod error;
mod failover;
mod file;
mod follow;
mod hash;
mod hedge;
mod limit;
#[cfg(feature = "dns")]
mod lookup;
#[cfg(feature = "dns")]
mod lookups;
#[cfg(feature = "valkey")]
mod neighbours;
mod node;
mod parts;
mod probe;
#[cfg(feature = "file-state")]
mod saved;
mod secret;
mod share;
mod units;
mod vocabulary;
mod watch;
mod weight;

use self::error::ValueError;
pub use self::{
    applied::Applied,
    error::ConfigError,
    file::Config,
    follow::{ConfigFollower, Followed},
    probe::FileProbe,
    watch::{ConfigFile, Reload},
};

/// Without the feature `dns`, there are no lookups.
#[cfg(not(feature = "dns"))]
mod lookups {
    use super::Config;
    use crate::{fleet::Backend, upstream::UpstreamLayer};

    #[derive(Default)]
    pub(super) struct Lookups;

    impl Lookups {
        pub(super) fn update(&mut self, _: &Config) {}

        pub(super) async fn changed(&mut self) {
            std::future::pending().await
        }

        pub(super) fn backends(&self, _: &Config) -> impl Iterator<Item = Backend<UpstreamLayer>> + use<> {
            std::iter::empty()
        }
    }
}

#[cfg(test)]
mod tests;
