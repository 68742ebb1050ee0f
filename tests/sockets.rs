//! Failover over real connections: hyper's servers and client, HTTP/1.1 and HTTP/2, on the loopback.
//!
//! Real time passes here, and nothing depends on how much: what is waited for is bounded by [`IN_TIME`].
#![cfg(feature = "http")]

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{future::Either, stream};
use http::{HeaderMap, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, sync::Notify};
use tower::{Layer, Service};
use tower_fleet::{
    Backend, Failover, FailoverLayer, Fleet,
    body::{ReplayBody, ReplayLayer},
    failover::{CommitPoint, Ending, FailoverBuilder, Ledger, Methods, Mode, ResponseBody},
};

/// The bound on everything that is waited for.
const IN_TIME: Duration = Duration::from_secs(20);

type Up = UnsyncBoxBody<Bytes, io::Error>;
type Down = UnsyncBoxBody<Bytes, io::Error>;
type Door = Failover<Upstream>;
type Answer = Response<ResponseBody<Incoming>>;

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Good,
    Slow(Duration),
    Status(u16),
    /// Answers before it has read the request.
    Hasty(u16),
    Hang,
    /// Good, but does not read its request for a while.
    Late(Duration),
    /// The connection or the stream breaks after the first frame of the body.
    Reset,
    /// The same, when the answer has said how long it is.
    Short,
}

/// A server, and what it saw.
struct Server {
    name: &'static str,
    fate: Fate,
    /// Requests whose head has come, and those that came to their end on the server's side.
    begun: AtomicUsize,
    served: AtomicUsize,
    /// Requests that were taken back: their connection was closed, or their stream reset.
    lost: AtomicUsize,
    connections: AtomicUsize,
    /// Frames of an answer, and how much is in each of them besides its name.
    frames: AtomicUsize,
    padding: AtomicUsize,
    moved: Notify,
    stop: Notify,
}

/// Counts a request that ends before its answer as taken back.
struct Exchange {
    server: Arc<Server>,
    over: bool,
}

impl Exchange {
    fn end(mut self) {
        self.over = true;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.over { &self.server.served } else { &self.server.lost }.fetch_add(1, SeqCst);
        self.server.moved.notify_waiters();
    }
}

