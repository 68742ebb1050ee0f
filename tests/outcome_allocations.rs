//! The default classifier costs a good call no allocation. Counted by the allocator, per thread.
#![cfg(feature = "http")]

use std::{
    convert::Infallible,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tower_fleet::outcome::{BoxError, Classify, HttpClassifier, Outcome, Record, Report, Ticket, Verdict};

struct Ignore;

impl Record for Ignore {
    fn record(&self, _: Ticket, _: &Outcome) {}
}

/// Trailers and nothing else, made beforehand.
struct Trailers(Option<HeaderMap>);

impl Body for Trailers {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}

/// One call, from the request to the end of the body.
fn call<B: Body<Error: Into<BoxError>>>(request: &Request<()>, response: Response<B>, to: Arc<dyn Record>) {
    let classifier = HttpClassifier::new();
    let mut report = Report::new(to, Ticket::default());
    let mut call = Classify::<_, Response<B>>::request(&classifier, request);
    if let Verdict::Now(outcome) = Classify::<Request<()>, _>::response(&classifier, &mut call, &response) {
        assert_eq!(outcome, Outcome::Success);
        report.outcome(&outcome);
    }
    let mut body = pin!(Classify::<Request<()>, _>::watch(&classifier, call, response, report).into_body());
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut cx) {
        assert!(frame.is_ok());
    }
}

#[test]
fn a_good_call_allocates_nothing() {
    let (request, record) = (Request::new(()), Arc::new(Ignore));
    let plain = Response::new(Full::new(Bytes::from_static(b"hello")));
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    let mut grpc = Response::new(Trailers(Some(trailers)));
    grpc.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));

    let counted = allocation_counter::measure(|| {
        call(&request, plain, record.clone());
        call(&request, grpc, record.clone());
    });
    assert_eq!(counted.count_total, 0);
    let control = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(control.count_total, 1, "the counter counts");
}
