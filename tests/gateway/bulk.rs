//! 100 MB, down, up, and both at a time.

use std::{io, sync::LazyLock};

use bytes::Bytes;
use futures::stream;
use http::{Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tower::BoxError;

use crate::{
    Body,
    backend::{Answer, Server},
    client::{Client, VERSIONS, get, post, stream as body_of},
    in_time,
    process::Setup,
    text,
};

const LENGTH: usize = 100_000_000;
const FRAME: usize = 64 << 10;

/// The most that the gateway may need beyond what it needs at the start.
const GROWTH: usize = 64 << 20;

/// The pattern repeats after so many bytes: a prime, so that frames do not repeat with it.
const PERIOD: usize = 1_000_003;

/// Bytes in no order, and the first ones once more: any frame is one piece of it.
static PATTERN: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut bytes: Vec<u8> = (0..PERIOD).map(|_| next()).collect();
    bytes.extend_from_within(..FRAME);
    bytes.into()
});

fn pattern() -> Body {
    let frames = (0..LENGTH).step_by(FRAME).map(|at| {
        let begin = at % PERIOD;
        Ok::<_, BoxError>(PATTERN.slice(begin..begin + FRAME.min(LENGTH - at)))
    });
    body_of(stream::iter(frames))
}

/// Follows bytes as they come.
#[derive(Default)]
struct Check(usize);

impl Check {
    fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let begin = self.0 % PERIOD;
            let (now, rest) = bytes.split_at(bytes.len().min(FRAME));
            assert!(*now == PATTERN[begin..begin + now.len()], "after {} bytes something else comes", self.0);
            (self.0, bytes) = (self.0 + now.len(), rest);
        }
    }

    fn is_whole(&self) -> bool {
        self.0 == LENGTH
    }
}

async fn check(mut body: Incoming) -> bool {
    let mut check = Check::default();
    while let Some(frame) = in_time(body.frame()).await {
        check.see(frame.unwrap().data_ref().expect("data"));
    }
    check.is_whole()
}

/// Down, up, or both: the body that comes goes back while it comes.
async fn answer(request: http::Request<Incoming>) -> Answer {
    Ok(Response::new(match request.uri().path() {
        "/down" => pattern(),
        "/up" => text(if check(request.into_body()).await { "whole" } else { "cut" }),
        _ => request.into_body().map_err(io::Error::other).boxed_unsync(),
    }))
}

// C33: without being kept, wherever the body is larger than what is replayed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_passes_byte_for_byte_in_flat_memory() {
    for version in VERSIONS {
        // With somebody else to send it to, what is sent is kept, up to a point.
        let (red, blue) = (Server::start("red", answer).await, Server::start("blue", answer).await);
        let mut setup = Setup::new().backend(&red).backend(&blue);
        if version == Version::HTTP_2 {
            setup = setup.with("upstreams", "h2c = [\"red\", \"blue\"]");
        }
        let gateway = setup.start().await;
        let client = Client::new(version);
        client.ask(post(&gateway, "/echo").body(text("to get warm")).unwrap()).await;
        let before = gateway.peak_memory();

        let down = client.send(get(&gateway, "/down").body(text("")).unwrap()).await.unwrap();
        assert!(check(down.into_body()).await, "{version:?}: the download is cut");
        let up = client.ask(post(&gateway, "/up").body(pattern()).unwrap());
        assert_eq!(up.await.body(), "whole", "{version:?}");
        let both = client.send(post(&gateway, "/echo").body(pattern()).unwrap()).await.unwrap();
        assert!(check(both.into_body()).await, "{version:?}: the echo is cut");

        let growth = gateway.peak_memory() - before;
        assert!(growth < GROWTH, "{version:?}: {growth} bytes more");
    }
}