impl Server {
    async fn start(name: &'static str, fate: Fate) -> (Arc<Self>, SocketAddr) {
        let server = Arc::new(Self {
            name,
            fate,
            begun: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            frames: AtomicUsize::new(3),
            padding: AtomicUsize::new(0),
            moved: Notify::new(),
            stop: Notify::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(Arc::clone(&server).serve(listener));
        (server, address)
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let socket = tokio::select! {
                // Killed: nobody listens, and what was open is reset.
                () = self.stop.notified() => return,
                socket = listener.accept() => socket.expect("a connection").0,
            };
            let server = Arc::clone(&self);
            connections.spawn(async move {
                server.connections.fetch_add(1, SeqCst);
                let service = hyper::service::service_fn(|request| Arc::clone(&server).answer(request));
                let mut http = auto::Builder::new(TokioExecutor::new());
                http.http2().max_concurrent_streams(2_000);
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
                server.connections.fetch_sub(1, SeqCst);
                server.moved.notify_waiters();
            });
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Down>, Infallible> {
        let exchange = Exchange { server: Arc::clone(&self), over: false };
        self.begun.fetch_add(1, SeqCst);
        self.moved.notify_waiters();
        let fate = self.fate;
        let number = request.headers()["number"].to_str().expect("text").to_owned();
        let length: Option<usize> =
            request.headers().get("size").map(|size| size.to_str().expect("text").parse().expect("a number"));
        let mut status = 200;
        let mut trailers = None;
        if let Fate::Hasty(hasty) = fate {
            status = hasty;
        } else {
            if let Fate::Late(pause) = fate {
                tokio::time::sleep(pause).await;
            }
            let Ok(body) = request.into_body().collect().await else {
                // The caller broke off: whatever is said goes nowhere.
                let nothing = Full::default().map_err(|never: Infallible| match never {}).boxed_unsync();
                return Ok(Response::builder().status(400).body(nothing).expect("a response"));
            };
            trailers = body.trailers().cloned();
            let body = body.to_bytes();
            if length.is_some_and(|length| body != pattern(&number, length)) {
                status = 400;
            }
        }
        match fate {
            Fate::Hang => std::future::pending().await,
            Fate::Slow(pause) => tokio::time::sleep(pause).await,
            Fate::Status(bad) => status = bad,
            Fate::Good | Fate::Late(_) | Fate::Hasty(_) | Fate::Reset | Fate::Short => {}
        }
        let echo = trailers.and_then(|trailers| trailers.get("sum").cloned());
        let (frames, padding) = (self.frames.load(SeqCst), self.padding.load(SeqCst));
        let length = (fate == Fate::Short).then(|| self.text(&number).len());
        let body = stream::unfold((0, exchange), move |(frame, exchange)| {
            let text = Bytes::from(self.line(&number, frame, padding));
            async move {
                if frame == 1 && matches!(fate, Fate::Reset | Fate::Short) {
                    // The first frame is to be on its way.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    return Some((Err(io::ErrorKind::ConnectionReset.into()), (usize::MAX, exchange)));
                }
                if frame >= frames {
                    exchange.end();
                    return None;
                }
                Some((Ok(Frame::data(text)), (frame + 1, exchange)))
            }
        });
        let mut response = Response::builder().status(status).header("server", "fleet-test");
        if let Some(length) = length {
            response = response.header("content-length", length);
        }
        if let Some(echo) = echo {
            response = response.header("sum", echo);
        }
        Ok(response.body(StreamBody::new(body).boxed_unsync()).expect("a response"))
    }

    fn line(&self, number: &str, frame: usize, padding: usize) -> String {
        format!("{} {number} {frame:06} {:x<padding$};", self.name, "")
    }

    /// The body of its answer.
    fn text(&self, number: &str) -> String {
        let (frames, padding) = (self.frames.load(SeqCst), self.padding.load(SeqCst));
        (0..frames).map(|frame| self.line(number, frame, padding)).collect()
    }

    /// Waits until the server has seen something happen.
    async fn sees(&self, what: &str, happened: impl Fn(&Self) -> bool) {
        let waiting = async {
            loop {
                let moved = self.moved.notified();
                let mut moved = std::pin::pin!(moved);
                moved.as_mut().enable();
                if happened(self) {
                    break;
                }
                moved.await;
            }
        };
        if tokio::time::timeout(IN_TIME, waiting).await.is_err() {
            panic!(
                "{} has not seen {what}: {} begun, {} served, {} lost, {} connections",
                self.name,
                self.begun.load(SeqCst),
                self.served.load(SeqCst),
                self.lost.load(SeqCst),
                self.connections.load(SeqCst)
            );
        }
    }
}

/// The bytes of a request: no two are alike, and none can change places.
fn pattern(number: &str, length: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(length + 32);
    let mut line = 0;
    while bytes.len() < length {
        bytes.extend_from_slice(format!("{number}/{line:08};").as_bytes());
        line += 1;
    }
    bytes.truncate(length);
    bytes.into()
}

/// A client of one server.
#[derive(Clone)]
struct Upstream {
    client: Client<HttpConnector, ReplayBody<Up>>,
    address: SocketAddr,
}

impl Upstream {
    fn new(address: SocketAddr, version: Version) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.http2_only(version == Version::HTTP_2);
        Self { client: builder.build_http(), address }
    }
}

impl Service<Request<ReplayBody<Up>>> for Upstream {
    type Response = Response<Incoming>;
    type Error = legacy::Error;
    type Future = legacy::ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), legacy::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ReplayBody<Up>>) -> legacy::ResponseFuture {
        *request.uri_mut() = format!("http://{}/", self.address).parse().expect("a URI");
        self.client.request(request)
    }
}

/// Three servers behind a failover: the first is the primary.
struct Scene {
    servers: Vec<Arc<Server>>,
    fleet: Fleet<Upstream>,
    door: Door,
}

