//! The reason why a lookup has no answer.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use hickory_resolver::{
    net::{DnsError, NetError},
    proto::op::ResponseCode,
};

/// The error of a lookup: names the source and the reason.
///
/// ```
/// # use std::time::Duration;
/// # use tower_fleet::dns::{Dns, ResolveErrorKind};
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// // No name server listens there.
/// let server = "127.0.0.1:1".parse().unwrap();
/// let mut endpoints = Dns::new("api.internal:8080").name_servers([server]).endpoints().unwrap();
/// let error = endpoints.first(Duration::from_millis(200)).await.unwrap_err();
/// assert!(error.to_string().starts_with("DNS lookup of `api.internal` failed: "));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ResolveError {
    pub(super) source_name: Arc<str>,
    pub(super) failure: Failure,
}

/// What was wrong with a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResolveErrorKind {
    /// The name does not exist.
    NoSuchName,
    /// The name exists, but has no usable records of the types that were looked up. Also: its CNAME records form a loop
    /// or a chain of more than eight.
    NoRecords,
    /// The only SRV record has the target `.`: the service is not available at this domain.
    NotAvailable,
    /// A name server returned an error, such as `SERVFAIL` or `REFUSED`.
    ErrorResponse,
    /// No complete answer arrived in time.
    TimedOut,
    /// A name server was not reached.
    Unreachable,
    /// The answer was not a valid message of DNS.
    InvalidResponse,
    /// The system's settings of DNS are missing or invalid.
    InvalidSystemSettings,
}

/// A failure of one query or of a whole lookup.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: ResolveErrorKind,
    /// The name server states for certain that there are no records.
    pub(super) is_definite: bool,
    /// The time for which the negative answer is valid.
    pub(super) negative_ttl: Option<Duration>,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl Failure {
    pub(super) fn new(kind: ResolveErrorKind) -> Self {
        Self { kind, is_definite: false, negative_ttl: None, cause: None }
    }

    pub(super) fn definite(kind: ResolveErrorKind, ttl: Duration) -> Self {
        Self { is_definite: true, negative_ttl: Some(ttl), ..Self::new(kind) }
    }

    pub(super) fn with_cause(kind: ResolveErrorKind, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into().into()), ..Self::new(kind) }
    }

    /// The failure of one query.
    pub(super) fn of_query(error: NetError) -> Self {
        let NetError::Dns(DnsError::NoRecordsFound(none)) = &error else {
            let kind = match &error {
                NetError::Dns(_) => ResolveErrorKind::ErrorResponse,
                NetError::Timeout => ResolveErrorKind::TimedOut,
                NetError::Io(_) | NetError::NoConnections | NetError::Busy => ResolveErrorKind::Unreachable,
                _ => ResolveErrorKind::InvalidResponse,
            };
            return Self::with_cause(kind, error);
        };
        let does_not_exist = none.response_code == ResponseCode::NXDomain;
        let kind = if does_not_exist { ResolveErrorKind::NoSuchName } else { ResolveErrorKind::NoRecords };
        Self {
            kind,
            // An empty answer without the SOA record of its zone is none (RFC 2308, section 2.2): a referral, or the end
            // of a loop of CNAME records.
            is_definite: does_not_exist || none.soa.is_some(),
            negative_ttl: none.negative_ttl.map(|ttl| Duration::from_secs(ttl.into())),
            cause: Some(Arc::new(error)),
        }
    }
}

impl ResolveError {
    /// Returns what was wrong.
    pub fn kind(&self) -> &ResolveErrorKind {
        &self.failure.kind
    }

    /// Returns the name of the source: that of its backends without the addresses.
    pub fn source_name(&self) -> &str {
        &self.source_name
    }
}

impl fmt::Display for ResolveErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchName => "the name does not exist",
            Self::NoRecords => "the name has no usable records",
            Self::NotAvailable => "the service is not available at this domain",
            Self::ErrorResponse => "the name server returned an error",
            Self::TimedOut => "no complete answer in time",
            Self::Unreachable => "the name server was not reached",
            Self::InvalidResponse => "the answer is invalid",
            Self::InvalidSystemSettings => "the system's DNS settings are missing or invalid",
        })
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DNS lookup of `{}` failed: {}", self.source_name, self.failure.kind)
    }
}

impl Error for ResolveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let cause = self.failure.cause.as_deref()?;
        Some(cause)
    }
}
