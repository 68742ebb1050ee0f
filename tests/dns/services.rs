//! SRV records of services.

use std::{net::SocketAddr, time::Duration};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use tower_fleet::{
    Backend, Fleet,
    dns::{AddressFamily, ResolveErrorKind},
};

use super::{
    addresses, fails, next,
    server::{Reply, Server, address, no_data, no_such_name, records, srv},
    service,
};

const NAME: &str = "_grpc._tcp.api.test.";

/// Answers with these SRV records; the host `h7.test.` has the address 10.0.0.7.
fn services(list: &[([u16; 3], &str)]) -> impl Fn(&super::server::Asked) -> Reply + Send + Sync + 'static {
    let list: Vec<_> = list.iter().map(|(numbers, target)| srv(NAME, 0, *numbers, target)).collect();
    move |asked| match asked.kind {
        RecordType::SRV if asked.name == NAME => records(list.clone()),
        RecordType::A if asked.name.starts_with('h') => {
            let last: String = asked.name.chars().filter(char::is_ascii_digit).collect();
            records(vec![address(&asked.name, 0, &format!("10.0.0.{last}"))])
        }
        _ => no_such_name(60),
    }
}

// C56, C64
#[tokio::test]
async fn ports_weights_and_priorities_are_those_of_the_records() {
    let server =
        Server::start(services(&[([10, 5, 81], "h1.test."), ([10, 0, 82], "h2.test."), ([20, 9, 83], "h3.test.")]))
            .await;
    let fleet = Fleet::plain().build().unwrap();
    let mut endpoints = service(&server).endpoints().unwrap();
    let set = endpoints.first(Duration::from_secs(20)).await.unwrap();
    let facts: Vec<_> = set.iter().map(|it| (&*it.target, it.address.port(), it.weight, it.priority)).collect();
    assert_eq!(facts, [("h1.test", 81, 5, -10), ("h2.test", 82, 1, -10), ("h3.test", 83, 9, -20)]);
    assert_eq!(&*set[0].name, "_grpc._tcp.api.test/10.0.0.1:81");
    let following = fleet.follow_lists(endpoints.backends(), |backend: &Backend<SocketAddr>| *backend.service());
    tokio::spawn(following);
    let wait = async |done: &dyn Fn() -> bool| {
        let wait = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("in time");
    };
    wait(&|| fleet.len() == 3).await;
    let before = fleet.snapshot();
    server.set(services(&[([10, 50, 81], "h1.test."), ([30, 0, 82], "h2.test."), ([20, 9, 83], "h3.test.")]));
    wait(&|| fleet.snapshot()[0].weight == 50).await;
    let after = fleet.snapshot();
    assert_eq!(after.iter().map(|it| it.id).collect::<Vec<_>>(), before.iter().map(|it| it.id).collect::<Vec<_>>());
    assert_eq!(after.iter().map(|it| it.priority).collect::<Vec<_>>(), [-10, -30, -20], "changed in place");
}

// C56
#[tokio::test]
async fn targets_are_looked_up_unless_the_answer_has_their_addresses() {
    let server = Server::start(|asked| match asked.kind {
        RecordType::SRV => Reply::Records {
            answers: vec![srv(NAME, 60, [0, 1, 80], "H1.test."), srv(NAME, 60, [0, 1, 80], "h2.test.")],
            additionals: vec![address("h1.test.", 60, "10.0.0.1"), address("h9.test.", 60, "10.0.0.9")],
        },
        RecordType::A => records(vec![address(&asked.name, 60, "10.0.0.2")]),
        _ => no_data(60),
    })
    .await;
    let mut endpoints = service(&server).endpoints().unwrap();
    assert_eq!(addresses(&next(&mut endpoints).await), ["10.0.0.1:80", "10.0.0.2:80"]);
    let asked: Vec<_> = server.take_asked().into_iter().map(|asked| (asked.name, asked.kind)).collect();
    assert_eq!(asked, [(NAME.into(), RecordType::SRV), ("h2.test.".into(), RecordType::A)]);
    let mut endpoints = service(&server).family(AddressFamily::Both).endpoints().unwrap();
    assert_eq!(next(&mut endpoints).await.len(), 2);
    assert_eq!(server.take_asked().len(), 4, "the other family may be missing in the additional section");
}

