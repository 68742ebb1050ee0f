//! The layer of origin, headers and credentials, and its service.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
        UPGRADE,
    },
    uri::{Authority, PathAndQuery, Scheme},
};
use tower_layer::Layer;
use tower_service::Service;

use crate::setting::InvalidSetting;

/// A [`Layer`] that rewrites the requests of one backend. See [the module](super).
///
/// The default changes nothing. Two layers are equal if they rewrite requests in the same way.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "a layer does nothing until it is given a service"]
pub struct UpstreamLayer {
    origin: Option<Origin>,
    address: Option<SocketAddr>,
    headers: HeaderMap,
    removed: Vec<HeaderName>,
}

#[derive(Clone, Debug, PartialEq)]
struct Origin {
    scheme: Scheme,
    authority: Authority,
    /// The path, without a trailing slash. Empty for the root.
    prefix: String,
}

impl UpstreamLayer {
    /// Creates a layer that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends requests to this origin, such as `https://api.example.com/v1`. Its path becomes a prefix of theirs.
    ///
    /// The caller's `Host` header is removed, so that the client sets that of the origin. A path that would be too long
    /// for a URI with the prefix is sent without scheme and host, so that the client refuses it.
    ///
    /// **The prefix does not confine the caller**: dot segments (`/../`) of the path are passed on. Resolve them in a
    /// layer around the door if that matters.
    ///
    /// # Errors
    ///
    /// Returns an error unless `origin` is an absolute URI without a user and without a query.
    pub fn origin(mut self, origin: &str) -> Result<Self, InvalidSetting> {
        let invalid = |reason| invalid("origin", reason);
        let uri: Uri = origin.parse().map_err(|_| invalid("must be a URI such as https://api.example.com/v1"))?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(invalid("must be an absolute URI, with a scheme and a host"));
        };
        if authority.as_str().contains('@') {
            return Err(invalid("must be a URI without a user: use a header for credentials"));
        }
        let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        if path.query().is_some() {
            return Err(invalid("must be a URI without a query"));
        }
        let prefix = path.path().trim_end_matches('/').to_owned();
        self.origin = Some(Origin { scheme, authority, prefix });
        Ok(self)
    }

    /// Sets a header, in place of that of the caller.
    ///
    /// # Errors
    ///
    /// Returns an error if the name or the value is not valid, or if the header frames the message, such as
    /// `content-length`.
    pub fn header(self, name: &str, value: &str) -> Result<Self, InvalidSetting> {
        self.set(name, value, false)
    }

    /// Sets a header that is a secret. It is marked as sensitive, so that it is neither logged nor indexed by HPACK.
    ///
    /// # Errors
    ///
    /// Returns an error as [`header`](Self::header) does. It does not show the value.
    pub fn secret(self, name: &str, value: &str) -> Result<Self, InvalidSetting> {
        self.set(name, value, true)
    }

    /// Sets the `Authorization` header to `Bearer` and the token, as a secret.
    ///
    /// # Errors
    ///
    /// Returns an error if the token is not a valid header value. It does not show the token.
    pub fn bearer(self, token: &str) -> Result<Self, InvalidSetting> {
        self.set(AUTHORIZATION.as_str(), &format!("Bearer {token}"), true)
    }

    /// Sets the `Host` header, where it differs from the origin.
    ///
    /// # Errors
    ///
    /// Returns an error if the host is not a valid header value.
    pub fn host(self, host: &str) -> Result<Self, InvalidSetting> {
        self.set(HOST.as_str(), host, false)
    }

    /// Removes a header of the caller, so that this backend never gets it.
    ///
    /// # Errors
    ///
    /// Returns an error if the name is not valid.
    pub fn without(mut self, name: &str) -> Result<Self, InvalidSetting> {
        self.removed.push(name.parse().map_err(|_| invalid("header", "must be a valid header name"))?);
        Ok(self)
    }

    /// Sets the address at which the origin is reached: that of one endpoint of several behind its name.
    ///
    /// A request to an `http` origin gets the address in place of the host in its URI, and the host as its `Host` header.
    /// For `https` the URI stays, since the client verifies the certificate of the host: the client has to connect to
    /// [this address](Self::endpoint).
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Returns the [address](Self::address) at which the origin is reached, if one is set.
    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Returns the URI that requests are sent to: the origin with its path. `None` without an origin, if requests keep
    /// the URI of the caller.
    pub fn target(&self) -> Option<Uri> {
        self.origin.as_ref().map(|origin| origin.under(&Uri::default()))
    }

    fn set(mut self, name: &str, value: &str, secret: bool) -> Result<Self, InvalidSetting> {
        let name: HeaderName = name.parse().map_err(|_| invalid("header", "must be a valid header name"))?;
        if frames_messages(&name) {
            return Err(invalid("header", "must not be one that frames the message"));
        }
        let mut value =
            HeaderValue::from_str(value).map_err(|_| invalid("header", "must be a value of visible characters"))?;
        // Also if it was set with `header`.
        value.set_sensitive(secret || matches!(name, AUTHORIZATION | PROXY_AUTHORIZATION | COOKIE));
        self.headers.insert(name, value);
        Ok(self)
    }

    fn rewrite<B>(&self, request: &mut Request<B>) {
        if let Some(origin) = &self.origin {
            let uri = origin.under(request.uri());
            *request.uri_mut() = uri;
            request.headers_mut().remove(HOST);
            if let Some(address) = self.address.filter(|_| origin.scheme == Scheme::HTTP) {
                origin.connect_to(address, request);
            }
        }
        for name in &self.removed {
            request.headers_mut().remove(name);
        }
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
    }
}