impl Scene {
    async fn open(version: Version, failover: FailoverBuilder, fates: [Fate; 3]) -> Self {
        let (mut servers, fleet) = (Vec::new(), Fleet::new());
        for (name, fate) in ["red", "green", "blue"].into_iter().zip(fates) {
            let (server, address) = Server::start(name, fate).await;
            let backend = Backend::new(name, Upstream::new(address, version));
            // On a busy machine a good one may take as long as one that hangs is waited for.
            let backend = if fate == Fate::Good { backend.timeout(IN_TIME) } else { backend };
            fleet.insert(backend).expect("a good backend");
            servers.push(server);
        }
        let door = failover.build().expect("good values").layer(fleet.clone());
        Self { servers, fleet, door }
    }

    fn ask(&self, request: Request<Up>) -> impl Future<Output = Result<Answer, tower_fleet::failover::Error>> + use<> {
        self.door.clone().oneshot(request)
    }

    /// Who gave this answer, after its body was found to be all his.
    async fn whole(&self, number: &str, answer: Answer) -> &'static str {
        let ledger = answer.extensions().get::<Ledger>().expect("C25").clone();
        assert_eq!(answer.status(), 200, "{number}: {ledger}");
        let served = ledger.served().expect("C25").clone();
        let server = self.servers.iter().find(|server| served == *server.name).expect("one of them");
        let body = answer.into_body().collect().await.unwrap_or_else(|error| panic!("{number}: {ledger}: {error}"));
        assert_eq!(body.to_bytes(), server.text(number), "C32: mixed, doubled or out of order");
        server.name
    }

    fn at_rest(&self) {
        assert!(self.fleet.snapshot().iter().all(|backend| backend.in_flight == 0), "C20: {:?}", self.fleet);
    }
}

fn get(number: &str) -> Request<Up> {
    let body = Full::default().map_err(|never: Infallible| match never {}).boxed_unsync();
    Request::builder().uri("/").header("number", number).body(body).expect("a request")
}

/// A body in frames of 16 KiB. Its size is not known beforehand.
fn post(number: &str, size: usize, trailers: Option<HeaderMap>) -> Request<Up> {
    let bytes = pattern(number, size);
    let frames = (0..size).step_by(16 << 10).map(move |at| Frame::data(bytes.slice(at..size.min(at + (16 << 10)))));
    let frames: Vec<_> = frames.chain(trailers.map(Frame::trailers)).map(Ok).collect();
    let request = Request::post("/").header("number", number).header("size", size);
    request.body(StreamBody::new(stream::iter(frames)).boxed_unsync()).expect("a request")
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(IN_TIME, future).await.expect("it is over in time")
}

fn soon() -> Duration {
    Duration::from_millis(100)
}

const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

/// The server has lost this request, and nothing else of the connection than HTTP/1.1 has to.
async fn gone(server: &Server, version: Version) {
    server.sees("its request taken back", |server| server.lost.load(SeqCst) == server.begun.load(SeqCst)).await;
    if version == Version::HTTP_2 {
        assert_eq!(server.connections.load(SeqCst), 1, "only the stream was reset");
    } else {
        server.sees("its connection closed", |server| server.connections.load(SeqCst) == 0).await;
    }
}

// C15, C17
#[tokio::test]
async fn race_the_first_good_answer_wins_and_the_losers_are_taken_back() {
    for version in VERSIONS {
        let fates = [Fate::Status(503), Fate::Hang, Fate::Slow(soon())];
        let scene = Scene::open(version, FailoverLayer::builder(), fates).await;
        let answer = in_time(scene.ask(get("1"))).await.expect("an answer");
        let attempts = answer.extensions().get::<Ledger>().expect("C25").attempts().len();
        assert_eq!(attempts, 4, "the primary, then everybody");
        assert_eq!(scene.whole("1", answer).await, "blue");
        gone(&scene.servers[1], version).await;
        scene.at_rest();
    }
}

// C15, C17, C50
#[tokio::test]
async fn sequential_a_primary_that_hangs_is_taken_back_before_the_next_is_asked() {
    for version in VERSIONS {
        let layer = FailoverLayer::builder().mode(Mode::Sequential).timeout(Duration::from_secs(1));
        let scene = Scene::open(version, layer, [Fate::Hang, Fate::Status(500), Fate::Good]).await;
        let answer = in_time(scene.ask(get("1"))).await.expect("an answer");
        assert_eq!(scene.whole("1", answer).await, "blue");
        gone(&scene.servers[0], version).await;
        assert_eq!(scene.servers[1].begun.load(SeqCst), 1);
        scene.at_rest();
    }
}

