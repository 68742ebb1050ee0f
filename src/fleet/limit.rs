//! The limit of a member on its calls in flight.

use std::sync::{Mutex, OnceLock, atomic::AtomicU32};

use crate::health::{Controller, Limit};

/// The limit of a member. A call takes one of its slots before it begins, and frees it when it ends.
#[derive(Debug)]
pub(super) struct MemberLimit {
    /// The number of slots; [`UNLIMITED`] without a limit.
    pub(super) slots: AtomicU32,
    /// Made with the first limit, since most members of a large fleet have none.
    pub(super) state: OnceLock<Box<Mutex<LimitState>>>,
}

#[derive(Debug, Default)]
pub(super) struct LimitState {
    /// That of the backend itself, in place of that of the fleet. Written under the fleet's lock.
    pub(super) own: Option<Limit>,
    pub(super) controller: Option<Controller>,
}

pub(super) const UNLIMITED: u32 = u32::MAX;

impl Default for MemberLimit {
    fn default() -> Self {
        Self { slots: AtomicU32::new(UNLIMITED), state: OnceLock::new() }
    }
}
