//! What the registry of a fleet notes about a member.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// What the registry of the fleet notes about a member. Written under the fleet's lock.
#[derive(Debug)]
pub(super) struct Marks {
    /// Its deadline in the queue, in nanoseconds; [`Moment::NEVER`] if it is not queued.
    pub(super) queued: AtomicU64,
    /// The serial number of its last ejection by its circuit or by probes; 0 while neither ejects it.
    pub(super) opening: AtomicU64,
    /// The serial number of its ejection as an outlier or by a hint; 0 while neither ejects it.
    pub(super) suspicion: AtomicU64,
    /// [`PROBE_DUE`] and the others.
    pub(super) flags: AtomicU32,
    /// A status or a forced circuit was restored. Read without the lock, and only once.
    pub(super) restored: AtomicBool,
}

/// The circuit of the member is due for a probe.
pub(super) const PROBE_DUE: u32 = 1;
/// The circuit of the member is half-open.
pub(super) const HALF_OPEN: u32 = 2;
/// The ejection limits count the member: nothing but an ejection can keep it out.
pub(super) const COUNTED: u32 = 4;
/// The member was eligible when the registry last noted its health.
pub(super) const ELIGIBLE: u32 = 8;

/// The settings of the backend say that it is degraded.
pub(super) const BUILT_DEGRADED: u32 = 16;
/// The settings of the backend say that it is draining.
pub(super) const BUILT_DRAINING: u32 = 32;

impl Marks {
    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    /// Sets or clears a flag. Returns whether it was set before.
    pub(super) fn set(&self, flag: u32, is_set: bool) -> bool {
        let flags = self.flags.load(Ordering::Relaxed);
        self.flags.store(if is_set { flags | flag } else { flags & !flag }, Ordering::Relaxed);
        flags & flag != 0
    }
}
