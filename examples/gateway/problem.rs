//! What a client is told when there is no response to pass on.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;
use serde_json::{Value, json};
use tower_fleet::{
    body::ReplayError,
    failover::{self, Ending, ErrorKind, Ledger},
};

use crate::{error_format::ErrorFormat, patience::Stalled};

/// A status, a sentence, and when to try again. Shows no addresses and no causes, since any client may read it.
pub(crate) struct Problem {
    status: StatusCode,
    detail: &'static str,
    retry_after: Option<Duration>,
    attempts: Option<Value>,
    ledger: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: &'static str) -> Self {
        Self { status, detail, retry_after: None, attempts: None, ledger: None }
    }

    /// Why a failover had nothing to pass on.
    pub(crate) fn of(error: &failover::Error) -> Self {
        const LATE: &str = "the body of the request did not come in time";
        let detail = match error.kind() {
            _ if error.status() == StatusCode::REQUEST_TIMEOUT => LATE,
            ErrorKind::Failed { source, .. } if causes(&**source).any(|cause| cause.is::<ReplayError>()) => {
                return match causes(&**source).any(|cause| cause.is::<Stalled>()) {
                    true => Self::new(StatusCode::REQUEST_TIMEOUT, LATE),
                    false => Self::new(StatusCode::BAD_REQUEST, "the body of the request broke off"),
                };
            }
            ErrorKind::NoBackends => "there is no backend",
            ErrorKind::NoneAvailable { .. } => "no backend is available at the moment",
            _ if error.status() == StatusCode::GATEWAY_TIMEOUT => "no backend answered in time",
            _ => "no backend could serve the request",
        };
        Self { retry_after: error.retry_after(), ..Self::new(error.status(), detail) }
    }

    /// Names the backends that were tried, for clients that may know.
    pub(crate) fn explained(mut self, ledger: &Ledger) -> Self {
        let attempts = ledger.attempts().iter().map(|attempt| {
            let ending = match &attempt.ending {
                Ending::Tripped { outcome, .. }
                | Ending::NotReady { outcome, .. }
                | Ending::BrokenOff { outcome, .. } => outcome.to_string(),
                Ending::Served => "served".to_owned(),
                _ => "dropped".to_owned(),
            };
            json!({ "backend": &*attempt.backend, "ending": ending, "took_ms": attempt.took.as_millis() })
        });
        self.attempts = Some(attempts.collect());
        self
    }

    /// Adds a header with the ledger.
    pub(crate) fn with_ledger(mut self, header: HeaderName, ledger: &Ledger) -> Self {
        self.ledger = Some((header, ledger.header_value()));
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn into_response(self, format: ErrorFormat) -> Response<Full<Bytes>> {
        let body = format.body(self.status, self.detail, self.attempts);
        let mut response = Response::new(Full::from(format!("{body}\n")));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        if let Some((header, value)) = self.ledger {
            response.headers_mut().insert(header, value);
        }
        if let Some(wait) = self.retry_after {
            // Rounded up, so that a request at that time is not too early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// An error, and what caused it.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}
