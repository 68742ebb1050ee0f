use std::{fmt, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::outcome::BoxError;

/// An error of somebody's own, around another.
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

// C37: nobody was asked.
#[cfg(unix)]
#[test]
fn our_own_lack_of_files_says_nothing_of_the_backend() {
    for code in [23, 24] {
        let lack = || std::io::Error::from_raw_os_error(code);
        assert_eq!(of(lack()), Outcome::Neutral);
        assert_eq!(of(wrapped(std::io::Error::other(wrapped(lack())))), Outcome::Neutral);
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
fn only_certain_io_errors_mean_that_nothing_was_sent() {
    // C26, C27
    use io::ErrorKind::*;
    for kind in [ConnectionRefused, AddrNotAvailable] {
        assert_eq!(of(io::Error::from(kind)), FailureKind::Connect.into(), "{kind}");
    }
    for kind in [ConnectionReset, ConnectionAborted, BrokenPipe, UnexpectedEof, NotConnected, HostUnreachable, Other] {
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
fn a_service_may_say_itself_how_it_failed() {
    let failure = Failure::new(FailureKind::Custom("quota")).retry_after(Duration::from_secs(9));
    assert_eq!(of(wrapped(failure)), Outcome::Failure(failure));
    assert!(!find(&failure).network);
}

#[test]
fn the_outermost_word_counts() {
    let said = Failure::new(FailureKind::Overloaded);
    let error = io::Error::new(io::ErrorKind::TimedOut, said);
    assert_eq!(of(wrapped(error)), FailureKind::Timeout.into());
}

#[test]
fn the_unknown_is_other_and_belongs_to_the_network() {
    // C28
    assert_eq!(find(&Wrapped(None)), Finding { outcome: FailureKind::Other.into(), network: true });
}

#[test]
fn a_chain_without_an_end_ends() {
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
    // Dropped one by one: the drop of a chain this long would overflow the stack by itself.
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
