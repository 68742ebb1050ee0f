//! Faults of one provider, one by one: each request ends well, after one failed attempt at most.

use std::time::Duration;

use http::Version;

use super::{Kind, Profile, Setting, World, always, both, once};
use crate::{provider::Play, until};

/// An answer that is complete in spite of the fault, after one failed attempt.
async fn is_rescued(profile: Profile, fault: Play, stream: bool, named: Duration) {
    let world = World::new(profile, once(fault)).await;
    let answer = world.ask(stream).await;
    assert!(answer.is_complete(), "{fault:?} {profile:?}: {answer:?}");
    world.assert_soon(&answer, named);
    assert_eq!(world.faults(), 1, "{fault:?} {profile:?}");
    assert_eq!(world.seen().len(), 2, "{fault:?} {profile:?}");
}

/// Streamed and whole answers, with both files.
async fn all_are_rescued(fault: Play) {
    both(async |profile| {
        tokio::join!(
            is_rescued(profile, fault, true, Duration::ZERO),
            is_rescued(profile, fault, false, Duration::ZERO)
        );
    })
    .await;
}

/// A fault in the middle of a stream: the caller gets all of another one, or one error.
async fn ends_well(fault: Play) {
    both(async |profile| {
        let world = World::new(profile, once(fault)).await;
        let answer = world.ask(true).await;
        match profile {
            Profile::Streaming => {
                assert_eq!(answer.kind, Kind::ErrorInStream, "C74: {fault:?}: {answer:?}");
                assert_eq!(world.seen().len(), 1, "{fault:?}: nothing is sent again after the first token");
            }
            Profile::Safe => {
                assert!(answer.is_complete(), "C74: {fault:?}: {answer:?}");
                assert_eq!(world.seen().len(), 2, "{fault:?}");
            }
        }
        world.assert_soon(&answer, if fault == Play::Stall { world.silence } else { Duration::ZERO });
    })
    .await;
}

// C24
#[tokio::test]
async fn a_500_once_is_rescued() {
    all_are_rescued(Play::error(500)).await;
}

#[tokio::test]
async fn a_reset_before_the_head_is_rescued() {
    all_are_rescued(Play::Reset).await;
}

// C72
#[tokio::test]
async fn a_wrong_key_is_rescued() {
    all_are_rescued(Play::WRONG_KEY).await;
}

