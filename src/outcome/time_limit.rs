//! The limits on the time of an attempt, and the error of one that exceeded them.

use std::{error::Error, fmt, time::Duration};

use super::{Failure, FailureKind};
use crate::{name::BackendName, setting::InvalidSetting};

/// Limits on the parts of a response, besides the timeout of the whole attempt. By default there are none.
///
/// ```text
///  call ───────► head ───► first byte ──► first content ──► frame ──► frame ──► end
///  ├── head ────►│         │              │                 ├─ idle ─►│
///  ├── first_byte ────────►│              │
///  ├── first_content ────────────────────►│
/// ```
///
/// | limit | a backend that exceeds it |
/// |---|---|
/// | [`head`](Self::head) | accepts requests and does not respond |
/// | [`first_byte`](Self::first_byte) | sends the head at once, to keep the caller waiting |
/// | [`first_content`](Self::first_content) | sends comments and pings only, which are no content |
/// | [`idle`](Self::idle) | stops in the middle of the body |
///
/// They apply to every response of the backend or door for which they are set, before and after it is committed: before,
/// the request moves on to another backend; after, the body ends with a [`TimedOut`]. Both count as a failure of the
/// backend. What the attempt waits for the caller does not count: for its request body, or until it reads on.
///
/// What is content is decided by [`HttpClassifier::events`](super::HttpClassifier::events) for event streams. Of every
/// other body, each byte is.
///
/// ```
/// # use std::time::Duration;
/// # use tower_fleet::{Backend, FailoverLayer, TimeLimits};
/// # let client = ();
/// let limits = TimeLimits::new().first_content(Duration::from_secs(20)).idle(Duration::from_secs(15));
/// let door = FailoverLayer::builder().time_limits(limits).build()?;
/// // One that thinks for long. Its limits apply in place of those of the door, each for itself.
/// let thinker = Backend::new("thinker", client).time_limits(TimeLimits::new().first_content(Duration::from_secs(300)));
/// # let _ = (door, thinker);
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "does nothing until it is given to a backend or a door"]
pub struct TimeLimits {
    pub(crate) head: Option<Duration>,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) first_content: Option<Duration>,
    pub(crate) idle: Option<Duration>,
}

impl TimeLimits {
    /// Creates limits that limit nothing.
    pub const fn new() -> Self {
        Self { head: None, first_byte: None, first_content: None, idle: None }
    }

    /// Limits the time from the call to the head of the response.
    pub fn head(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.head = limit.into();
        self
    }

    /// Limits the time from the call to the first byte of the body.
    pub fn first_byte(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.first_byte = limit.into();
        self
    }

    /// Limits the time from the call to the first content of the body: in an event stream, the first event with content.
    pub fn first_content(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.first_content = limit.into();
        self
    }

    /// Limits the time between two frames of the body, whatever they contain. It applies from the first content on; from
    /// the head on if there is no limit on the first byte or the first content.
    pub fn idle(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle = limit.into();
        self
    }

    /// These limits, and those of `others` where this one has none.
    pub(crate) fn or(self, others: &Self) -> Self {
        Self {
            head: self.head.or(others.head),
            first_byte: self.first_byte.or(others.first_byte),
            first_content: self.first_content.or(others.first_content),
            idle: self.idle.or(others.idle),
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        *self == Self::new()
    }

    /// Whether something of the body is limited.
    pub(crate) fn limits_body(&self) -> bool {
        self.first_byte.is_some() || self.first_content.is_some() || self.idle.is_some()
    }

    /// The limit that ends first for an attempt without a head: no part of a response comes before its head.
    pub(crate) fn until_head(&self) -> Option<(Duration, TimeLimit)> {
        let limits = [
            (self.head, TimeLimit::Head),
            (self.first_byte, TimeLimit::FirstByte),
            (self.first_content, TimeLimit::FirstContent),
        ];
        limits.into_iter().filter_map(|(time, limit)| Some((time?, limit))).min_by_key(|(time, _)| *time)
    }

    /// Returns an error for a limit of zero, and for one that can never be reached before another one.
    pub(crate) fn checked(
        &self,
        refuse: impl Fn(&'static str, &dyn fmt::Debug, &'static str) -> InvalidSetting,
    ) -> Result<(), InvalidSetting> {
        let all = [
            ("head", self.head),
            ("first_byte", self.first_byte),
            ("first_content", self.first_content),
            ("idle", self.idle),
        ];
        for (field, limit) in all {
            if limit.is_some_and(|limit| limit.is_zero()) {
                return Err(refuse(field, &Duration::ZERO, "must be longer than zero"));
            }
        }
        let mut before: Option<Duration> = None;
        for (field, limit) in &all[..3] {
            let Some(limit) = limit else { continue };
            if before.is_some_and(|before| *limit < before) {
                return Err(refuse(field, limit, "must be at least as long as the limit of the part before it"));
            }
            before = Some(*limit);
        }
        Ok(())
    }
}

/// The error of an attempt that timed out, or of a body that did.
///
/// It is in the [source](Error::source) chain of the error of a [`Failover`](crate::Failover).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimedOut {
    /// The name of the backend.
    pub backend: BackendName,
    /// The time that the attempt had.
    pub timeout: Duration,
    /// The setting that limited it.
    pub limit: TimeLimit,
}

