//! Tests of the configuration: files, the fleets and doors made of them, and errors.

use std::{convert::Infallible, fmt::Debug};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Layer, service_fn};

use super::{Config, ConfigError};
use crate::{body::ReplayBody, failover::Ledger};

mod backends;
mod breaker;
mod failover;
mod formats;
mod json;
mod limits;
mod random;
mod refusals;
mod rejections;
mod resume;
mod secrets;
mod shares;

/// Reads a file, and adds a backend if it has none. Every variable with `KEY` in its name is set.
fn read(text: &str) -> Result<Config, ConfigError> {
    let has_backends = text.lines().any(|line| line.starts_with("[[backend]]") || line.starts_with("backend ="));
    let text = if has_backends { text.to_owned() } else { with_backends(text, &["only"]) };
    let source = toml::Deserializer::parse(&text).expect("TOML");
    Config::read_with(source, |name| name.contains("KEY").then(|| format!("hush-{name}")))
}

#[track_caller]
fn good(text: &str) -> Config {
    read(text).unwrap_or_else(|invalid| panic!("{invalid}"))
}

#[track_caller]
fn refused(text: &str) -> String {
    read(text).expect_err("a refused file").to_string()
}

/// The text with these backends.
fn with_backends(text: &str, names: &[&str]) -> String {
    let backends = names.iter().map(|name| format!("\n[[backend]]\nname = \"{name}\"\norigin = \"http://{name}\"\n"));
    text.to_owned() + &backends.collect::<String>()
}

fn debugged(value: &impl Debug) -> String {
    format!("{value:?}")
}

/// Sends a request through the failover of the file, to backends that respond with these statuses.
async fn send(text: &str, statuses: &[(&str, u16)]) -> (Response<()>, Ledger) {
    let names: Vec<_> = statuses.iter().map(|(name, _)| *name).collect();
    let config = good(&with_backends(text, &names));
    let fleet = config.fleet(|backend| {
        let status = statuses.iter().find(|(name, _)| *name == backend.name()).map_or(500, |(_, status)| *status);
        service_fn(move |request: Request<ReplayBody<Full<Bytes>>>| async move {
            let _ = request.into_body().collect().await;
            let response = Response::builder().status(status).body(Full::new(Bytes::from_static(b"some")));
            Ok::<_, Infallible>(response.expect("a response"))
        })
    });
    let door = config.failover().layer(fleet.expect("a fleet"));
    let request = Request::post("/").body(Full::new(Bytes::from_static(b"body"))).expect("a request");
    match door.oneshot(request).await {
        Ok(response) => {
            let ledger = response.extensions().get::<Ledger>().expect("a ledger").clone();
            (response.map(drop), ledger)
        }
        Err(error) => {
            let response = Response::builder().status(599).body(()).expect("a response");
            (response, error.ledger().clone())
        }
    }
}
