//! The limits on the time of a response body.

#[cfg(feature = "http")]
use std::task::{Context, Poll};
use std::{pin::Pin, time::Duration};

#[cfg(feature = "http")]
use tokio::time::sleep_until;
use tokio::time::{Instant, Sleep};

use super::TimeLimits;
#[cfg(feature = "http")]
use super::{TimeLimit, received::Received};

/// Ends a body that is late: with its first byte, its first content, or its next frame.
///
/// Time passes only while the caller waits for a frame. Before that it is the caller that is slow.
#[derive(Debug)]
#[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only bodies of HTTP are watched"))]
pub(crate) struct BodyTimer {
    limits: TimeLimits,
    /// How long the caller has waited since the call, up to the last frame.
    waited: Duration,
    waits_since: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl BodyTimer {
    /// Creates the timer of a body whose head was received this long after the call.
    pub(crate) fn new(limits: TimeLimits, until_head: Duration) -> Box<Self> {
        Box::new(Self { limits, waited: until_head, waits_since: None, sleep: None })
    }
}

#[cfg(feature = "http")]
impl BodyTimer {
    /// Waits for the next frame, which is not there yet. Ready with the limit that ran out.
    pub(super) fn poll(&mut self, received: Received, cx: &mut Context<'_>) -> Poll<(Duration, TimeLimit)> {
        let since = *self.waits_since.get_or_insert_with(Instant::now);
        let limits = &self.limits;
        let since_call = |limit: Duration| limit.saturating_sub(self.waited);
        let all = [
            (limits.first_byte.filter(|_| !received.bytes), TimeLimit::FirstByte),
            (limits.first_content.filter(|_| !received.content), TimeLimit::FirstContent),
        ];
        let first = all.into_iter().filter_map(|(time, limit)| time.map(|time| (since_call(time), time, limit)));
        // Until the first content, the limits on it apply in place of that between two frames.
        let is_begun = received.content || limits.first_byte.is_none() && limits.first_content.is_none();
        let idle = limits.idle.filter(|_| is_begun).map(|time| (time, time, TimeLimit::Idle));
        let Some((left, time, limit)) = first.chain(idle).min_by_key(|(left, ..)| *left) else { return Poll::Pending };
        // Beyond the range of `Instant`, no timer runs.
        let Some(at) = since.checked_add(left) else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(cx).map(|()| (time, limit))
    }

    /// Notes that a frame arrived.
    pub(super) fn arrived(&mut self) {
        if let Some(since) = self.waits_since.take() {
            self.waited = self.waited.saturating_add(since.elapsed());
        }
    }
}
