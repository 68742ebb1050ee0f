//! Requests whose bodies can be replayed.

use http::Request;
use http_body::Body;

use super::replay_body::DEFAULT_LIMIT;
use super::{Replay, ReplayBody, ReplayMemory, Unreplayable};

/// Makes request bodies replayable, within bounds.
///
/// As a layer it turns `Request<B>` into `Request<ReplayBody<B>>`, for something inside that sends
/// a request more than once. As a [`Replay`] it tells a door of this crate how to do the same.
#[derive(Debug, Clone)]
pub struct ReplayLayer {
    limit: usize,
    memory: ReplayMemory,
}

impl ReplayLayer {
    /// Keeps up to 1 MiB of one body, and 64 MiB of all bodies of the process together.
    #[must_use]
    pub const fn new() -> Self {
        Self { limit: DEFAULT_LIMIT, memory: ReplayMemory::process() }
    }

    /// Keeps up to `limit` bytes of one body. With 0, requests with a body are not replayed.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Takes what it keeps out of `memory`.
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

/// The head is copied whole, extensions included.
impl<B: Body> Replay<Request<B>> for ReplayLayer {
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
        kept.method().is_idempotent()
    }
}
