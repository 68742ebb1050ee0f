//! A probe that sends an HTTP request.

use std::{fmt, pin::pin, sync::Arc};

use bytes::Buf;
use futures::future::poll_fn;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri,
    header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, USER_AGENT},
};
use http_body::Body;
use tower::BoxError;
use tower_service::Service;

use super::{check::Probe, error::ProbeError};
use crate::{name::BackendName, outcome::Statuses, setting::InvalidSetting, upstream::frames_messages};

/// A probe that sends an HTTP request through the backend's own client, and expects a status of 200–299.
///
/// The head decides, but a body that breaks off is a failure too. Up to 64 KiB of it are read, so that the connection can
/// be used again; a longer body is dropped.
///
/// `B` is the request body that the client takes. It needs a value without data: [`get`](Self::get) and
/// [`head`](Self::head) take the default, and [`with_body`](Self::with_body) takes any.
///
/// ```
/// use tower_fleet::{outcome::Statuses, probe::{HttpProbe, Probes}};
///
/// # fn probes() -> Result<(), tower_fleet::InvalidSetting> {
/// let probe = HttpProbe::get("/health")?;
/// // A status of its own, and credentials:
/// let statuses = Statuses::none().and(200)?.and(429)?;
/// let strict = HttpProbe::head("/ready")?.expect(statuses)?.secret("authorization", "Bearer hush")?;
/// # let _: [Probes<HttpProbe<String>>; 2] = [Probes::new(probe), Probes::new(strict)];
/// # Ok(())
/// # }
/// # probes().unwrap();
/// ```
pub struct HttpProbe<B> {
    method: Method,
    uri: Uri,
    origin: Option<OriginOf>,
    headers: HeaderMap,
    statuses: Statuses,
    body: fn() -> B,
}

/// Returns the origin of a backend.
pub(super) type OriginOf = Arc<dyn Fn(&BackendName) -> Option<Uri> + Send + Sync>;

/// The most of a response that is read for the sake of its connection.
const MAX_DRAIN: usize = 64 * 1024;

impl<B: Default> HttpProbe<B> {
    /// Creates a probe that sends a `GET` request.
    ///
    /// The URI is a path, such as `/health`, for clients that know their backend: with an
    /// [`UpstreamLayer`](crate::UpstreamLayer), or with a connection of their own. For others it is absolute, or has an
    /// [origin](Self::origin) per backend.
    ///
    /// # Errors
    ///
    /// Returns an error unless the URI is a path or an absolute URI without a user. It does not show the URI.
    pub fn get(uri: &str) -> Result<Self, InvalidSetting> {
        Self::with_body(Method::GET, uri, B::default)
    }

    /// Creates a probe that sends a `HEAD` request.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn head(uri: &str) -> Result<Self, InvalidSetting> {
        Self::with_body(Method::HEAD, uri, B::default)
    }
}

