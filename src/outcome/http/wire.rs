//! The errors of hyper, its client, h2 and `tower_http`'s bodies, as links of a chain.

use std::error::Error;

use super::super::{FailureKind, Outcome, clue::Clue};

pub(in crate::outcome) fn clue(error: &(dyn Error + 'static)) -> Option<Clue> {
    if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
        // Decides before the cause is looked at: a timeout while connecting has sent nothing
        // either.
        error.is_connect().then(|| Clue::network(FailureKind::Connect))
    } else if let Some(error) = error.downcast_ref::<hyper::Error>() {
        Some(of_hyper(error))
    } else if let Some(error) = error.downcast_ref::<h2::Error>() {
        Some(of_h2(error))
    } else if error.is::<tower_http::timeout::TimeoutError>() {
        Some(Clue::local(FailureKind::Timeout))
    } else {
        None
    }
}

/// The cause of an error that hides it from `source`.
pub(in crate::outcome) fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let inner = error.downcast_ref::<h2::Error>()?.get_io()?;
    Some(inner)
}

fn of_hyper(error: &hyper::Error) -> Clue {
    if error.is_user() {
        // The request body failed, or the request was wrong: whatever caused that, it was not the
        // backend.
        Clue::local(Outcome::Neutral)
    } else if error.is_canceled() || error.is_closed() {
        // "Dropped before ever being processed": hyper gives these to requests that no connection
        // took.
        Clue::network(FailureKind::Connect)
    } else if error.is_timeout() {
        Clue::network(FailureKind::Timeout)
    } else {
        Clue::Transport { sent: true }
    }
}

fn of_h2(error: &h2::Error) -> Clue {
    let ours = !error.is_remote() && !error.is_library();
    if error.reason() == Some(h2::Reason::REFUSED_STREAM) {
        // RFC 9113, 8.7: sent "prior to any processing".
        Clue::network(FailureKind::Refused)
    } else if error.is_go_away() && error.is_remote() {
        // h2 ends those streams with it that the peer left out, and lets the others finish (RFC
        // 9113, 6.8).
        Clue::network(FailureKind::Refused)
    } else if error.is_reset() && ours {
        Clue::local(Outcome::Neutral)
    } else {
        Clue::Transport { sent: true }
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
