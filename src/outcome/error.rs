//! The outcomes of calls that returned an error, found in the source chain.

use std::{error::Error, io};

use super::{
    Failure, FailureKind, Outcome,
    finding::{Finding, Meaning},
};
use crate::body::ReplayError;

/// Bounds the walk of a source chain, which might be a cycle. Real chains are far shorter.
const MAX_DEPTH: usize = 32;

/// Returns the outcome of a call that returned this error.
///
/// Searches the error and its source chain, the outermost error first:
///
/// | found in the chain | outcome |
/// |---|---|
/// | a [`Failure`] | that failure |
/// | a [`ReplayError`]: the body of the request failed | [`Neutral`](Outcome::Neutral) |
/// | `Elapsed` of `tower::timeout` or `tokio::time` | [`Timeout`](FailureKind::Timeout) |
/// | `Overloaded` of `tower::load_shed` | [`Overloaded`](FailureKind::Overloaded) |
/// | [`io::ErrorKind::TimedOut`] | `Timeout` |
/// | [`io::ErrorKind::ConnectionRefused`], `AddrNotAvailable` | [`Connect`](FailureKind::Connect) |
/// | an [`io::Error`] because this process or host is out of file descriptors | [`Neutral`](Outcome::Neutral) |
/// | any other [`io::Error`] | [`Transport`](FailureKind::Transport), unless its source is more specific |
/// | only unknown errors | [`Other`](FailureKind::Other) |
///
/// With the feature `http`:
///
/// | found in the chain | outcome |
/// |---|---|
/// | an error of `hyper_util`'s client while connecting, timeouts included | `Connect`: nothing was sent |
/// | `hyper::Error`: a request that no connection took | `Connect` |
/// | `hyper::Error`: a keep-alive timeout | `Timeout` |
/// | `hyper::Error`: the caller's side failed, such as the request body | [`Neutral`](Outcome::Neutral) |
/// | any other `hyper::Error` | `Transport`, unless its source is more specific |
/// | `h2`: `REFUSED_STREAM`, or a `GOAWAY` that excludes the request | [`Refused`](FailureKind::Refused) |
/// | `h2`: a stream that the caller's side reset | `Neutral` |
/// | `TimeoutError` of `tower_http` bodies | `Timeout` |
///
/// An unreachable host or network is `Transport`, not `Connect`, unless the client reports that it was connecting.
/// These errors also occur on an established connection, where the request may have been sent.
pub fn inspect(error: &(dyn Error + 'static)) -> Outcome {
    find(error).outcome
}

/// Like [`inspect`], with whether the deciding error is one of the network.
pub(super) fn find(error: &(dyn Error + 'static)) -> Finding {
    if chain(error).any(is_out_of_descriptors) {
        return Finding { outcome: Outcome::Neutral, network: false };
    }
    let connect = Outcome::from(FailureKind::Connect);
    let mut best = FailureKind::Other;
    let mut was_sent = false;
    let mut link = Some(error);
    for _ in 0..MAX_DEPTH {
        let Some(error) = link else { break };
        match meaning(error) {
            Some(Meaning::Final(finding)) if !(was_sent && finding.outcome == connect) => return finding,
            Some(Meaning::Final(_)) => best = FailureKind::Transport,
            Some(Meaning::Transport { sent }) => {
                best = FailureKind::Transport;
                was_sent |= sent;
            }
            None => {}
        }
        link = source(error);
    }
    Finding { outcome: best.into(), network: true }
}

/// An error and its sources.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| source(*error)).take(MAX_DEPTH)
}

/// Finds the error of a request body in a source chain.
pub(crate) fn find_replay_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a ReplayError> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// Whether this process or host is out of file descriptors, so that nothing was sent.
fn is_out_of_descriptors(error: &(dyn Error + 'static)) -> bool {
    const EMFILE_ENFILE: [i32; 2] = [24, 23];
    let code = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    cfg!(unix) && code.is_some_and(|code| EMFILE_ENFILE.contains(&code))
}

fn meaning(error: &(dyn Error + 'static)) -> Option<Meaning> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        Some(Meaning::local(*failure))
    } else if error.is::<ReplayError>() {
        Some(Meaning::local(Outcome::Neutral))
    } else if error.is::<tower::timeout::error::Elapsed>() || error.is::<tokio::time::error::Elapsed>() {
        Some(Meaning::local(FailureKind::Timeout))
    } else if error.is::<tower::load_shed::error::Overloaded>() {
        Some(Meaning::local(FailureKind::Overloaded))
    } else if let Some(error) = error.downcast_ref::<io::Error>() {
        Some(match error.kind() {
            io::ErrorKind::TimedOut => Meaning::network(FailureKind::Timeout),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::AddrNotAvailable => {
                Meaning::network(FailureKind::Connect)
            }
            _ => Meaning::Transport { sent: false },
        })
    } else {
        wire::meaning(error)
    }
}

/// The source of an error, also where its `source` method skips it.
fn source<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>() {
        // Its `source` is that of the error inside, and would skip that error.
        Some(error) => error.get_ref().map(|inner| inner as _),
        None => wire::source(error).or_else(|| error.source()),
    }
}

#[cfg(feature = "http")]
use super::http::wire;

/// Without the feature `http`, the errors of hyper and h2 are unknown.
#[cfg(not(feature = "http"))]
mod wire {
    use std::error::Error;

    pub(super) fn meaning(_: &(dyn Error + 'static)) -> Option<super::Meaning> {
        None
    }

    pub(super) fn source<'a>(_: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt, time::Duration};

    use proptest::prelude::*;

    use super::*;
    use crate::outcome::BoxError;

    /// An unknown error around another one.
    #[derive(Debug)]
    struct Wrapped(Option<BoxError>);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("wrapped")
        }
    }

    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.0.as_ref().map(|inner| &**inner as _)
        }
    }

    fn wrapped(error: impl Into<BoxError>) -> BoxError {
        Wrapped(Some(error.into())).into()
    }

    fn of(error: impl Into<BoxError>) -> Outcome {
        inspect(&*error.into())
    }

    async fn elapsed() -> tokio::time::error::Elapsed {
        tokio::time::timeout(Duration::from_secs(1), std::future::pending::<()>()).await.unwrap_err()
    }

    // C37: nothing was sent.
    #[cfg(unix)]
    #[test]
    fn a_lack_of_file_descriptors_is_neutral() {
        for code in [23, 24] {
            let error = || io::Error::from_raw_os_error(code);
            assert_eq!(of(error()), Outcome::Neutral);
            assert_eq!(of(wrapped(io::Error::other(wrapped(error())))), Outcome::Neutral);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn timeouts_of_tower_tokio_and_the_socket_are_timeouts() {
        // C27
        assert_eq!(of(tower::timeout::error::Elapsed::new()), FailureKind::Timeout.into());
        assert_eq!(of(elapsed().await), FailureKind::Timeout.into());
        assert_eq!(of(io::Error::from(io::ErrorKind::TimedOut)), FailureKind::Timeout.into());
        assert_eq!(of(wrapped(wrapped(elapsed().await))), FailureKind::Timeout.into());
    }

    #[test]
    fn shed_requests_are_overloaded() {
        let error = tower::load_shed::error::Overloaded::new();
        assert_eq!(find(&error), Finding { outcome: FailureKind::Overloaded.into(), network: false });
    }

    #[test]
    fn only_two_kinds_of_io_error_mean_that_nothing_was_sent() {
        // C26, C27
        use io::ErrorKind::*;
        for kind in [ConnectionRefused, AddrNotAvailable] {
            assert_eq!(of(io::Error::from(kind)), FailureKind::Connect.into(), "{kind}");
        }
        for kind in
            [ConnectionReset, ConnectionAborted, BrokenPipe, UnexpectedEof, NotConnected, HostUnreachable, Other]
        {
            assert_eq!(of(io::Error::from(kind)), FailureKind::Transport.into(), "{kind}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_error_inside_an_io_error_is_not_skipped() {
        assert_eq!(of(io::Error::other(elapsed().await)), FailureKind::Timeout.into());
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(of(io::Error::other(refused)), FailureKind::Connect.into());
    }

    #[test]
    fn a_failure_in_the_chain_is_the_outcome() {
        let failure = Failure::new(FailureKind::Custom("quota")).retry_after(Duration::from_secs(9));
        assert_eq!(of(wrapped(failure)), Outcome::Failure(failure));
        assert!(!find(&failure).network);
    }

    #[test]
    fn the_outermost_known_error_decides() {
        let inner = Failure::new(FailureKind::Overloaded);
        let error = io::Error::new(io::ErrorKind::TimedOut, inner);
        assert_eq!(of(wrapped(error)), FailureKind::Timeout.into());
    }

    #[test]
    fn an_unknown_error_is_other_and_counts_as_one_of_the_network() {
        // C28
        assert_eq!(find(&Wrapped(None)), Finding { outcome: FailureKind::Other.into(), network: true });
    }

    #[test]
    fn the_walk_of_a_cyclic_or_deep_chain_ends() {
        // C58
        #[derive(Debug)]
        struct Cycle;
        impl fmt::Display for Cycle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("cycle")
            }
        }
        impl Error for Cycle {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&Cycle)
            }
        }
        assert_eq!(of(Cycle), FailureKind::Other.into());

        let deep = (0..100_000).fold(BoxError::from("end"), |error, _| wrapped(error));
        assert_eq!(inspect(&*deep), FailureKind::Other.into());
        // Dropped link by link, since the recursive drop of a chain this long would overflow the stack.
        let mut rest = Some(deep);
        while let Some(error) = rest.take() {
            rest = error.downcast::<Wrapped>().ok().and_then(|mut wrapped| wrapped.0.take());
        }
    }

    fn any_link(kind: u8, inner: Option<BoxError>) -> BoxError {
        use io::ErrorKind::*;
        let io = [TimedOut, ConnectionRefused, ConnectionReset, Other, InvalidData, WouldBlock][usize::from(kind) % 6];
        match (kind / 6, inner) {
            (0, Some(inner)) => io::Error::new(io, inner).into(),
            (0, None) => io::Error::from(io).into(),
            (1, _) => Failure::new(FailureKind::Custom("x")).into(),
            (2, _) => tower::timeout::error::Elapsed::new().into(),
            (3, _) => tower::load_shed::error::Overloaded::new().into(),
            (4, _) => "text".into(),
            #[cfg(feature = "http")]
            (5, _) => h2::Error::from(h2::Reason::from(u32::from(kind))).into(),
            (_, inner) => Wrapped(inner).into(),
        }
    }

    proptest! {
        #[test]
        fn no_chain_makes_it_panic_and_wrapping_changes_nothing(
            kinds in proptest::collection::vec(0u8..60, 0..20), wraps in 0usize..10,
        ) {
            // C58
            let chain = |wraps: usize| {
                let inner = kinds.iter().fold(None, |inner, kind| Some(any_link(*kind, inner)));
                (0..wraps).fold(Wrapped(inner).into(), |error: BoxError, _| wrapped(error))
            };
            let outcome = inspect(&*chain(0));
            prop_assert!(!outcome.is_success());
            prop_assert_eq!(inspect(&*chain(wraps)), outcome);
        }
    }
}
