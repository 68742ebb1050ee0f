//! The bound on what all replayed bodies hold together.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Enough for 64 bodies of the largest size that is kept, or for thousands of usual ones, and still
/// bearable in a sidecar with 128 MiB to live in. Reaching it costs a request its further attempts,
/// never the one that runs.
const PROCESS_LIMIT: usize = 64 * 1024 * 1024;

static PROCESS: Gauge = Gauge::new(PROCESS_LIMIT);

/// How much memory all request bodies that share this handle may hold for replay.
///
/// A kept frame counts with its bytes and with what it takes to hold it. Everything is given back
/// when the last reader that may need it has passed, failed or been dropped.
///
/// A clone is the same memory. Unless told otherwise every body of the process shares
/// [`ReplayMemory::process`].
#[derive(Clone)]
pub struct ReplayMemory {
    pool: Pool,
}

// The common pool is reached without counting references on one more shared line.
#[derive(Clone)]
enum Pool {
    Process,
    Own(Arc<Gauge>),
}

struct Gauge {
    used: AtomicUsize,
    limit: usize,
}

impl ReplayMemory {
    /// Memory of its own, of so many bytes. With 0 nothing is ever kept.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { pool: Pool::Own(Arc::new(Gauge::new(limit))) }
    }

    /// The memory that the whole process shares: 64 MiB.
    #[must_use]
    pub const fn process() -> Self {
        Self { pool: Pool::Process }
    }

    /// How many bytes are held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.gauge().used.load(Ordering::Relaxed)
    }

    /// How many bytes may be held.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.gauge().limit
    }

    fn gauge(&self) -> &Gauge {
        match &self.pool {
            Pool::Process => &PROCESS,
            Pool::Own(gauge) => gauge,
        }
    }
}

impl Default for ReplayMemory {
    fn default() -> Self {
        Self::process()
    }
}

impl fmt::Debug for ReplayMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayMemory").field("used", &self.used()).field("limit", &self.limit()).finish()
    }
}

impl Gauge {
    const fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit }
    }
}

/// What one body has taken of the memory; dropping it gives everything back.
pub(super) struct Charge {
    memory: ReplayMemory,
    bytes: usize,
}

impl Charge {
    pub(super) fn new(memory: ReplayMemory) -> Self {
        Self { memory, bytes: 0 }
    }

    /// Takes `bytes` more, or nothing.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let gauge = self.memory.gauge();
        // A number and nothing behind it: no other memory is published by it, so relaxed is enough.
        let taken = gauge
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= gauge.limit)
            })
            .is_ok();
        if taken {
            self.bytes += bytes;
        }
        taken
    }

    /// Gives `bytes` back, at most what was taken.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        if bytes > 0 {
            self.bytes -= bytes;
            self.memory.gauge().used.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Gives everything back.
    pub(super) fn clear(&mut self) {
        self.shrink(self.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C33
    #[test]
    fn charge_stops_at_the_limit_and_returns_everything() {
        let memory = ReplayMemory::new(10);
        let (mut one, mut two) = (Charge::new(memory.clone()), Charge::new(memory.clone()));
        assert!(one.grow(6));
        assert!(!two.grow(5), "6 + 5 is over 10");
        assert!(!two.grow(usize::MAX), "the sum must not wrap");
        assert!(two.grow(4));
        assert_eq!(memory.used(), 10);
        one.shrink(100);
        assert_eq!(memory.used(), 4, "more than was taken cannot be given back");
        drop(two);
        assert_eq!(memory.used(), 0);
    }

    // C33
    #[test]
    fn charges_from_many_threads_never_exceed_the_limit() {
        let memory = ReplayMemory::new(100);
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let memory = memory.clone();
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    for _ in 0..2_000 {
                        let mut charge = Charge::new(memory.clone());
                        for _ in 0..random.usize(1..4) {
                            charge.grow(random.usize(1..60));
                            assert!(memory.used() <= 100);
                        }
                        charge.shrink(random.usize(0..60));
                    }
                });
            }
        });
        assert_eq!(memory.used(), 0);
    }
}
