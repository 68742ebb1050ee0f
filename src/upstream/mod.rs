//! Middleware that rewrites requests for one backend: its origin, its headers, its credentials; and, with the feature
//! `json`, fields of its JSON bodies.
//!
//! [`UpstreamLayer`] goes around the service of a [`Backend`](crate::Backend). It changes only the attempts at that
//! backend: each attempt starts from the request of the caller, so that no backend gets the headers of another.
//!
//! ```
//! # use tower_fleet::{Backend, UpstreamLayer};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (client, key) = (tower::service_fn(|_: http::Request<String>| async { Ok::<_, std::io::Error>(()) }), "secret");
//! let openai = UpstreamLayer::new().origin("https://api.openai.com/v1")?.bearer(key)?;
//! let azure = UpstreamLayer::new().origin("https://eu.example.com/openai")?.secret("api-key", key)?;
//! let backends = [Backend::new("openai", client).layer(openai), Backend::new("azure", client).layer(azure)];
//! # let _ = backends;
//! # Ok(())
//! # }
//! ```
//!
//! **Headers of the caller are passed on**, credentials too: a backend that sets `authorization` replaces the caller's, one
//! that sets another header gets both. Remove what a backend must not see with [`UpstreamLayer::without`].
//!
//! For anything else that a backend needs, add another tower layer with [`Backend::layer`](crate::Backend::layer). A
//! change that is the same for all backends belongs in a layer around the door.

#[cfg(feature = "json")]
pub mod json;
mod layer;

pub(crate) use self::layer::frames_messages;
pub use self::layer::{Upstream, UpstreamLayer};
