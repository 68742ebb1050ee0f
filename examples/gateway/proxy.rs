//! One request, from the client to a backend and back.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{io::copy_bidirectional, sync::watch};
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_fleet::{
    Config, Failover, InvalidSetting, Ledger, Mode, ReplayBody,
    config::{Client, FileResume},
    failover::{Attempted, Ending, Error, ErrorKind, ResponseBody},
    outcome::InFlight,
    resume::{self, RequestBody, Resuming},
    upstream::json::EditedBody,
};

use crate::{
    error_format::ErrorFormat,
    headers::{self, Peer},
    log::{Log, WorkerLog},
    patience::Patience,
    problem::Problem,
    reported::Reported,
    server::Place,
    settings::Server,
    tally::Tally,
    upstream::BackendClient,
};

/// The backends: each gets requests in the shape that it needs.
pub(crate) type Fleet = tower_fleet::Fleet<Client<BackendClient>>;

type Door = Resuming<Failover<Client<BackendClient>>, FileResume>;

type FromClient = Patience<Incoming>;

/// What a backend gets.
pub(crate) type ToBackend = ReplayBody<RequestBody<FromClient>>;

/// What a client gets: a backend's response, or the gateway's own.
pub(crate) type ToClient = Either<Reported<Patience<FromBackend>, Responded>, Full<Bytes>>;

type FromBackend = resume::ResponseBody<ResponseBody<EditedBody<Incoming>>>;

/// The doors to the backends, with the settings of one version of the file.
#[derive(Clone)]
pub(crate) struct Doors {
    door: Door,
    /// A protocol is changed with one backend at a time.
    upgrades: Door,
    /// How long a path may be, so that every backend's fits before it.
    longest: usize,
}

/// The doors of one worker, which are exchanged when the file changes. Each worker has a lock of its own, so that none
/// waits for another.
pub(crate) type Current = Arc<RwLock<Doors>>;

/// Everything that answering a request takes.
#[derive(Clone)]
pub(crate) struct Proxy {
    doors: Current,
    stall: Duration,
    explain: bool,
    errors: ErrorFormat,
    ledger_header: Option<HeaderName>,
    tally: Arc<Tally>,
    log: Arc<WorkerLog>,
    /// Dropped when nothing runs any more.
    running: watch::Receiver<()>,
}

impl Doors {
    pub(crate) fn new(fleet: &Fleet, config: &Config) -> Result<Self, InvalidSetting> {
        let targets = config.backends().iter().chain(config.discovered()).filter_map(|it| it.service().target());
        let upgrades = config.failover().into_builder().mode(Mode::Sequential).build()?;
        let prefix = targets.map(|target| target.path().len()).max().unwrap_or(0);
        Ok(Self {
            longest: usize::from(u16::MAX - 1).saturating_sub(prefix),
            door: config.resume().layer(config.failover().layer(fleet.clone())),
            upgrades: config.resume().layer(upgrades.layer(fleet.clone())),
        })
    }
}

impl Proxy {
    pub(crate) fn new(doors: Doors, server: &Server, tally: Arc<Tally>, log: Arc<Log>) -> Self {
        Self {
            doors: Arc::new(RwLock::new(doors)),
            stall: server.stall,
            explain: server.explain,
            errors: server.errors,
            ledger_header: server.ledger_header.clone(),
            tally,
            log: Arc::new(WorkerLog(log)),
            running: watch::channel(()).1,
        }
    }

    /// The proxy of one worker: it shares the fleet and the order of the backends with the others, and says when
    /// nothing of its own runs any more.
    pub(crate) fn at_work(&self, running: watch::Receiver<()>) -> Self {
        let doors = self.doors.read().unwrap_or_else(PoisonError::into_inner).clone();
        let log = Arc::new(WorkerLog::clone(&self.log));
        Self { doors: Arc::new(RwLock::new(doors)), log, running, ..self.clone() }
    }

    /// Where the doors are exchanged.
    pub(crate) fn current(&self) -> Current {
        Arc::clone(&self.doors)
    }

    pub(crate) async fn answer(
        &self,
        peer: &Peer,
        place: &Arc<Place>,
        request: Request<Incoming>,
    ) -> Response<ToClient> {
        let format = self.errors.of(request.uri().path(), request.headers());
        self.try_answer(peer, place, request)
            .await
            .unwrap_or_else(|problem| problem.into_response(format).map(Either::Right))
    }

