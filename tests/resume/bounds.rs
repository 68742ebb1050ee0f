//! Budget, deadline, ledger, cancellation: a resumption belongs to the request of the caller.

use std::time::Duration;

use http_body_util::BodyExt;
use tower::{Service, util::ServiceExt};
use tower_fleet::{
    Failover, FailoverLayer, Fleet,
    failover::{Budget, FailoverBuilder, Mode},
    resume::{ByteRanges, ResumeLayer},
};
use tower_layer::Layer;

use super::{
    downloads::{ETAG, TEXT, cut, get, rest, send},
    replica::{Client, Joined, Piece, data, fleet, read, reply, story},
};

async fn send_by(builder: FailoverBuilder, fleet: &Fleet<Client>) -> Joined {
    let door: Failover<Client> = builder.build().unwrap().layer(fleet.clone());
    ResumeLayer::new(ByteRanges::new()).layer(door).oneshot(get(&[])).await.unwrap().into_body()
}

// C75
#[tokio::test(start_paused = true)]
async fn the_only_backend_is_asked_again() {
    let (fleet, [a]) = fleet();
    a.then([cut(5), rest(5, 9), rest(9, 20)]);
    let (text, _, error, body) = read(send(&fleet, get(&[])).await.into_body()).await;
    assert_eq!((text.as_str(), error), (TEXT, None));
    assert_eq!(story(&body), "a:cut(5) a:cut(9) a:served");
}

// C75
#[tokio::test(start_paused = true)]
async fn a_backend_that_broke_off_is_asked_after_all_others() {
    let (fleet, [a, b, c]) = fleet();
    a.then([cut(5), rest(12, 15)]);
    b.then([rest(5, 8), rest(15, 20)]);
    c.then([rest(8, 12)]);
    let (text, _, error, body) = read(send(&fleet, get(&[])).await.into_body()).await;
    assert_eq!((text.as_str(), error), (TEXT, None));
    assert_eq!(story(&body), "a:cut(5) b:cut(8) c:cut(12) a:cut(15) b:served");
}

// C75
#[tokio::test(start_paused = true)]
async fn the_rest_fails_over_too() {
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(Duration::from_secs(1))] {
        let (fleet, [a, b, c]) = fleet();
        a.then([cut(5)]);
        c.then([rest(5, 20)]);
        let body = send_by(FailoverLayer::builder().mode(mode), &fleet).await;
        let (text, _, error, body) = read(body).await;
        assert_eq!((text.as_str(), error), (TEXT, None), "{mode:?}");
        assert!(story(&body).starts_with("a:cut(5) b:status 503"), "{mode:?}: {}", story(&body));
        assert_eq!(body.ledger().unwrap().served().unwrap(), "c", "{mode:?}");
        assert!(b.calls() >= 1, "{mode:?}");
    }
}

// C75
#[tokio::test(start_paused = true)]
async fn without_a_backend_the_caller_gets_the_original_error() {
    let (fleet, [a, b]) = fleet();
    a.then([cut(5)]);
    let response = send(&fleet, get(&[])).await;
    fleet.drain("a");
    fleet.drain("b");
    let (text, _, error, body) = read(response.into_body()).await;
    assert_eq!((text.as_str(), error.as_deref()), (&TEXT[..5], Some("cut")));
    assert_eq!((a.calls(), b.calls()), (1, 0));
    assert_eq!(story(&body), "a:cut(5)");
}

// C75
#[tokio::test(start_paused = true)]
async fn a_body_is_resumed_only_so_often_and_only_with_progress() {
    let send = async |most: u32, fleet: &Fleet<Client>| {
        let door: Failover<Client> = FailoverLayer::new().layer(fleet.clone());
        let layer = ResumeLayer::new(ByteRanges::new()).most(most);
        read(layer.layer(door).oneshot(get(&[])).await.unwrap().into_body()).await
    };
    let (fleet, [a]) = fleet();
    a.then([cut(5), rest(5, 6), rest(6, 7), rest(7, 8)]);
    let (text, _, error, _) = send(2, &fleet).await;
    assert_eq!((text.as_str(), error.as_deref(), a.calls()), (&TEXT[..7], Some("cut again"), 3));
    // The rest breaks off at once.
    let (fleet, [a]) = super::replica::fleet();
    a.then([cut(5), rest(5, 5), rest(5, 20)]);
    let (text, _, error, _) = send(8, &fleet).await;
    assert_eq!((text.as_str(), error.as_deref(), a.calls()), (&TEXT[..5], Some("cut"), 2));
    // Switched off.
    let (fleet, [a]) = super::replica::fleet();
    a.then([cut(5), rest(5, 20)]);
    let (text, _, error, body) = send(0, &fleet).await;
    assert_eq!(
        (text.as_str(), error.as_deref(), a.calls(), body.ledger().is_none()),
        (&TEXT[..5], Some("cut"), 1, true)
    );
}

// C53, C75
#[tokio::test(start_paused = true)]
async fn a_resumption_is_an_extra_attempt_to_the_budget() {
    let budget = Budget::new(0.0).reserve(2);
    let builder = FailoverLayer::builder().budget(budget);
    let (fleet, [a]) = fleet();
    a.then([cut(5), rest(5, 6), rest(6, 7), rest(7, 8)]);
    let (text, _, error, body) = read(send_by(builder, &fleet).await).await;
    assert_eq!((text.as_str(), error.as_deref(), a.calls()), (&TEXT[..7], Some("cut again"), 3));
    let stopped = body.ledger().unwrap().stopped();
    assert_eq!(stopped, Some(tower_fleet::failover::Stopped::OverBudget));
}

