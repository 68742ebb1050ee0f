//! The adapter for classifiers of `tower_http`.

use std::{fmt, mem};

use http::{HeaderMap, Request, Response};
use http_body::Body;
use tower_http::classify::{
    ClassifiedResponse, ClassifyEos, ClassifyResponse, GrpcFailureClass, MakeClassifier, ServerErrorsFailureClass,
    StatusInRangeFailureClass,
};

use super::{
    super::{BoxError, CallGuard, Classify, Failure, FailureKind, Headroom, Outcome, PriorityClass, Verdict, inspect},
    ClassifyEnd, WatchedBody,
    end::find_in_body,
    retry_after,
};
use crate::{body::Upload, key::KeySource};

/// A classifier made of a [`MakeClassifier`] of `tower_http`, also of one that waits for the end of the stream.
///
/// Responses are classified as it decides. Since every error is a failure to it, the kind of the failure, and whether
/// it is neutral, is found with [`inspect`]. The `Retry-After` of the response is added to a failure that has none.
///
/// ```
/// use tower_fleet::outcome::{FailureKind, TowerHttp};
/// use tower_http::classify::{GrpcErrorsAsFailures, StatusInRangeAsFailures};
///
/// let classifier = TowerHttp::new(GrpcErrorsAsFailures::make_classifier());
///
/// // Another failure class needs a function that converts it into a `Failure`.
/// let classifier = TowerHttp::with(StatusInRangeAsFailures::new(400..=599).into_make_classifier(), |_class| {
///     FailureKind::Custom("rejected").into()
/// });
/// # let _ = classifier;
/// ```
#[derive(Clone)]
pub struct TowerHttp<M, F> {
    make: M,
    convert: F,
}

/// The state of a [`TowerHttp`] for one call, and its [`ClassifyEnd`].
pub struct TowerHttpCall<C, E, F> {
    stage: Stage<C, E>,
    convert: F,
}

enum Stage<C, E> {
    /// Waits for the response.
    Head(C),
    /// Waits for the end of the stream.
    End(E),
    /// Was decided by the head.
    Decided,
}

impl<M> TowerHttp<M, fn(M::FailureClass) -> Failure>
where
    M: MakeClassifier,
    M::FailureClass: Into<Failure>,
{
    /// Creates a classifier from one whose failure class is of `tower_http`, or a [`Failure`].
    pub fn new(make: M) -> Self {
        Self { make, convert: Into::into }
    }
}

impl<M, F> TowerHttp<M, F>
where
    M: MakeClassifier,
    F: Fn(M::FailureClass) -> Failure,
{
    /// Creates a classifier from any other one, with a function that converts its failure class.
    ///
    /// If the function returns [`FailureKind::Other`] for an error, the kind is found with [`inspect`].
    pub fn with(make: M, convert: F) -> Self {
        Self { make, convert }
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
    const REPORTS_FIRST_BYTE: bool = true;

    fn key(&self, request: &Request<A>, source: &KeySource) -> Option<u64> {
        source.key_of(request)
    }

    fn request(&self, request: &Request<A>) -> Self::Call {
        TowerHttpCall { stage: Stage::Head(self.make.make_classifier(request)), convert: self.convert.clone() }
    }

    fn upload(&self, request: &Request<A>) -> Option<Upload> {
        request.extensions().get().cloned()
    }

    fn class(&self, request: &Request<A>) -> PriorityClass {
        request.extensions().get().copied().unwrap_or_default()
    }

    fn response(&self, call: &mut Self::Call, response: &Response<B>) -> Verdict {
        let Stage::Head(classifier) = mem::replace(&mut call.stage, Stage::Decided) else {
            return Verdict::AtEnd;
        };
        match classifier.classify_response(response) {
            ClassifiedResponse::Ready(Ok(())) => Verdict::Now(Outcome::Success),
            ClassifiedResponse::Ready(Err(class)) => {
                Verdict::Now(with_retry((call.convert)(class), Some(response.headers())))
            }
            ClassifiedResponse::RequiresEos(eos) => {
                call.stage = Stage::End(eos);
                Verdict::AtEnd
            }
        }
    }

    fn headroom(&self, response: &Response<B>) -> Option<Headroom> {
        retry_after::headroom(response.headers())
    }

    fn error(&self, call: Self::Call, error: &BoxError) -> Outcome {
        let Stage::Head(classifier) = call.stage else {
            return inspect(&**error);
        };
        refined((call.convert)(classifier.classify_error(error)), inspect(&**error))
    }

    fn watch(call: Self::Call, response: Response<B>, guard: CallGuard) -> Self::Watched {
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
            Err(class) => with_retry((self.convert)(class), trailers),
        }
    }

    fn error(self, error: &BoxError) -> Outcome {
        let found = find_in_body(error).outcome;
        let Stage::End(eos) = self.stage else {
            return found;
        };
        refined((self.convert)(eos.classify_error(error)), found)
    }
}

