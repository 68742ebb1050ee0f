//! Who decides what came of a call.

use std::fmt;

use super::{BoxError, CallGuard, Outcome, error::inspect};

/// Decides what came of a call.
///
/// The methods follow one call in order: [`request`](Self::request), then either
/// [`error`](Self::error), or [`response`](Self::response) and, for the response that goes to the
/// caller, [`watch`](Self::watch). Facts come borrowed and a plain [`Outcome`] goes back; nothing
/// here allocates or waits.
///
/// Errors arrive as [`BoxError`], as everywhere in tower: one type for services whose error is
/// concrete and those whose error is boxed already, and a chain of sources to look into.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot tell what came of a call that answers with `{Res}`",
    note = "a fleet classifies HTTP responses by default: for services that are not HTTP, build it with `Fleet::plain()`"
)]
pub trait Classify<Req, Res>: Clone + Send + Sync + 'static {
    /// What has to be remembered of one call: facts from its request first, from the head of its
    /// response later. `()` for most.
    type Call: Send + 'static;

    /// What the caller gets in place of the response: the same, or one whose body is watched to its
    /// end.
    type Watched;

    /// Whether [`watch`](Self::watch) keeps the guard. One that does not says so: then the call ends with the head of its
    /// response, and the guard it gets is an empty one.
    const WATCHES: bool = true;

    /// A call begins.
    fn request(&self, request: &Req) -> Self::Call;

    /// A response is there, or its head at least.
    fn response(&self, call: &mut Self::Call, response: &Res) -> Verdict;

    /// The call ended with an error.
    fn error(&self, call: Self::Call, error: &BoxError) -> Outcome;

    /// Makes what the caller gets of a response. The call is in flight while `guard` is held, which therefore goes
    /// into the body; a classifier that drops it ends the call with its head.
    ///
    /// The verdict on the head is recorded by the attempt; what the body shows is recorded through the guard.
    fn watch(&self, call: Self::Call, response: Res, guard: CallGuard) -> Self::Watched;

    /// The guard in a watched response, if it holds one.
    ///
    /// With it a commit point behind the head decides what is recorded; without it the head does.
    fn guard(watched: &mut Self::Watched) -> Option<&mut CallGuard> {
        let _ = watched;
        None
    }
}

/// What is known when the head of a response is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What came of the call is known; only a body that breaks off can make it worse.
    Now(Outcome),
    /// Nothing speaks against the response, and the end of its body decides.
    AtEnd,
}

/// Every response is a success; errors are looked into with [`inspect`].
///
/// For services that are not HTTP. The call counts as in flight until the response is handed over.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorsOnly;

impl<Req, Res> Classify<Req, Res> for ErrorsOnly {
    type Call = ();
    type Watched = Res;
    const WATCHES: bool = false;

    fn request(&self, _: &Req) {}

    fn response(&self, (): &mut (), _: &Res) -> Verdict {
        Verdict::Now(Outcome::Success)
    }

    fn error(&self, (): (), error: &BoxError) -> Outcome {
        inspect(&**error)
    }

    #[inline(always)]
    fn watch(&self, (): (), response: Res, _: CallGuard) -> Res {
        response
    }
}

/// A classifier made of one function over responses and errors.
///
/// The call counts as in flight until the response is handed over; to follow its body, implement
/// [`Classify`].
pub fn classify_fn<F, Res>(decide: F) -> ClassifyFn<F>
where
    F: Fn(Result<&Res, &BoxError>) -> Outcome + Clone + Send + Sync + 'static,
{
    ClassifyFn { decide }
}

/// Made by [`classify_fn`].
#[derive(Clone, Copy)]
pub struct ClassifyFn<F> {
    decide: F,
}

