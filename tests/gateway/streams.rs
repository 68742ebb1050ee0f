//! Bodies that come bit by bit, their trailers, and streams that break.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderName, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::Semaphore;
use tower::BoxError;

use crate::{
    Body,
    backend::Server,
    client::{Client, VERSIONS, get, post, stream as body_of},
    in_time,
    process::Setup,
    text, until,
};

const EVENTS: usize = 1_000;

fn event(index: usize) -> Bytes {
    format!("id: {index}\nevent: token\ndata: {}\n\n", "tok en ".repeat(index % 9)).into()
}

fn h2c(version: Version, setup: Setup) -> Setup {
    if version == Version::HTTP_2 { setup.with("upstreams", "h2c = [\"red\"]") } else { setup }
}

// C32
#[tokio::test]
async fn events_arrive_byte_for_byte_and_one_by_one() {
    for (version, commit) in [(Version::HTTP_11, "head"), (Version::HTTP_2, "first_frame")] {
        // The backend has one event more to send whenever the client has seen the last.
        let wanted = Arc::new(Semaphore::new(1));
        let tap = Arc::clone(&wanted);
        let red = Server::start("red", move |_| {
            let tap = Arc::clone(&tap);
            let events = stream::iter(0..EVENTS).then(move |index| {
                let tap = Arc::clone(&tap);
                async move {
                    tap.acquire().await?.forget();
                    Ok::<_, BoxError>(event(index))
                }
            });
            async { Ok(Response::builder().header("content-type", "text/event-stream").body(body_of(events))?) }
        })
        .await;
        let setup = Setup::new().with("failover", &format!("commit = \"{commit}\"")).backend(&red);
        let gateway = h2c(version, setup).start().await;
        let client = Client::new(version);
        let response = client.send(get(&gateway, "/events").body(text("")).unwrap()).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut body = response.into_body();
        for index in 0..EVENTS {
            let (event, mut seen) = (event(index), Vec::new());
            while seen.len() < event.len() {
                let frame = in_time(body.frame()).await.expect("an event more").unwrap();
                seen.extend_from_slice(frame.data_ref().expect("data"));
            }
            assert_eq!(seen, event, "{version:?}: {index}");
            wanted.add_permits(1);
        }
        let rest = in_time(body.collect()).await.expect("a clean end").to_bytes();
        assert!(rest.is_empty(), "{version:?}: {rest:?}");
    }
}

fn trailers(sum: &str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("sum"), sum.parse().unwrap())])
}

fn with_trailers(frames: &'static [&'static str], sum: &str) -> Body {
    let data = frames.iter().map(|text| Frame::data(Bytes::from_static(text.as_bytes())));
    let frames = data.chain([Frame::trailers(trailers(sum))]).map(Ok::<_, io::Error>);
    StreamBody::new(stream::iter(frames.collect::<Vec<_>>())).boxed_unsync()
}

// C33
#[tokio::test]
async fn trailers_pass_both_ways() {
    for (version, upstream) in VERSIONS.into_iter().flat_map(|version| VERSIONS.map(|upstream| (version, upstream))) {
        let red = Server::start("red", |request| async {
            assert_eq!(request.headers()["te"], "trailers");
            let body = request.into_body().collect().await?;
            assert_eq!(body.trailers(), Some(&trailers("of the request")), "C33");
            assert_eq!(body.to_bytes(), "onetwo");
            let response = Response::builder().header("trailer", "sum");
            Ok(response.body(with_trailers(&["three", "four"], "of the response"))?)
        })
        .await;
        let gateway = h2c(upstream, Setup::new().backend(&red)).start().await;
        let request = post(&gateway, "/").header("trailer", "sum").header("te", "trailers");
        let request = request.body(with_trailers(&["one", "two"], "of the request")).unwrap();
        let response = Client::new(version).send(request).await.unwrap();
        assert_eq!(response.status(), 200, "{version:?} to {upstream:?}");
        let body = in_time(response.into_body().collect()).await.unwrap();
        assert_eq!(body.trailers(), Some(&trailers("of the response")), "{version:?} to {upstream:?}");
        assert_eq!(body.to_bytes(), "threefour");
    }
}

