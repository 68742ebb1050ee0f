//! The file is read again: when it changes, and at SIGHUP. C56, C64, C70.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Response, StatusCode, Version};
use tokio::time::{Instant, interval};

use crate::{backend::Server, client::Client, in_time, process::Setup, text, until};

async fn server(name: &'static str) -> Server {
    Server::start(name, move |_| async move { Ok(Response::new(text(name))) }).await
}

fn applied(gateway: &crate::process::Gateway) -> usize {
    gateway.said().matches("the file is applied").count()
}

// C56
#[tokio::test]
async fn a_changed_file_is_applied_by_itself() {
    let (red, blue) = (server("red").await, server("blue").await);
    let gateway = Setup::new().backend(&red).start().await;
    let client = Client::new(Version::HTTP_11);
    assert_eq!(client.get(&gateway, "/").await.body(), "red");
    gateway.rewrite(&Setup::new().backend(&blue));
    until("the change", || applied(&gateway) == 1).await;
    assert_eq!(client.get(&gateway, "/").await.body(), "blue");
    assert!(gateway.said().contains("0 unchanged, 1 inserted, 1 removed"), "{}", gateway.said());
}

// C70
#[tokio::test]
async fn a_bad_file_is_refused_with_the_reason() {
    let red = server("red").await;
    let mut gateway = Setup::new().backend(&red).start().await;
    for (setup, reason) in [
        (Setup::new().backend_with(&red, "weight = 0"), "backend[0].weight: 0 of `red` must be"),
        (Setup::new().origin("a", "http://nowhere.invalid", ""), "backend[0].origin: backend `a` has a host"),
        (Setup::new().with("server", "speed = 3").backend(&red), "server"),
    ] {
        gateway.rewrite(&setup);
        until(reason, || gateway.said().contains(reason)).await;
    }
    assert!(gateway.is_running());
    assert_eq!(Client::new(Version::HTTP_11).get(&gateway, "/").await.body(), "red");
    assert_eq!(gateway.said().matches("the file is refused, and nothing changed").count(), 3);
}

// Also without a change of the text: a secret may have changed.
#[tokio::test]
async fn sighup_has_the_file_read_again() {
    let red = server("red").await;
    let mut gateway = Setup::new().backend(&red).start().await;
    for times in 1..=2 {
        gateway.signal("HUP");
        until("the log line", || applied(&gateway) == times).await;
        assert_eq!(Client::new(Version::HTTP_11).get(&gateway, "/").await.body(), "red");
    }
    assert!(gateway.is_running());
    let server = Setup::new().with("server", "grace = \"1s\"").with("breaker", "failures = 3");
    gateway.rewrite(&server.backend(&red));
    let reason = "1 unchanged; needs a restart: breaker, server";
    until(reason, || gateway.said().contains(reason)).await;
    gateway.terminate();
    let (status, said) = gateway.end().await;
    assert!(status.success(), "{status} {said}");
}

// The settings of doors follow the file, for the requests from then on.
#[tokio::test]
async fn the_failover_follows_the_file() {
    let busy = Server::start("busy", |_| async {
        Ok(Response::builder().status(StatusCode::IM_A_TEAPOT).body(text("busy")).unwrap())
    })
    .await;
    let red = server("red").await;
    let setup = |statuses| Setup::new().with("failover", statuses).backend(&busy).backend(&red);
    let gateway = setup("").start().await;
    let client = Client::new(Version::HTTP_11);
    assert_eq!(client.get(&gateway, "/").await.body(), "busy");
    gateway.rewrite(&setup("statuses = [418]"));
    until("the change", || applied(&gateway) == 1).await;
    assert_eq!(client.get(&gateway, "/").await.body(), "red");
}

// C56: a hundred changes under load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_the_file_changes() {
    const CHANGES: usize = 100;
    const CLIENTS: usize = 6;
    let (red, blue, green, gold) =
        (server("red").await, server("blue").await, server("green").await, server("gold").await);
    let setup = |change: usize| {
        let weight = |by: usize| format!("weight = {}", 1 + (change + by) % 5);
        let setup = Setup::in_turns().backend_with(&red, &weight(0)).backend_with(&blue, &weight(3));
        match change % 4 {
            0 => setup.backend(&green),
            1 => setup.backend(&gold).backend(&green),
            2 => setup.backend(&gold),
            _ => setup,
        }
    };
    let gateway = Arc::new(setup(0).start().await);
    let (sent, is_over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (gateway, sent, is_over) = (Arc::clone(&gateway), Arc::clone(&sent), Arc::clone(&is_over));
            tokio::spawn(async move {
                let client = Client::new(Version::HTTP_11);
                // 1,500 requests a second, all together; ticks that are missed are made up for.
                let mut pace = interval(Duration::from_millis(4));
                while !is_over.load(SeqCst) {
                    pace.tick().await;
                    let response = client.get(&gateway, "/").await;
                    assert_eq!(response.status(), StatusCode::OK);
                    sent.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    let start = Instant::now();
    for change in 1..=CHANGES {
        if change % 10 == 5 {
            let before = gateway.said().matches("the file is refused").count();
            gateway.rewrite(&setup(change).top("nonsense = 1"));
            gateway.signal("HUP");
            until("the refusal", || gateway.said().matches("the file is refused").count() > before).await;
        }
        let before = applied(&gateway);
        gateway.rewrite(&setup(change));
        gateway.signal("HUP");
        until("the change", || applied(&gateway) > before).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    is_over.store(true, SeqCst);
    for client in clients {
        in_time(client).await.expect("no request is lost");
    }
    let (sent, took) = (sent.load(SeqCst), start.elapsed());
    println!(
        "{sent} requests and {CHANGES} changes in {took:.1?}: {} and {} connections",
        red.connections(),
        blue.connections(),
    );
    assert!(sent > 1_000, "{sent} requests");
    // Each client has one request at a time, and each of the two workers connections of its own.
    for stays in [&red, &blue] {
        assert!(stays.connections() <= 2 * CLIENTS, "{}: {} connections", stays.name, stays.connections());
    }
}
