//! The layer that makes request bodies replayable.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, header::CONTENT_LENGTH};
use http_body::Body;
use tower::BoxError;

use super::{Replay, ReplayBody, ReplayMemory, Unreplayable, replay_body::DEFAULT_LIMIT};

/// Makes request bodies replayable, within bounds.
///
/// As a layer, it turns a `Request<B>` into a `Request<ReplayBody<B>>` for an inner service that sends a request more
/// than once, such as `tower::retry`. As a [`Replay`], it does the same for a [`Failover`](crate::Failover), which
/// needs no layer around it: see [`FailoverBuilder::replay`](crate::failover::FailoverBuilder::replay).
///
/// | bound | default |
/// |---|---|
/// | [`limit`](Self::limit) | 1 MiB of one body: enough for prompts, forms and JSON documents, not for uploads |
/// | [`memory`](Self::memory) | 64 MiB of all bodies of the process |
/// | [`idle_timeout`](Self::idle_timeout) | 60 s without a frame from the caller |
///
/// A body over one of the first two bounds is still sent, but not again. A body over the last one fails, which is
/// neutral for the backend. The limit counts the data of a body, and trailers with all the memory that they take. The
/// buffers for the data are never larger than the limit, whatever the frames of the body are.
///
/// The time in which an attempt waits for the caller is not charged to the backend: see [`Upload`](super::Upload). So a
/// [`Balance`](crate::Balance) or a [`CircuitBreaker`](crate::CircuitBreaker) behind this layer is not affected by slow
/// callers.
#[derive(Debug, Clone)]
pub struct ReplayLayer {
    limit: usize,
    memory: ReplayMemory,
    idle_timeout: Option<Duration>,
}

/// As nginx's `client_body_timeout`. A caller that sends nothing for that long is lost or hostile.
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

impl ReplayLayer {
    /// Creates a layer with the default bounds: 1 MiB of one body, and 64 MiB of all bodies of the process together.
    #[must_use]
    pub const fn new() -> Self {
        Self { limit: DEFAULT_LIMIT, memory: ReplayMemory::process(), idle_timeout: Some(DEFAULT_IDLE_TIMEOUT) }
    }

    /// Sets how many bytes of one body are kept, in as much memory. With 0, requests with a body are not replayed.
    /// Default 1 MiB.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Sets the memory that kept bodies are charged to. Default [`ReplayMemory::process`].
    #[must_use]
    pub fn memory(mut self, memory: ReplayMemory) -> Self {
        self.memory = memory;
        self
    }

    /// Sets how long an attempt waits for the next frame of the caller's body. Then the body fails for all attempts,
    /// with [`ReplayError::Stalled`](super::ReplayError::Stalled). Default 60 s; `None` sets no limit. With zero, a
    /// body that has to be waited for fails at once; a [`Failover`](crate::Failover) refuses zero when it is built.
    ///
    /// The limit applies until the response is committed. After that, caller and backend may wait for each other, as in
    /// a call with streams in both directions.
    ///
    /// # Panics
    ///
    /// With a limit, a body that has to wait needs a tokio runtime with timers. Its poll panics outside of one.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// Returns the [`idle_timeout`](Self::idle_timeout).
    pub(crate) fn idle_limit(&self) -> Option<Duration> {
        self.idle_timeout
    }

    /// Puts the upload of the attempt into the extensions of its request.
    fn track<B>(&self, mut request: Request<ReplayBody<B>>) -> Request<ReplayBody<B>> {
        if let Some(upload) = request.body_mut().track(self.idle_timeout) {
            let upload = upload.clone();
            request.extensions_mut().insert(upload);
        }
        request
    }
}

/// The length that the head of a request announces.
fn announced<B>(request: &Request<B>) -> Option<u64> {
    let mut lengths = request.headers().get_all(CONTENT_LENGTH).iter();
    let length = lengths.next()?.to_str().ok()?.parse().ok()?;
    lengths.next().is_none().then_some(length)
}

impl Default for ReplayLayer {
    fn default() -> Self {
        Self::new()
    }
}

/// Each copy has the whole head of the request, including its extensions.
impl<B> Replay<Request<B>> for ReplayLayer
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Request = Request<ReplayBody<B>>;

    fn keep(&self, request: Request<B>) -> Self::Request {
        let length = announced(&request);
        request.map(|body| {
            let body = ReplayBody::bounded(body, self.limit, &self.memory);
            length.into_iter().fold(body, ReplayBody::announced)
        })
    }

    fn again(&self, kept: &Self::Request) -> Result<Self::Request, Unreplayable> {
        let mut copy = Request::new(kept.body().again()?);
        copy.method_mut().clone_from(kept.method());
        copy.uri_mut().clone_from(kept.uri());
        *copy.version_mut() = kept.version();
        copy.headers_mut().clone_from(kept.headers());
        copy.extensions_mut().clone_from(kept.extensions());
        Ok(self.track(copy))
    }

    fn last(&self, kept: Self::Request) -> Self::Request {
        self.track(kept)
    }

    fn unreplayable(&self, kept: &Self::Request) -> Option<Unreplayable> {
        kept.body().unreplayable()
    }

    fn extension<'a, T: Send + Sync + 'static>(&self, kept: &'a Self::Request) -> Option<&'a T> {
        kept.extensions().get()
    }

    fn is_idempotent(&self, kept: &Self::Request) -> bool {
        kept.method().is_idempotent() || has_idempotency_key(kept.headers())
    }
}

/// Whether there is an `Idempotency-Key`, and each of them has a value: a server cannot recognise a repeated request by
/// an empty one. The value is a string in quotes, or bare.
fn has_idempotency_key(headers: &HeaderMap) -> bool {
    let mut keys = headers.get_all("idempotency-key").iter().peekable();
    let is_set = |key: &HeaderValue| key.as_bytes().iter().any(|byte| !matches!(byte, b' ' | b'\t' | b'"'));
    keys.peek().is_some() && keys.all(is_set)
}
