//! Reads an HTTP response until it is final.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::Response;
use http_body::Body;
use tokio::time::{Sleep, sleep};

use super::{
    Beyond, CommitPoint, Decision, GuardOf, Rejected, Rejections,
    commit_point::{Decide, Point},
    peeked_body::Beginning,
};
use crate::{
    body::{Charge, into_bytes},
    outcome::{CallGuard, FailureKind, Outcome, Received, has_events, is_encoded},
};

/// An HTTP response, and what was read of its body before it is final.
pub struct Peek<B: Body> {
    pub(super) response: Response<B>,
    pub(super) beginning: Beginning<B::Error>,
    wait: Wait,
    /// Whether the response is an error that is read for the rules on rejections.
    is_error: bool,
    /// Ends the wait for the body of an error.
    patience: Option<Pin<Box<Sleep>>>,
    bound: usize,
    beyond: Beyond,
}

/// What a response has to show before it is final.
enum Wait {
    Nothing,
    FirstFrame,
    FirstContent,
    EndMarker,
    Marker(Arc<[u8]>),
    End,
    Decision(Arc<Decide>),
}

/// How long the body of an error is waited for.
const ERROR_BODY: Duration = Duration::from_secs(1);

/// How many frames one poll reads at most.
const MAX_FRAMES: u32 = 32;

impl<B: Body + Unpin> Peek<B> {
    pub(super) fn new(response: Response<B>, point: &CommitPoint, received: Received) -> Self {
        let bound = point.bound;
        let is_too_long = response.body().size_hint().lower() > bound as u64;
        let wait = match &point.point {
            Point::Head => Wait::Nothing,
            Point::FirstFrame => Wait::FirstFrame,
            Point::FirstContent if received.is_events => Wait::FirstContent,
            // There are no rules for it, or it is compressed.
            Point::FirstContent if has_events(response.headers()) => Wait::FirstFrame,
            Point::UntilEnd if received.has_end => Wait::EndMarker,
            Point::Until(marker) if response.status().is_success() && !received.has_no_body => {
                Wait::Marker(Arc::clone(marker))
            }
            Point::Prelude(decide) => Wait::Decision(Arc::clone(decide)),
            _ if is_too_long && point.beyond == Beyond::Commit => Wait::Nothing,
            Point::FirstContent | Point::UntilEnd | Point::Until(_) | Point::Whole => Wait::End,
        };
        let charge = Charge::new(point.memory.clone());
        Self {
            response,
            beginning: Beginning::new(charge),
            wait,
            is_error: false,
            patience: None,
            bound,
            beyond: point.beyond,
        }
    }

    /// Reads a response whose status the rules on rejections concern.
    pub(super) fn of_error(response: Response<B>, rejections: &Rejections, point: &CommitPoint) -> Self {
        let bound = rejections.body_bound();
        let is_read = rejections.needs_body(response.status().as_u16())
            && !is_encoded(response.headers())
            && response.body().size_hint().lower() <= bound as u64;
        let wait = if is_read { Wait::End } else { Wait::Nothing };
        let charge = Charge::new(point.memory.clone());
        Self {
            response,
            beginning: Beginning::new(charge),
            wait,
            is_error: true,
            patience: None,
            bound,
            beyond: Beyond::Commit,
        }
    }

    /// The rejection that the response is, now that it was read.
    pub(super) fn rejection(&self, rejections: &Rejections) -> Option<Rejected> {
        if !self.is_error {
            return None;
        }
        // A part of a body matches no rule on it.
        let body = if self.beginning.ended { &self.beginning.data[..] } else { &[] };
        let status = self.response.status();
        let rule = rejections.matched(status.as_u16(), body)?;
        let (name, follow, is_failure) = (rule.name(), rule.follow(), rule.is_failure());
        Some(Rejected { name, follow, is_failure, is_unprocessed: status.is_client_error() })
    }

