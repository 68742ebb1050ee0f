//! Name servers that fail, lie or are silent.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use tokio::time::Instant;
use tower_fleet::dns::ResolveErrorKind;

use super::{
    addresses, fails, host, next,
    server::{Asked, Reply, Server, addresses_of, cname, no_data, no_such_name, records},
    socket, stays,
};

/// A bad answer to everything.
type Bad = fn(&Asked) -> Reply;

fn bad_answers() -> Vec<(&'static str, Bad, ResolveErrorKind)> {
    use ResolveErrorKind::*;
    vec![
        ("NXDOMAIN", |_| no_such_name(0), NoSuchName),
        ("no records", |_| no_data(0), NoRecords),
        ("no records and no SOA", |_| records(Vec::new()), NoRecords),
        (
            "records of another type",
            |_| records(vec![super::server::srv("api.test.", 0, [0, 0, 1], "x.test.")]),
            NoRecords,
        ),
        ("unusable addresses", |asked| addresses_of(&["0.0.0.0", "::"], 0)(asked), NoRecords),
        ("SERVFAIL", |_| Reply::Code(ResponseCode::ServFail), ErrorResponse),
        ("REFUSED", |_| Reply::Code(ResponseCode::Refused), ErrorResponse),
        ("NOTIMP", |_| Reply::Code(ResponseCode::NotImp), ErrorResponse),
        ("silence", |_| Reply::Nothing, TimedOut),
        ("a wrong id", |_| Reply::WrongId, TimedOut),
        ("garbage", |_| Reply::Garbage(vec![0xff; 40]), InvalidResponse),
        ("a cut message", |_| Reply::Garbage(vec![0x81, 0x80, 0, 1]), InvalidResponse),
        (
            "a loop of CNAMEs",
            |asked| {
                let next = if asked.name == "api.test." { "b.test." } else { "api.test." };
                records(vec![cname(&asked.name, 0, next)])
            },
            NoRecords,
        ),
        ("a CNAME of itself", |asked| records(vec![cname(&asked.name, 0, &asked.name)]), NoRecords),
        (
            "an endless chain of CNAMEs",
            |asked| records(vec![cname(&asked.name, 0, &format!("x.{}", asked.name))]),
            NoRecords,
        ),
        ("a truncated answer over TCP", |_| Reply::Truncated, InvalidResponse),
    ]
}

// C70
#[tokio::test]
async fn a_bad_answer_keeps_the_last_set_says_why_and_ends_with_a_good_one() {
    let cases = bad_answers().into_iter().map(|(what, bad, kind)| async move {
        let server = Server::of_addresses(&["10.0.0.1"], 0).await;
        let mut endpoints = host(&server).endpoints().unwrap();
        let status = endpoints.status();
        assert_eq!(addresses(&next(&mut endpoints).await), ["10.0.0.1:80"], "{what}");
        server.set(bad);
        stays(&mut endpoints, Duration::from_millis(1_200)).await;
        let error = fails(&mut endpoints).await;
        assert_eq!((error.kind(), status.endpoints()), (&kind, 1), "{what}: {error:?}");
        assert!(status.age() > Some(Duration::from_secs(1)), "{what}: {:?} since a good answer", status.age());
        assert!(error.to_string().starts_with("DNS lookup of `api.test` failed: "), "{what}: {error}");
        assert_eq!(error.source_name(), "api.test");
        server.set(addresses_of(&["10.0.0.2"], 0));
        assert_eq!(addresses(&next(&mut endpoints).await), ["10.0.0.2:80"], "{what}");
        assert!(status.error().is_none(), "{what}");
    });
    futures::future::join_all(cases).await;
}

// C70
#[tokio::test]
async fn neither_negative_answers_nor_failures_are_hammered() {
    let cases = bad_answers().into_iter().map(|(what, bad, _)| async move {
        let server = Server::start(bad).await;
        let mut endpoints = host(&server).endpoints().unwrap();
        assert!(endpoints.first(Duration::from_millis(2_000)).await.is_err(), "{what}");
        // At 0, 100, 300, 700, 1100, 1500 and 1900 ms at the earliest.
        let lookups = endpoints.status().failures();
        assert!((1..=7).contains(&lookups), "{what}: {lookups} lookups");
        // For each lookup: both families, a chain of eight for each (hickory takes an SRV record for a step of one), or
        // two repetitions.
        let most = if what.contains("CNAME") || what.contains("another type") { 18 } else { 6 };
        assert!(server.count() <= (lookups as usize + 1) * most, "{what}: {} queries", server.count());
    });
    futures::future::join_all(cases).await;
    // With a TTL, a negative answer is valid for it.
    let server = Server::start(|_| no_such_name(1)).await;
    let begin = Instant::now();
    let mut endpoints = host(&server).max_backoff(Duration::from_secs(60)).endpoints().unwrap();
    assert_eq!(fails(&mut endpoints).await.kind(), &ResolveErrorKind::NoSuchName);
    server.set(addresses_of(&["10.0.0.1"], 60));
    next(&mut endpoints).await;
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
}

// C56, C70
#[tokio::test]
async fn only_a_certain_answer_may_empty_a_set_where_that_is_allowed() {
    let cases = bad_answers().into_iter().map(|(what, bad, _)| async move {
        let server = Server::of_addresses(&["10.0.0.1"], 0).await;
        let mut endpoints = host(&server).allow_empty(true).endpoints().unwrap();
        next(&mut endpoints).await;
        server.set(bad);
        match what {
            "NXDOMAIN" | "no records" => assert_eq!(next(&mut endpoints).await, [], "{what}"),
            _ => drop(fails(&mut endpoints).await),
        }
    });
    futures::future::join_all(cases).await;
}

// C70
#[tokio::test]
async fn the_next_name_server_is_asked_after_a_failure_and_not_after_a_negative_answer() {
    let cases = bad_answers().into_iter().map(|(what, bad, kind)| async move {
        let (first, second) = (Server::start(bad).await, Server::of_addresses(&["10.0.0.2"], 60).await);
        let mut endpoints = host(&first).name_servers([first.address, second.address]).endpoints().unwrap();
        let found = endpoints.first(Duration::from_millis(4_000)).await;
        let is_answer = matches!(what, "NXDOMAIN" | "no records" | "unusable addresses");
        match found {
            Ok(set) => assert!(!is_answer && set[0].address == socket("10.0.0.2:80"), "{what}: {set:?}"),
            Err(error) => assert!(is_answer && *error.kind() == kind && second.count() == 0, "{what}: {error:?}"),
        }
    });
    futures::future::join_all(cases).await;
}

// C70
#[tokio::test]
async fn a_process_may_start_without_an_answer_and_gets_it_later() {
    let server = Server::start(|_| Reply::Code(ResponseCode::ServFail)).await;
    let mut endpoints = host(&server).endpoints().unwrap();
    let error = endpoints.first(Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.kind(), &ResolveErrorKind::ErrorResponse);
    assert!(std::error::Error::source(&error).is_some(), "{error:?}");
    server.set(addresses_of(&["10.0.0.1"], 60));
    assert_eq!(endpoints.first(Duration::from_secs(20)).await.unwrap().len(), 1);
    assert_eq!(endpoints.first(Duration::ZERO).await.unwrap().len(), 1, "known already");
    assert_eq!(next(&mut endpoints).await.len(), 1, "the stream has it too");

    let silent = Server::start(|_| Reply::Nothing).await;
    let mut endpoints = host(&silent).endpoints().unwrap();
    let error = endpoints.first(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.kind(), &ResolveErrorKind::TimedOut);
}
