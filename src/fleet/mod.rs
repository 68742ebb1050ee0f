//! The set of backends, and the view of it that requests see.
//!
//! A [`Fleet`] is a handle: clones share one set of backends. Every change is published as a new version; a request reads
//! the version and nothing else while it stays the same.
//!
//! ```
//! # use tower_fleet::{Backend, Fleet, Status};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (near, far, spare) = ((), (), ());
//! let fleet = Fleet::plain()
//!     .backend(Backend::new("near", near).weight(2).priority(10))
//!     .backend(Backend::new("far", far))
//!     .build()?;
//!
//! fleet.insert(Backend::new("spare", spare).priority(-1))?;
//! fleet.set_status("near", Status::Degraded);
//! fleet.remove("far");
//! assert!(fleet.set_weight("spare", 0).is_err());
//! # Ok(())
//! # }
//! ```
//!
//! For a fixed set of in-process services that never changes, an array and an index do as well.

mod backend;
mod books;
mod builder;
mod candidate;
mod changes;
mod core;
mod ejection;
mod follow;
mod handle;
mod member;
mod reconcile;
mod record;
mod shard;
mod snapshot;
mod switch;
mod view;

pub use self::{
    backend::Backend,
    builder::FleetBuilder,
    candidate::{Candidate, Candidates},
    changes::{Change, Changes},
    handle::Fleet,
    reconcile::Reconciled,
    snapshot::Snapshot,
    switch::{Switch, Transitions},
};
pub(crate) use self::{
    core::FleetCore,
    member::MemberInfo,
    shard::{Member, Shard},
    view::{Selection, Shared},
};
pub use crate::{
    name::{BackendId, BackendName},
    setting::{Field, InvalidSetting},
};

#[cfg(test)]
mod tests;
