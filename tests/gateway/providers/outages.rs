//! Outages of a provider, and its return: requests go on, the provider is asked seldom, and it serves again soon.

use std::time::{Duration, Instant};

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use super::{Kind, World, both, since};
use crate::{IN_TIME, provider::Play};

/// The provider with the greatest weight, so that it is noticed soon.
const OUT: &str = "openai";

/// As in both files: `breaker.open_for`.
const OPEN_FOR: Duration = Duration::from_secs(5);

/// From the end of an outage until the provider serves again.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// The length of the outages: more than two open times.
const OUTAGE: Duration = Duration::from_secs(11);

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks for that long: every answer is complete and comes soon.
async fn ask_for(world: &World, time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        let before = world.faults();
        let answer = world.ask(true).await;
        assert!(answer.is_complete(), "{:?}: {answer:?}", world.profile);
        world.assert_soon(&answer, Duration::ZERO);
        assert!(world.faults() <= before + 1, "{:?}: {} failed attempts", world.profile, world.faults());
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks until the provider serves, and returns when it did.
async fn ask_until_back(world: &World) -> Instant {
    let begin = Instant::now();
    loop {
        let answer = world.ask(false).await;
        assert!(answer.is_complete(), "{:?}: {answer:?}", world.profile);
        if answer.served_by() == OUT {
            return Instant::now();
        }
        assert!(begin.elapsed() < IN_TIME, "{:?}: `{OUT}` is not back", world.profile);
        tokio::time::sleep(PAUSE).await;
    }
}

// C36, C43
#[tokio::test]
async fn a_provider_that_refuses_connections_is_back_soon_after_its_return() {
    both(async |profile| {
        let world = World::new(profile, |_: &str, _: &_| Play::Answer).await;
        ask_until_back(&world).await;
        world.provider(OUT).down().await;
        ask_for(&world, OUTAGE).await;
        let returned = Instant::now();
        world.provider(OUT).up();
        let back = since(returned, ask_until_back(&world).await);
        assert!(back < BACK_WITHIN, "{profile:?}: back after {back:?}");
    })
    .await;
}

// C36
#[tokio::test]
async fn a_provider_that_fails_is_probed_once_per_open_time_and_back_soon() {
    both(async |profile| {
        let is_out = Arc::new(AtomicBool::new(true));
        let out = Arc::clone(&is_out);
        let world = World::new(
            profile,
            move |name: &str, _: &_| {
                if name == OUT && out.load(SeqCst) { Play::error(503) } else { Play::Answer }
            },
        )
        .await;
        ask_for(&world, OUTAGE).await;
        is_out.store(false, SeqCst);
        let returned = Instant::now();
        let back = since(returned, ask_until_back(&world).await);
        assert!(back < BACK_WITHIN, "{profile:?}: back after {back:?}");

        let mut times: Vec<_> = world.provider(OUT).seen().into_iter().map(|(asked, _)| asked.at).collect();
        times.extend(world.provider(OUT).others().into_iter().map(|(at, _)| at));
        times.sort();
        let during: Vec<_> = times.into_iter().filter(|at| *at < returned).collect();
        // Three failures open the circuit, and each probe has an open time before it.
        assert!((4..=5).contains(&during.len()), "C36: {profile:?}: asked {} times", during.len());
        for pair in during[2..].windows(2) {
            let gap = since(pair[0], pair[1]);
            assert!(gap >= OPEN_FOR.mul_f64(0.99), "C36: {profile:?}: probed again after {gap:?}");
        }
    })
    .await;
}

// C1, C19, C77
#[tokio::test]
async fn without_any_provider_the_answer_is_an_error_of_the_api() {
    both(async |profile| {
        let world = World::new(profile, |_: &str, _: &_| Play::Answer).await;
        for provider in &world.providers {
            provider.down().await;
        }
        for number in 0..6 {
            let answer = world.ask(number % 2 == 0).await;
            assert!(matches!(answer.kind, Kind::Refused(502 | 503, _)), "C77: {profile:?}: {answer:?}");
            world.assert_soon(&answer, Duration::ZERO);
            for provider in &world.providers {
                let port = provider.address.port().to_string();
                assert!(!answer.shows.iter().any(|text| text.contains(&port)), "C77: {answer:?}");
            }
        }
    })
    .await;
}
