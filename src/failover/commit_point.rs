//! The moment at which an HTTP response is final.

use std::{fmt, sync::Arc, time::Duration};

use super::invalid::invalid;
use crate::{body::ReplayMemory, setting::InvalidSetting};

/// The moment at which a response is final. Before it, a failure or a timeout moves the request on to another backend.
/// After it, the request is not sent again, and an error appears in the body.
///
/// The success of the attempt is recorded at this point too. A response that fails before it is a failure of its
/// backend, for the circuit as well. A classifier that waits for the end of the body records the success there.
///
/// | commit point | for | costs |
/// |---|---|---|
/// | [`head`](Self::head) | most APIs; the default | nothing |
/// | [`first_frame`](Self::first_frame) | streams that are slow to start | a delay until the first frame |
/// | [`first_content`](Self::first_content) | event streams that start with pings, or with an error | a delay until the first event with content |
/// | [`until_end`](Self::until_end) | event streams that must not be cut short | a buffer, and a delay until the end marker |
/// | [`until`](Self::until) | other streams that end with a marker | the same |
/// | [`whole`](Self::whole) | documents that must not be cut short | the same, until the end of the body |
/// | [`prelude`](Self::prelude) | a decision of your own | a buffer of up to the bound, and the frame that reaches it |
///
/// A response is held in memory until it is final: at most `bound` bytes of it, and all of them together at most the
/// [memory](Self::memory). [Beyond](Self::beyond) that, or after the [time](Self::within), it is final or a failure, by
/// choice.
///
/// Data that is held is copied into one buffer, and returned as one frame. So no read buffer of a connection is kept
/// alive, and a response holds as much when it arrives a byte at a time. The frame that makes the response final and those
/// after it are passed on as they come.
///
/// Set it with [`FailoverBuilder::commit`](super::FailoverBuilder::commit).
#[derive(Clone)]
#[must_use = "does nothing until a layer is built with it"]
pub struct CommitPoint {
    pub(super) point: Point,
    pub(super) bound: usize,
    pub(super) within: Option<Duration>,
    pub(super) beyond: Beyond,
    pub(super) memory: ReplayMemory,
}

#[derive(Clone)]
pub(super) enum Point {
    Head,
    FirstFrame,
    FirstContent,
    UntilEnd,
    Until(Arc<[u8]>),
    Whole,
    Prelude(Arc<Decide>),
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

/// What a response becomes that exceeds the bounds on what is held of it. See [`CommitPoint::beyond`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Beyond {
    /// It is final. The default.
    #[default]
    Commit,
    /// It is a failure with the name `not held`, and the request moves on.
    Fail,
}

impl CommitPoint {
    const fn new(point: Point, bound: usize) -> Self {
        Self { point, bound, within: None, beyond: Beyond::Commit, memory: ReplayMemory::process() }
    }

    /// Commits at the head of the response. The default.
    pub const fn head() -> Self {
        Self::new(Point::Head, 0)
    }

    /// Commits at the first data of the body, or at its end if it is empty.
    pub const fn first_frame() -> Self {
        Self::new(Point::FirstFrame, 0)
    }

    /// Commits an event stream at its first event with content, by the rules of
    /// [`HttpClassifier::events`](crate::outcome::HttpClassifier::events). Without rules, and if it is compressed, each byte
    /// is content.
    ///
    /// So an error event, a malformed event, and an end or a stall before any content move the request on. Every other
    /// response is held [whole](Self::whole).
    pub const fn first_content(bound: usize) -> Self {
        Self::new(Point::FirstContent, bound)
    }

    /// Commits an event stream at its end marker, by the rules of
    /// [`HttpClassifier::events`](crate::outcome::HttpClassifier::events). Without rules, or if they have no end marker, at
    /// its end.
    ///
    /// So a stream that fails, stalls or ends too early moves the request on, and the caller gets complete responses only.
    /// Every other response is held [whole](Self::whole).
    pub const fn until_end(bound: usize) -> Self {
        Self::new(Point::UntilEnd, bound)
    }

    /// Commits when the body contains this marker. A body that ends without it is a failure with the name
    /// `no end marker`, if its status is 2xx. Every other response is held [whole](Self::whole).
    pub fn until(marker: impl AsRef<[u8]>, bound: usize) -> Self {
        Self::new(Point::Until(marker.as_ref().into()), bound)
    }

    /// Commits at the end of the body. A body that is known to be longer than `bound` bytes commits at the head.
    ///
    /// So a response that is cut short moves the request on. Timeouts run until the end of the body. Streams are delayed:
    /// see [`first_content`](Self::first_content).
    pub const fn whole(bound: usize) -> Self {
        Self::new(Point::Whole, bound)
    }

    /// Commits when `decide` accepts the beginning of the body. If it has not decided after `bound` bytes, or at the end
    /// of the body, the response commits there.
    ///
    /// `decide` is called with all data that has arrived so far: first with none, then again after each frame. The
    /// frame that reaches the bound is passed as a whole.
    ///
    /// ```
    /// # use tower_fleet::failover::{CommitPoint, Decision};
    /// // A stream of lines may start with an error.
    /// let point = CommitPoint::prelude(8 * 1024, |data| match data.iter().position(|byte| *byte == b'\n') {
    ///     Some(_) if data.starts_with(b"{\"error\"") => Decision::Refuse("error line"),
    ///     Some(_) => Decision::Accept,
    ///     None => Decision::Wait,
    /// });
    /// # let _ = point;
    /// ```
    pub fn prelude(bound: usize, decide: impl Fn(&[u8]) -> Decision + Send + Sync + 'static) -> Self {
        Self::new(Point::Prelude(Arc::new(decide)), bound)
    }

    /// Limits how long a response is held, from the start of its attempt. Default: as long as the attempt may take.
    pub const fn within(mut self, time: Duration) -> Self {
        self.within = Some(time);
        self
    }

    /// Sets what a response becomes that exceeds the bound, the memory or the time. Default [`Beyond::Commit`].
    pub const fn beyond(mut self, beyond: Beyond) -> Self {
        self.beyond = beyond;
        self
    }

    /// Sets the memory that held data is charged to, for all responses together. Default
    /// [`ReplayMemory::process`], which request bodies are charged to as well.
    pub fn memory(mut self, memory: ReplayMemory) -> Self {
        self.memory = memory;
        self
    }

    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        if self.within.is_some_and(|time| time.is_zero()) {
            return Err(invalid("commit.within", "0ns", "must be longer than zero"));
        }
        match &self.point {
            Point::Until(marker) if marker.is_empty() => Err(invalid("commit.until", "", "must not be empty")),
            Point::Until(marker) if marker.len() > self.bound => {
                let reason = "must be at least as large as the marker";
                Err(invalid("commit.bound", self.bound, reason))
            }
            Point::FirstContent | Point::UntilEnd if self.bound == 0 => {
                Err(invalid("commit.bound", 0, "must be at least 1 byte"))
            }
            _ => Ok(()),
        }
    }
}

impl Default for CommitPoint {
    fn default() -> Self {
        Self::head()
    }
}

impl fmt::Debug for CommitPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let point = match &self.point {
            Point::Head => return f.write_str("Head"),
            Point::FirstFrame => return f.write_str("FirstFrame"),
            Point::FirstContent => "FirstContent",
            Point::UntilEnd => "UntilEnd",
            Point::Until(_) => "Until",
            Point::Whole => "Whole",
            Point::Prelude(_) => "Prelude",
        };
        let mut shown = f.debug_struct(point);
        shown.field("bound", &self.bound).field("within", &self.within).field("beyond", &self.beyond).finish()
    }
}