// C53, C75
#[tokio::test(start_paused = true)]
async fn a_resumption_adds_nothing_to_the_budget() {
    // A share of 1: with each request, one more token.
    let builder = FailoverLayer::builder().budget(Budget::new(1.0).reserve(1));
    let (fleet, [a]) = fleet();
    a.then([cut(5), rest(5, 6), rest(6, 7), rest(7, 8)]);
    let (text, ..) = read(send_by(builder, &fleet).await).await;
    assert_eq!((text.as_str(), a.calls()), (&TEXT[..7], 3), "the reserve, and the share of one request");
}

// C51, C75
#[tokio::test(start_paused = true)]
async fn the_deadline_is_that_of_the_first_request() {
    let whole = [ETAG, ("content-length", "20")];
    let late = |millis| reply(200, &whole, vec![data(&TEXT[..5]), Piece::Wait(millis), Piece::Error("cut")]);
    let builder = || FailoverLayer::builder().mode(Mode::Sequential).deadline(Duration::from_secs(1));
    // In time.
    let (fleet, [a]) = fleet();
    a.then([late(500), rest(5, 20).after(400)]);
    let (text, _, error, _) = read(send_by(builder(), &fleet).await).await;
    assert_eq!((text.as_str(), error), (TEXT, None));
    // The time is up before the head of the rest.
    let (fleet, [a]) = super::replica::fleet();
    a.then([late(500), rest(5, 20).after(700)]);
    let start = tokio::time::Instant::now();
    let (text, _, error, _) = read(send_by(builder(), &fleet).await).await;
    assert_eq!((text.as_str(), error.as_deref(), a.calls(), a.running()), (&TEXT[..5], Some("cut"), 2, 0));
    assert!((1000..=1005).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    // The time was up before.
    let (fleet, [a]) = super::replica::fleet();
    a.then([late(1500), rest(5, 20)]);
    let (text, _, error, body) = read(send_by(builder(), &fleet).await).await;
    assert_eq!((text.as_str(), error.as_deref(), a.calls()), (&TEXT[..5], Some("cut"), 1));
    assert_eq!(body.ledger().unwrap().stopped(), Some(tower_fleet::failover::Stopped::OutOfTime));
}

// C20, C75
#[tokio::test(start_paused = true)]
async fn dropping_the_body_ends_the_resumption() {
    let (fleet, [a, b]) = fleet();
    a.then([cut(5)]);
    b.then([rest(5, 20).after(60_000)]);
    let mut body = send(&fleet, get(&[])).await.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), &TEXT[..5]);
    let waited = tokio::time::timeout(Duration::from_secs(1), body.frame()).await;
    assert!(waited.is_err());
    assert_eq!((a.running(), b.running()), (0, 1), "the body that broke off is dropped before the rest is awaited");
    drop(body);
    assert_eq!(b.running(), 0);
    assert!(fleet.snapshot().iter().all(|backend| backend.in_flight == 0));
}

// C75
#[tokio::test(start_paused = true)]
async fn a_body_that_broke_off_is_a_failure_of_its_backend() {
    let policy = tower_fleet::CircuitPolicy::new().consecutive(1);
    let (_, [a, b]) = fleet();
    let fleet = Fleet::builder()
        .backend(tower_fleet::Backend::new("a", a.client()).priority(1))
        .backend(tower_fleet::Backend::new("b", b.client()))
        .circuit_breaker(policy)
        .build()
        .unwrap();
    a.then([cut(5)]);
    b.then([rest(5, 20)]);
    let (text, ..) = read(send(&fleet, get(&[])).await.into_body()).await;
    assert_eq!(text, TEXT);
    let states: Vec<_> = fleet.snapshot().iter().map(|backend| (backend.name.to_string(), backend.state)).collect();
    use tower_fleet::CircuitState::{Closed, Open};
    assert_eq!(states, [("a".to_string(), Open), ("b".to_string(), Closed)]);
}

// C75
#[tokio::test(start_paused = true)]
async fn any_service_that_is_clone_can_be_resumed() {
    let (_, [a]) = fleet();
    a.then([cut(5), rest(5, 20)]);
    let client = a.client();
    // Without a failover there is one `ReplayBody` less.
    let service = tower::service_fn(move |request: http::Request<tower_fleet::resume::RequestBody<_>>| {
        client.clone().oneshot(request.map(tower_fleet::ReplayBody::new))
    });
    let mut resuming = ResumeLayer::new(ByteRanges::new()).layer(service);
    let mut body = resuming.ready().await.unwrap().call(get(&[])).await.unwrap().into_body();
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        text.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    assert_eq!((text, body.ledger().is_none()), (TEXT.as_bytes().to_vec(), true));
}

/// The allocations of one download that does not break off.
async fn allocations(resumes: bool) -> u64 {
    const PIECES: usize = 20;
    let (fleet, [a]) = fleet();
    let answer = || {
        let pieces = TEXT.bytes().map(|byte| data([byte])).take(PIECES).collect();
        reply(200, &[ETAG, ("content-length", "20")], pieces)
    };
    a.then([answer(), answer()]);
    let door: Failover<Client> = FailoverLayer::new().layer(fleet.clone());
    let layer = ResumeLayer::new(ByteRanges::new()).most(u32::from(resumes));
    let mut resuming = layer.layer(door);
    let mut counted = 0;
    // The first one warms up.
    for _ in 0..2 {
        let response = resuming.ready().await.unwrap().call(get(&[])).await.unwrap();
        let mut body = response.into_body();
        let mut read = || {
            use futures::FutureExt;
            (0..=PIECES).filter(|_| body.frame().now_or_never().unwrap().is_some()).count()
        };
        let measured = allocation_counter::measure(|| assert_eq!(read(), PIECES));
        counted = measured.count_total;
    }
    counted
}

// C75
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_break_off_is_read_without_an_allocation() {
    assert_eq!(allocations(true).await, allocations(false).await);
}
