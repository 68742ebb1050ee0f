//! The section `[failover]`, the strategy and the preset.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Frame, SizeHint};

use super::*;

/// The debug output of the failover of this section.
fn door(section: &str) -> String {
    debugged(&good(&format!("[failover]\n{section}")).failover())
}

// C16, C19, C23, C50, C51, C52
#[test]
fn every_setting_takes_effect() {
    for (section, expected) in [
        ("mode = \"race\"", "mode: Race"),
        ("mode = \"sequential\"", "mode: Sequential"),
        ("mode = { hedged = \"20ms\" }", "mode: Hedged(20ms)"),
        (
            "mode = { hedged = \"p95\" }",
            "mode: Hedged(Percentile { share: 0.95, floor: 1ms, cap: 1s, until_measured: None,",
        ),
        ("mode = { hedged = \"p99.9\" }", "mode: Hedged(Percentile { share: 0.999"),
        ("mode = { hedged = { percentile = \"90%\" } }", "mode: Hedged(Percentile { share: 0.9,"),
        ("mode = { hedged = {} }", "mode: Hedged(Percentile { share: 0.9445,"),
        (
            "mode = { hedged = { floor = \"5ms\", cap = \"2s\", until_measured = \"1s\", window = \"5min\", min_samples = 7 } }",
            "Percentile { share: 0.9445, floor: 5ms, cap: 2s, until_measured: Some(1s), window: 300s, min_samples: 7 }",
        ),
        ("race_width = 3", "race_width: 3"),
        ("race_bound = \"7s\"", "race_bound: 7s"),
        ("timeout = \"30min\"", "timeout: Some(1800s)"),
        ("deadline = \"1min 5s\"", "deadline: Some(65s)"),
        ("ready_within = \"2s\"", "ready_within: Some(2s)"),
        ("attempts_per_backend = 3", "attempts_per_backend: 3"),
        ("same_backend_delay = \"30ms\"", "same_backend_delay: 30ms"),
        ("same_backend_delay = 0", "same_backend_delay: 0ns"),
        (
            "backoff = { base = \"1s\", cap = \"9s\", factor = 3, jitter = 0.2 }",
            "backoff: Some(Backoff { base: 1s, cap: 9s, factor: 3.0, jitter: 0.2 })",
        ),
        ("backoff = {}", "backoff: Some(Backoff { base: 2s, cap: 16s, factor: 2.0, jitter: 0.1 })"),
        ("retry_after_cap = \"5s\"", "retry_after_cap: 5s"),
        ("budget = { share = 0.3, reserve = 7 }", "budget: Some(Budget { share: 0.3, reserve: 7,"),
        ("budget = { share = 0.3 }", "budget: Some(Budget { share: 0.3, reserve: 10,"),
        ("budget = { share = \"20%\" }", "budget: Some(Budget { share: 0.2, reserve: 10,"),
        ("triggers = [\"timeout\", \"custom\"]", "triggers: [Trigger(\"timeout\"), Trigger(\"custom\")]"),
        ("triggers = []", "triggers: []"),
        ("retry_methods = \"idempotent\"", "retry_methods: Idempotent"),
        ("hedge_methods = \"all\"", "hedge_methods: All"),
        ("on_exhausted = \"error\"", "pass_through: false"),
        ("on_exhausted = \"pass_through\"", "pass_through: true"),
    ] {
        let shown = door(section);
        assert!(shown.contains(expected), "{section}: {shown}");
    }
}

// C16, C50
#[test]
fn the_defaults_are_those_of_the_code() {
    let code = crate::FailoverLayer::new();
    assert_eq!(debugged(&good("").failover()), debugged(&code));
    assert_eq!(door("race_bound = 0"), debugged(&code));
    assert_eq!(door("race_bound = \"0s\""), debugged(&code));
    assert!(debugged(&code).contains("timeout: Some(60s)"));
    assert_eq!(debugged(&good("[failover]\n[breaker]").failover()), debugged(&code));
}

// C9, C15
#[test]
fn a_strategy_sets_its_mode() {
    for (name, mode) in [
        ("failover", "Race"),
        ("", "Race"),
        (" Weighted-Failover ", "Sequential"),
        ("ROUND ROBIN", "Race"),
        ("shuffle", "Race"),
        ("weighted_round_robin", "Race"),
    ] {
        let config = good(&format!("strategy = \"{name}\""));
        assert!(debugged(&config.failover()).contains(&format!("mode: {mode}")), "{name}");
    }
    let config = good("strategy = \"weighted_failover\"\n[failover]\nmode = \"race\"");
    assert!(debugged(&config.failover()).contains("mode: Race"), "the mode takes precedence");
}

