//! The gRPC status of a response.

use http::{HeaderMap, StatusCode, header};

use super::{
    super::{FailureKind, Outcome},
    codes::{FailureCodes, UNKNOWN},
    retry_after,
};

const CANCELLED: i32 = 1;

/// The two kinds of gRPC response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// `application/grpc`, `application/grpc+proto` …: the status is in the trailers.
    Native,
    /// `application/grpc-web…`: the trailers are in the body, which is not parsed.
    Web,
}

/// The kind of a gRPC response, by its `content-type`. `None` for other responses.
pub(super) fn flavour(headers: &HeaderMap) -> Option<Flavour> {
    const PREFIX: &[u8] = b"application/grpc";
    let (start, rest) = headers.get(header::CONTENT_TYPE)?.as_bytes().split_at_checked(PREFIX.len())?;
    if !start.eq_ignore_ascii_case(PREFIX) {
        return None;
    }
    match rest.first() {
        None | Some(b'+' | b';' | b' ') => Some(Flavour::Native),
        Some(b'-') => Some(Flavour::Web),
        Some(_) => None,
    }
}

/// The outcome by the `grpc-status` in headers or trailers, if there is one.
pub(super) fn outcome(headers: &HeaderMap, failures: FailureCodes) -> Option<Outcome> {
    let code = headers.get("grpc-status")?;
    // An unreadable status is UNKNOWN, as for every gRPC client.
    let code = code.to_str().ok().and_then(|code| code.trim().parse().ok()).unwrap_or(UNKNOWN);
    Some(if failures.contains(code) {
        retry_after::with_headers(FailureKind::Grpc(code).into(), headers).into()
    } else if code == CANCELLED {
        Outcome::Neutral
    } else {
        Outcome::Success
    })
}

/// Whether the trailers of a response must have a status. If the HTTP status is not 200, that alone decides.
pub(super) fn owes_status(status: StatusCode, flavour: Flavour) -> bool {
    status == StatusCode::OK && flavour == Flavour::Native
}
