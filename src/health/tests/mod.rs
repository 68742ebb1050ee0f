//! Tests of the circuit: by example, against a reference model, and over all interleavings (loom).

#[cfg(not(fleet_loom))]
mod circuit;
#[cfg(not(fleet_loom))]
mod histories;
#[cfg(fleet_loom)]
mod loom;
mod reference;
