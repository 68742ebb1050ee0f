//! One reader of a shared source.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tower::BoxError;

use super::frames::into_bytes;
use super::shared::{Shared, Source};
use super::waiters::Waiters;
use super::{ReplayError, ReplayMemory, Unreplayable};

/// A handle on a shared source, and how far it has read.
pub(super) struct Reader<B> {
    shared: Arc<Shared<B>>,
    id: u64,
    begun: bool,
    /// Its next frame, counted from the first one.
    next: usize,
    /// Bytes it has read.
    read: u64,
}

/// What a reader gets when it asks.
pub(super) enum Turn<B> {
    Frame(Frame<Bytes>),
    End,
    Failed(ReplayError),
    /// The source goes to this reader for good: it is the only one left, or nothing can be kept for
    /// others. With the frame that it pulled last, if it did.
    Taken {
        source: B,
        frame: Option<Frame<Bytes>>,
        why: Unreplayable,
    },
}

impl<B: Body> Reader<B> {
    pub(super) fn new(source: B, limit: usize, memory: ReplayMemory) -> Self {
        Self { shared: Arc::new(Shared::new(source, limit, memory)), id: 0, begun: false, next: 0, read: 0 }
    }
}

impl<B> Reader<B> {
    pub(super) fn again(&self) -> Result<Self, Unreplayable> {
        let mut state = self.shared.lock();
        self.refusal(&state.source).map_or(Ok(()), Err)?;
        let id = state.join();
        drop(state);
        Ok(Self { shared: Arc::clone(&self.shared), id, begun: false, next: 0, read: 0 })
    }

    pub(super) fn unreplayable(&self) -> Option<Unreplayable> {
        self.refusal(&self.shared.lock().source)
    }

    fn refusal(&self, source: &Source<B>) -> Option<Unreplayable> {
        match source {
            Source::Lost(why) => Some(*why),
            Source::Failed(_) => Some(Unreplayable::SourceFailed),
            // Frames may be gone as soon as everybody has begun. A reader never counts as one that
            // may be copied, so the last one knows that nothing needs to be kept.
            Source::Idle(_) | Source::Polled | Source::Ended => self.begun.then_some(Unreplayable::Begun),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let state = self.shared.lock();
        matches!(state.source, Source::Ended) && state.kept(self.next).is_none()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let state = self.shared.lock();
        let kept = state.pulled.saturating_sub(self.read);
        let (lower, upper) = match &state.source {
            Source::Idle(_) | Source::Polled => (state.rest.lower(), state.rest.upper()),
            Source::Ended => (0, Some(0)),
            // It ends in an error: no length is true.
            Source::Failed(_) | Source::Lost(_) => return SizeHint::default(),
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
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Turn<B>> {
        let mut state = self.shared.lock();
        if !self.begun {
            self.begun = true;
            state.begin();
        }
        if let Some(kept) = state.kept(self.next) {
            let frame = kept.frame();
            self.read += kept.data_len() as u64;
            let passed = state.advance(self.next);
            self.next += 1;
            drop(state);
            drop(passed);
            return Poll::Ready(Turn::Frame(frame));
        }
        let found = mem::replace(&mut state.source, Source::Polled);
        let turn = match found {
            Source::Idle(source) if state.is_alone() => {
                let why = Unreplayable::Begun;
                let frames = state.lose(why);
                drop(state);
                drop(frames);
                return Poll::Ready(Turn::Taken { source, frame: None, why });
            }
            Source::Idle(source) => {
                let waiters = state.known_waiters().cloned();
                drop(state);
                return self.pull(source, waiters, cx);
            }
            Source::Polled => {
                let replaced = state.waiters().register(self.id, cx.waker());
                drop(state);
                drop(replaced);
                return Poll::Pending;
            }
            Source::Ended => Turn::End,
            Source::Failed(ref error) => Turn::Failed(error.clone()),
            Source::Lost(why) => Turn::Failed(ReplayError::NotKept(why)),
        };
        state.source = found;
        Poll::Ready(turn)
    }

    /// Polls the source, which is out of its place meanwhile.
    fn pull(&mut self, mut source: B, known: Option<Arc<Waiters>>, cx: &mut Context<'_>) -> Poll<Turn<B>> {
        let absence = self.shared.absence();
        let polled = match &known {
            Some(waiters) => poll_for_all(&mut source, waiters, self.id, cx),
            None => Pin::new(&mut source).poll_frame(cx),
        };
        let polled = match polled {
            // Most bodies have their next frame at hand. Only for one that does not is the list of
            // waiters made, and the source asked again with a waker that reaches all of them.
            Poll::Pending if known.is_none() => {
                let waiters = Arc::clone(self.shared.lock().waiters());
                poll_for_all(&mut source, &waiters, self.id, cx)
            }
            polled => polled,
        };
        let Poll::Ready(item) = polled else {
            let mut state = absence.end();
            state.source = Source::Idle(source);
            let late = state.take_late();
            drop(state);
            late.wake();
            return Poll::Pending;
        };
        let item = item.map(|item| item.map(into_bytes).map_err(ReplayError::from_source));
        let rest = (!source.is_end_stream()).then(|| source.size_hint());

        let mut state = absence.end();
        let waiting = state.take_waiting();
        let (turn, spent) = match item {
            Some(Ok(frame)) => {
                let len = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.read = self.read.saturating_add(len);
                state.pulled = state.pulled.saturating_add(len);
                match state.offer(&frame, self.shared.limit) {
                    Ok(kept) => {
                        self.next += usize::from(kept);
                        (Turn::Frame(frame), (state.put_back(source, rest), None))
                    }
                    Err(why) => {
                        let frames = state.lose(why);
                        (Turn::Taken { source, frame: Some(frame), why }, (None, Some(frames)))
                    }
                }
            }
            Some(Err(error)) => {
                state.source = Source::Failed(error.clone());
                (Turn::Failed(error), (Some(source), None))
            }
            None => {
                state.source = Source::Ended;
                (Turn::End, (Some(source), None))
            }
        };
        drop(state);
        waiting.wake();
        // A source and its frames may do anything when they are dropped.
        drop(spent);
        Poll::Ready(turn)
    }
}

impl<B> Drop for Reader<B> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let passed = if self.begun { state.leave(self.next) } else { state.leave_unread() };
        let waker = state.known_waiters().and_then(|waiters| waiters.remove(self.id));
        drop(state);
        drop((passed, waker));
    }
}

/// What a source says when it is ready.
type Pulled<B> = Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>;

/// Polls the source for everybody who waits.
fn poll_for_all<B>(source: &mut B, waiters: &Arc<Waiters>, reader: u64, cx: &mut Context<'_>) -> Poll<Pulled<B>>
where
    B: Body + Unpin,
{
    drop(waiters.arm(reader, cx.waker()));
    let waker = Waker::from(Arc::clone(waiters));
    let polled = Pin::new(source).poll_frame(&mut Context::from_waker(&waker));
    if polled.is_ready() {
        // It need not be woken for what it takes along now.
        drop(waiters.remove(reader));
    }
    polled
}
