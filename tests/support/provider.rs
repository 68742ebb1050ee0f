//! A provider of language models that plays faults. It speaks chat completions, streamed and whole, over HTTP/1.1 and
//! HTTP/2 on the loopback, and records what it was asked.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{HeaderMap, Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

/// What a provider does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Play {
    /// The whole answer, or the rest of it where the last message is the assistant's and begins it.
    Answer,
    /// An error with a status, as a whole.
    Refuse(Refusal),
    /// The answer, but an error for a request whose last message is the assistant's.
    RefuseContinuation,
    /// The connection is reset when the request has been read.
    Reset,
    /// The request is read, and nothing follows.
    Silence,
    /// A head, a chunk with the role only, and comments, for so long; then the answer.
    Pings(Duration),
    /// The connection is reset after two thirds of the answer.
    Cut,
    /// Nothing follows after two thirds of the answer. The connection stays open.
    Stall,
    /// Broken JSON after a third of the answer, then the rest of it.
    Malformed,
    /// Broken JSON in place of the first token, then the rest of the answer.
    MalformedFirst,
    /// A clean end after two thirds of the answer, without an end marker.
    NoEnd,
    /// An answer of its own: so many tokens of so many bytes, then a wait, then the end.
    Long { tokens: usize, bytes: usize, wait: Duration },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) code: &'static str,
    pub(crate) message: &'static str,
    pub(crate) retry_after: Option<&'static str>,
}

impl Play {
    pub(crate) const fn busy(retry_after: Option<&'static str>) -> Self {
        let (code, message) = ("rate_limit_exceeded", "Rate limit reached for requests");
        Self::Refuse(Refusal { status: 429, kind: "requests", code, message, retry_after })
    }

    pub(crate) const fn error(status: u16) -> Self {
        let (code, message) = ("internal_error", "The server had an error while processing your request");
        Self::Refuse(Refusal { status, kind: "server_error", code, message, retry_after: None })
    }

    pub(crate) const TOO_LONG: Self = Self::Refuse(Refusal {
        status: 400,
        kind: "invalid_request_error",
        code: "context_length_exceeded",
        message: "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
        retry_after: None,
    });

    pub(crate) const FILTERED: Self = Self::Refuse(Refusal {
        status: 400,
        kind: "invalid_request_error",
        code: "content_filter",
        message: "The response was filtered due to the prompt triggering the content management policy.",
        retry_after: None,
    });

    pub(crate) const WRONG_KEY: Self = Self::Refuse(Refusal {
        status: 401,
        kind: "invalid_request_error",
        code: "invalid_api_key",
        message: "Incorrect API key provided.",
        retry_after: None,
    });

    const NO_CONTINUATION: Refusal = Refusal {
        status: 400,
        kind: "invalid_request_error",
        code: "invalid_value",
        message: "The last message must be the user's.",
        retry_after: None,
    };
}

/// A request, as a provider got it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    /// The number of requests before this one.
    pub(crate) number: usize,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    ended: Arc<AtomicU8>,
}

const CANCELLED: u8 = 1;
const DONE: u8 = 2;

impl Asked {
    pub(crate) fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }

    pub(crate) fn is_streaming(&self) -> bool {
        self.body["stream"] == true
    }

    /// What the answer is to go on from.
    pub(crate) fn prefix(&self) -> Option<&str> {
        let last = self.body["messages"].as_array()?.last()?;
        last["content"].as_str().filter(|_| last["role"] == "assistant")
    }

    /// Whether the client went away before the answer was over.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.ended.load(SeqCst) == CANCELLED
    }

    pub(crate) fn is_done(&self) -> bool {
        self.ended.load(SeqCst) == DONE
    }
}

/// Dropped before its answer is over, it notes that the client went away.
struct Running(Arc<AtomicU8>);

impl Running {
    fn done(self) {
        self.0.store(DONE, SeqCst);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.compare_exchange(0, CANCELLED, SeqCst, SeqCst);
    }
}

/// The tokens of every answer.
const TOKENS: usize = 30;

/// Between two tokens.
const PACE: Duration = Duration::from_millis(2);

/// What was written is to arrive before a reset, which would overtake it.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

/// Every answer, whole.
pub(crate) fn answer() -> String {
    (0..TOKENS).map(token).collect()
}

fn token(number: usize) -> String {
    format!("tok{number} \"é\n\" ")
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

type Script = dyn Fn(&Asked) -> Play + Send + Sync;

struct Stage {
    name: String,
    tokens: u16,
    script: Box<Script>,
    seen: Mutex<Vec<(Asked, Play)>>,
    /// Requests other than completions.
    others: Mutex<Vec<(Instant, String)>>,
}

/// A provider at work.
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    stage: Arc<Stage>,
    running: Mutex<Option<JoinHandle<()>>>,
}

impl Provider {
    /// The script decides what each request gets.
    pub(crate) async fn start(name: &str, script: impl Fn(&Asked) -> Play + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stage = Stage {
            name: name.to_owned(),
            tokens: address.port(),
            script: Box::new(script),
            seen: Mutex::default(),
            others: Mutex::default(),
        };
        let provider = Self { name: name.to_owned(), address, stage: Arc::new(stage), running: Mutex::default() };
        provider.run(listener);
        provider
    }

