//! What each attempt is sent, and what is sent once only.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, Method, Request, Version};
use tokio::time::Instant;
use tower_fleet::{
    Backend, FailoverLayer, Fleet,
    body::{CloneRequest, Replay, ReplayLayer, Unreplayable},
    failover::{FailoverBuilder, HedgeDelay, Http, Methods, Mode, Plain, Stopped},
    outcome::FailureKind,
};
use tower_layer::Layer;

use crate::mock::*;

const MODES: [Mode; 3] = [Mode::Race, Mode::Sequential, Mode::Hedged(HedgeDelay::After(Duration::from_millis(5)))];

/// Further attempts and hedges for a POST too.
fn all_methods(mode: Mode) -> FailoverBuilder {
    FailoverLayer::builder().mode(mode).hedge_methods(Methods::All)
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([("x-sum".parse().unwrap(), "42".parse().unwrap())])
}

// C24, C33
#[tokio::test(start_paused = true)]
async fn each_attempt_starts_from_the_callers_request() {
    for mode in MODES {
        let (fleet, remotes @ [_, _, _]) = fleet();
        remotes[0].usually(status(503).after(8));
        remotes[1].usually(status(500).after(8));
        remotes[2].usually(status(200).after(40));
        let pieces = vec![data("one "), Piece::Wait(3), data("two"), Piece::Wait(3), Piece::Trailer("x-sum", "42")];
        let mut request = post(body(pieces));
        *request.method_mut() = Method::PUT;
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().append("x-many", "1".parse().unwrap());
        request.headers_mut().append("x-many", "2".parse().unwrap());
        request.extensions_mut().insert("mine");
        let answer = ask(&FailoverLayer::builder().mode(mode), &fleet, request).await;
        assert_eq!(told(answer).await, (200, "c".into()), "{mode:?}");
        for remote in &remotes {
            assert!(remote.calls() > 0);
            for body in remote.bodies() {
                assert_eq!(body.unwrap(), (b"one two".to_vec(), Some(trailers())), "{mode:?}");
            }
            remote.seen(|seen| {
                assert_eq!((&seen.method, seen.uri.to_string()), (&Method::PUT, "/v1/things?q=1".into()));
                assert_eq!(seen.headers.get_all("x-many").iter().collect::<Vec<_>>(), ["1", "2"]);
                assert_eq!(seen.headers.len(), 2);
                assert_eq!(seen.extensions.get::<&str>(), Some(&"mine"));
            });
        }
    }
}

// C33: racers read side by side, one of them slowly.
#[tokio::test(start_paused = true)]
async fn racers_read_the_whole_of_a_large_body_at_once() {
    let (fleet, [a, b, c]) = fleet();
    a.then([status(503).deaf()]);
    a.usually(status(429).after(1));
    b.usually(status(503).after(2));
    c.usually(status(200).after(50));
    let large: Vec<_> = (0..64).flat_map(|index| [Piece::Data(vec![index; 16_000]), Piece::Wait(1)]).collect();
    let answer = ask(&FailoverLayer::builder(), &fleet, post(body(large))).await;
    assert_eq!(told(answer).await, (200, "c".into()));
    let whole: Vec<u8> = (0..64).flat_map(|index| [index; 16_000]).collect();
    for remote in [a, b, c] {
        assert_eq!(remote.bodies().pop().unwrap().unwrap().0, whole, "{}", remote.name);
    }
}

// C33
#[tokio::test(start_paused = true)]
async fn over_the_bound_the_first_goes_on_and_nobody_else_starts() {
    for mode in MODES {
        for (length, why) in [(10, None), (11, Some(Unreplayable::TooLarge { limit: 10 }))] {
            let (fleet, [a, b]) = fleet();
            a.usually(status(503).after(1));
            let layer = all_methods(mode).replay(ReplayLayer::new().limit(10));
            let answer =
                ask(&layer, &fleet, post(body(vec![data("12345"), Piece::Data(vec![b'x'; length - 5])]))).await;
            assert_eq!(ledger(&answer).stopped(), why.map(Stopped::Unreplayable), "{mode:?}");
            assert_eq!(a.bodies()[0].as_ref().unwrap().0.len(), length);
            assert_eq!(told(answer).await.0, if why.is_some() { 503 } else { 200 });
            assert_eq!(b.calls(), usize::from(why.is_none()));
        }
    }
}