// C70
#[tokio::test]
async fn a_target_that_is_not_resolved_keeps_its_addresses_and_one_without_any_is_left_out() {
    let list = [([0, 1, 80], "h1.test."), ([0, 1, 80], "h2.test.")];
    let server = Server::start(services(&list)).await;
    let mut endpoints = service(&server).endpoints().unwrap();
    assert_eq!(next(&mut endpoints).await.len(), 2);
    let good = services(&[list[0], list[1], ([0, 1, 80], "h3.test.")]);
    server.set(move |asked| match asked.name.as_str() {
        "h2.test." => Reply::Code(ResponseCode::ServFail),
        _ => good(asked),
    });
    assert_eq!(addresses(&next(&mut endpoints).await), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
    assert_eq!(endpoints.status().error().unwrap().kind(), &ResolveErrorKind::ErrorResponse);
    let good = services(&[list[0], list[1], ([0, 1, 80], "h3.test.")]);
    server.set(move |asked| if asked.name == "h2.test." { no_such_name(0) } else { good(asked) });
    assert_eq!(addresses(&next(&mut endpoints).await), ["10.0.0.1:80", "10.0.0.3:80"]);
    // Not one of the targets has an address: that is no set.
    server.set(move |asked| match asked.kind {
        RecordType::SRV => records(vec![srv(NAME, 0, [0, 1, 80], "h1.test.")]),
        _ => no_such_name(0),
    });
    assert_eq!(fails(&mut endpoints).await.kind(), &ResolveErrorKind::NoRecords);
}

// C56, C70
#[tokio::test]
async fn a_service_that_is_not_available_empties_the_set_only_where_that_is_allowed() {
    let server = Server::start(services(&[([0, 1, 80], "h1.test.")])).await;
    let mut kept = service(&server).endpoints().unwrap();
    let mut emptied = service(&server).allow_empty(true).endpoints().unwrap();
    assert_eq!((next(&mut kept).await.len(), next(&mut emptied).await.len()), (1, 1));
    server.set(services(&[([0, 0, 0], ".")]));
    assert_eq!(next(&mut emptied).await, []);
    assert_eq!(fails(&mut kept).await.kind(), &ResolveErrorKind::NotAvailable);
    server.set(services(&[([0, 0, 0], "."), ([0, 1, 80], "h4.test.")]));
    assert_eq!(addresses(&next(&mut kept).await), ["10.0.0.4:80"], "beside other targets it means nothing");
}

// C58, C60, C70
#[tokio::test]
async fn targets_that_are_no_host_names_are_left_out() {
    let mut list: Vec<_> = ["<script>.test.", "a b.test.", "*.test.", "10.0.0.1."].map(|bad| ([0, 1, 80], bad)).into();
    list.extend([([0, 1, 0], "h1.test."), ([0, 1, 80], "h2.test.")]);
    let server = Server::start(services(&list)).await;
    let mut endpoints = service(&server).endpoints().unwrap();
    assert_eq!(addresses(&next(&mut endpoints).await), ["10.0.0.2:80"]);
    assert_eq!(server.take_asked().len(), 2);
}

// C57, C70
#[tokio::test]
async fn a_thousand_targets_are_not_more_than_are_allowed() {
    let server = Server::start(|asked| match asked.kind {
        RecordType::SRV => records((0..1_000).map(|at| srv(NAME, 60, [at, 1, 80], &format!("h{at}.test."))).collect()),
        _ => {
            let number: u32 = asked.name.trim_start_matches('h').trim_end_matches(".test.").parse().unwrap();
            records(vec![address(&asked.name, 60, &format!("10.2.{}.{}", number / 250, number % 250 + 1))])
        }
    })
    .await;
    let mut endpoints = service(&server).max_endpoints(40).timeout(Duration::from_secs(10)).endpoints().unwrap();
    let set = next(&mut endpoints).await;
    assert_eq!((set.len(), set[39].priority), (40, -39), "those of the highest tiers");
    let udp = server.take_asked().into_iter().filter(|asked| !asked.is_tcp);
    assert_eq!(udp.count(), 41);
}
