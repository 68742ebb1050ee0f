//! What the bodies of an API mean: the events of a stream, and the members of a JSON document.
//!
//! A response with status 200 can still be silent, cut off, or hold an error. The status tells nothing of that; the body
//! does. An [`EventReader`] reads the events of a `text/event-stream` as its bytes arrive, in bounded memory, and
//! [`EventRules`] tell what each of them is for an API: [content, an error, the end](EventClass). `JsonPath` (feature
//! `json`) finds values in a JSON document.
//!
//! Everything here only computes. What follows from an event is decided by the part that reads the body.
//!
//! ```
//! use tower_fleet::content::{EventClass, EventReader, EventRules};
//!
//! let rules = EventRules::new().end_data("[DONE]");
//! let mut reader = EventReader::new(64 * 1024);
//! let mut classes = Vec::new();
//! for piece in [": ping\n\nda", "ta: hello\n", "\ndata: [DONE]\n\n"] {
//!     reader.read(piece.as_bytes(), |event| classes.push(rules.class(&event)));
//! }
//! assert_eq!(classes, [EventClass::Empty, EventClass::Content, EventClass::End]);
//! assert!(reader.is_between_events());
//! ```
//!
//! An API that is not among the presets has rules of its own:
//!
//! ```
//! # use tower_fleet::content::{EventClass, EventRules};
//! let rules = EventRules::new()
//!     .end_event("finished")
//!     .classify(|event| match event.name {
//!         b"progress" => EventClass::Empty,
//!         b"failed" => EventClass::Error,
//!         _ => EventClass::Content,
//!     })
//!     .error_form(|message| format!("event: failed\ndata: {}\n\n", message.replace(['\r', '\n'], " ")));
//! assert_eq!(rules.error_event("interrupted"), "event: failed\ndata: interrupted\n\n");
//! ```

mod block;
mod event;
#[cfg(feature = "json")]
mod path;
#[cfg(feature = "json")]
mod presets;
mod rules;

#[cfg(feature = "json")]
pub use self::path::JsonPath;
pub use self::{
    event::{Event, EventReader},
    rules::{EventClass, EventRules},
};
