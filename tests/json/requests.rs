//! Requests: edited, refused, sent as they are, slow, cut and given up.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower_fleet::{CircuitState, ReplayLayer, body::ReplayMemory};

use super::*;

// C24, C76
#[tokio::test(start_paused = true)]
async fn each_attempt_starts_from_the_body_of_the_caller() {
    let a = model("gpt-4o-mini").remove("logit_bias").unwrap();
    let b = JsonEditLayer::new().map("model", [("fast", "claude")]).unwrap().set_default("n.a", 1).unwrap();
    let (fleet, [a, b]) = edited([a, b]);
    a.then([status(503)]);
    let answer =
        send(&fleet, json(vec![data("{\"model\": \"fa"), data("st\", \"logit_bias\": {}, \"x\": 1e400}")])).await;
    assert_eq!(story(&answer), "a:status(status 503) b:served");
    assert_eq!(texts(&a), ["{\"model\": \"gpt-4o-mini\", \"x\": 1e400}"]);
    assert_eq!(texts(&b), ["{\"model\": \"claude\", \"logit_bias\": {}, \"x\": 1e400,\"n\":{\"a\":1}}"]);
    for remote in [&a, &b] {
        assert_eq!(header(remote, CONTENT_LENGTH), [Some(texts(remote)[0].len().to_string())]);
    }
    drop(answer);
    assert_idle(&fleet);
}

// C76
#[tokio::test(start_paused = true)]
async fn what_frames_the_callers_body_does_not_frame_the_edited_one() {
    let (fleet, [a]) = edited([model("m")]);
    let mut request = json(vec![data("{\"model\":\"a longer name\"}"), Piece::Trailer("x-sum", "1")]);
    for (name, value) in [("content-length", "25"), ("transfer-encoding", "chunked"), ("digest", "x"), ("x-own", "y")] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    send(&fleet, request).await.unwrap();
    assert_eq!(a.bodies()[0].as_ref().unwrap(), &(b"{\"model\":\"m\"}".to_vec(), None));
    assert_eq!(header(&a, CONTENT_LENGTH), [Some("13".to_owned())]);
    assert_eq!(header(&a, TRANSFER_ENCODING), [None]);
    assert_eq!(
        a.seen(|seen| (seen.headers.contains_key("digest"), seen.headers.contains_key("x-own"))),
        [(false, true)]
    );
}

