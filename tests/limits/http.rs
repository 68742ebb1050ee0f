//! Limits over HTTP: a slot is taken up to the end of the body, and the class is an extension of the request.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt};
use tower_fleet::{Backend, Balance, FailoverLayer, Fleet, PriorityClass, RoundRobin, WhenFull, outcome::InFlight};

type Body = Full<Bytes>;

/// Answers with this status.
#[derive(Clone)]
struct Client(StatusCode);

impl<B> Service<Request<B>> for Client {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::builder().status(self.0).body(Body::from("some")).unwrap()))
    }
}

fn fleet(status: StatusCode, when_full: WhenFull) -> Fleet<Client> {
    Fleet::builder().backend(Backend::new("a", Client(status)).limit(1)).when_full(when_full).build().unwrap()
}

type Door = Balance<Client>;

async fn ready_door(door: &mut Door) -> Result<&mut Door, tower_fleet::balance::Error> {
    ServiceExt::<Request<Body>>::ready(door).await
}

// C45, C68
#[tokio::test(start_paused = true)]
async fn a_slot_is_taken_up_to_the_end_of_the_body() {
    let fleet = fleet(StatusCode::OK, WhenFull::Wait);
    let mut door = Balance::new(&fleet, RoundRobin);
    let response = ready_door(&mut door).await.unwrap().call(Request::new(Body::default())).await.unwrap();
    assert_eq!(fleet.snapshot()[0].in_flight, 1);
    assert!(ready_door(&mut door).now_or_never().is_none());
    // Read to its end.
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    assert!(body.frame().await.is_none());
    let response =
        ready_door(&mut door).now_or_never().unwrap().unwrap().call(Request::new(Body::default())).await.unwrap();
    assert!(ready_door(&mut door).now_or_never().is_none());
    // Dropped.
    drop(response);
    ready_door(&mut door).now_or_never().unwrap().unwrap();
}

// C45, C68
#[tokio::test(start_paused = true)]
async fn an_upgraded_response_holds_its_slot_in_an_extension() {
    let fleet = fleet(StatusCode::SWITCHING_PROTOCOLS, WhenFull::Wait);
    let mut door = Balance::new(&fleet, RoundRobin);
    let mut response = ready_door(&mut door).await.unwrap().call(Request::new(Body::default())).await.unwrap();
    let upgraded = response.extensions_mut().remove::<InFlight>().unwrap();
    drop(response);
    assert!(ready_door(&mut door).now_or_never().is_none());
    drop(upgraded);
    ready_door(&mut door).now_or_never().unwrap().unwrap();
}

// C68
#[tokio::test(start_paused = true)]
async fn the_class_of_a_request_is_its_extension() {
    let fleet = fleet(StatusCode::OK, WhenFull::Queue(10));
    let mut door = Balance::new(&fleet, RoundRobin);
    let failover = FailoverLayer::new().layer(fleet.clone());
    let running = ready_door(&mut door).await.unwrap().call(Request::new(Body::default())).await.unwrap();
    let request = |class: Option<u8>| {
        let mut request = Request::new(Body::default());
        class.map(|class| request.extensions_mut().insert(PriorityClass(class)));
        request
    };
    let mut calls = Vec::new();
    for class in [Some(127), None, Some(129)] {
        let mut call = ready_door(&mut door).await.unwrap().call(request(class)).boxed();
        assert!((&mut call).now_or_never().is_none());
        calls.push(call);
    }
    let mut call = failover.oneshot(request(Some(200))).boxed();
    assert!((&mut call).now_or_never().is_none());
    drop(running);
    drop(call.now_or_never().unwrap().unwrap());
    for call in [calls.remove(2), calls.remove(1), calls.remove(0)] {
        drop(call.now_or_never().unwrap().unwrap());
    }
    assert_eq!(fleet.snapshot()[0].in_flight, 0);
}
