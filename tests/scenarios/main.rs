//! What the crate does, in ten stories.
//!
//! A `Provider` is an API that follows a script: it does what it is to do `next`, then what it `usually` does, which is
//! to answer with its name and the question. Or it `says(429)`, `breaks(ConnectionReset)`, or `hangs()`, some time
//! `after`. `ask` sends one request through a door. That much is in `provider.rs`; everything else here is the crate.
//!
//! Nothing leaves the process, and time is paused: half an hour passes when everybody waits for it, and not before.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod provider;

use std::{
    io::ErrorKind::{ConnectionRefused, ConnectionReset},
    pin::pin,
    time::Duration,
};

use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_fleet::{
    AdminStatus, Backend, BalanceLayer, CircuitBreakerLayer, CircuitPolicy, CircuitState, FailoverLayer, Fleet,
    breaker::CircuitOpen,
    failover::{Backoff, CommitPoint, ErrorKind, Ledger, Mode},
};
use tower_http::timeout::ResponseBodyTimeoutLayer;

use crate::provider::{Part::*, *};

// 1. Normal, five failures within 60 s, rejected, half-open, closed again. C35, C36, C38, C40
#[tokio::test(start_paused = true)]
async fn story_1_five_failures_within_a_minute_and_back_again() {
    let api = Provider::new("api");
    let policy = CircuitPolicy::new().failures(5).within(secs(60)).open_for(secs(30));
    let layer = CircuitBreakerLayer::with_policy(policy).unwrap().name("api").unwrap();
    let guarded = ServiceBuilder::new().layer(layer).service(api.client());
    let switch = guarded.switch();

    assert_eq!(text(ask(&guarded, "hello").await.unwrap()).await, "api: hello");

    // Four failures, and a fifth when they are more than a minute ago, are no reason yet. Four more are.
    api.next(vec![says(503); 9]);
    for failure in 1..=9 {
        assert_eq!(switch.state(), CircuitState::Closed, "before failure {failure}");
        pass(if failure == 5 { secs(61) } else { secs(1) }).await;
        assert_eq!(ask(&guarded, "hello").await.unwrap().status(), 503);
    }
    assert_eq!(switch.state(), CircuitState::Open);

    // It recovers, but for half a minute nobody asks it, and callers are told when to come back.
    pass(secs(10)).await;
    let error = ask(&guarded, "hello").await.unwrap_err();
    let rejected = error.downcast_ref::<CircuitOpen>().unwrap();
    assert_eq!((&*rejected.backend, rejected.retry_after), ("api", Some(secs(20))));
    assert_eq!(api.asked(), 10);

    // Then one request at a time may find out.
    pass(secs(20)).await;
    assert_eq!(switch.state(), CircuitState::HalfOpen);
    api.next([answers().after(secs(1))]);
    let (probe, other) = futures::join!(ask(&guarded, "are you back?"), ask(&guarded, "and?"));
    assert_eq!(text(probe.unwrap()).await, "api: are you back?");
    assert!(other.unwrap_err().is::<CircuitOpen>());
    assert_eq!(switch.state(), CircuitState::Closed);
    assert_eq!(text(ask(&guarded, "welcome").await.unwrap()).await, "api: welcome");
}

// 2. Five providers with weights, primary degraded by hand: a backup serves, the primary shows degraded.
// C5, C8, C22, C41
#[tokio::test(start_paused = true)]
async fn story_2_an_operator_takes_the_primary_out_and_brings_it_back() {
    let primary = Provider::new("primary");
    let backups = ["north", "east", "south", "west"].map(Provider::new);
    let fleet = Fleet::builder()
        .backend(primary.backend().weight(50).priority(10))
        .backends(backups.iter().zip([20, 15, 10, 5]).map(|(backup, weight)| backup.backend().weight(weight)))
        .build()
        .unwrap();
    let layer = FailoverLayer::builder().strategy_named("weighted_failover".parse().unwrap()).build().unwrap();
    let door = ServiceBuilder::new().layer(layer).service(fleet.clone());

    assert_eq!(text(ask(&door, "1").await.unwrap()).await, "primary: 1");

    fleet.set_status("primary", AdminStatus::Degraded);
    for _ in 0..50 {
        assert_eq!(ask(&door, "2").await.unwrap().status(), 200);
    }
    assert_eq!(primary.asked(), 1);
    assert_eq!(backups.map(|backup| backup.asked()), [20, 15, 10, 5], "by their weights");
    let shown = fleet.snapshot().iter().map(|one| format!("{} {}", one.name, one.status)).collect::<Vec<_>>();
    assert_eq!(shown, ["primary degraded", "north healthy", "east healthy", "south healthy", "west healthy"]);

    fleet.set_status("primary", AdminStatus::Healthy);
    assert_eq!(text(ask(&door, "3").await.unwrap()).await, "primary: 3");
}

