//! What is believed about a backend.
//!
//! One [`Health`] per backend: what the operator says of it, and a circuit that opens when calls fail, and closes again
//! when probes succeed. Doors, the breaker and the operator all write to it; everybody who chooses a backend reads it.
//!
//! ```text
//!            rules say so                    time is up, or hastened
//!  Closed ────────────────▶ Open ───────────────────────────────────▶ HalfOpen
//!    ▲                        ▲──────────────── a probe failed ──────────┤
//!    └──────────────────────── enough probes succeeded ──────────────────┘
//!
//!  any ── force_open ──▶ ForcedOpen     any ── force_closed ──▶ ForcedClosed     any ── reset ──▶ Closed
//! ```
//!
//! | | closed | open | half-open | forced |
//! |---|---|---|---|---|
//! | a call | is served | is rejected | is a probe, if a permit is left | served or rejected |
//! | its outcome | counts | – | counts, returns the permit | is ignored |
//!
//! The room is pure: no clock, no task, no log. `now` and randomness come in as arguments, and only when they are needed.
//! A call belongs to the generation in which it was admitted; once a transition has ended that, its outcome changes nothing.
//!
//! Not for limits: it does not bound how many calls run while closed, nor how long they take.
//!
mod admission;
mod check;
mod circuit;
mod draft;
mod evidence;
mod opinions;
mod permits;
mod policy;
mod state;
mod status;
mod sync;
mod window;

#[cfg(test)]
#[cfg(not(fleet_loom))]
mod circuit_tests;
#[cfg(test)]
#[cfg(fleet_loom)]
mod loom_tests;
#[cfg(test)]
#[cfg(not(fleet_loom))]
mod reference_tests;

pub(crate) use admission::{Admission, Ticket, Verdict};
pub(crate) use check::PolicyError;
pub(crate) use circuit::Circuit;
pub(crate) use draft::Draft;
pub(crate) use opinions::{Health, Signal};
pub(crate) use policy::Policy;
pub use state::{State, Transition};
pub use status::Status;
