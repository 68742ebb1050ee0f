//! The exchange: where its server is.

use std::fmt;

use redis::{ConnectionAddr, IntoConnectionInfo, ProtocolVersion};

use super::{
    super::exchange::{Exchange, ExchangeError},
    connect::{self, Server},
    link::{ValkeyLink, ValkeyNews},
};
use crate::setting::InvalidSetting;

/// An [`Exchange`] on a server of Valkey, or of Redis from version 6 on. Cheap to clone.
///
/// ```no_run
/// # use tower_fleet::{Backend, Fleet, replicas::{Share, ValkeyStore}};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_fleet::InvalidSetting> {
/// let fleet = Fleet::plain().name("search").backend(Backend::new("a", ())).build()?;
/// let store = ValkeyStore::new("rediss://fleet:secret@cache.internal:6379")?;
/// tokio::spawn(fleet.share(Share::new(store))?);
/// # Ok(()) }
/// ```
///
/// The user needs the commands `HELLO`, `PING`, `SUBSCRIBE`, `PUBLISH`, `EVALSHA`, `SCRIPT LOAD`, `TIME`, `GET`, `MGET`,
/// `SET`, `DEL`, `PTTL` and `PEXPIRE`, on the keys `tower-fleet:*` and the channels `tower-fleet:*`.
#[derive(Clone)]
pub struct ValkeyStore(Server);

impl ValkeyStore {
    /// Uses the server at a URL: `redis://`, or `rediss://` for TLS, also as `valkey://` and `valkeys://`, with user,
    /// password and number of the database as needed: `redis://user:password@host:6379/0`.
    ///
    /// Nothing is connected yet. TLS trusts the certificates that the system trusts, or those of the file that the
    /// environment variable `SSL_CERT_FILE` names.
    ///
    /// # Errors
    ///
    /// A URL that is not one of a server. The error does not show it, since it may hold a password.
    pub fn new(url: impl AsRef<str>) -> Result<Self, InvalidSetting> {
        let refused = |reason| InvalidSetting::without_value("share", "url", reason);
        let (scheme, rest) = url.as_ref().split_once("://").ok_or_else(|| refused(NO_URL))?;
        let is_tls = match scheme {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err(refused(NO_URL)),
        };
        if rest.contains(['#', '?']) {
            return Err(refused("must have no query and no fragment"));
        }
        let info = format!("redis://{rest}").into_connection_info().map_err(|_| refused(NO_URL))?;
        let ConnectionAddr::Tcp(host, port) = info.addr() else { return Err(refused(NO_URL)) };
        let tls = if is_tls { Some(connect::tls().map_err(refused)?) } else { None };
        let login = info.redis_settings().clone();
        if login.db() < 0 {
            return Err(refused(NO_URL));
        }
        // The third version of the protocol has messages and replies on one connection.
        let login = login.set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
        Ok(Self(Server { host: host.as_str().into(), port: *port, login, tls }))
    }
}

const NO_URL: &str = "must be a URL such as redis://host:6379, or rediss:// for TLS";

impl Exchange for ValkeyStore {
    type Link = ValkeyLink;
    type News = ValkeyNews;

    fn connect(&self, fleet: &str) -> impl Future<Output = Result<(ValkeyLink, ValkeyNews), ExchangeError>> + Send {
        connect::connect(self.0.clone(), fleet.to_owned())
    }
}

/// Without the credentials.
impl fmt::Debug for ValkeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server { host, port, tls, .. } = &self.0;
        f.debug_struct("ValkeyStore")
            .field("host", host)
            .field("port", port)
            .field("tls", &tls.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C59, C63
    #[test]
    fn an_invalid_url_is_refused_and_not_shown() {
        let urls = [
            "",
            "redis",
            "redis://",
            "http://user:hunter2@host",
            "redis://user:hunter2@host:99999",
            "redis://user:hunter2@host/x",
            "redis://user:hunter2@host/-1",
            "redis://user:hunter2@ho st",
            "redis://user:hunter2@0.0.0.0",
            "rediss://user:hunter2@host/#insecure",
            "redis://user:hunter2@host/?protocol=2",
            "redis:///run/user:hunter2/redis.sock",
        ];
        for url in urls {
            let error = ValkeyStore::new(url).unwrap_err();
            assert_eq!((error.field(), error.value()), ("url", ""), "{url}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}");
        }
    }

    // C59
    #[test]
    fn debug_shows_no_credentials() {
        let store = ValkeyStore::new("valkey://user:hunter2@cache:7000/3").expect("a URL");
        assert_eq!(format!("{store:?}"), r#"ValkeyStore { host: "cache", port: 7000, tls: false, .. }"#);
        assert_eq!((store.0.login.username(), store.0.login.password()), (Some("user"), Some("hunter2")));
        assert_eq!(store.0.login.db(), 3);
    }
}
