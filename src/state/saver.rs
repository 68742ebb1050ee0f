//! Restores the state of a fleet, and saves it in the background.

use std::{
    fmt, io,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    time::{Duration, SystemTime},
};

use futures::future::{Either, FutureExt, select};
use tokio::time::{Instant, timeout};

use super::{
    document::{self, Document},
    memory::Memory,
    store::Store,
};
use crate::{fleet::Fleet, foreign};

impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> Fleet<S, C> {
    /// Restores what an earlier process has saved, and returns the [`Saver`] that saves it again.
    ///
    /// Await it before the first request, so that none is sent to a backend that is known to be down. It takes as long as
    /// the store needs to load, and 5 s at most: a store that is slow, unreadable or holds nothing useful costs the saved
    /// state, and is a warning of `tracing`. The [module](crate::state) describes what is restored.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with time enabled.
    pub async fn restore<T: Store>(&self, store: T) -> Saver<T> {
        let mut memory = Memory::of(&self.shared().core, store.location());
        match timeout(LOAD_TIME, guarded(async { store.load().await })).await {
            Ok(Ok(None)) => memory.begin_empty(),
            Ok(Ok(Some(text))) => match document::read(&text, memory.fleet()) {
                Ok(Document { written_at, backends, problems }) => {
                    // After a jump of the wall clock: no time, or all of it.
                    let elapsed = SystemTime::now().duration_since(written_at).unwrap_or_default();
                    memory.restore(backends, elapsed, problems);
                }
                Err(problem) => memory.report_not_restored(&problem),
            },
            Ok(Err(error)) => memory.begin_outage(&error.to_string()),
            Err(_) => memory.begin_outage(&format!("it was not read within {LOAD_TIME:?}")),
        }
        Saver { store, memory }
    }
}

/// The longest time that a start waits for the store.
const LOAD_TIME: Duration = Duration::from_secs(5);

/// A save that takes longer is reported.
const SLOW: Duration = Duration::from_secs(10);

/// Saves the state of a fleet, from [`Fleet::restore`].
///
/// Does not keep the fleet alive.
#[must_use = "nothing is saved unless it runs"]
pub struct Saver<T> {
    store: T,
    memory: Memory,
}

impl<T: Store> Saver<T> {
    /// Saves the state of the fleet when it changes, until the fleet ends: when its last handle and door are dropped.
    ///
    /// A change is saved within about 50 ms, further ones at most once a second; latency estimates with them and once a
    /// minute. Nothing is written while nothing changes. When the fleet ends, its last state is saved.
    ///
    /// If a save fails, it is tried again after 1 s, then 2 s, 4 s and so on up to 60 s. The first failure is a warning of
    /// `tracing`, the next save that succeeds an event.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped and made anew. To save the last changes then, call [`save`](Self::save).
    pub async fn run(&mut self) {
        while !self.memory.is_over() {
            let due = self.memory.schedule.due();
            if Instant::now() < due {
                self.memory.attend(due).await;
            } else {
                let with_estimates = self.memory.schedule.is_refresh(Instant::now());
                self.save_changes(with_estimates).await;
            }
        }
        self.save_changes(true).await;
    }

    /// Saves the state of the fleet now. For the end of a process, whose fleet may still have handles.
    ///
    /// # Errors
    ///
    /// That of the store. It is not logged.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the state may have been saved or not.
    pub async fn save(&mut self) -> io::Result<()> {
        let draft = self.memory.draft();
        let text = self.memory.text(&draft)?;
        guarded(async { self.store.save(text).await }).await?;
        self.memory.saved(draft);
        Ok(())
    }

    async fn save_changes(&mut self, with_estimates: bool) {
        let Self { store, memory } = self;
        let draft = memory.draft();
        if memory.is_saved(&draft, with_estimates) {
            memory.schedule.unchanged(with_estimates, Instant::now());
            return;
        }
        let saved = match memory.text(&draft) {
            Ok(text) => wait_for(pin!(guarded(async { store.save(text).await })), memory).await,
            Err(error) => Err(error),
        };
        match saved {
            Ok(()) => memory.saved(draft),
            Err(error) => {
                memory.schedule.failed(Instant::now());
                memory.report_not_saved(&error.to_string());
            }
        }
    }
}

/// Runs an access to the store. A panic of the store is an error of the store.
async fn guarded<T>(access: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    AssertUnwindSafe(access).catch_unwind().await.unwrap_or_else(|panic| {
        foreign::discard([panic]);
        Err(io::Error::other("the store panicked"))
    })
}

/// Waits until a document is saved, and attends to the changes of the fleet meanwhile.
async fn wait_for(mut saving: Pin<&mut impl Future<Output = io::Result<()>>>, memory: &mut Memory) -> io::Result<()> {
    let mut slow_at = Instant::now() + SLOW;
    loop {
        match select(saving.as_mut(), pin!(memory.attend(slow_at))).await {
            Either::Left((saved, _)) => return saved,
            Either::Right(((), _)) => {}
        }
        if Instant::now() >= slow_at {
            memory.report_not_saved(&format!("it has taken {SLOW:?} so far"));
            slow_at = Instant::now() + SLOW;
        }
    }
}

impl<T> fmt::Debug for Saver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saver").field("fleet", &self.memory.fleet()).finish_non_exhaustive()
    }
}