// C15, C17
#[tokio::test]
async fn hedged_the_slow_primary_is_taken_back_when_the_hedge_is_first() {
    for version in VERSIONS {
        let layer = FailoverLayer::builder().mode(Mode::hedged(soon()));
        let scene = Scene::open(version, layer, [Fate::Hang, Fate::Hang, Fate::Good]).await;
        let answer = in_time(scene.ask(get("1"))).await.expect("an answer");
        let ledger = answer.extensions().get::<Ledger>().expect("C25").clone();
        assert_eq!(ledger.attempts().iter().filter(|attempt| attempt.ending == Ending::Dropped).count(), 2, "{ledger}");
        assert_eq!(scene.whole("1", answer).await, "blue");
        for loser in &scene.servers[..2] {
            gone(loser, version).await;
        }
        scene.at_rest();
    }
}

// C20
#[tokio::test]
async fn a_caller_that_leaves_takes_its_request_back_from_everybody() {
    for version in VERSIONS {
        let layer = FailoverLayer::builder().mode(Mode::hedged(soon())).hedge_methods(Methods::All);
        let scene = Scene::open(version, layer, [Fate::Hang; 3]).await;
        let mut asked = Box::pin(scene.ask(post("1", 100_000, None)));
        let everybody = async {
            for server in &scene.servers {
                server.sees("the request", |server| server.begun.load(SeqCst) == 1).await;
            }
        };
        tokio::select! {
            _ = &mut asked => panic!("nobody answers"),
            () = everybody => {}
        }
        drop(asked);
        scene.at_rest();
        for server in &scene.servers {
            gone(server, version).await;
        }
    }
}

/// As many callers as there are files for: a connection takes two.
fn crowds(version: Version) -> Vec<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    let files: usize = line.split_whitespace().nth(3).and_then(|files| files.parse().ok()).unwrap_or(1024);
    let enough = version == Version::HTTP_2 || files >= 10_000;
    if enough { vec![100, 1_000] } else { vec![100] }
}

/// One crowd at a time, for the sake of the files.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn crowd(primary: Fate, most: usize, layer: impl Fn() -> FailoverBuilder) {
    let _alone = ALONE.lock().await;
    // It would answer after a while, but does not live so long.
    let killed = matches!(primary, Fate::Slow(_));
    for version in VERSIONS {
        for size in crowds(version).into_iter().filter(|size| *size <= most) {
            for mode in [Mode::Sequential, Mode::Race, Mode::hedged(Duration::from_secs(1))] {
                // Half of the requests are POSTs.
                let layer = layer().mode(mode).hedge_methods(Methods::All);
                let scene = Scene::open(version, layer, [primary, Fate::Good, Fate::Good]).await;
                let asked = (0..size).map(async |number| {
                    let number = number.to_string();
                    // Half of them with a body that is to arrive whole with everybody.
                    let request =
                        if number.len().is_multiple_of(2) { post(&number, 3_000, None) } else { get(&number) };
                    let answer = scene.ask(request).await.unwrap_or_else(|error| panic!("lost: {number}, {error}"));
                    scene.whole(&number, answer).await
                });
                let killer = async {
                    let primary = &scene.servers[0];
                    if killed {
                        primary.sees("half of the crowd", |primary| primary.begun.load(SeqCst) >= size / 2).await;
                        primary.stop.notify_one();
                    }
                };
                // A connection beyond the listener's backlog takes a second, as long as the hedge waits: so many may be
                // hedged in time that half of them never reach the primary.
                let (asked, killer) = (pin!(futures::future::join_all(asked)), pin!(killer));
                let served = in_time(async {
                    match futures::future::select(asked, killer).await {
                        Either::Left((served, _)) => served,
                        Either::Right(((), asked)) => asked.await,
                    }
                });
                let served = served.await;
                assert_eq!(served.len(), size, "{version:?} {mode:?}: C57");
                if !killed {
                    assert!(served.iter().all(|name| *name != "red"), "{version:?} {mode:?}");
                }
                scene.at_rest();
            }
        }
    }
}

