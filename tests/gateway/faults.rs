//! One backend of three has a fault, under load: nothing is lost, and nothing is mixed.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{future::join_all, stream};
use http::{Request, Response, Version, header::CONTENT_LENGTH};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::{
    backend::{Answer, Server},
    client::{Client, VERSIONS, get, post, stream as body_of},
    process::{Gateway, Setup},
    text, until,
};

/// How a backend is at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Good,
    Unavailable,
    /// 429, and when to come again.
    Busy,
    Slow,
    Hanging,
    /// The answer breaks off after its first piece.
    Breaking,
}

/// Pieces of an answer, each with the name of its backend.
const PIECES: usize = 4;

fn piece(name: &str, number: &str, index: usize, body: &[u8]) -> Bytes {
    let part = body.len().div_ceil(PIECES);
    let body = &body[body.len().min(index * part)..body.len().min((index + 1) * part)];
    [format!("<{name} {number} {index} ").as_bytes(), body, b">"].concat().into()
}

fn whole(name: &str, number: &str, body: &[u8]) -> Vec<u8> {
    (0..PIECES).flat_map(|index| piece(name, number, index, body)).collect()
}

struct Backend {
    server: Server,
    mood: watch::Sender<Mood>,
    served: Arc<AtomicUsize>,
    /// Requests that came while it was not good.
    spoilt: Arc<AtomicUsize>,
}

impl Backend {
    async fn start(name: &'static str) -> Self {
        let mood = watch::Sender::new(Mood::Good);
        let (served, spoilt) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let server = Server::start(name, {
            let (mood, served, spoilt) = (mood.subscribe(), Arc::clone(&served), Arc::clone(&spoilt));
            move |request| {
                let mood = *mood.borrow();
                if mood == Mood::Good { &served } else { &spoilt }.fetch_add(1, SeqCst);
                answer(name, mood, request)
            }
        });
        Self { server: server.await, mood, served, spoilt }
    }

    fn served(&self) -> usize {
        self.served.load(SeqCst)
    }
}

async fn answer(name: &'static str, mood: Mood, request: Request<Incoming>) -> Answer {
    let number = request.headers()["number"].to_str()?.to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    match mood {
        Mood::Unavailable => return Ok(Response::builder().status(503).body(text("not now"))?),
        Mood::Busy => return Ok(Response::builder().status(429).header("retry-after", "1").body(text("later"))?),
        Mood::Slow => tokio::time::sleep(Duration::from_millis(400)).await,
        Mood::Hanging => std::future::pending().await,
        Mood::Good | Mood::Breaking => {}
    }
    let length = whole(name, &number, &body).len();
    let pieces = stream::unfold(0, move |index| {
        let piece = piece(name, &number, index, &body);
        async move {
            match index {
                1 if mood == Mood::Breaking => {
                    // The first piece is to be on its way.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), PIECES))
                }
                PIECES.. => None,
                _ => Some((Ok(piece), index + 1)),
            }
        }
    });
    Ok(Response::builder().header(CONTENT_LENGTH, length).header("backend", name).body(body_of(pieces))?)
}

/// Clients at a time, half of each version.
const CLIENTS: usize = 32;

/// Answers under each of the circumstances.
const ENOUGH: usize = 300;

struct Load<'a> {
    gateway: &'a Gateway,
    answered: AtomicUsize,
    over: AtomicBool,
}

impl Load<'_> {
    /// Asks until the load is over: every answer is good, whole, and of one backend.
    async fn client(&self, client: &Client, name: usize) {
        for serial in 0.. {
            if self.over.load(SeqCst) {
                return;
            }
            let number = format!("{name}-{serial}");
            // Every other one with a body, small or not so small, that has to be sent again when something fails.
            let (request, body) = match serial % 2 {
                0 => (get(self.gateway, "/"), Bytes::new()),
                _ => (post(self.gateway, "/"), number.repeat(1 + serial % 7 * 200).into()),
            };
            let request = request.header("number", &number).body(text(body.clone())).unwrap();
            let answer = client.ask(request).await;
            assert_eq!(answer.status(), 200, "{number} is lost: {answer:?}");
            let server = answer.headers()["backend"].to_str().unwrap();
            assert!(*answer.body() == whole(server, &number, &body), "C32: {number} of {server}: {answer:?}");
            self.answered.fetch_add(1, SeqCst);
        }
    }

    async fn enough(&self) {
        let begin = self.answered.load(SeqCst);
        until("answers", || self.answered.load(SeqCst) >= begin + ENOUGH).await;
    }
}