// 3. Per-backend timeouts, one of 30 minutes. C50
#[tokio::test(start_paused = true)]
async fn story_3_each_provider_has_the_time_it_needs() {
    let (chat, research) = (Provider::new("chat"), Provider::new("research"));
    let fleet = Fleet::builder()
        .backend(chat.backend().timeout(secs(30)).priority(10))
        .backend(research.backend().timeout(secs(30 * 60)))
        .build()
        .unwrap();
    let layer = FailoverLayer::builder().mode(Mode::Sequential).build().unwrap();
    let door = ServiceBuilder::new().layer(layer).service(fleet);

    // After half a minute the request moves on, and then half an hour is not too long.
    chat.usually(hangs());
    research.next([answers().after(secs(29 * 60))]);
    let began = Instant::now();
    assert_eq!(text(ask(&door, "why?").await.unwrap()).await, "research: why?");
    assert_took(began, secs(30 + 29 * 60));
    assert_eq!(chat.cancelled(), 1);

    // But no longer: then it is an error that names both, and no response at all.
    research.usually(answers().after(secs(31 * 60)));
    let began = Instant::now();
    let error = ask(&door, "why?").await.unwrap_err().to_string();
    assert_took(began, secs(30 + 30 * 60));
    assert!(error.contains("`chat`: timeout (30") && error.contains("`research`: timeout (1800"), "{error}");
    assert_eq!((chat.cancelled(), research.cancelled()), (2, 1));
}

// 3. With no partial response: what a timeout leaves behind is not seen. C25, C32, C50
#[tokio::test(start_paused = true)]
async fn story_3_a_timeout_yields_no_half_response() {
    let (chat, research) = (Provider::new("chat"), Provider::new("research"));
    let fleet = Fleet::builder()
        .backend(chat.backend().timeout(secs(30)).priority(10))
        .backend(research.backend())
        .build()
        .unwrap();
    // A response is the answer with the first frame of its body; with its head alone it is none yet.
    let layer = FailoverLayer::builder().mode(Mode::Sequential).commit(CommitPoint::first_frame()).build().unwrap();
    let door = ServiceBuilder::new().layer(layer).service(fleet);

    chat.usually(says(200).header("x-model", "chat").body([Stalls]));
    research.usually(says(200).body([Text("data: whole\n\n"), Pause(secs(60)), Text("data: [done]\n\n")]));
    let began = Instant::now();
    let response = ask(&door, "why?").await.unwrap();
    assert_took(began, secs(30));
    assert!(!response.headers().contains_key("x-model"));
    // The timeout is over with the first frame: streams may take their time.
    assert_eq!(text(response).await, "data: whole\n\ndata: [done]\n\n");
}

// 3. With no partial response: once it is the answer, trouble is an error, and never looks like the end. C32, C50
#[tokio::test(start_paused = true)]
async fn story_3_a_stream_that_stalls_or_breaks_is_no_clean_end() {
    for (trouble, lasts) in [(Breaks, secs(0)), (Stalls, secs(30))] {
        let (chat, research) = (Provider::new("chat"), Provider::new("research"));
        chat.usually(says(200).body([Text("data: half\n\n"), trouble]));
        // Time for a body between two frames is tower-http's, around the client.
        let client = ServiceBuilder::new()
            .map_response(|response: http::Response<_>| response.map(BodyExt::boxed_unsync))
            .layer(ResponseBodyTimeoutLayer::new(secs(30)))
            .service(chat.client());
        let fleet = Fleet::builder()
            .backend(Backend::new("chat", BoxCloneSyncService::new(client)).timeout(secs(5)).priority(10))
            .backend(research.backend())
            .build()
            .unwrap();
        let door = ServiceBuilder::new().layer(FailoverLayer::new()).service(fleet);

        let mut body = ask(&door, "why?").await.unwrap().into_body();
        assert_eq!(frame(&mut body).await.unwrap().unwrap(), "data: half\n\n");
        let began = Instant::now();
        assert!(frame(&mut body).await.unwrap().is_err());
        assert_took(began, lasts);
        assert_eq!(research.asked(), 0, "nobody can go on where it stopped");
    }
}

