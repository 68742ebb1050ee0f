//! The way to the backends: hyper's client, over TCP or TLS, in HTTP/1.1 or HTTP/2.

use std::{
    cell::Cell,
    error::Error,
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    TryFutureExt,
    future::{Either, MapOk, Ready, ready},
};
use http::{HeaderValue, Request, Response, Uri, Version, header::HOST, uri::Scheme};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self, Client, ResponseFuture,
        connect::{
            HttpConnector,
            dns::{GaiAddrs, GaiFuture, GaiResolver, Name},
        },
    },
    rt::{TokioExecutor, TokioTimer},
};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tower::Service;
use tower_fleet::{Backend, config::ClientLayer};

use crate::{
    headers,
    proxy::ToBackend,
    settings::{Settings, Upstreams},
};

/// Makes the clients of backends.
#[derive(Clone)]
pub(crate) struct Clients {
    ways: Arc<Ways>,
    /// Those of all backends that are reached under the name of their host.
    pools: Pools,
    h2c: Arc<[String]>,
}

impl Clients {
    /// For this many workers, and for the keeper.
    pub(crate) fn new(workers: usize, settings: &Settings) -> Result<Self, Box<dyn Error>> {
        let Settings { upstreams, config, .. } = settings;
        let targets = config.backends().iter().chain(config.discovered()).filter_map(|it| it.service().target());
        let needs_tls = targets.into_iter().any(|target| target.scheme() == Some(&Scheme::HTTPS));
        let ways = Ways::new(workers + 1, upstreams, needs_tls)?;
        Ok(Self { pools: ways.pools(None), ways: Arc::new(ways), h2c: upstreams.h2c.clone().into() })
    }

    /// Makes the client of a backend.
    pub(crate) fn of(&self, backend: &Backend<ClientLayer>) -> BackendClient {
        let layer = backend.service();
        let target = layer.target().unwrap_or_default();
        // An endpoint has the name of its backend before its address.
        let name = backend.name().split_once('/').map_or(backend.name(), |(name, _)| name);
        let h2c = self.h2c.iter().any(|known| known == name || known == backend.name());
        match layer.endpoint().filter(|_| target.scheme() == Some(&Scheme::HTTPS)) {
            // The certificate is that of the host, and the connection to one of its addresses.
            Some(address) => self.ways.pools(Some(address)).client(&target, h2c),
            None => self.pools.client(&target, h2c),
        }
    }
}

/// What clients are made of: the trusted certificates, and the limit on connecting.
struct Ways {
    tls: ClientConfig,
    connect_timeout: Duration,
    /// The number of runtimes.
    seats: usize,
}

/// The clients of all runtimes: of each worker, and of the keeper. A connection belongs to the runtime that opened it.
#[derive(Clone)]
struct Pools(Arc<[Pool]>);

struct Pool {
    /// HTTP/2 where TLS agrees on it, HTTP/1.1 elsewhere.
    usual: Secure,
    /// HTTP/2 without TLS, for those that are known to speak it.
    h2c: Secure,
    /// HTTP/1.1, the only one that changes protocols.
    upgrades: Secure,
}

type Secure = Client<HttpsConnector<HttpConnector<Addresses>>, ToBackend>;

thread_local! {
    static SEAT: Cell<usize> = const { Cell::new(0) };
}

/// Sets which runtime this thread runs.
pub(crate) fn take_seat(seat: usize) {
    SEAT.set(seat);
}

impl Ways {
    /// The system's certificates are needed only where TLS is: there may be none.
    fn new(seats: usize, settings: &Upstreams, needs_tls: bool) -> Result<Self, Box<dyn Error>> {
        let roots = match &settings.ca {
            Some(path) => trusted(path)?,
            None if needs_tls => systems()?,
            // A later version of the file may need them.
            None => systems().unwrap_or_else(|_| RootCertStore::empty()),
        };
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let tls = tls.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls, connect_timeout: settings.connect_timeout, seats })
    }

    /// Clients that connect to the addresses of the hosts of their requests or, if there is one, to this address.
    fn pools(&self, address: Option<SocketAddr>) -> Pools {
        Pools((0..self.seats).map(|_| Pool::new(self, address)).collect())
    }
}

