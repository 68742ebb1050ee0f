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
#![doc = include_str!("keys.md")]
//!
//! # Secrets
//!
//! A file contains no secret, but the name of an environment variable, which is read with the file. No error and no `Debug`
//! output shows a secret. Only a syntax error of the format itself may quote the line of the file that it is about.

mod applied;
mod backend;
mod breaker;
mod client;
mod commit;
mod content;
mod error;
mod failover;
mod file;
mod follow;
mod hash;
mod hedge;
mod json;
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
mod rejection;
mod resume;
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
    client::{Client, ClientLayer},
    error::ConfigError,
    file::Config,
    follow::{ConfigFollower, Followed},
    probe::FileProbe,
    resume::FileResume,
    watch::{ConfigFile, Reload},
};

/// Without the feature `dns`, there are no lookups.
#[cfg(not(feature = "dns"))]
mod lookups {
    use super::{ClientLayer, Config};
    use crate::fleet::Backend;

    #[derive(Default)]
    pub(super) struct Lookups;

    impl Lookups {
        pub(super) fn update(&mut self, _: &Config) -> Self {
            Self
        }

        pub(super) fn undo(&mut self, _: Self, _: &Config) {}

        pub(super) async fn changed(&mut self) {
            std::future::pending().await
        }

        pub(super) fn backends(&self, _: &Config) -> impl Iterator<Item = Backend<ClientLayer>> + use<> {
            std::iter::empty()
        }
    }
}

#[cfg(test)]
mod tests;
