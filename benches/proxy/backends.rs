//! Three backends in a process of their own, which misbehave when they are told to.
//!
//! Each line on stdin is a command: `kill 1`, `restart 1`, `status 1 503`, `slow 1 200ms`, `hang 1`, `cut 1`, `good 1`.

use std::{cell::Cell, convert::Infallible, io::BufRead, net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::{
    Request, Response, StatusCode, body::Frame, body::Incoming, header::CONTENT_LENGTH, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{JoinHandle, JoinSet, LocalSet},
};

use crate::child::Child;

/// The ports of the backends, and the way to tell them what to do.
pub(crate) struct Backends {
    child: Child,
    pub(crate) ports: Vec<u16>,
}

impl Backends {
    pub(crate) fn start() -> Self {
        let ports = crate::child::free_ports(3);
        let words = ports.iter().map(u16::to_string);
        let mut child = Child::again("backends", words);
        child.line();
        Self { child, ports }
    }

    pub(crate) fn assert_alive(&mut self) {
        self.child.assert_alive();
    }

    pub(crate) fn tell(&mut self, command: &str) {
        self.child.tell(command);
    }
}

/// The answer to a request: both ends name the backend and the middle the request, so that neither a mix of two
/// answers nor a cut one passes for whole.
pub(crate) fn answer(name: &str, path: &str, sent: &[u8]) -> Bytes {
    const SHORTEST: usize = 200;
    let mut text = Vec::with_capacity(SHORTEST.max(sent.len() + 64));
    text.extend_from_slice(name.as_bytes());
    text.push(b' ');
    text.extend_from_slice(path.as_bytes());
    text.push(b' ');
    text.extend_from_slice(sent);
    while text.len() + 1 + name.len() < SHORTEST {
        text.push(b'.');
    }
    text.push(b' ');
    text.extend_from_slice(name.as_bytes());
    text.into()
}

/// What a backend does with a request.
#[derive(Clone, Copy)]
enum Mood {
    Good,
    Status(StatusCode),
    Slow(Duration),
    Hang,
    /// Half of the answer, then a reset.
    Cut,
}

struct Backend {
    name: &'static str,
    port: u16,
    mood: Rc<Cell<Mood>>,
    /// None while it is killed.
    serving: Option<JoinHandle<()>>,
}

/// The process: serves until its stdin ends.
pub(crate) fn run(ports: &[u16]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (commands, mut told) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let _ = commands.send(line);
        }
    });
    LocalSet::new().block_on(&runtime, async {
        let mut backends = Vec::new();
        for (name, &port) in ["b1", "b2", "b3"].into_iter().zip(ports) {
            let mut backend = Backend { name, port, mood: Rc::new(Cell::new(Mood::Good)), serving: None };
            backend.start().await;
            backends.push(backend);
        }
        println!("ready");
        while let Some(line) = told.recv().await {
            obey(&mut backends, &line).await;
        }
    });
}

async fn obey(backends: &mut [Backend], line: &str) {
    let words = line.split_whitespace().collect::<Vec<_>>();
    let whom = words.get(1).and_then(|number| number.parse::<usize>().ok()).unwrap_or(0);
    let Some(backend) = whom.checked_sub(1).and_then(|index| backends.get_mut(index)) else {
        panic!("nobody is meant by `{line}`");
    };
    let mood = match (words[0], words.get(2)) {
        // Dropping the connections resets them, see `serve`.
        ("kill", None) => return backend.serving.take().into_iter().for_each(|serving| serving.abort()),
        ("restart", None) => return backend.start().await,
        ("good", None) => Mood::Good,
        ("hang", None) => Mood::Hang,
        ("cut", None) => Mood::Cut,
        ("status", Some(code)) => Mood::Status(code.parse().expect("a status")),
        ("slow", Some(time)) => Mood::Slow(milliseconds(time)),
        _ => panic!("unknown command `{line}`"),
    };
    backend.mood.set(mood);
}

fn milliseconds(text: &str) -> Duration {
    Duration::from_millis(text.trim_end_matches("ms").parse().expect("milliseconds"))
}

impl Backend {
    async fn start(&mut self) {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let listener = TcpListener::bind(address).await.expect("the port of a backend is free");
        self.serving = Some(tokio::task::spawn_local(serve(listener, self.name, Rc::clone(&self.mood))));
    }
}

async fn serve(listener: TcpListener, name: &'static str, mood: Rc<Cell<Mood>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn_local(connection(stream, name, Rc::clone(&mood)));
    }
}

async fn connection(stream: TcpStream, name: &'static str, mood: Rc<Cell<Mood>>) {
    // A killed process leaves resets behind, not polite ends.
    let _ = stream.set_zero_linger();
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| respond(request, name, mood.get()));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// The second kind of body ends in an error, upon which the connection is reset.
type Body = Either<Full<Bytes>, StreamBody<stream::BoxStream<'static, Result<Frame<Bytes>, &'static str>>>>;

async fn respond(request: Request<Incoming>, name: &str, mood: Mood) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let sent = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let text = answer(name, &path, &sent);
    match mood {
        Mood::Good | Mood::Cut => {}
        Mood::Status(status) => {
            let mut response = Response::new(Either::Left(Full::from("told to fail")));
            *response.status_mut() = status;
            return Ok(response);
        }
        Mood::Slow(time) => tokio::time::sleep(time).await,
        Mood::Hang => std::future::pending().await,
    }
    if !matches!(mood, Mood::Cut) {
        return Ok(Response::new(Either::Left(Full::new(text))));
    }
    let (length, half) = (text.len(), text.slice(..text.len() / 2));
    let cut = stream::once(async {
        // Long enough for the first half to be flushed.
        tokio::time::sleep(Duration::from_millis(1)).await;
        Err("told to stop")
    });
    let body = stream::once(async { Ok(Frame::data(half)) }).chain(cut).boxed();
    let mut response = Response::new(Either::Right(StreamBody::new(body)));
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    Ok(response)
}
