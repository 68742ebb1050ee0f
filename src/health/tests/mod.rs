//! Tests of the circuit: by example, against a reference model, and over all interleavings (loom).

#[cfg(not(fleet_loom))]
mod circuit;
#[cfg(fleet_loom)]
mod loom;
#[cfg(not(fleet_loom))]
mod reference;
