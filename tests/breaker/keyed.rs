//! One circuit per key.

use std::{
    borrow::Cow,
    future::{Ready, ready},
    num::NonZeroUsize,
};

use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_fleet::{
    CircuitState,
    breaker::{KeyedCircuitBreaker, KeyedCircuitBreakerLayer},
    outcome::ErrorsOnly,
};

use crate::{breaker, circuit_open, pass, policy, secs};

struct Ask {
    model: String,
    good: bool,
}

fn model(ask: &Ask) -> Cow<'_, str> {
    ask.model.as_str().into()
}

type Key = fn(&Ask) -> Cow<'_, str>;

fn keyed(most: usize) -> KeyedCircuitBreakerLayer<ErrorsOnly, Key> {
    breaker(policy()).keyed(NonZeroUsize::new(most).unwrap(), model as Key)
}

fn serve(ask: Ask) -> Ready<Result<(), BoxError>> {
    ready(if ask.good { Ok(()) } else { Err("broken".into()) })
}

async fn ask<S>(service: &KeyedCircuitBreaker<S, ErrorsOnly, Key>, model: &str, good: bool) -> Result<(), BoxError>
where
    S: Service<Ask, Response = (), Error = BoxError> + Clone,
{
    service.clone().oneshot(Ask { model: model.to_owned(), good }).await
}

// C35
#[tokio::test(start_paused = true)]
async fn a_key_that_fails_leaves_the_others_alone() {
    let keyed = keyed(10);
    let service = keyed.layer(service_fn(serve));
    assert!(service.switch("gpt").is_none());
    for _ in 0..5 {
        ask(&service, "gpt", false).await.unwrap_err();
        ask(&service, "claude", true).await.unwrap();
    }
    let error = ask(&service, "gpt", true).await.unwrap_err();
    assert_eq!(circuit_open(&error).backend, "gpt");
    ask(&service, "claude", true).await.unwrap();
    assert_eq!(service.switch("gpt").unwrap().state(), CircuitState::Open);
    assert_eq!(service.switch("claude").unwrap().state(), CircuitState::Closed);
    // Another service of the layer knows it too.
    circuit_open(&ask(&keyed.layer(service_fn(serve)), "gpt", true).await.unwrap_err());
    pass(secs(30)).await;
    ask(&service, "gpt", true).await.unwrap();
    assert_eq!(service.switch("gpt").unwrap().state(), CircuitState::Closed);
}

// C58
#[tokio::test(start_paused = true)]
async fn random_keys_cost_bounded_memory_and_spare_the_open_ones() {
    let service = keyed(100).layer(service_fn(serve));
    let bad: Vec<_> = (0..50).map(|number| format!("bad-{number}")).collect();
    for key in &bad {
        service.clone().oneshot(Ask { model: key.clone(), good: true }).await.unwrap();
        service.switch(key).unwrap().trip();
    }
    let mut rng = fastrand::Rng::with_seed(7);
    let mut keys = Vec::new();
    for _ in 0..10_000 {
        let key = format!("{:x}", rng.u64(..));
        ask(&service, &key, true).await.unwrap();
        keys.push(key);
    }
    let kept = keys.iter().filter(|key| service.switch(key).is_some()).count();
    assert!((1..=50).contains(&kept), "{kept}");
    assert!(service.switch(keys.last().unwrap()).is_some(), "the latest is kept");
    for key in &bad {
        assert_eq!(service.switch(key).map(|switch| switch.state()), Some(CircuitState::Open), "{key}");
    }
}

// C58
#[tokio::test(start_paused = true)]
async fn the_bound_holds_when_everything_is_open() {
    let service = keyed(20).layer(service_fn(serve));
    let mut keys = Vec::new();
    for number in 0..200 {
        let key = format!("bad-{number}");
        for _ in 0..5 {
            ask(&service, &key, false).await.unwrap_err();
        }
        assert_eq!(service.switch(&key).unwrap().state(), CircuitState::Open);
        keys.push(key);
    }
    assert_eq!(keys.iter().filter(|key| service.switch(key).is_some()).count(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_key_in_use_is_kept_before_one_that_is_not() {
    let service = keyed(10).layer(service_fn(serve));
    for _ in 0..4 {
        ask(&service, "busy", false).await.unwrap_err();
    }
    for number in 0..200 {
        // Used between any two newcomers.
        assert!(service.switch("busy").is_some(), "{number}");
        ask(&service, "busy", true).await.unwrap();
        ask(&service, &format!("passing-{number}"), true).await.unwrap();
    }
    ask(&service, "busy", false).await.unwrap_err();
    assert_eq!(service.switch("busy").unwrap().state(), CircuitState::Open, "and so is what it counted");
}

// C60
#[tokio::test(start_paused = true)]
async fn a_hostile_key_is_safe_to_show_and_stays_apart_from_its_likes() {
    let service = keyed(10).layer(service_fn(serve));
    for key in ["", "a b", "a\nb", "\u{0}", &"ä".repeat(10_000)] {
        for _ in 0..5 {
            ask(&service, key, false).await.unwrap_err();
        }
        let error = ask(&service, key, true).await.unwrap_err().to_string();
        assert!(error.is_ascii() && error.len() < 200 && !error.contains('\n'), "{error}");
    }
    ask(&service, "a_b", true).await.expect("only shown alike");
}
