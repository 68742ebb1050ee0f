//! One call of one backend: select one that is ready, call it, keep account of what comes of it.
//!
//! ```text
//! Door ─► Local: the selection and the pick of this thread ─► ReadySearch ─► Ready ─► Attempt ─► CallGuard in the body
//! ```
//!
//! [`ReadySearch`] finds a backend and holds the very instance it found ready. [`Attempt`] is the call from then on:
//! permit, call, classification and record. Whatever drops it, what it held is free again.

mod call;
mod door;
mod local;
mod ready;
mod round;
mod search;
mod timeout;

pub use self::timeout::{TimeLimit, TimedOut};
pub(crate) use self::{
    call::{Attempt, Failed},
    door::Door,
    ready::{NotReady, Ready, Refusal, Unready},
    search::ReadySearch,
};