    /// The requests for completions so far, with what was played.
    pub(crate) fn seen(&self) -> Vec<(Asked, Play)> {
        self.stage.seen.lock().unwrap().clone()
    }

    /// When other requests came, and their paths.
    pub(crate) fn others(&self) -> Vec<(Instant, String)> {
        self.stage.others.lock().unwrap().clone()
    }

    /// What its answers say was used: no other provider of the process says the same.
    pub(crate) fn prompt_tokens(&self) -> u16 {
        self.stage.tokens
    }

    /// Refuses connections from now on, and drops those that there are.
    pub(crate) async fn down(&self) {
        let running = self.running.lock().unwrap().take().expect("it runs");
        running.abort();
        let _ = running.await;
    }

    /// Is back at the same port.
    pub(crate) fn up(&self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.run(socket.listen(1_024).unwrap());
    }

    fn run(&self, listener: TcpListener) {
        let stage = Arc::clone(&self.stage);
        *self.running.lock().unwrap() = Some(tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                open.spawn(serve(socket, Arc::clone(&stage)));
                while open.try_join_next().is_some() {}
            }
        }));
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if let Some(running) = self.running.lock().unwrap().take() {
            running.abort();
        }
    }
}

async fn serve(socket: TcpStream, stage: Arc<Stage>) {
    let _ = socket.set_nodelay(true);
    let reset = Arc::<AtomicBool>::default();
    let service = service_fn({
        let reset = Arc::clone(&reset);
        move |request| answer_to(request, Arc::clone(&stage), Arc::clone(&reset))
    });
    let line = Line { socket, reset };
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http2().max_concurrent_streams(2_000);
    let _ = http.serve_connection(TokioIo::new(line), service).await;
}

async fn answer_to(
    request: Request<Incoming>,
    stage: Arc<Stage>,
    reset: Arc<AtomicBool>,
) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST || !parts.uri.path().ends_with("/chat/completions") {
        stage.others.lock().unwrap().push((Instant::now(), parts.uri.path().to_owned()));
        return Ok(json_response(200, &json!({ "object": "list", "data": [] })));
    }
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let ended = Arc::<AtomicU8>::default();
    let (asked, play) = {
        let mut seen = stage.seen.lock().unwrap();
        let (at, number, ended) = (Instant::now(), seen.len(), Arc::clone(&ended));
        let asked = Asked { at, number, headers: parts.headers, body, ended };
        let play = (stage.script)(&asked);
        seen.push((asked.clone(), play));
        (asked, play)
    };
    let running = Running(ended);
    match play {
        Play::Refuse(refusal) => {
            running.done();
            Ok(refused(refusal))
        }
        Play::RefuseContinuation if asked.prefix().is_some() => {
            running.done();
            Ok(refused(Play::NO_CONTINUATION))
        }
        Play::Reset => {
            reset.store(true, SeqCst);
            running.done();
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Play::Silence => std::future::pending().await,
        _ => {
            let reply =
                Reply { id: format!("chatcmpl-{}-{}", stage.name, asked.number), tokens: stage.tokens, asked, reset };
            let response = Response::builder().header("x-provider", &stage.name);
            let (response, parts) = if reply.asked.is_streaming() {
                (response.header("content-type", "text/event-stream"), reply.events(play))
            } else {
                let text = reply.whole().to_string();
                let response = response.header("content-type", "application/json").header("content-length", text.len());
                (response, reply.pieces(play, &text))
            };
            Ok(response.body(StreamBody::new(paced(parts, running)).boxed_unsync()).unwrap())
        }
    }
}

/// A part of an answer.
enum Part {
    Data(String),
    Wait(Duration),
    /// Sets that the connection is reset, not closed.
    Reset(Arc<AtomicBool>),
    Stall,
}

struct Reply {
    id: String,
    tokens: u16,
    asked: Asked,
    reset: Arc<AtomicBool>,
}

impl Reply {
    /// What is still to be said.
    fn texts(&self) -> Vec<String> {
        let prefix = self.asked.prefix().unwrap_or_default();
        match answer().strip_prefix(prefix) {
            Some(rest) if !prefix.is_empty() => rest.split_inclusive(' ').map(str::to_owned).collect(),
            _ => (0..TOKENS).map(token).collect(),
        }
    }

