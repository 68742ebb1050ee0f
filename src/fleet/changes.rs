//! The stream of the changes of a fleet.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::stream::Stream;

use super::feed::{Feed, Reader, SendError, Wakeup, feed};
use crate::{
    health::{AdminStatus, OutlierChange, Transition},
    name::BackendName,
};

/// A change of a fleet, as [`Changes`] yields it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// A backend was added.
    Inserted(BackendName),
    /// A backend was removed. Its requests in flight finish.
    Removed(BackendName),
    /// A backend got another service.
    Replaced(BackendName),
    /// A backend got this weight.
    Reweighted(BackendName, u32),
    /// A backend got this priority, and is in another tier.
    Moved(BackendName, i32),
    /// The operator set this status of a backend.
    Status(BackendName, AdminStatus),
    /// The circuit of a backend changed its state.
    Circuit(BackendName, Transition),
    /// The detection of [outliers](super::Outliers) reduced the traffic of a backend, ejected it, or returned it.
    Outlier(BackendName, OutlierChange),
    /// A backend gets no requests for this time, since it [cools down](super::Fleet::cool_down). Also when an earlier
    /// cool-down is extended by at least a second.
    CoolDown(BackendName, Duration),
    /// Active [probes](crate::probe) of a backend succeed again (`true`) or fail (`false`).
    Probe(BackendName, bool),
    /// Another [replica](crate::replicas) reports a backend, which gets no requests for this time. `None` when that ended.
    Hint(BackendName, Option<Duration>),
    /// This many changes were not delivered, since the stream was not polled often enough. For the current state see
    /// [`Fleet::snapshot`](super::Fleet::snapshot).
    Missed(u64),
}

/// A stream of the changes of a fleet, from [`Fleet::changes`](super::Fleet::changes). Ends with the fleet.
///
/// Holds up to 1,024 changes; beyond that, it yields [`Change::Missed`]. Changes are in the order in which they were
/// made. Only transitions of one circuit that two threads caused at the same time may be swapped: their
/// [generations](Transition::generation) show the order.
///
/// Its reader is woken when no lock is held, so a waker may read and change the fleet.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Changes {
    reader: Reader<Change>,
    missed: Arc<AtomicU64>,
}

impl Changes {
    /// Polls for the end of the fleet. Drops the changes before it.
    pub(crate) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(change) = Pin::new(&mut *self).poll_next(cx) {
            if change.is_none() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        match Pin::new(&mut self.reader).poll_next(cx) {
            Poll::Ready(Some(change)) => Poll::Ready(Some(change)),
            // Also if no further change follows. A change that is missed after this look wakes the reader.
            end => match self.missed.swap(0, Ordering::Relaxed) {
                0 => end,
                missed => Poll::Ready(Some(Change::Missed(missed))),
            },
        }
    }
}

/// The sending end of [`Changes`]. Never waits for a slow reader, but counts the changes that the reader misses.
pub(super) struct Listener {
    feed: Feed<Change>,
    /// Shared with the reader, which learns of them once it has read all that was delivered.
    missed: Arc<AtomicU64>,
}

impl Listener {
    /// Room for a transition of each of a thousand backends.
    const BACKLOG: usize = 1024;

    pub(super) fn pair() -> (Self, Changes) {
        let (feed, reader) = feed(Self::BACKLOG);
        let missed = Arc::<AtomicU64>::default();
        (Self { feed, missed: Arc::clone(&missed) }, Changes { reader, missed })
    }

    pub(super) fn is_connected(&self) -> bool {
        self.feed.is_connected()
    }

    /// Sends a change, without waking the reader. Returns false once the stream was dropped.
    pub(super) fn announce(&mut self, change: &Change) -> bool {
        // In its place: after the changes before, and before the next one.
        let missed = self.missed.swap(0, Ordering::Relaxed);
        if missed > 0 && self.feed.send(Change::Missed(missed)).is_err() {
            self.missed.fetch_add(missed, Ordering::Relaxed);
        }
        match self.feed.send(change.clone()) {
            Ok(()) => true,
            Err(SendError::Full) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(SendError::Closed) => false,
        }
    }

    /// Returns the wake-up of the reader, for when the fleet's lock is released.
    pub(super) fn wakeup(&self) -> Wakeup<Change> {
        self.feed.wakeup()
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    #[test]
    fn a_slow_reader_receives_the_number_of_missed_changes() {
        let (mut listener, mut changes) = Listener::pair();
        for _ in 0..2_000 {
            assert!(listener.announce(&Change::Missed(0)));
        }
        // C41: in its place, if the reader is as slow as that.
        assert_eq!(changes.next().now_or_never(), Some(Some(Change::Missed(0))));
        assert_eq!(changes.next().now_or_never(), Some(Some(Change::Missed(0))));
        assert!(listener.announce(&Change::Missed(0)));
        let mut read = 2;
        while changes.next().now_or_never() == Some(Some(Change::Missed(0))) {
            read += 1;
        }
        assert_eq!(read, 1024);
        assert_eq!(changes.next().now_or_never(), Some(Some(Change::Missed(0))));
        assert_eq!(changes.next().now_or_never(), None);
        drop(changes);
        assert!(!listener.announce(&Change::Missed(0)));
    }
    // C41
    #[test]
    fn missed_changes_are_reported_although_no_other_change_follows() {
        let (mut listener, mut changes) = Listener::pair();
        for _ in 0..2_000 {
            assert!(listener.announce(&Change::Missed(0)));
        }
        for _ in 0..1024 {
            assert_eq!(changes.next().now_or_never(), Some(Some(Change::Missed(0))));
        }
        assert_eq!(changes.next().now_or_never(), Some(Some(Change::Missed(2_000 - 1024))));
        assert_eq!(changes.next().now_or_never(), None);
        for _ in 0..1025 {
            assert!(listener.announce(&Change::Missed(0)));
        }
        drop(listener);
        assert_eq!(changes.by_ref().take(1024).collect::<Vec<_>>().now_or_never().map(|read| read.len()), Some(1024));
        assert_eq!(changes.next().now_or_never(), Some(Some(Change::Missed(1))));
        assert_eq!(changes.next().now_or_never(), Some(None));
    }
}