/// Nobody waits for long, and a backend that is no good is left alone for a moment.
fn setup(upstream: Version, backends: &[Backend]) -> Setup {
    let setup = Setup::in_turns()
        // However busy this machine is.
        .top("max_ejected = 0.34")
        .with("failover", "mode = { hedged = \"100ms\" }\ntimeout = \"3s\"\ncommit = { whole = \"64KiB\" }")
        // Every other request is a POST, which only echoes its body.
        .with("failover", "hedge_methods = \"all\"")
        .with("breaker", "failures = 5\nwithin = \"10s\"\nopen_for = \"300ms\"")
        .with("breaker", "slow_calls = { share = 0.5, slower_than = \"80ms\", window = \"2s\", minimum_calls = 10 }");
    let h2c = if upstream == Version::HTTP_2 { "h2c = [\"red\", \"green\", \"blue\"]" } else { "" };
    backends.iter().fold(setup.with("upstreams", h2c), |setup, backend| setup.backend(&backend.server))
}

/// Load throughout; a while of all being well, a fault of `blue`, and its recovery.
async fn nothing_is_lost(fault: impl AsyncFn(&Backend), recovery: impl AsyncFn(&Backend)) {
    for upstream in VERSIONS {
        nothing_is_lost_of(upstream, &fault, &recovery).await;
    }
}

async fn nothing_is_lost_of(upstream: Version, fault: impl AsyncFn(&Backend), recovery: impl AsyncFn(&Backend)) {
    let backends = [Backend::start("red").await, Backend::start("green").await, Backend::start("blue").await];
    let gateway = setup(upstream, &backends).start().await;
    let load = Load { gateway: &gateway, answered: AtomicUsize::new(0), over: AtomicBool::new(false) };
    let clients = VERSIONS.map(Client::new);
    let clients = (0..CLIENTS).map(|name| load.client(&clients[name % 2], name));
    let blue = &backends[2];
    let events = async {
        load.enough().await;
        until("everybody serving", || backends.iter().all(|backend| backend.served() > ENOUGH / 10)).await;
        fault(blue).await;
        load.enough().await;
        recovery(blue).await;
        let before = blue.served();
        until("blue serving again", || blue.served() > before + ENOUGH / 10).await;
        load.enough().await;
        load.over.store(true, SeqCst);
    };
    tokio::join!(join_all(clients), events);
}

async fn nothing_is_lost_while(mood: Mood) {
    let fault = async |blue: &Backend| {
        blue.mood.send_replace(mood);
        until("blue being asked", || blue.spoilt.load(SeqCst) > 0).await;
    };
    nothing_is_lost(fault, async |blue| blue.mood.send_modify(|mood| *mood = Mood::Good)).await;
}

// C17, C27, C57
#[tokio::test]
async fn nothing_is_lost_when_a_backend_is_killed_and_comes_back() {
    nothing_is_lost(async |blue| blue.server.kill().await, async |blue| blue.server.restart()).await;
}

// C27
#[tokio::test]
async fn nothing_is_lost_while_a_backend_says_503() {
    nothing_is_lost_while(Mood::Unavailable).await;
}

// C27, C31
#[tokio::test]
async fn nothing_is_lost_while_a_backend_says_429_and_when_to_come_again() {
    nothing_is_lost_while(Mood::Busy).await;
}

// C15
#[tokio::test]
async fn nothing_is_lost_while_a_backend_is_slow() {
    nothing_is_lost_while(Mood::Slow).await;
}

// C15, C50
#[tokio::test]
async fn nothing_is_lost_while_a_backend_hangs() {
    nothing_is_lost_while(Mood::Hanging).await;
}

// C42
#[tokio::test]
async fn nothing_is_lost_while_everybody_is_slow() {
    let backends = [Backend::start("red").await, Backend::start("green").await, Backend::start("blue").await];
    let everybody = |mood| backends.iter().for_each(|backend| backend.mood.send_modify(|now| *now = mood));
    everybody(Mood::Slow);
    let gateway = setup(Version::HTTP_11, &backends).start().await;
    let load = Load { gateway: &gateway, answered: AtomicUsize::new(0), over: AtomicBool::new(false) };
    let client = Client::new(Version::HTTP_11);
    let clients = (0..CLIENTS).map(|name| load.client(&client, name));
    let events = async {
        // More than it takes to open every circuit.
        until("slow answers", || load.answered.load(SeqCst) > 3 * CLIENTS).await;
        everybody(Mood::Good);
        load.enough().await;
        load.over.store(true, SeqCst);
    };
    tokio::join!(join_all(clients), events);
}

// C32
#[tokio::test]
async fn nothing_is_lost_while_answers_of_a_backend_break_off() {
    nothing_is_lost_while(Mood::Breaking).await;
}
