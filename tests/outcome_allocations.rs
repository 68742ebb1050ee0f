//! The default classifier costs a good call no allocation. Counted by the allocator, per thread.
#![cfg(feature = "http")]

use std::{
    convert::Infallible,
    future::ready,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tower::{Layer, Service, service_fn};
use tower_fleet::{
    CircuitBreakerLayer, CircuitPolicy, CircuitState,
    outcome::{BoxError, Classify, HttpClassifier, Outcome, Verdict},
};

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

/// The allocations of one call, from the request to the end of the body, by a service that answers with the body of its request.
fn allocations<B>(response: Response<B>, expected: Verdict) -> u64
where
    B: Body<Error: Into<BoxError>> + Send + 'static,
{
    let echo = service_fn(|request: Request<Response<B>>| ready(Ok::<_, Infallible>(request.into_body())));
    // Opened by the first failure.
    let mut guarded =
        CircuitBreakerLayer::with_policy(CircuitPolicy::new().consecutive(1)).expect("good values").layer(echo);
    let mut cx = Context::from_waker(Waker::noop());
    let counted = allocation_counter::measure(|| {
        let classifier = HttpClassifier::new();
        let request = Request::new(response);
        let mut call = Classify::<_, Response<B>>::request(&classifier, &request);
        let verdict = Classify::<Request<()>, _>::response(&classifier, &mut call, request.body());
        assert_eq!(verdict, expected);
        assert!(matches!(guarded.poll_ready(&mut cx), Poll::Ready(Ok(()))));
        let Poll::Ready(Ok(watched)) = pin!(guarded.call(request)).poll(&mut cx) else { panic!("it answers at once") };
        let mut body = pin!(watched.into_body());
        while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut cx) {
            assert!(frame.is_ok());
        }
    });
    assert_eq!(guarded.switch().state(), CircuitState::Closed);
    counted.count_total
}

#[test]
fn a_good_call_allocates_nothing() {
    let plain = Response::new(Full::new(Bytes::from_static(b"hello")));
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    let mut grpc = Response::new(Trailers(Some(trailers)));
    grpc.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));

    assert_eq!(allocations(plain, Verdict::Now(Outcome::Success)), 0);
    assert_eq!(allocations(grpc, Verdict::AtEnd), 0);
    let control = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(control.count_total, 1, "the counter counts");
}