impl<F, Req, Res> Classify<Req, Res> for ClassifyFn<F>
where
    F: Fn(Result<&Res, &BoxError>) -> Outcome + Clone + Send + Sync + 'static,
{
    type Call = ();
    type Watched = Res;
    const WATCHES: bool = false;

    fn request(&self, _: &Req) {}

    fn response(&self, (): &mut (), response: &Res) -> Verdict {
        Verdict::Now((self.decide)(Ok(response)))
    }

    fn error(&self, (): (), error: &BoxError) -> Outcome {
        (self.decide)(Err(error))
    }

    #[inline(always)]
    fn watch(&self, (): (), response: Res, _: CallGuard) -> Res {
        response
    }
}

impl<F> fmt::Debug for ClassifyFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassifyFn").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, io, sync::Arc};

    use super::{super::call_guard::seen::Seen, *};
    use crate::outcome::FailureKind;

    fn error_of<C: Classify<(), u8, Call = ()>>(classifier: &C, error: impl Into<BoxError>) -> Outcome {
        classifier.error((), &error.into())
    }

    #[test]
    fn errors_only_looks_at_errors_only() {
        // C31
        let mut call = ();
        let verdict = Classify::<(), u8>::response(&ErrorsOnly, &mut call, &0);
        assert_eq!(verdict, Verdict::Now(Outcome::Success));
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(error_of(&ErrorsOnly, reset), FailureKind::Transport.into());
        assert_eq!(error_of(&ErrorsOnly, "something else"), FailureKind::Other.into());
    }

    #[test]
    fn a_closure_decides_over_both() {
        // C29, C31
        let odd_is_bad = classify_fn(|result: Result<&u8, &BoxError>| match result {
            Ok(number) if number % 2 == 1 => FailureKind::Custom("odd").into(),
            Ok(_) => Outcome::Success,
            Err(error) if error.is::<io::Error>() => FailureKind::Transport.into(),
            Err(_) => Outcome::Neutral,
        });
        let now = |number: u8| Classify::<(), u8>::response(&odd_is_bad, &mut (), &number);
        assert_eq!(now(1), Verdict::Now(FailureKind::Custom("odd").into()));
        assert_eq!(now(2), Verdict::Now(Outcome::Success));
        assert_eq!(error_of(&odd_is_bad, io::Error::other("x")), FailureKind::Transport.into());
        assert_eq!(error_of(&odd_is_bad, "x"), Outcome::Neutral);
    }

    /// What a door does with a classifier, without knowing which.
    async fn attempt<C, S, Req>(
        classifier: C,
        service: S,
        request: Req,
        mut guard: CallGuard,
    ) -> Result<C::Watched, BoxError>
    where
        S: tower::Service<Req, Error: Into<BoxError>>,
        C: Classify<Req, S::Response>,
    {
        let mut call = classifier.request(&request);
        match tower::ServiceExt::oneshot(service, request).await {
            Ok(response) => {
                if let Verdict::Now(outcome) = classifier.response(&mut call, &response) {
                    guard.outcome(&outcome);
                }
                Ok(classifier.watch(call, response, guard))
            }
            Err(error) => {
                let error = error.into();
                guard.outcome(&classifier.error(call, &error));
                Err(error)
            }
        }
    }

    #[tokio::test]
    async fn a_door_need_not_know_which_classifier_it_has() {
        fn send<T: Send>(value: T) -> T {
            value
        }
        let service = tower::service_fn(|request: u8| async move {
            if request == 0 { Err(io::Error::from(io::ErrorKind::BrokenPipe)) } else { Ok(request) }
        });
        for (request, outcome) in [(1, Outcome::Success), (0, FailureKind::Transport.into())] {
            let seen = Arc::new(Seen::default());
            let _ = send(attempt(ErrorsOnly, service, request, seen.guard())).await;
            assert_eq!(seen.outcomes(), [outcome]);
        }
        let boxed = tower::service_fn(|_: u8| async { Err::<u8, _>(BoxError::from("boxed")) });
        let never = tower::service_fn(|request: u8| async move { Ok::<_, Infallible>(request) });
        assert!(attempt(ErrorsOnly, boxed, 1, Arc::new(Seen::default()).guard()).await.is_err());
        assert_eq!(attempt(ErrorsOnly, never, 1, Arc::new(Seen::default()).guard()).await.unwrap(), 1);
    }
}