impl<B> HttpProbe<B> {
    /// Creates a probe with any method and body.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn with_body(method: Method, uri: &str, body: fn() -> B) -> Result<Self, InvalidSetting> {
        let refused = |reason| InvalidSetting::without_value(PART, "uri", reason);
        let uri: Uri = uri.parse().map_err(|_| refused("must be a path, such as /health, or an absolute URI"))?;
        if !uri.path().starts_with('/') {
            return Err(refused("must be a path, such as /health, or an absolute URI"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(refused("must be a URI without a user: use a header for credentials"));
        }
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let statuses = Statuses::none().and_range(200..=299)?;
        Ok(Self { method, uri, origin: None, headers, statuses, body })
    }

    /// Sets a header of the request. The default is a `user-agent` only.
    ///
    /// # Errors
    ///
    /// Returns an error if the name or the value is not valid, or if the header frames the message, such as
    /// `content-length`. It does not show the value.
    pub fn header(self, name: &str, value: &str) -> Result<Self, InvalidSetting> {
        self.set(name, value, false)
    }

    /// Sets a header that is a secret. It is marked as sensitive, so that it is neither logged nor indexed by HPACK.
    ///
    /// # Errors
    ///
    /// As for [`header`](Self::header).
    pub fn secret(self, name: &str, value: &str) -> Result<Self, InvalidSetting> {
        self.set(name, value, true)
    }

    /// Sets the statuses of a good response. Default 200–299.
    ///
    /// # Errors
    ///
    /// An empty set, with which each probe would fail.
    pub fn expect(mut self, statuses: Statuses) -> Result<Self, InvalidSetting> {
        if statuses == Statuses::none() {
            return Err(InvalidSetting::of(PART, "expect", "{}", "must have a status"));
        }
        self.statuses = statuses;
        Ok(self)
    }

    /// Sets the origin of each backend, such as `http://10.0.0.7:8080`, for clients that require absolute URIs. Where the
    /// closure returns `None`, the URI stays as it is.
    pub fn origin(mut self, origin: impl Fn(&BackendName) -> Option<Uri> + Send + Sync + 'static) -> Self {
        self.origin = Some(Arc::new(origin));
        self
    }

    fn set(mut self, name: &str, value: &str, secret: bool) -> Result<Self, InvalidSetting> {
        let refused = |reason| InvalidSetting::without_value(PART, "header", reason);
        let name: HeaderName = name.parse().map_err(|_| refused("must have a valid name"))?;
        if frames_messages(&name) {
            return Err(refused("must not be one that frames the message"));
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| refused("must have a value of visible characters"))?;
        // Also if it was set with `header`.
        value.set_sensitive(secret || matches!(name, AUTHORIZATION | PROXY_AUTHORIZATION | COOKIE));
        self.headers.insert(name, value);
        Ok(self)
    }

    fn request(&self, backend: &BackendName) -> Request<B> {
        let mut request = Request::new((self.body)());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri(&self.uri, self.origin.as_deref().and_then(|origin| origin(backend)));
        *request.headers_mut() = self.headers.clone();
        request
    }
}

const PART: &str = "probe";
/// So that servers can tell probes from requests in their logs.
pub(super) const AGENT: &str = concat!("tower-fleet-probe/", env!("CARGO_PKG_VERSION"));

/// Returns the URI with the scheme and the authority of an origin.
pub(super) fn uri(path: &Uri, origin: Option<Uri>) -> Uri {
    let Some(origin) = origin.map(Uri::into_parts) else { return path.clone() };
    let mut parts = path.clone().into_parts();
    (parts.scheme, parts.authority) = (origin.scheme, origin.authority);
    // An origin without a scheme gives no URI; then the client refuses the path.
    Uri::from_parts(parts).unwrap_or_else(|_| path.clone())
}

impl<S, B, R> Probe<S> for HttpProbe<B>
where
    S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError> + Send, Future: Send> + Send,
    B: Send + 'static,
    R: Body<Data: Send, Error: Into<BoxError>> + Send,
{
    fn probe(&self, backend: &BackendName, mut service: S) -> impl Future<Output = Result<(), ProbeError>> + Send {
        let request = self.request(backend);
        async move {
            let response = send(&mut service, request).await?;
            let status = response.status().as_u16();
            if !self.statuses.contains(status) {
                return Err(ProbeError::status(status));
            }
            drain(response.into_body()).await
        }
    }
}

/// Sends a request once the service is ready.
pub(super) async fn send<S, B, R>(service: &mut S, request: Request<B>) -> Result<Response<R>, ProbeError>
where
    S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>>,
{
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(ProbeError::new)?;
    service.call(request).await.map_err(ProbeError::new)
}

async fn drain<R: Body<Error: Into<BoxError>>>(body: R) -> Result<(), ProbeError> {
    let (mut body, mut read) = (pin!(body), 0);
    while read <= MAX_DRAIN
        && let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await
    {
        let frame = frame.map_err(ProbeError::new)?;
        // A frame counts as a byte at least, so that a body of empty ones ends too.
        read = frame.data_ref().map_or(1, |data| data.remaining().max(1)).saturating_add(read);
    }
    Ok(())
}

impl<B> Clone for HttpProbe<B> {
    fn clone(&self) -> Self {
        Self {
            method: self.method.clone(),
            uri: self.uri.clone(),
            origin: self.origin.clone(),
            headers: self.headers.clone(),
            statuses: self.statuses,
            body: self.body,
        }
    }
}

/// Does not show the query and the values of headers, which may hold credentials.
impl<B> fmt::Debug for HttpProbe<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpProbe")
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("statuses", &self.statuses)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C58, C59
    #[test]
    fn invalid_uris_and_headers_are_refused_without_showing_them() {
        for (uri, expected) in [
            ("health", "probe: uri must be a path"),
            ("", "probe: uri must be a path"),
            ("*", "probe: uri must be a path"),
            ("/a b", "probe: uri must be a path"),
            ("http://me:hush@host/health", "probe: uri must be a URI without a user"),
        ] {
            let error = HttpProbe::<String>::get(uri).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("hush"), "{uri}: {error}");
        }
        let probe = || HttpProbe::<String>::get("/health?token=hush").unwrap();
        assert!(probe().header("content-length", "3").is_err());
        assert!(probe().header("a b", "hush").is_err());
        assert!(!probe().header("x", "hu\nsh").unwrap_err().to_string().contains("sh"));
        assert!(probe().expect(Statuses::none()).is_err());
        let secret = probe().header("authorization", "hush").unwrap().header("x", "hush").unwrap();
        assert!(!format!("{secret:?}").contains("hush"));
        let backend = BackendName::lossy("a");
        assert!(!format!("{:?}", secret.request(&backend).headers()["authorization"]).contains("hush"));
    }

    #[test]
    fn an_origin_per_backend_makes_the_uri_absolute() {
        let probe = HttpProbe::<String>::get("/health?a=b").unwrap().origin(|backend| match &**backend {
            "odd" => Some(Uri::from_static("host-only")),
            "none" => None,
            name => format!("http://{name}:80/ignored").parse().ok(),
        });
        let uri = |name| probe.request(&BackendName::lossy(name)).uri().to_string();
        assert_eq!(uri("a"), "http://a:80/health?a=b");
        assert_eq!(uri("none"), "/health?a=b");
        assert_eq!(uri("odd"), "/health?a=b");
    }
}
