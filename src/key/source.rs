//! Where the key of a request is.

use std::fmt;
#[cfg(feature = "http")]
use std::{net::IpAddr, sync::Arc};

#[cfg(feature = "http")]
use http::{Extensions, HeaderMap, HeaderName, Method, Uri};

#[cfg(feature = "http")]
use super::hash_key;
#[cfg(feature = "http")]
use crate::setting::InvalidSetting;

/// Where the key of a request is.
///
/// | source | key | a request without it |
/// |---|---|---|
/// | `header` | the value of a header, the first if there are several | has no such header, or an empty one |
/// | `cookie` | the value of a cookie | has no such cookie, or an empty one |
/// | `query` | the value of a query parameter, not decoded | has no such parameter, or an empty one |
/// | `path` | the path of the URI, without the query | an empty path, as in `CONNECT` |
/// | `peer` | the address of the peer, without its port | has no [`Peer`] among its extensions |
/// | `head` | what a closure returns | the closure returns `None` |
/// | [`classifier`](Self::classifier) | what the fleet's classifier returns | the classifier returns `None` |
///
/// All but the last need the feature `http`. Names of cookies and parameters are compared byte by byte.
#[derive(Clone)]
pub struct KeySource(pub(super) Source);

#[derive(Clone)]
pub(super) enum Source {
    #[cfg(feature = "http")]
    Header(HeaderName),
    #[cfg(feature = "http")]
    Cookie(Arc<str>),
    #[cfg(feature = "http")]
    Query(Arc<str>),
    #[cfg(feature = "http")]
    Path,
    #[cfg(feature = "http")]
    Peer,
    #[cfg(feature = "http")]
    Head(Arc<KeyFn>),
    Classifier,
}

#[cfg(feature = "http")]
type KeyFn = dyn Fn(&Head<'_>) -> Option<u64> + Send + Sync;

/// The head of a request, for a closure that makes the key.
#[cfg(feature = "http")]
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The URI.
    pub uri: &'a Uri,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The extensions, in which a server passes on what it knows of the connection.
    pub extensions: &'a Extensions,
}

/// The address of the peer that sent a request. A server inserts it into the extensions of the request.
///
/// Behind a proxy, all requests have the peer of the proxy. Use the header in which the proxy passes the address on, if
/// the proxy is trusted.
#[cfg(feature = "http")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

#[cfg(feature = "http")]
impl Peer {
    /// The key of the address. An IPv4 address that is written as IPv6 has the same key.
    pub(super) fn key(self) -> u64 {
        match self.0.to_canonical() {
            IpAddr::V4(address) => hash_key(&address.octets()),
            IpAddr::V6(address) => hash_key(&address.octets()),
        }
    }
}

#[cfg(feature = "http")]
impl KeySource {
    /// The value of a header.
    ///
    /// # Errors
    ///
    /// The name is not that of a header.
    pub fn header(name: &str) -> Result<Self, InvalidSetting> {
        let header = HeaderName::try_from(name).ok().map(Source::Header);
        header.map(Self).ok_or_else(|| invalid("header", name, "must be the name of a header"))
    }

    /// The value of a cookie, without the quotes around it.
    ///
    /// # Errors
    ///
    /// The name is not that of a cookie: a token, as in RFC 6265.
    pub fn cookie(name: &str) -> Result<Self, InvalidSetting> {
        // A token has the letters of the name of a method.
        if Method::from_bytes(name.as_bytes()).is_err() {
            return Err(invalid("cookie", name, "must be the name of a cookie"));
        }
        Ok(Self(Source::Cookie(name.into())))
    }

    /// The value of a parameter of the query, as it is written: `%41` and `A` are two keys.
    ///
    /// # Errors
    ///
    /// The name is empty, or has a letter that is always encoded in a query.
    pub fn query(name: &str) -> Result<Self, InvalidSetting> {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'&' | b'=' | b'#');
        if name.is_empty() || !name.bytes().all(is_plain) {
            return Err(invalid("query", name, "must be the name of a parameter, as it is written in a query"));
        }
        Ok(Self(Source::Query(name.into())))
    }

    /// The path of the URI.
    pub fn path() -> Self {
        Self(Source::Path)
    }

    /// The address of the peer, from the extension [`Peer`].
    pub fn peer() -> Self {
        Self(Source::Peer)
    }

    /// The key that a closure makes of the head of the request. See [`hash_key`].
    pub fn head(key: impl Fn(&Head<'_>) -> Option<u64> + Send + Sync + 'static) -> Self {
        Self(Source::Head(Arc::new(key)))
    }
}

#[cfg(feature = "http")]
fn invalid(field: &'static str, name: &str, reason: &'static str) -> InvalidSetting {
    InvalidSetting::of("hash", field, format_args!("`{name}`"), reason)
}

impl KeySource {
    /// The key that the fleet's classifier makes of the request, as one of [`keyed`](crate::outcome::keyed) does. Works
    /// with requests of any type.
    pub fn classifier() -> Self {
        Self(Source::Classifier)
    }

    pub(crate) fn is_classifier(&self) -> bool {
        matches!(self.0, Source::Classifier)
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, name) = match &self.0 {
            #[cfg(feature = "http")]
            Source::Header(name) => ("header", name.as_str()),
            #[cfg(feature = "http")]
            Source::Cookie(name) => ("cookie", &**name),
            #[cfg(feature = "http")]
            Source::Query(name) => ("query", &**name),
            #[cfg(feature = "http")]
            Source::Path => ("path", ""),
            #[cfg(feature = "http")]
            Source::Peer => ("peer", ""),
            #[cfg(feature = "http")]
            Source::Head(_) => ("head", ""),
            Source::Classifier => ("classifier", ""),
        };
        write!(f, "KeySource({source}{}{name})", if name.is_empty() { "" } else { ":" })
    }
}
