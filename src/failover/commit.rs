//! What a failover has to know of a response: when it is final, and where its ledger is put.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use super::{Ledger, Rejected};
use crate::{
    body::{CloneRequest, Replay, Unreplayable},
    outcome::{CallGuard, Outcome},
};

/// Returns the guard of the call of a response, if the response holds it: [`Classify::guard`](crate::outcome::Classify::guard).
pub type GuardOf<Res> = fn(&mut Res) -> Option<&mut CallGuard>;

/// Decides when a response is final, and returns it to the caller with its ledger.
///
/// [`Http`](super::Http) implements it for HTTP responses, with a choice of commit points, and [`Plain`] for all
/// others. Implement it together with [`Replay`] for a protocol with a commit point of its own, and pass it to
/// [`FailoverLayer::with_protocol`](super::FailoverLayer::with_protocol).
///
/// `Res` is the response as the fleet's classifier makes it:
/// [`Classify::Watched`](crate::outcome::Classify::Watched).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot tell when a response of type `{Res}` is final",
    note = "over HTTP a failover passes on an `http::Response` whose body is `Unpin`: box one that is not, with `http_body_util::BodyExt::boxed`",
    note = "for services that are not HTTP, make the failover with `FailoverLayer::plain()` and the fleet with `Fleet::plain()`"
)]
pub trait Commit<Res>: Clone + Send + Sync + 'static {
    /// A response, and what was read of its body before it is final.
    type Peek;
    /// The response that the caller gets.
    type Response;

    /// Whether [`finish`](Self::finish) uses the ledger. If it does not, a request that succeeds without further
    /// attempts passes an empty ledger. Default `true`.
    const KEEPS_LEDGER: bool = true;

    /// Whether a response is final with its head, unless the head is a failure. The success is then recorded with the
    /// head, and [`poll_commit`](Self::poll_commit) is not called. Default `true`.
    fn is_at_head(&self) -> bool {
        true
    }

    /// Returns the status of a response, for a list of [statuses](super::Trigger::status) that move a request on.
    /// Default `None`.
    fn status(&self, response: &Res) -> Option<u16> {
        let _ = response;
        None
    }

    /// Whether a response with this head may be [rejected](Self::rejection), so that it is read before what follows is
    /// decided. Default `false`.
    fn may_reject(&self, response: &Res) -> bool {
        let _ = response;
        false
    }

    /// The rejection that a response is, now that it was [read](Self::poll_commit). Default `None`.
    fn rejection(&self, peek: &Self::Peek) -> Option<Rejected> {
        let _ = peek;
        None
    }

    /// Starts to look at a response. Nothing of its body was read yet. `guard` returns the guard of its call, which knows
    /// what the classifier has found in the body.
    fn peek(&self, response: Res, guard: GuardOf<Res>) -> Self::Peek;

    /// Returns the response in a peek.
    fn response<'a>(&self, peek: &'a mut Self::Peek) -> &'a mut Res;

    /// Reads the response until it is final or has failed. What was read stays in the peek.
    ///
    /// Ready with [`Outcome::Success`] when the response is final, with a failure, or with [`Outcome::Neutral`] if only its
    /// head counts. A failed response may still be
    /// [finished](Self::finish): if it fires no trigger, or if no other attempt succeeds.
    fn poll_commit(&self, peek: &mut Self::Peek, cx: &mut Context<'_>, guard: GuardOf<Res>) -> Poll<Outcome>;

    /// How long a response is read before it is final, from the start of its attempt. Default: as long as the attempt may
    /// take.
    fn held_for(&self) -> Option<Duration> {
        None
    }

    /// The outcome of a response that was read for [that long](Self::held_for). Default [`Outcome::Success`]: it is final.
    fn overdue(&self, peek: &Self::Peek) -> Outcome {
        let _ = peek;
        Outcome::Success
    }

    /// Makes the caller's response out of a peek, including what was read, and out of the ledger of the request.
    fn finish(&self, peek: Self::Peek, ledger: Ledger) -> Self::Response;
}

/// The protocol of services that are not HTTP: each response is final, and carries no ledger; an error does.
///
/// `R` is how a request is copied for further attempts: by default with [`CloneRequest`]. Whether a request is idempotent
/// is up to [`Replay::is_idempotent`]. By default **every request is**, so it is sent again after a failure and hedged
/// under any [`Methods`](super::Methods).
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain<R = CloneRequest> {
    replay: R,
}

impl<R> Plain<R> {
    /// Creates a protocol whose requests are copied by `replay`.
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

    fn last(&self, kept: R::Request) -> R::Request {
        self.replay.last(kept)
    }

    fn unreplayable(&self, kept: &R::Request) -> Option<Unreplayable> {
        self.replay.unreplayable(kept)
    }

    fn extension<'a, T: Send + Sync + 'static>(&self, kept: &'a R::Request) -> Option<&'a T> {
        self.replay.extension(kept)
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
    fn peek(&self, response: Res, _: GuardOf<Res>) -> Res {
        response
    }

    fn response<'a>(&self, peek: &'a mut Res) -> &'a mut Res {
        peek
    }

    fn poll_commit(&self, _: &mut Res, _: &mut Context<'_>, _: GuardOf<Res>) -> Poll<Outcome> {
        Poll::Ready(Outcome::Success)
    }

    #[inline]
    fn finish(&self, response: Res, _: Ledger) -> Res {
        response
    }
}

/// The protocol of HTTP, which needs the feature `http`.
#[cfg(not(feature = "http"))]
#[derive(Clone, Copy, Debug)]
pub enum Http {}
