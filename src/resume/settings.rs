//! The settings of the resume layer.

use crate::body::ReplayMemory;

#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// How often one body is resumed at most.
    pub(super) most: u32,
    /// How much of a request body is kept.
    pub(super) limit: usize,
    pub(super) memory: ReplayMemory,
}
