//! The watch over the events of a response: what they mean, and whether the stream ends as it should.

use std::{fmt, mem};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

use super::super::{FailureKind, Outcome, received::Received};
use crate::content::{EventClass, EventReader, EventRules};

/// The longest event that is passed on as a whole.
const LONGEST_EVENT: usize = 64 * 1024;

/// The watch over the events of one response. Made by an [`HttpClassifier`](super::HttpClassifier) with
/// [rules](super::HttpClassifier::events).
///
/// Passes on whole events only, so that a stream that breaks ends between two of them, and an error event can follow.
pub struct EventWatch {
    rules: EventRules,
    reader: EventReader,
    /// The beginning of an event whose end was not received.
    held: Vec<u8>,
    state: State,
    /// Whether a part of an unfinished event was passed on, since it is too long to be held.
    is_torn: bool,
    /// Whether the error event is a part of the error.
    is_plain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// The end marker was received.
    Ended,
    /// The backend sent an error event, which is passed on. What follows it is up to the backend.
    ErrorEvent,
    Malformed,
}

/// Why a stream of events has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamFailure {
    /// The backend sent an error event.
    ErrorEvent,
    Malformed,
    /// It ended without its end marker.
    NoEnd,
}

impl StreamFailure {
    pub(super) const fn kind(self) -> FailureKind {
        match self {
            Self::ErrorEvent => FailureKind::Custom("error event"),
            Self::Malformed => FailureKind::MALFORMED,
            Self::NoEnd => FailureKind::NO_END,
        }
    }
}

impl EventWatch {
    pub(super) fn new(rules: &EventRules, is_plain: bool) -> Box<Self> {
        Box::new(Self {
            rules: rules.clone(),
            reader: EventReader::new(LONGEST_EVENT),
            held: Vec::new(),
            state: State::Running,
            is_torn: false,
            is_plain,
        })
    }

    /// Reads the data of a frame, and notes what it contains. Returns what is passed on, and the failure that the
    /// stream shows in this frame.
    pub(super) fn read(&mut self, data: Bytes, received: &mut Received) -> (Bytes, Option<StreamFailure>) {
        let Self { rules, reader, state, .. } = self;
        let (before, mut good) = (*state, 0);
        let whole = reader.read(&data, |event| {
            match (*state, rules.class(&event)) {
                // Nothing after a malformed event is passed on.
                (State::Malformed, _) => return,
                (State::Running, EventClass::Malformed) => {
                    *state = State::Malformed;
                    return;
                }
                (_, EventClass::Content) => received.content = true,
                (State::Running, EventClass::End) => {
                    *state = State::Ended;
                    received.end_marker = true;
                }
                (State::Running, EventClass::Error) => *state = State::ErrorEvent,
                _ => {}
            }
            good = event.end;
        });
        let failure = match *state {
            state if state == before => None,
            State::ErrorEvent => Some(StreamFailure::ErrorEvent),
            State::Malformed => Some(StreamFailure::Malformed),
            State::Running | State::Ended => None,
        };
        let passed = match *state {
            State::Malformed if good == 0 => Bytes::new(),
            State::Malformed => {
                self.is_torn = false;
                self.join(data.slice(..good))
            }
            _ => self.pass(data, whole),
        };
        (passed, failure)
    }

    /// Returns what is held, up to the first `whole` bytes of `data`, and holds the rest. What is too long to be held is
    /// returned too.
    fn pass(&mut self, data: Bytes, whole: usize) -> Bytes {
        let rest = data.len() - whole;
        if whole > 0 {
            self.is_torn = false;
        }
        let is_held = if whole > 0 { 0 } else { self.held.len() };
        if rest == 0 || self.is_torn || is_held + rest > LONGEST_EVENT {
            self.is_torn |= rest > 0;
            return self.join(data);
        }
        let passed = if whole > 0 { self.join(data.slice(..whole)) } else { Bytes::new() };
        self.held.extend_from_slice(&data[whole..]);
        passed
    }

    /// Returns what is held, and the data after it. Without a copy if nothing is held.
    fn join(&mut self, data: Bytes) -> Bytes {
        if self.held.is_empty() {
            return data;
        }
        let mut joined = mem::take(&mut self.held);
        joined.extend_from_slice(&data);
        joined.into()
    }

    /// Whether the stream has to end with a marker.
    pub(super) fn has_end(&self) -> bool {
        self.rules.has_end()
    }

    /// The failure of a stream that ends here.
    pub(super) fn end(&self) -> Option<StreamFailure> {
        (self.state == State::Running && self.rules.has_end()).then_some(StreamFailure::NoEnd)
    }

    /// Whether the end marker was received.
    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// What is held of an event without an end, of a stream that may end there.
    pub(super) fn rest(&mut self) -> Option<Bytes> {
        (!self.held.is_empty()).then(|| mem::take(&mut self.held).into())
    }

    /// Whether nothing is held, and the stream may end here.
    pub(super) fn is_complete(&self) -> bool {
        self.held.is_empty() && self.end().is_none()
    }

    /// The error event for a body that ends with this outcome. `None` if it would not be read as one, and if the stream
    /// had ended or failed already.
    pub(super) fn error_event(&self, outcome: &Outcome) -> Option<Bytes> {
        let is_open = matches!(self.state, State::Running | State::Malformed);
        (is_open && !self.is_torn).then(|| self.rules.error_event(reason(outcome)))
    }

    /// Whether the error event is a part of the error.
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }
}

/// What the caller is told. Names neither a backend nor what its error says.
fn reason(outcome: &Outcome) -> &'static str {
    match outcome.failure().map(|failure| failure.kind()) {
        Some(FailureKind::Timeout) => "the stream stalled before it was complete",
        Some(FailureKind::NO_END) => "the stream ended before it was complete",
        Some(FailureKind::MALFORMED) => "the stream was malformed before it was complete",
        _ => "the stream broke off before it was complete",
    }
}

/// Whether the body is a stream of events, which may be compressed.
pub(crate) fn has_events(headers: &HeaderMap) -> bool {
    let is_type = |value: &HeaderValue| {
        let media_type = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        media_type.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    };
    headers.get(CONTENT_TYPE).is_some_and(is_type)
}

/// Whether the body is compressed, or encoded otherwise.
pub(crate) fn is_encoded(headers: &HeaderMap) -> bool {
    let is_plain = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    !headers.get_all(CONTENT_ENCODING).iter().all(is_plain)
}

// Shows no data of the stream.
impl fmt::Debug for EventWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventWatch").field("state", &self.state).finish_non_exhaustive()
    }
}
