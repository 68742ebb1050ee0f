//! One call to one backend: select a ready one, call it, classify and record the outcome. All doors use it.
//!
//! ```text
//! Door ─► Local: selection and pick of a thread ─► ReadySearch ─► Ready ─► Attempt ─► CallGuard in the response body
//! ```
//!
//! | type | holds | on drop |
//! |---|---|---|
//! | [`Door`] | what the clones of a door share, and the instance for the next call | the instance is dropped uncalled |
//! | [`ReadySearch`] | the pending instances of a request that waits | their places in the backends' queues are lost |
//! | [`Ready`] | the instance that is ready | the instance is dropped uncalled |
//! | [`Attempt`] | the call, its permit, its count in flight | the call is recorded as cancelled |
//!
//! A lone circuit breaker uses [`Attempt`] only.

mod call;
mod door;
mod keyed;
mod local;
mod oneshot;
mod polling;
mod ready;
mod rounds;
mod scan;
mod search;
mod select;
mod state;
mod timer;
mod turn;
mod underway;
mod wait;

pub use self::oneshot::Oneshot;
pub(crate) use self::{
    call::{Attempt, Failed},
    door::Door,
    ready::{NotReady, Pass, Ready, Refusal, Sends, Unready},
    scan::{AtLimit, Scope, Wanted},
    search::ReadySearch,
    timer::AttemptTimer,
};
