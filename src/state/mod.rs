//! The state of a fleet that survives a restart: what is known of its backends, in a file or in a [`Store`] of your own.
//!
//! Without it, a process that restarts in an outage learns anew, from failed requests, which backends are down. And a
//! backend that an operator has drained is back in rotation.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use tower_fleet::{Backend, CircuitPolicy, Fleet};
//! use tower_fleet::state::FileStore;
//! # let directory = std::env::temp_dir().join(format!("state-example-{}", std::process::id()));
//! # std::fs::create_dir_all(&directory)?;
//! # let path = directory.join("fleet.json");
//!
//! let build = || {
//!     let backends = [Backend::new("a", ()), Backend::new("b", ())];
//!     Fleet::plain().name("api").backends(backends).circuit_breaker(CircuitPolicy::new()).build()
//! };
//! # let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//! # stop.send(()).unwrap();
//!
//! let fleet = build()?;
//! let mut saver = fleet.restore(FileStore::new(&path)).await; // before the first request
//! let saving = tokio::spawn(async move {
//!     tokio::select! {
//!         () = saver.run() => {} // until the fleet ends
//!         _ = stopped => {}      // until the process is told to stop
//!     }
//!     saver.save().await
//! });
//! fleet.drain("b");
//! saving.await??;
//!
//! // After a restart:
//! let fleet = build()?;
//! let _saver = fleet.restore(FileStore::new(&path)).await;
//! assert_eq!(fleet.snapshot()[1].status.to_string(), "draining");
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok(())
//! # }
//! ```
//!
//! # When not to use it
//!
//! For the replicas of one service: each has a state of its own, and a shared file would hold that of the last writer.
//! Nor for the membership of a fleet: backends come from code, a file or discovery, and this restores what is known of
//! them. A hanging store delays no request, but the end of a process that awaits its last save.
//!
//! # What is saved
//!
//! | of a backend | restored as |
//! |---|---|
//! | the status that an operator set, if it is not that of its settings | set, also over the status of the settings: a drain survives |
//! | a circuit that is open or half-open | open for the rest of its open time, then probed; never closed by a restart |
//! | a circuit that is forced | forced |
//! | the openings that lengthen the next one, and how long the circuit was closed | the same: the growth of open times and its decay |
//! | a cool-down | for the rest of its time |
//! | an outlier: its share, its ejection, the number of ejections | for the rest of its time; ejected only while half of its tier remains |
//! | how far its slow start is | continued |
//! | estimates of latencies and failures up to an hour old, with their age | as old as they are |
//!
//! Not saved are services and their settings, calls in flight, the calls that a circuit or the detection of outliers has
//! counted, the histogram of hedges, adaptive limits, and what probes and other replicas report, which repeat it.
//!
//! The time since the document was written counts, by the wall clock. A clock that was set back counts as no time, one
//! that was set forward as any time: so nothing lasts longer than it would have, and what is over is due for a probe.
//! Values that the present settings do not allow are reduced to what they allow. [`max_ejected`] and [`panic_below`] apply.
//!
//! What happens in this process is newer than the document, and stays: a status that was set, a circuit that has moved or
//! was reset, a longer cool-down, an outlier, samples of calls.
//!
//! A backend that is not in the fleet yet, for discovery finds it later, continues when it is inserted, within 60 s of the
//! restore while the [`Saver`] runs. A [replaced](crate::Fleet::replace) backend starts anew.
//!
//! # The document
//!
//! ```json
//! {
//!   "version": 1,
//!   "fleet": "api",
//!   "written_at": "2026-11-26T21:34:00.123Z",
//!   "backends": {
//!     "eu-1": {
//!       "status": "draining",
//!       "circuit": { "state": "open", "openings": 2, "remaining": "29s 500ms" },
//!       "cool_down": "12s",
//!       "outlier": {
//!         "level": 4,
//!         "remaining": "30s",
//!         "ejections": 1,
//!         "reason": { "rule": "failures", "failed": 40, "calls": 60 }
//!       },
//!       "slow_start": "8s 100ms",
//!       "peak": { "value": "12ms 345us", "age": "3s" },
//!       "mean": { "at_least": "2s", "age": "1s" },
//!       "failures": { "count": 2.5, "age": "3s" }
//!     }
//!   },
//!   "checksum": "8b1f0c0e7a6d5c43"
//! }
//! ```
//!
//! | field | values |
//! |---|---|
//! | `status` | `healthy`, `degraded`, `draining` |
//! | `circuit.state` | `closed` with `openings` and `closed_for`, `open` with `openings` and `remaining`, `forced_open`, `forced_closed` |
//! | `outlier.level` | how many times the traffic was reduced; at the last level the backend is ejected |
//! | `outlier.reason.rule` | `failures` with `failed` and `calls`, `success_rate` with `peers` in addition, `latency` with `took` and `median` |
//! | `slow_start` | the time since it began |
//! | `peak`, `mean` | the latency as a `value`, or `at_least` while there is only a lower bound |
//! | `checksum` | of all bytes before its comma: FNV-1a of 64 bits |
//!
//! Backends with nothing to save are absent, as are their absent fields. Unknown fields are ignored. The document is to be
//! read by people and not to be edited: change the running fleet instead.
//!
//! A document that is missing is the first start, and silent. Any other problem is a cold start of what it concerns, with
//! one warning per restore: of all for a document that is unreadable, cut off, damaged, of another version or of another
//! fleet; of one backend for a value that is invalid, a name that is there twice, or one that is not in the fleet.
//! The next save replaces the document, also one of a newer version.
//!
//! # A store of your own
//!
//! See [`Store`]. It gets the document as bytes.
//!
//! [`max_ejected`]: crate::fleet::FleetBuilder::max_ejected
//! [`panic_below`]: crate::fleet::FleetBuilder::panic_below

mod document;
mod entry;
mod file;
mod memory;
mod saver;
mod schedule;
mod span;
mod store;

pub use self::{file::FileStore, saver::Saver, store::Store};
