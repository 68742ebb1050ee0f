//! What one backend needs of a request: its origin, its headers, its credentials.
//!
//! A layer around the backend's service, so that it changes the attempt that goes there and nothing else: each attempt
//! starts from the caller's request, and what is set for one backend is never seen by another.
//!
//! ```
//! # use tower_fleet::{Backend, shape::ShapeLayer};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (client, key) = (tower::service_fn(|_: http::Request<String>| async { Ok::<_, std::io::Error>(()) }), "secret");
//! let openai = ShapeLayer::new().origin("https://api.openai.com/v1")?.bearer(key)?;
//! let azure = ShapeLayer::new().origin("https://eu.example.com/openai")?.secret("api-key", key)?;
//! let backends = [Backend::new("openai", client).layer(openai), Backend::new("azure", client).layer(azure)];
//! # let _ = backends;
//! # Ok(())
//! # }
//! ```
//!
//! Anything else that a backend needs is a tower layer too: see [`Backend::layer`](crate::Backend::layer).

use std::{
    error::Error,
    fmt,
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

/// Gives the requests of one backend the shape it needs. See [the module](self).
#[derive(Clone, Debug, Default)]
#[must_use = "a layer does nothing until it is given a service"]
pub struct ShapeLayer {
    origin: Option<Origin>,
    headers: HeaderMap,
    removed: Vec<HeaderName>,
}

#[derive(Clone, Debug)]
struct Origin {
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at the end; empty for the root.
    prefix: String,
}

impl ShapeLayer {
    /// Changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends requests to this origin, with its path in front of theirs: `https://api.example.com/v1`.
    ///
    /// The `Host` that the caller sent does not go along: the client sets the new one. Dot segments of the caller's path go
    /// along as they are: where the prefix is to hold a caller in, they have to be resolved before.
    pub fn origin(mut self, origin: &str) -> Result<Self, InvalidShape> {
        // An origin may hold a password: it is not shown.
        let invalid = |needed| InvalidShape { field: "origin", needed };
        let uri: Uri = origin.parse().map_err(|_| invalid("a URI such as https://api.example.com/v1"))?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(invalid("an absolute URI, with a scheme and a host"));
        };
        if authority.as_str().contains('@') {
            return Err(invalid("a URI without a user: use a header for credentials"));
        }
        let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        if path.query().is_some() {
            return Err(invalid("a URI without a query"));
        }
        let prefix = path.path().trim_end_matches('/').to_owned();
        self.origin = Some(Origin { scheme, authority, prefix });
        Ok(self)
    }

    /// Sets a header, in place of the one the caller may have sent.
    pub fn header(self, name: &str, value: &str) -> Result<Self, InvalidShape> {
        self.set(name, value, false)
    }

    /// Sets a header that is a secret: it is marked sensitive, so that nobody shows or indexes it.
    pub fn secret(self, name: &str, value: &str) -> Result<Self, InvalidShape> {
        self.set(name, value, true)
    }

    /// Sets `Authorization: Bearer` and the token, as a secret.
    pub fn bearer(self, token: &str) -> Result<Self, InvalidShape> {
        self.set(AUTHORIZATION.as_str(), &format!("Bearer {token}"), true)
    }

    /// Sets the `Host` header to something else than the origin says.
    pub fn host(self, host: &str) -> Result<Self, InvalidShape> {
        self.set(HOST.as_str(), host, false)
    }

    /// Takes a header out that the caller may have sent, so that it never gets to this backend.
    pub fn without(mut self, name: &str) -> Result<Self, InvalidShape> {
        let needed = "a valid header name";
        self.removed.push(name.parse().map_err(|_| InvalidShape { field: "header", needed })?);
        Ok(self)
    }

    /// Where requests go: the origin and its path. None when it is the caller's affair.
    pub fn target(&self) -> Option<Uri> {
        self.origin.as_ref().map(|origin| origin.under(&Uri::default()))
    }

    fn set(mut self, name: &str, value: &str, secret: bool) -> Result<Self, InvalidShape> {
        let invalid = |field, needed| InvalidShape { field, needed };
        let name: HeaderName = name.parse().map_err(|_| invalid("header", "a valid header name"))?;
        if frames_messages(&name) {
            return Err(invalid("header", "none that frames the message"));
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| invalid("header", "a value of visible characters"))?;
        // Whatever it was set by.
        value.set_sensitive(secret || matches!(name, AUTHORIZATION | PROXY_AUTHORIZATION | COOKIE));
        self.headers.insert(name, value);
        Ok(self)
    }

    fn shape<B>(&self, request: &mut Request<B>) {
        if let Some(origin) = &self.origin {
            let uri = origin.under(request.uri());
            *request.uri_mut() = uri;
            request.headers_mut().remove(HOST);
        }
        for name in &self.removed {
            request.headers_mut().remove(name);
        }
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
    }
}

/// These headers say where a message ends and what its connection does: the client's business, or the server's.
pub(crate) fn frames_messages(name: &HeaderName) -> bool {
    matches!(*name, CONNECTION | CONTENT_LENGTH | TE | TRAILER | TRANSFER_ENCODING | UPGRADE)
}

