//! Mocks of HTTP backends that follow a script, and helpers that look at what came of a request.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{future::LocalBoxFuture, stream};
use http::{Extensions, HeaderMap, Method, Request, Response, Uri};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::time::Instant;
use tower::{BoxError, Service, ServiceExt};
use tower_fleet::{
    Backend, FailoverLayer, Fleet,
    body::ReplayBody,
    failover::{Ending, Error, FailoverBuilder, Ledger, PeekedBody},
    outcome::{HttpClassifier, WatchedBody},
};
use tower_layer::Layer;

pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;
/// What a door answers with; `B` is the body as the fleet's classifier makes it.
pub(crate) type Answer<B = WatchedBody<Body>> = Result<Response<PeekedBody<B>>, Error>;

/// A request body as a backend read it.
type Read = Result<(Vec<u8>, Option<HeaderMap>), String>;

/// A part of a body.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Data(Vec<u8>),
    Trailer(&'static str, &'static str),
    Trailers(&'static [(&'static str, &'static str)]),
    Wait(u64),
    Error(&'static str),
    Stall,
    /// At the beginning: what the body says its size is, true or not.
    Size(u64),
    /// At the beginning: the body knows its last frame as such, as one over HTTP/2 does.
    KnowsEnd,
}

pub(crate) fn data(text: &str) -> Piece {
    Piece::Data(text.as_bytes().to_vec())
}

pub(crate) fn body(pieces: Vec<Piece>) -> Body {
    let size = match pieces[..] {
        [Piece::Size(size), ..] => Some(size),
        _ => None,
    };
    let frames_left = match pieces[..] {
        [Piece::KnowsEnd, ..] => Some(pieces.iter().filter(|piece| matches!(piece, Piece::Data(_))).count()),
        _ => None,
    };
    let frames = stream::unfold(VecDeque::from(pieces), |mut pieces| async move {
        loop {
            let item = match pieces.pop_front()? {
                Piece::Data(data) => Ok(Frame::data(Bytes::from(data))),
                Piece::Trailer(name, value) => {
                    Ok(Frame::trailers(HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])))
                }
                Piece::Trailers(list) => Ok(Frame::trailers(
                    list.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect(),
                )),
                Piece::Error(text) => Err(BoxError::from(text)),
                Piece::Stall => std::future::pending().await,
                Piece::Size(_) | Piece::KnowsEnd => continue,
                Piece::Wait(millis) => {
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                    continue;
                }
            };
            return Some((item, pieces));
        }
    });
    let inner = StreamBody::new(frames).boxed_unsync();
    match (size, frames_left) {
        (Some(left), _) => Sized { inner, left }.boxed_unsync(),
        (None, Some(frames_left)) => KnowsEnd { inner, frames_left }.boxed_unsync(),
        (None, None) => inner,
    }
}

/// A body that knows its last frame.
struct KnowsEnd {
    inner: Body,
    frames_left: usize,
}

impl http_body::Body for KnowsEnd {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        self.frames_left = self.frames_left.saturating_sub(1);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.frames_left == 0
    }
}

/// A body that says how much of it is left, as one with a `Content-Length` does.
struct Sized {
    inner: Body,
    left: u64,
}

impl http_body::Body for Sized {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
        self.left = self.left.saturating_sub(data.map_or(0, |data| data.len() as u64));
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

pub(crate) fn full(text: &str) -> Body {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// What a backend does with one call.
#[derive(Clone)]
pub(crate) struct Reply {
    after: u64,
    deaf: bool,
    then: Then,
}

#[derive(Clone)]
enum Then {
    Respond(u16, Vec<(&'static str, &'static str)>, Option<Vec<Piece>>),
    Fail(Arc<dyn Fn() -> BoxError + Send + Sync>),
    Hang,
    Panic,
    PanicInCall,
}

fn then(then: Then) -> Reply {
    Reply { after: 0, deaf: false, then }
}

/// Answers with this status; the body is the name of the backend.
pub(crate) fn status(code: u16) -> Reply {
    then(Then::Respond(code, Vec::new(), None))
}

pub(crate) fn hang() -> Reply {
    then(Then::Hang)
}

pub(crate) fn panics() -> Reply {
    then(Then::Panic)
}

pub(crate) fn panics_in_call() -> Reply {
    then(Then::PanicInCall)
}

pub(crate) fn fail(text: &'static str) -> Reply {
    then(Then::Fail(Arc::new(move || text.into())))
}

pub(crate) fn io(kind: std::io::ErrorKind) -> Reply {
    then(Then::Fail(Arc::new(move || std::io::Error::from(kind).into())))
}

pub(crate) fn kind(kind: tower_fleet::outcome::FailureKind) -> Reply {
    then(Then::Fail(Arc::new(move || tower_fleet::outcome::Failure::new(kind).into())))
}

impl Reply {
    pub(crate) fn after(mut self, millis: u64) -> Self {
        self.after = millis;
        self
    }

    /// Does not read the request's body.
    pub(crate) fn deaf(mut self) -> Self {
        self.deaf = true;
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        if let Then::Respond(_, headers, _) = &mut self.then {
            headers.push((name, value));
        }
        self
    }

    pub(crate) fn body(mut self, pieces: Vec<Piece>) -> Self {
        if let Then::Respond(_, _, body) = &mut self.then {
            *body = Some(pieces);
        }
        self
    }
}

/// A request as a backend saw it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) extensions: Extensions,
}

/// The other end of all clones of one mock.
pub(crate) struct Remote {
    pub(crate) name: &'static str,
    script: Mutex<VecDeque<Reply>>,
    usual: Mutex<Reply>,
    seen: Mutex<Vec<Seen>>,
    bodies: Mutex<Vec<Read>>,
    running: AtomicUsize,
    cut_off: AtomicUsize,
    ready_at: Mutex<Option<Instant>>,
    panics_when_asked: AtomicBool,
    never_ready: AtomicBool,
}

impl Remote {
    /// What it does next, each once.
    pub(crate) fn then(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script.lock().unwrap().extend(replies);
    }