/// The setting that limits the time of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeLimit {
    /// The timeout of the backend: [`Backend::timeout`](crate::Backend::timeout).
    Backend,
    /// The timeout of each attempt of a failover:
    /// [`FailoverBuilder::timeout`](crate::failover::FailoverBuilder::timeout).
    Attempt,
    /// The attempt's share of the deadline of a request. Does not count as a failure of the backend.
    Request,
    /// The time to the head of the response: [`TimeLimits::head`].
    Head,
    /// The time to the first byte of the body: [`TimeLimits::first_byte`].
    FirstByte,
    /// The time to the first content of the body: [`TimeLimits::first_content`].
    FirstContent,
    /// The time between two frames of the body: [`TimeLimits::idle`].
    Idle,
}

impl TimedOut {
    pub(crate) fn new(backend: BackendName, timeout: Duration, limit: TimeLimit) -> Self {
        Self { backend, timeout, limit }
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, timeout, limit } = self;
        let (part, limit) = match limit {
            TimeLimit::Backend => ("did not answer", "its timeout"),
            TimeLimit::Attempt => ("did not answer", "the timeout of an attempt"),
            TimeLimit::Request => ("did not answer", "its share of the request's time"),
            TimeLimit::Head => ("sent no head", "the limit to the head"),
            TimeLimit::FirstByte => ("sent no byte of the body", "the limit to the first byte"),
            TimeLimit::FirstContent => ("sent no content", "the limit to the first content"),
            TimeLimit::Idle => ("sent nothing more of the body", "the limit between two frames"),
        };
        write!(f, "backend `{backend}` {part} within {timeout:?}, {limit}")
    }
}

impl Error for TimedOut {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        const FAILURE: &Failure = &Failure::new(FailureKind::Timeout);
        Some(FAILURE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    // C62, C73
    #[test]
    fn the_error_names_the_part_that_was_late() {
        let text = |limit| TimedOut::new(BackendName::lossy("a"), seconds(2), limit).to_string();
        assert_eq!(
            text(TimeLimit::FirstContent),
            "backend `a` sent no content within 2s, the limit to the first content"
        );
        assert_eq!(text(TimeLimit::Backend), "backend `a` did not answer within 2s, its timeout");
    }

    // C73
    #[test]
    fn each_limit_of_a_backend_replaces_that_of_the_door() {
        let door = TimeLimits::new().head(seconds(1)).first_content(seconds(5)).idle(seconds(3));
        let backend = TimeLimits::new().first_content(seconds(50));
        assert_eq!(backend.or(&door), TimeLimits::new().head(seconds(1)).first_content(seconds(50)).idle(seconds(3)));
        assert_eq!(door.until_head(), Some((seconds(1), TimeLimit::Head)));
        assert_eq!(backend.until_head(), Some((seconds(50), TimeLimit::FirstContent)));
        assert_eq!(TimeLimits::new().idle(seconds(1)).until_head(), None);
    }

    // C63, C73
    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        let refused = |limits: TimeLimits| {
            let refuse = |field, value: &dyn fmt::Debug, reason| {
                InvalidSetting::of_backend("a", field, format_args!("{value:?}"), reason)
            };
            limits.checked(refuse).unwrap_err().to_string()
        };
        assert!(refused(TimeLimits::new().idle(Duration::ZERO)).contains("idle"));
        let late = TimeLimits::new().head(seconds(3)).first_content(seconds(2));
        assert!(refused(late).contains("first_content 2s must be at least as long"), "{}", refused(late));
    }
}
