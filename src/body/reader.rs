//! One handle on a shared source, and its position.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tower::BoxError;

use super::{
    ReplayError, ReplayMemory, Unreplayable,
    frames::{into_bytes, with_own_buffer},
    shared::{SharedBody, Source},
    wakers::ReaderWakers,
};

/// A handle on a shared source, which becomes a reader with its first poll.
pub(super) struct Reader<B> {
    shared: Arc<SharedBody<B>>,
    id: u64,
    has_begun: bool,
    /// The position of what it reads next.
    next: u64,
    /// How many bytes it has read.
    read: u64,
}

/// What a poll of a reader returns.
pub(super) enum Polled<B> {
    Frame(Frame<Bytes>),
    End,
    Failed(ReplayError),
    /// This reader takes over the source: it is the only handle, or no more frames can be kept. With the frame that it
    /// has just pulled, if there is one.
    TakeOver {
        source: B,
        frame: Option<Frame<Bytes>>,
        reason: Unreplayable,
    },
}

impl<B: Body> Reader<B> {
    pub(super) fn new(source: B, limit: usize, memory: ReplayMemory) -> Self {
        Self { shared: Arc::new(SharedBody::new(source, limit, memory)), id: 0, has_begun: false, next: 0, read: 0 }
    }
}

impl<B> Reader<B> {
    pub(super) fn again(&self) -> Result<Self, Unreplayable> {
        let mut state = self.shared.lock();
        self.refusal(&state.source).map_or(Ok(()), Err)?;
        let id = state.add_unread();
        drop(state);
        Ok(Self { shared: Arc::clone(&self.shared), id, has_begun: false, next: 0, read: 0 })
    }

    pub(super) fn unreplayable(&self) -> Option<Unreplayable> {
        self.refusal(&self.shared.lock().source)
    }

