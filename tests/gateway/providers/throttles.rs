//! Providers that are at their rate limits: each request ends well, and no time that a provider named is cut short.

use std::time::{Duration, Instant};

use super::{Kind, SLACK, SOON, World, always, both, once, since};
use crate::{IN_TIME, provider::Play};

/// The time that the provider names, and how it says so.
const NAMED: (Duration, &str) = (Duration::from_secs(2), "2");

/// The server reads its clock before the gateway reads the response, and after the request was sent.
const NO_SOONER: Duration = Duration::from_millis(1_990);

// C71
#[tokio::test]
async fn a_429_that_names_a_time_is_rescued_and_the_time_is_kept() {
    both(async |profile| {
        let world = World::new(profile, once(Play::busy(Some(NAMED.1)))).await;
        let answer = world.ask(true).await;
        assert!(answer.is_complete(), "C71: {profile:?}: {answer:?}");
        world.assert_soon(&answer, Duration::ZERO);
        assert_eq!((world.faults(), world.seen().len()), (1, 2), "{profile:?}");
        let (throttled, first, _) = world.seen().remove(0);
        // Many more, in the meantime and after it, until the throttled one is asked again.
        let again = loop {
            let answer = world.ask(false).await;
            assert!(answer.is_complete(), "C71: {profile:?}: {answer:?}");
            world.assert_soon(&answer, Duration::ZERO);
            if let Some((again, _)) = world.provider(&throttled).seen().into_iter().nth(1) {
                break since(first.at, again.at);
            }
            assert!(first.at.elapsed() < IN_TIME, "{profile:?}: `{throttled}` is never asked again");
        };
        assert!(again >= NO_SOONER, "C71: {profile:?}: asked again after {again:?}");
    })
    .await;
}

// C71
#[tokio::test]
async fn a_429_without_a_time_is_rescued() {
    both(async |profile| {
        let world = World::new(profile, once(Play::busy(None))).await;
        for stream in [true, false, true] {
            let answer = world.ask(stream).await;
            assert!(answer.is_complete(), "{profile:?}: {answer:?}");
            world.assert_soon(&answer, Duration::ZERO);
        }
        assert_eq!((world.faults(), world.seen().len()), (1, 4), "{profile:?}");
    })
    .await;
}

// C71
#[tokio::test]
async fn a_429_always_that_names_a_time_is_asked_no_sooner() {
    both(async |profile| {
        let world = World::new(profile, always(Play::busy(Some(NAMED.1)))).await;
        let begin = Instant::now();
        while begin.elapsed() < 3 * NAMED.0 {
            let before = world.faults();
            let answer = world.ask(true).await;
            assert!(answer.is_complete(), "C71: {profile:?}: {answer:?}");
            world.assert_soon(&answer, Duration::ZERO);
            assert!(world.faults() <= before + 1, "{profile:?}: {} failed attempts", world.faults());
        }
        let seen = world.seen();
        let times: Vec<_> = seen.iter().filter(|(.., play)| *play != Play::Answer).map(|it| it.1.at).collect();
        assert!(times.len() > 1, "C71: {profile:?}: it comes back by itself");
        for pair in times.windows(2) {
            let gap = since(pair[0], pair[1]);
            assert!(gap >= NO_SOONER, "C71: {profile:?}: asked again after {gap:?}");
        }
    })
    .await;
}

// C36, C71
#[tokio::test]
async fn a_429_always_without_a_time_costs_one_attempt_of_few_requests() {
    both(async |profile| {
        let world = World::new(profile, always(Play::busy(None))).await;
        for number in 0..8 {
            let before = world.faults();
            let answer = world.ask(number % 2 == 0).await;
            assert!(answer.is_complete(), "{profile:?}: {answer:?}");
            world.assert_soon(&answer, Duration::ZERO);
            assert!(world.faults() <= before + 1, "{profile:?}: {} failed attempts", world.faults());
        }
        assert!(world.faults() <= 4, "C36: {profile:?}: {} failed attempts, with an open circuit", world.faults());
    })
    .await;
}

// C1, C71, C77
#[tokio::test]
async fn all_throttled_is_an_answer_at_once_with_the_earliest_time() {
    both(async |profile| {
        let world = World::new(profile, |_: &str, _: &_| Play::busy(Some("30"))).await;
        let first = world.ask(true).await;
        assert!(matches!(first.kind, Kind::Refused(429 | 503, _)), "C71: {profile:?}: {first:?}");
        assert!(first.took < SOON + SLACK, "C71: {profile:?}: {first:?}");
        assert_eq!(world.seen().len(), world.providers.len(), "C71: {profile:?}: each is asked once");
        let second = world.ask(true).await;
        assert!(matches!(second.kind, Kind::Refused(503, _)), "C71, C77: {profile:?}: {second:?}");
        for answer in [&first, &second] {
            assert!(answer.retry_after().is_some_and(|wait| (20..=30).contains(&wait)), "C71: {answer:?}");
        }
        assert_eq!(world.seen().len(), world.providers.len(), "C71: {profile:?}: no one is asked before its time");
    })
    .await;
}
