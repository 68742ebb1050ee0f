//! Answers that are held until they are complete take bounded memory.

use std::time::Duration;

use futures::future::join_all;
use http::Version;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::time::timeout;

use super::{Profile, Setting, World};
use crate::{
    client::{Client, post},
    provider::Play,
    text,
};

const ANSWERS: usize = 1_000;

/// At a time on one connection of HTTP/2.
const STREAMS: usize = 125;

/// As in `llm-safe.toml`: the `memory` of `failover.commit`.
const CONFIGURED: usize = 64 << 20;

/// The bytes of a token.
const TOKEN: usize = 1 << 10;

/// For all answers, on a machine that is busy.
const IN_TIME: Duration = Duration::from_secs(120);

/// The most that the gateway takes beyond what it took at its start, with so many bytes in each answer.
async fn growth(bytes: usize) -> usize {
    // All are there before the first one ends.
    let play = Play::Long { tokens: bytes / TOKEN, bytes: TOKEN, wait: Duration::from_secs(5) };
    // With the limits as they are: a thousand answers take this machine their time.
    let setting = Setting { faster: 1, ..Profile::Safe.into() };
    let world = World::new(setting, move |_: &str, _: &_| play).await;
    let before = world.gateway.peak_memory();
    let clients: Vec<_> = (0..ANSWERS.div_ceil(STREAMS)).map(|_| Client::new(Version::HTTP_2)).collect();
    let body = json!({ "model": "fast", "stream": true, "messages": [{ "role": "user", "content": "Say a lot." }] });
    let ask = async |number: usize| {
        let request = post(&world.gateway, "/chat/completions").header("content-type", "application/json");
        let request = request.body(text(body.to_string())).unwrap();
        let response = clients[number / STREAMS].send_slowly(request).await.unwrap();
        assert_eq!(response.status(), 200, "{response:?}");
        let answer = response.into_body().collect().await.unwrap().to_bytes();
        assert!(answer.ends_with(b"data: [DONE]\n\n") && answer.len() > bytes, "{}", answer.len());
    };
    timeout(IN_TIME, join_all((0..ANSWERS).map(ask))).await.expect("they are over in time");
    let said = world.gateway.said();
    assert_eq!(world.seen().len(), ANSWERS, "each is asked for once: {}", said.get(..2_000).unwrap_or(&said));
    world.gateway.peak_memory() - before
}

// C32, C74
#[tokio::test]
async fn a_thousand_held_answers_stay_within_the_configured_memory() {
    // What a thousand requests and their connections take.
    let besides = growth(TOKEN).await;
    let held = growth(48 * TOKEN).await.saturating_sub(besides);
    // As in the tests of the crate, the allocator may take as much again.
    assert!(held < 2 * CONFIGURED, "{} MiB, and {} MiB besides", held >> 20, besides >> 20);
}
