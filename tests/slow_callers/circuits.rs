//! Slow uploads under circuits, through every door.

use std::sync::Arc;

use futures::future::LocalBoxFuture;
use http::Response;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_fleet::{
    BalanceLayer, CircuitBreakerLayer, FailoverLayer,
    body::{ReplayLayer, Upload},
    breaker::Switch,
};
use tower_layer::Layer;

use super::*;

/// Sends a request through a door, and returns the status of its response.
type Send = Box<dyn Fn(Request<Body>) -> LocalBoxFuture<'static, Result<u16, BoxError>>>;

/// A door, the one backend that it calls, and the circuit of that backend.
struct Door {
    name: &'static str,
    send: Send,
    circuit: Switch,
    backend: Arc<Remote>,
}

fn sender<S, B>(door: S) -> Send
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>> + Clone + 'static,
{
    Box::new(move |request| {
        let answer = door.clone().oneshot(request);
        Box::pin(async move { answer.await.map(|response| response.status().as_u16()).map_err(Into::into) })
    })
}

fn doors(policy: &CircuitPolicy, timeout: Option<Duration>) -> Vec<Door> {
    let fleet = || {
        let remote = mock("a").1;
        let only = timeout.into_iter().fold(backend(&remote), tower_fleet::Backend::timeout);
        let fleet = Fleet::builder().backend(only).circuit_breaker(policy.clone()).build().unwrap();
        (fleet.switch("a").unwrap(), fleet, remote)
    };
    let (circuit, backends, backend) = fleet();
    let send = sender(FailoverLayer::builder().timeout(None).build().unwrap().layer(backends));
    let failover = Door { name: "failover", send, circuit, backend };
    let (circuit, backends, backend) = fleet();
    let balance = ServiceBuilder::new().layer(ReplayLayer::new()).layer(BalanceLayer::round_robin()).service(backends);
    let balance = Door { name: "balance", send: sender(balance), circuit, backend };
    if timeout.is_some() {
        // A lone breaker has no timeout.
        return vec![failover, balance];
    }
    let (service, backend) = mock("a");
    let breaker = CircuitBreakerLayer::with_policy(policy.clone()).unwrap().layer(service);
    let circuit = breaker.switch();
    let breaker = ServiceBuilder::new().layer(ReplayLayer::new()).service(breaker);
    vec![failover, balance, Door { name: "breaker", send: sender(breaker), circuit, backend }]
}

// C37, C50: issue 11.4
#[tokio::test(start_paused = true)]
async fn five_slow_uploads_do_not_open_a_circuit_through_a_timeout() {
    for door in doors(&CircuitPolicy::new().failures(5).within(secs(3_600)), Some(secs(1))) {
        for _ in 0..5 {
            assert_eq!((door.send)(upload(30)).await.unwrap(), 200, "{}", door.name);
        }
        assert_eq!(door.circuit.state(), CircuitState::Closed, "{}", door.name);
        // It is the backend that is late now, after the upload.
        door.backend.usually(status(200).after(1_100));
        for _ in 0..5 {
            assert!((door.send)(upload(30)).await.is_err(), "{}", door.name);
        }
        assert_eq!(door.circuit.state(), CircuitState::Open, "{}", door.name);
    }
}

// C37: issue 11.4
#[tokio::test(start_paused = true)]
async fn five_slow_uploads_are_no_slow_calls() {
    for door in doors(&slow_calls(), None) {
        for _ in 0..5 {
            assert_eq!((door.send)(upload(30)).await.unwrap(), 200, "{}", door.name);
        }
        assert_eq!(door.circuit.state(), CircuitState::Closed, "{}", door.name);
        door.backend.usually(status(200).after(510));
        for _ in 0..5 {
            assert_eq!((door.send)(upload(30)).await.unwrap(), 200, "{}", door.name);
        }
        assert_eq!(door.circuit.state(), CircuitState::Open, "{}", door.name);
    }
}

// C37: issue 11.4. A cancelled call is slow only if the backend was.
#[tokio::test(start_paused = true)]
async fn a_slow_caller_that_cancels_is_no_slow_call() {
    for door in doors(&slow_calls(), None) {
        for _ in 0..5 {
            give_up_after(secs(29), (door.send)(upload(30))).await;
        }
        assert_eq!(door.circuit.state(), CircuitState::Closed, "{}", door.name);
        for (reply, request) in [
            // After the upload; and although the upload never ends, which the backend does not read.
            (hang(), put(vec![Piece::Wait(1_000), data("some")])),
            (hang().deaf(), put(vec![Piece::Stall])),
        ] {
            door.circuit.reset();
            door.backend.usually(reply);
            give_up_after(millis(1_510), (door.send)(request)).await;
            for _ in 0..4 {
                give_up_after(millis(510), (door.send)(put(vec![data("some")]))).await;
            }
            assert_eq!(door.circuit.state(), CircuitState::Open, "{}", door.name);
        }
    }
}

