//! Uploads that are too large to be sent again.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use bytes::Bytes;
use futures::stream;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tower::BoxError;

use crate::{
    Body,
    backend::{Answer, Server},
    client::{Client, VERSIONS, post, stream as body_of},
    process::Setup,
    text,
};

const LINES: usize = 400_000;

/// It shows where it was cut.
static UPLOAD: LazyLock<Bytes> =
    LazyLock::new(|| (0..LINES).flat_map(|line| format!("{line:06}\n").into_bytes()).collect::<Vec<_>>().into());

/// As a stream, or with its length.
fn upload(streamed: bool) -> Body {
    const FRAME: usize = 16 << 10;
    let frames = (0..UPLOAD.len()).step_by(FRAME).map(|at| UPLOAD.slice(at..UPLOAD.len().min(at + FRAME)));
    if streamed { body_of(stream::iter(frames.map(Ok::<_, BoxError>))) } else { text(UPLOAD.clone()) }
}

/// What a backend does with an upload.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Good,
    /// Reads all of it first.
    Unavailable,
    /// Does not read it.
    Hasty,
    /// Breaks the connection after a part of it.
    Breaks,
}

#[derive(Default)]
struct Seen {
    whole: AtomicUsize,
    /// Bodies that ended as if that was all: the one thing that must never be.
    cut: AtomicUsize,
}

async fn answer(fate: Fate, seen: Arc<Seen>, request: http::Request<Incoming>) -> Answer {
    let mut body = request.into_body();
    match fate {
        Fate::Hasty => return Ok(Response::builder().status(503).body(text("not now"))?),
        Fate::Breaks => {
            let mut come = 0;
            while come < 300_000 {
                let Some(frame) = body.frame().await else { break };
                come += frame?.data_ref().map_or(0, Bytes::len);
            }
            return Err("enough".into());
        }
        Fate::Good | Fate::Unavailable => {}
    }
    // An upload that breaks off is an error, and no answer is needed.
    let whole = body.collect().await?.to_bytes() == *UPLOAD;
    if whole { &seen.whole } else { &seen.cut }.fetch_add(1, SeqCst);
    let status = if fate == Fate::Good { 200 } else { 503 };
    Ok(Response::builder().status(status).body(text("got it"))?)
}

// C21, C33
#[tokio::test]
async fn what_is_too_large_to_keep_arrives_whole_or_not_at_all() {
    for version in VERSIONS {
        for fate in [Fate::Good, Fate::Unavailable, Fate::Hasty, Fate::Breaks] {
            for (mode, streamed) in [("\"race\"", true), ("\"sequential\"", false), ("{ hedged = \"1ms\" }", true)] {
                let case = format!("{version:?} {fate:?} {mode}");
                let seen: [Arc<Seen>; 3] = Default::default();
                let mut servers = Vec::new();
                for (index, name) in ["red", "green", "blue"].into_iter().enumerate() {
                    let (seen, fate) = (Arc::clone(&seen[index]), if index == 0 { fate } else { Fate::Good });
                    servers.push(Server::start(name, move |request| answer(fate, Arc::clone(&seen), request)).await);
                }
                let setup = Setup::new().with("failover", &format!("mode = {mode}\nreplay_limit = \"64KiB\""));
                let gateway = servers.iter().fold(setup, Setup::backend).start().await;
                let request = post(&gateway, "/").body(upload(streamed)).unwrap();
                // Where a connection breaks in the middle of an upload, so may the client's.
                let status = Client::new(version).send(request).await.map(|response| response.status().as_u16());
                let (whole, cut) = (
                    seen.each_ref().map(|seen| seen.whole.load(SeqCst)),
                    seen.each_ref().map(|seen| seen.cut.load(SeqCst)),
                );
                assert_eq!(cut, [0; 3], "C33: {case}");
                if mode.contains("hedged") || fate == Fate::Hasty {
                    // As long as little has come, it is still all there for another. Whoever is ahead gets all of it.
                    let is_good = status.as_ref().is_ok_and(|status| *status == 200);
                    assert!(!is_good || whole.iter().sum::<usize>() > 0, "{case}: {status:?} {whole:?}");
                    continue;
                }
                assert_eq!(whole[1..], [0, 0], "C21: {case}: nothing is left to send to another");
                match fate {
                    Fate::Good => assert!(whole[0] == 1 && matches!(status, Ok(200)), "{case}: {status:?}"),
                    Fate::Unavailable => assert!(whole[0] == 1 && matches!(status, Ok(503)), "{case}: {status:?}"),
                    Fate::Hasty | Fate::Breaks => assert!(!matches!(status, Ok(..500)), "{case}: {status:?}"),
                }
            }
        }
    }
}