/// Whether a header frames messages or controls the connection. Clients and servers set these themselves.
pub(crate) fn frames_messages(name: &HeaderName) -> bool {
    matches!(*name, CONNECTION | CONTENT_LENGTH | TE | TRAILER | TRANSFER_ENCODING | UPGRADE)
}

impl Origin {
    /// Replaces the host in the URI by an address, and keeps the host as the header.
    fn connect_to<B>(&self, address: SocketAddr, request: &mut Request<B>) {
        let mut parts = request.uri().clone().into_parts();
        let (Ok(authority), Ok(host)) =
            (Authority::try_from(address.to_string()), HeaderValue::from_str(self.authority.as_str()))
        else {
            return;
        };
        // A URI without a host is one that the client must refuse.
        if parts.authority.replace(authority).is_some()
            && let Ok(uri) = Uri::from_parts(parts)
        {
            *request.uri_mut() = uri;
            request.headers_mut().insert(HOST, host);
        }
    }

    fn under(&self, uri: &Uri) -> Uri {
        // `*` (RFC 9112, 3.2.4) addresses the server as a whole, and is not a path.
        let path = uri.path_and_query().filter(|path| *path != "*");
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = match path {
            // Without a prefix, nothing is formatted or parsed.
            Some(path) if self.prefix.is_empty() => Some(path.clone()),
            path => format!("{}{}", self.prefix, path.map_or("/", PathAndQuery::as_str)).parse().ok(),
        };
        // Two valid paths make a valid one, unless it is too long for a URI. Then the request gets no host, so that the
        // client refuses it. Without the prefix, or with the host of the caller, our credentials could leak.
        let without_host = || uri.path_and_query().cloned().map(Uri::from).unwrap_or_default();
        if parts.path_and_query.is_none() {
            return without_host();
        }
        Uri::from_parts(parts).unwrap_or_else(|_| without_host())
    }
}

/// An error without the value, which may be a secret.
fn invalid(field: &'static str, reason: &'static str) -> InvalidSetting {
    InvalidSetting::without_value("upstream", field, reason)
}

impl<S> Layer<S> for UpstreamLayer {
    type Service = Upstream<S>;

    fn layer(&self, inner: S) -> Upstream<S> {
        Upstream { inner, layer: Arc::new(self.clone()) }
    }
}

/// A [`Service`] that rewrites requests for one backend. Made by [`UpstreamLayer`].
#[derive(Clone, Debug)]
pub struct Upstream<S> {
    inner: S,
    // Shared, since the service is cloned for each request.
    layer: Arc<UpstreamLayer>,
}

