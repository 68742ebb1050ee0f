//! One call of one backend: find one that is ready, call it, see what comes of it.
//!
//! [`Seek`] finds, and holds the very instance it found ready. [`Attempt`] is the call from then on: whatever drops it,
//! what it held is free again.

mod call;
mod limited;
mod seek;
mod timed;

pub(crate) use self::{
    call::{Attempt, Failed},
    seek::{Held, Seek, Unready},
    timed::Timed,
};
pub use self::{limited::Limited, timed::TimedOut};
