//! A client goes away, and takes its request back from the backend.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tower::BoxError;

use crate::{
    backend::{Answer, Guard, Server},
    client::{Client, VERSIONS, get, post, stream as body_of},
    in_time,
    process::Setup,
    text, until,
};

#[derive(Default)]
struct Seen {
    begun: AtomicUsize,
    left: Arc<AtomicUsize>,
}

/// Never comes to an end by itself, but for `/`.
async fn answer(seen: Arc<Seen>, request: http::Request<Incoming>) -> Answer {
    let guard = Guard::new(&seen.left);
    seen.begun.fetch_add(1, SeqCst);
    match request.uri().path() {
        "/hang" => std::future::pending().await,
        "/up" => {
            let mut body = request.into_body();
            // An error is what the guard tells of.
            while let Some(frame) = body.frame().await {
                frame?;
            }
        }
        "/down" => {
            let forever = stream::repeat(Bytes::from_static(&[b'x'; 1024])).map(move |frame| {
                let _ = &guard;
                Ok::<_, BoxError>(frame)
            });
            return Ok(Response::new(body_of(forever)));
        }
        _ => {}
    }
    guard.done();
    Ok(Response::new(text("well")))
}

// C20, C37
#[tokio::test]
async fn a_client_that_leaves_takes_its_request_back() {
    for client in VERSIONS {
        for upstream in VERSIONS {
            let seen = Arc::<Seen>::default();
            let kept = Arc::clone(&seen);
            let red = Server::start("red", move |request| answer(Arc::clone(&kept), request)).await;
            let h2c = if upstream == Version::HTTP_2 { "h2c = [\"red\"]" } else { "" };
            // One failure would be one too many.
            let setup = Setup::new().with("breaker", "consecutive = 1").with("upstreams", h2c);
            let gateway = setup.backend(&red).start().await;
            let asking = Client::new(client);
            let mut times = 0;
            let mut departs = async |request| {
                times += 1;
                let leaving = tokio::spawn({
                    let asking = asking.clone();
                    async move {
                        let response = asking.send(request).await.unwrap();
                        in_time(response.into_body().collect()).await.map(drop)
                    }
                });
                until("the request", || seen.begun.load(SeqCst) == times).await;
                leaving.abort();
                let what = format!("a departure: {client:?} to {upstream:?}, number {times}");
                until(&what, || seen.left.load(SeqCst) == times).await;
            };
            departs(get(&gateway, "/hang").body(text("")).unwrap()).await;
            departs(get(&gateway, "/down").body(text("")).unwrap()).await;
            let begin = stream::iter([Ok::<_, BoxError>(Bytes::from("begin"))]).chain(stream::pending());
            departs(post(&gateway, "/up").body(body_of(begin)).unwrap()).await;

            let answer = Client::new(client).get(&gateway, "/").await;
            assert_eq!(answer.body(), "well", "C37: it is nobody's failure");
        }
    }
}

// C17, C20
#[tokio::test]
async fn those_who_lose_a_race_are_told() {
    for upstream in VERSIONS {
        let seen = Arc::<Seen>::default();
        let kept = Arc::clone(&seen);
        let red = Server::start("red", move |request| answer(Arc::clone(&kept), request)).await;
        let blue = Server::start("blue", |_| async { Ok(Response::new(text("blue"))) }).await;
        let h2c = if upstream == Version::HTTP_2 { "h2c = [\"red\"]" } else { "" };
        let setup = Setup::new().with("failover", "mode = { hedged = \"10ms\" }").with("upstreams", h2c);
        let gateway = setup.backend(&red).backend(&blue).start().await;
        let answer = Client::new(Version::HTTP_11).get(&gateway, "/hang").await;
        assert_eq!(answer.body(), "blue");
        until("the loser", || seen.left.load(SeqCst) == seen.begun.load(SeqCst)).await;
    }
}