// C57
#[tokio::test]
async fn a_crowd_loses_nothing_while_the_primary_is_killed() {
    crowd(Fate::Slow(Duration::from_secs(3)), 1_000, FailoverLayer::builder).await;
}

// C57, C50
#[tokio::test]
async fn a_crowd_loses_nothing_while_the_primary_hangs() {
    crowd(Fate::Hang, 1_000, || FailoverLayer::builder().timeout(Duration::from_millis(1_500))).await;
}

// C57, C27
#[tokio::test]
async fn a_crowd_loses_nothing_while_the_primary_says_429_500_or_503() {
    crowd(Fate::Status(429), 100, FailoverLayer::builder).await;
    crowd(Fate::Status(500), 100, FailoverLayer::builder).await;
    crowd(Fate::Hasty(503), 1_000, FailoverLayer::builder).await;
}

// C32
#[tokio::test]
async fn a_crowd_loses_nothing_while_the_primary_breaks_off_before_its_answer_is_one() {
    // Three frames are an answer.
    let point = || {
        CommitPoint::prelude(64 << 10, |seen| {
            let frames = seen.iter().filter(|byte| **byte == b';').count();
            if frames < 3 { tower_fleet::failover::Decision::Wait } else { tower_fleet::failover::Decision::Accept }
        })
    };
    crowd(Fate::Reset, 1_000, || FailoverLayer::builder().commit(point())).await;
}

// C32
#[tokio::test]
async fn a_crowd_loses_nothing_while_the_primary_breaks_off_in_the_middle_of_small_answers() {
    crowd(Fate::Short, 1_000, || FailoverLayer::builder().commit(CommitPoint::whole(1 << 10))).await;
}

// C32
#[tokio::test]
async fn a_body_that_breaks_off_after_the_commit_is_an_error_and_nothing_else() {
    for (version, commit) in [(VERSIONS[0], CommitPoint::first_frame()), (VERSIONS[1], CommitPoint::first_frame())] {
        let layer = FailoverLayer::builder().commit(commit);
        let scene = Scene::open(version, layer, [Fate::Reset, Fate::Good, Fate::Good]).await;
        let asked = (0..100).map(async |number: usize| {
            let number = number.to_string();
            let answer = scene.ask(get(&number)).await.expect("a head and a frame");
            let mut body = answer.into_body();
            let first = body.frame().await.expect("a frame").expect("its data").into_data().expect("data");
            assert_eq!(first, scene.servers[0].line(&number, 0, 0));
            assert!(body.frame().await.expect("no clean end").is_err(), "C32");
        });
        in_time(futures::future::join_all(asked)).await;
        assert_eq!(
            scene.servers[1].begun.load(SeqCst) + scene.servers[2].begun.load(SeqCst),
            0,
            "nothing is sent again"
        );
        scene.at_rest();
    }
}

const LARGE: usize = 8 << 20;

// C17, C33
#[tokio::test]
async fn large_bodies_are_whole_both_ways() {
    for version in VERSIONS {
        for (mode, fate) in [
            (Mode::Race, Fate::Status(503)),
            (Mode::Race, Fate::Hasty(503)),
            (Mode::Sequential, Fate::Status(500)),
            (Mode::hedged(soon()), Fate::Hang),
        ] {
            let layer = FailoverLayer::builder().mode(mode).hedge_methods(Methods::All);
            let layer = layer.replay(ReplayLayer::new().limit(2 * LARGE));
            let scene = Scene::open(version, layer, [fate, Fate::Good, Fate::Good]).await;
            for server in &scene.servers {
                server.frames.store(200, SeqCst);
                server.padding.store(LARGE / 200, SeqCst);
            }
            let answer = in_time(scene.ask(post("7", LARGE, None))).await.expect("an answer");
            assert_ne!(in_time(scene.whole("7", answer)).await, "red", "{version:?} {mode:?}");
            scene.at_rest();
        }
    }
}

