//! Tests of replayable bodies, and the source and waker that they use.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::{ReplayBody, ReplayError, ReplayMemory, Unreplayable};

mod bounds;
mod interleaving;
mod replaying;
mod requests;
mod uploads;
mod wakeups;
mod wire;

type Item = Result<Frame<Bytes>, &'static str>;

/// The test's side of a source body: it adds the items, and counts the polls and the drops of the body.
#[derive(Clone, Default)]
struct TestSource {
    state: Arc<Mutex<SourceState>>,
    polls: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

#[derive(Default)]
struct SourceState {
    items: VecDeque<Item>,
    ended: bool,
    panics: bool,
    /// The rest of a known length.
    remaining: Option<u64>,
    waker: Option<Waker>,
}

/// The body of a [`TestSource`].
struct TestBody(TestSource);

impl TestSource {
    fn body(&self) -> TestBody {
        TestBody(self.clone())
    }

    fn data(&self, bytes: impl Into<Bytes>) {
        self.item(Ok(Frame::data(bytes.into())));
    }

    fn trailers(&self) {
        self.item(Ok(Frame::trailers(trailers())));
    }

    fn fail(&self, error: &'static str) {
        self.item(Err(error));
    }

    fn end(&self) {
        self.change(|state| state.ended = true);
    }

    /// Makes the next poll panic, without a wake-up.
    fn panic(&self) {
        self.state.lock().unwrap().panics = true;
    }

    fn item(&self, item: Item) {
        self.change(|state| state.items.push_back(item));
    }

    fn change(&self, change: impl FnOnce(&mut SourceState)) {
        let waker = {
            let mut state = self.state.lock().unwrap();
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }

    fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::SeqCst) > 0
    }
}

impl Body for TestBody {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.0.polls.fetch_add(1, Ordering::SeqCst);
        let mut state = self.0.state.lock().unwrap();
        if state.panics {
            drop(state);
            panic!("the source panics");
        }
        match state.items.pop_front() {
            Some(item) => {
                let len = item.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
                state.remaining = state.remaining.map(|remaining| remaining - len as u64);
                Poll::Ready(Some(item))
            }
            None if state.ended => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.0.state.lock().unwrap().remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl TestBody {
    fn with_length(self, len: u64) -> Self {
        self.0.state.lock().unwrap().remaining = Some(len);
        self
    }
}

impl Drop for TestBody {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// A waker that counts how often it was woken.
#[derive(Default)]
struct WakeCount(AtomicUsize);

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl WakeCount {
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, ReplayError>>>;

fn poll_with<B>(body: &mut ReplayBody<B>, wakes: &Arc<WakeCount>) -> Polled
where
    ReplayBody<B>: Body<Data = Bytes, Error = ReplayError> + Unpin,
{
    Pin::new(body).poll_frame(&mut Context::from_waker(&Waker::from(Arc::clone(wakes))))
}

fn poll<B>(body: &mut ReplayBody<B>) -> Polled
where
    ReplayBody<B>: Body<Data = Bytes, Error = ReplayError> + Unpin,
{
    poll_with(body, &Arc::default())
}

/// The data of the next frame, which must be ready.
fn data<B>(body: &mut ReplayBody<B>) -> Bytes
where
    ReplayBody<B>: Body<Data = Bytes, Error = ReplayError> + Unpin,
{
    match poll(body) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap(),
        other => panic!("no data: {other:?}"),
    }
}

fn error<B>(body: &mut ReplayBody<B>) -> ReplayError
where
    ReplayBody<B>: Body<Data = Bytes, Error = ReplayError> + Unpin,
{
    match poll(body) {
        Poll::Ready(Some(Err(error))) => error,
        other => panic!("no error: {other:?}"),
    }
}

fn trailers() -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert("grpc-status", http::HeaderValue::from_static("0"));
    map
}

/// What a reader has read of a body, and how the body ended.
#[derive(Default, Debug)]
struct Read {
    bytes: Vec<u8>,
    trailers: Option<HeaderMap>,
    error: Option<ReplayError>,
    ended: bool,
}

impl Read {
    /// Adds the result of a poll. Returns `false` at the end.
    fn take(&mut self, item: Option<Result<Frame<Bytes>, ReplayError>>) -> bool {
        match item {
            None => self.ended = true,
            Some(Err(error)) => self.error = Some(error),
            Some(Ok(frame)) => {
                match frame.into_data() {
                    Ok(data) => self.bytes.extend_from_slice(&data),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                }
                return true;
            }
        }
        false
    }
}

/// Reads a body to its end, which must be ready.
fn read<B>(mut body: ReplayBody<B>) -> Read
where
    ReplayBody<B>: Body<Data = Bytes, Error = ReplayError> + Unpin,
{
    let mut read = Read::default();
    loop {
        match poll(&mut body) {
            Poll::Ready(item) => {
                if !read.take(item) {
                    assert!(matches!(poll(&mut body), Poll::Ready(None)), "no frame after the end");
                    return read;
                }
            }
            Poll::Pending => panic!("the body is pending before its end"),
        }
    }
}

fn bounded(source: &TestSource, limit: usize, memory: &ReplayMemory) -> ReplayBody<TestBody> {
    ReplayBody::bounded(source.body(), limit, memory)
}

/// A bound that no test body reaches.
const ROOMY: usize = 1 << 20;