/// How the length of a body that breaks off was announced.
#[derive(Clone, Copy, Debug)]
enum Announced {
    Never,
    Length,
}

// C32
#[tokio::test]
async fn a_stream_that_breaks_is_an_error_and_nobody_goes_on_with_it() {
    for version in VERSIONS {
        for announced in [Announced::Never, Announced::Length] {
            let breaking = move |name: &'static str, asked: Arc<AtomicUsize>| {
                Server::start(name, move |_| {
                    asked.fetch_add(1, SeqCst);
                    // The first frame is to be on its way.
                    let frames = stream::iter([0, 1]).then(move |index| async move {
                        tokio::time::sleep(std::time::Duration::from_millis(index * 50)).await;
                        if index == 0 { Ok(Bytes::from(name)) } else { Err(io::ErrorKind::ConnectionReset.into()) }
                    });
                    let frames: Body = body_of::<io::Error>(frames);
                    let response = match announced {
                        Announced::Never => Response::builder(),
                        Announced::Length => Response::builder().header("content-length", "1000"),
                    };
                    async { Ok(response.body(frames)?) }
                })
            };
            let asked = [(); 2].map(|()| Arc::<AtomicUsize>::default());
            let (red, blue) =
                (breaking("red", Arc::clone(&asked[0])).await, breaking("blue", Arc::clone(&asked[1])).await);
            let setup = Setup::new().with("failover", "commit = \"first_frame\"").backend(&red).backend(&blue);
            let gateway = h2c(version, setup).start().await;
            let response = Client::new(version).send(get(&gateway, "/").body(text("")).unwrap()).await.unwrap();
            assert_eq!(response.status(), 200);
            let mut body = response.into_body();
            let first = in_time(body.frame()).await.expect("a frame").unwrap();
            assert_eq!(first.data_ref().expect("data"), "red");
            let then = in_time(body.frame()).await;
            assert!(matches!(then, Some(Err(_))), "C32: {version:?} {announced:?}: {then:?}");
            assert_eq!(asked.map(|asked| asked.load(SeqCst)), [1, 0], "{version:?}: nobody else is asked");
        }
    }
}

// C50
#[tokio::test]
async fn a_body_that_stalls_is_an_error_either_way() {
    for version in VERSIONS {
        let broken = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&broken);
        let red = Server::start("red", move |request| {
            let seen = Arc::clone(&seen);
            async move {
                if request.uri().path() == "/up" {
                    let body = request.into_body().collect().await;
                    seen.fetch_add(1 + usize::from(body.is_ok()) * 1_000, SeqCst);
                    return Ok(Response::new(text("it came to an end")));
                }
                let frames = stream::iter([Ok::<_, BoxError>(Bytes::from("begin"))]).chain(stream::pending());
                Ok(Response::new(body_of(frames)))
            }
        })
        .await;
        let gateway = h2c(version, Setup::new().with("server", "stall = \"300ms\"").backend(&red)).start().await;
        let client = Client::new(version);

        let response = client.send(get(&gateway, "/down").body(text("")).unwrap()).await.unwrap();
        let whole = in_time(response.into_body().collect()).await;
        assert!(whole.is_err(), "{version:?}: an end that is none");

        let frames = stream::iter([Ok::<_, BoxError>(Bytes::from("begin"))]).chain(stream::pending());
        let answer = client.send(post(&gateway, "/up").body(body_of(frames)).unwrap()).await;
        assert!(answer.is_err() || answer.is_ok_and(|answer| !answer.status().is_success()), "{version:?}");
        until("a request broken off", || broken.load(SeqCst) == 1).await;
    }
}
