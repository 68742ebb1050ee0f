//! Addresses of hosts.

use std::{net::SocketAddr, time::Duration};

use futures::StreamExt;
use hickory_proto::rr::RecordType;
use tokio::time::Instant;
use tower_fleet::{
    Backend, Fleet,
    dns::{AddressFamily, Dns, ResolveErrorKind},
};

use super::{
    addresses, host, next,
    server::{Reply, Server, address, addresses_of, cname, no_data, records},
    short, socket, stays,
};

// C56, C64
#[tokio::test]
async fn a_fleet_follows_the_addresses_of_a_host_beside_static_backends() {
    let server = Server::of_addresses(&["10.0.0.1", "10.0.0.2"], 0).await;
    let fleet = Fleet::plain().backend(Backend::new("static", socket("10.9.9.9:80"))).build().unwrap();
    let mut endpoints = host(&server).endpoints().unwrap();
    let status = endpoints.status();
    let first = endpoints.first(Duration::from_secs(20)).await.unwrap();
    assert_eq!(addresses(&first), ["10.0.0.1:80", "10.0.0.2:80"]);
    let following = fleet.follow_lists(endpoints.backends(), |backend: &Backend<SocketAddr>| *backend.service());
    let following = tokio::spawn(following);
    let names = || fleet.snapshot().iter().map(|backend| backend.name.to_string()).collect::<Vec<_>>();
    let becomes = async |expected: &[&str]| {
        let wait = async {
            while names() != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{:?}", names()));
    };
    becomes(&["static", "api.test/10.0.0.1:80", "api.test/10.0.0.2:80"]).await;
    let stays = fleet.snapshot()[2].clone();
    server.set(addresses_of(&["10.0.0.3", "10.0.0.2"], 0));
    becomes(&["static", "api.test/10.0.0.2:80", "api.test/10.0.0.3:80"]).await;
    assert_eq!(fleet.snapshot()[1], stays, "unchanged, it is the same backend");
    assert_eq!((status.endpoints(), status.failures()), (2, 0));
    drop(fleet);
    tokio::time::timeout(Duration::from_secs(20), following).await.expect("it ends with the fleet").unwrap();
}

// C56
#[tokio::test]
async fn the_families_follow_their_rule() {
    let server = Server::of_addresses(&["10.0.0.1", "2001:db8::1"], 60).await;
    let (v4, v6) = ("10.0.0.1:80", "[2001:db8::1]:80");
    let cases = [
        (AddressFamily::PreferV4, vec![v4], 1),
        (AddressFamily::PreferV6, vec![v6], 1),
        (AddressFamily::V4, vec![v4], 1),
        (AddressFamily::V6, vec![v6], 1),
        (AddressFamily::Both, vec![v4, v6], 2),
    ];
    for (family, expected, queries) in cases {
        server.take_asked();
        let mut endpoints = host(&server).family(family).endpoints().unwrap();
        assert_eq!(addresses(&next(&mut endpoints).await), expected, "{family:?}");
        assert_eq!(server.take_asked().len(), queries, "{family:?}");
    }
    for (family, only) in [(AddressFamily::PreferV4, "2001:db8::1"), (AddressFamily::PreferV6, "10.0.0.1")] {
        server.set(addresses_of(&[only], 60));
        let mut endpoints = host(&server).family(family).endpoints().unwrap();
        assert_eq!(next(&mut endpoints).await[0].address.ip().to_string(), only, "{family:?}");
    }
}

// C70: a family whose query fails is not one without addresses.
#[tokio::test]
async fn a_failure_about_one_family_keeps_its_addresses() {
    let server = Server::of_addresses(&["10.0.0.1", "2001:db8::1"], 0).await;
    let mut endpoints = host(&server).family(AddressFamily::Both).endpoints().unwrap();
    assert_eq!(next(&mut endpoints).await.len(), 2);
    let v4 = addresses_of(&["10.0.0.1", "10.0.0.2"], 0);
    server.set(move |asked| match asked.kind {
        RecordType::A => v4(asked),
        _ => Reply::Code(hickory_proto::op::ResponseCode::ServFail),
    });
    let set = next(&mut endpoints).await;
    assert_eq!(addresses(&set), ["10.0.0.1:80", "10.0.0.2:80", "[2001:db8::1]:80"]);
    assert_eq!(endpoints.status().error().unwrap().kind(), &ResolveErrorKind::ErrorResponse);
    server.set(addresses_of(&["10.0.0.1", "10.0.0.2"], 0));
    assert_eq!(next(&mut endpoints).await.len(), 2, "that there is none is an answer");
    assert!(endpoints.status().error().is_none());
    // Without a preferred one, the other family is no replacement while it is not known.
    let mut endpoints = host(&server).endpoints().unwrap();
    next(&mut endpoints).await;
    let v6 = addresses_of(&["2001:db8::1"], 0);
    server.set(move |asked| match asked.kind {
        RecordType::A => Reply::Code(hickory_proto::op::ResponseCode::ServFail),
        _ => v6(asked),
    });
    stays(&mut endpoints, Duration::from_millis(400)).await;
}

// C56
#[tokio::test]
async fn ttls_are_honoured_within_their_bounds() {
    let server = Server::of_addresses(&["10.0.0.1"], 0).await;
    let begin = Instant::now();
    let mut endpoints = host(&server).endpoints().unwrap();
    next(&mut endpoints).await;
    for last in 2..=5 {
        let address = format!("10.0.0.{last}");
        server.set(addresses_of(&[&address], 0));
        assert_eq!(next(&mut endpoints).await[0].address.ip().to_string(), address);
    }
    assert!(
        begin.elapsed() >= Duration::from_millis(400),
        "a TTL of 0 is the minimum of 100 ms: {:?}",
        begin.elapsed()
    );

    server.set(addresses_of(&["10.0.0.1"], 1));
    let begin = Instant::now();
    let mut endpoints = host(&server).max_ttl(Duration::from_secs(60)).endpoints().unwrap();
    next(&mut endpoints).await;
    server.set(addresses_of(&["10.0.0.2"], 1));
    assert_eq!(addresses(&next(&mut endpoints).await), ["10.0.0.2:80"]);
    assert!(begin.elapsed() >= Duration::from_secs(1), "a TTL of 1 s: {:?}", begin.elapsed());

    server.set(addresses_of(&["10.0.0.1"], 86_400));
    let mut endpoints = host(&server).max_ttl(Duration::from_millis(200)).endpoints().unwrap();
    next(&mut endpoints).await;
    server.set(addresses_of(&["10.0.0.2"], 86_400));
    assert_eq!(addresses(&next(&mut endpoints).await), ["10.0.0.2:80"], "nothing is kept for a day");
}

// C56
#[tokio::test]
async fn five_hundred_records_come_over_tcp() {
    let ips: Vec<_> = (0..500).map(|at| format!("10.1.{}.{}", at / 250, at % 250 + 1)).collect();
    let ips: Vec<_> = ips.iter().map(String::as_str).collect();
    let server = Server::of_addresses(&ips, 60).await;
    let mut endpoints = host(&server).endpoints().unwrap();
    assert_eq!(next(&mut endpoints).await.len(), 500);
    let asked = server.take_asked();
    assert_eq!(asked.iter().map(|asked| asked.is_tcp).collect::<Vec<_>>(), [false, true]);
    let mut endpoints = host(&server).max_endpoints(100).endpoints().unwrap();
    let cut = next(&mut endpoints).await;
    assert_eq!((cut.len(), cut[99].address), (100, socket("10.1.0.100:80")), "always the same ones");
}

// C56
#[tokio::test]
async fn chains_of_cnames_are_followed_with_their_least_ttl() {
    let step = |from: &str| match from {
        "api.test." => Some("b.test."),
        "b.test." => Some("c.other."),
        "c.other." => Some("d.other."),
        _ => None,
    };
    // One record for each question, as an authoritative server of another zone does; then all of them at once.
    let server = Server::start(move |asked| match step(&asked.name) {
        Some(next) => records(vec![cname(&asked.name, 60, next)]),
        None if asked.kind == RecordType::A => records(vec![address(&asked.name, 60, "10.0.0.1")]),
        None => no_data(60),
    })
    .await;
    let mut endpoints = host(&server).endpoints().unwrap();
    let set = next(&mut endpoints).await;
    assert_eq!(
        (addresses(&set), &*set[0].target, server.take_asked().len()),
        (vec!["10.0.0.1:80".into()], "api.test", 4)
    );
    server.set(|_| {
        let names = ["api.test.", "b.test.", "c.other."];
        let mut all: Vec<_> = names.windows(2).map(|pair| cname(pair[0], 0, pair[1])).collect();
        all.push(address(names[2], 86_400, "10.0.0.2"));
        records(all)
    });
    let mut endpoints = short(Dns::new("api.test:80")).name_servers([server.address]).max_ttl(Duration::from_secs(60));
    endpoints = endpoints.family(AddressFamily::V4);
    let mut endpoints = endpoints.endpoints().unwrap();
    assert_eq!(addresses(&next(&mut endpoints).await), ["10.0.0.2:80"]);
    server.set(addresses_of(&["10.0.0.3"], 60));
    assert_eq!(addresses(&next(&mut endpoints).await), ["10.0.0.3:80"], "the TTL of 0 in the chain counts");
}

// C56
#[tokio::test]
async fn a_final_dot_and_upper_case_make_no_difference_to_given_name_servers() {
    let server = Server::of_addresses(&["10.0.0.1"], 60).await;
    for name in ["api.test:80", "API.test.:80"] {
        let mut endpoints = short(Dns::new(name)).name_servers([server.address]).endpoints().unwrap();
        let set = next(&mut endpoints).await;
        assert_eq!((&*set[0].name, &*set[0].target), ("api.test/10.0.0.1:80", "api.test"));
        assert_eq!(server.take_asked()[0].name, "api.test.");
    }
}

// C56
#[tokio::test]
async fn an_ip_address_needs_no_name_server() {
    for (text, name) in [("10.0.0.1:80", "10.0.0.1/10.0.0.1:80"), ("[::1]:80", "::1/[::1]:80")] {
        let mut endpoints = Dns::new(text).name_servers([socket("127.0.0.1:1")]).endpoints().unwrap();
        let set = endpoints.first(Duration::from_secs(20)).await.unwrap();
        assert_eq!(&*set[0].name, name);
        assert_eq!((endpoints.next().await, endpoints.next().await), (Some(set), None));
    }
}

// C56: two sources may find the same address.
#[tokio::test]
async fn two_sources_with_one_address_are_two_backends() {
    let server = Server::of_addresses(&["10.0.0.1"], 60).await;
    let fleet = Fleet::plain().build().unwrap();
    for dns in [host(&server), host(&server).name("other")] {
        let mut endpoints = dns.endpoints().unwrap();
        endpoints.first(Duration::from_secs(20)).await.unwrap();
        let lists = endpoints.backends().take(1);
        fleet.follow_lists(lists, |backend: &Backend<SocketAddr>| *backend.service()).await;
    }
    let names: Vec<_> = fleet.snapshot().into_iter().map(|backend| backend.name).collect();
    assert_eq!(names, ["api.test/10.0.0.1:80", "other/10.0.0.1:80"]);
}

// C56: the system of the test may have no settings of DNS.
#[tokio::test]
async fn the_settings_of_the_system_are_used_or_said_to_be_missing() {
    let mut endpoints = short(Dns::new("localhost:80")).endpoints().unwrap();
    match endpoints.first(Duration::from_secs(20)).await {
        Ok(set) => assert_eq!(addresses(&set), ["127.0.0.1:80"]),
        Err(error) => assert_eq!(error.kind(), &ResolveErrorKind::InvalidSystemSettings, "{error:?}"),
    }
}

// C1: no hidden work.
#[tokio::test]
async fn between_lookups_there_is_no_task() {
    let ips: Vec<_> = (1..=200).map(|at| format!("10.1.0.{at}")).collect();
    let ips: Vec<_> = ips.iter().map(String::as_str).collect();
    let server = Server::of_addresses(&ips, 86_400).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let dns = host(&server).max_ttl(Duration::from_secs(60)).family(AddressFamily::Both);
    let mut all: Vec<_> = (0..10).map(|_| dns.clone().endpoints().unwrap()).collect();
    for endpoints in &mut all {
        assert_eq!(next(endpoints).await.len(), 200, "over TCP");
    }
    server.set(|asked| if asked.is_tcp { Reply::Nothing } else { Reply::Truncated });
    for _ in 0..3 {
        let mut silent = dns.clone().endpoints().unwrap();
        assert!(silent.first(Duration::from_secs(1)).await.is_err());
        assert!(tasks() > before, "a lookup has some");
    }
    let wait = async {
        while tasks() > before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let is_over = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert!(is_over.is_ok(), "{} tasks, {before} before", tasks());
}

// C1
#[tokio::test]
async fn a_dropped_stream_asks_nothing_more() {
    let server = Server::of_addresses(&["10.0.0.1"], 0).await;
    let mut endpoints = host(&server).endpoints().unwrap();
    next(&mut endpoints).await;
    drop(endpoints);
    let mut unanswered = host(&server).endpoints().unwrap();
    server.set(|_| Reply::Nothing);
    assert!(unanswered.first(Duration::from_millis(50)).await.is_err());
    drop(unanswered);
    // What was sent before arrives.
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.take_asked();
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(server.count(), 0);
}
