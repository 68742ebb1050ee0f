//! Scripted backends whose bodies break off.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Request, Response, header::RANGE, request::Parts};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tower::{BoxError, util::BoxCloneSyncService};
use tower_fleet::{Backend, Failover, FailoverLayer, Fleet, ReplayBody, resume};
use tower_layer::Layer;

pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;
pub(crate) type Sent = ReplayBody<resume::RequestBody<Full<Bytes>>>;
pub(crate) type Client = BoxCloneSyncService<Request<Sent>, Response<Body>, BoxError>;
pub(crate) type Joined = resume::ResponseBody<tower_fleet::failover::ResponseBody<Body>>;

/// A part of a body.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Data(Bytes),
    Trailer(&'static str, &'static str),
    Wait(u64),
    Error(&'static str),
}

pub(crate) fn data(text: impl AsRef<[u8]>) -> Piece {
    Piece::Data(Bytes::copy_from_slice(text.as_ref()))
}

/// A response, and the time until its head.
pub(crate) struct Reply(pub(crate) Response<Vec<Piece>>, pub(crate) Duration);

pub(crate) fn reply(status: u16, headers: &[(&str, &str)], pieces: Vec<Piece>) -> Reply {
    let mut response = Response::builder().status(status).body(pieces).unwrap();
    for (name, value) in headers {
        response.headers_mut().append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    Reply(response, Duration::ZERO)
}

impl Reply {
    pub(crate) fn after(self, millis: u64) -> Self {
        Self(self.0, Duration::from_millis(millis))
    }
}

/// A backend that does what it is told, each once; then it answers 503.
pub(crate) struct Replica {
    pub(crate) name: &'static str,
    script: Mutex<VecDeque<Reply>>,
    seen: Mutex<Vec<(Parts, Bytes)>>,
    running: AtomicUsize,
}

struct Running(Arc<Replica>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Replica {
    pub(crate) fn then(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script.lock().unwrap().extend(replies);
    }

    pub(crate) fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Calls whose response, and its body, are not dropped.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    pub(crate) fn headers(&self, call: usize) -> HeaderMap {
        self.seen.lock().unwrap()[call].0.headers.clone()
    }

    #[cfg_attr(not(feature = "json"), allow(dead_code, reason = "only chats have a body"))]
    pub(crate) fn body(&self, call: usize) -> Bytes {
        self.seen.lock().unwrap()[call].1.clone()
    }

    /// The ranges that were requested.
    pub(crate) fn ranges(&self) -> Vec<String> {
        let range =
            |(head, _): &(Parts, Bytes)| head.headers.get(RANGE).map_or("", |range| range.to_str().unwrap()).into();
        self.seen.lock().unwrap().iter().map(range).collect()
    }

    pub(crate) fn client(self: &Arc<Self>) -> Client {
        let replica = Arc::clone(self);
        BoxCloneSyncService::new(tower::service_fn(move |request: Request<Sent>| {
            let replica = Arc::clone(&replica);
            replica.running.fetch_add(1, Ordering::SeqCst);
            let running = Running(Arc::clone(&replica));
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                replica.seen.lock().unwrap().push((head, body));
                let next = replica.script.lock().unwrap().pop_front();
                let Reply(response, after) = next.unwrap_or_else(|| reply(503, &[], vec![]));
                tokio::time::sleep(after).await;
                Ok(response.map(|pieces| body_of(pieces, running)))
            }
        }))
    }
}

fn body_of(pieces: Vec<Piece>, running: Running) -> Body {
    let frames = stream::unfold((VecDeque::from(pieces), running), |(mut pieces, running)| async move {
        loop {
            let item = match pieces.pop_front()? {
                Piece::Data(data) => Ok(Frame::data(data)),
                Piece::Trailer(name, value) => {
                    Ok(Frame::trailers(HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])))
                }
                Piece::Wait(millis) => {
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                    continue;
                }
                Piece::Error(text) => Err(BoxError::from(text)),
            };
            return Some((item, (pieces, running)));
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// A fleet of so many replicas, in tiers of their own: a first.
pub(crate) fn fleet<const N: usize>() -> (Fleet<Client>, [Arc<Replica>; N]) {
    let mut builder = Fleet::builder().name("store");
    let replicas = std::array::from_fn(|index| {
        let name = ["a", "b", "c", "d"][index];
        let (script, seen, running) = Default::default();
        Arc::new(Replica { name, script, seen, running })
    });
    for (replica, priority) in replicas.iter().zip((0..10).rev()) {
        builder = builder.backend(Backend::new(replica.name, replica.client()).priority(priority));
    }
    (builder.build().unwrap(), replicas)
}

pub(crate) fn door(fleet: &Fleet<Client>) -> Failover<Client> {
    FailoverLayer::new().layer(fleet.clone())
}

/// What a caller gets: all data, the trailers and the error.
pub(crate) async fn read(mut body: Joined) -> (String, Option<HeaderMap>, Option<String>, Joined) {
    let (mut text, mut trailers) = (Vec::new(), None);
    loop {
        match body.frame().await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => text.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
            Some(Err(error)) => {
                assert!(body.frame().await.is_none(), "a body ends with its error");
                return (String::from_utf8(text).unwrap(), trailers, Some(root(&*error)), body);
            }
            None => return (String::from_utf8(text).unwrap(), trailers, None, body),
        }
    }
}

/// The text of the innermost cause.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().unwrap().to_string()
}

/// The ledger in short: `a:cut(5) b:served`.
pub(crate) fn story(body: &Joined) -> String {
    use tower_fleet::failover::Ending;
    let ledger = body.ledger().expect("a body that is followed has a ledger");
    let lines = ledger.attempts().iter().map(|attempt| {
        let ending = match attempt.ending {
            Ending::Cut { after, .. } => format!("cut({after})"),
            Ending::NotJoined { reason, .. } => format!("not joined({reason})"),
            Ending::Tripped { outcome, .. } => format!("{outcome}"),
            Ending::Served => "served".into(),
            ending => format!("{ending:?}"),
        };
        format!("{}:{ending}", attempt.backend)
    });
    lines.collect::<Vec<_>>().join(" ")
}