    /// What it does from now on.
    pub(crate) fn usually(&self, reply: Reply) {
        *self.usual.lock().unwrap() = reply;
    }

    /// It is not ready before that.
    pub(crate) fn ready_after(&self, millis: u64) {
        *self.ready_at.lock().unwrap() = Some(Instant::now() + Duration::from_millis(millis));
    }

    pub(crate) fn panic_when_asked(&self) {
        self.panics_when_asked.store(true, Ordering::SeqCst);
    }

    /// It will never be ready, and says so.
    pub(crate) fn close(&self) {
        self.never_ready.store(true, Ordering::SeqCst);
    }

    pub(crate) fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Calls that are neither done nor dropped.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// Calls that were dropped before they were done.
    pub(crate) fn cut_off(&self) -> usize {
        self.cut_off.load(Ordering::SeqCst)
    }

    pub(crate) fn seen<T>(&self, look: impl Fn(&Seen) -> T) -> Vec<T> {
        self.seen.lock().unwrap().iter().map(look).collect()
    }

    /// The request bodies that were read to their end, good or bad.
    pub(crate) fn bodies(&self) -> Vec<Read> {
        self.bodies.lock().unwrap().clone()
    }

    /// When it was called, in milliseconds since.
    pub(crate) fn times(&self, since: Instant) -> Vec<u128> {
        self.seen(|seen| (seen.at - since).as_millis())
    }
}

struct Running(Arc<Remote>, bool);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        self.0.cut_off.fetch_add(usize::from(!self.1), Ordering::SeqCst);
    }
}

pub(crate) struct Mock {
    remote: Arc<Remote>,
    ready: bool,
    wait: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Clone for Mock {
    fn clone(&self) -> Self {
        Self { remote: Arc::clone(&self.remote), ready: false, wait: None }
    }
}

impl Service<Request<ReplayBody<Body>>> for Mock {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = LocalBoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        assert!(!self.remote.panics_when_asked.load(Ordering::SeqCst), "scripted");
        if self.remote.never_ready.load(Ordering::SeqCst) {
            return Poll::Ready(Err("closed for good".into()));
        }
        let ready_at = *self.remote.ready_at.lock().unwrap();
        if let Some(at) = ready_at.filter(|at| *at > Instant::now()) {
            let wait = self.wait.insert(Box::pin(tokio::time::sleep_until(at)));
            ready!(wait.as_mut().poll(cx));
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReplayBody<Body>>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "{} was called unready", self.remote.name);
        let remote = Arc::clone(&self.remote);
        let (head, sent) = request.into_parts();
        let seen = Seen {
            at: Instant::now(),
            method: head.method,
            uri: head.uri,
            headers: head.headers,
            extensions: head.extensions,
        };
        remote.seen.lock().unwrap().push(seen);
        let next = remote.script.lock().unwrap().pop_front();
        let Reply { after, deaf, then } = next.unwrap_or_else(|| remote.usual.lock().unwrap().clone());
        assert!(!matches!(then, Then::PanicInCall), "scripted");
        remote.running.fetch_add(1, Ordering::SeqCst);
        let running = Running(Arc::clone(&remote), false);
        Box::pin(async move {
            // Whole, or only its flag would go along.
            let mut running = running;
            let answer = async {
                if !deaf {
                    let read = sent.collect().await;
                    let read = read.map(|whole| {
                        let trailers = whole.trailers().cloned();
                        (whole.to_bytes().to_vec(), trailers)
                    });
                    remote.bodies.lock().unwrap().push(read.map_err(|error| error.to_string()));
                }
                if after > 0 {
                    tokio::time::sleep(Duration::from_millis(after)).await;
                }
                match then {
                    Then::Respond(code, headers, pieces) => {
                        let content = pieces.map_or_else(|| full(remote.name), body);
                        let mut response = Response::builder().status(code).body(content).unwrap();
                        for (name, value) in headers {
                            response.headers_mut().append(name, value.parse().unwrap());
                        }
                        Ok(response)
                    }
                    Then::Fail(error) => Err(error()),
                    Then::Hang => std::future::pending().await,
                    Then::Panic | Then::PanicInCall => panic!("scripted"),
                }
            }
            .await;
            running.1 = true;
            answer
        })
    }
}

