//! What is believed about a backend.
//!
//! One [`Health`] per backend: the operator writes to it, and everything that chooses a backend reads it. Nothing in
//! this room waits, logs or looks at a clock.

mod status;

pub(crate) use status::Health;
pub use status::Status;
