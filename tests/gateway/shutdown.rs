//! A polite end: what runs finishes, and nothing new is taken.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::Response;
use http_body_util::BodyExt;
use tokio::{net::TcpStream, sync::Semaphore};
use tower::BoxError;

use crate::{
    backend::{Guard, Server},
    client::{Client, VERSIONS, get, stream as body_of},
    in_time,
    process::Setup,
    text, until,
};

const FRAMES: usize = 5;

#[tokio::test]
async fn what_runs_is_finished_and_nothing_new_is_taken() {
    for version in VERSIONS {
        let tap = Arc::new(Semaphore::new(1));
        let wait = Arc::clone(&tap);
        let red = Server::start("red", move |request| {
            let wait = Arc::clone(&wait);
            let frames = stream::iter(0..FRAMES).then(move |frame| {
                let wait = Arc::clone(&wait);
                async move {
                    wait.acquire().await?.forget();
                    Ok::<_, BoxError>(Bytes::from(format!("frame {frame};")))
                }
            });
            let is_slow = request.uri().path() == "/slow";
            async move { Ok(Response::new(if is_slow { body_of(frames) } else { text("well") })) }
        })
        .await;
        let mut gateway = Setup::new().backend(&red).start().await;
        // A connection without anything to do holds nobody up.
        let idle = Client::new(version);
        idle.get(&gateway, "/").await;
        let client = Client::new(version);
        let response = client.send(get(&gateway, "/slow").body(text("")).unwrap()).await.unwrap();
        let mut body = response.into_body();
        let first = in_time(body.frame()).await.expect("a frame").unwrap();
        assert_eq!(first.data_ref().expect("data"), "frame 0;");

        gateway.terminate();
        let refused = AtomicBool::new(false);
        let knocking = async {
            while TcpStream::connect(gateway.address).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            refused.store(true, SeqCst);
        };
        in_time(knocking).await;
        assert!(gateway.is_running(), "{version:?}: it waits for what runs");
        tap.add_permits(FRAMES - 1);
        let rest = in_time(body.collect()).await.unwrap().to_bytes();
        assert_eq!(rest, (1..FRAMES).map(|frame| format!("frame {frame};")).collect::<String>());
        let (status, said) = gateway.end().await;
        assert!(status.success(), "{version:?}: {status} {said}");
        drop(idle);
    }
}

#[tokio::test]
async fn told_twice_it_ends_at_once() {
    let red = Server::start("red", |_| async { std::future::pending().await }).await;
    let mut gateway = Setup::new().with("server", "grace = \"1h\"").backend(&red).start().await;
    let request = get(&gateway, "/").body(text("")).unwrap();
    let asked = tokio::spawn(async move { Client::new(http::Version::HTTP_11).send(request).await.is_ok() });
    until("the request", || red.connections() > 0).await;
    gateway.terminate();
    let knocking = async {
        while TcpStream::connect(gateway.address).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    in_time(knocking).await;
    assert!(gateway.is_running(), "it waits for what runs");
    gateway.terminate();
    assert_eq!(gateway.end().await.0.code(), Some(1));
    assert!(!asked.await.unwrap(), "nobody answered");
}

// A browser opens connections before it needs them.
#[tokio::test]
async fn idle_connections_do_not_delay_the_end() {
    let gateway = Setup::new().origin("red", "http://127.0.0.1:1", "status = \"draining\"").start().await;
    let silent = TcpStream::connect(gateway.address).await.unwrap();
    // Taken after the other one.
    assert_eq!(Client::new(VERSIONS[0]).get(&gateway, "/").await.status(), 503);
    gateway.terminate();
    let (status, said) = gateway.end().await;
    assert!(status.success(), "{status} {said}");
    drop(silent);
}

#[tokio::test]
async fn what_never_ends_is_ended_when_the_time_for_it_is_up() {
    for version in VERSIONS {
        let (begun, left) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (Arc::clone(&begun), Arc::clone(&left));
        let red = Server::start("red", move |_| {
            let guard = Guard::new(&counts.1);
            counts.0.fetch_add(1, SeqCst);
            async move {
                std::future::pending::<()>().await;
                guard.done();
                Ok(Response::new(text("")))
            }
        })
        .await;
        let gateway = Setup::new().with("server", "grace = \"300ms\"").backend(&red).start().await;
        let client = Client::new(version);
        let asked = client.send(get(&gateway, "/").body(text("")).unwrap());
        let stopped = async {
            until("the request", || begun.load(SeqCst) == 1).await;
            gateway.terminate();
        };
        let (answer, ()) = tokio::join!(asked, stopped);
        assert!(answer.is_err(), "{version:?}: {answer:?}");
        let (status, said) = gateway.end().await;
        assert!(status.success(), "{version:?}: {status} {said}");
        until("the request taken back", || left.load(SeqCst) == 1).await;
    }
}