    async fn try_answer(
        &self,
        peer: &Peer,
        place: &Arc<Place>,
        request: Request<Incoming>,
    ) -> Result<Response<ToClient>, Problem> {
        // Tunnels are for proxies that clients choose, and a trace would show a client the credentials of a backend.
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "this gateway opens no tunnels and shows no traces"));
        }
        if !headers::names_one_host(&request) {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "the request names no host, or not one"));
        }
        if headers::climbs(request.uri().path()) {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "the path has segments of dots"));
        }
        let upgrade = headers::upgrade(request.headers()).filter(|_| request.version() == Version::HTTP_11);
        let (longest, door) = {
            let doors = self.doors.read().unwrap_or_else(PoisonError::into_inner);
            (doors.longest, if upgrade.is_some() { doors.upgrades.clone() } else { doors.door.clone() })
        };
        if request.uri().path_and_query().is_some_and(|path| path.as_str().len() > longest) {
            return Err(Problem::new(StatusCode::URI_TOO_LONG, "the path is too long"));
        }
        if let Some(protocol) = upgrade {
            return self.change_protocol(door, protocol, peer, place, request).await;
        }
        let response = self.ask(door, self.outbound(peer, request)).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let detail = "a backend changed the protocol without a request to do so";
            let ledger = response.extensions().get::<Ledger>().cloned().unwrap_or_default();
            self.log.line(format_args!("502: {detail}: {ledger}"));
            return Err(Problem::new(StatusCode::BAD_GATEWAY, detail));
        }
        Ok(response)
    }

    /// The request as it goes to a backend.
    fn outbound(&self, peer: &Peer, request: Request<Incoming>) -> Request<FromClient> {
        let (mut parts, body) = request.into_parts();
        headers::end_to_end(&mut parts.headers);
        if parts.version == Version::HTTP_2 {
            headers::join_cookies(&mut parts.headers);
        }
        headers::forwarded(&mut parts, peer);
        Request::from_parts(parts, Patience::new(self.stall, body))
    }

    async fn ask(&self, mut door: Door, request: Request<FromClient>) -> Result<Response<ToClient>, Problem> {
        let asked = Asked::new(&request);
        // As `oneshot` does, but the future stays where it is made.
        let answer = match door.ready().await {
            Ok(door) => door.call(request).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(mut response) => {
                if let Some(ledger) = response.extensions().get::<Ledger>() {
                    self.tally.answered(ledger);
                    self.tell(&asked, response.status(), ledger);
                    if let Some(header) = &self.ledger_header {
                        let value = ledger.header_value();
                        response.headers_mut().insert(header.clone(), value);
                    }
                }
                // What the backend spoke with us is no matter to the client: RFC 9112, section 2.3.
                *response.version_mut() = Version::HTTP_11;
                let mut ledger = None;
                if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                    headers::one_length(response.headers_mut());
                    headers::end_to_end(response.headers_mut());
                    ledger = response.extensions_mut().remove();
                }
                let body = |body| {
                    let (responded, log) = (Responded { asked, ledger }, Arc::clone(&self.log));
                    Either::Left(Reported::new(Patience::new(self.stall, body), responded, log))
                };
                Ok(response.map(body))
            }
            Err(error) => {
                let problem = Problem::of(&error);
                // With another status the request itself was at fault.
                if problem.status().is_server_error() {
                    self.log.line(format_args!("{asked}: {}: {}", problem.status().as_u16(), Cause(&error)));
                }
                let problem = match &self.ledger_header {
                    Some(header) => problem.with_ledger(header.clone(), error.ledger()),
                    None => problem,
                };
                Err(if self.explain { problem.explained(error.ledger()) } else { problem })
            }
        }
    }

    /// Logs a request that had a failed attempt, although it has a response.
    fn tell(&self, asked: &Asked, status: StatusCode, ledger: &Ledger) {
        let failed = |attempt: &Attempted| !matches!(attempt.ending, Ending::Served | Ending::Dropped);
        let attempts = ledger.attempts();
        if !attempts.iter().any(failed) {
            return;
        }
        let why = match attempts.iter().any(|attempt| attempt.ending == Ending::Served) {
            true => "after a failover",
            false => "since all attempts failed",
        };
        self.log.line(format_args!("{asked}: {} of a backend, {why}: {ledger}", status.as_u16()));
    }

    /// A request for another protocol, WebSocket say: once a backend agrees, bytes pass as they are, both ways.
    async fn change_protocol(
        &self,
        door: Door,
        protocol: HeaderValue,
        peer: &Peer,
        place: &Arc<Place>,
        mut request: Request<Incoming>,
    ) -> Result<Response<ToClient>, Problem> {
        let client = hyper::upgrade::on(&mut request);
        let mut request = self.outbound(peer, request);
        headers::set_upgrade(request.headers_mut(), protocol);
        let mut response = self.ask(door, request).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let backend = hyper::upgrade::on(&mut response);
            // The tunnel is a call that runs: the fleet counts it at its backend.
            let in_flight = response.extensions_mut().remove::<InFlight>();
            let (running, place) = (self.running.clone(), Arc::clone(place));
            tokio::spawn(async move {
                let (client, backend) = tokio::try_join!(client, backend)?;
                copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(backend)).await?;
                drop((running, place, in_flight));
                Ok::<_, BoxError>(())
            });
        }
        Ok(response)
    }
}

/// A request, as the log names it: without its query, which may hold a secret, and shortened.
struct Asked {
    method: Method,
    uri: Uri,
    since: Instant,
}

impl Asked {
    fn new<B>(request: &Request<B>) -> Self {
        Self { method: request.method().clone(), uri: request.uri().clone(), since: Instant::now() }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, path) = (self.method.as_str(), self.uri.path());
        write!(f, "{method:.20} {path:.200} after {:.1?}", self.since.elapsed())
    }
}

/// A request with a response, as the log names it.
pub(crate) struct Responded {
    asked: Asked,
    ledger: Option<Ledger>,
}

impl fmt::Display for Responded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ledger {
            Some(ledger) => write!(f, "{}: {ledger}", self.asked),
            None => self.asked.fmt(f),
        }
    }
}

/// Why no response of a backend could be passed on, with every attempt.
struct Cause<'a>(&'a Error);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        match self.0.kind() {
            // Its text names the attempts.
            ErrorKind::Exhausted { .. } => Ok(()),
            ErrorKind::Failed { source, .. } => write!(f, ": {source}: {}", self.0.ledger()),
            _ if self.0.ledger().attempts().is_empty() => Ok(()),
            _ => write!(f, ": {}", self.0.ledger()),
        }
    }
}
