//! The end of an attempt: by the head of its response, at its commit point, or without a response.

use tower::BoxError;
use tower_service::Service;

use super::{Commit, Follow, Rejected, settings::Policy};
use crate::{
    body::Replay,
    outcome::{Classify, Failure, Outcome},
    time::Moment,
};

/// The future of a service of type `S` with the requests of `H`.
pub(super) type CallFuture<S, H, Req> = <S as Service<<H as Replay<Req>>::Request>>::Future;

/// The state of the classifier for such a call.
pub(super) type CallState<S, H, C, Req> =
    <C as Classify<<H as Replay<Req>>::Request, <S as Service<<H as Replay<Req>>::Request>>::Response>>::Call;

/// The response as the classifier makes it.
pub(super) type Watched<S, H, C, Req> =
    <C as Classify<<H as Replay<Req>>::Request, <S as Service<<H as Replay<Req>>::Request>>::Response>>::Watched;

/// The response while its beginning is read.
pub(super) type Peek<S, H, C, Req> = <H as Commit<Watched<S, H, C, Req>>>::Peek;

/// The end of an attempt.
pub(super) struct AttemptEnd<K> {
    /// The index of its ledger entry.
    pub(super) entry: usize,
    pub(super) started: Moment,
    pub(super) end: End<K>,
}

pub(super) enum End<K> {
    /// The response is final.
    Final(K),
    /// The response is a failure, or its status fires a trigger. It may still be passed through.
    Response(K, Outcome),
    /// The response is a rejection, with the failure that it is to the failover.
    Rejected(K, Rejected, Failure),
    /// There is no response; and no error if the backend panicked.
    Error(Option<BoxError>, Outcome),
}

/// A response whose body has to be read before it is final, with the outcome of its head; or the end of the attempt.
type Inspected<K> = Result<(K, Outcome), End<K>>;

/// Decides by the head of a response whether the attempt ends.
pub(super) fn inspect_head<S, H, C, Req>(
    mut watched: Watched<S, H, C, Req>,
    outcome: Outcome,
    policy: &Policy<H>,
) -> Inspected<Peek<S, H, C, Req>>
where
    S: Service<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Response>,
{
    let status = policy.protocol.status(&watched);
    let tripped = policy.settings.on_status(outcome, status);
    if policy.protocol.may_reject(&watched) {
        return Ok((policy.protocol.peek(watched, C::guard), tripped.unwrap_or(outcome)));
    }
    if let Some(outcome) = tripped {
        // To the classifier it is no failure, and is committed: only the failover's list of statuses makes it one.
        if let Some(guard) = C::guard(&mut watched) {
            guard.commit();
        }
        return Err(End::Response(policy.protocol.peek(watched, C::guard), outcome));
    }
    let peek = policy.protocol.peek(watched, C::guard);
    match outcome {
        Outcome::Failure(_) => Err(End::Response(peek, outcome)),
        _ if policy.protocol.is_at_head() => Err(End::Final(peek)),
        _ => Ok((peek, outcome)),
    }
}

/// Records the outcome at the commit point, and ends the attempt. `head` is the outcome of the head, `read` that of what
/// was read after it.
pub(super) fn record_commit<S, H, C, Req>(
    mut peek: Peek<S, H, C, Req>,
    head: Outcome,
    read: Outcome,
    policy: &Policy<H>,
) -> End<Peek<S, H, C, Req>>
where
    S: Service<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Response>,
{
    if let Some(rejected) = policy.protocol.rejection(&peek) {
        let failure = rejected.failure(&head);
        if let Some(guard) = C::guard(policy.protocol.response(&mut peek)) {
            if rejected.is_failure { guard.refuse(&failure.into()) } else { guard.commit() }
        }
        return if rejected.follow == Follow::Answer {
            End::Final(peek)
        } else {
            End::Rejected(peek, rejected, failure)
        };
    }
    let mut outcome = if head.is_failure() { head } else { read };
    if let Some(guard) = C::guard(policy.protocol.response(&mut peek)) {
        match guard.verdict().filter(Outcome::is_failure) {
            // Of an error only the head counts, whatever became of its body.
            Some(_) if read.is_neutral() => guard.commit(),
            // The classifier watches the body too, and has recorded a failure of its own.
            Some(failure) => outcome = failure,
            // The outcome of the head is recorded, or is none to the classifier.
            None if head.is_failure() => guard.commit(),
            None if outcome.is_failure() => guard.refuse(&outcome),
            None => guard.commit(),
        }
    }
    match outcome {
        Outcome::Failure(_) => End::Response(peek, outcome),
        _ => End::Final(peek),
    }
}