// 4. Backoff 2, 4, 8, capped at 16 s, jittered. C52
#[tokio::test(start_paused = true)]
async fn story_4_backoff_doubles_to_a_cap_and_is_jittered() {
    let mut firsts = Vec::new();
    for _ in 0..20 {
        let gaps = gaps_of_retries(Backoff::new(secs(2), secs(16)).jitter(0.1)).await;
        assert_eq!(gaps.len(), 5);
        for (gap, nominal) in gaps.iter().zip([2, 4, 8, 16, 16].map(secs)) {
            // Up to a tenth longer by chance, but never longer than the cap. Timers round up to a millisecond.
            let longest = nominal.mul_f64(1.1).min(secs(16)) + millis(1);
            assert!((nominal..=longest).contains(gap), "{gap:?}, not {nominal:?} to {longest:?}");
        }
        firsts.push(gaps[0]);
    }
    firsts.sort();
    firsts.dedup();
    assert!(firsts.len() > 5, "callers that failed together do not come back together: {firsts:?}");
}

// 4. Jittered, but for one request never shorter than the time before. C52
#[tokio::test(start_paused = true)]
async fn story_4_chance_does_not_make_a_pause_shorter() {
    for _ in 0..20 {
        let gaps = gaps_of_retries(Backoff::new(secs(2), secs(16)).factor(1.0).jitter(0.5)).await;
        assert!(gaps.windows(2).all(|two| two[0] <= two[1] + millis(1)), "{gaps:?}");
    }
}

/// The pauses of one request that is tried six times, all in vain.
async fn gaps_of_retries(backoff: Backoff) -> Vec<Duration> {
    let api = Provider::new("api");
    api.usually(says(503));
    let fleet = Fleet::builder().backend(api.backend()).build().unwrap();
    let layer =
        FailoverLayer::builder().mode(Mode::Sequential).attempts_per_backend(6).backoff(backoff).build().unwrap();
    let door = ServiceBuilder::new().layer(layer).service(fleet);
    assert_eq!(ask(&door, "now?").await.unwrap().status(), 503);
    api.gaps()
}

// 5. 100 concurrent requests while the primary goes down: 100 successes. C24, C33, C44, C57
#[tokio::test(start_paused = true)]
async fn story_5_a_hundred_requests_outlive_the_primary() {
    let (primary, backup) = (Provider::new("primary"), Provider::new("backup"));
    let fleet = Fleet::builder()
        .backend(primary.backend().priority(10))
        .backend(backup.backend())
        .circuit_breaker(CircuitPolicy::new().failures(5).within(secs(60)))
        .build()
        .unwrap();
    let door = ServiceBuilder::new().layer(FailoverLayer::new()).service(fleet.clone());

    // It answers thirty, breaks off twenty, and is gone.
    primary.next(vec![answers().after(millis(20)); 30]);
    primary.next(vec![breaks(ConnectionReset).after(millis(15)); 20]);
    primary.usually(breaks(ConnectionRefused));
    let began = Instant::now();
    let requests = (0..100).map(async |id| text(ask(&door, &format!("request {id}")).await.unwrap()).await);
    let answers = futures::future::join_all(requests).await;
    assert!(began.elapsed() < secs(2));

    let mut served = [0, 0];
    for (id, answer) in answers.iter().enumerate() {
        // Each its own answer, to the whole of its question.
        let (name, question) = answer.split_once(": ").unwrap();
        assert_eq!(question, format!("request {id}"));
        served[usize::from(name == "backup")] += 1;
    }
    assert_eq!(served, [30, 70]);

    // By now everybody knows.
    let asked = primary.asked();
    assert_eq!(fleet.snapshot()[0].state, CircuitState::Open);
    assert_eq!(text(ask(&door, "one more").await.unwrap()).await, "backup: one more");
    assert_eq!(primary.asked(), asked);
}

