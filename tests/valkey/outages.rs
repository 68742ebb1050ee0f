//! The server stopped, frozen, restarted empty, or behind a slow link.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower_fleet::AdminStatus;

use crate::{
    replica::{Replica, SECOND, wait_until},
    server::Server,
};

/// Two replicas that have heard of each other.
async fn two(server: &Server) -> [Replica; 2] {
    let [one, two] = [(); 2].map(|()| Replica::new(&server.url(), &["a", "b", "c", "d", "e", "f", "g", "h"]));
    one.trip("e");
    wait_until("an opening is hinted", || two.is_hinted("e")).await;
    [one, two]
}

// C55
#[tokio::test]
async fn a_stopped_server_delays_no_request_and_is_found_within_a_second() {
    let Some(mut server) = Server::start(&[]) else { return };
    let [one, two] = two(&server).await;
    server.stop();
    one.trip("a");
    two.serve_for(2 * SECOND).await;
    assert!(!two.is_hinted("a"));
    server.restart();
    let took = wait_until("what was missed is told", || two.is_hinted("a")).await;
    assert!(took < SECOND, "{took:?}");
    two.serve();
}

// C55: the connection stays, but nothing answers.
#[tokio::test]
async fn a_frozen_server_delays_no_request_and_is_found_within_a_second() {
    let Some(server) = Server::start(&[]) else { return };
    let [one, two] = two(&server).await;
    server.freeze();
    one.trip("a");
    two.serve_for(4 * SECOND).await;
    assert!(!two.is_hinted("a"));
    server.thaw();
    let took = wait_until("what was missed is told", || two.is_hinted("a")).await;
    assert!(took < SECOND, "{took:?}");
    two.serve();
}

// C55: what the replicas know is told to the empty server.
#[tokio::test]
async fn a_server_that_is_restarted_empty_is_filled_again() {
    let Some(mut server) = Server::start(&[]) else { return };
    let [one, two] = two(&server).await;
    one.fleet.drain("b");
    wait_until("a status is set", || two.status("b") == AdminStatus::Draining).await;
    drop(one);
    server.stop();
    server.restart();
    let one = Replica::new(&server.url(), &["a", "b", "c", "d", "e", "f", "g", "h"]);
    let took = wait_until("the status is known again", || one.status("b") == AdminStatus::Draining).await;
    assert!(took < SECOND, "{took:?}");
    // A recovery that the empty server does not know of.
    one.trip("a");
    wait_until("an opening is hinted", || two.is_hinted("a")).await;
    one.fleet.switch("a").unwrap().reset();
    wait_until("a recovery ends the hint", || !two.is_hinted("a")).await;
    server.stop();
    server.restart();
    let three = Replica::new(&server.url(), &["a", "b", "c", "d", "e", "f", "g", "h"]);
    three.trip("a");
    wait_until("it is hinted to all", || {
        // The replica whose epoch was lost probes once more, and reports the opening in the present one.
        if three.state("a") != tower_fleet::CircuitState::Open {
            three.trip("a");
        }
        one.is_hinted("a") && two.is_hinted("a")
    })
    .await;
}

/// Passes bytes on after a delay, in both directions.
async fn slow_link(port: u16, delay: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
            let ((near_reader, near_writer), (far_reader, far_writer)) = (near.into_split(), far.into_split());
            tokio::spawn(pass(near_reader, far_writer, delay));
            tokio::spawn(pass(far_reader, near_writer, delay));
        }
    });
    slow
}

async fn pass(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, delay: Duration) {
    let (sender, mut parts) = tokio::sync::mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let reading = async move {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let _ = sender.send((Instant::now(), buffer[..read].to_vec()));
        }
    };
    let writing = async move {
        while let Some((at, part)) = parts.recv().await {
            tokio::time::sleep(delay.saturating_sub(at.elapsed())).await;
            if to.write_all(&part).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}

// C55
#[tokio::test]
async fn a_server_behind_a_slow_link_delays_no_request() {
    let Some(server) = Server::start(&[]) else { return };
    let far = Replica::new(&format!("redis://127.0.0.1:{}", slow_link(server.port, 10 * SECOND).await), &["a", "b"]);
    let near = Replica::new(&server.url(), &["a", "b"]);
    near.trip("a");
    far.serve_for(3 * SECOND).await;
    assert!(!far.is_hinted("a"), "the link is too slow to help");
}

// C55: a link of a continent works.
#[tokio::test]
async fn a_server_at_a_distance_is_used() {
    let Some(server) = Server::start(&[]) else { return };
    let port = slow_link(server.port, Duration::from_millis(100)).await;
    let far = Replica::new(&format!("redis://127.0.0.1:{port}"), &["a", "b"]);
    let near = Replica::new(&server.url(), &["a", "b"]);
    near.trip("a");
    let serving = far.serve_for(2 * SECOND);
    tokio::join!(serving, wait_until("an opening is hinted", || far.is_hinted("a")));
    near.serve();
}
