//! Classifiers of `tower_http`, plugged in.

use std::{fmt, mem};

use http::{HeaderMap, Request, Response};
use http_body::Body;
use tower_http::classify::{
    ClassifiedResponse, ClassifyEos, ClassifyResponse, GrpcFailureClass, MakeClassifier, ServerErrorsFailureClass,
    StatusInRangeFailureClass,
};

use super::{
    super::{BoxError, CallGuard, Classify, Failure, FailureKind, Outcome, Verdict, inspect},
    ClassifyEnd, WatchedBody,
    classify::broken_off,
    retry_after,
};

/// Any [`MakeClassifier`] of `tower_http`, those that wait for the end of the stream included.
///
/// Its verdict on responses stands. Its verdict on errors is always "failure"; what kind, and
/// whether the caller rather than the backend was the cause, is read from the error itself.
/// `Retry-After` is added to failures that do not say it.
///
/// ```
/// use tower_fleet::outcome::{FailureKind, TowerHttp};
/// use tower_http::classify::{GrpcErrorsAsFailures, StatusInRangeAsFailures};
///
/// let classifier = TowerHttp::new(GrpcErrorsAsFailures::make_classifier());
///
/// // A failure class that we do not know needs a word of explanation.
/// let classifier = TowerHttp::with(StatusInRangeAsFailures::new(400..=599).into_make_classifier(), |_class| {
///     FailureKind::Custom("not good").into()
/// });
/// # let _ = classifier;
/// ```
#[derive(Clone)]
pub struct TowerHttp<M, F> {
    make: M,
    explain: F,
}

/// What [`TowerHttp`] remembers of one call, and its judge of the end of the body.
pub struct TowerHttpCall<C, E, F> {
    stage: Stage<C, E>,
    explain: F,
}

enum Stage<C, E> {
    /// The response is awaited.
    Head(C),
    /// The end of the stream will decide.
    End(E),
    /// The head has decided.
    Decided,
}

impl<M> TowerHttp<M, fn(M::FailureClass) -> Failure>
where
    M: MakeClassifier,
    M::FailureClass: Into<Failure>,
{
    /// Takes a classifier whose failure class is one of `tower_http`'s own, or a [`Failure`].
    pub fn new(make: M) -> Self {
        Self { make, explain: Into::into }
    }
}

impl<M, F> TowerHttp<M, F>
where
    M: MakeClassifier,
    F: Fn(M::FailureClass) -> Failure,
{
    /// Takes any classifier, and a function that says what its failure class means. For errors the
    /// function may leave the kind at [`Other`](FailureKind::Other), and it is read from the error.
    pub fn with(make: M, explain: F) -> Self {
        Self { make, explain }
    }
}

impl<M, F, A, B> Classify<Request<A>, Response<B>> for TowerHttp<M, F>
where
    M: MakeClassifier + Clone + Send + Sync + 'static,
    M::Classifier: Send + 'static,
    M::ClassifyEos: Send + 'static,
    F: Fn(M::FailureClass) -> Failure + Clone + Send + Sync + 'static,
    B: Body,
    B::Error: Into<BoxError>,
{
    type Call = TowerHttpCall<M::Classifier, M::ClassifyEos, F>;
    type Watched = Response<WatchedBody<B, Self::Call>>;

    fn request(&self, request: &Request<A>) -> Self::Call {
        TowerHttpCall { stage: Stage::Head(self.make.make_classifier(request)), explain: self.explain.clone() }
    }

    fn response(&self, call: &mut Self::Call, response: &Response<B>) -> Verdict {
        let Stage::Head(classifier) = mem::replace(&mut call.stage, Stage::Decided) else {
            return Verdict::AtEnd;
        };
        match classifier.classify_response(response) {
            ClassifiedResponse::Ready(Ok(())) => Verdict::Now(Outcome::Success),
            ClassifiedResponse::Ready(Err(class)) => {
                Verdict::Now(dated((call.explain)(class), Some(response.headers())))
            }
            ClassifiedResponse::RequiresEos(eos) => {
                call.stage = Stage::End(eos);
                Verdict::AtEnd
            }
        }
    }

    fn error(&self, call: Self::Call, error: &BoxError) -> Outcome {
        let Stage::Head(classifier) = call.stage else {
            return inspect(&**error);
        };
        refined((call.explain)(classifier.classify_error(error)), inspect(&**error))
    }

    fn watch(&self, call: Self::Call, response: Response<B>, guard: CallGuard) -> Self::Watched {
        WatchedBody::watch(call, response, guard)
    }

    fn guard(watched: &mut Self::Watched) -> Option<&mut CallGuard> {
        watched.body_mut().guard()
    }
}

impl<C, E, F> ClassifyEnd for TowerHttpCall<C, E, F>
where
    E: ClassifyEos,
    F: Fn(E::FailureClass) -> Failure,
{
    fn end(self, trailers: Option<&HeaderMap>) -> Outcome {
        let Stage::End(eos) = self.stage else {
            return Outcome::Success;
        };
        match eos.classify_eos(trailers) {
            Ok(()) => Outcome::Success,
            Err(class) => dated((self.explain)(class), trailers),
        }
    }

    fn error(self, error: &BoxError) -> Outcome {
        let found = broken_off(error).outcome;
        let Stage::End(eos) = self.stage else {
            return found;
        };
        refined((self.explain)(eos.classify_error(error)), found)
    }
}

/// A failure with the `Retry-After` of these headers, unless it has one.
fn dated(failure: Failure, headers: Option<&HeaderMap>) -> Outcome {
    if failure.retry_delay().is_some() {
        return failure.into();
    }
    failure.retry_after(headers.and_then(retry_after::from_headers)).into()
}

/// A failure whose kind is unknown, with what was found in the error. What is nobody's failure
/// stays nobody's.
fn refined(failure: Failure, found: Outcome) -> Outcome {
    if failure.kind() == FailureKind::Other || found.is_neutral() { found } else { failure.into() }
}

impl From<ServerErrorsFailureClass> for Failure {
    fn from(class: ServerErrorsFailureClass) -> Self {
        match class {
            ServerErrorsFailureClass::StatusCode(code) => FailureKind::Status(code.as_u16()).into(),
            ServerErrorsFailureClass::Error(_) => FailureKind::Other.into(),
        }
    }
}

impl From<StatusInRangeFailureClass> for Failure {
    fn from(class: StatusInRangeFailureClass) -> Self {
        match class {
            StatusInRangeFailureClass::StatusCode(code) => FailureKind::Status(code.as_u16()).into(),
            StatusInRangeFailureClass::Error(_) => FailureKind::Other.into(),
        }
    }
}

impl From<GrpcFailureClass> for Failure {
    fn from(class: GrpcFailureClass) -> Self {
        match class {
            GrpcFailureClass::Status(status) => FailureKind::Grpc(status.code_raw()).into(),
            _ => FailureKind::Other.into(),
        }
    }
}

impl<M: fmt::Debug, F> fmt::Debug for TowerHttp<M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TowerHttp").field("make", &self.make).finish_non_exhaustive()
    }
}

impl<C, E, F> fmt::Debug for TowerHttpCall<C, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Head(_) => "head",
            Stage::End(_) => "end",
            Stage::Decided => "decided",
        };
        f.debug_struct("TowerHttpCall").field("stage", &stage).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "tower_http_tests.rs"]
mod tests;
