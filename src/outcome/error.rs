//! What an error says, whatever it is wrapped in.

use std::{error::Error, io};

use super::{
    Failure, FailureKind, Outcome,
    clue::{Clue, Finding},
};

/// Chains are walked this deep: none in the wild comes near, and one that points back at itself
/// ends too.
const DEPTH: usize = 32;

/// Looks into an error and the errors that caused it, the outermost first, for what it says about
/// the backend.
///
/// | found in the chain | outcome |
/// |---|---|
/// | a [`Failure`] | that failure |
/// | `Elapsed` of `tower::timeout` or `tokio::time` | [`Timeout`](FailureKind::Timeout) |
/// | `Overloaded` of `tower::load_shed` | [`Overloaded`](FailureKind::Overloaded) |
/// | [`io::ErrorKind::TimedOut`] | `Timeout` |
/// | [`io::ErrorKind::ConnectionRefused`], `AddrNotAvailable` | [`Connect`](FailureKind::Connect) |
/// | an [`io::Error`] that says that we are out of file descriptors | [`Neutral`](Outcome::Neutral) |
/// | any other [`io::Error`] | [`Transport`](FailureKind::Transport), unless its cause says more |
/// | nothing that is known | [`Other`](FailureKind::Other) |
///
/// With the feature `http`:
///
/// | found in the chain | outcome |
/// |---|---|
/// | an error of `hyper_util`'s client while connecting | `Connect`, timeouts included: nothing was sent |
/// | `hyper::Error`: a request that no connection took | `Connect` |
/// | `hyper::Error`: a keep-alive timeout | `Timeout` |
/// | `hyper::Error`: our side broke off, as when the request body failed | [`Neutral`](Outcome::Neutral) |
/// | any other `hyper::Error` | `Transport`, unless its cause says more |
/// | `h2`: `REFUSED_STREAM`, a `GOAWAY` that leaves the request out | [`Refused`](FailureKind::Refused) |
/// | `h2`: a stream that our side reset | `Neutral` |
/// | `TimeoutError` of `tower_http` bodies | `Timeout` |
///
/// An unreachable host or network is `Transport`, not `Connect`, unless the client says that it was
/// connecting: an established connection reports these too, and then the request may have been
/// sent.
pub fn inspect(error: &(dyn Error + 'static)) -> Outcome {
    find(error).outcome
}

pub(super) fn find(error: &(dyn Error + 'static)) -> Finding {
    if chain(error).any(is_our_own_lack) {
        return Finding { outcome: Outcome::Neutral, network: false };
    }
    let connect = Outcome::from(FailureKind::Connect);
    let mut best = FailureKind::Other;
    let mut sent_once = false;
    let mut link = Some(error);
    for _ in 0..DEPTH {
        let Some(error) = link else { break };
        match clue(error) {
            Some(Clue::Settled(finding)) if !(sent_once && finding.outcome == connect) => {
                return finding;
            }
            Some(Clue::Settled(_)) => best = FailureKind::Transport,
            Some(Clue::Transport { sent }) => {
                best = FailureKind::Transport;
                sent_once |= sent;
            }
            None => {}
        }
        link = cause(error);
    }
    Finding { outcome: best.into(), network: true }
}

/// An error and its causes.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| cause(*error)).take(DEPTH)
}

/// Out of file descriptors: nobody was asked, whatever the error is wrapped in.
fn is_our_own_lack(error: &(dyn Error + 'static)) -> bool {
    const EMFILE_ENFILE: [i32; 2] = [24, 23];
    let code = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    cfg!(unix) && code.is_some_and(|code| EMFILE_ENFILE.contains(&code))
}

fn clue(error: &(dyn Error + 'static)) -> Option<Clue> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        Some(Clue::local(*failure))
    } else if error.is::<tower::timeout::error::Elapsed>() || error.is::<tokio::time::error::Elapsed>() {
        Some(Clue::local(FailureKind::Timeout))
    } else if error.is::<tower::load_shed::error::Overloaded>() {
        Some(Clue::local(FailureKind::Overloaded))
    } else if let Some(error) = error.downcast_ref::<io::Error>() {
        Some(match error.kind() {
            io::ErrorKind::TimedOut => Clue::network(FailureKind::Timeout),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::AddrNotAvailable => Clue::network(FailureKind::Connect),
            _ => Clue::Transport { sent: false },
        })
    } else {
        wire::clue(error)
    }
}

fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>() {
        // Its `source` is that of the error inside, which would be skipped.
        Some(error) => error.get_ref().map(|inner| inner as _),
        None => wire::cause(error).or_else(|| error.source()),
    }
}

#[cfg(feature = "http")]
use super::http::wire;

/// Without HTTP nobody knows the errors of the wire.
#[cfg(not(feature = "http"))]
mod wire {
    use std::error::Error;

    pub(super) fn clue(_: &(dyn Error + 'static)) -> Option<super::Clue> {
        None
    }

    pub(super) fn cause<'a>(_: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
        None
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
