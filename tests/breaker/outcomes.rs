//! What counts as a failure, over HTTP.

use std::{io, pin::Pin};

use bytes::Bytes;
use futures::{future::BoxFuture, stream};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn, timeout::TimeoutLayer};
use tower_fleet::{
    Backend, BalanceLayer, CircuitBreakerLayer, CircuitState, Fleet,
    balance::ErrorKind,
    breaker::{Rate, Switch},
    outcome::{HttpClassifier, Statuses},
};

use crate::{pass, policy, secs, settle};

type Content = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;
type Answer = Result<Response<Content>, BoxError>;
type Client = tower::util::BoxCloneSyncService<Request<()>, Response<Content>, BoxError>;

fn client(reply: impl Fn() -> BoxFuture<'static, Answer> + Clone + Send + Sync + 'static) -> Client {
    Client::new(service_fn(move |_: Request<()>| reply()))
}

fn says(reply: impl Fn() -> Answer + Clone + Send + Sync + 'static) -> Client {
    client(move || Box::pin(std::future::ready(reply())))
}

fn hangs() -> Client {
    client(|| Box::pin(std::future::pending()))
}

fn boxed<B>(body: B) -> Content
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Box::pin(body.map_err(Into::into))
}

fn with_status(status: u16) -> Client {
    says(move || Ok(Response::builder().status(status).body(boxed(Empty::new()))?))
}

/// A message that breaks off.
fn cut(error: impl Fn() -> BoxError + Clone + Send + Sync + 'static) -> Client {
    says(move || {
        let frames = [Ok(Frame::data(Bytes::from("half a mess"))), Err(error())];
        Ok(Response::new(boxed(StreamBody::new(stream::iter(frames)))))
    })
}

fn grpc(trailers: &'static [(&'static str, &'static str)]) -> Client {
    says(move || {
        let mut frames = vec![Ok::<_, BoxError>(Frame::data(Bytes::from("message")))];
        if !trailers.is_empty() {
            let pairs = trailers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            frames.push(Ok(Frame::trailers(pairs.collect::<HeaderMap>())));
        }
        let body = boxed(StreamBody::new(stream::iter(frames)));
        Ok(Response::builder().header("content-type", "application/grpc").body(body)?)
    })
}

/// Behind a breaker that a single failure opens.
fn guard<S>(classifier: HttpClassifier, client: S) -> (Client, Switch)
where
    S: Service<Request<()>, Response = Response<Content>, Error = BoxError> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let service = CircuitBreakerLayer::with_policy(policy().consecutive(1)).unwrap().classify(classifier).layer(client);
    let switch = service.switch();
    (Client::new(service.map_response(|response| response.map(boxed))), switch)
}

fn watched(client: Client) -> (Client, Switch) {
    guard(HttpClassifier::new(), client)
}

async fn ask(client: &Client) -> Answer {
    client.clone().oneshot(Request::new(())).await
}

/// A call whose response is read to its end.
async fn read(client: &Client) -> Result<Bytes, BoxError> {
    Ok(ask(client).await?.into_body().collect().await?.to_bytes())
}

async fn state_after(client: Client, classifier: HttpClassifier) -> CircuitState {
    let (client, switch) = guard(classifier.clone(), client);
    let _ = read(&client).await;
    switch.state()
}

// C27, C37
#[tokio::test(start_paused = true)]
async fn too_many_requests_and_five_hundreds_count_and_no_other_status() {
    for status in 200..=999 {
        let fails = status == 429 || (500..=599).contains(&status);
        let expected = if fails { CircuitState::Open } else { CircuitState::Closed };
        assert_eq!(state_after(with_status(status), HttpClassifier::new()).await, expected, "{status}");
    }
    let teapots = HttpClassifier::new().statuses(Statuses::none().and(418).unwrap());
    assert_eq!(state_after(with_status(418), teapots.clone()).await, CircuitState::Open);
    assert_eq!(
        state_after(with_status(503), teapots.clone()).await,
        CircuitState::Closed,
        "a list replaces the default"
    );
}

// C35, C37
#[tokio::test(start_paused = true)]
async fn the_failing_response_goes_to_the_caller_all_the_same() {
    let (client, switch) = watched(says(|| Ok(Response::builder().status(503).body(boxed(Full::from("why")))?)));
    let response = ask(&client).await.unwrap();
    assert_eq!((response.status(), switch.state()), (http::StatusCode::SERVICE_UNAVAILABLE, CircuitState::Open));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "why");
}