    fn refusal(&self, source: &Source<B>) -> Option<Unreplayable> {
        match source {
            Source::TakenOver(reason) => Some(*reason),
            Source::Failed(error) => Some(error.reason()),
            // Once every handle has started to read, frames are dropped. So a reader cannot be copied, and the last one
            // needs no frame to be kept.
            Source::Idle(_) | Source::Polled | Source::Ended => self.has_begun.then_some(Unreplayable::Begun),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let state = self.shared.lock();
        matches!(state.source, Source::Ended) && !state.has_kept(self.next)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let state = self.shared.lock();
        let kept = state.pulled.saturating_sub(self.read);
        let (lower, upper) = match &state.source {
            Source::Idle(_) | Source::Polled => (state.rest.lower(), state.rest.upper()),
            Source::Ended => (0, Some(0)),
            // The body ends with an error, so no length would be true.
            Source::Failed(_) | Source::TakenOver(_) => return SizeHint::default(),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(lower.saturating_add(kept));
        if let Some(upper) = upper.and_then(|upper| upper.checked_add(kept)) {
            hint.set_upper(upper);
        }
        hint
    }
}

impl<B> Reader<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Polled<B>> {
        let mut state = self.shared.lock();
        if !self.has_begun {
            self.has_begun = true;
            state.start_reading();
        }
        if let Some((frame, next)) = state.read(self.next) {
            self.read += frame.data_ref().map_or(0, Bytes::len) as u64;
            let passed = state.advance(self.next, next);
            self.next = next;
            drop(state);
            drop(passed);
            return Poll::Ready(Polled::Frame(frame));
        }
        let found = mem::replace(&mut state.source, Source::Polled);
        let polled = match found {
            Source::Idle(source) if state.has_one_handle() => {
                let reason = Unreplayable::Begun;
                let frames = state.take_over(reason);
                drop(state);
                drop(frames);
                return Poll::Ready(Polled::TakeOver { source, frame: None, reason });
            }
            Source::Idle(source) => {
                let wakers = state.existing_wakers().cloned();
                drop(state);
                return self.pull(source, wakers, cx);
            }
            Source::Polled => {
                let replaced = state.wakers().register(self.id, cx.waker());
                drop(state);
                drop(replaced);
                return Poll::Pending;
            }
            Source::Ended => Polled::End,
            Source::Failed(ref error) => Polled::Failed(error.clone()),
            Source::TakenOver(reason) => Polled::Failed(ReplayError::NotKept(reason)),
        };
        state.source = found;
        Poll::Ready(polled)
    }

    /// Fails the body for all of its readers. If another reader polls the source just now, only for this one.
    pub(super) fn fail(&self, error: &ReplayError) {
        let mut state = self.shared.lock();
        if !matches!(state.source, Source::Idle(_)) {
            return;
        }
        let source = mem::replace(&mut state.source, Source::Failed(error.clone()));
        let wakeups = state.take_wakers();
        drop(state);
        wakeups.wake();
        drop(source);
    }

    /// Polls the source, which was taken out of the shared state.
    fn pull(&mut self, mut source: B, known: Option<Arc<ReaderWakers>>, cx: &mut Context<'_>) -> Poll<Polled<B>> {
        let guard = self.shared.poll_guard();
        let polled = match &known {
            Some(wakers) => poll_for_all(&mut source, wakers, self.id, cx),
            None => Pin::new(&mut source).poll_frame(cx),
        };
        let polled = match polled {
            // Most bodies have their next frame ready. Only for one that does not, the list of wakers is made, and the
            // source is polled again with a waker that wakes all readers.
            Poll::Pending if known.is_none() => {
                let wakers = Arc::clone(self.shared.lock().wakers());
                poll_for_all(&mut source, &wakers, self.id, cx)
            }
            polled => polled,
        };
        let Poll::Ready(item) = polled else {
            let mut state = guard.finish();
            state.source = Source::Idle(source);
            let wakeups = state.take_late_wakers();
            drop(state);
            wakeups.wake();
            return Poll::Pending;
        };
        let item = item.map(|item| item.map(into_bytes).map(with_own_buffer).map_err(ReplayError::from_source));
        let rest = (!source.is_end_stream()).then(|| source.size_hint());

        let mut state = guard.finish();
        let wakeups = state.take_wakers();
        let (polled, dropped) = match item {
            Some(Ok((frame, has_own_buffer))) => {
                let len = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.read = self.read.saturating_add(len);
                state.pulled = state.pulled.saturating_add(len);
                match state.keep(&frame, has_own_buffer, self.shared.limit) {
                    Ok(span) => {
                        self.next += span;
                        (Polled::Frame(frame), (state.put_back(source, rest), None))
                    }
                    Err(reason) => {
                        let frames = state.take_over(reason);
                        (Polled::TakeOver { source, frame: Some(frame), reason }, (None, Some(frames)))
                    }
                }
            }
            Some(Err(error)) => {
                state.end(Source::Failed(error.clone()));
                (Polled::Failed(error), (Some(source), None))
            }
            None => {
                state.end(Source::Ended);
                (Polled::End, (Some(source), None))
            }
        };
        drop(state);
        wakeups.wake();
        // Not under the lock: the drop of a source or of a frame can run any code.
        drop(dropped);
        Poll::Ready(polled)
    }
}

impl<B> Drop for Reader<B> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let passed = if self.has_begun { state.remove_reader(self.next) } else { state.remove_unread() };
        let waker = state.existing_wakers().and_then(|wakers| wakers.remove(self.id));
        drop(state);
        drop((passed, waker));
    }
}

/// What a poll of a source returns.
type Item<B> = Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>;

/// Polls the source with a waker that wakes all waiting readers.
fn poll_for_all<B>(source: &mut B, wakers: &Arc<ReaderWakers>, reader: u64, cx: &mut Context<'_>) -> Poll<Item<B>>
where
    B: Body + Unpin,
{
    drop(wakers.arm(reader, cx.waker()));
    let waker = Waker::from(Arc::clone(wakers));
    let polled = Pin::new(source).poll_frame(&mut Context::from_waker(&waker));
    if polled.is_ready() {
        // This reader gets the item now and need not be woken for it.
        drop(wakers.remove(reader));
    }
    polled
}