    fn usage(&self, completion: usize) -> Value {
        let prompt = usize::from(self.tokens);
        json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion })
    }

    fn chunk(&self, choices: Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": 1, "model": self.asked.model(),
            "choices": choices,
        })
    }

    fn delta(&self, delta: Value, finish: Option<&str>) -> Part {
        event(&self.chunk(json!([{ "index": 0, "delta": delta, "finish_reason": finish }])))
    }

    fn events(&self, play: Play) -> Vec<Part> {
        let texts = match play {
            Play::Long { tokens, bytes, .. } => vec!["t".repeat(bytes); tokens],
            _ => self.texts(),
        };
        let cut = match play {
            Play::Cut | Play::Stall | Play::NoEnd => texts.len() * 2 / 3,
            _ => texts.len(),
        };
        let broken = match play {
            Play::Malformed => Some(texts.len() / 3),
            Play::MalformedFirst => Some(0),
            _ => None,
        };
        let mut parts = vec![self.delta(json!({ "role": "assistant", "content": "" }), None)];
        if let Play::Pings(time) = play {
            const EACH: Duration = Duration::from_millis(100);
            let pings = time.as_millis().div_ceil(EACH.as_millis());
            parts.extend((0..pings).flat_map(|_| [Part::Data(": ping\n\n".to_owned()), Part::Wait(EACH)]));
        }
        for (index, text) in texts[..cut].iter().enumerate() {
            if broken == Some(index) {
                parts.push(Part::Data("data: {\"choices\": [{\"delta\": {\"content\": \"br\n\n".to_owned()));
            } else {
                parts.push(self.delta(json!({ "content": text }), None));
            }
        }
        match play {
            Play::Cut => {
                // In the middle of an event.
                parts.push(Part::Data("data: {\"choices\": [{\"de".to_owned()));
                parts.extend([Part::Wait(ON_ITS_WAY), Part::Reset(Arc::clone(&self.reset))]);
            }
            Play::Stall => parts.push(Part::Stall),
            Play::NoEnd => {}
            _ => {
                if let Play::Long { wait, .. } = play {
                    parts.push(Part::Wait(wait));
                }
                parts.push(self.delta(json!({}), Some("stop")));
                if self.asked.body["stream_options"]["include_usage"] == true {
                    let mut chunk = self.chunk(json!([]));
                    chunk["usage"] = self.usage(texts.len());
                    parts.push(event(&chunk));
                }
                parts.push(Part::Data("data: [DONE]\n\n".to_owned()));
            }
        }
        parts
    }

    fn whole(&self) -> Value {
        let text = self.texts().concat();
        let message = json!({ "role": "assistant", "content": text });
        json!({
            "id": self.id, "object": "chat.completion", "created": 1, "model": self.asked.model(),
            "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }],
            "usage": self.usage(TOKENS),
        })
    }

    /// The answer as one document, in three pieces.
    fn pieces(&self, play: Play, text: &str) -> Vec<Part> {
        let third = text.len() / 3;
        let third = (third..).find(|at| text.is_char_boundary(*at) && text.is_char_boundary(2 * at)).unwrap();
        let (begin, end) = text.split_at(2 * third);
        let mut parts: Vec<_> = [&begin[..third], &begin[third..]].map(|piece| Part::Data(piece.to_owned())).into();
        match play {
            Play::Cut | Play::NoEnd => {
                parts.extend([Part::Wait(ON_ITS_WAY), Part::Reset(Arc::clone(&self.reset))]);
            }
            Play::Stall => parts.push(Part::Stall),
            _ => parts.push(Part::Data(end.to_owned())),
        }
        if let Play::Pings(time) = play {
            parts.insert(0, Part::Wait(time));
        }
        parts
    }
}

fn event(chunk: &Value) -> Part {
    Part::Data(format!("data: {chunk}\n\n"))
}

/// The parts as frames, one after the other.
fn paced(parts: Vec<Part>, running: Running) -> impl Stream<Item = io::Result<Frame<Bytes>>> + Send {
    let frames = stream::unfold((parts.into_iter(), Some(running)), |(mut parts, mut running)| async move {
        loop {
            match parts.next() {
                Some(Part::Data(text)) => {
                    sleep(PACE).await;
                    // The end of a body of a known length is not asked for.
                    if parts.len() == 0 {
                        running.take().into_iter().for_each(Running::done);
                    }
                    return Some((Ok(Frame::data(Bytes::from(text))), (parts, running)));
                }
                Some(Part::Wait(time)) => sleep(time).await,
                Some(Part::Stall) => std::future::pending().await,
                Some(Part::Reset(reset)) => {
                    reset.store(true, SeqCst);
                    running.take().into_iter().for_each(Running::done);
                    return Some((Err(io::ErrorKind::ConnectionReset.into()), (Vec::new().into_iter(), None)));
                }
                None => {
                    running.take().into_iter().for_each(Running::done);
                    return None;
                }
            }
        }
    });
    frames.boxed()
}

fn refused(refusal: Refusal) -> Response<Body> {
    let Refusal { status, kind, code, message, retry_after } = refusal;
    let error = json!({ "message": message, "type": kind, "param": null, "code": code });
    let mut response = json_response(status, &json!({ "error": error }));
    if let Some(wait) = retry_after {
        response.headers_mut().insert("retry-after", wait.parse().unwrap());
    }
    response
}

fn json_response(status: u16, body: &Value) -> Response<Body> {
    let never = |never: Infallible| match never {};
    let body = Full::from(body.to_string()).map_err(never).boxed_unsync();
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

/// A connection that is reset when it is dropped, where that was set.
struct Line {
    socket: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.reset.load(SeqCst) {
            let _ = self.socket.set_zero_linger();
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A half-closed connection would look like a clean end.
        if self.reset.load(SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