    /// Reads the response until it is final, or has failed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, guard: GuardOf<Response<B>>) -> Poll<Outcome> {
        for _ in 0..MAX_FRAMES {
            if let Some(outcome) = self.decided() {
                return Poll::Ready(outcome);
            }
            let frame = match Pin::new(self.response.body_mut()).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending if self.is_error => {
                    // The status is known. Its body is of use only if it is there soon.
                    let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(ERROR_BODY)));
                    ready!(patience.as_mut().poll(cx));
                    return Poll::Ready(Outcome::Neutral);
                }
                Poll::Pending => return Poll::Pending,
            };
            let frame = match frame {
                Some(Ok(frame)) => into_bytes(frame),
                None => return Poll::Ready(self.ended()),
                Some(Err(error)) if self.is_error => {
                    self.beginning.error = Some(error);
                    return Poll::Ready(Outcome::Neutral);
                }
                // The response fails before it is final. If no trigger fires, the caller gets it with this error.
                Some(Err(error)) => {
                    self.beginning.error = Some(error);
                    return Poll::Ready(FailureKind::Body.into());
                }
            };
            let data = match frame.into_data() {
                Ok(data) => data,
                // Trailers are the last frame of a body.
                Err(frame) => {
                    self.beginning.trailers = frame.into_trailers().ok().map(Box::new);
                    return Poll::Ready(self.ended());
                }
            };
            let guard = guard(&mut self.response);
            let failure = guard.as_ref().and_then(|guard| guard.verdict()).filter(Outcome::is_failure);
            let received = guard.map(|guard| CallGuard::received(guard));
            let is_final = failure.is_none() && self.is_final_with(&data, received);
            if is_final {
                self.beginning.last = data;
                return Poll::Ready(Outcome::Success);
            }
            let is_held = self.beginning.add(data, self.bound);
            if let Some(failure) = failure {
                // The watch over the body has found a failure in this frame.
                return Poll::Ready(failure);
            }
            if !is_held {
                return Poll::Ready(self.overdue());
            }
        }
        // Yields to the task's timers, even if the body is always ready with another frame.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The outcome, if what was read so far decides it.
    fn decided(&mut self) -> Option<Outcome> {
        let held = self.beginning.data.len();
        match &self.wait {
            Wait::Nothing => return Some(Outcome::Success),
            Wait::FirstFrame => return None,
            Wait::Decision(decide) => match decide(&self.beginning.data) {
                Decision::Accept => return Some(Outcome::Success),
                Decision::Refuse(name) => return Some(FailureKind::Custom(name).into()),
                Decision::Wait => {}
            },
            Wait::FirstContent | Wait::EndMarker | Wait::Marker(_) => {}
            // At the bound the body may still end. A longer one is not held.
            Wait::End => return (held > self.bound).then(|| self.overdue()),
        }
        (held >= self.bound).then(|| self.overdue())
    }

    /// Whether this frame makes the response final, so that it need not be held.
    fn is_final_with(&mut self, data: &Bytes, received: Option<Received>) -> bool {
        match &self.wait {
            Wait::FirstFrame => data.has_remaining(),
            // A stream may be complete without content.
            Wait::FirstContent => received.is_some_and(|received| received.content || received.end_marker),
            Wait::EndMarker => received.is_some_and(|received| received.end_marker),
            Wait::Marker(marker) => self.beginning.contains(data, marker),
            Wait::Nothing | Wait::End | Wait::Decision(_) => false,
        }
    }

    /// The outcome of a response whose body has ended well.
    fn ended(&mut self) -> Outcome {
        self.beginning.ended = true;
        match &self.wait {
            Wait::Marker(_) => FailureKind::NO_END.into(),
            // A stream with an end marker that ends without it has failed before.
            _ => Outcome::Success,
        }
    }

    /// The outcome of a response that is not held any longer.
    pub(super) fn overdue(&self) -> Outcome {
        match self.beyond {
            Beyond::Commit => Outcome::Success,
            Beyond::Fail => FailureKind::NotHeld.into(),
        }
    }
}
