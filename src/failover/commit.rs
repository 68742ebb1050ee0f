//! From which moment on a response is the answer.

use std::task::{Context, Poll};

use super::Ledger;
use crate::{
    body::{CloneRequest, Replay, Unreplayable},
    outcome::Outcome,
};

/// What a failover has to know of the responses that pass through it: from which moment on one is the answer, and where
/// the ledger goes. Responses come as the fleet's classifier makes them.
pub trait Commit<Res>: Clone + Send + Sync + 'static {
    /// A response whose beginning is being looked at.
    type Peek;
    /// What the caller gets.
    type Response;

    /// Whether [`finish`](Self::finish) does anything with the ledger. Where it does not, a request that goes well keeps
    /// none.
    const KEEPS_LEDGER: bool = true;

    /// Whether every response with a good head is the answer. Then its success is recorded with the head.
    fn is_at_head(&self) -> bool {
        true
    }

    /// The status of a response, for triggers that look at it.
    fn status(&self, response: &Res) -> Option<u16> {
        let _ = response;
        None
    }

    /// Begins to look at a response.
    fn peek(&self, response: Res) -> Self::Peek;

    /// The response that is looked at.
    fn response<'a>(&self, peek: &'a mut Self::Peek) -> &'a mut Res;

    /// Ready when the response is the answer, or has turned out not to be. What was read of it is kept.
    fn poll_commit(&self, peek: &mut Self::Peek, cx: &mut Context<'_>) -> Poll<Outcome>;

    /// Hands the response to the caller, whole, with the account of how it came about.
    fn finish(&self, peek: Self::Peek, ledger: Ledger) -> Self::Response;
}

/// For services that are not HTTP: tells how a request is copied. A response is the answer when it is there, and
/// carries no ledger; errors do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain<R = CloneRequest> {
    replay: R,
}

impl<R> Plain<R> {
    /// Requests are copied by `replay`.
    pub fn new(replay: R) -> Self {
        Self { replay }
    }
}

impl<Req, R: Replay<Req>> Replay<Req> for Plain<R> {
    type Request = R::Request;

    fn keep(&self, request: Req) -> R::Request {
        self.replay.keep(request)
    }

    fn again(&self, kept: &R::Request) -> Result<R::Request, Unreplayable> {
        self.replay.again(kept)
    }

    fn unreplayable(&self, kept: &R::Request) -> Option<Unreplayable> {
        self.replay.unreplayable(kept)
    }

    fn is_idempotent(&self, kept: &R::Request) -> bool {
        self.replay.is_idempotent(kept)
    }
}

impl<Res, R: Clone + Send + Sync + 'static> Commit<Res> for Plain<R> {
    type Peek = Res;
    type Response = Res;
    const KEEPS_LEDGER: bool = false;

    #[inline]
    fn peek(&self, response: Res) -> Res {
        response
    }

    fn response<'a>(&self, peek: &'a mut Res) -> &'a mut Res {
        peek
    }

    fn poll_commit(&self, _: &mut Res, _: &mut Context<'_>) -> Poll<Outcome> {
        Poll::Ready(Outcome::Success)
    }

    #[inline]
    fn finish(&self, response: Res, _: Ledger) -> Res {
        response
    }
}

/// Failover over HTTP needs the feature `http`.
#[cfg(not(feature = "http"))]
#[derive(Clone, Copy, Debug)]
pub enum Http {}
