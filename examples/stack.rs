//! tower's own middleware with a door: what a limit, a timeout and a retry mean around each backend, and around the door.
//!
//! `cargo run --example stack` shows both places of each:
//!
//! | | around each backend | around the door |
//! |---|---|---|
//! | limit | a full backend lets another one serve | so many requests in all |
//! | timeout | one attempt: then the next backend is tried | the whole request, with all its attempts |
//! | retry | the same backend again, before another one is tried | all backends again, when all have failed |

use std::{
    fmt::Display,
    future::{Ready, ready},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt,
    limit::ConcurrencyLimitLayer,
    retry::{Policy, RetryLayer},
    service_fn,
    timeout::TimeoutLayer,
    util::BoxCloneSyncService,
};
use tower_fleet::{Backend, FailoverLayer, Fleet, Mode};

type Replica = BoxCloneSyncService<(), String, BoxError>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let failover = FailoverLayer::plain().mode(Mode::Sequential).build()?;
    let (patience, again) = (TimeoutLayer::new(Duration::from_millis(50)), RetryLayer::new(Again { left: 1 }));

    // A full backend is not ready, which is not a failure: the door selects the other one.
    let fleet =
        Fleet::plain().backends(slow("a", "b", 20).map(|one| one.layer(ConcurrencyLimitLayer::new(1)))).build()?;
    let door = ServiceBuilder::new().layer(failover.clone()).service(fleet);
    show("one at a time each", ask(door, 2).await, "a, b")?;

    // Here a request waits for its turn or, with `load_shed`, is rejected.
    let fleet = Fleet::plain().backends(slow("a", "b", 20)).build()?;
    let door = ServiceBuilder::new().load_shed().concurrency_limit(1).layer(failover.clone()).service(fleet);
    show("one at a time in all", ask(door, 2).await, "a, service overloaded")?;

    // A timeout is a failure of the backend, like any other. `Backend::timeout` also knows its name.
    let fleet = Fleet::plain().backends(slow("hangs", "b", 5_000).map(|one| one.layer(patience.clone()))).build()?;
    let door = ServiceBuilder::new().layer(failover.clone()).service(fleet);
    show("50 ms each", ask(door, 1).await, "b")?;

    // The caller's timeout: it ends the whole request, and is not a failure of a backend.
    let fleet = Fleet::plain().backends(slow("hangs", "b", 5_000)).build()?;
    let door = ServiceBuilder::new().layer(patience).layer(failover.clone()).service(fleet);
    show("50 ms in all", ask(door, 1).await, "request timed out")?;

    // One failure of a backend is retried at this backend, and the door does not see it.
    let fleet = Fleet::plain().backends(hiccup().map(|one| one.layer(again.clone()))).build()?;
    let door = ServiceBuilder::new().layer(failover.clone()).service(fleet);
    show("once more each", ask(door, 1).await, "a, a again")?;

    // The door tries the other backend first; then the whole request is retried.
    let fleet = Fleet::plain().backends(hiccup()).build()?;
    let door = ServiceBuilder::new().layer(again).layer(failover).service(fleet);
    show("once more in all", ask(door, 1).await, "a, b, a again")
}

/// The first takes that many milliseconds, the other one none.
fn slow(first: &'static str, other: &'static str, millis: u64) -> [Backend<Replica>; 2] {
    [(first, millis), (other, 0)].map(|(name, millis)| {
        let service = service_fn(move |()| async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok::<_, BoxError>(name.to_owned())
        });
        Backend::new(name, Replica::new(service))
    })
}

/// Each fails its first call. A later one answers with the names of all backends that were called so far.
fn hiccup() -> [Backend<Replica>; 2] {
    let asked = Arc::new(Mutex::new(Vec::new()));
    ["a", "b"].map(|name| {
        let asked = Arc::clone(&asked);
        let service = service_fn(move |()| {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            let again = asked.contains(&name);
            asked.push(name);
            ready(if again { Ok(asked.join(", ") + " again") } else { Err(BoxError::from("a hiccup")) })
        });
        Backend::new(name, Replica::new(service))
    })
}

/// Retries an error that many times.
#[derive(Clone)]
struct Again {
    left: u32,
}

impl<Res, E> Policy<(), Res, E> for Again {
    type Future = Ready<()>;

    fn retry(&mut self, (): &mut (), result: &mut Result<Res, E>) -> Option<Ready<()>> {
        let again = result.is_err() && self.left > 0;
        self.left = self.left.saturating_sub(1);
        again.then(|| ready(()))
    }

    fn clone_request(&mut self, (): &()) -> Option<()> {
        Some(())
    }
}

/// The results of that many requests at once.
async fn ask<S>(door: S, requests: usize) -> String
where
    S: Service<(), Response = String, Error: Display> + Clone,
{
    let answers = join_all((0..requests).map(|_| door.clone().oneshot(()))).await;
    answers.into_iter().map(|answer| answer.unwrap_or_else(|error| error.to_string())).collect::<Vec<_>>().join(", ")
}

fn show(what: &str, came: String, expected: &str) -> Result<(), BoxError> {
    println!("{what}: {came}");
    if came == expected { Ok(()) } else { Err(format!("expected {expected}").into()) }
}
