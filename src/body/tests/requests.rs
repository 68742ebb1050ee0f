//! Copies of requests, the layer, and `tower::retry`.

use std::future::{Ready, ready};

use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tower::retry::{Policy, RetryLayer};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use super::{
    super::{CloneRequest, Once, Replay, ReplayLayer, replay_fn},
    *,
};

#[derive(Clone, Debug, PartialEq)]
struct Tenant(u8);

// C24
#[test]
fn each_copy_equals_the_original_request() {
    let layer = ReplayLayer::new();
    let request = Request::builder()
        .method(Method::PUT)
        .uri("/a?b")
        .version(Version::HTTP_2)
        .header("x-many", "1")
        .header("x-many", "2")
        .extension(Tenant(7))
        .body(Full::new(Bytes::from_static(b"hello")))
        .unwrap();
    let kept = layer.keep(request);
    let mut changed = layer.again(&kept).unwrap();
    *changed.uri_mut() = Uri::from_static("/elsewhere");
    changed.headers_mut().insert("authorization", "one backend's".parse().unwrap());
    changed.extensions_mut().clear();
    let _ = data(changed.body_mut());
    drop(changed);

    for request in [layer.again(&kept).unwrap(), kept] {
        assert_eq!(request.method(), Method::PUT);
        assert_eq!(request.uri(), "/a?b");
        assert_eq!(request.version(), Version::HTTP_2);
        assert_eq!(request.headers().len(), 2);
        let many: Vec<_> = request.headers().get_all("x-many").iter().collect();
        assert_eq!(many, ["1", "2"]);
        assert_eq!(request.extensions().get(), Some(&Tenant(7)));
        assert_eq!(read(request.into_body()).bytes, b"hello");
    }
}

// C21
#[test]
fn the_reason_why_a_request_cannot_be_copied_is_returned() {
    let layer = ReplayLayer::new().limit(4);
    let kept = layer.keep(Request::new(Full::new(Bytes::from_static(b"hello"))));
    assert_eq!(layer.again(&kept).unwrap_err(), Unreplayable::TooLarge { limit: 4 });
    assert_eq!(read(kept.into_body()).bytes, b"hello");

    let none = ReplayLayer::new().limit(0);
    assert!(none.again(&none.keep(Request::new(Empty::<Bytes>::new()))).is_ok());
}

// C21
#[test]
fn requests_that_are_not_http_can_be_copied() {
    fn attempts<R: Replay<u8>>(replay: &R) -> usize {
        let kept = replay.keep(1);
        1 + usize::from(replay.again(&kept).is_ok())
    }
    assert_eq!(attempts(&CloneRequest), 2);
    assert_eq!(attempts(&Once), 1);
    assert_eq!(attempts(&replay_fn(|request: &u8| Some(*request))), 2);
    assert_eq!(attempts(&replay_fn(|_: &u8| None)), 1);
}

/// A retry policy of up to `.0` attempts, while the request can be sent again.
#[derive(Clone)]
struct Attempts(usize);

impl<B, R, E> Policy<Request<ReplayBody<B>>, Response<R>, E> for Attempts
where
    B: Body<Error: Into<tower::BoxError>>,
{
    type Future = Ready<()>;

    fn retry(
        &mut self,
        request: &mut Request<ReplayBody<B>>,
        result: &mut Result<Response<R>, E>,
    ) -> Option<Self::Future> {
        self.0 -= 1;
        let failed = !matches!(result, Ok(response) if response.status().is_success());
        let is_whole = request.body().unreplayable().is_none();
        (failed && is_whole && self.0 > 0).then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<ReplayBody<B>>) -> Option<Request<ReplayBody<B>>> {
        ReplayLayer::new().again(request).ok()
    }
}

// C33
#[tokio::test(start_paused = true)]
async fn tower_retry_sends_a_body_that_is_not_clone() {
    for (limit, attempts) in [(ROOMY, 3), (3, 1)] {
        let memory = ReplayMemory::new(ROOMY);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let backend = service_fn(|request: Request<ReplayBody<TestBody>>| {
            let seen = Arc::clone(&seen);
            async move {
                let bytes = request.into_body().collect().await?.to_bytes();
                seen.lock().unwrap().push(bytes);
                let mut response = Response::new(());
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                Ok::<_, ReplayError>(response)
            }
        });
        let mut service = ServiceBuilder::new()
            .layer(ReplayLayer::new().limit(limit).memory(memory.clone()))
            .layer(RetryLayer::new(Attempts(3)))
            .service(backend);
        let source = TestSource::default();
        source.data("he");
        source.data("llo");
        source.end();
        let request = Request::new(source.body());
        let response = service.ready().await.unwrap().call(request).await;
        assert_eq!(response.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(*seen.lock().unwrap(), vec!["hello"; attempts]);
        assert_eq!(memory.used(), 0);
    }
}

// C24
#[tokio::test]
async fn the_layer_forwards_readiness() {
    let (mut service, mut handle) = tower_test::mock::spawn_with(|mock| tower::Layer::layer(&ReplayLayer::new(), mock));
    handle.allow(0);
    assert!(service.poll_ready().is_pending());
    handle.allow(1);
    assert!(service.poll_ready().is_ready());
    let request: Request<Empty<Bytes>> = Request::default();
    let response = service.call(request);
    let (_, reply): (Request<ReplayBody<Empty<Bytes>>>, _) = handle.next_request().await.unwrap();
    reply.send_response("done");
    assert_eq!(response.await.unwrap(), "done");
}

// C33
#[tokio::test]
async fn boxed_sources_that_are_not_unpin_work() {
    let stream = futures::stream::once(async { Ok::<_, Infallible>(Frame::data(Bytes::from("a"))) });
    let body = ReplayBody::new(Box::pin(StreamBody::new(stream)));
    let again = body.again().unwrap();
    assert_eq!(again.collect().await.unwrap().to_bytes(), "a");
    assert_eq!(body.collect().await.unwrap().to_bytes(), "a");
}