// C9
#[tokio::test(start_paused = true)]
async fn the_strategy_selects_the_first_backend() {
    let text = with_backends("strategy = \"round_robin\"", &["a", "b"]);
    let config = good(&text);
    let fleet = config.fleet(|_| {
        service_fn(|request: Request<ReplayBody<Full<Bytes>>>| async move {
            let host = request.uri().host().unwrap_or_default().to_owned();
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(host))))
        })
    });
    let door = config.failover().layer(fleet.unwrap());
    for expected in ["a", "b", "a", "b"] {
        let response = door.clone().oneshot(Request::new(Full::<Bytes>::default())).await.unwrap();
        assert_eq!(response.extensions().get::<Ledger>().unwrap().served().unwrap(), expected);
    }
}

// C18
#[test]
fn the_preset_is_sequential_unless_a_mode_is_set() {
    let preset =
        |rest: &str| debugged(&good(&with_backends(&format!("preset = \"llxprt\"\n{rest}"), &["a", "b"])).failover());
    assert!(preset("").contains("mode: Sequential"));
    assert!(preset("strategy = \"round_robin\"").contains("mode: Sequential"));
    assert!(preset("strategy = \"failover\"").contains("mode: Race"));
    assert!(preset("[failover]\nmode = \"race\"").contains("mode: Race"));
}

// C18
#[tokio::test(start_paused = true)]
async fn the_preset_tries_backends_in_the_order_of_the_file() {
    let (_, ledger) = send("preset = \"llxprt\"", &[("z", 500), ("a", 500), ("m", 200)]).await;
    let tried: Vec<_> = ledger.attempts().iter().map(|attempt| attempt.backend.to_string()).collect();
    assert_eq!(tried, ["z", "a", "m"]);
}

// C18
#[test]
fn the_preset_needs_two_backends() {
    let needs = "must be at least two for the preset llxprt";
    let alone = with_backends("preset = \"llxprt\"", &["a"]);
    assert!(refused(&alone).starts_with(&format!("backend: 1 {needs}")));
}

// C27
#[tokio::test(start_paused = true)]
async fn statuses_replace_the_default() {
    let backends = [("a", 404), ("b", 200)];
    assert_eq!(send("", &backends).await.0.status(), 404);
    assert_eq!(send("[failover]\nstatuses = [404]", &backends).await.0.status(), 200);
    assert_eq!(send("[failover]\nstatuses = [429, \"400-499\"]", &backends).await.0.status(), 200);
    assert_eq!(send("[failover]\nstatuses = \"429, 4xx\"", &backends).await.0.status(), 200);
    assert_eq!(send("[failover]\nstatuses = [404]", &[("a", 503), ("b", 200)]).await.0.status(), 503);
}

// C28, C29
#[tokio::test(start_paused = true)]
async fn only_the_listed_triggers_fire() {
    let backends = [("a", 503), ("b", 200)];
    assert_eq!(send("[failover]\ntriggers = [\"status\"]", &backends).await.0.status(), 200);
    assert_eq!(send("[failover]\ntriggers = [\"network\", \"timeout\"]", &backends).await.0.status(), 503);
    assert_eq!(send("[failover]\ntriggers = []", &backends).await.0.status(), 503);
}

// C50, C51, C58
#[tokio::test(start_paused = true)]
async fn the_longest_durations_do_not_overflow_and_longer_ones_are_refused() {
    let error = refused("[failover]\ntimeout = \"5M\"");
    assert_eq!(error, "failover.timeout: \"5M\" must be at most 31 days; min is minutes, M is months");

    let keys = ["race_bound", "timeout", "deadline", "ready_within", "same_backend_delay", "retry_after_cap"];
    let longest: String = keys.iter().map(|key| format!("{key} = \"31days\"\n")).collect();
    for mode in ["\"race\"", "\"sequential\"", "{ hedged = \"31days\" }"] {
        let section = format!("[failover]\nmode = {mode}\n{longest}");
        assert_eq!(send(&section, &[("a", 503), ("b", 200)]).await.0.status(), 200, "{mode}");
    }
}

// C26
#[tokio::test(start_paused = true)]
async fn a_post_is_hedged_only_if_the_file_says_all_or_with_a_key() {
    let hedged = "mode = { hedged = \"10ms\" }";
    for (section, method, key, attempts) in [
        ("", "POST", None, 1),
        ("", "PATCH", None, 1),
        ("", "get", None, 1),
        ("", "GET", None, 2),
        ("", "POST", Some("8e03978e"), 2),
        ("", "POST", Some(""), 1),
        ("retry_methods = \"all\"", "POST", None, 1),
        ("hedge_methods = \"idempotent\"", "POST", None, 1),
        ("hedge_methods = \"all\"", "POST", None, 2),
        ("hedge_methods = \"all\"\nretry_methods = \"idempotent\"", "POST", None, 2),
    ] {
        for preset in ["", "preset = \"llxprt\"\n"] {
            let text = format!("{preset}[failover]\n{hedged}\n{section}");
            let config = good(&with_backends(&text, &["a", "b"]));
            let fleet = config.fleet(|_| {
                service_fn(|_: Request<ReplayBody<Full<Bytes>>>| async {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
                })
            });
            let mut request = Request::builder().method(method);
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            let door = config.failover().layer(fleet.unwrap());
            let response = door.oneshot(request.body(Full::<Bytes>::from("x")).unwrap()).await.unwrap();
            let ledger = response.extensions().get::<Ledger>().unwrap();
            assert_eq!(ledger.attempts().len(), attempts, "{text} {method} {key:?}");
        }
    }
}