// C37
#[tokio::test(start_paused = true)]
async fn a_timeout_inside_counts_and_one_outside_is_a_caller_that_left() {
    let (client, switch) =
        watched(Client::new(ServiceBuilder::new().layer(TimeoutLayer::new(secs(5))).service(hangs())));
    let error = ask(&client).await.err().unwrap();
    assert!(error.is::<tower::timeout::error::Elapsed>());
    assert_eq!(switch.state(), CircuitState::Open);

    let (client, switch) = watched(hangs());
    let outside = ServiceBuilder::new().layer(TimeoutLayer::new(secs(5))).service(client);
    assert!(outside.oneshot(Request::new(())).await.is_err());
    assert_eq!(switch.state(), CircuitState::Closed);
}

// C27, C63
#[tokio::test(start_paused = true)]
async fn a_fleet_keeps_its_classifier_and_its_policy_in_either_order() {
    let teapots = HttpClassifier::new().statuses(Statuses::none().and(418).unwrap());
    let once = || policy().consecutive(1);
    for builder in [
        Fleet::builder().classify(teapots.clone()).circuit_breaker(once()),
        Fleet::builder().circuit_breaker(once()).classify(teapots.clone()),
    ] {
        let teapot = Backend::new("teapot", with_status(418));
        let fleet = builder.backend(teapot).backend(Backend::new("down", with_status(503))).build().unwrap();
        let door = BalanceLayer::round_robin().layer(fleet.clone());
        for _ in 0..4 {
            door.clone().oneshot(Request::new(())).await.unwrap();
        }
        let states: Vec<_> = fleet.snapshot().iter().map(|backend| backend.state).collect();
        assert_eq!(states, [CircuitState::Open, CircuitState::Closed]);
    }
}

// C37, C50
#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_backend_counts_and_names_it() {
    let fleet = Fleet::builder()
        .circuit_breaker(policy().consecutive(1))
        .backend(Backend::new("slow", hangs()).timeout(secs(5)))
        .build()
        .unwrap();
    let door = BalanceLayer::round_robin().layer(fleet.clone());
    let before = tokio::time::Instant::now();
    let error = door.clone().oneshot(Request::new(())).await.err().unwrap();
    let ErrorKind::Timeout { backend, timeout, .. } = error.kind() else { panic!("{error}") };
    assert_eq!((&**backend, *timeout, before.elapsed()), ("slow", secs(5), secs(5)));
    assert_eq!(fleet.snapshot()[0].state, CircuitState::Open);
    assert_eq!(fleet.snapshot()[0].timeout, Some(secs(5)));
}

// C37
#[tokio::test(start_paused = true)]
async fn a_broken_connection_counts() {
    for kind in [io::ErrorKind::ConnectionRefused, io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof] {
        let breaks = says(move || Err(io::Error::from(kind).into()));
        assert_eq!(state_after(breaks.clone(), HttpClassifier::new()).await, CircuitState::Open);
        let switched_off = HttpClassifier::new().network_errors(false);
        // C28
        assert_eq!(state_after(breaks, switched_off).await, CircuitState::Closed);
    }
}

// C28
#[tokio::test(start_paused = true)]
async fn network_errors_switched_off_leave_everything_else_on() {
    let off = HttpClassifier::new().network_errors(false);
    let reset = || io::Error::from(io::ErrorKind::ConnectionReset).into();
    assert_eq!(state_after(cut(reset), off.clone()).await, CircuitState::Closed, "under a body too");
    assert_eq!(state_after(with_status(500), off.clone()).await, CircuitState::Open);
    let late = ServiceBuilder::new().layer(TimeoutLayer::new(secs(5))).service(hangs());
    assert_eq!(state_after(Client::new(late), off.clone()).await, CircuitState::Open);
}

// C34
#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_after_a_good_head_counts() {
    let (client, switch) = watched(cut(|| "gone".into()));
    let mut body = ask(&client).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half a mess");
    assert_eq!(switch.state(), CircuitState::Closed);
    body.frame().await.unwrap().unwrap_err();
    assert_eq!(switch.state(), CircuitState::Open);
}

// C28, C34
#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_reads_to_its_end_says_nothing_more() {
    let (client, switch) = watched(cut(|| "gone".into()));
    drop(ask(&client).await.unwrap());
    let mut body = ask(&client).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(switch.state(), CircuitState::Closed);
}