// C37, C38: issue 11.4. A probe whose caller is slow closes the circuit as soon as its upload is done.
#[tokio::test(start_paused = true)]
async fn a_probe_with_a_slow_caller_is_not_a_slow_probe() {
    for door in doors(&slow_calls(), None) {
        door.circuit.trip();
        tokio::time::advance(secs(31)).await;
        assert_eq!(door.circuit.state(), CircuitState::HalfOpen, "{}", door.name);
        assert_eq!((door.send)(upload(30)).await.unwrap(), 200, "{}", door.name);
        assert_eq!(door.circuit.state(), CircuitState::Closed, "{}", door.name);
    }
}

// C31, C37: issue 11.4
#[tokio::test(start_paused = true)]
async fn a_body_that_fails_is_neutral_for_the_backend() {
    let bodies = [
        vec![data("some"), Piece::Error("the caller has gone")],
        vec![data("some"), Piece::Wait(1_000), Piece::Error("the caller has gone")],
        vec![Piece::Size(9), data("short")],
        vec![data("some"), Piece::Stall],
    ];
    // The backend reports the failed upload: as its error, as one that hides the cause, as a status, or not at all.
    for reply in [fail("the upload broke"), io(std::io::ErrorKind::BrokenPipe), status(500), hang()] {
        for door in doors(&strict(), Some(secs(5))) {
            for pieces in &bodies {
                door.backend.usually(reply.clone());
                let _ = (door.send)(put(pieces.clone())).await;
                assert_eq!(door.circuit.state(), CircuitState::Closed, "{} {pieces:?}", door.name);
            }
            assert!(door.backend.bodies().iter().all(Result::is_err), "no body was cut short unnoticed");
            // Without an upload that failed, each of them counts.
            let _ = (door.send)(put(vec![data("some")])).await;
            assert_eq!(door.circuit.state(), CircuitState::Open, "{}", door.name);
        }
    }
}

// C37: issue 11.4. A caller that stalls has a limit of its own, and one error.
#[tokio::test(start_paused = true)]
async fn a_caller_that_stalls_ends_its_request_after_a_minute() {
    for door in doors(&strict(), None) {
        door.backend.usually(fail("the upload broke"));
        let began = tokio::time::Instant::now();
        let error = (door.send)(put(vec![data("some"), Piece::Wait(59_000), data("more"), Piece::Stall])).await;
        assert_took(began, 59_000 + 60_000);
        let mut chain = std::iter::successors(Some(&*error.unwrap_err() as &dyn std::error::Error), |it| it.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        assert_eq!(chain.pop().unwrap(), "request body stalled: no frame within 60s", "{}", door.name);
        assert_eq!(door.circuit.state(), CircuitState::Closed, "{}", door.name);
        assert_eq!(door.backend.running(), 0);
    }
}

// C20, C37: issue 11.4. Dropped wherever it waits, a request leaves nothing behind.
#[tokio::test(start_paused = true)]
async fn a_request_may_be_dropped_at_every_wait() {
    for door in doors(&slow_calls(), None) {
        for at in 0..9 {
            door.backend.usually(status(200).after(300));
            give_up_after(
                millis(50 + at * 100),
                (door.send)(put(vec![Piece::Wait(200), data("so"), Piece::Wait(200), data("me"), Piece::Wait(200)])),
            )
            .await;
            assert_eq!((door.backend.running(), door.circuit.state()), (0, CircuitState::Closed), "{}", door.name);
        }
        let uploads = door.backend.seen(|seen| seen.extensions.get::<Upload>().unwrap().clone());
        assert_eq!(uploads.len(), 9, "{}", door.name);
        assert!(uploads.iter().all(|upload| !upload.is_waiting()), "{}", door.name);
        let waited: Vec<_> = uploads.iter().map(|upload| upload.waited().as_millis()).collect();
        assert_eq!(waited, [50, 150, 250, 350, 450, 550, 600, 600, 600], "{}", door.name);
    }
}
