//! Who shares a circuit, and what its handle does.

use futures::{FutureExt, StreamExt};
use tower::{BoxError, Layer, ServiceBuilder, util::BoxCloneSyncService};
use tower_fleet::{
    CircuitState,
    breaker::Switch,
    outcome::{Outcome, classify_fn},
};

use crate::{
    ask, breaker, circuit_open,
    mock::{Answer, Mock},
    pass, policy, secs, settle,
};

// C35
#[tokio::test(start_paused = true)]
async fn services_of_a_layer_and_their_clones_share_a_circuit() {
    let layer = breaker(policy()).name("orders").unwrap();
    let switch = layer.switch().unwrap();
    let (mock, remote) = Mock::new("orders");
    remote.answer(Answer::Error);
    // As axum does it: a service per connection, a clone per request.
    for _connection in 0..5 {
        let service = ServiceBuilder::new().layer(layer.clone()).service(mock.clone());
        ask(&service.clone()).await.unwrap_err();
    }
    assert_eq!(switch.state(), CircuitState::Open);
    circuit_open(&ask(&layer.layer(mock)).await.unwrap_err());
    assert_eq!(remote.calls(), 5);
}

#[tokio::test(start_paused = true)]
async fn separate_services_have_circuits_of_their_own() {
    let layer = breaker(policy()).separate();
    assert!(layer.switch().is_none());
    let (one, other) = (layer.layer(Mock::new("one").0), layer.clone().layer(Mock::new("other").0));
    one.switch().trip();
    circuit_open(&ask(&one).await.unwrap_err());
    circuit_open(&ask(&one.clone()).await.unwrap_err());
    ask(&other).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_name_or_classifier_starts_another_circuit() {
    let one = breaker(policy());
    let first = one.layer(Mock::<()>::new("a").0);
    let renamed = one.clone().name("b").unwrap().layer(Mock::new("b").0);
    let neutral = classify_fn(|_: Result<&&str, &BoxError>| Outcome::Neutral);
    let reclassified = one.clone().classify(neutral).layer(Mock::new("c").0);
    first.switch().trip();
    assert_eq!(one.switch().unwrap().state(), CircuitState::Open);
    ask(&renamed).await.unwrap();
    ask(&reclassified).await.unwrap();
}

// C41
#[tokio::test(start_paused = true)]
async fn a_switch_outlives_boxes_and_clones() {
    let (mock, remote) = Mock::new("orders");
    let service = breaker(policy()).layer(mock);
    let switch = service.switch();
    let boxed = BoxCloneSyncService::new(service);
    switch.clone().force_open();
    circuit_open(&ask(&boxed.clone()).await.unwrap_err());
    switch.reset();
    ask(&boxed).await.unwrap();
    drop(boxed);
    assert_eq!(remote.instances(), 0, "a handle keeps no service alive");
    switch.trip();
    assert_eq!(switch.state(), CircuitState::Open);
    assert_eq!(format!("{switch:?}"), r#"Switch { name: "service", state: Open }"#);
}

// C41
#[tokio::test(start_paused = true)]
async fn an_operator_has_the_last_word() {
    let (mock, remote) = Mock::new("orders");
    let service = breaker(policy()).layer(mock);
    let switch = service.switch();
    remote.answer(Answer::Error);

    switch.force_closed();
    for _ in 0..20 {
        assert!(!ask(&service).await.unwrap_err().is::<tower_fleet::breaker::CircuitOpen>());
    }
    switch.trip();
    assert_eq!(switch.state(), CircuitState::ForcedClosed, "no rule opens what is held closed");

    switch.force_open();
    pass(secs(3_600)).await;
    switch.probe_now();
    switch.trip();
    assert_eq!(switch.state(), CircuitState::ForcedOpen, "no time closes what is held open");
    circuit_open(&ask(&service).await.unwrap_err());

    remote.answer(Answer::Ok);
    switch.reset();
    ask(&service).await.unwrap();

    switch.trip();
    assert_eq!(switch.state(), CircuitState::Open);
    switch.probe_now();
    assert_eq!(switch.state(), CircuitState::HalfOpen);
    ask(&service).await.unwrap();
    assert_eq!(switch.state(), CircuitState::Closed);
    switch.probe_now();
    assert_eq!(switch.state(), CircuitState::Closed);
}

// C41
#[tokio::test(start_paused = true)]
async fn transitions_come_in_order_and_end_with_the_circuit() {
    let (mock, remote) = Mock::new("orders");
    let layer = breaker(policy().consecutive(1));
    let service = layer.layer(mock);
    let switch = service.switch();
    let (mut transitions, mut also) = (switch.transitions(), switch.transitions());
    remote.answer(Answer::Error);
    ask(&service).await.unwrap_err();
    pass(secs(30)).await;
    remote.answer(Answer::Ok);
    ask(&service).await.unwrap();
    switch.force_open();
    switch.force_open();
    switch.force_closed();
    switch.reset();
    switch.reset();
    drop((service, layer));
    assert!(transitions.by_ref().take(6).count().now_or_never().is_some());
    assert!(transitions.next().now_or_never().is_none(), "the handle is left");
    drop(switch);
    assert_eq!(transitions.next().now_or_never(), Some(None));

    let mut seen = Vec::new();
    while let Some(Some(transition)) = also.next().now_or_never() {
        seen.push(transition);
    }
    let states: Vec<_> = seen.iter().map(|transition| transition.to).collect();
    use CircuitState::{Closed, ForcedClosed, ForcedOpen, HalfOpen, Open};
    assert_eq!(states, [Open, HalfOpen, Closed, ForcedOpen, ForcedClosed, Closed]);
    for pair in seen.windows(2) {
        assert_eq!(pair[0].to, pair[1].from);
        assert!(pair[0].generation < pair[1].generation);
    }
}

// C41
#[tokio::test(start_paused = true)]
async fn a_listener_that_sleeps_holds_up_nobody_and_can_tell() {
    let switch = breaker(policy()).switch().unwrap();
    let mut transitions = switch.transitions();
    flap(&switch, 10_000);
    let mut seen = 0;
    while let Some(Some(_)) = transitions.next().now_or_never() {
        seen += 1;
    }
    assert!((100..1_000).contains(&seen), "{seen}");
    let mut listening = tokio::spawn(async move { transitions.next().await });
    settle().await;
    flap(&switch, 1);
    let after = (&mut listening).await.unwrap().unwrap();
    assert!(after.generation > 20_000, "{after:?}");
}

fn flap(switch: &Switch, times: usize) {
    for _ in 0..times {
        switch.trip();
        switch.reset();
    }
}