// C25
#[tokio::test(start_paused = true)]
async fn served_by_names_the_backend() {
    let (response, _) = send("[failover]\nserved_by = \"x-served-by\"", &[("a", 200)]).await;
    assert_eq!(response.headers()["x-served-by"], "a");
}

// C37
#[tokio::test(start_paused = true)]
async fn a_caller_that_stalls_is_waited_for_as_long_as_the_file_allows() {
    for (section, limit) in [("", 60), ("[failover]\nupload_idle_timeout = \"5s\"", 5)] {
        let config = good(section);
        let fleet = config.fleet(|_| {
            service_fn(async |request: Request<ReplayBody<Stalled>>| {
                request.into_body().collect().await.map(|_| Response::new(Full::<Bytes>::default()))
            })
        });
        let begun = tokio::time::Instant::now();
        let door = config.failover().layer(fleet.expect("a fleet"));
        let error = door.oneshot(Request::post("/").body(Stalled).expect("a request")).await.unwrap_err();
        assert_eq!((error.status().as_u16(), begun.elapsed().as_secs()), (408, limit), "{error}");
    }
}

/// A body of which nothing arrives.
struct Stalled;

impl http_body::Body for Stalled {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Pending
    }
}

// C33
#[tokio::test(start_paused = true)]
async fn bodies_are_kept_within_the_limits() {
    let backends = [("a", 503), ("b", 200)];
    for (section, attempts) in [
        ("mode = \"sequential\"", 2),
        ("mode = \"sequential\"\nreplay_limit = \"1KiB\"", 2),
        ("mode = \"sequential\"\nreplay_limit = 0", 1),
        ("mode = \"sequential\"\nreplay_limit = 3", 1),
        ("mode = \"sequential\"\nreplay_memory = 0", 1),
        ("mode = \"sequential\"\nreplay_memory = \"1MiB\"", 2),
    ] {
        let (_, ledger) = send(&format!("[failover]\n{section}"), &backends).await;
        assert_eq!(ledger.attempts().len(), attempts, "{section}");
    }
}

// C32
#[tokio::test(start_paused = true)]
async fn a_response_is_final_from_the_commit_point_on() {
    for (commit, served) in [("head", "a"), ("first_frame", "b")] {
        let text = format!("[failover]\nmode = \"sequential\"\ntimeout = \"1s\"\ncommit = \"{commit}\"");
        let config = good(&with_backends(&text, &["a", "b"]));
        let fleet = config.fleet(|backend| {
            let is_slow = backend.name() == "a";
            service_fn(move |_: Request<ReplayBody<Full<Bytes>>>| async move {
                let frame = Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"data")));
                let frames = futures::stream::once(async move {
                    if is_slow {
                        tokio::time::sleep(Duration::from_secs(5)).await;
                    }
                    frame
                });
                Ok::<_, Infallible>(Response::new(http_body_util::StreamBody::new(Box::pin(frames))))
            })
        });
        let door = config.failover().layer(fleet.unwrap());
        let response = door.oneshot(Request::new(Full::<Bytes>::default())).await.unwrap();
        assert_eq!(response.extensions().get::<Ledger>().unwrap().served().unwrap(), served, "{commit}");
    }
}

/// A body with a size hint of eight bytes. Unless it is good, it breaks off after four.
struct SizedBody {
    remaining: u64,
    is_good: bool,
}

impl http_body::Body for SizedBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.remaining == 4 && !self.is_good {
            return Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())));
        }
        self.remaining = self.remaining.saturating_sub(4);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"data")))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

// C32
#[tokio::test(start_paused = true)]
async fn small_responses_commit_as_a_whole() {
    for (commit, served) in [
        ("\"head\"", "a"),
        ("\"first_frame\"", "a"),
        ("{ whole = 7 }", "a"),
        ("{ whole = \"8B\" }", "b"),
        ("{ whole = \"1MiB\" }", "b"),
    ] {
        let text = format!("[failover]\nmode = \"sequential\"\ncommit = {commit}");
        let config = good(&with_backends(&text, &["a", "b"]));
        let fleet = config.fleet(|backend| {
            let is_good = backend.name() == "b";
            service_fn(move |_: Request<ReplayBody<Full<Bytes>>>| async move {
                Ok::<_, Infallible>(Response::new(SizedBody { remaining: 8, is_good }))
            })
        });
        let door = config.failover().layer(fleet.unwrap());
        let response = door.oneshot(Request::new(Full::<Bytes>::default())).await.unwrap();
        assert_eq!(response.extensions().get::<Ledger>().unwrap().served().unwrap(), served, "{commit}");
    }
}
