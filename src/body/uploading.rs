//! The reader's side of an upload.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    ReplayError,
    upload::{Shared, Upload, wake_all},
};

/// The reader's side of an [`Upload`]. On drop, its attempt does not wait any more.
pub(super) struct Uploading {
    upload: Upload,
    /// The limit on the time without a frame. Made when the reader first waits.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer runs for the wait for the next frame.
    is_timed: bool,
    /// Whether the reader has waited at least once. Until then, nothing is locked.
    has_waited: bool,
    /// Whether the caller's body is being polled: if it panics, this is dropped then.
    is_polling: bool,
}

impl Uploading {
    pub(super) fn new(idle_timeout: Option<Duration>) -> Self {
        let upload = Upload(Arc::new(Shared::new(idle_timeout)));
        Self { upload, timer: None, is_timed: false, has_waited: false, is_polling: false }
    }

    pub(super) fn upload(&self) -> &Upload {
        &self.upload
    }

    /// Polls for the next frame. The wait begins when the poll is pending, and ends when the caller's body wakes the
    /// reader: not with its next poll, since the backend decides when that is.
    pub(super) fn poll<T>(&mut self, cx: &mut Context<'_>, poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        self.is_polling = true;
        let polled = self.poll_counted(cx, poll);
        self.is_polling = false;
        polled
    }

    fn poll_counted<T>(&mut self, cx: &mut Context<'_>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        if !self.has_waited {
            // Many bodies are never pending.
            if let Poll::Ready(item) = poll(cx) {
                return Poll::Ready(item);
            }
            self.has_waited = true;
        }
        let shared = &self.upload.0;
        let replaced = {
            let mut state = shared.lock();
            state.is_woken = false;
            match &state.reader {
                Some(reader) if reader.will_wake(cx.waker()) => None,
                _ => state.reader.replace(cx.waker().clone()),
            }
        };
        drop(replaced);
        let polled = poll(&mut Context::from_waker(&Waker::from(Arc::clone(shared))));
        if polled.is_ready() {
            self.is_timed = false;
            self.stop();
        } else {
            let mut state = shared.lock();
            if !state.is_woken {
                state.start_reading();
            }
        }
        polled
    }

    /// Ready with an error when the caller has sent no frame for too long. To be polled while the reader is pending.
    pub(super) fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<ReplayError> {
        let Some(timeout) = self.upload.0.idle_timeout else { return Poll::Pending };
        if !self.is_timed {
            if self.upload.0.lock().is_answered() {
                return Poll::Pending;
            }
            self.is_timed = true;
            let at = Instant::now().checked_add(timeout);
            match (&mut self.timer, at) {
                // Further away than a timer can be set.
                (_, None) => self.timer = None,
                (Some(timer), Some(at)) => timer.as_mut().reset(at),
                (timer, Some(at)) => *timer = Some(Box::pin(sleep_until(at))),
            }
        }
        let is_over = self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
        if is_over && !self.upload.0.lock().is_answered() {
            return Poll::Ready(ReplayError::Stalled { timeout });
        }
        Poll::Pending
    }

    /// Notes that the body failed. Its attempt does not wait any more.
    pub(super) fn fail(&self, error: &ReplayError) {
        self.upload.0.lock().fail(error);
        self.stop();
    }

    fn stop(&self) {
        let watchers = self.upload.0.lock().stop_reading();
        wake_all(watchers);
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        if self.is_polling {
            self.fail(&ReplayError::Panicked);
        }
        if self.has_waited {
            self.stop();
            let reader = self.upload.0.lock().reader.take();
            drop(reader);
        }
    }
}

/// What the caller's body wakes: ends the wait, then wakes the reader.
impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let (reader, watchers) = {
            let mut state = self.lock();
            state.is_woken = true;
            (state.reader.take(), state.stop_reading())
        };
        wake_all(reader.into_iter().chain(watchers));
    }
}
