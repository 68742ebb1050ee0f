//! The meaning of errors of hyper, its client, h2, and the bodies of `tower_http`.

use std::error::Error;

use super::super::{FailureKind, Outcome, finding::Meaning};

/// The meaning of one error, if it is of a known type.
pub(in crate::outcome) fn meaning(error: &(dyn Error + 'static)) -> Option<Meaning> {
    if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
        // Decides before its source: after a timeout while connecting, nothing was sent either.
        error.is_connect().then(|| Meaning::network(FailureKind::Connect))
    } else if let Some(error) = error.downcast_ref::<hyper::Error>() {
        Some(of_hyper(error))
    } else if let Some(error) = error.downcast_ref::<h2::Error>() {
        Some(of_h2(error))
    } else if error.is::<tower_http::timeout::TimeoutError>() {
        Some(Meaning::local(FailureKind::Timeout))
    } else {
        None
    }
}

/// The inner error of one that does not return it from `source`.
pub(in crate::outcome) fn source<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let inner = error.downcast_ref::<h2::Error>()?.get_io()?;
    Some(inner)
}

fn of_hyper(error: &hyper::Error) -> Meaning {
    if error.is_user() {
        // The request or its body was faulty, so the backend is not at fault.
        Meaning::local(Outcome::Neutral)
    } else if error.is_canceled() || error.is_closed() {
        // hyper returns these for requests that no connection accepted.
        Meaning::network(FailureKind::Connect)
    } else if error.is_timeout() {
        Meaning::network(FailureKind::Timeout)
    } else {
        Meaning::Transport { sent: true }
    }
}

fn of_h2(error: &h2::Error) -> Meaning {
    let is_ours = !error.is_remote() && !error.is_library();
    if error.reason() == Some(h2::Reason::REFUSED_STREAM) {
        // RFC 9113, 8.7: sent "prior to any processing".
        Meaning::network(FailureKind::Refused)
    } else if error.is_go_away() && error.is_remote() {
        // RFC 9113, 6.8: h2 ends only the streams that the GOAWAY excludes with it, and lets the others finish.
        Meaning::network(FailureKind::Refused)
    } else if error.is_reset() && is_ours {
        Meaning::local(Outcome::Neutral)
    } else {
        Meaning::Transport { sent: true }
    }
}

#[cfg(test)]
mod tests;
