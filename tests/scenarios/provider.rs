//! Providers that follow a script, and how to ask them.

use std::{
    collections::VecDeque,
    fmt::Debug,
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::time::Instant;
use tower::{BoxError, Service, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_fleet::Backend;

pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;
/// What a real one would be too: any HTTP client as a service, in a box.
pub(crate) type Client<B> = BoxCloneSyncService<Request<B>, Response<Body>, BoxError>;

/// An API somewhere. It does once per request what its script says next, then what it usually does: it answers.
#[derive(Clone)]
pub(crate) struct Provider {
    name: &'static str,
    script: Arc<Mutex<Script>>,
}

struct Script {
    next: VecDeque<Reply>,
    usual: Reply,
    asked_at: Vec<Instant>,
    cancelled: usize,
}

/// What a provider does with one request.
#[derive(Clone)]
pub(crate) struct Reply {
    after: Duration,
    then: Then,
}

#[derive(Clone)]
enum Then {
    Respond { status: u16, headers: Vec<(&'static str, &'static str)>, body: Option<Vec<Part>> },
    Break(io::ErrorKind),
    Hang,
}

/// A part of a body.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Text(&'static str),
    Pause(Duration),
    /// The connection is lost.
    Breaks,
    /// Nothing comes any more.
    Stalls,
}

/// Answers 200 with its name and the question.
pub(crate) fn answers() -> Reply {
    says(200)
}

/// Answers with this status.
pub(crate) fn says(status: u16) -> Reply {
    Reply { after: Duration::ZERO, then: Then::Respond { status, headers: Vec::new(), body: None } }
}

/// Has no response, but this error.
pub(crate) fn breaks(kind: io::ErrorKind) -> Reply {
    Reply { after: Duration::ZERO, then: Then::Break(kind) }
}

/// Never says anything.
pub(crate) fn hangs() -> Reply {
    Reply { after: Duration::ZERO, then: Then::Hang }
}

impl Reply {
    /// It takes so long to respond.
    pub(crate) fn after(mut self, pause: Duration) -> Self {
        self.after = pause;
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        if let Then::Respond { headers, .. } = &mut self.then {
            headers.push((name, value));
        }
        self
    }

    pub(crate) fn body(mut self, parts: impl Into<Vec<Part>>) -> Self {
        if let Then::Respond { body, .. } = &mut self.then {
            *body = Some(parts.into());
        }
        self
    }
}

impl Provider {
    pub(crate) fn new(name: &'static str) -> Self {
        let script = Script { next: VecDeque::new(), usual: answers(), asked_at: Vec::new(), cancelled: 0 };
        Self { name, script: Arc::new(Mutex::new(script)) }
    }

    /// What it does next, each once.
    pub(crate) fn next(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script().next.extend(replies);
    }

    /// What it does when its script is over.
    pub(crate) fn usually(&self, reply: Reply) {
        self.script().usual = reply;
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.script().asked_at.len()
    }

    /// The times between one request and the next.
    pub(crate) fn gaps(&self) -> Vec<Duration> {
        self.script().asked_at.windows(2).map(|two| two[1] - two[0]).collect()
    }

    /// How many of its requests were dropped before it had responded.
    pub(crate) fn cancelled(&self) -> usize {
        self.script().cancelled
    }

    /// The client that talks to it.
    pub(crate) fn client<B>(&self) -> Client<B>
    where
        B: http_body::Body<Data: Send, Error: Debug> + Send + 'static,
    {
        let provider = self.clone();
        BoxCloneSyncService::new(service_fn(move |request| provider.clone().respond(request)))
    }

    /// The same as a part of a fleet.
    pub(crate) fn backend<B>(&self) -> Backend<Client<B>>
    where
        B: http_body::Body<Data: Send, Error: Debug> + Send + 'static,
    {
        Backend::new(self.name, self.client())
    }

    async fn respond<B>(self, request: Request<B>) -> Result<Response<Body>, BoxError>
    where
        B: http_body::Body<Error: Debug>,
    {
        let Reply { after, then } = {
            let mut script = self.script();
            script.asked_at.push(Instant::now());
            script.next.pop_front().unwrap_or_else(|| script.usual.clone())
        };
        let mut work = Work { provider: self.clone(), done: false };
        let question = text(request).await;
        tokio::time::sleep(after).await;
        let response = match then {
            Then::Respond { status, headers, body } => {
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                let usual = Full::from(format!("{}: {question}", self.name)).map_err(|never| match never {});
                Ok(response.body(body.map_or_else(|| usual.boxed_unsync(), stream_of)).unwrap())
            }
            Then::Break(kind) => Err(io::Error::from(kind).into()),
            Then::Hang => std::future::pending().await,
        };
        work.done = true;
        response
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

/// A request that a provider works on; dropping it half done is seen.
struct Work {
    provider: Provider,
    done: bool,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.provider.script().cancelled += usize::from(!self.done);
    }
}

fn stream_of(parts: Vec<Part>) -> Body {
    let frames = stream::unfold(VecDeque::from(parts), |mut parts| async move {
        loop {
            let frame = match parts.pop_front()? {
                Part::Text(text) => Ok(Frame::data(Bytes::from(text))),
                Part::Breaks => Err(BoxError::from(io::Error::from(io::ErrorKind::ConnectionReset))),
                Part::Stalls => std::future::pending().await,
                Part::Pause(pause) => {
                    tokio::time::sleep(pause).await;
                    continue;
                }
            };
            return Some((frame, parts));
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// A POST with a body.
pub(crate) fn question(text: &str) -> Request<Full<Bytes>> {
    Request::post("/v1/chat").body(Full::from(text.to_owned())).unwrap()
}

/// One request through a clone of the door, as every connection of a server has one.
pub(crate) async fn ask<D, B>(door: &D, text: &str) -> Result<Response<B>, D::Error>
where
    D: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone,
{
    in_time(door.clone().oneshot(question(text))).await
}

/// The whole body, which is to end as it should.
pub(crate) async fn text(message: impl http_body::Body<Error: Debug>) -> String {
    String::from_utf8(in_time(message.collect()).await.unwrap().to_bytes().to_vec()).unwrap()
}

/// The next frame of a body; none when it has ended as it should.
pub(crate) async fn frame<B>(body: &mut B) -> Option<Result<Bytes, B::Error>>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let frame = in_time(body.frame()).await?;
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}

/// What never comes is to fail a test, not to keep it waiting.
async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(secs(24 * 60 * 60), future).await.expect("it comes within a day")
}

/// Time goes by; it is paused otherwise.
pub(crate) async fn pass(time: Duration) {
    tokio::time::advance(time).await;
}

/// Exactly so much time went by, but for timers, which round up to a millisecond.
pub(crate) fn assert_took(since: Instant, time: Duration) {
    let took = since.elapsed();
    assert!(took >= time && took <= time + millis(5), "{took:?}, not {time:?}");
}

pub(crate) const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