impl Origin {
    fn under(&self, uri: &Uri) -> Uri {
        // `*` asks the server itself, which has no path.
        let path = uri.path_and_query().filter(|path| *path != "*");
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = match path {
            // Nothing to write, and nothing to read.
            Some(path) if self.prefix.is_empty() => Some(path.clone()),
            path => format!("{}{}", self.prefix, path.map_or("/", PathAndQuery::as_str)).parse().ok(),
        };
        // Two valid paths make one, unless it gets too long for a URI. Then it goes nowhere, rather than lose its prefix
        // or go where the caller says, with our credentials.
        let nowhere = || uri.path_and_query().cloned().map(Uri::from).unwrap_or_default();
        if parts.path_and_query.is_none() {
            return nowhere();
        }
        Uri::from_parts(parts).unwrap_or_else(|_| nowhere())
    }
}

/// A value that cannot be part of a request. The value is not shown: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidShape {
    /// What was to be set.
    pub field: &'static str,
    pub(crate) needed: &'static str,
}

impl fmt::Display for InvalidShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be {}", self.field, self.needed)
    }
}

impl Error for InvalidShape {}

impl<S> Layer<S> for ShapeLayer {
    type Service = Shape<S>;

    fn layer(&self, inner: S) -> Shape<S> {
        Shape { inner, layer: Arc::new(self.clone()) }
    }
}

/// The service of a backend that needs its requests in a certain shape.
#[derive(Clone, Debug)]
pub struct Shape<S> {
    inner: S,
    // Shared, since clones are made per request.
    layer: Arc<ShapeLayer>,
}

impl<S, B> Service<Request<B>> for Shape<S>
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
        self.layer.shape(&mut request);
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(layer: &ShapeLayer, uri: &str) -> Request<()> {
        let mut request =
            Request::builder().uri(uri).header(HOST, "front").header("api-key", "the caller's").body(()).unwrap();
        layer.shape(&mut request);
        request
    }

    // C24
    #[test]
    fn requests_go_to_the_origin_under_its_path() {
        for (origin, uri, expected) in [
            ("https://api.example.com", "/v1/chat?x=1", "https://api.example.com/v1/chat?x=1"),
            ("https://api.example.com/v1", "/chat?x=1", "https://api.example.com/v1/chat?x=1"),
            ("http://127.0.0.1:81/v1/", "http://front/chat", "http://127.0.0.1:81/v1/chat"),
            ("http://[::1]:81", "/", "http://[::1]:81/"),
            ("http://[::1]:81/v1", "*", "http://[::1]:81/v1/"),
        ] {
            let request = shaped(&ShapeLayer::new().origin(origin).unwrap(), uri);
            assert_eq!(request.uri(), expected);
            assert!(request.headers().get(HOST).is_none(), "the caller's host stays at the front");
        }
    }

    #[test]
    fn it_says_where_requests_go() {
        let target = |origin| ShapeLayer::new().origin(origin).unwrap().target().unwrap();
        assert_eq!(target("https://api.example.com/v1/"), "https://api.example.com/v1/");
        assert_eq!(target("http://127.0.0.1:81"), "http://127.0.0.1:81/");
        assert_eq!(ShapeLayer::new().target(), None);
    }

    // C24
    #[test]
    fn a_path_never_leaves_its_prefix_by_its_length() {
        let path = format!("/{}", "a".repeat(65_500));
        for uri in [path.clone(), format!("http://elsewhere{path}")] {
            let prefix = "t".repeat(60);
            let request =
                shaped(&ShapeLayer::new().origin(&format!("https://api.example.com/{prefix}")).unwrap(), &uri);
            assert_eq!(request.uri().host(), None, "it goes nowhere");
            assert_eq!(request.uri().path(), path);
        }
    }

    // C24, C59
    #[test]
    fn what_a_backend_must_not_see_is_taken_out() {
        let layer = ShapeLayer::new().without("api-key").unwrap().header("cookie", "hush").unwrap();
        let request = shaped(&layer, "/");
        assert!(request.headers().get("api-key").is_none());
        assert!(!format!("{layer:?} {request:?}").contains("hush"), "a cookie is a secret however it is set");
    }

    // C24, C59
    #[test]
    fn credentials_replace_the_callers_and_are_sensitive() {
        let layer = ShapeLayer::new().bearer("hush").unwrap().secret("api-key", "hush").unwrap().host("inner").unwrap();
        let request = shaped(&layer, "/");
        let values = |name| request.headers().get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(values("api-key"), ["hush"]);
        assert_eq!(values("authorization"), ["Bearer hush"]);
        assert_eq!(values("host"), ["inner"]);
        assert!(values("api-key")[0].is_sensitive());
        assert!(!format!("{layer:?} {request:?}").contains("hush"));
    }

    // C58, C59
    #[test]
    fn what_cannot_be_sent_is_refused_without_showing_it() {
        let layer = ShapeLayer::new;
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
            assert_eq!(error.field, field);
            assert!(!format!("{error} {error:?}").contains("hush"));
        }
    }
}
