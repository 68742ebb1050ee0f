//! Answers that hold more than was asked for.

use std::time::Duration;

use hickory_proto::rr::RecordType;
use tower_fleet::dns::AddressFamily;

use super::{
    addresses, fails, host, next,
    server::{Asked, Reply, Server, address, cname, records, srv},
    service, stays,
};

const NAME: &str = "_grpc._tcp.api.test.";

/// Answers every question about addresses with these records.
fn answering(answers: Vec<hickory_proto::rr::Record>) -> impl Fn(&Asked) -> Reply + Send + Sync + 'static {
    move |asked| match asked.kind {
        RecordType::A | RecordType::AAAA => records(answers.clone()),
        _ => Reply::Nothing,
    }
}

// C56, C70
#[tokio::test]
async fn an_address_of_another_name_is_not_used() {
    let lies = [address("other.test.", 0, "10.6.6.6"), address("api.test.evil.", 0, "10.6.6.7")];
    let server = Server::start(answering([&lies[..], &[address("API.test.", 0, "10.0.0.1")]].concat())).await;
    let mut endpoints = host(&server).endpoints().unwrap();
    assert_eq!(addresses(&next(&mut endpoints).await), ["10.0.0.1:80"]);
    server.set(answering(lies.to_vec()));
    fails(&mut endpoints).await;
    stays(&mut endpoints, Duration::from_millis(200)).await;
}

// C56
#[tokio::test]
async fn an_address_of_the_other_family_is_not_used() {
    let both = vec![address("api.test.", 0, "10.0.0.1"), address("api.test.", 0, "2001:db8::1")];
    let server = Server::start(answering(both)).await;
    for (family, only) in [(AddressFamily::V4, "10.0.0.1:80"), (AddressFamily::V6, "[2001:db8::1]:80")] {
        let mut endpoints = host(&server).family(family).endpoints().unwrap();
        assert_eq!(addresses(&next(&mut endpoints).await), [only]);
    }
}

// C56: aliases in whatever order, by whatever number of answers, and one of another name.
#[tokio::test]
async fn aliases_lead_to_the_addresses_and_no_others_do() {
    let chain = vec![
        address("c.test.", 0, "10.0.0.1"),
        cname("b.test.", 0, "c.test."),
        cname("x.test.", 0, "y.test."),
        cname("api.test.", 0, "b.test."),
        address("y.test.", 0, "10.6.6.6"),
    ];
    let server = Server::start(answering(chain)).await;
    assert_eq!(addresses(&next(&mut host(&server).endpoints().unwrap()).await), ["10.0.0.1:80"]);
    server.set(|asked| match &*asked.name {
        "api.test." => records(vec![cname("api.test.", 0, "b.test."), address("x.test.", 0, "10.6.6.6")]),
        "b.test." => records(vec![cname("b.test.", 0, "c.test.")]),
        _ => records(vec![address("api.test.evil.", 0, "10.6.6.6"), address("c.test.", 0, "10.0.0.2")]),
    });
    assert_eq!(addresses(&next(&mut host(&server).endpoints().unwrap()).await), ["10.0.0.2:80"]);
    server.set(answering(vec![cname("api.test.", 0, "b.test."), cname("b.test.", 0, "api.test.")]));
    fails(&mut host(&server).endpoints().unwrap()).await;
}

// C56: neither a service, nor the address of a target.
#[tokio::test]
async fn additional_records_that_lie_are_not_used() {
    let server = Server::start(|asked| match asked.kind {
        RecordType::SRV => Reply::Records {
            answers: vec![
                srv(NAME, 0, [1, 1, 81], "h1.test."),
                srv("_grpc._tcp.other.test.", 0, [0, 9, 66], "h6.test."),
            ],
            additionals: vec![
                address("h6.test.", 0, "10.6.6.6"),
                address("test.", 0, "10.6.6.7"),
                address(NAME, 0, "10.6.6.8"),
                srv(NAME, 0, [0, 9, 66], "h6.test."),
                cname("h1.test.", 0, "h6.test."),
            ],
        },
        _ if asked.name == "h1.test." => records(vec![address("h1.test.", 0, "10.0.0.1")]),
        _ => records(vec![address(&asked.name, 0, "10.6.6.9")]),
    })
    .await;
    assert_eq!(addresses(&next(&mut service(&server).endpoints().unwrap()).await), ["10.0.0.1:81"]);
}

// C58, C70: the least and the greatest of all numbers, literals as targets, and more records than are allowed.
#[tokio::test]
async fn extreme_services_are_taken_as_far_as_they_are_some() {
    let max = u16::MAX;
    let server = Server::start(move |asked| match asked.kind {
        RecordType::SRV => records(vec![
            srv(NAME, u32::MAX, [max, max, max], "h1.test."),
            srv(NAME, u32::MAX, [max, max, max], "h1.test."),
            srv(NAME, 0, [0, 0, 0], "h1.test."),
            srv(NAME, 0, [0, max, 80], "10.0.0.9."),
            srv(NAME, 0, [0, max, 80], "1.test.1"),
        ]),
        _ => records(vec![address(&asked.name, u32::MAX, "10.0.0.1")]),
    })
    .await;

    let set = next(&mut service(&server).endpoints().unwrap()).await;
    assert_eq!(addresses(&set), ["10.0.0.1:65535"]);
    assert_eq!((set[0].priority, set[0].weight), (-65_535, 65_535));
    server.set(|asked| {
        let many = (0..1_500).map(|at: u32| address(&asked.name, u32::MAX, &format!("10.0.{}.{}", at >> 8, at & 255)));
        records(many.collect())
    });

    let set = next(&mut host(&server).max_endpoints(100).endpoints().unwrap()).await;
    assert_eq!(set.len(), 100);
}
