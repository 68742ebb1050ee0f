//! What replicas of a fleet tell each other: openings, cool-downs, and what an operator set.
//!
//! Fleets of the same [name](crate::fleet::FleetBuilder::name) in several processes meet at an [`Exchange`]: a server of
//! Valkey or Redis (`ValkeyStore`, feature `valkey`), or one of your own.
//!
//! ```text
//!  requests ─► Fleet ◄─ hints, overrides ─┐
//!                │                        │            ┌────────── exchange ──────────┐
//!                └─ circuit opened,   ─► Sharing ─────►│ report of each backend, merged │──► Sharing of the
//!                   cool-down, status     │   ▲        │ permit to probe, one for all   │    other replicas
//!                prober ─► Permits ───────┘   └────────└──────────────────────────────┘
//! ```
//!
//! Requests read the memory of their fleet, and never wait for the exchange. While it is slow or gone, each replica decides
//! alone.
//!
//! | reported | at the other replicas | ends |
//! |---|---|---|
//! | a circuit opened | a hint: the backend gets no requests, then a few probes | with the open time, or the first recovery anywhere |
//! | a cool-down | a hint | with the cool-down |
//! | a circuit closed again | hints end, and open circuits are probed at once | |
//! | a status, a forced circuit | the same, of the latest | with the next one |
//!
//! # What a report cannot do
//!
//! Another replica may be wrong, and an exchange hostile. So a hint never keeps out more backends than
//! [`max_hinted`](crate::fleet::FleetBuilder::max_hinted) allows, half of them by default, nor any for longer than
//! [`max_hint`](Share::max_hint). It ends by a good probe here, and by what an operator does here. Overrides of other
//! replicas keep at most half of the backends out. Reports of backends that this fleet does not have are ignored.
//!
//! # Probes
//!
//! When the open time of a backend is over, one replica probes it. [`Sharing`] asks for the permit shortly before a circuit
//! of this replica is due, or a hint ends: where another replica holds it, the circuit is due later. A prober asks by
//! [`Permits`]. No request asks.
//!
//! # The keys of a server
//!
//! | key | value | expires |
//! |---|---|---|
//! | `tower-fleet:1:{name}:report:backend` | five numbers: epoch, end of the opening, end of the cool-down, time of the override, override | after 2 h |
//! | `tower-fleet:1:{name}:permit:backend` | the replica that probes | with its [lease](Share::lease) |
//!
//! Times are those of the server, in milliseconds. Changed reports are published on the channel `tower-fleet:1:{name}`.
//! Reports are merged by a script, since a plain `SET` could shorten a deadline: of one epoch the longest counts, and a
//! recovery begins the next epoch. So lost, late, doubled and reordered reports are harmless; every 15 s each replica reads
//! all of them again, by name: there is no `SCAN`.
//!
//! # When not to use it
//!
//! For one replica, or where each has backends of its own. Each replica finds out by itself soon enough if requests are
//! many; what is gained are the failed requests of the others.
//!
//! # Examples
//!
//! ```
//! # use tower_fleet::{Backend, Fleet, replicas::{MemoryExchange, Share}};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_fleet::InvalidSetting> {
//! # let exchange = MemoryExchange::new();
//! # let (a, b) = ((), ());
//! let fleet = Fleet::plain().name("search").backend(Backend::new("a", a)).backend(Backend::new("b", b)).build()?;
//! let sharing = fleet.share(Share::new(exchange))?;
//! tokio::spawn(sharing); // ends with the fleet
//! # Ok(()) }
//! ```
//!
//! Shorter hints, and operators that act at each replica alone:
//!
//! ```
//! # use std::time::Duration;
//! # use tower_fleet::{Backend, Fleet, replicas::{MemoryExchange, Share}};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_fleet::InvalidSetting> {
//! # let exchange = MemoryExchange::new();
//! # let fleet = Fleet::plain().name("search").backend(Backend::new("a", ())).build()?;
//! let share = Share::new(exchange).max_hint(Duration::from_secs(60)).lease(Duration::from_secs(2)).overrides(false);
//! tokio::spawn(fleet.share(share)?);
//! # Ok(()) }
//! ```

mod agenda;
mod apply;
mod book;
mod clock;
mod entry;
mod exchange;
mod local;
mod memory;
mod overrides;
mod permits;
mod report;
mod requests;
mod session;
mod settings;
mod sharing;
#[cfg(feature = "valkey")]
mod valkey;

#[cfg(feature = "valkey")]
pub use self::valkey::{ValkeyLink, ValkeyNews, ValkeyStore};
pub use self::{
    exchange::{Exchange, ExchangeError, Link, News, Reports},
    memory::{MemoryExchange, MemoryLink, MemoryNews},
    permits::Permits,
    report::{Override, Report, Stamp},
    settings::Share,
    sharing::Sharing,
};
