//! What is held of a body for replay or before a commit stays within its bound, over real sockets on loopback.
//!
//! Counted by the allocator: each scenario runs on one thread, and what is freed by a drop is what was held. The
//! figures are printed by `cargo test --test memory -- --nocapture`.
#![cfg(feature = "http")]

use std::{
    convert::Infallible,
    future::{Future, pending},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use allocation_counter::measure;
use bytes::Bytes;
use futures::{FutureExt, Stream, channel::mpsc, future::BoxFuture, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower::{Layer, Service};
use tower_fleet::{
    Backend, FailoverLayer, Fleet,
    body::{ReplayBody, ReplayMemory, Unreplayable},
    failover::{CommitPoint, Decision, Mode},
    outcome::BoxError,
};

/// Drops `held`, and returns how much memory that frees.
fn freed<T>(held: T) -> usize {
    usize::try_from(-measure(|| drop(held)).bytes_current).unwrap_or(0)
}

/// Runs a scenario on this thread, which the allocator counts. Its limit is for a scenario that hangs only.
fn run<T>(scenario: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), scenario).await.expect("it ends") })
}

/// The figures of the scenarios of a test.
#[derive(Default)]
struct Figures {
    exceeded: Vec<String>,
}

impl Figures {
    /// Prints the figures of a scenario.
    fn add(&mut self, scenario: &str, data: usize, held: usize, bound: usize) {
        let factor = held as f64 / bound as f64;
        let line = format!("{scenario:<58} {data:>9} bytes hold {held:>9}, bound {bound:>8}: {factor:>7.2}x");
        println!("{line}");
        self.exceeded.extend((held > 2 * bound).then_some(line));
    }

