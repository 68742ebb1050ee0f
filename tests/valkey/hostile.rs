//! Servers that answer garbage, or lie.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower_fleet::{
    AdminStatus,
    fleet::Snapshot,
    replicas::{Exchange, Link, ValkeyStore},
};

use crate::{
    replica::{Replica, SECOND, wait_until},
    server::Server,
};

/// A server that answers everything with the same bytes, over and over if it is endless.
async fn answering(bytes: &'static [u8], endless: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    while stream.write_all(bytes).await.is_ok() && endless {}
                    if bytes.is_empty() {
                        return;
                    }
                }
            });
        }
    });
    format!("redis://fleet:hunter2@127.0.0.1:{port}")
}

// C55, C58: garbage, replies of wrong types, lengths that no memory holds, and no answer at all.
#[tokio::test]
async fn garbage_harms_nothing_but_sharing() {
    let garbage: [(&[u8], bool); 17] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", false),
        (b"*1000000000\r\n", false),
        (b"*1000000000\r\n:1\r\n:1\r\n", false),
        (b"*9223372036854775807\r\n:1\r\n:1\r\n", false),
        (b"+OK\r\n%2000000000\r\n+a\r\n:1\r\n", false),
        (b"*9223372036854775807\r\n$1\r\n", false),
        (b"%4611686018427387904\r\n", false),
        (b"$9223372036854775807\r\n", false),
        (b"=-1\r\n", false),
        (b":1\r\n:1\r\n:1\r\n:1\r\n:1\r\n", false),
        (b"+OK\r\n", true),
        (b"*1\r\n", true),
        (b"aaaaaaaa", true),
        (b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n", true),
        (b"%0\r\n>3\r\n$9\r\nsubscribe\r\n$22\r\ntower-fleet:1:{search}\r\n:1\r\n*1\r\n$1\r\nx\r\n", false),
        (b"\0\xff\r\n\r\n\n\r", true),
        (b"", false),
    ];
    for (bytes, endless) in garbage {
        let url = answering(bytes, endless).await;
        let replica = Replica::new(&url, &["a", "b"]);
        replica.serve_for(Duration::from_millis(300)).await;
        replica.sharing.abort();
        assert_eq!(replica.hinted(), 0, "{}", bytes.escape_ascii());
    }
}

// C58: one string without end is not kept in memory.
#[tokio::test]
async fn an_endless_reply_is_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let most = Arc::new(AtomicUsize::new(0));
    let sent = Arc::clone(&most);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut of_this = 0;
            let mut begun = stream.write_all(b"$9223372036854775807\r\n").await;
            while begun.is_ok() {
                begun = stream.write_all(&[b'a'; 65_536]).await;
                of_this += 65_536;
                sent.fetch_max(of_this, Ordering::Relaxed);
            }
        }
    });
    let replica = Replica::new(&url, &["a", "b"]);
    replica.serve_for(2 * SECOND).await;
    // What the buffers of both sockets hold.
    let most = most.load(Ordering::Relaxed);
    assert!((1..16_000_000).contains(&most), "{most}");
}

// C59: some servers repeat in their errors what they were sent.
#[tokio::test]
async fn no_error_shows_the_credentials() {
    let echoes: [&[u8]; 5] = [
        b"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `fleet`, `hunter2`, \r\n",
        b"-HUNTER2 hunter2\r\n",
        b"+hunter2\r\n",
        b"hunter2\r\n",
        b"$7\r\nhunter2\r\n",
    ];
    for bytes in echoes {
        let store = ValkeyStore::new(answering(bytes, false).await).unwrap();
        let connecting = tokio::time::timeout(5 * SECOND, store.connect("search"));
        let error = match connecting.await.unwrap() {
            Err(error) => error,
            // It looks like a server until it is asked for something.
            Ok((link, mut news)) => tokio::select! {
                read = link.read(Vec::new()) => read.unwrap_err(),
                _ = async { while news.next().await.is_some() {} } => continue,
            },
        };
        let shown = format!("{error} {error:?} {store:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

// C69: a server on which everything is out.
#[tokio::test]
async fn a_server_that_says_that_everything_is_out_takes_no_fleet_down() {
    let Some(server) = Server::start(&[]) else { return };
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let most = u64::MAX >> 11;
    for name in names {
        server.run(&format!("SET tower-fleet:1:{{search}}:report:{name} \"7 {most} {most} {most} 7\""));
    }
    let replica = Replica::new(&server.url(), &names);
    let out = || {
        let is_out =
            |it: &&Snapshot| it.hinted_for.is_some() || it.status != AdminStatus::Healthy || it.state.is_forced();
        replica.fleet.snapshot().iter().filter(is_out).count()
    };
    wait_until("half of them are out", || out() == 5).await;
    replica.serve_for(SECOND).await;
    assert_eq!(out(), 5);
    for name in names {
        let message = format!("{most} {name} 9 {most} {most} {most} 7");
        server.run(&format!("PUBLISH tower-fleet:1:{{search}} \"{message}\""));
        server.run(&format!("PUBLISH tower-fleet:1:{{search}} \"{name} {}\"", "9".repeat(1000)));
    }
    replica.serve_for(SECOND).await;
    assert_eq!(out(), 5);
    replica.serve();
}
