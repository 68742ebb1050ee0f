//! What `body/` promises, and what its readers are put through.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::{ReplayBody, ReplayError, ReplayMemory, Unreplayable};

mod bounds;
mod interleaving;
mod replaying;
mod requests;
mod wakeups;
mod wire;

type Item = Result<Frame<Bytes>, &'static str>;

/// A source that is fed by hand and remembers what was done to it.
#[derive(Clone, Default)]
struct Fed {
    inner: Arc<Mutex<Feed>>,
    polls: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Feed {
    items: VecDeque<Item>,
    ended: bool,
    panics: bool,
    /// The length it was announced with.
    left: Option<u64>,
    waker: Option<Waker>,
}

/// The body side of it.
struct FedBody(Fed);

impl Fed {
    fn body(&self) -> FedBody {
        FedBody(self.clone())
    }

    fn data(&self, bytes: impl Into<Bytes>) {
        self.item(Ok(Frame::data(bytes.into())));
    }

    fn trailers(&self) {
        self.item(Ok(Frame::trailers(trailers())));
    }

    fn fail(&self, why: &'static str) {
        self.item(Err(why));
    }

    fn end(&self) {
        self.change(|feed| feed.ended = true);
    }

    /// Panics when it is polled next; wakes nobody for that.
    fn panic(&self) {
        self.inner.lock().unwrap().panics = true;
    }

    fn item(&self, item: Item) {
        self.change(|feed| feed.items.push_back(item));
    }

    fn change(&self, change: impl FnOnce(&mut Feed)) {
        let waker = {
            let mut feed = self.inner.lock().unwrap();
            change(&mut feed);
            feed.waker.take()
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

impl Body for FedBody {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.0.polls.fetch_add(1, Ordering::SeqCst);
        let mut feed = self.0.inner.lock().unwrap();
        if feed.panics {
            drop(feed);
            panic!("as told");
        }
        match feed.items.pop_front() {
            Some(item) => {
                let len = item.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
                feed.left = feed.left.map(|left| left - len as u64);
                Poll::Ready(Some(item))
            }
            None if feed.ended => Poll::Ready(None),
            None => {
                feed.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.0.inner.lock().unwrap().left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl FedBody {
    fn announced(self, len: u64) -> Self {
        self.0.inner.lock().unwrap().left = Some(len);
        self
    }
}

impl Drop for FedBody {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// A waker that says whether it was woken.
#[derive(Default)]
struct Flag(AtomicUsize);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Flag {
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, ReplayError>>>;

fn poll_with<B>(body: &mut ReplayBody<B>, flag: &Arc<Flag>) -> Polled
where
    ReplayBody<B>: Body<Data = Bytes, Error = ReplayError> + Unpin,
{
    Pin::new(body).poll_frame(&mut Context::from_waker(&Waker::from(Arc::clone(flag))))
}

fn poll<B>(body: &mut ReplayBody<B>) -> Polled
where
    ReplayBody<B>: Body<Data = Bytes, Error = ReplayError> + Unpin,
{
    poll_with(body, &Arc::default())
}

/// The next frame's bytes; the source must have it.
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

/// What a reader made of a body, however it ended.
#[derive(Default, Debug)]
struct Read {
    bytes: Vec<u8>,
    trailers: Option<HeaderMap>,
    error: Option<ReplayError>,
    ended: bool,
}

impl Read {
    /// Takes in one answer; `false` at the end.
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

/// Reads to the end, which the source must have.
fn read<B>(mut body: ReplayBody<B>) -> Read
where
    ReplayBody<B>: Body<Data = Bytes, Error = ReplayError> + Unpin,
{
    let mut read = Read::default();
    loop {
        match poll(&mut body) {
            Poll::Ready(item) => {
                if !read.take(item) {
                    assert!(matches!(poll(&mut body), Poll::Ready(None)), "fused");
                    return read;
                }
            }
            Poll::Pending => panic!("the source is not at its end"),
        }
    }
}

fn bounded(fed: &Fed, limit: usize, memory: &ReplayMemory) -> ReplayBody<FedBody> {
    ReplayBody::bounded(fed.body(), limit, memory)
}

const ROOMY: usize = 1 << 20;
