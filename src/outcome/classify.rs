//! The trait of classifiers, and those that do not depend on HTTP.

use std::fmt;

use super::{BoxError, CallGuard, Headroom, Outcome, PriorityClass, error::inspect};
use crate::{body::Upload, key::KeySource};

/// A classifier, which decides the outcomes of calls.
///
/// The methods are called in this order for each call: [`request`](Self::request), [`upload`](Self::upload), then either
/// [`error`](Self::error), or [`response`](Self::response) and [`watch`](Self::watch). They are called for every
/// request, so they should neither block nor allocate.
///
/// Errors are passed as [`BoxError`], so that one classifier fits services with concrete and with boxed errors.
/// [`inspect`] finds the outcome in their source chain.
///
/// For a rule that needs nothing but the response or the error, see [`classify_fn`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot classify responses of type `{Res}`",
    note = "a fleet classifies HTTP responses by default: for services that are not HTTP, build it with `Fleet::plain()`"
)]
pub trait Classify<Req, Res>: Clone + Send + Sync + 'static {
    /// The state of the classifier for one call: made from its request, and updated from the head of its response. `()`
    /// for most classifiers.
    type Call: Send + 'static;

    /// What the caller gets in place of the response: the response itself, or one whose body is watched to its end.
    type Watched;

    /// Whether [`watch`](Self::watch) keeps the guard. Default `true`.
    ///
    /// If `false`, the call ends with the head of its response, and `watch` gets an empty guard. That is faster.
    const WATCHES: bool = true;

    /// Whether the watched response reports its first byte with [`CallGuard::first_byte`]. Default `false`: the time to
    /// the head is measured, for strategies such as [`PeakEwma`](crate::pick::PeakEwma).
    const REPORTS_FIRST_BYTE: bool = false;

    /// Returns the state for a call that begins.
    fn request(&self, request: &Req) -> Self::Call;

    /// Returns the upload of the request's body, if there is one to wait for. What an attempt waits for the caller is
    /// then not charged to the backend.
    ///
    /// A classifier of HTTP requests finds it in the extensions: `request.extensions().get().cloned()`. Default `None`.
    fn upload(&self, request: &Req) -> Option<Upload> {
        let _ = request;
        None
    }

    /// Returns the priority class of a request, for a fleet with [`WhenFull::Queue`](crate::WhenFull::Queue).
    ///
    /// A classifier of HTTP requests finds it in the extensions: `request.extensions().get().copied()`. Default
    /// [`PriorityClass::NORMAL`].
    fn class(&self, request: &Req) -> PriorityClass {
        let _ = request;
        PriorityClass::NORMAL
    }

    /// Returns the key of a request, for a strategy that sends equal keys to one backend, such as
    /// [`Hash`](crate::pick::Hash). `None` if the request has none from this source.
    ///
    /// Called once per request, before its first attempt, if the strategy of the door has a source. A classifier of HTTP
    /// requests returns `source.key_of(request)`. Keys need not be spread evenly. Default `None`.
    fn key(&self, request: &Req, source: &KeySource) -> Option<u64> {
        let _ = (request, source);
        None
    }

    /// Classifies a response by its head.
    fn response(&self, call: &mut Self::Call, response: &Res) -> Verdict;

    /// Returns what a response states to be left of the rate limit of its backend. `None` if it states nothing.
    ///
    /// Called for good heads only, and only in a fleet with [`FleetBuilder::headroom`](crate::fleet::FleetBuilder::headroom).
    /// Default `None`.
    fn headroom(&self, response: &Res) -> Option<Headroom> {
        let _ = response;
        None
    }

    /// Classifies a call that returned an error.
    fn error(&self, call: Self::Call, error: &BoxError) -> Outcome;

    /// Returns what the caller gets in place of the response. What the body needs to be classified is in `call`.
    ///
    /// The call is in flight while `guard` is held, so a classifier moves it into the body. Dropping it ends the call
    /// with its head. The door records the verdict on the head; the body records its outcome through the guard.
    fn watch(call: Self::Call, response: Res, guard: CallGuard) -> Self::Watched;

    /// Returns the guard that a watched response holds, if it does.
    ///
    /// A [`Failover`](crate::Failover) that commits later than the head needs it to record the outcome with the commit.
    /// Without it, the outcome of the head is recorded before the commit. Default `None`.
    fn guard(watched: &mut Self::Watched) -> Option<&mut CallGuard> {
        let _ = watched;
        None
    }
}

/// What a classifier knows of a call from the head of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The outcome is known. If it is a success, a failure of the body can still replace it.
    Now(Outcome),
    /// The head is good, and the end of the body decides.
    AtEnd,
}

/// A classifier for which every response is a success. Errors are classified by [`inspect`].
///
/// For services that are not HTTP. A call is in flight until its response is returned.
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
    fn watch((): (), response: Res, _: CallGuard) -> Res {
        response
    }
}

/// Creates a classifier from a function of the response or the error.
///
/// A call is in flight until its response is returned. To watch the body, or to tell the time of a caller's
/// [upload](Classify::upload) from that of the backend, implement [`Classify`].
pub fn classify_fn<F, Res>(decide: F) -> ClassifyFn<F>
where
    F: Fn(Result<&Res, &BoxError>) -> Outcome + Clone + Send + Sync + 'static,
{
    ClassifyFn { decide }
}

/// A classifier made of a function. Made by [`classify_fn`].
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
    fn watch((): (), response: Res, _: CallGuard) -> Res {
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

    use super::{super::call_guard::recorder::Recorder, *};
    use crate::outcome::FailureKind;

    fn error_of<C: Classify<(), u8, Call = ()>>(classifier: &C, error: impl Into<BoxError>) -> Outcome {
        classifier.error((), &error.into())
    }

    #[test]
    fn errors_only_ignores_responses() {
        // C31
        let mut call = ();
        let verdict = Classify::<(), u8>::response(&ErrorsOnly, &mut call, &0);
        assert_eq!(verdict, Verdict::Now(Outcome::Success));
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(error_of(&ErrorsOnly, reset), FailureKind::Transport.into());
        assert_eq!(error_of(&ErrorsOnly, "something else"), FailureKind::Other.into());
    }

    #[test]
    fn a_closure_classifies_responses_and_errors() {
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

    /// What a door does with any classifier.
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
                Ok(C::watch(call, response, guard))
            }
            Err(error) => {
                let error = error.into();
                guard.outcome(&classifier.error(call, &error));
                Err(error)
            }
        }
    }

    #[tokio::test]
    async fn a_door_works_with_any_classifier_and_service() {
        fn send<T: Send>(value: T) -> T {
            value
        }
        let service = tower::service_fn(|request: u8| async move {
            if request == 0 { Err(io::Error::from(io::ErrorKind::BrokenPipe)) } else { Ok(request) }
        });
        for (request, outcome) in [(1, Outcome::Success), (0, FailureKind::Transport.into())] {
            let recorder = Arc::new(Recorder::default());
            let _ = send(attempt(ErrorsOnly, service, request, recorder.guard())).await;
            assert_eq!(recorder.outcomes(), [outcome]);
        }
        let boxed = tower::service_fn(|_: u8| async { Err::<u8, _>(BoxError::from("boxed")) });
        let never = tower::service_fn(|request: u8| async move { Ok::<_, Infallible>(request) });
        assert!(attempt(ErrorsOnly, boxed, 1, Arc::new(Recorder::default()).guard()).await.is_err());
        assert_eq!(attempt(ErrorsOnly, never, 1, Arc::new(Recorder::default()).guard()).await.unwrap(), 1);
    }
}