/// Requests that cannot be edited, and why.
fn unfit() -> [(Request<Body>, &'static str); 5] {
    let mut compressed = json(vec![data("{\"model\":\"fast\"}")]);
    compressed.headers_mut().insert(CONTENT_ENCODING, "gzip".parse().unwrap());
    let long = "x".repeat(100);
    [
        (compressed, "compressed"),
        (json(vec![data("{\"model\":")]), "not JSON"),
        (json(vec![data("[]")]), "not an object"),
        (json(vec![Piece::Size(100), data(&long)]), "too large"),
        // Its length is not known before.
        (
            json(vec![data(&long[..30]), Piece::Wait(10), data(&long[30..70]), Piece::Wait(10), data(&long[70..])]),
            "too large",
        ),
    ]
}

// C76
#[tokio::test(start_paused = true)]
async fn a_body_that_cannot_be_edited_is_refused_and_moves_on() {
    for (request, reason) in unfit() {
        let (fleet, [a, b]) = edited([model("m").bound(50), JsonEditLayer::new()]);
        let answer = send(&fleet, request).await;
        assert_eq!(story(&answer), format!("a:network(body not edited: {reason}) b:served"));
        assert!(ledger(&answer).to_string().contains(&format!("`a`: body not edited: {reason}")));
        assert_eq!((a.calls(), b.calls()), (0, 1), "{reason}");
        assert!(b.bodies()[0].is_ok(), "{reason}: the caller's body as a whole");
        drop(answer);
        assert_idle(&fleet);
        // C37: neutral for the circuit.
        assert!(fleet.snapshot().iter().all(|backend| backend.state == CircuitState::Closed), "{reason}");
    }
}

// C76
#[tokio::test(start_paused = true)]
async fn a_request_that_no_backend_takes_is_the_callers_fault() {
    let (fleet, [a, b]) = edited([model("m"), model("n")]);
    let error = send(&fleet, json(vec![data("no JSON")])).await.unwrap_err();
    assert_eq!(error.status(), 400);
    assert_eq!((a.calls(), b.calls()), (0, 0));
    // A backend that failed is the reason in place of one that was not asked.
    a.then([fail("broken")]);
    let (fleet, [a, _]) = edited([JsonEditLayer::new(), model("n")]);
    a.then([fail("broken")]);
    assert_eq!(send(&fleet, json(vec![data("no JSON")])).await.unwrap_err().status(), 502);
}

// C76
#[tokio::test(start_paused = true)]
async fn by_choice_it_is_sent_as_it_is_and_the_ledger_tells_it() {
    for (request, reason) in unfit() {
        let (fleet, [a]) = edited([model("m").bound(50).otherwise(Unedited::Forward)]);
        let answer = send(&fleet, request).await;
        assert_eq!(story(&answer), "a:served", "{reason}");
        let ledger = ledger(&answer);
        assert_eq!(ledger.attempts()[0].note.unwrap().text(), format!("body not edited: {reason}"));
        assert!(ledger.to_string().ends_with(&format!(": body not edited: {reason}")), "{ledger}");
        let sent = texts(&a).remove(0);
        assert!(["{\"model\":\"fast\"}", "{\"model\":", "[]", &"x".repeat(100)].contains(&&*sent), "{sent}");
    }
}

// C76: what was read in part is sent as a whole, also if it is over the replay limit.
#[tokio::test(start_paused = true)]
async fn a_body_that_was_read_in_part_is_sent_as_a_whole() {
    let long = "y".repeat(500);
    for limit in [0, 100, 100_000] {
        let (fleet, [a]) = edited([model("m").bound(50).otherwise(Unedited::Forward)]);
        let pieces = long.as_bytes().chunks(20).flat_map(|part| [Piece::Wait(5), Piece::Data(part.to_vec())]).collect();
        let door = sequential().replay(ReplayLayer::new().limit(limit)).build().unwrap().layer(fleet.clone());
        door.oneshot(json(pieces)).await.unwrap();
        assert_eq!(texts(&a), [&*long], "{limit}");
    }
}

// C76
#[tokio::test(start_paused = true)]
async fn a_name_that_is_not_in_the_map_is_refused_by_choice() {
    let edit = JsonEditLayer::new().map("model", [("fast", "m")]).unwrap().otherwise(Unedited::Forward);
    let (fleet, [a, b]) = edited([edit.clone().unmapped(Unmapped::Refuse), edit]);
    let answer = send(&fleet, json(vec![data("{\"model\":\"large\"}")])).await;
    assert_eq!(story(&answer), "a:network(body not edited: name not in the map) b:served");
    assert_eq!((a.calls(), texts(&b)), (0, vec!["{\"model\":\"large\"}".to_owned()]));
}

// C76
#[tokio::test(start_paused = true)]
async fn other_bodies_are_sent_without_being_read() {
    let (fleet, [a]) = edited([model("m").bound(1)]);
    let slow = || vec![data("{\"a\""), Piece::Wait(5_000), data(":1}")];
    let mut untyped = json(slow());
    untyped.headers_mut().remove(CONTENT_TYPE);
    let mut form = json(slow());
    form.headers_mut().insert(CONTENT_TYPE, "multipart/form-data; boundary=json".parse().unwrap());
    for request in [untyped, form] {
        let since = Instant::now();
        send(&fleet, request).await.unwrap();
        let called = a.seen(|seen| seen.at);
        assert_eq!(*called.last().unwrap(), since, "called at once, before the body is there");
    }
    send(&fleet, get()).await.unwrap();
    assert_eq!(texts(&a), ["{\"a\":1}", "{\"a\":1}", ""]);
    // `+json` is JSON.
    let mut problem = json(vec![data("{}")]);
    problem.headers_mut().insert(CONTENT_TYPE, "application/vnd.api+JSON".parse().unwrap());
    assert!(send(&fleet, problem).await.is_err(), "over the bound");
}

// C50, C76: issue 11.4. The wait for the caller is not charged to the backend.
#[tokio::test(start_paused = true)]
async fn a_slow_caller_times_nothing_out() {
    let (fleet, [a]) = edited([model("m")]);
    a.usually(status(200).after(80));
    let door = sequential().timeout(millis(100)).build().unwrap().layer(fleet.clone());
    let pieces = vec![Piece::Wait(2_000), data("{\"model\":"), Piece::Wait(2_000), data("\"fast\"}")];
    let answer = door.clone().oneshot(json(pieces)).await;
    assert_eq!(story(&answer), "a:served");
    assert_eq!(texts(&a), ["{\"model\":\"m\"}"]);
    drop(answer);
    // But its own time is.
    a.usually(status(200).after(200));
    let since = Instant::now();
    let pieces = vec![Piece::Wait(2_000), data("{}")];
    let answer = door.oneshot(json(pieces)).await;
    assert!(story(&answer).starts_with("a:timeout(timeout)"), "{}", story(&answer));
    assert_eq!(since.elapsed(), millis(2_100));
    assert_idle(&fleet);
}

// C37, C76
#[tokio::test(start_paused = true)]
async fn a_body_that_fails_or_stalls_is_no_failure_of_the_backend() {
    let cases = [
        vec![data("{\"model\":"), Piece::Error("cut")],
        vec![Piece::Size(100), data("{}")],
        vec![data("{"), Piece::Stall],
    ];
    for pieces in cases {
        let (fleet, [a, b]) = edited([model("m"), model("n")]);
        let error = send(&fleet, json(pieces)).await.unwrap_err();
        assert_eq!((a.calls(), b.calls()), (0, 0), "{error}");
        assert!(fleet.snapshot().iter().all(|backend| backend.state == CircuitState::Closed));
        assert_idle(&fleet);
    }
}

// C20, C76
#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_leaves_nothing_behind() {
    let memory = ReplayMemory::new(10_000);
    for after in [0, 5, 15, 25, 35] {
        let (fleet, [a]) = edited([model("m").memory(memory.clone())]);
        a.usually(status(200).after(10));
        let pieces = vec![Piece::Wait(10), data("{\"a\":"), Piece::Wait(10), data("1}")];
        let _ = tokio::time::timeout(millis(after), send(&fleet, json(pieces))).await;
        assert_eq!((a.running(), memory.used()), (0, 0), "{after}");
        assert_idle(&fleet);
    }
}

