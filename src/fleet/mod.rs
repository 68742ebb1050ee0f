//! A set of backends that may change while it serves.
//!
//! A [`Fleet`] is a handle: clones share one set of [`Backend`]s. A door, such as [`Balance`](crate::Balance) or
//! [`Failover`](crate::Failover), selects a backend per request. Requests take no lock: every change is published as a
//! new version, and a request reads nothing but the version while that stays the same.
//!
//! ```text
//!  insert, replace, remove, set_weight ...  ─┐
//!  set_status, drain, cool_down             ─┤                          ┌─► doors: which backends are eligible
//!  follow, follow_lists, reconcile (lists)  ─┼─► one change, one lock ──┼─► Fleet::changes
//!  circuits: opened, probed, closed         ─┤                          └─► tracing
//!  probes, reports of other replicas        ─┤
//!  slow start, outliers: at their steps     ─┘
//! ```
//!
//! A backend is eligible while nothing is against it:
//!
//! | writer | keeps a backend out | until |
//! |---|---|---|
//! | [`set_status`](Fleet::set_status), [`drain`](Fleet::drain) | `degraded`, `draining` | it is set to `healthy` |
//! | [`cool_down`](Fleet::cool_down) | for a time | the time is over |
//! | its own [responses](FleetBuilder::named_times), such as a 429 | with a `Retry-After` | that time |
//! | its circuit | while open | a probe succeeds |
//! | [outliers](FleetBuilder::outliers) | while it fails more or is slower than its peers | the time is over |
//! | active [probes](crate::probe) of all backends | while they fail | one succeeds, or they end |
//! | other [replicas](crate::replicas) | while they report it, within [limits](FleetBuilder::max_hinted) | the time is over, or a probe succeeds here |
//!
//! An eligible backend has a share of its traffic: less than 1 during its [slow start](FleetBuilder::slow_start), as an
//! outlier before it is ejected, and with little [left of its rate limit](FleetBuilder::headroom). Shares compare within a
//! tier.
//!
//! Backends of equal [`priority`](Backend::priority) form a tier. Requests are sent to the highest tier that has an
//! eligible backend. The exception are probes: when the open time of a circuit in a lower tier is over, a request of a
//! [`Failover`](crate::Failover) probes it, so that the spare backend is back before it is needed. At most ten requests a
//! second do, and only such as may be hedged: if the probe fails, or takes longer than a second, the request is sent to
//! the higher tier.
//!
//! A backend with a [`limit`](Backend::limit) is selected only while fewer calls are in flight. It stays eligible, so its
//! tier is not left. With all of the tier full, requests wait, are refused, or queue by class: see [`WhenFull`].
//!
//! # When not to use it
//!
//! For a fixed set of in-process services that are always healthy, an array and an index suffice.
//!
//! # Examples
//!
//! Two backends of one tier, without timeouts and circuits:
//!
//! ```
//! # use tower_fleet::{Backend, Fleet};
//! # let (a, b) = ((), ());
//! let fleet = Fleet::plain().backend(Backend::new("a", a)).backend(Backend::new("b", b)).build()?;
//! # Ok::<_, tower_fleet::InvalidSetting>(())
//! ```
//!
//! Two tiers, weights, timeouts and circuits, and changes while it serves:
//!
//! ```
//! # use std::time::Duration;
//! # use tower_fleet::{AdminStatus, Backend, CircuitPolicy, Fleet, fleet::{Outliers, SlowStart}};
//! # let (near, far, spare) = ((), (), ());
//! let fleet = Fleet::plain()
//!     .name("search")
//!     .backend(Backend::new("near", near).weight(2).priority(10).timeout(Duration::from_secs(1)))
//!     .backend(Backend::new("far", far))
//!     .circuit_breaker(CircuitPolicy::new().consecutive(5))
//!     .max_ejected(0.5)
//!     .slow_start(SlowStart::new(Duration::from_secs(30)))
//!     .outliers(Outliers::new())
//!     .build()?;
//!
//! fleet.insert(Backend::new("spare", spare).priority(-1))?;
//! fleet.set_status("near", AdminStatus::Degraded);
//! fleet.remove("far");
//! assert!(fleet.set_weight("spare", 0).is_err());
//! # Ok::<_, tower_fleet::InvalidSetting>(())
//! ```

mod backend;
mod builder;
mod candidate;
mod changes;
mod class_queue;
mod cool_downs;
mod core;
mod edits;
mod ejection;
mod feed;
mod follow;
mod handle;
mod headroom;
mod inspect;
mod limit;
mod lists;
mod marks;
mod member;
mod published;
mod publisher;
mod rare;
mod rarely;
mod reconcile;
mod record;
mod registry;
mod rows;
#[cfg(feature = "file-state")]
mod saved;
mod service;
mod services;
mod shard;
mod shares;
mod slot;
mod slots;
mod snapshot;
mod sources;
mod spare_turns;
mod steps;
mod suspicions;
mod switch;
mod tags;
mod view;
mod watch;
mod watchers;

pub use self::{
    backend::Backend,
    builder::FleetBuilder,
    candidate::{Candidate, Candidates},
    changes::{Change, Changes},
    handle::Fleet,
    reconcile::Reconciled,
    service::{BackendService, IsFleet},
    slots::WhenFull,
    snapshot::Snapshot,
    switch::{Switch, Transitions},
};
pub(crate) use self::{
    core::FleetCore,
    member::MemberInfo,
    shard::{Member, Shard},
    slots::{Granted, Place, Progress},
    view::{FleetInner, Selection},
};
#[cfg(feature = "file-state")]
pub(crate) use self::{
    saved::{SavedBackend, SavedFleet, Savings},
    shares::SavedShare,
};
pub use crate::{
    health::{OutlierChange, OutlierReason, Outliers, SlowStart},
    name::{BackendId, BackendName},
    setting::InvalidSetting,
};

#[cfg(test)]
mod tests;
