//! When a response is the answer.

use std::task::{Context, Poll};

use tower::BoxError;

use super::Ledger;
use crate::{
    body::{CloneRequest, Replay, Unreplayable},
    outcome::{Classify, ErrorsOnly, Outcome, Verdict},
};

/// What a failover has to know of the responses that pass through it: what they say, from which moment on one is the
/// answer, and where the ledger goes.
pub trait Accept<Res>: Clone + Send + Sync + 'static {
    /// A response of which the beginning is being looked at.
    type Opening;
    /// What the caller gets.
    type Response;

    /// What the head of a response says.
    fn head(&self, response: &Res) -> Outcome;

    /// What an error says.
    fn error(&self, error: &BoxError) -> Outcome;

    /// Begins to look at the beginning of a response with a good head.
    fn open(&self, response: Res) -> Self::Opening;

    /// Ready when the response is the answer, or has turned out not to be. What was read of it is kept.
    fn poll_open(&self, opening: &mut Self::Opening, cx: &mut Context<'_>) -> Poll<Outcome>;

    /// Hands the response over, whole, with the account of how it came about.
    fn hand_over(&self, opening: Self::Opening, ledger: Ledger) -> Self::Response;
}

/// Terms for services that are not HTTP: how a request is copied, and what an error means. A response is the answer
/// when it is there, and carries no ledger; errors do.
#[derive(Clone, Debug)]
pub struct Plain<R = CloneRequest, C = ErrorsOnly> {
    replay: R,
    classifier: C,
}

impl Default for Plain {
    fn default() -> Self {
        Self::new(CloneRequest, ErrorsOnly)
    }
}

impl<R, C> Plain<R, C> {
    /// Requests are copied by `replay`, outcomes judged by `classifier`.
    pub fn new(replay: R, classifier: C) -> Self {
        Self { replay, classifier }
    }
}

impl<Req, R: Replay<Req>, C> Replay<Req> for Plain<R, C> {
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

impl<Res, R, C> Accept<Res> for Plain<R, C>
where
    R: Clone + Send + Sync + 'static,
    C: Classify<(), Res>,
{
    type Opening = Res;
    type Response = Res;

    fn head(&self, response: &Res) -> Outcome {
        head(&self.classifier, response)
    }

    fn error(&self, error: &BoxError) -> Outcome {
        self.classifier.error(self.classifier.request(&()), error)
    }

    fn open(&self, response: Res) -> Res {
        response
    }

    fn poll_open(&self, _: &mut Res, _: &mut Context<'_>) -> Poll<Outcome> {
        Poll::Ready(Outcome::Success)
    }

    fn hand_over(&self, response: Res, _: Ledger) -> Res {
        response
    }
}

/// What a classifier says of a head. What only the end of the stream can tell is too late for another attempt.
pub(super) fn head<C: Classify<(), Res>, Res>(classifier: &C, response: &Res) -> Outcome {
    match classifier.response(&mut classifier.request(&()), response) {
        Verdict::Now(outcome) => outcome,
        Verdict::AtEnd => Outcome::Success,
    }
}
