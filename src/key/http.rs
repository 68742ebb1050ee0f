//! The key of an HTTP request.

use http::{HeaderMap, Request, header::COOKIE};

use super::{Head, KeySource, Peer, hash_key, source::Source};

impl<'a> Head<'a> {
    /// Returns the head of a request.
    pub fn of<B>(request: &'a Request<B>) -> Self {
        let (method, uri) = (request.method(), request.uri());
        Self { method, uri, headers: request.headers(), extensions: request.extensions() }
    }
}

impl KeySource {
    /// Returns the key of an HTTP request. `None` if the request has none: no such header, or an empty one.
    ///
    /// For a classifier that implements [`Classify::key`](crate::outcome::Classify::key).
    pub fn key_of<B>(&self, request: &Request<B>) -> Option<u64> {
        match &self.0 {
            Source::Header(name) => key(request.headers().get(name)?.as_bytes()),
            Source::Cookie(name) => key(cookie(request.headers(), name.as_bytes())?),
            Source::Query(name) => key(parameter(request.uri().query()?.as_bytes(), name.as_bytes())?),
            Source::Path => key(request.uri().path().as_bytes()),
            Source::Peer => Some(request.extensions().get::<Peer>()?.key()),
            Source::Head(key) => key(&Head::of(request)),
            Source::Classifier => None,
        }
    }
}

/// The key of a value. An empty one has none.
fn key(value: &[u8]) -> Option<u64> {
    (!value.is_empty()).then(|| hash_key(value))
}

/// Returns the value of the first cookie of this name, without quotes.
///
/// A request may have several `Cookie` headers: RFC 9113, section 8.2.3.
fn cookie<'a>(headers: &'a HeaderMap, name: &[u8]) -> Option<&'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|header| header.as_bytes().split(|byte| *byte == b';'));
    let value = pairs.filter_map(|pair| value(pair.trim_ascii(), name)).next()?.trim_ascii();
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

/// Returns the value of the first parameter of this name, as it is written in the query.
fn parameter<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    query.split(|byte| *byte == b'&').find_map(|pair| value(pair, name))
}

/// Returns the value of a pair `name=value`, if it has this name.
fn value<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    pair.strip_prefix(name)?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests;
