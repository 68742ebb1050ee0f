//! The layer that makes request bodies replayable.

use http::{HeaderMap, HeaderValue, Request};
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
///
/// A body over a bound is still sent, but not again. The limit counts the data of a body, and trailers with all the
/// memory that they take. The buffers for the data are never larger than the limit, whatever the frames of the body are.
#[derive(Debug, Clone)]
pub struct ReplayLayer {
    limit: usize,
    memory: ReplayMemory,
}

impl ReplayLayer {
    /// Creates a layer with the default bounds: 1 MiB of one body, and 64 MiB of all bodies of the process together.
    #[must_use]
    pub const fn new() -> Self {
        Self { limit: DEFAULT_LIMIT, memory: ReplayMemory::process() }
    }

    /// Sets how many bytes of one body are kept, in as much memory. With 0, requests with a body are not replayed. Default 1 MiB.
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
        request.map(|body| ReplayBody::bounded(body, self.limit, &self.memory))
    }

    fn again(&self, kept: &Self::Request) -> Result<Self::Request, Unreplayable> {
        let mut copy = Request::new(kept.body().again()?);
        copy.method_mut().clone_from(kept.method());
        copy.uri_mut().clone_from(kept.uri());
        *copy.version_mut() = kept.version();
        copy.headers_mut().clone_from(kept.headers());
        copy.extensions_mut().clone_from(kept.extensions());
        Ok(copy)
    }

    fn unreplayable(&self, kept: &Self::Request) -> Option<Unreplayable> {
        kept.body().unreplayable()
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
