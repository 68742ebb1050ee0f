//! What is known about the health of a backend, and whether requests may be sent to it.
//!
//! Each backend has one [`Health`]. It combines the status that the operator set, a cool-down that the backend
//! requested, and a circuit, which opens when calls fail and closes again when probes succeed. Doors, the breaker and
//! the operator write to it; every selection of a backend reads it.
//!
//! ```text
//!          a rule is met                  open time over, or probe_now
//!  Closed ──────────────▶ Open ───────────────────────────────────▶ HalfOpen
//!    ▲                     ▲──────────────── a probe failed ───────────┤
//!    └───────────────────── enough probes succeeded ───────────────────┘
//!
//!  any ── force_open ──▶ ForcedOpen     any ── force_closed ──▶ ForcedClosed     any ── reset ──▶ Closed
//! ```
//!
//! | | closed | open | half-open | forced |
//! |---|---|---|---|---|
//! | a call | is served | is rejected | is a probe if a permit is free, else rejected | is served or rejected |
//! | its result | is counted | – | is counted, and releases the permit | is ignored |
//!
//! A call belongs to the generation in which it was admitted. Every transition begins a new generation, and the result
//! of a call from an earlier one is ignored.
//!
//! Beside it stand the quantities of a backend that are measured, each only if something needs it:
//!
//! | quantity | of | for |
//! |---|---|---|
//! | calls in flight, failures, peak, mean | the time to the first byte | strategies |
//! | a histogram | the time to the commit | hedges at a percentile |
//! | the counts of an interval | outcomes, and the time to the first byte | outliers, whose share falls and rises in steps |
//! | a short and a long mean | the time to the first byte | limits that adapt |
//! | the window of a circuit | outcomes, and slow calls | the circuit |
//!
//! The room is pure: no clock, no task, no log. `now` and randomness come in as arguments, and are only evaluated when
//! they are needed.
//!
//! Do not use a circuit as a limit: a closed one bounds neither how many calls run nor how long they take. The first is
//! bounded by a [`Limit`].
//!
//! The default policy, and a policy of your own:
//!
//! ```
//! # use std::time::Duration;
//! use tower_fleet::CircuitPolicy;
//!
//! // Five failures within 60 s open the circuit for 30 s.
//! let default = CircuitPolicy::new();
//! // Three failures in a row open it for 5 s, then 10 s, 20 s and so on.
//! let custom = CircuitPolicy::new().consecutive(3).open_for(Duration::from_secs(5)).growth(2.0);
//! # let _ = (default, custom);
//! ```

mod admission;
mod check;
mod circuit;
mod counters;
mod estimate;
mod headroom;
mod latency;
mod limit;
mod load;
mod opinions;
mod outliers;
mod permits;
mod policy;
mod share;
mod slowness;
mod state;
mod status;
mod sync;
mod window;

pub(crate) use self::{
    admission::{Admission, CallResult, Ticket},
    circuit::Circuit,
    estimate::Decay,
    headroom::{LowHeadroom, Lowered},
    latency::{LatencySettings, LatencyWindow},
    limit::{Controller, Ended},
    load::{Load, Measures, Metering, Sample, Smoothing},
    opinions::{Health, Signal, Timed},
    outliers::{Counts, Host, Standing, Tally, Verdict, judge},
    share::{FULL_SHARE, Start},
};
#[cfg(feature = "file-state")]
pub(crate) use self::{circuit::SavedCircuit, estimate::SavedEstimate, load::SavedLoad, outliers::SavedStanding};
pub use self::{
    limit::{AdaptiveLimit, Limit},
    outliers::{OutlierChange, OutlierReason, Outliers},
    policy::{CircuitPolicy, Rate},
    share::SlowStart,
    state::{CircuitState, Transition},
    status::AdminStatus,
};

#[cfg(test)]
mod tests;