    fn check(self) {
        assert!(self.exceeded.is_empty(), "more than twice the bound is held:\n{}", self.exceeded.join("\n"));
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// `count` writes of `size` bytes each.
fn writes(count: usize, size: usize) -> Vec<usize> {
    vec![size; count]
}

/// A body that an attempt has read, and that is kept for another one.
struct Upload {
    body: ReplayBody<Incoming>,
    data: usize,
}

/// The server's side of uploads: reads each of them once, and keeps it for another attempt.
struct Uploads {
    limit: usize,
    memory: ReplayMemory,
    kept: Mutex<Vec<Upload>>,
    /// The bytes of the current upload that were read.
    read: Semaphore,
}

impl Uploads {
    fn new(limit: usize, memory: usize) -> Arc<Self> {
        let (memory, read) = (ReplayMemory::new(memory), Semaphore::new(0));
        Arc::new(Self { limit, memory, kept: Mutex::default(), read })
    }

    async fn read(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, BoxError> {
        let body = ReplayBody::bounded(request.into_body(), self.limit, &self.memory);
        let (mut attempt, mut data) = (body.again()?, 0);
        while let Some(frame) = attempt.frame().await {
            let len = frame?.data_ref().map_or(0, Bytes::len);
            data += len;
            self.read.add_permits(len);
        }
        drop(attempt);
        self.kept.lock().expect("one thread").push(Upload { body, data });
        Ok(Response::new(Empty::new()))
    }

    async fn serve(self: Arc<Self>, version: u8, listener: TcpListener) {
        loop {
            let (socket, _) = listener.accept().await.expect("a connection");
            let uploads = Arc::clone(&self);
            tokio::spawn(async move {
                let service = service_fn(|request| Arc::clone(&uploads).read(request));
                let socket = TokioIo::new(socket);
                let _ = match version {
                    1 => http1::Builder::new().serve_connection(socket, service).await,
                    _ => http2::Builder::new(TokioExecutor::new()).serve_connection(socket, service).await,
                };
            });
        }
    }

    /// Waits until the server has read so many bytes more.
    async fn until_read(&self, bytes: usize) {
        let bytes = u32::try_from(bytes).expect("a small body");
        self.read.acquire_many(bytes).await.expect("it is open").forget();
    }

    /// Sends a body over HTTP/1.1. The next write comes only after the last one was read.
    async fn send(&self, address: SocketAddr, writes: &[usize]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let length: usize = writes.iter().sum();
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("the head is sent");
        for len in writes {
            let data = vec![b'x'; *len];
            let (sent, ()) = tokio::join!(stream.write_all(&data), self.until_read(*len));
            sent.expect("the data is sent");
        }
        answered(&mut stream).await;
        stream
    }

    /// The same over HTTP/2, and with trailers.
    async fn send_h2(&self, address: SocketAddr, writes: &[usize]) {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        let (frames, body) = mpsc::unbounded::<Result<Frame<Bytes>, Infallible>>();
        let request = Request::post(format!("http://{address}/")).body(StreamBody::new(body)).expect("a request");
        let feed = async {
            for len in writes {
                frames.unbounded_send(Ok(Frame::data(vec![b'x'; *len].into()))).expect("it is read");
                self.until_read(*len).await;
            }
            let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-sum"), HeaderValue::from_static("42"))]);
            frames.unbounded_send(Ok(Frame::trailers(trailers))).expect("it is read");
            drop(frames);
        };
        tokio::join!(sender.send_request(request), feed).0.expect("a response");
    }

    fn take(&self) -> Vec<Upload> {
        std::mem::take(&mut *self.kept.lock().expect("one thread"))
    }
}

async fn answered(stream: &mut TcpStream) {
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.expect("a response");
    assert_eq!(&status, b"HTTP/1.1 200");
}

/// How bodies are cut into writes, and whether one of them fits into 1 MiB.
fn shapes() -> Vec<(&'static str, Vec<usize>)> {
    let mixed = |first: &[usize], then: &[usize]| [first, then].concat();
    vec![
        ("2,000 drips", writes(2_000, 1)),
        ("drips of 100 bytes", writes(500, 100)),
        ("drips of 4,095 bytes", writes(60, 4_095)),
        ("drips of 4,096 bytes", writes(60, 4_096)),
        ("drips of 4,097 bytes", writes(60, 4_097)),
        ("one write", writes(1, 1_000_000)),
        ("a large write, then drips", mixed(&[500_000], &writes(500, 1))),
        ("drips, then a large write", mixed(&writes(500, 1), &[500_000])),
    ]
}

// C33: issue 11.1
#[test]
fn a_body_kept_for_replay_holds_the_memory_that_it_is_charged_for() {
    let mut figures = Figures::default();
    for (shape, writes) in shapes() {
        for version in [1, 2] {
            run(async {
                let (listener, address) = listen().await;
                let uploads = Uploads::new(1 << 20, 64 << 20);
                tokio::spawn(Arc::clone(&uploads).serve(version, listener));
                if version == 1 {
                    let _connected = uploads.send(address, &writes).await;
                } else {
                    uploads.send_h2(address, &writes).await;
                }
                let Upload { body, data } = uploads.take().pop().expect("one body");
                assert_eq!((data, body.unreplayable()), (writes.iter().sum(), None));
                let charged = uploads.memory.used();
                figures.add(&format!("replay, HTTP/{version}, {shape}"), data, freed(body), charged);
                assert_eq!(uploads.memory.used(), 0);
                // A body of that size is never refused for the bound of all bodies, so the charge is bounded as well.
                figures.add("    of which charged", data, charged, data + 1_024);
            });
        }
    }
    figures.check();
}

// C33: issue 11.1
#[test]
fn many_dripped_bodies_together_hold_at_most_the_memory_of_all() {
    run(async {
        let (listener, address) = listen().await;
        let uploads = Uploads::new(1 << 20, 64 << 10);
        tokio::spawn(Arc::clone(&uploads).serve(1, listener));
        let mut connected = Vec::new();
        for _ in 0..16 {
            connected.push(uploads.send(address, &writes(500, 16)).await);
        }
        let all = uploads.take();
        let refused = all.iter().filter(|upload| upload.body.unreplayable() == Some(Unreplayable::ProcessLimit));
        let (refused, data) = (refused.count(), all.iter().map(|upload| upload.data).sum());
        let mut figures = Figures::default();
        figures.add("replay, 16 bodies of 500 drips, HTTP/1", data, freed(all), uploads.memory.limit());
        assert!((4..=12).contains(&refused), "{refused} of 16 are not kept, since the others fill the memory");
        figures.check();
    });
}

/// A backend that sends a response in small writes, each after the one before was read.
struct Download {
    writes: Vec<usize>,
    /// The length that the head announces.
    length: usize,
    read: Arc<Semaphore>,
    sent: Arc<Semaphore>,
}

impl Download {
    async fn serve(self, listener: TcpListener) {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        socket.set_nodelay(true).expect("a socket");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(socket.read_u8().await.expect("a request"));
        }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", self.length);
        socket.write_all(head.as_bytes()).await.expect("the head is sent");
        for len in self.writes {
            let data = vec![b'x'; len];
            let until_read = self.read.acquire_many(u32::try_from(len).expect("a small body"));
            let (sent, read) = tokio::join!(socket.write_all(&data), until_read);
            sent.expect("the data is sent");
            read.expect("it is open").forget();
        }
        self.sent.add_permits(1);
        pending::<()>().await;
    }
}

/// A client of one backend, whose response bodies count what is read of them.
#[derive(Clone)]
struct Upstream {
    client: Client<HttpConnector, ReplayBody<Empty<Bytes>>>,
    address: SocketAddr,
    read: Arc<Semaphore>,
}

impl Service<Request<ReplayBody<Empty<Bytes>>>> for Upstream {
    type Response = Response<Counted>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Counted>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ReplayBody<Empty<Bytes>>>) -> Self::Future {
        *request.uri_mut() = format!("http://{}/", self.address).parse().expect("a URI");
        let (response, read) = (self.client.request(request), Arc::clone(&self.read));
        Box::pin(async move { Ok(response.await?.map(|inner| Counted { inner, read })) })
    }
}

struct Counted {
    inner: Incoming,
    read: Arc<Semaphore>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
        self.read.add_permits(data.map_or(0, Bytes::len));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Waits for a moment, and for the other backend to get the request if the failover moves on then.
async fn passed(moment: &Semaphore) {
    drop(moment.acquire().await.expect("it is open"));
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// What a failover with this commit point holds while a backend sends `writes`: before the response is final, or when
/// it has just become so. The body of a response of `length` bytes that sends fewer does not come to its end.
async fn held(commit: CommitPoint, writes: &[usize], length: usize) -> usize {
    held_at(&Arc::new(Semaphore::new(0)), commit, writes, length).await
}

/// The same, at a moment that may come before all is sent.
async fn held_at(moment: &Arc<Semaphore>, commit: CommitPoint, writes: &[usize], length: usize) -> usize {
    let read = Arc::new(Semaphore::new(0));
    let (listener, address) = listen().await;
    let download = Download { writes: writes.to_vec(), length, read: Arc::clone(&read), sent: Arc::clone(moment) };
    let serving = tokio::spawn(download.serve(listener));
    // Accepts connections, and sends no response.
    let (_silent, silent) = listen().await;
    let upstream = |address| Upstream {
        client: Client::builder(TokioExecutor::new()).build_http(),
        address,
        read: Arc::clone(&read),
    };
    let backends = [Backend::new("first", upstream(address)).priority(1), Backend::new("silent", upstream(silent))];
    let fleet = Fleet::builder().backends(backends).build().expect("good backends");
    let layer = FailoverLayer::builder().mode(Mode::Sequential).commit(commit).timeout(None);
    let door = layer.build().expect("good values").layer(fleet);
    let mut call = Box::pin(door.oneshot(Request::new(Empty::new())));
    tokio::select! {
        response = &mut call => {
            let (head, body) = response.expect("a response").into_parts();
            // Its headers keep the buffer alive in which they were received, and the connection its last one.
            drop(head);
            serving.abort();
            tokio::time::sleep(Duration::from_millis(50)).await;
            freed(body)
        }
        () = passed(moment) => freed(call),
    }
}

/// Refuses a response once it has `len` bytes of it, or accepts it.
fn at(len: usize, decision: Decision) -> impl Fn(&[u8]) -> Decision + Send + Sync + 'static {
    move |data| if data.len() < len { Decision::Wait } else { decision }
}

// C32: issue 11.1
#[test]
fn a_response_that_is_not_final_holds_at_most_twice_its_bound() {
    const BOUND: usize = 64 << 10;
    let large = [&[20_000][..], &writes(500, 1)].concat();
    let late = [&writes(500, 1)[..], &[20_000]].concat();
    let shapes = [
        ("2,000 drips", writes(2_000, 1)),
        ("drips of 30 bytes", writes(1_000, 30)),
        ("drips of 4,096 bytes", writes(14, 4_096)),
        ("one write", writes(1, 60_000)),
        ("a large write, then drips", large),
        ("drips, then a large write", late),
    ];
    let mut figures = Figures::default();
    for (shape, writes) in shapes {
        let len: usize = writes.iter().sum();
        let points = [
            ("prelude, waiting", CommitPoint::prelude(BOUND, at(usize::MAX, Decision::Accept)), BOUND),
            ("prelude, accepted", CommitPoint::prelude(BOUND, at(len, Decision::Accept)), BOUND),
            (
                "prelude, refused, kept as the last",
                CommitPoint::prelude(BOUND, at(len, Decision::Refuse("error"))),
                BOUND,
            ),
            ("whole, waiting", CommitPoint::whole(BOUND), len + 1),
            ("whole", CommitPoint::whole(BOUND), len),
        ];
        for (point, commit, length) in points {
            let held = run(held(commit, &writes, length));
            figures.add(&format!("{point}, {shape}"), len, held, BOUND);
        }
    }
    figures.check();
}

// C32: issue 11.1. The frame that makes a response final is not copied.
#[test]
fn a_first_frame_holds_one_buffer_of_its_connection() {
    let mut figures = Figures::default();
    for len in [1, 4_095, 4_096, 4_097] {
        let held = run(held(CommitPoint::first_frame(), &[len], 100_000));
        figures.add("first frame", len, held, len + (32 << 10));
    }
    figures.check();
}

// C32: issue 11.1. The frame that reaches the bound is held as well.
#[test]
fn a_refused_response_beyond_its_bound_holds_one_frame_more() {
    let mut figures = Figures::default();
    for bound in [1 << 10, 8 << 10, 64 << 10] {
        let (refused, refuse) = (Arc::new(Semaphore::new(0)), at(bound, Decision::Refuse("error")));
        let moment = Arc::clone(&refused);
        let point = CommitPoint::prelude(bound, move |data| {
            let decision = refuse(data);
            refused.add_permits(usize::from(decision != Decision::Wait));
            decision
        });
        let held = run(held_at(&moment, point, &[1_000_000], 1_000_000));
        figures.add("prelude, refused, kept as the last, 1 MB", 1_000_000, held, bound + (32 << 10));
    }
    figures.check();
}

/// A body of these frames, each a slice of a buffer that is as large as a read buffer.
fn body(lengths: Vec<usize>, trailers: Option<HeaderMap>) -> StreamBody<impl Stream<Item = Sent> + Unpin + use<>> {
    let slice = |len: usize| Frame::data(Bytes::from(vec![b'x'; len + 8_192]).slice(..len));
    let frames = lengths.into_iter().map(slice).chain(trailers.map(Frame::trailers));
    StreamBody::new(stream::iter(frames.map(Ok)))
}

type Sent = Result<Frame<Bytes>, Infallible>;

/// The bytes of a body, and whether it has trailers.
fn read(body: ReplayBody<impl Body<Data = Bytes, Error = Infallible> + Unpin>) -> (usize, bool) {
    let collected = body.collect().now_or_never().expect("a body in memory").expect("a whole body");
    let has_trailers = collected.trailers().is_some();
    (collected.to_bytes().len(), has_trailers)
}

/// Trailers of about a megabyte: one text, or many.
fn trailers(texts: usize, names: usize) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    for text in 0..texts {
        let name = HeaderName::try_from(format!("x-{}", text % names)).expect("a name");
        let value = HeaderValue::try_from("x".repeat(1_000_000 / texts)).expect("a text");
        trailers.append(name, value);
    }
    trailers
}

// C33: issue 11.1
#[test]
fn no_cut_of_a_body_holds_more_than_twice_its_charge() {
    const LIMIT: usize = 4 << 20;
    let mut shapes: Vec<_> = shapes().into_iter().map(|(shape, lengths)| (shape, lengths, None)).collect();
    for (shape, size) in [("65,535 bytes", 65_535), ("65,536 bytes", 65_536), ("65,537 bytes", 65_537)] {
        shapes.push((shape, writes(15, size), None));
    }
    shapes.push(("drips between empty frames", [0, 1].repeat(2_000), None));
    shapes.push(("drips between large frames", [1, 5_000].repeat(100), None));
    shapes.push(("one trailer", vec![1], Some(trailers(1, 1))));
    shapes.push(("10,000 trailers", vec![1], Some(trailers(10_000, 10_000))));
    shapes.push(("2,000 trailers of one name", vec![1], Some(trailers(2_000, 1))));
    let mut figures = Figures::default();
    for (shape, lengths, trailers) in shapes {
        let (data, has_trailers) = (lengths.iter().sum::<usize>(), trailers.is_some());
        let memory = ReplayMemory::new(64 << 20);
        let original = ReplayBody::bounded(body(lengths, trailers), LIMIT, &memory);
        for _ in 0..2 {
            let attempt = original.again().expect("a body within its limit");
            assert_eq!(read(attempt), (data, has_trailers), "{shape}");
        }
        let charged = memory.used();
        figures.add(&format!("replay, in memory, {shape}"), data, freed(original), charged);
        assert_eq!(memory.used(), 0);
    }
    figures.check();
}

// C33: issue 11.1
#[test]
fn a_large_frame_gives_back_what_its_buffer_does_not_use() {
    let mut figures = Figures::default();
    for len in [5_000, 500_000] {
        let mut buffer = Vec::with_capacity(1_000_000);
        buffer.resize(len, b'x');
        let memory = ReplayMemory::new(64 << 20);
        let original = ReplayBody::bounded(Full::new(Bytes::from(buffer)), 1 << 20, &memory);
        assert_eq!(read(original.again().expect("an unread body")), (len, false));
        let charged = memory.used();
        figures.add("replay, in memory, a large buffer", len, freed(original), charged);
    }
    figures.check();
}