// C76
#[tokio::test(start_paused = true)]
async fn bodies_are_charged_until_they_are_sent() {
    let memory = ReplayMemory::new(1_000);
    let (fleet, [a]) = edited([model("m").memory(memory.clone())]);
    a.then([hang().deaf()]);
    let content = format!("{{\"a\":\"{}\"}}", "x".repeat(300));
    {
        let call = send(&fleet, json(vec![data(&content)]));
        assert!(tokio::time::timeout(millis(5), call).await.is_err());
        assert_eq!(a.calls(), 1);
    }
    assert_eq!(memory.used(), 0);
    let call = send(&fleet, json(vec![data(&content)]));
    a.then([hang().deaf()]);
    let mut call = std::pin::pin!(call);
    assert!(tokio::time::timeout(millis(5), &mut call).await.is_err());
    assert!((300..700).contains(&memory.used()), "{} bytes while it is sent", memory.used());
    a.usually(status(200));
    // A larger one than the memory is not edited.
    let error = send(&fleet, json(vec![data(&content.replace('x', "xxxx"))])).await.unwrap_err();
    assert!(error.ledger().to_string().contains("memory used up"), "{}", error.ledger());
}

// C76: without a failover, a `ReplayLayer` makes the body.
#[tokio::test(start_paused = true)]
async fn it_works_behind_any_door() {
    let (service, remote) = mock("a");
    let service = tower::ServiceBuilder::new().layer(ReplayLayer::new()).layer(model("m")).service(service);
    let response = service.oneshot(json(vec![data("{}")])).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), Bytes::from_static(b"a"));
    assert_eq!(texts(&remote), ["{\"model\":\"m\"}"]);
}

// C58
#[test]
fn edits_that_contradict_each_other_are_refused() {
    let refused = |layer: Result<JsonEditLayer, tower_fleet::InvalidSetting>| layer.unwrap_err().to_string();
    let edit = || model("m");
    for (error, expected) in [
        (refused(edit().remove("model")), "json: remove `model` must not be edited twice"),
        (
            refused(edit().set("model.name", 1)),
            "json: set `model.name` must not be below a path that is edited as a whole",
        ),
        (
            refused(edit().set("a.b", 1).unwrap().remove("a")),
            "json: remove `a` must not be above a path that is edited",
        ),
        (refused(edit().set_default("model", 1)), "must not be edited twice"),
        (refused(edit().map("a", [("", "x")])), "json: map `a` must not have an empty name"),
        (refused(edit().map("a", [("x", "y"), ("x", "z")])), "json: map `a` must not have a name twice"),
        (refused(edit().map("a", <[(&str, &str); 0]>::default())), "json: map `a` must have a name"),
        (refused(edit().set("", 1)), "json: set `` must be a path such as"),
        (refused(edit().set("a..b", 1)), "must be a path such as"),
        (refused(edit().set("a\\b", 1)), "must have a dot or a backslash after each backslash"),
        (refused(edit().set(&"a.".repeat(20), 1)), "must be a path such as"),
        (refused(edit().set(&vec!["a"; 17].join("."), 1)), "must have at most 16 segments"),
    ] {
        assert!(error.contains(expected), "{error}");
    }
    // C59
    assert!(!format!("{:?}", edit().set("key", "hush").unwrap()).contains("hush"));
}

// C64
#[test]
fn a_layer_over_another_keeps_its_own_edits() {
    let all = model("all").set("a.b", 1).unwrap().remove("c").unwrap().bound(10);
    let own = JsonEditLayer::new().map("model", [("x", "y")]).unwrap().set("a", 2).unwrap().bound(20);
    let expected = own.clone().remove("c").unwrap();
    assert_eq!(own.over(&all), expected);
    assert_eq!(JsonEditLayer::new().over(&all), all);
    assert_ne!(model("a"), model("b"));
    assert_ne!(model("a"), model("a").otherwise(Unedited::Forward));
}