#[tokio::test]
async fn a_503_always_costs_one_attempt_of_few_requests() {
    both(async |profile| {
        let world = World::new(profile, always(Play::error(503))).await;
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

// C50, C73
#[tokio::test]
async fn silence_is_rescued_after_the_limit() {
    both(async |profile| {
        tokio::join!(silence_is_rescued(profile, true), silence_is_rescued(profile, false));
    })
    .await;
}

async fn silence_is_rescued(profile: Profile, stream: bool) {
    let world = World::new(profile, always(Play::Silence)).await;
    let answer = world.ask(stream).await;
    assert!(answer.is_complete(), "{profile:?}: {answer:?}");
    world.assert_soon(&answer, world.silence);
    // C71: after silence another provider is asked, not the same one again.
    assert_eq!((world.faults(), world.seen().len()), (1, 2), "{profile:?}");
    until("a cancelled request", || world.seen()[0].1.is_cancelled()).await;
}

// C73
#[tokio::test]
async fn pings_are_no_tokens() {
    both(async |profile| {
        let world = World::new(profile, always(Play::Pings(Duration::from_secs(60)))).await;
        let answer = world.ask(true).await;
        assert!(answer.is_complete(), "C73: {profile:?}: {answer:?}");
        world.assert_soon(&answer, world.silence);
        assert_eq!((world.faults(), world.seen().len()), (1, 2), "{profile:?}");
        until("a cancelled request", || world.seen()[0].1.is_cancelled()).await;
    })
    .await;
}

// C73
#[tokio::test]
async fn a_slow_first_token_within_the_limit_is_waited_for() {
    both(async |profile| {
        let slow = Duration::from_millis(600);
        let world = World::new(profile, once(Play::Pings(slow))).await;
        let answer = world.ask(true).await;
        assert!(answer.is_complete(), "C73: {profile:?}: {answer:?}");
        world.assert_soon(&answer, slow);
        assert_eq!(world.seen().len(), 1, "{profile:?}: {:?}", world.seen());
    })
    .await;
}

// C32, C74
#[tokio::test]
async fn a_cut_stream_ends_well() {
    ends_well(Play::Cut).await;
}

// C73, C74
#[tokio::test]
async fn a_stalled_stream_ends_well() {
    ends_well(Play::Stall).await;
}

// C74
#[tokio::test]
async fn a_malformed_event_ends_well() {
    ends_well(Play::Malformed).await;
}

// C74
#[tokio::test]
async fn a_stream_without_its_end_marker_ends_well() {
    ends_well(Play::NoEnd).await;
}

// C74
#[tokio::test]
async fn a_malformed_event_in_place_of_the_first_token_is_rescued() {
    both(async |profile| is_rescued(profile, Play::MalformedFirst, true, Duration::ZERO).await).await;
}

// C32, C73
#[tokio::test]
async fn whole_answers_that_break_off_are_rescued_where_they_are_held() {
    let rescued = async |fault| {
        let world = World::new(Profile::Safe, once(fault)).await;
        let answer = world.ask(false).await;
        assert!(answer.is_complete(), "{fault:?}: {answer:?}");
        world.assert_soon(&answer, if fault == Play::Stall { world.silence } else { Duration::ZERO });
    };
    let broken = async |fault| {
        let world = World::new(Profile::Streaming, once(fault)).await;
        let answer = world.ask(false).await;
        assert!(matches!(answer.kind, Kind::Broken | Kind::Complete), "{fault:?}: {answer:?}");
        world.assert_soon(&answer, if fault == Play::Stall { world.silence } else { Duration::ZERO });
    };
    tokio::join!(rescued(Play::Cut), rescued(Play::Stall), broken(Play::Cut), broken(Play::Stall));
}

/// The backend of both files that takes the longest prompts: it has the tag `larger-context`.
const LARGE: &str = "openai";

// C72
#[tokio::test]
async fn a_prompt_that_is_too_long_is_sent_to_where_it_fits() {
    both(async |profile| {
        let script = |name: &str, _: &_| if name == LARGE { Play::Answer } else { Play::TOO_LONG };
        let world = World::new(profile, script).await;
        // Until the first provider is one that it does not fit.
        for number in 0..40 {
            let before = world.faults();
            let answer = world.ask(number % 2 == 0).await;
            assert!(answer.is_complete() && answer.served_by() == LARGE, "C72: {profile:?}: {answer:?}");
            world.assert_soon(&answer, Duration::ZERO);
            assert!(world.faults() <= before + 1, "C72: {profile:?}: the same answer twice");
        }
        assert!(world.faults() > 3, "C72: {profile:?}: its circuit stays closed: the request is at fault");
    })
    .await;
}

// C72
#[tokio::test]
async fn a_prompt_that_fits_nowhere_is_refused() {
    both(async |profile| {
        let world = World::new(profile, |_: &str, _: &_| Play::TOO_LONG).await;
        let answer = world.ask(true).await;
        assert_eq!(answer.kind, Kind::Refused(400, "context_length_exceeded".to_owned()), "C72: {answer:?}");
        assert!(world.faults() <= 2, "C72: {profile:?}: {:?}", world.seen());
    })
    .await;
}

// C72
#[tokio::test]
async fn a_filtered_prompt_is_refused_at_once() {
    both(async |profile| {
        let world = World::new(profile, once(Play::FILTERED)).await;
        for stream in [true, false] {
            let before = world.seen().len();
            let answer = world.ask(stream).await;
            if before == 0 {
                assert_eq!(answer.kind, Kind::Refused(400, "content_filter".to_owned()), "C72: {answer:?}");
                world.assert_soon(&answer, Duration::ZERO);
                assert_eq!(world.seen().len(), 1, "C72: {profile:?}: never around it");
            } else {
                assert!(answer.is_complete(), "{answer:?}");
            }
        }
    })
    .await;
}

// C75
#[tokio::test]
async fn a_refused_continuation_ends_as_the_first_error() {
    both(async |profile| {
        let cut = once(Play::Cut);
        let world = World::new(profile, move |name: &str, asked: &_| match cut(name, asked) {
            Play::Answer => Play::RefuseContinuation,
            fault => fault,
        })
        .await;
        let answer = world.ask(true).await;
        match profile {
            Profile::Streaming => assert_eq!(answer.kind, Kind::ErrorInStream, "C75: {answer:?}"),
            Profile::Safe => assert!(answer.is_complete(), "{answer:?}"),
        }
        world.assert_soon(&answer, Duration::ZERO);
    })
    .await;
}

/// All backends are said to continue a chat.
const CONTINUED: &str = "[resume]\ncontinue_chats = { backends = [\"openai\", \"anthropic\", \"deepseek\"] }\n";

// C75
#[tokio::test]
async fn streams_go_on_at_another_provider_where_that_is_allowed() {
    for fault in [Play::Cut, Play::Stall, Play::Malformed, Play::NoEnd] {
        let world = World::new(Setting { more: CONTINUED, ..Profile::Streaming.into() }, once(fault)).await;
        let answer = world.ask(true).await;
        assert!(answer.is_complete(), "C75: {fault:?}: {answer:?}");
        world.assert_soon(&answer, if fault == Play::Stall { world.silence } else { Duration::ZERO });
        let seen = world.seen();
        let [(first, ..), (second, rest, _)] = &seen[..] else { panic!("two requests: {seen:?}") };
        assert!(first != second && rest.prefix().is_some_and(|prefix| !prefix.is_empty()), "C75: {fault:?}: {seen:?}");
    }
}

// C75
#[tokio::test]
async fn a_provider_that_refuses_to_continue_leaves_the_first_error() {
    let cut = once(Play::Cut);
    let script = move |name: &str, asked: &_| match cut(name, asked) {
        Play::Answer => Play::RefuseContinuation,
        fault => fault,
    };
    let world = World::new(Setting { more: CONTINUED, ..Profile::Streaming.into() }, script).await;
    let answer = world.ask(true).await;
    assert_eq!(answer.kind, Kind::ErrorInStream, "C75: {answer:?}");
    world.assert_soon(&answer, Duration::ZERO);
    let continued = world.seen().iter().filter(|(_, asked, _)| asked.prefix().is_some()).count();
    assert!(continued >= 1, "C75: it was tried");
}

// C32, C74
#[tokio::test]
async fn faults_over_http2_end_well_too() {
    both(async |profile| {
        for fault in [Play::error(500), Play::busy(None), Play::Reset, Play::Cut, Play::Malformed, Play::NoEnd] {
            let world = World::new(Setting { version: Version::HTTP_2, ..profile.into() }, once(fault)).await;
            let answer = world.ask(true).await;
            let is_late = matches!(fault, Play::Cut | Play::Malformed | Play::NoEnd);
            match profile {
                Profile::Streaming if is_late => assert_eq!(answer.kind, Kind::ErrorInStream, "{fault:?}: {answer:?}"),
                _ => assert!(answer.is_complete(), "{fault:?} {profile:?}: {answer:?}"),
            }
            world.assert_soon(&answer, Duration::ZERO);
            assert_eq!(world.faults(), 1, "{fault:?} {profile:?}");
        }
    })
    .await;
}

// C33, C76
#[tokio::test]
async fn a_prompt_of_megabytes_is_edited_and_sent_again_too() {
    both(async |profile| {
        let world = World::new(profile, once(Play::error(500))).await;
        let prompt = "picture ".repeat(3 << 17);
        let answer = world.ask_for(true, &prompt).await;
        assert!(answer.is_complete(), "{profile:?}: {answer:?}");
        let seen = world.seen();
        assert_eq!(seen.len(), 2, "{profile:?}");
        for (name, asked, _) in seen {
            assert!(asked.body["messages"][0]["content"] == *prompt, "{profile:?}: `{name}` got another prompt");
            assert_ne!(asked.model(), "fast", "C76: {profile:?}: `{name}`");
        }
    })
    .await;
}

// C24, C76
#[tokio::test]
async fn the_provider_that_serves_is_the_one_that_is_accounted() {
    both(async |profile| {
        let world = World::new(profile, once(Play::error(500))).await;
        for number in 0..12 {
            let answer = world.ask(number % 2 == 0).await;
            assert!(answer.is_complete(), "{profile:?}: {answer:?}");
            let served = world.provider(answer.served_by());
            assert_eq!(answer.prompt_tokens, u64::from(served.prompt_tokens()), "{profile:?}: {answer:?}");
            let (asked, _) = served.seen().pop().unwrap();
            assert_eq!(answer.model, asked.model(), "{profile:?}: {answer:?}");
            assert!(asked.is_done() && asked.prefix().is_none(), "{profile:?}: {asked:?}");
        }
        let mut models = std::collections::BTreeMap::new();
        for (name, asked, _) in world.seen() {
            assert_eq!(asked.headers["authorization"], format!("Bearer {}{name}", super::KEY), "C24: {name}");
            assert!(asked.headers.get("cookie").is_none());
            assert_ne!(asked.model(), "fast", "C76: each provider gets a model that it knows");
            assert_eq!(models.entry(asked.model().to_owned()).or_insert(name.clone()), &name, "C76: {name}");
        }
    })
    .await;
}
