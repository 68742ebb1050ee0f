//! Probes by the gRPC health protocol, against answers of all kinds.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use ::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tower::service_fn;
use tower_fleet::probe::GrpcProbe;

use super::*;

type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// The message with a status of the protocol.
fn message(status: u8) -> Vec<u8> {
    vec![0, 0, 0, 0, 2, 8, status]
}

fn trailers(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())])
}

/// A response of these frames, and a `grpc-status` in its trailers.
fn answer(frames: Vec<Vec<u8>>, code: Option<&'static str>) -> Response<Answer> {
    let frames = stream::iter(frames).map(|frame| Ok(Frame::data(Bytes::from(frame))));
    let trailers = stream::iter(code.map(|code| Ok(Frame::trailers(trailers(code)))));
    let body = StreamBody::new(frames.chain(trailers)).boxed_unsync();
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

async fn result(respond: impl Fn() -> Response<Answer> + Clone + Send + Sync + 'static) -> Result<(), String> {
    let client = service_fn(move |request: Request<Full<Bytes>>| {
        assert_eq!(request.uri(), "/grpc.health.v1.Health/Check");
        assert_eq!((request.method().as_str(), request.headers()["te"].as_bytes()), ("POST", &b"trailers"[..]));
        let response = respond();
        async { Ok::<_, Infallible>(response) }
    });
    let name = shown(&fleet::<1>().0, "a").name;
    GrpcProbe::new().probe(&name, client).await.map_err(|error| error.to_string())
}

// C43
#[tokio::test]
async fn only_serving_with_a_good_status_is_well() {
    result(|| answer(vec![message(1)], Some("0"))).await.unwrap();
    // However the frames are cut.
    result(|| answer(message(1).iter().map(|byte| vec![*byte]).collect(), Some("0"))).await.unwrap();
    for (frames, code, expected) in [
        (vec![message(2)], Some("0"), "the service is not serving"),
        (vec![message(0)], Some("0"), "the service is not serving"),
        (vec![message(3)], Some("0"), "the service is not serving"),
        (vec![], Some("0"), "the response is malformed"),
        (vec![message(1), message(1)], Some("0"), "the response is malformed"),
        (vec![vec![1, 0, 0, 0, 2, 8, 1]], Some("0"), "the response is malformed"),
        (vec![message(1)], None, "the response has no grpc-status"),
        (vec![message(1)], Some("14"), "grpc status 14"),
        (vec![message(1)], Some("nonsense"), "grpc status 2"),
        (vec![], Some("5"), "grpc status 5"),
    ] {
        let found = result(move || answer(frames.clone(), code)).await;
        assert_eq!(found.unwrap_err(), expected);
    }
}

// C43: gRFC A17.
#[tokio::test]
async fn a_server_without_the_health_service_is_well() {
    let bare = |code: &'static str| {
        move || {
            let mut response = answer(Vec::new(), None);
            response.headers_mut().extend(trailers(code));
            response
        }
    };
    result(bare("12")).await.unwrap();
    result(|| answer(Vec::new(), Some("12"))).await.unwrap();
    // Trailers-only responses of other kinds are failures, and so is an empty success.
    assert_eq!(result(bare("14")).await.unwrap_err(), "grpc status 14");
    assert_eq!(result(bare("0")).await.unwrap_err(), "the response is malformed");
}

// C43, C58
#[tokio::test]
async fn what_is_not_grpc_has_failed_and_endless_answers_are_bounded() {
    let plain = || Response::new(Full::from("ok").boxed_unsync());
    assert_eq!(result(plain).await.unwrap_err(), "the response is not gRPC");
    let web = || {
        let mut response = answer(vec![message(1)], Some("0"));
        response.headers_mut().insert("content-type", "application/grpc-web".parse().unwrap());
        response
    };
    assert_eq!(result(web).await.unwrap_err(), "the response is not gRPC");
    let gone = || Response::builder().status(503).body(Full::default().boxed_unsync()).unwrap();
    assert_eq!(result(gone).await.unwrap_err(), "status 503");
    for size in [0, 1, 1_000_000] {
        let frames = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&frames);
        let endless = move || {
            let counter = Arc::clone(&counter);
            let items = stream::repeat_with(move || {
                counter.fetch_add(1, SeqCst);
                Ok(Frame::data(Bytes::from(vec![0; size])))
            });
            answer(Vec::new(), None).map(|_| StreamBody::new(items).boxed_unsync())
        };
        assert_eq!(result(endless).await.unwrap_err(), "the response is too long");
        assert!(frames.load(SeqCst) <= 4097);
    }
}

// C58
#[test]
fn the_name_of_a_service_has_a_bound() {
    assert!(GrpcProbe::<Full<Bytes>>::new().service(&"x".repeat(1024)).is_ok());
    let error = GrpcProbe::<Full<Bytes>>::new().service(&"x".repeat(1025)).unwrap_err();
    assert_eq!((error.field(), error.reason()), ("service", "must have at most 1024 bytes"));
}
