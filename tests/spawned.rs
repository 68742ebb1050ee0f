//! Doors in tasks of their own, with the client types that the documentation recommends. What matters is that this
//! compiles: futures of services whose error is boxed are easily not `Send` in an `async` block.

#![cfg(feature = "http")]

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{BoxError, Layer, service_fn, util::BoxCloneSyncService};
use tower_fleet::{Backend, Balance, BalanceLayer, Failover, FailoverLayer, Fleet, ReplayBody};

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