/// The failure, with what these headers state about a retry unless the conversion has set that.
fn with_retry(failure: Failure, headers: Option<&HeaderMap>) -> Outcome {
    match headers {
        Some(headers) if failure.leaves_retry_open() => retry_after::with_headers(failure, headers).into(),
        _ => failure.into(),
    }
}

/// The failure, or what was found in the error if the failure is of an unknown kind or the finding is neutral.
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
mod tests {
    use std::{io, sync::Arc, time::Duration};

    use bytes::Bytes;
    use futures::stream;
    use http::HeaderValue;
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    use tower_http::classify::{
        GrpcErrorsAsFailures, NeverClassifyEos, ServerErrorsAsFailures, SharedClassifier, StatusInRangeAsFailures,
    };

    use super::{super::super::call_guard::recorder::Recorder, *};

    type Frames = Vec<io::Result<Frame<Bytes>>>;
    type Stream = StreamBody<stream::Iter<std::vec::IntoIter<io::Result<Frame<Bytes>>>>>;

    fn response(status: u16, frames: Frames) -> Response<Stream> {
        Response::builder().status(status).body(StreamBody::new(stream::iter(frames))).unwrap()
    }

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    /// The verdict on the head, and all outcomes that are recorded up to the end of the body.
    async fn classified<C>(classifier: C, response: Response<Stream>) -> (Verdict, Vec<Outcome>)
    where
        C: Classify<Request<()>, Response<Stream>, Watched: Into<Response<WatchedBody<Stream, C::Call>>>>,
        C::Call: ClassifyEnd,
    {
        let recorder = Arc::new(Recorder::default());
        let mut guard = recorder.guard();
        let mut call = classifier.request(&Request::new(()));
        let verdict = classifier.response(&mut call, &response);
        if let Verdict::Now(outcome) = &verdict {
            guard.outcome(outcome);
        }
        let watched = C::watch(call, response, guard).into();
        let _ = watched.into_body().collect().await;
        (verdict, recorder.outcomes())
    }

    fn error<C: Classify<Request<()>, Response<Stream>>>(classifier: C, error: impl Into<BoxError>) -> Outcome {
        classifier.error(classifier.request(&Request::new(())), &error.into())
    }

    #[tokio::test]
    async fn server_errors_as_failures_is_a_classifier() {
        // C31
        let classifier = || TowerHttp::new(ServerErrorsAsFailures::make_classifier());
        let failure = Outcome::from(FailureKind::Status(503));
        assert_eq!(classified(classifier(), response(503, vec![])).await, (Verdict::Now(failure), vec![failure]));
        let (verdict, recorded) = classified(classifier(), response(429, vec![])).await;
        assert_eq!((verdict, recorded), (Verdict::Now(Outcome::Success), vec![Outcome::Success]));
        let broken = response(200, vec![Err(io::ErrorKind::BrokenPipe.into())]);
        assert_eq!(classified(classifier(), broken).await.1, [Outcome::Success, FailureKind::Body.into()]);
    }

    #[tokio::test]
    async fn failures_get_the_retry_after_of_the_response() {
        // C52
        let mut busy = response(503, vec![]);
        busy.headers_mut().extend(headers("retry-after", "5"));
        let expected = Failure::new(FailureKind::Status(503)).retry_after(Duration::from_secs(5));
        let (verdict, _) = classified(TowerHttp::new(ServerErrorsAsFailures::make_classifier()), busy).await;
        assert_eq!(verdict, Verdict::Now(expected.into()));

        let mut pushback = headers("grpc-status", "14");
        pushback.extend(headers("grpc-retry-pushback-ms", "-1"));
        let ended = response(200, vec![Ok(Frame::trailers(pushback))]);
        let (_, recorded) = classified(TowerHttp::new(GrpcErrorsAsFailures::make_classifier()), ended).await;
        assert_eq!(recorded, [Failure::new(FailureKind::Grpc(14)).no_retry().into()]);
    }

