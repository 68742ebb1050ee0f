//! Connects to the server.

use std::sync::Arc;

use futures::{
    FutureExt,
    channel::mpsc,
    future::{BoxFuture, Either, select},
};
use redis::{
    AsyncConnectionConfig, PushInfo, PushKind, RedisConnectionInfo, RedisError, Value, aio::MultiplexedConnection,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

use super::{
    super::exchange::{ExchangeError, News, Reports},
    bounded::Bounded,
    link::{ValkeyLink, ValkeyNews, error},
    wire::{self, Keys},
};

/// Where a server is, and how to log in.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
    /// Database and credentials.
    pub(super) login: RedisConnectionInfo,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// How many messages wait for a replica. Beyond it, it reads all reports.
const BACKLOG: usize = 1024;

/// Connects, logs in and subscribes. The caller limits the time.
pub(super) async fn connect(server: Server, fleet: String) -> Result<(ValkeyLink, ValkeyNews), ExchangeError> {
    let io = |error: std::io::Error| ExchangeError::new(format!("cannot connect: {}", error.kind()));
    let stream = TcpStream::connect((&*server.host, server.port)).await.map_err(io)?;
    stream.set_nodelay(true).map_err(io)?;
    let (name, tls) = (server.host.trim_matches(['[', ']']).to_owned(), server.tls.clone());
    match tls {
        None => login(stream, server, &fleet).await,
        Some(tls) => {
            let name = ServerName::try_from(name).map_err(|_| ExchangeError::new("the host has no name for TLS"))?;
            // The error says which certificate was refused, and why.
            let failed = |error: std::io::Error| ExchangeError::new(format!("TLS failed: {error}"));
            let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(failed)?;
            login(stream, server, &fleet).await
        }
    }
}

async fn login<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    server: Server,
    fleet: &str,
) -> Result<(ValkeyLink, ValkeyNews), ExchangeError> {
    let keys = Keys::new(fleet);
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let (overflow, missed) = mpsc::channel(0);
    let (sender, overflow) = (std::sync::Mutex::new(sender), std::sync::Mutex::new(overflow));
    let push = move |push: PushInfo| -> Result<(), ()> {
        if let Some(news) = news(&push)
            && let Err(error) = sender.lock().map_err(drop)?.try_send(news)
            && error.is_full()
        {
            // Full means that it is noted already.
            let _ = overflow.lock().map_err(drop)?.try_send(());
        }
        Ok(())
    };
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(push);
    let connecting = MultiplexedConnection::new_with_config(&server.login, Bounded::new(stream), config);
    let (connection, driver) = connecting.await.map_err(|failed| error(&failed))?;
    let mut driver: BoxFuture<'static, ()> = driver.boxed();
    let channel = keys.channel().to_owned();
    let mut subscriber = connection.clone();
    let subscribing = async move { subscriber.subscribe(channel).await }.boxed();
    match select(subscribing, &mut driver).await {
        Either::Left((subscribed, _)) => subscribed.map_err(|failed: RedisError| error(&failed))?,
        Either::Right(_) => return Err(ExchangeError::CLOSED),
    }
    let link = ValkeyLink::new(connection, keys);
    Ok((link, ValkeyNews::new(driver, receiver, missed)))
}

/// Reads a message. `None` if it is none, such as the confirmation of the subscription.
fn news(push: &PushInfo) -> Option<News> {
    if push.kind != PushKind::Message {
        return None;
    }
    let [_, Value::BulkString(text)] = &push.data[..] else { return Some(News::Garbled) };
    Some(
        wire::message(text)
            .map_or(News::Garbled, |(now, report)| News::Changed(Reports { now, reports: vec![report] })),
    )
}

/// Makes the configuration of TLS. It uses no provider of cryptography of the process, and sets none.
pub(super) fn tls() -> Result<Arc<ClientConfig>, &'static str> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("needs a certificate that the system trusts, for TLS; there is none");
    }
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|_| "needs a version of TLS that both sides know")?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
