//! The requests to the server, and the messages from it.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{channel::mpsc, future::BoxFuture, stream::Stream};
use redis::{ErrorKind, FromRedisValue, RedisError, Script, ServerErrorKind, Value, aio::MultiplexedConnection, cmd};

use super::{
    super::{
        exchange::{ExchangeError, Link, News, Reports},
        report::{Report, Stamp},
    },
    script,
    wire::{self, Keys},
};
use crate::name::BackendName;

/// The [`Link`] of a [`ValkeyStore`](super::ValkeyStore).
#[derive(Clone)]
pub struct ValkeyLink {
    connection: MultiplexedConnection,
    shared: Arc<Shared>,
}

struct Shared {
    keys: Keys,
    /// The id of this replica, in the permits that it holds.
    replica: String,
    merge: Script,
    read: Script,
    take: Script,
    give_back: Script,
}

/// The [`News`] of a [`ValkeyStore`](super::ValkeyStore). Polling it drives the connection.
pub struct ValkeyNews {
    /// `None` when the connection is lost.
    driver: Option<BoxFuture<'static, ()>>,
    received: mpsc::Receiver<News>,
    missed: mpsc::Receiver<()>,
}

/// The expiry of a report that no replica reads any more: beyond the horizon of its deadlines.
const EXPIRY: Duration = Duration::from_secs(2 * Report::HORIZON.as_secs());

/// By how much the clock of a replica may be wrong about that of the server.
const SKEW: Duration = Duration::from_secs(1);

impl ValkeyLink {
    pub(super) fn new(connection: MultiplexedConnection, keys: Keys) -> Self {
        let shared = Shared {
            keys,
            replica: format!("{:016x}", fastrand::u64(..)),
            merge: Script::new(script::MERGE),
            read: Script::new(script::READ),
            take: Script::new(script::TAKE),
            give_back: Script::new(script::RETURN),
        };
        Self { connection, shared: Arc::new(shared) }
    }
}

impl Link for ValkeyLink {
    fn merge(&self, reports: Vec<Report>) -> impl Future<Output = Result<Reports, ExchangeError>> + Send + 'static {
        let Self { mut connection, shared } = self.clone();
        async move {
            let mut call = shared.merge.prepare_invoke();
            let millis = |time: Duration| time.as_millis() as u64;
            call.arg(shared.keys.channel()).arg(millis(EXPIRY)).arg(millis(Report::HORIZON)).arg(millis(SKEW));
            for report in &reports {
                call.key(shared.keys.report(&report.backend)).arg(&*report.backend).arg(&wire::numbers(report));
            }
            let answer = call.invoke_async(&mut connection).await.map_err(|failed| error(&failed))?;
            found(reports.into_iter().map(|report| report.backend).collect(), answer)
        }
    }

    fn read(
        &self,
        backends: Vec<BackendName>,
    ) -> impl Future<Output = Result<Reports, ExchangeError>> + Send + 'static {
        let Self { mut connection, shared } = self.clone();
        async move {
            let mut call = shared.read.prepare_invoke();
            call.arg(EXPIRY.as_millis() as u64);
            for backend in &backends {
                call.key(shared.keys.report(backend));
            }
            let answer = call.invoke_async(&mut connection).await.map_err(|failed| error(&failed))?;
            found(backends, answer)
        }
    }

    fn take_permits(
        &self,
        backends: Vec<BackendName>,
        lease: Duration,
    ) -> impl Future<Output = Result<Vec<Duration>, ExchangeError>> + Send + 'static {
        let Self { mut connection, shared } = self.clone();
        async move {
            let mut call = shared.take.prepare_invoke();
            call.arg(&shared.replica).arg(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
            for backend in &backends {
                call.key(shared.keys.permit(backend));
            }
            let times: Vec<u64> = call.invoke_async(&mut connection).await.map_err(|failed| error(&failed))?;
            Ok(times.into_iter().map(Duration::from_millis).collect())
        }
    }

    fn return_permits(
        &self,
        backends: Vec<BackendName>,
    ) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static {
        let Self { mut connection, shared } = self.clone();
        async move {
            let mut call = shared.give_back.prepare_invoke();
            call.arg(&shared.replica);
            for backend in &backends {
                call.key(shared.keys.permit(backend));
            }
            let answer: Result<u64, _> = call.invoke_async(&mut connection).await;
            answer.map(drop).map_err(|failed| error(&failed))
        }
    }

    fn ping(&self) -> impl Future<Output = Result<(), ExchangeError>> + Send + 'static {
        let mut connection = self.connection.clone();
        async move {
            let ponged: Result<String, _> = cmd("PING").query_async(&mut connection).await;
            ponged.map(drop).map_err(|failed| error(&failed))
        }
    }
}

/// Reads the answer of the scripts: the time, and the text of each report.
fn found(backends: Vec<BackendName>, answer: Vec<Value>) -> Result<Reports, ExchangeError> {
    let mut answer = answer.into_iter().map(|value| Option::<String>::from_redis_value(value).ok().flatten());
    let now: Option<Stamp> = answer.next().flatten().as_deref().and_then(wire::stamp);
    let now = now.ok_or(ExchangeError::new("an answer without its time"))?;
    let report = |(backend, text): (BackendName, Option<String>)| wire::report(backend, text?.as_str());
    Ok(Reports { now, reports: backends.into_iter().zip(answer).filter_map(report).collect() })
}

/// Tells an error of the server without its text: some servers repeat there what they were sent, credentials too.
pub(super) fn error(failed: &RedisError) -> ExchangeError {
    let code = failed.code().filter(|code| code.len() <= 20 && code.bytes().all(|byte| byte.is_ascii_uppercase()));
    ExchangeError::new(match (failed.kind(), code) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => "the login is refused".into(),
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => "the user lacks a permission (NOPERM)".into(),
        (_, Some(code)) => format!("the server refused a command: {code}"),
        (ErrorKind::Parse | ErrorKind::UnexpectedReturnType, _) => "not an answer of Valkey or Redis".into(),
        (ErrorKind::Io, _) if failed.is_timeout() => "no answer in time".into(),
        (ErrorKind::Io, _) => "the connection is lost".into(),
        _ => "the server does not speak as Valkey or Redis does".to_owned(),
    })
}

impl ValkeyNews {
    pub(super) fn new(
        driver: BoxFuture<'static, ()>,
        received: mpsc::Receiver<News>,
        missed: mpsc::Receiver<()>,
    ) -> Self {
        Self { driver: Some(driver), received, missed }
    }
}

impl Stream for ValkeyNews {
    type Item = News;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<News>> {
        if self.driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
            self.driver = None;
        }
        let received = Pin::new(&mut self.received).poll_next(cx);
        if received.is_ready() && !matches!(received, Poll::Ready(None)) {
            return received;
        }
        if let Poll::Ready(Some(())) = Pin::new(&mut self.missed).poll_next(cx) {
            return Poll::Ready(Some(News::Missed));
        }
        if self.driver.is_none() { Poll::Ready(None) } else { Poll::Pending }
    }
}

impl fmt::Debug for ValkeyLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValkeyLink").field("keys", &self.shared.keys).finish_non_exhaustive()
    }
}

impl fmt::Debug for ValkeyNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValkeyNews").field("is_connected", &self.driver.is_some()).finish_non_exhaustive()
    }
}