    #[tokio::test]
    async fn grpc_errors_as_failures_waits_for_the_end_of_the_stream() {
        // C30
        let classifier = || TowerHttp::new(GrpcErrorsAsFailures::make_classifier());
        let ended = |code| response(200, vec![Ok(Frame::trailers(headers("grpc-status", code)))]);
        assert_eq!(classified(classifier(), ended("0")).await, (Verdict::AtEnd, vec![Outcome::Success]));
        assert_eq!(classified(classifier(), ended("14")).await, (Verdict::AtEnd, vec![FailureKind::Grpc(14).into()]));
        let broken = response(200, vec![Err(io::ErrorKind::BrokenPipe.into())]);
        assert_eq!(classified(classifier(), broken).await.1, [FailureKind::Body.into()]);

        let mut trailers_only = response(200, vec![]);
        trailers_only.headers_mut().extend(headers("grpc-status", "13"));
        let failure = Outcome::from(FailureKind::Grpc(13));
        assert_eq!(classified(classifier(), trailers_only).await, (Verdict::Now(failure), vec![failure]));
    }

    #[tokio::test]
    async fn another_failure_class_is_converted_by_a_function() {
        // C29
        let make = StatusInRangeAsFailures::new(400..=499).into_make_classifier();
        let classifier = TowerHttp::with(make, |_| Failure::new(FailureKind::Custom("client")));
        let failure = Outcome::from(FailureKind::Custom("client"));
        assert_eq!(classified(classifier, response(404, vec![])).await.0, Verdict::Now(failure));

        let own = ServerErrorsAsFailures::new().map_failure_class(|_| Failure::new(FailureKind::Custom("mapped")));
        let classifier = TowerHttp::new(SharedClassifier::new(own));
        let failure = Outcome::from(FailureKind::Custom("mapped"));
        assert_eq!(classified(classifier, response(500, vec![])).await.0, Verdict::Now(failure));
    }

    #[test]
    fn the_kind_of_an_error_is_found_in_the_error() {
        // C26, C27
        let classifier = || TowerHttp::new(ServerErrorsAsFailures::make_classifier());
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(error(classifier(), refused), FailureKind::Connect.into());
        assert_eq!(error(classifier(), tower::timeout::error::Elapsed::new()), FailureKind::Timeout.into());
        assert_eq!(error(classifier(), "unknown"), FailureKind::Other.into());

        let named = TowerHttp::with(ServerErrorsAsFailures::make_classifier(), |_| FailureKind::Custom("mine").into());
        assert_eq!(error(named, "unknown"), FailureKind::Custom("mine").into());
    }

    #[tokio::test]
    async fn a_failure_of_the_caller_stays_neutral() {
        // C28
        let (near, _far) = tokio::io::duplex(64);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(near)).await.unwrap();
        tokio::spawn(connection);
        let frames = StreamBody::new(stream::iter([Err::<Frame<Bytes>, _>(io::Error::other("cancelled upload"))]));
        let upload = sender.send_request(Request::post("/").body(frames).unwrap());
        let failed = tokio::time::timeout(Duration::from_secs(20), upload).await.unwrap().unwrap_err();
        let named = TowerHttp::with(ServerErrorsAsFailures::make_classifier(), |_| FailureKind::Custom("mine").into());
        assert_eq!(error(named, failed), Outcome::Neutral);
    }

    /// A classifier that depends on the request.
    #[derive(Clone)]
    struct OnlyFor(&'static str);

    #[derive(Clone)]
    struct Bad(bool);

    impl MakeClassifier for OnlyFor {
        type Classifier = Bad;
        type FailureClass = &'static str;
        type ClassifyEos = NeverClassifyEos<&'static str>;

        fn make_classifier<B>(&self, request: &Request<B>) -> Bad {
            Bad(request.uri().path() == self.0)
        }
    }

    impl ClassifyResponse for Bad {
        type FailureClass = &'static str;
        type ClassifyEos = NeverClassifyEos<&'static str>;

        fn classify_response<B>(self, _: &Response<B>) -> ClassifiedResponse<&'static str, Self::ClassifyEos> {
            ClassifiedResponse::Ready(if self.0 { Err("bad path") } else { Ok(()) })
        }

        fn classify_error<E: fmt::Display + 'static>(self, _: &E) -> &'static str {
            "error"
        }
    }

    #[test]
    fn the_request_reaches_the_classifier() {
        let classifier = TowerHttp::with(OnlyFor("/bad"), |class| FailureKind::Custom(class).into());
        for (path, expected) in [("/good", Outcome::Success), ("/bad", FailureKind::Custom("bad path").into())] {
            let request = Request::get(path).body(()).unwrap();
            let mut call = Classify::<_, Response<Stream>>::request(&classifier, &request);
            let verdict = Classify::<Request<()>, _>::response(&classifier, &mut call, &response(200, vec![]));
            assert_eq!(verdict, Verdict::Now(expected), "{path}");
        }
    }
}
