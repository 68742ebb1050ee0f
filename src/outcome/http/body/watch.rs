//! Reads the frames of a body, and records how it ends.

use std::{error::Error, fmt};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::{
    super::{
        super::{BoxError, CallGuard, Failure},
        end::ClassifyEnd,
        events::{EventWatch, StreamFailure},
    },
    tail::Tail,
};
use crate::name::BackendName;

/// What records how a body ends.
pub(super) struct Watch<'a, E> {
    pub(super) end: &'a mut Option<E>,
    pub(super) guard: &'a mut Option<CallGuard>,
    pub(super) events: &'a mut Option<Box<EventWatch>>,
}

/// What is returned for a frame.
pub(super) enum Read {
    /// This frame, or the end.
    Passed(Option<Frame<Bytes>>),
    /// Nothing: it is a part of an event whose end was not received.
    Held,
    /// What is here.
    Tail(Box<Tail>),
}

impl<E: ClassifyEnd> Watch<'_, E> {
    /// Reads a frame. With `is_last`, the body has no other.
    pub(super) fn frame(&mut self, frame: Frame<Bytes>, is_last: bool) -> Read {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                let tail = self.end(frame.trailers_ref());
                return tail.map_or(Read::Passed(Some(frame)), Read::Tail);
            }
        };
        let data = match self.data(data) {
            Ok(data) => data,
            Err(tail) => return Read::Tail(tail),
        };
        // A server does not poll again for the final `None`.
        if is_last && let Some(mut tail) = self.end(None) {
            tail.prepend(data);
            return Read::Tail(tail);
        }
        if data.is_empty() && self.events.is_some() && !is_last {
            return Read::Held;
        }
        Read::Passed(Some(Frame::data(data)))
    }

    /// Returns what is passed on of the data, or what follows if the stream is broken.
    fn data(&mut self, data: Bytes) -> Result<Bytes, Box<Tail>> {
        let Some(guard) = self.guard else { return Ok(data) };
        if !data.is_empty() {
            guard.first_byte();
        }
        let Some(events) = self.events else {
            guard.received_mut().content |= !data.is_empty();
            return Ok(data);
        };
        let (data, failure) = events.read(data, guard.received_mut());
        match failure {
            None => Ok(data),
            // The backend has told the caller.
            Some(StreamFailure::ErrorEvent) => {
                guard.outcome(&StreamFailure::ErrorEvent.kind().into());
                Ok(data)
            }
            Some(failure) => {
                let mut tail = self.broken(failure);
                tail.prepend(data);
                Err(tail)
            }
        }
    }

    /// Records the end of the body, without an error. Returns what follows its last frame, if something does.
    pub(super) fn end(&mut self, trailers: Option<&HeaderMap>) -> Option<Box<Tail>> {
        if let Some(events) = self.events {
            if let Some(failure) = events.end() {
                return Some(self.broken(failure));
            }
            if let Some(rest) = events.rest() {
                record_end(self.end, self.guard, trailers);
                return Some(Box::new(Tail { data: Some(rest), trailers: trailers.cloned(), ..Tail::default() }));
            }
        }
        record_end(self.end, self.guard, trailers);
        None
    }

    /// Records that the stream of events is broken.
    fn broken(&mut self, failure: StreamFailure) -> Box<Tail> {
        let backend = self.guard.as_ref().and_then(CallGuard::backend).cloned();
        self.fail(BrokenStream { backend, failure: failure.kind().into() }.into())
    }

    /// Records that the body has failed, or that it has ended if it was complete before.
    #[cold]
    pub(super) fn error(&mut self, error: BoxError) -> Read {
        if self.events.as_ref().is_some_and(|events| events.has_ended()) {
            record_end(self.end, self.guard, None);
            return Read::Tail(Box::default());
        }
        Read::Tail(self.fail(error))
    }

    /// Records that the body has failed. Returns what follows its last frame: an error event if it is a stream of events,
    /// and the error.
    #[cold]
    fn fail(&mut self, error: BoxError) -> Box<Tail> {
        let mut event = None;
        if let Some((end, guard)) = self.end.take().zip(self.guard.as_mut()) {
            let outcome = end.error(&error);
            guard.outcome(&outcome);
            guard.end();
            // Last, since the form of the error is the caller's code, which may panic.
            event = self.events.as_ref().and_then(|events| events.error_event(&outcome));
        }
        let is_plain = self.events.as_ref().is_some_and(|events| events.is_plain());
        let (data, error) = match event {
            Some(event) if is_plain => (None, Interrupted { event, source: error }.into()),
            event => (event, error),
        };
        Box::new(Tail { data, error: Some(error), ..Tail::default() })
    }
}

pub(super) fn record_end<E: ClassifyEnd>(
    end: &mut Option<E>,
    guard: &mut Option<CallGuard>,
    trailers: Option<&HeaderMap>,
) {
    if let Some((end, guard)) = end.take().zip(guard.as_mut()) {
        let outcome = end.end(trailers);
        if outcome.is_success() {
            // Of a body without data, which has ended.
            guard.first_byte();
        }
        guard.outcome(&outcome);
        guard.end();
    }
}

/// The error of a stream of events that broke, with the error event for the caller: for a request with
/// [`PlainErrors`](crate::outcome::PlainErrors).
#[derive(Debug)]
#[non_exhaustive]
pub struct Interrupted {
    /// The error event, in the form of the API. It belongs after a whole event, which what was passed on ends with.
    pub event: Bytes,
    source: BoxError,
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("event stream interrupted")
    }
}

impl Error for Interrupted {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

/// The error of a body whose stream of events ended without its end marker, or had a malformed event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokenStream {
    /// The name of the backend; `None` for a body that is not of a fleet.
    pub backend: Option<BackendName>,
    failure: Failure,
}

impl fmt::Display for BrokenStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(backend) = &self.backend {
            write!(f, "backend `{backend}`: ")?;
        }
        write!(f, "broken event stream: {}", self.failure)
    }
}

impl Error for BrokenStream {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.failure)
    }
}
