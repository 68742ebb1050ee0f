//! JSON bodies that are edited per backend: C24, C76.
#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/http.rs"]
#[allow(dead_code, reason = "each suite uses a part of it")]
mod mock;
mod requests;
mod responses;
mod wire;

use std::sync::Arc;

use http::{HeaderName, Request, header::CONTENT_TYPE};
use tower::{Layer, ServiceExt};
use tower_fleet::{
    CircuitPolicy, FailoverLayer, Fleet, JsonEdit, JsonEditLayer,
    failover::FailoverBuilder,
    outcome::{HttpClassifier, WatchedBody},
    upstream::json::{EditedBody, ResponseModel, Unedited, Unmapped},
};

use crate::mock::*;

type Edited = JsonEdit<Mock>;
type EditedAnswer = Answer<WatchedBody<EditedBody<Body>>>;

/// Backends with an edit each, in tiers of their own: a goes first. One failure opens a circuit.
fn edited<const N: usize>(edits: [JsonEditLayer; N]) -> (Fleet<Edited, HttpClassifier>, [Arc<Remote>; N]) {
    let mut builder = Fleet::builder().circuit_breaker(CircuitPolicy::new().consecutive(1));
    let remotes: [Arc<Remote>; N] = std::array::from_fn(|index| mock(["a", "b", "c", "d"][index]).1);
    for ((remote, edit), priority) in remotes.iter().zip(edits).zip((0..10).rev()) {
        builder = builder.backend(backend(remote).layer(edit).priority(priority));
    }
    (builder.build().unwrap(), remotes)
}

fn model(name: &str) -> JsonEditLayer {
    JsonEditLayer::new().set("model", name).unwrap()
}

/// A request with JSON in these pieces.
fn json(pieces: Vec<Piece>) -> Request<Body> {
    Request::post("/v1/chat").header(CONTENT_TYPE, "application/json; charset=utf-8").body(body(pieces)).unwrap()
}

async fn send(fleet: &Fleet<Edited, HttpClassifier>, request: Request<Body>) -> EditedAnswer {
    sequential().build().unwrap().layer(fleet.clone()).oneshot(request).await
}

fn sequential() -> FailoverBuilder {
    FailoverLayer::builder().mode(tower_fleet::Mode::Sequential)
}

/// The bodies that a backend has read.
fn texts(remote: &Remote) -> Vec<String> {
    let text = |body: Result<(Vec<u8>, _), String>| body.map(|(data, _)| String::from_utf8(data).unwrap());
    remote.bodies().into_iter().map(|body| text(body).unwrap()).collect()
}

fn header(remote: &Remote, name: HeaderName) -> Vec<Option<String>> {
    remote.seen(|seen| seen.headers.get(&name).map(|value| value.to_str().unwrap().to_owned()))
}