// C21
#[tokio::test(start_paused = true)]
async fn what_cannot_be_replayed_is_sent_once_and_the_ledger_says_so() {
    for mode in MODES {
        let (fleet, [a, b]) = fleet();
        a.usually(status(503).after(50));
        let layer = all_methods(mode).replay(ReplayLayer::new().limit(0));
        let answer = ask(&layer, &fleet, post(body(vec![data("once")]))).await;
        let why = Unreplayable::TooLarge { limit: 0 };
        assert_eq!(ledger(&answer).stopped(), Some(Stopped::Unreplayable(why)), "{mode:?}");
        assert_eq!(told(answer).await, (503, "a".into()));
        assert_eq!((a.calls(), b.calls()), (1, 0));
        assert_eq!(a.bodies()[0].as_ref().unwrap().0, b"once");
    }
}

// C21, C33: the caller's body broke, which is nobody's fault but the caller's.
#[tokio::test(start_paused = true)]
async fn a_request_whose_body_failed_is_not_sent_again() {
    let (fleet, [a, b]) = fleet();
    a.usually(status(503));
    let answer = ask(&FailoverLayer::builder(), &fleet, post(body(vec![data("half"), Piece::Error("gone")]))).await;
    assert_eq!(ledger(&answer).stopped(), Some(Stopped::Unreplayable(Unreplayable::SourceFailed)));
    assert_eq!((a.calls(), b.calls()), (1, 0));
    assert!(a.bodies()[0].is_err());
}

// C26: issue 11.12
#[tokio::test(start_paused = true)]
async fn by_default_every_method_moves_on() {
    let (fleet, [a, b]) = fleet();
    a.usually(status(503));
    let answer = ask(&FailoverLayer::builder(), &fleet, post(full("x"))).await;
    assert_eq!(told(answer).await, (200, "b".into()));
    assert_eq!(b.calls(), 1);
}

// C26: issue 11.12
#[tokio::test(start_paused = true)]
async fn on_request_only_idempotent_methods_move_on() {
    for mode in MODES {
        for (method, served) in [("POST", 503), ("PATCH", 503), ("GET", 200), ("PUT", 200), ("DELETE", 200)] {
            let (fleet, [a, b]) = fleet();
            a.usually(status(503).after(1));
            let request = Request::builder().method(method).body(full("x")).unwrap();
            let answer =
                ask(&FailoverLayer::builder().mode(mode).retry_methods(Methods::Idempotent), &fleet, request).await;
            let stopped = (served == 503).then_some(Stopped::NotIdempotent);
            assert_eq!(ledger(&answer).stopped(), stopped, "{mode:?} {method}");
            assert_eq!(told(answer).await.0, served);
            assert_eq!(b.calls(), usize::from(served == 200));
        }
    }
}

// C26: and to one at a time, since the next may well begin to work on it.
#[tokio::test(start_paused = true)]
async fn what_was_never_begun_always_moves_on() {
    for mode in MODES {
        for unprocessed in [FailureKind::Connect, FailureKind::Refused, FailureKind::Overloaded] {
            let (fleet, [a, b, c]) = fleet();
            a.usually(kind(unprocessed));
            b.usually(status(200).after(100));
            let answer =
                ask(&FailoverLayer::builder().mode(mode).retry_methods(Methods::Idempotent), &fleet, post(full("x")))
                    .await;
            assert_eq!(told(answer).await, (200, "b".into()), "{mode:?} {unprocessed}");
            assert_eq!((a.calls(), b.calls(), c.calls()), (1, 1, 0), "{mode:?}: sent to two at a time");
        }
    }
}

/// Hedges after 10 ms, with what the builder says by default of a POST.
fn hedged() -> FailoverBuilder {
    FailoverLayer::builder().mode(Mode::hedged(millis(10)))
}

fn keyed_post() -> Request<Body> {
    let mut request = post(full("x"));
    request.headers_mut().insert("idempotency-key", "8e03978e".parse().unwrap());
    request
}

