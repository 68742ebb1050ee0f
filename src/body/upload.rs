//! The upload of a request body, as an attempt sees it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::ReplayError;
use crate::foreign;

/// The upload of a request body by one attempt: how long the attempt has waited for the caller.
///
/// The doors do not charge this time to the backend: it counts neither for the timeout of an attempt nor for
/// [slow calls](crate::CircuitPolicy::slow_calls). An attempt waits for the caller while it has read all that the
/// caller has sent. It does not while the backend reads slowly, or not at all.
///
/// [`ReplayLayer`](super::ReplayLayer) and [`Failover`](crate::Failover) put an `Upload` into the extensions of every
/// request that has a body. From there, a classifier passes it to the door:
/// [`Classify::upload`](crate::outcome::Classify::upload).
#[derive(Clone)]
pub struct Upload(pub(super) Arc<Shared>);

/// What the body, the attempt and the door share. All fields but `idle_timeout` are behind one lock: it is taken when
/// the body is pending, when it goes on, and when the attempt is timed or recorded.
pub(super) struct Shared {
    /// The longest time without a frame while the attempt waits for one.
    pub(super) idle_timeout: Option<Duration>,
    /// Whether it is the upload of a request with several attempts.
    is_joint: bool,
    state: Mutex<State>,
}

/// The upload of an attempt that runs. On drop, the attempt is over: the request does not wait for it any more, even if
/// its client still reads the body.
pub(crate) struct RunningUpload(Upload);

#[derive(Default)]
pub(super) struct State {
    /// The waits that have ended.
    waited: Duration,
    /// How many wait now: the reader of the body or, if it is the upload of a whole request, its attempts.
    waiting: usize,
    /// Since when at least one waits.
    since: Option<Instant>,
    /// Woken when the wait ends.
    watchers: Vec<Waker>,
    /// The upload of the request, if that has several attempts and this one still runs.
    request: Option<Upload>,
    /// The task of the reader, until the caller's body wakes it.
    pub(super) reader: Option<Waker>,
    /// Whether the caller's body has woken the reader since its last poll began.
    pub(super) is_woken: bool,
    is_answered: bool,
    failure: Option<ReplayError>,
}

impl Upload {
    /// Returns how long the attempt has waited for the caller so far.
    pub fn waited(&self) -> Duration {
        self.0.lock().waited()
    }

    /// Returns whether the attempt waits for the caller now.
    pub fn is_waiting(&self) -> bool {
        self.0.lock().waiting > 0
    }

    /// Returns the waits so far if none is running. Otherwise `None`, and the task is woken when it ends.
    pub(crate) fn poll_waited(&self, cx: &mut Context<'_>) -> Option<Duration> {
        let waker = cx.waker().clone();
        let mut state = self.0.lock();
        if state.waiting == 0 {
            return Some(state.waited);
        }
        if state.watchers.iter().any(|watcher| watcher.will_wake(&waker)) {
            return None;
        }
        // One task watches an attempt. A combinator may poll it with another waker each time.
        let dropped = (state.watchers.len() >= MAX_WATCHERS).then(|| state.watchers.remove(0));
        state.watchers.push(waker);
        drop(state);
        foreign::discard(dropped);
        None
    }

    /// Returns the upload of a request that has had this one and now runs a further attempt. It waits while any of its
    /// attempts does.
    pub(crate) fn join(&self, further: &Self) -> Self {
        let request = if self.0.is_joint { self.clone() } else { self.joint() };
        let mut state = further.0.lock();
        if state.waiting > 0 {
            request.0.lock().start(Instant::now());
        }
        state.request = Some(request.clone());
        request
    }

    /// Returns the upload of a request whose only attempt this one was.
    fn joint(&self) -> Self {
        let mut state = self.0.lock();
        let (waited, waiting, since) = (state.waited, state.waiting, state.since);
        let joint = Mutex::new(State { waited, waiting, since, ..State::default() });
        let joint = Self(Arc::new(Shared { idle_timeout: None, is_joint: true, state: joint }));
        state.request = Some(joint.clone());
        joint
    }

    /// Returns the same for an attempt that begins to run.
    pub(crate) fn running(&self) -> RunningUpload {
        RunningUpload(self.clone())
    }

    /// Notes that the response is committed. From then on, caller and backend may wait for each other. Returns how long
    /// the attempt has waited for the caller so far.
    pub(crate) fn set_answered(&self) -> Duration {
        let mut state = self.0.lock();
        state.is_answered = true;
        state.waited()
    }

    /// Why the body failed, if it did. Never a fault of the backend.
    pub(crate) fn failure(&self) -> Option<ReplayError> {
        self.0.lock().failure.clone()
    }
}

impl Shared {
    pub(super) fn new(idle_timeout: Option<Duration>) -> Self {
        Self { idle_timeout, is_joint: false, state: Mutex::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // The only foreign code under this lock is the clone of a waker, before anything is changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn waited(&self) -> Duration {
        self.waited + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Starts a wait, unless it runs already.
    pub(super) fn start_reading(&mut self) {
        if self.waiting == 0 {
            self.start(Instant::now());
        }
    }

    /// Ends the wait, if it runs. Returns the wakers of the tasks that watch it, to be woken when no lock is held.
    #[must_use]
    pub(super) fn stop_reading(&mut self) -> Vec<Waker> {
        let mut watchers = Vec::new();
        if self.waiting > 0 {
            self.stop(Instant::now(), &mut watchers);
        }
        watchers
    }

    pub(super) fn is_answered(&self) -> bool {
        self.is_answered
    }

    pub(super) fn fail(&mut self, error: &ReplayError) {
        self.failure.get_or_insert_with(|| error.clone());
    }

    fn start(&mut self, now: Instant) {
        self.waiting += 1;
        self.since.get_or_insert(now);
        if let Some(request) = &self.request {
            request.0.lock().start(now);
        }
    }

    fn stop(&mut self, now: Instant, watchers: &mut Vec<Waker>) {
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 {
            self.waited += self.since.take().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            watchers.append(&mut self.watchers);
        }
        if let Some(request) = &self.request {
            request.0.lock().stop(now, watchers);
        }
    }
}

impl std::ops::Deref for RunningUpload {
    type Target = Upload;

    fn deref(&self) -> &Upload {
        &self.0
    }
}

impl Drop for RunningUpload {
    fn drop(&mut self) {
        let mut watchers = Vec::new();
        let request = {
            let mut state = self.0.0.lock();
            let request = state.request.take();
            if let Some(request) = request.as_ref().filter(|_| state.waiting > 0) {
                request.0.lock().stop(Instant::now(), &mut watchers);
            }
            request
        };
        drop(request);
        wake_all(watchers);
    }
}

const MAX_WATCHERS: usize = 8;

/// Wakes tasks, outside of any lock. A waker that panics must not keep the others from being woken.
pub(super) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(|waker| foreign::run(|| waker.wake()));
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("waited", &self.waited()).field("is_waiting", &self.is_waiting()).finish()
    }
}