// 6. Weighted 70/30 over 100 requests. C5
#[tokio::test(start_paused = true)]
async fn story_6_weights_are_exact_shares() {
    let (large, small) = (Provider::new("large"), Provider::new("small"));
    let fleet =
        Fleet::builder().backend(large.backend().weight(70)).backend(small.backend().weight(30)).build().unwrap();
    let door = ServiceBuilder::new().layer(BalanceLayer::weighted()).service(fleet);

    for tens in 1..=10 {
        for _ in 0..10 {
            ask(&door, "hello").await.unwrap();
        }
        assert_eq!((large.asked(), small.asked()), (7 * tens, 3 * tens), "evenly spread");
    }
    assert_eq!((large.asked(), small.asked()), (70, 30));
}

// 7. Primary fails with a 429: the race, the first success, losers cancelled. C15, C16, C17
#[tokio::test(start_paused = true)]
async fn story_7_a_429_starts_a_race_and_the_first_success_wins() {
    let [primary, busy, quick, slow] = ["primary", "busy", "quick", "slow"].map(Provider::new);
    let others = [&busy, &quick, &slow].map(Provider::backend);
    let fleet = Fleet::builder().backend(primary.backend().priority(10)).backends(others).build().unwrap();
    let mut door = ServiceBuilder::new().layer(FailoverLayer::new()).service(fleet.clone());

    primary.next([says(429), hangs()]);
    busy.usually(says(503).after(secs(1)));
    quick.usually(says(200).after(secs(3)).body([Text("here "), Pause(secs(60)), Text("it is")]));
    slow.usually(answers().after(secs(4)));
    let began = Instant::now();
    let mut answer = pin!(door.ready().await.unwrap().call(question("anybody?")));
    let response = answer.as_mut().await.unwrap();
    assert_took(began, secs(3));

    // The future is still there, but no attempt runs in it any more. The answer is in flight until its body ends.
    assert_eq!((primary.cancelled(), busy.cancelled(), slow.cancelled()), (1, 0, 1));
    let in_flight = || fleet.snapshot().iter().map(|backend| backend.in_flight).collect::<Vec<_>>();
    assert_eq!(in_flight(), [0, 0, 1, 0]);
    let ledger = response.extensions().get::<Ledger>().unwrap();
    assert_eq!(ledger.served().unwrap(), "quick");
    let tried: Vec<_> = ledger.attempts().iter().map(|attempt| &*attempt.backend).collect();
    assert_eq!(tried, ["primary", "primary", "busy", "quick", "slow"]);
    // The bound of the race does not cut the body of its winner short.
    assert_eq!(text(response).await, "here it is");
    assert_eq!(in_flight(), [0; 4]);
}

// 7. Primary fails with a 429: the race and its 5 s bound. C16, C19, C20
#[tokio::test(start_paused = true)]
async fn story_7_after_five_seconds_the_429_is_the_answer() {
    let [primary, one, two] = ["primary", "one", "two"].map(Provider::new);
    let fleet = Fleet::builder()
        .backend(primary.backend().priority(10))
        .backends([one.backend(), two.backend()])
        .build()
        .unwrap();
    let door = ServiceBuilder::new().layer(FailoverLayer::new()).service(fleet);

    primary.next([says(429).header("retry-after", "17").body([Text("slow down")])]);
    one.usually(hangs());
    two.usually(answers().after(secs(6)));
    let began = Instant::now();
    let response = ask(&door, "anybody?").await.unwrap();
    assert_took(began, secs(5));
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "17");
    assert_eq!(text(response).await, "slow down");
    // C71: the primary named a time, so the race leaves it out.
    assert_eq!([primary, one, two].map(|provider| provider.cancelled()), [0, 1, 1]);
}

// 8. A 400 is not failed over. C13, C14, C37
#[tokio::test(start_paused = true)]
async fn story_8_a_400_is_the_callers_answer() {
    let (primary, backup) = (Provider::new("primary"), Provider::new("backup"));
    let fleet = Fleet::builder()
        .backend(primary.backend().priority(10))
        .backend(backup.backend())
        .circuit_breaker(CircuitPolicy::new().consecutive(1))
        .build()
        .unwrap();
    let door = ServiceBuilder::new().layer(FailoverLayer::new()).service(fleet.clone());

    primary.usually(says(400).header("x-request-id", "7f").body([Text("no such model")]));
    let response = ask(&door, "nonsense").await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["x-request-id"], "7f");
    assert_eq!(text(response).await, "no such model");
    assert_eq!((primary.asked(), backup.asked()), (1, 0));
    assert_eq!(fleet.snapshot()[0].state, CircuitState::Closed, "nor is it held against the primary");
}

