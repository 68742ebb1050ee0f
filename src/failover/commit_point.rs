//! The moment at which an HTTP response is final.

use std::{fmt, sync::Arc};

/// The moment at which a response is final. Before it, a failure or a timeout moves the request on to another backend.
/// After it, the request is not sent again, and an error appears in the body.
///
/// The success of the attempt is recorded at this point too. A response that fails before it is a failure of its
/// backend, for the circuit as well. A classifier that waits for the end of the body records the success there.
///
/// | commit point | for | costs |
/// |---|---|---|
/// | [`head`](Self::head) | most APIs; the default | nothing |
/// | [`first_frame`](Self::first_frame) | streams that are slow to start | a delay until the first frame, and its copy |
/// | [`whole`](Self::whole) | small documents that must not be cut short | a buffer of up to `bound` bytes |
/// | [`prelude`](Self::prelude) | event streams, and errors under a 200 | the same, and the frame that reaches the bound |
///
/// Data that is read before is copied into one buffer, and returned as one frame. So no read buffer of a connection is
/// kept alive, and a response holds as much when it arrives a byte at a time. The frames after it are passed on as they
/// come.
///
/// Set it with [`FailoverBuilder::commit`](super::FailoverBuilder::commit).
#[derive(Clone, Default)]
pub struct CommitPoint(pub(super) Point);

#[derive(Clone, Default)]
pub(super) enum Point {
    #[default]
    Head,
    FirstFrame,
    Whole(usize),
    Prelude(usize, Arc<Decide>),
}

pub(super) type Decide = dyn Fn(&[u8]) -> Decision + Send + Sync;

/// The decision of a predicate about the beginning of a body. See [`CommitPoint::prelude`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// More of the body is needed to decide.
    Wait,
    /// The response is final.
    Accept,
    /// The response is a failure with this name, which the ledger shows.
    Refuse(&'static str),
}

impl CommitPoint {
    /// Commits at the head of the response. The default.
    pub const fn head() -> Self {
        Self(Point::Head)
    }

    /// Commits at the first frame of the body, or at its end if it is empty.
    pub const fn first_frame() -> Self {
        Self(Point::FirstFrame)
    }

    /// Commits at the end of the body if its size is known in advance and at most `bound` bytes, otherwise at the head.
    ///
    /// So a small response that is cut short moves the request on, and streams and large bodies are not delayed.
    /// Timeouts run until the end of the body. A response that is longer than its announced size commits when it exceeds
    /// `bound`.
    pub const fn whole(bound: usize) -> Self {
        Self(Point::Whole(bound))
    }

    /// Commits when `decide` accepts the beginning of the body. If it has not decided after `bound` bytes, or at the end
    /// of the body, the response commits there.
    ///
    /// `decide` is called with all data that has arrived so far: first with none, then again after each frame. The
    /// frame that reaches the bound is passed as a whole.
    ///
    /// ```
    /// # use tower_fleet::failover::{CommitPoint, Decision};
    /// // An event stream may start with a comment, followed by an error.
    /// let point = CommitPoint::prelude(8 * 1024, |data| {
    ///     let text = String::from_utf8_lossy(data);
    ///     match text.split("\n\n").find(|event| !event.starts_with(':') && !event.is_empty()) {
    ///         Some(event) if event.starts_with("event: error") => Decision::Refuse("error event"),
    ///         Some(_) => Decision::Accept,
    ///         None => Decision::Wait,
    ///     }
    /// });
    /// # let _ = point;
    /// ```
    pub fn prelude(bound: usize, decide: impl Fn(&[u8]) -> Decision + Send + Sync + 'static) -> Self {
        Self(Point::Prelude(bound, Arc::new(decide)))
    }
}

impl fmt::Debug for CommitPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Point::Head => f.write_str("Head"),
            Point::FirstFrame => f.write_str("FirstFrame"),
            Point::Whole(bound) => f.debug_tuple("Whole").field(bound).finish(),
            Point::Prelude(bound, _) => f.debug_tuple("Prelude").field(bound).finish(),
        }
    }
}
