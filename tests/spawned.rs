//! Doors and their bodies in tasks of their own, with the client and body types that the documentation recommends. What
//! matters is that this compiles: a future over a boxed error is easily not `Send` in an `async` block, where rustc has to
//! prove its bounds for an error of any lifetime.

#![cfg(feature = "http")]

use std::{borrow::Cow, num::NonZeroUsize};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_fleet::{
    Backend, Balance, BalanceLayer, CircuitBreakerLayer, Failover, FailoverLayer, Fleet, ReplayBody, ReplayLayer,
    failover::CommitPoint,
};

type Client<B> = BoxCloneSyncService<Request<B>, Response<Full<Bytes>>, BoxError>;

fn client<B: Send + 'static>() -> Client<B> {
    BoxCloneSyncService::new(service_fn(|_: Request<B>| async { Ok(Response::new(Full::from("hello"))) }))
}

#[derive(Clone)]
struct App {
    failover: Failover<Client<ReplayBody<Full<Bytes>>>>,
    balance: Balance<Client<Full<Bytes>>>,
}

// C12
#[tokio::test]
async fn a_door_over_boxed_clients_may_be_called_in_a_task() {
    let fleet = Fleet::builder().backend(Backend::new("a", client())).build().expect("a fleet");
    let failover = FailoverLayer::new().layer(fleet);
    let fleet = Fleet::builder().backend(Backend::new("a", client())).build().expect("a fleet");
    let app = App { failover, balance: BalanceLayer::round_robin().layer(fleet) };
    let task = tokio::spawn(async move {
        let first = app.failover.clone().oneshot(Request::new(Full::default())).await?;
        let second = app.balance.clone().oneshot(Request::new(Full::default())).await?;
        Ok::<_, BoxError>(first.status().is_success() && second.status().is_success())
    });
    assert!(task.await.expect("no panic").expect("a response"));
}

/// A body whose error is boxed.
type Boxed = UnsyncBoxBody<Bytes, BoxError>;
/// A client whose bodies have boxed errors in both directions.
type BoxedClient<B> = BoxCloneSyncService<Request<B>, Response<Boxed>, BoxError>;

fn boxed() -> Boxed {
    Full::new(Bytes::from_static(b"hello")).map_err(|never| match never {}).boxed_unsync()
}

fn request() -> Request<Boxed> {
    Request::new(boxed())
}

/// A client that returns the body that it gets.
fn echo<B>() -> BoxedClient<B>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let echo =
        |request: Request<B>| async { Ok(Response::new(request.into_body().map_err(Into::into).boxed_unsync())) };
    BoxCloneSyncService::new(service_fn(echo))
}

fn fleet<B>() -> Fleet<BoxedClient<B>>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Fleet::builder().backend(Backend::new("a", echo())).build().expect("a fleet")
}

/// Runs it in a task of its own.
async fn spawned(future: impl Future<Output = Result<Bytes, BoxError>> + Send + 'static) {
    assert_eq!(tokio::spawn(future).await.expect("no panic").expect("a body"), "hello");
}

// C12, C33
#[tokio::test]
async fn a_replayed_body_may_be_collected_in_a_task() {
    spawned(async {
        let body = ReplayBody::new(boxed());
        let first = body.again()?.collect().await?.to_bytes();
        assert_eq!(body.collect().await?.to_bytes(), first);
        Ok(ReplayBody::once(boxed()).collect().await?.to_bytes())
    })
    .await;
}

// C12, C34
#[tokio::test]
async fn the_body_of_a_balance_may_be_collected_in_a_task() {
    let door = BalanceLayer::round_robin().layer(fleet());
    let mut other: Balance<_> = door.clone();
    spawned(async move { Ok(door.oneshot(request()).await?.into_body().collect().await?.to_bytes()) }).await;
    spawned(async move { Ok(other.ready().await?.call(request()).await?.into_body().collect().await?.to_bytes()) })
        .await;
}

// C12, C32, C34
#[tokio::test]
async fn the_body_of_a_failover_may_be_collected_in_a_task() {
    for commit in [CommitPoint::head(), CommitPoint::whole(64)] {
        let door = FailoverLayer::builder().commit(commit).build().expect("a layer").layer(fleet());
        let mut other: Failover<_> = door.clone();
        spawned(async move { Ok(door.oneshot(request()).await?.into_body().collect().await?.to_bytes()) }).await;
        spawned(async move {
            let response = other.ready().await?.call(request()).await?;
            // The response is held across a wait too.
            tokio::task::yield_now().await;
            Ok(response.into_body().collect().await?.to_bytes())
        })
        .await;
    }
}

// C12, C34
#[tokio::test]
async fn the_body_of_a_breaker_may_be_collected_in_a_task() {
    let mut door = CircuitBreakerLayer::new().layer(ReplayLayer::new().layer(echo()));
    spawned(async move { Ok(door.ready().await?.call(request()).await?.into_body().collect().await?.to_bytes()) })
        .await;
    let layer = CircuitBreakerLayer::new()
        .keyed(NonZeroUsize::MIN, |request: &Request<Boxed>| Cow::Owned(request.uri().path().to_owned()));
    let mut door = layer.layer(echo());
    spawned(async move { Ok(door.ready().await?.call(request()).await?.into_body().collect().await?.to_bytes()) })
        .await;
}