// 9. All fail: one error that names everybody. C19, C25
#[tokio::test(start_paused = true)]
async fn story_9_when_all_fail_one_error_names_everybody() {
    let [east, west, north] = ["east", "west", "north"].map(Provider::new);
    let backends = [&east, &west, &north].map(Provider::backend);
    let fleet = Fleet::builder().name("llm").backends(backends).build().unwrap();
    let layer = FailoverLayer::builder().mode(Mode::Sequential).timeout(secs(3)).build().unwrap();
    let door = ServiceBuilder::new().layer(layer).service(fleet);

    east.usually(breaks(ConnectionRefused).after(secs(1)));
    west.usually(breaks(ConnectionReset).after(secs(2)));
    north.usually(hangs());
    let error = ask(&door, "anybody?").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Exhausted { .. }), "{error:?}");
    let said = error.to_string();
    for part in ["`llm`", "`east`: connection not established (1", "`west`: transport error (2", "`north`: timeout (3"]
    {
        assert!(said.contains(part), "{part} in {said}");
    }
    let took: Vec<_> = error.ledger().attempts().iter().map(|attempt| attempt.took.as_secs()).collect();
    assert_eq!(took, [1, 2, 3]);
}

// 9. All fail, and somebody had a response: that says more than an error of ours. C19
#[tokio::test(start_paused = true)]
async fn story_9_when_all_fail_the_last_real_response_is_passed_through() {
    let [east, west, north] = ["east", "west", "north"].map(Provider::new);
    let backends = [&east, &west, &north].map(Provider::backend);
    let fleet = Fleet::builder().name("llm").backends(backends).build().unwrap();
    let layer = FailoverLayer::builder().mode(Mode::Sequential).build().unwrap();
    let door = ServiceBuilder::new().layer(layer.clone()).service(fleet.clone());

    east.usually(says(503).header("retry-after", "1"));
    west.usually(says(429).header("retry-after", "9").body([Text("out of quota")]));
    north.usually(breaks(ConnectionRefused));
    let response = ask(&door, "anybody?").await.unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "9");
    let ledger = response.extensions().get::<Ledger>().unwrap().to_string();
    for part in ["`east`: status 503", "`west`: status 429", "`north`: connection not established"] {
        assert!(ledger.contains(part), "{part} in {ledger}");
    }
    assert_eq!(text(response).await, "out of quota");

    // Unless an error is asked for.
    assert!(fleet.end_cool_down("east") && fleet.end_cool_down("west"));
    let error = ask(&layer.into_builder().error_when_exhausted().build().unwrap().layer(fleet), "anybody?")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("`llm`") && error.contains("`west`: status 429"), "{error}");
}

// 10. A stream fails after its first frame: no second backend's bytes appear. C32, C34
#[tokio::test(start_paused = true)]
async fn story_10_a_stream_that_fails_is_not_continued_by_somebody_else() {
    let (primary, backup) = (Provider::new("primary"), Provider::new("backup"));
    let fleet = Fleet::builder()
        .backend(primary.backend().priority(10))
        .backend(backup.backend())
        .circuit_breaker(CircuitPolicy::new().failures(5).within(secs(60)))
        .build()
        .unwrap();
    let layer = FailoverLayer::builder().commit(CommitPoint::first_frame()).build().unwrap();
    let door = ServiceBuilder::new().layer(layer).service(fleet.clone());

    primary.usually(says(200).body([Text("data: one\n\n"), Pause(secs(1)), Breaks]));
    for failure in 1..=5 {
        assert_eq!(fleet.snapshot()[0].state, CircuitState::Closed, "before failure {failure}");
        let mut body = ask(&door, "count").await.unwrap().into_body();
        assert_eq!(frame(&mut body).await.unwrap().unwrap(), "data: one\n\n");
        let error = frame(&mut body).await.unwrap().unwrap_err();
        assert_eq!(error.downcast_ref::<std::io::Error>().unwrap().kind(), ConnectionReset);
        assert!(frame(&mut body).await.is_none());
        assert_eq!(backup.asked(), 0);
    }

    // Its good heads do not hide it: the next stream is another's from the beginning.
    assert_eq!(fleet.snapshot()[0].state, CircuitState::Open);
    assert_eq!(text(ask(&door, "count").await.unwrap()).await, "backup: count");
    assert_eq!(primary.asked(), 5);
}
