//! The way to the backends: hyper's client, over TCP or TLS, in HTTP/1.1 or HTTP/2.

use std::{
    cell::Cell,
    error::Error,
    fs::File,
    io::{self, BufReader},
    path::Path,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, Client, ResponseFuture, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tower::Service;

use crate::{headers, proxy::ToBackend, settings::Upstreams};

/// The clients of all workers. A connection belongs to the runtime that opened it, so each worker has its own.
#[derive(Clone)]
pub(crate) struct Pools(Arc<[Pool]>);

struct Pool {
    /// HTTP/2 where TLS agrees on it, HTTP/1.1 elsewhere.
    usual: Secure,
    /// HTTP/2 without TLS, for those that are known to speak it.
    h2c: Secure,
    /// HTTP/1.1, the only one that changes protocols.
    upgrades: Secure,
}

type Secure = Client<HttpsConnector<HttpConnector>, ToBackend>;

thread_local! {
    static WORKER: Cell<usize> = const { Cell::new(0) };
}

/// Says which worker this thread is.
pub(crate) fn take_seat(worker: usize) {
    WORKER.set(worker);
}

impl Pools {
    pub(crate) fn new(workers: usize, settings: &Upstreams) -> Result<Self, Box<dyn Error>> {
        let tls = tls(settings.ca.as_deref())?;
        let pools = (0..workers).map(|_| Pool::new(&tls, settings.connect_timeout));
        Ok(Self(pools.collect()))
    }

    /// The service of one backend.
    pub(crate) fn upstream(&self, h2c: bool) -> Upstream {
        Upstream { pools: self.clone(), h2c }
    }
}

impl Pool {
    fn new(tls: &ClientConfig, connect_timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        tcp.set_connect_timeout(Some(connect_timeout));
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

/// Trusts whom the system trusts, or the certificates of a file alone.
fn tls(ca: Option<&Path>) -> Result<ClientConfig, Box<dyn Error>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    let Some(path) = ca else { return Ok(builder.with_native_roots()?.with_no_client_auth()) };
    let named = |error: &dyn Error| format!("client.ca: {}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    let file = File::open(path).map_err(|error| named(&error))?;
    for certificate in CertificateDer::pem_reader_iter(BufReader::new(file)) {
        roots.add(certificate.map_err(|error| named(&error))?).map_err(|error| named(&error))?;
    }
    if roots.is_empty() {
        return Err(named(&io::Error::other("holds no certificate")).into());
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The service of one backend. Where it sends a request to is said by the request, which has been shaped for it.
#[derive(Clone)]
pub(crate) struct Upstream {
    pools: Pools,
    h2c: bool,
}

impl Service<Request<ToBackend>> for Upstream {
    type Response = Response<Incoming>;
    type Error = legacy::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), legacy::Error>> {
        // The pool opens as many connections as it takes.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ToBackend>) -> ResponseFuture {
        let pool = &self.pools.0[WORKER.get()];
        // What the client spoke with us is no matter here.
        *request.version_mut() = Version::HTTP_11;
        let client = match headers::upgrade(request.headers()) {
            Some(_) => &pool.upgrades,
            None if self.h2c => &pool.h2c,
            None => &pool.usual,
        };
        client.request(request)
    }
}
