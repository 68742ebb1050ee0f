//! Edits of the JSON bodies of requests, for one backend: fields set, defaulted or removed, and names mapped.
//!
//! [`JsonEditLayer`] goes around the service of a [`Backend`](crate::Backend), beside an
//! [`UpstreamLayer`](crate::UpstreamLayer). Each attempt starts from the body of the caller, so that no backend gets the
//! model name of another.
//!
//! ```
//! # use tower_fleet::{Backend, UpstreamLayer, upstream::json::JsonEditLayer};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = tower::service_fn(|_: http::Request<tower_fleet::ReplayBody<String>>| async {
//! #     Ok::<_, std::io::Error>(http::Response::new(String::new()))
//! # });
//! let openai = JsonEditLayer::new().map("model", [("fast", "gpt-4o-mini"), ("large", "gpt-4o")])?;
//! let azure = JsonEditLayer::new().set("model", "gpt-4o-eu")?.set_default("temperature", 0.2)?;
//! let backends = [
//!     Backend::new("openai", client).layer(UpstreamLayer::new().origin("https://api.openai.com")?).layer(openai),
//!     Backend::new("azure", client).layer(UpstreamLayer::new().origin("https://eu.example.com")?).layer(azure),
//! ];
//! # let _ = backends;
//! # Ok(())
//! # }
//! ```
//!
//! | request | what happens |
//! |---|---|
//! | without a body, or whose `content-type` is missing or no JSON (`application/json`, `…+json`) | sent as it is, without being read |
//! | with JSON of at most [`bound`](JsonEditLayer::bound) bytes | read, edited, and sent with its new length |
//! | larger, compressed, or not JSON in spite of its type; a path that leads through a text or a number | [`otherwise`](JsonEditLayer::otherwise): refused, which is the default, or sent as it is |
//! | whose body fails while it is read | fails as without the edit: neutral for the backend |
//!
//! Everything that is not edited stays byte for byte: numbers, spaces, the order of keys. If a key is there twice, both
//! fields are edited. Trailers of a request that is read are not sent, and its digests are removed if it is edited.
//!
//! **A refused request is not sent to the backend**, which is neutral for its circuit. A [`Failover`](crate::Failover) sends
//! it to another backend. The [ledger](crate::Ledger) names the reason: `body not edited: not JSON`. A request that is sent
//! although it is not edited has the same [note](crate::outcome::Note).
//!
//! While the body is read, an attempt waits for the caller, so its timeout stands still: see
//! [`Upload`](crate::body::Upload).

mod apply;
mod asked;
mod edited_body;
mod edits;
mod future;
mod head;
mod layer;
mod lines;
mod path;
mod reading;
mod refusal;
mod service;
mod settings;
mod text;

pub use self::{
    edited_body::EditedBody,
    future::ResponseFuture,
    layer::JsonEditLayer,
    service::JsonEdit,
    settings::{ResponseModel, Unedited, Unmapped},
};

#[cfg(test)]
mod tests;