impl<S, B> Service<Request<B>> for Upstream<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        self.layer.rewrite(&mut request);
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(layer: &UpstreamLayer, uri: &str) -> Request<()> {
        let mut request =
            Request::builder().uri(uri).header(HOST, "front").header("api-key", "the caller's").body(()).unwrap();
        layer.rewrite(&mut request);
        request
    }

    // C24
    #[test]
    fn requests_are_sent_to_the_origin_under_its_path() {
        for (origin, uri, expected) in [
            ("https://api.example.com", "/v1/chat?x=1", "https://api.example.com/v1/chat?x=1"),
            ("https://api.example.com/v1", "/chat?x=1", "https://api.example.com/v1/chat?x=1"),
            ("http://127.0.0.1:81/v1/", "http://front/chat", "http://127.0.0.1:81/v1/chat"),
            ("http://[::1]:81", "/", "http://[::1]:81/"),
            ("http://[::1]:81/v1", "*", "http://[::1]:81/v1/"),
        ] {
            let request = rewritten(&UpstreamLayer::new().origin(origin).unwrap(), uri);
            assert_eq!(request.uri(), expected);
            assert!(request.headers().get(HOST).is_none(), "the host of the caller is removed");
        }
    }

    // C56
    #[test]
    fn an_endpoint_is_reached_under_the_name_of_its_origin() {
        let at = |origin: &str| UpstreamLayer::new().origin(origin).unwrap().address("10.0.0.7:81".parse().unwrap());
        let request = rewritten(&at("http://api.internal/v1"), "/chat?x=1");
        assert_eq!(request.uri(), "http://10.0.0.7:81/v1/chat?x=1");
        assert_eq!(request.headers()[HOST], "api.internal");
        let request = rewritten(&at("http://api.internal").host("inner").unwrap(), "/");
        assert_eq!(request.headers()[HOST], "inner");
        let secure = at("https://api.internal");
        assert_eq!(rewritten(&secure, "/").uri(), "https://api.internal/");
        assert_eq!(secure.endpoint(), Some("10.0.0.7:81".parse().unwrap()));
        assert_ne!(secure, UpstreamLayer::new().origin("https://api.internal").unwrap());
    }

    #[test]
    fn target_is_the_origin_with_its_path() {
        let target = |origin| UpstreamLayer::new().origin(origin).unwrap().target().unwrap();
        assert_eq!(target("https://api.example.com/v1/"), "https://api.example.com/v1/");
        assert_eq!(target("http://127.0.0.1:81"), "http://127.0.0.1:81/");
        assert_eq!(UpstreamLayer::new().target(), None);
    }

    // C24
    #[test]
    fn a_path_that_is_too_long_for_the_prefix_gets_no_host() {
        let path = format!("/{}", "a".repeat(65_500));
        for uri in [path.clone(), format!("http://elsewhere{path}")] {
            let prefix = "t".repeat(60);
            let request =
                rewritten(&UpstreamLayer::new().origin(&format!("https://api.example.com/{prefix}")).unwrap(), &uri);
            assert_eq!(request.uri().host(), None);
            assert_eq!(request.uri().path(), path);
        }
    }

    // C24, C59
    #[test]
    fn removed_headers_do_not_reach_the_backend() {
        let layer = UpstreamLayer::new().without("api-key").unwrap().header("cookie", "hush").unwrap();
        let request = rewritten(&layer, "/");
        assert!(request.headers().get("api-key").is_none());
        assert!(!format!("{layer:?} {request:?}").contains("hush"), "a cookie is always sensitive");
    }

    // C24, C59
    #[test]
    fn credentials_replace_those_of_the_caller_and_are_sensitive() {
        let layer =
            UpstreamLayer::new().bearer("hush").unwrap().secret("api-key", "hush").unwrap().host("inner").unwrap();
        let request = rewritten(&layer, "/");
        let values = |name| request.headers().get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(values("api-key"), ["hush"]);
        assert_eq!(values("authorization"), ["Bearer hush"]);
        assert_eq!(values("host"), ["inner"]);
        assert!(values("api-key")[0].is_sensitive());
        assert!(!format!("{layer:?} {request:?}").contains("hush"));
    }

    // C58, C59
    #[test]
    fn invalid_values_are_refused_without_showing_them() {
        let layer = UpstreamLayer::new;
        for (bad, field) in [
            (layer().origin("/only/a/path"), "origin"),
            (layer().origin("https://user:hush@example.com"), "origin"),
            (layer().origin("https://example.com/?hush=1"), "origin"),
            (layer().origin("not a uri hush"), "origin"),
            (layer().header("bad name", "x"), "header"),
            (layer().bearer("hush\nX-Other: 1"), "header"),
            (layer().header("Content-Length", "hush"), "header"),
            (layer().secret("transfer-encoding", "hush"), "header"),
        ] {
            let error = bad.unwrap_err();
            assert_eq!(error.field(), field);
            assert!(!format!("{error} {error:?}").contains("hush"));
        }
    }
}