fn post_with_keys(keys: &[&'static str]) -> Request<Body> {
    let mut request = post(full("x"));
    for key in keys {
        request.headers_mut().append("Idempotency-Key", key.parse().unwrap());
    }
    request
}

// C26: issue 11.12
#[tokio::test(start_paused = true)]
async fn a_slow_request_is_hedged_if_it_is_idempotent_or_all_methods_are_hedged() {
    let of_method = |method| Request::builder().method(method).body(full("x")).unwrap();
    let keyed_patch = || {
        let (mut head, body) = keyed_post().into_parts();
        head.method = Method::PATCH;
        Request::from_parts(head, body)
    };
    for (layer, request, hedges) in [
        (hedged(), post(full("x")), 0),
        (hedged(), of_method("PATCH"), 0),
        (hedged(), of_method("CONNECT"), 0),
        (hedged(), of_method("get"), 0),
        (hedged(), of_method("put"), 0),
        (hedged(), of_method("PURGE"), 0),
        (hedged(), get(), 1),
        (hedged(), of_method("PUT"), 1),
        (hedged(), of_method("DELETE"), 1),
        (hedged(), keyed_post(), 1),
        (hedged(), keyed_patch(), 1),
        (hedged(), post_with_keys(&["\"8e03978e\""]), 1),
        (hedged(), post_with_keys(&["a", "b"]), 1),
        (hedged(), post_with_keys(&[""]), 0),
        (hedged(), post_with_keys(&[" \t "]), 0),
        (hedged(), post_with_keys(&["\"\""]), 0),
        (hedged(), post_with_keys(&["a", ""]), 0),
        (hedged().hedge_methods(Methods::All), post_with_keys(&[""]), 1),
        (hedged().hedge_methods(Methods::Idempotent), post(full("x")), 0),
        (hedged().hedge_methods(Methods::All), post(full("x")), 1),
        // What may be sent again after a failure is another setting.
        (hedged().retry_methods(Methods::All), post(full("x")), 0),
    ] {
        let (fleet, [a, b]) = fleet();
        a.usually(status(200).after(500));
        b.usually(hang());
        let (began, shown) = (Instant::now(), format!("{} {:?}", request.method(), request.headers()));
        let answer = ask(&layer, &fleet, request).await;
        assert_eq!(ledger(&answer).attempts().len(), 1 + hedges, "{shown}");
        assert_eq!(told(answer).await, (200, "a".into()), "{shown}");
        assert_took(began, 500);
        assert_eq!((a.calls(), b.calls()), (1, hedges), "{shown}");
    }
}

// C26: issue 11.12
#[tokio::test(start_paused = true)]
async fn every_way_to_make_a_layer_hedges_no_post_by_default() {
    let mode = Mode::hedged(millis(10));
    let layers = [
        FailoverLayer::new().into_builder().mode(mode),
        FailoverLayer::default().into_builder().mode(mode),
        FailoverLayer::builder().mode(mode),
        FailoverLayer::builder().mode(mode).retry_methods(Methods::Idempotent),
        FailoverLayer::builder().strategy_named("weighted_failover".parse().unwrap()).mode(mode),
        FailoverLayer::with_protocol(Http::new()).mode(mode),
        FailoverLayer::builder().mode(mode).hedge_methods(Methods::All).hedge_methods(Methods::Idempotent),
        hedged().build().unwrap().into_builder(),
    ];
    for (index, layer) in layers.into_iter().enumerate() {
        for (layer, request, hedges) in [
            (layer.clone(), post(full("x")), 0),
            (layer.clone(), post_with_keys(&[""]), 0),
            (layer.clone(), keyed_post(), 1),
            (layer.clone(), get(), 1),
            (layer.hedge_methods(Methods::All), post(full("x")), 1),
        ] {
            let (fleet, [a, b]) = fleet();
            a.usually(status(200).after(500));
            b.usually(hang());
            assert_eq!(told(ask(&layer, &fleet, request).await).await, (200, "a".into()));
            assert_eq!(b.calls(), hedges, "{index}");
        }
    }
}

// C26: issue 11.12
#[tokio::test(start_paused = true)]
async fn with_idempotent_methods_an_empty_key_is_not_sent_again() {
    for (request, served) in [(post_with_keys(&[""]), 503), (post_with_keys(&["a"]), 200)] {
        let (fleet, [a, _b]) = fleet();
        a.usually(status(503).after(1));
        let answer = ask(&FailoverLayer::builder().retry_methods(Methods::Idempotent), &fleet, request).await;
        assert_eq!(told(answer).await.0, served);
    }
}

/// Copies each command, and knows which of them only read.
#[derive(Clone)]
struct Commands;

impl Replay<&'static str> for Commands {
    type Request = &'static str;

    fn keep(&self, command: &'static str) -> &'static str {
        command
    }

    fn again(&self, kept: &&'static str) -> Result<&'static str, Unreplayable> {
        Ok(kept)
    }

    fn is_idempotent(&self, kept: &&'static str) -> bool {
        kept.starts_with("GET")
    }
}

// C26: issue 11.12
#[tokio::test(start_paused = true)]
async fn requests_that_are_not_http_are_hedged_unless_their_replay_denies_it() {
    async fn hedges<R>(protocol: Plain<R>, methods: Option<Methods>, command: &'static str) -> usize
    where
        R: Replay<&'static str, Request = &'static str> + Clone + Send + Sync + 'static,
    {
        let calls = Arc::new(AtomicUsize::new(0));
        let slow = |calls: Arc<AtomicUsize>| {
            tower::service_fn(move |_: &'static str| {
                calls.fetch_add(1, Ordering::SeqCst);
                async {
                    tokio::time::sleep(millis(100)).await;
                    Ok::<_, tower::BoxError>(())
                }
            })
        };
        let backends = ["a", "b"].map(|name| Backend::new(name, slow(Arc::clone(&calls))));
        let fleet = Fleet::plain().backends(backends).build().unwrap();
        let mut layer = FailoverLayer::with_protocol(protocol).mode(Mode::hedged(millis(10)));
        if let Some(methods) = methods {
            layer = layer.hedge_methods(methods);
        }
        layer.build().unwrap().layer(fleet).oneshot(command).await.unwrap();
        calls.load(Ordering::SeqCst) - 1
    }
    assert_eq!(hedges(Plain::new(CloneRequest), None, "SET a 1").await, 1);
    assert_eq!(hedges(Plain::new(CloneRequest), Some(Methods::Idempotent), "SET a 1").await, 1);
    assert_eq!(hedges(Plain::new(Commands), None, "SET a 1").await, 0);
    assert_eq!(hedges(Plain::new(Commands), None, "GET a").await, 1);
    assert_eq!(hedges(Plain::new(Commands), Some(Methods::All), "SET a 1").await, 1);
}

// C26: issue 11.12
#[tokio::test(start_paused = true)]
async fn without_hedges_a_request_that_fails_is_still_sent_on() {
    for failure in [status(503).after(50), fail("reset").after(50), hang()] {
        let (fleet, [a, b, c]) = fleet();
        a.usually(failure);
        b.usually(status(200).after(50));
        let answer = ask(&hedged().timeout(millis(100)), &fleet, post(full("x"))).await;
        assert_eq!(told(answer).await, (200, "b".into()));
        assert_eq!((a.calls(), b.calls(), c.calls()), (1, 1, 0), "the second attempt is not hedged either");
    }
}

// C26: issue 11.12
#[tokio::test(start_paused = true)]
async fn a_request_that_may_be_hedged_and_not_retried_is_hedged_only() {
    let layer = hedged().retry_methods(Methods::Idempotent).hedge_methods(Methods::All);
    let (fleet, [a, b]) = fleet();
    a.usually(status(200).after(500));
    b.usually(status(200).after(50));
    assert_eq!(told(ask(&layer, &fleet, post(full("x"))).await).await, (200, "b".into()));
    a.usually(status(503).after(5));
    let answer = ask(&layer, &fleet, post(full("x"))).await;
    assert_eq!(ledger(&answer).stopped(), Some(Stopped::NotIdempotent));
    assert_eq!(told(answer).await, (503, "a".into()));
    assert_eq!((a.calls(), b.calls()), (2, 1));
}