/// A backend that answers 200.
pub(crate) fn mock(name: &'static str) -> (Mock, Arc<Remote>) {
    let remote = Arc::new(Remote {
        name,
        script: Mutex::default(),
        usual: Mutex::new(status(200)),
        seen: Mutex::default(),
        bodies: Mutex::default(),
        running: AtomicUsize::new(0),
        cut_off: AtomicUsize::new(0),
        ready_at: Mutex::default(),
        panics_when_asked: AtomicBool::new(false),
        never_ready: AtomicBool::new(false),
    });
    (Mock { remote: Arc::clone(&remote), ready: false, wait: None }, remote)
}

/// A fleet of so many, in tiers of their own: a goes first.
pub(crate) fn fleet<const N: usize>() -> (Fleet<Mock>, [Arc<Remote>; N]) {
    fleet_with(HttpClassifier::new())
}

/// The same with a classifier of its own.
pub(crate) fn fleet_with<C, const N: usize>(classifier: C) -> (Fleet<Mock, C>, [Arc<Remote>; N])
where
    C: Clone + Send + Sync + 'static,
{
    let mut builder = Fleet::builder().name("apis").classify(classifier);
    let remotes = std::array::from_fn(|index| {
        let (_, remote) = mock(["a", "b", "c", "d"][index]);
        remote
    });
    for (remote, priority) in remotes.iter().zip((0..10).rev()) {
        builder = builder.backend(backend(remote).priority(priority));
    }
    (builder.build().unwrap(), remotes)
}

pub(crate) fn backend(remote: &Arc<Remote>) -> Backend<Mock> {
    Backend::new(remote.name, Mock { remote: Arc::clone(remote), ready: false, wait: None })
}

pub(crate) fn get() -> Request<Body> {
    Request::new(full(""))
}

pub(crate) fn post(content: Body) -> Request<Body> {
    Request::post("/v1/things?q=1").body(content).unwrap()
}

/// One request through a door of its own.
pub(crate) async fn ask<S, C, H, B>(
    failover: &FailoverBuilder<H>,
    fleet: &Fleet<S, C>,
    request: Request<Body>,
) -> Answer<B>
where
    H: Clone,
    B: http_body::Body,
    FailoverLayer<H>: Layer<Fleet<S, C>>,
    <FailoverLayer<H> as Layer<Fleet<S, C>>>::Service:
        Service<Request<Body>, Response = Response<PeekedBody<B>>, Error = Error>,
{
    failover.clone().build().unwrap().layer(fleet.clone()).oneshot(request).await
}

/// The status and the body.
pub(crate) async fn told(answer: Answer) -> (u16, String) {
    let response = answer.unwrap();
    let code = response.status().as_u16();
    (code, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

pub(crate) fn ledger<B: http_body::Body>(answer: &Answer<B>) -> Ledger {
    match answer {
        Ok(response) => response.extensions().get::<Ledger>().expect("every response has a ledger").clone(),
        Err(error) => error.ledger().clone(),
    }
}

/// The ledger in short: `a:tripped(status) b:served`.
pub(crate) fn story<B: http_body::Body>(answer: &Answer<B>) -> String {
    let ledger = ledger(answer);
    let lines = ledger.attempts().iter().map(|attempt| {
        let ending = match attempt.ending {
            Ending::Tripped { trigger, outcome, .. } => format!("{trigger}({outcome})"),
            Ending::Served => "served".into(),
            Ending::Dropped => "dropped".into(),
            Ending::NotReady { .. } => "not ready".into(),
            _ => "?".into(),
        };
        format!("{}:{ending}", attempt.backend)
    });
    lines.collect::<Vec<_>>().join(" ")
}

/// Nobody counts as in flight.
pub(crate) fn assert_idle<S, C>(fleet: &Fleet<S, C>)
where
    S: Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    for backend in fleet.snapshot() {
        assert_eq!(backend.in_flight, 0, "{}", backend.name);
    }
}

/// Only the call of this answer counts as in flight: the end of its body is still to come.
pub(crate) fn assert_only_in_flight<S, C, B>(answer: &Answer<B>, fleet: &Fleet<S, C>)
where
    S: Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
    B: http_body::Body,
{
    let ledger = ledger(answer);
    let served = ledger.served().filter(|_| answer.is_ok());
    for backend in fleet.snapshot() {
        assert_eq!(backend.in_flight, usize::from(served == Some(&backend.name)), "{}", backend.name);
    }
}

pub(crate) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// As long as that in virtual time; timers round up to a millisecond.
pub(crate) fn assert_took(since: Instant, count: u64) {
    let took = since.elapsed().as_millis() as u64;
    assert!((count..=count + 5).contains(&took), "{took} ms, not {count}");
}