// C21, C33
#[tokio::test]
async fn a_body_too_large_to_keep_arrives_once_and_whole_or_the_ledger_says_why() {
    for version in VERSIONS {
        for mode in [Mode::Sequential, Mode::Race, Mode::hedged(Duration::from_millis(1))] {
            for (fate, status) in [(Fate::Good, 200), (Fate::Status(503), 503)] {
                let layer = FailoverLayer::builder().mode(mode).hedge_methods(Methods::All);
                let scene = Scene::open(version, layer, [fate, Fate::Good, Fate::Good]).await;
                let answer = in_time(scene.ask(post("7", LARGE, None))).await.expect("an answer");
                let ledger = answer.extensions().get::<Ledger>().expect("C25").clone();
                if matches!(mode, Mode::Hedged(_)) {
                    // Whoever is ahead gets all of it, the others are broken off, and nobody takes that for an answer.
                    let whole = answer.status() == 200 && !in_time(scene.whole("7", answer)).await.is_empty();
                    assert!(whole || ledger.attempts().len() > 1 || ledger.stopped().is_some(), "{version:?} {ledger}");
                    continue;
                }
                assert_eq!(answer.status(), status, "{version:?} {mode:?} {ledger}");
                assert_eq!(ledger.attempts().len(), 1, "{version:?} {mode:?} {ledger}");
                assert_eq!(ledger.stopped().is_some(), status == 503, "{version:?} {mode:?} {ledger}");
                let in_flight: Vec<_> = scene.fleet.snapshot().iter().map(|backend| backend.in_flight).collect();
                assert_eq!(in_flight, [1, 0, 0], "the answer, which is not read yet");
                drop(answer);
                scene.at_rest();
            }
        }
    }
}

// C17, C33
#[tokio::test]
async fn who_falls_behind_in_a_body_too_large_to_keep_is_broken_off_and_no_answer() {
    for version in VERSIONS {
        // A race: no hedge would be sent while the caller is waited for.
        let fates = [Fate::Hasty(503), Fate::Late(Duration::from_millis(500)), Fate::Good];
        let scene = Scene::open(version, FailoverLayer::builder(), fates).await;
        // The rest of the body comes when both racers have begun.
        let size = 2 * LARGE;
        let (bytes, racers) = (pattern("7", size), [1, 2].map(|index| Arc::clone(&scene.servers[index])));
        let frames = stream::unfold(0, move |at| {
            let frame = Frame::data(bytes.slice(at.min(size)..size.min(at + (64 << 10))));
            let racers = racers.clone();
            async move {
                for racer in racers.iter().filter(|_| at > 0) {
                    racer.sees("the request", |racer| racer.begun.load(SeqCst) > 0).await;
                }
                (at < size).then_some((Ok(frame), at + (64 << 10)))
            }
        });
        let request = Request::post("/").header("number", "7").header("size", size);
        let request = request.body(StreamBody::new(frames).boxed_unsync()).expect("a request");
        let answer = in_time(scene.ask(request)).await.expect("an answer");
        let ledger = answer.extensions().get::<Ledger>().expect("C25").clone();
        // Which of them is ahead, the buffers of the connections decide.
        let broken = ledger.attempts().iter().filter(|attempt| matches!(attempt.ending, Ending::BrokenOff { .. }));
        // Over HTTP/2 one that is not let send does not even come to know.
        assert_eq!(broken.count(), usize::from(version == Version::HTTP_11), "{version:?} {ledger}");
        let loser = if scene.whole("7", answer).await == "green" { 2 } else { 1 };
        gone(&scene.servers[loser], version).await;
        scene.at_rest();
    }
}

// C33
#[tokio::test]
async fn trailers_of_a_request_are_sent_again() {
    let scene =
        Scene::open(Version::HTTP_2, FailoverLayer::builder(), [Fate::Status(503), Fate::Hang, Fate::Good]).await;
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("sum"), "42".parse().expect("a value"))]);
    let answer = in_time(scene.ask(post("1", 50_000, Some(trailers)))).await.expect("an answer");
    assert_eq!(answer.headers()["sum"], "42");
    assert_eq!(scene.whole("1", answer).await, "blue");
}
