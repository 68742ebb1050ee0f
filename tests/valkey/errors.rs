//! Servers that speak the protocol, and refuse, lie or are slow.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower_fleet::AdminStatus;

use crate::{
    replica::{Replica, SECOND, wait_until},
    server::Server,
};

/// A server that greets, and answers every other command by a function of its name.
async fn speaking(
    answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    pause: Duration,
) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://fleet:hunter2@127.0.0.1:{}", listener.local_addr().unwrap().port());
    let (connections, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(answer));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(speak(stream, Arc::clone(&answer), pause));
        }
    });
    (url, connections)
}

async fn speak(mut stream: TcpStream, answer: Arc<impl Fn(&str) -> Vec<u8>>, pause: Duration) {
    let mut buffer = [0; 65_536];
    while let Ok(len @ 1..) = stream.read(&mut buffer).await {
        let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
        let mut bytes = Vec::new();
        for command in ["HELLO", "SUBSCRIBE", "CLIENT", "SELECT", "EVALSHA", "SCRIPT", "PING"] {
            for _ in text.matches(&format!("\r\n{command}\r\n")) {
                let greeting: &[u8] = match command {
                    "HELLO" => b"%1\r\n$5\r\nproto\r\n:3\r\n",
                    "SUBSCRIBE" => b">3\r\n$9\r\nsubscribe\r\n$22\r\ntower-fleet:1:{search}\r\n:1\r\n",
                    "CLIENT" | "SELECT" => b"+OK\r\n",
                    _ => b"",
                };
                bytes.extend(greeting);
                if greeting.is_empty() {
                    bytes.extend(answer(command));
                }
            }
        }
        for part in bytes.chunks(if pause.is_zero() { usize::MAX } else { 1 }) {
            if stream.write_all(part).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// Collects all that is told, at every level.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<String>>);

struct Text<'a>(&'a mut String);

impl tracing::field::Visit for Text<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        let _ = write!(self.0, " {field}={value:?}");
    }

    fn record_error(&mut self, field: &tracing::field::Field, value: &(dyn std::error::Error + 'static)) {
        use fmt::Write;
        let mut error = Some(value);
        while let Some(of) = error {
            let _ = write!(self.0, " {field}={of} {of:?}");
            error = of.source();
        }
    }
}

impl tracing::Subscriber for Told {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        span.record(&mut Text(&mut self.0.lock().unwrap()));
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut Text(&mut self.0.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Text(&mut self.0.lock().unwrap()));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

// C55, C58, C59: an error for every command, of which some repeat what was sent; and values of wrong types.
#[tokio::test]
async fn a_server_that_refuses_is_asked_again_with_pauses_and_told_without_credentials() {
    let told = Told::default();
    let _subscribed = tracing::subscriber::set_default(told.clone());
    let answers: [&'static [u8]; 16] = [
        b"-LOADING hunter2 is loading\r\n",
        b"-MOVED 1234 hunter2:6379\r\n",
        b"-ASK 1234 hunter2:6379\r\n",
        b"-READONLY hunter2\r\n",
        b"-NOSCRIPT hunter2\r\n",
        b"-NOAUTH hunter2\r\n",
        b"-OOM hunter2\r\n",
        b"-hunter2 hunter2\r\n",
        b"!7\r\nhunter2\r\n",
        b"-\r\n",
        b"$-1\r\n",
        b"*3\r\n$7\r\nhunter2\r\n*0\r\n:5\r\n",
        b"*1\r\n$19\r\n9223372036854775807\r\n",
        b"*1\r\n$20\r\n99999999999999999999\r\n",
        b"%1\r\n+hunter2\r\n#t\r\n",
        b"*2\r\n$13\r\n1700000000000\r\n$3\r\n\xff\xfe\xfd\r\n",
    ];
    for answer in answers {
        let (url, connections) = speaking(move |_| answer.to_vec(), Duration::ZERO).await;
        let replica = Replica::new(&url, &["a", "b"]);
        replica.trip("a");
        replica.serve_for(Duration::from_millis(500)).await;
        replica.sharing.abort();
        let connections = connections.load(Ordering::Relaxed);
        assert!((1..=8).contains(&connections), "{connections} for {}", answer.escape_ascii());
        assert_eq!(replica.hinted(), 0);
    }
    let told = told.0.lock().unwrap();
    assert!(told.contains("sharing interrupted") && !told.contains("hunter2"), "{told}");
}

// C55: byte by byte, each late.
#[tokio::test]
async fn a_server_that_is_slow_at_every_byte_holds_up_nothing() {
    let answer = |command: &str| match command {
        "PING" => b"+PONG\r\n".to_vec(),
        _ => b"*1\r\n$13\r\n1700000000000\r\n".to_vec(),
    };
    let (url, connections) = speaking(answer, Duration::from_millis(7)).await;
    let replica = Replica::new(&url, &["a", "b"]);
    replica.serve_for(3 * SECOND).await;
    replica.sharing.abort();
    assert!(connections.load(Ordering::Relaxed) <= 8);
}

// C58: each string of a reply is small, and so is their number, but they are too large together.
#[tokio::test]
async fn a_reply_of_many_large_strings_is_not_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let most = Arc::new(AtomicUsize::new(0));
    let sent = Arc::clone(&most);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let part = [b"$65000\r\n".as_slice(), &[b'a'; 65_000], b"\r\n"].concat();
            let mut begun = stream.write_all(b"*4000\r\n").await;
            let mut of_this = 0;
            while begun.is_ok() && of_this < 250_000_000 {
                begun = stream.write_all(&part).await;
                of_this += part.len();
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

// C55: what was written while the clock of the server was ahead counts less than what is set now.
#[tokio::test]
async fn an_override_of_the_future_is_not_the_latest() {
    let Some(server) = Server::start(&[]) else { return };
    let [one, two] = [(); 2].map(|()| Replica::new(&server.url(), &["a", "b", "c", "d"]));
    one.trip("d");
    wait_until("they share", || two.is_hinted("d")).await;
    let future = u64::MAX >> 12;
    server.run(&format!("SET tower-fleet:1:{{search}}:report:a \"0 0 0 {future} 6\""));
    tokio::time::sleep(SECOND / 2).await;
    one.fleet.set_status("a", AdminStatus::Degraded);
    wait_until("the latest counts", || two.status("a") == AdminStatus::Degraded).await;
    let three = Replica::new(&server.url(), &["a", "b", "c", "d"]);
    wait_until("it stays", || three.status("a") == AdminStatus::Degraded).await;
    assert_eq!(one.status("a"), AdminStatus::Degraded);
}

// C55: everything that an administrator may do to a server.
#[tokio::test]
async fn whatever_is_done_to_the_server_the_next_opening_is_shared() {
    let Some(server) = Server::start(&[]) else { return };
    let [one, two] = [(); 2].map(|()| Replica::new(&server.url(), &["a", "b", "c", "d"]));
    one.trip("d");
    wait_until("they share", || two.is_hinted("d")).await;
    let deeds = [
        "SCRIPT FLUSH",
        "FLUSHALL",
        "CLIENT KILL TYPE normal",
        "CLIENT KILL TYPE pubsub",
        "CLIENT PAUSE 300 ALL",
        "DEL tower-fleet:1:{search}:report:a",
        "LPUSH tower-fleet:1:{search}:report:a x",
        "LPUSH tower-fleet:1:{search}:permit:a x",
        "SET tower-fleet:1:{search}:permit:a y",
        "CONFIG SET maxmemory 1",
        "CONFIG SET maxmemory 0",
    ];
    for deed in deeds {
        if deed.starts_with("LPUSH") {
            server.run(&deed.replace("LPUSH", "DEL").replace(" x", ""));
        }
        server.run(deed);
        one.serve_for(SECOND / 5).await;
        if deed.ends_with("maxmemory 1") {
            one.serve_for(SECOND).await;
            continue;
        }
        one.trip("a");
        wait_until(deed, || two.is_hinted("a")).await;
        one.fleet.switch("a").unwrap().reset();
        wait_until(deed, || !two.is_hinted("a")).await;
    }
}