impl Pools {
    /// The service of one backend.
    fn client(&self, target: &Uri, h2c: bool) -> BackendClient {
        // Where HTTP/2 may be spoken the client says it in its own way.
        let host = target.authority().filter(|_| !h2c && target.scheme() == Some(&Scheme::HTTP));
        let host = host.and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        BackendClient { pools: self.clone(), h2c, host }
    }
}

impl Pool {
    fn new(Ways { tls, connect_timeout, .. }: &Ways, address: Option<SocketAddr>) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Addresses { address, system: GaiResolver::new() });
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        tcp.set_connect_timeout(Some(*connect_timeout));
        let connector = || HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
        let client = || {
            let mut builder = Client::builder(TokioExecutor::new());
            // A connection that went away without a word is found out by its pings.
            builder.timer(TokioTimer::new()).pool_timer(TokioTimer::new());
            builder.http2_adaptive_window(true).http2_keep_alive_interval(Duration::from_secs(20));
            builder
        };
        Self {
            usual: client().build(connector().enable_all_versions().wrap_connector(tcp.clone())),
            h2c: client().http2_only(true).build(connector().enable_http2().wrap_connector(tcp.clone())),
            upgrades: client().build(connector().enable_http1().wrap_connector(tcp)),
        }
    }
}

/// The addresses of a host: those that the system finds, or the one that DNS named for an endpoint. The name stays that
/// of the host, for TLS and for the `Host` header.
#[derive(Clone)]
struct Addresses {
    address: Option<SocketAddr>,
    system: GaiResolver,
}

impl Service<Name> for Addresses {
    type Response = Found;
    type Error = io::Error;
    type Future = Finding;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.system.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Finding {
        match self.address {
            Some(address) => Either::Left(ready(Ok(Found::One(Some(address))))),
            None => Either::Right(self.system.call(name).map_ok(Found::Several as fn(GaiAddrs) -> Found)),
        }
    }
}

type Finding = Either<Ready<io::Result<Found>>, MapOk<GaiFuture, fn(GaiAddrs) -> Found>>;

enum Found {
    One(Option<SocketAddr>),
    Several(GaiAddrs),
}

impl Iterator for Found {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        match self {
            Self::One(address) => address.take(),
            Self::Several(addresses) => addresses.next(),
        }
    }
}

fn systems() -> Result<RootCertStore, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Some stores hold odd ones; what counts is that there are any.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 { Err("upstreams.ca: is not set, and the system has no certificates".into()) } else { Ok(roots) }
}

/// The certificates of a file, and no others.
fn trusted(path: &Path) -> Result<RootCertStore, Box<dyn Error>> {
    let named = |error: &dyn Error| format!("upstreams.ca: {}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| named(&error))? {
        roots.add(certificate.map_err(|error| named(&error))?).map_err(|error| named(&error))?;
    }
    if roots.is_empty() {
        return Err(named(&io::Error::other("holds no certificate")).into());
    }
    Ok(roots)
}

/// The service of one backend. Where it sends a request to is said by the request, which has been shaped for it.
#[derive(Clone)]
pub(crate) struct BackendClient {
    pools: Pools,
    h2c: bool,
    /// The client would write it anew for each request.
    host: Option<HeaderValue>,
}

impl Service<Request<ToBackend>> for BackendClient {
    type Response = Response<Incoming>;
    type Error = legacy::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), legacy::Error>> {
        // The pool opens as many connections as it takes.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ToBackend>) -> ResponseFuture {
        let pool = &self.pools.0[SEAT.get()];
        // What the client spoke with us is no matter here.
        *request.version_mut() = Version::HTTP_11;
        if let Some(host) = &self.host {
            request.headers_mut().entry(HOST).or_insert_with(|| host.clone());
        }
        let client = match headers::upgrade(request.headers()) {
            // HTTP/2 has no such change: there it is a request like others.
            Some(_) if self.h2c => {
                headers::end_to_end(request.headers_mut());
                &pool.h2c
            }
            Some(_) => &pool.upgrades,
            None if self.h2c => &pool.h2c,
            None => &pool.usual,
        };
        client.request(request)
    }
}