// C34, C37
#[tokio::test(start_paused = true)]
async fn a_long_stream_that_its_reader_leaves_is_not_slow() {
    for classifier in [HttpClassifier::new(), HttpClassifier::new().success_at_end(true)] {
        let stream = || says(|| Ok(Response::new(boxed(Full::from("long")))));
        let slow_calls = policy().slow_calls(secs(1), Rate::new(0.1).window(secs(600)).minimum_calls(1));
        let service = CircuitBreakerLayer::with_policy(slow_calls).unwrap().classify(classifier).layer(stream());
        let switch = service.switch();
        let client = Client::new(service.map_response(|response| response.map(boxed)));
        let response = ask(&client).await.unwrap();
        pass(secs(60)).await;
        drop(response);
        assert_eq!(switch.state(), CircuitState::Closed);
        switch.trip();
        pass(secs(30)).await;
        let response = ask(&client).await.unwrap();
        pass(secs(50)).await;
        drop(response);
        assert_ne!(switch.state(), CircuitState::Open);
    }
}

// C30
#[tokio::test(start_paused = true)]
async fn grpc_is_decided_by_its_trailers() {
    let classifier = HttpClassifier::new();
    assert_eq!(state_after(grpc(&[("grpc-status", "0")]), classifier.clone()).await, CircuitState::Closed);
    assert_eq!(state_after(grpc(&[("grpc-status", "5")]), classifier.clone()).await, CircuitState::Closed, "not found");
    assert_eq!(state_after(grpc(&[("grpc-status", "1")]), classifier.clone()).await, CircuitState::Closed, "cancelled");
    assert_eq!(
        state_after(grpc(&[("grpc-status", "14")]), classifier.clone()).await,
        CircuitState::Open,
        "unavailable"
    );
    assert_eq!(state_after(grpc(&[]), classifier.clone()).await, CircuitState::Open, "cut before its status");
    let trailers_only = says(|| {
        let response = Response::builder().header("content-type", "application/grpc").header("grpc-status", "14");
        Ok(response.body(boxed(Empty::new()))?)
    });
    let (client, switch) = watched(trailers_only);
    let _response = ask(&client).await.unwrap();
    assert_eq!(switch.state(), CircuitState::Open, "a status in the headers counts at once");
}

// C30, C38
#[tokio::test(start_paused = true)]
async fn a_grpc_probe_keeps_its_permit_until_the_trailers() {
    let (client, switch) = watched(grpc(&[("grpc-status", "0")]));
    switch.trip();
    pass(secs(30)).await;
    let response = ask(&client).await.unwrap();
    assert_eq!(switch.state(), CircuitState::HalfOpen);
    assert!(ask(&client).await.is_err(), "the permit is taken");
    response.into_body().collect().await.unwrap();
    assert_eq!(switch.state(), CircuitState::Closed);

    switch.trip();
    pass(secs(30)).await;
    drop(ask(&client).await.unwrap());
    assert_eq!(switch.state(), CircuitState::HalfOpen, "dropped unread, it says nothing");
    read(&client).await.unwrap();
    assert_eq!(switch.state(), CircuitState::Closed);
}

// C34, C38
#[tokio::test(start_paused = true)]
async fn a_stream_whose_end_is_asked_for_holds_its_permit_until_then() {
    let classifier = HttpClassifier::new().success_at_end(true);
    let (client, switch) = guard(classifier.clone(), says(|| Ok(Response::new(boxed(Full::from("long"))))));
    switch.trip();
    pass(secs(30)).await;
    let response = ask(&client).await.unwrap();
    assert_eq!(switch.state(), CircuitState::HalfOpen);
    response.into_body().collect().await.unwrap();
    assert_eq!(switch.state(), CircuitState::Closed);

    let (client, switch) = guard(classifier.clone(), cut(|| "gone".into()));
    switch.trip();
    pass(secs(30)).await;
    read(&client).await.unwrap_err();
    assert_eq!(switch.state(), CircuitState::Open);
}

// C34, C39
#[tokio::test(start_paused = true)]
async fn a_body_is_judged_by_the_state_its_call_began_in() {
    let (client, switch) = watched(cut(|| "gone".into()));
    let begun = ask(&client).await.unwrap();
    switch.reset();
    begun.into_body().collect().await.unwrap_err();
    assert_eq!(switch.state(), CircuitState::Closed);
}

// C37
#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_counts() {
    let (client, switch) = watched(client(|| Box::pin(async { panic!("bug") })));
    let call = tokio::spawn(async move { ask(&client).await.map(drop) });
    settle().await;
    assert!(call.await.unwrap_err().is_panic());
    assert_eq!(switch.state(), CircuitState::Open);
}
