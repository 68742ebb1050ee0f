//! The bound on the memory of all replayed bodies together.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Enough for 60 bodies of the largest size that is kept by default, or for thousands of typical ones, and it fits into
/// a sidecar with 128 MiB. At this limit, a request loses its further attempts, never the running one.
const PROCESS_LIMIT: usize = 64 * 1024 * 1024;

static PROCESS: Gauge = Gauge::new(PROCESS_LIMIT);

/// A bound on the memory that request bodies hold for replay, shared by all bodies with a clone of this handle.
///
/// A body is charged for the memory that is really held for it: for the capacity of its buffers, what each of them takes
/// besides, and its trailers. Its data is copied, small frames together, so that it keeps no read buffer of a connection
/// alive. Only a large frame that is all of its buffer is shared. So a body that arrives a byte at a time holds as much
/// as one that arrives at once.
///
/// The charge for a buffer is released when the last reader that may need it has passed it, failed, or been dropped.
///
/// By default, all bodies share the memory of the [process](Self::process): 64 MiB.
#[derive(Clone)]
pub struct ReplayMemory {
    pool: Pool,
}

// The pool of the process is a static, so that its handles share no reference count.
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
    /// Creates a memory of `limit` bytes. With 0, no body is ever kept.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { pool: Pool::Own(Arc::new(Gauge::new(limit))) }
    }

    /// Returns the memory that the whole process shares: 64 MiB. The default.
    #[must_use]
    pub const fn process() -> Self {
        Self { pool: Pool::Process }
    }

    /// Returns how many bytes are held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.gauge().used.load(Ordering::Relaxed)
    }

    /// Returns how many bytes may be held.
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

/// The bytes that one body is charged for. Dropping it releases them.
pub(crate) struct Charge {
    memory: ReplayMemory,
    bytes: usize,
}

impl Charge {
    pub(crate) fn new(memory: ReplayMemory) -> Self {
        Self { memory, bytes: 0 }
    }

    /// Takes `bytes` more, or none. Returns whether it did.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let gauge = self.memory.gauge();
        // A plain counter that publishes no other memory, so `Relaxed` is enough.
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

    /// Releases all but `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let released = self.bytes.saturating_sub(bytes);
        if released > 0 {
            self.bytes = bytes;
            self.memory.gauge().used.fetch_sub(released, Ordering::Relaxed);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C33
    #[test]
    fn a_charge_stops_at_the_limit_and_releases_all_its_bytes() {
        let memory = ReplayMemory::new(10);
        let (mut one, mut two) = (Charge::new(memory.clone()), Charge::new(memory.clone()));
        assert!(one.grow(6));
        assert!(!two.grow(5), "6 + 5 is over 10");
        assert!(!two.grow(usize::MAX), "the sum must not wrap");
        assert!(two.grow(4));
        assert_eq!(memory.used(), 10);
        one.shrink_to(100);
        assert_eq!(memory.used(), 10, "no more is released than was taken");
        one.shrink_to(1);
        assert_eq!(memory.used(), 5);
        one.shrink_to(0);
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
                        charge.shrink_to(random.usize(0..60));
                    }
                });
            }
        });
        assert_eq!(memory.used(), 0);
    }
}
