//! Active probes: checks of the backends that need no traffic.
//!
//! A circuit that is open is probed by a request, once its open time is over. [`Fleet::probe`](crate::Fleet::probe) returns
//! a future that probes backends by itself: once it is spawned, a backend that has recovered is found within an interval,
//! without waiting for the open time, and without a request that may fail. It ends with the fleet.
//!
//! ```text
//!                 ┌──── Probing, a future that you spawn ────┐
//!  circuit opens ─┤ after a tenth of the interval            │     ┌ good: open ─► half-open, or closed
//!  replica hints ─┤                        ├─► gate ─► probe ├────►┤
//!  inserted (All)─┤ then every interval, with jitter         │     └ failed (All): out until it succeeds
//!                 └──────────────────────────────────────────┘
//! ```
//!
//! A probe is not a call. It goes through a clone of the backend's own service, behind all doors: no circuit admits it, no
//! classifier judges it, and it is neither in flight nor in any latency. Only its result counts:
//!
//! | | [`Scope::Out`] (default) | [`Scope::All`] |
//! |---|---|---|
//! | probed are | backends with an open circuit, and those that a replica reports | all |
//! | a good probe | makes an open circuit half-open, or [closes](OnSuccess::Close) it; ends a replica's report | the same, and ends a failure |
//! | failed probes | change nothing | keep the backend out, after [three](Probes::unhealthy_after) in a row |
//!
//! - **The operator has the last word.** No probe changes a status: a backend that is set to `Degraded` or `Draining` stays
//!   out until it is set to `Healthy`. No probe changes a circuit that was forced open or closed.
//! - Failing probes count as ejections: see [`max_ejected`](crate::fleet::FleetBuilder::max_ejected).
//! - Each probe has its time ([1 s](Probes::timeout)) and its turn: one that hangs delays no other, up to
//!   [256](Probes::max_concurrent) at a time. One that panics has failed.
//! - If the circuit opens again soon after a good probe, probes tell less than requests do: the next good one counts after
//!   one interval, then two, four, up to sixteen. So a health page that is green while requests fail does no harm.
//! - Replicas share the work with a [`Gate`]: the [`Permits`](crate::replicas::Permits) of what they share, or your own.
//!
//! # When not to use it
//!
//! If requests come often and may be sent to another backend, circuits alone find out as much, and from real requests. Use
//! [`Scope::All`] where the first failed request is one too many; a page that tells less than the truth then takes backends
//! out that work.
//!
//! # Examples
//!
//! By default, backends with open circuits are probed every 10 s:
//!
//! ```
//! # #[cfg(feature = "http")] {
//! # use tower_fleet::{Backend, CircuitPolicy, Fleet, probe::{HttpProbe, Probes}};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_fleet::InvalidSetting> {
//! # let client = tower::service_fn(|_: http::Request<String>| async { Ok::<_, std::io::Error>(http::Response::new(String::new())) });
//! let fleet = Fleet::builder()
//!     .backend(Backend::new("a", client))
//!     .circuit_breaker(CircuitPolicy::new())
//!     .build()?;
//! tokio::spawn(fleet.probe(Probes::new(HttpProbe::get("/health")?))?);
//! # Ok(())
//! # }
//! # main().unwrap();
//! # }
//! ```
//!
//! All backends by a closure, every second; two failures take one out, and two successes bring it back at once:
//!
//! ```
//! # use std::time::Duration;
//! # use tower_fleet::{Backend, Fleet, fleet::BackendName, probe::{OnSuccess, Probes, Scope, probe_fn}};
//! # #[derive(Clone)] struct Client;
//! # impl Client { async fn ping(&self) -> Result<(), std::io::Error> { Ok(()) } }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_fleet::InvalidSetting> {
//! # let client = Client;
//! let fleet = Fleet::plain().backend(Backend::new("a", client)).build()?;
//! let probes = Probes::new(probe_fn(|_: BackendName, client: Client| async move { client.ping().await }))
//!     .interval(Duration::from_secs(1))
//!     .timeout(Duration::from_millis(200))
//!     .scope(Scope::All)
//!     .unhealthy_after(2)
//!     .healthy_after(2)
//!     .on_success(OnSuccess::Close);
//! tokio::spawn(fleet.probe(probes)?);
//! # Ok(())
//! # }
//! # main().unwrap();
//! ```

mod check;
mod error;
mod fleet;
mod gate;
#[cfg(feature = "http")]
mod grpc;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod message;
mod prober;
mod running;
mod settings;
mod target;
mod targets;
mod tcp;

pub use self::{
    check::{Probe, ProbeFn, probe_fn},
    error::ProbeError,
    gate::{Gate, gate_fn},
    prober::Probing,
    settings::{OnSuccess, Probes, Scope},
    tcp::TcpProbe,
};
#[cfg(feature = "http")]
pub use self::{grpc::GrpcProbe, http::HttpProbe};
