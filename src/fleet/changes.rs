use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::{channel::mpsc, stream::Stream};

use crate::{
    health::{Status, Transition},
    name::BackendName,
};

/// Something that happened to a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A backend came.
    Inserted(BackendName),
    /// A backend left; its running requests finish.
    Removed(BackendName),
    /// Another service took a backend's place.
    Replaced(BackendName),
    /// A backend has another weight.
    Reweighted(BackendName, u32),
    /// A backend is in another tier.
    Moved(BackendName, i32),
    /// The operator said something else of a backend.
    Status(BackendName, Status),
    /// A backend's circuit went from one state to another.
    Circuit(BackendName, Transition),
    /// So many changes were not delivered, because they came faster than they were read. Ask
    /// [`Fleet::snapshot`](super::Fleet::snapshot) for how things are.
    Missed(u64),
}

/// The changes of a fleet from now on, as they were noted. Ends with the fleet.
///
/// Transitions of one circuit that two threads brought about may come in either order: their generations tell which was
/// first.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Changes(mpsc::Receiver<Change>);

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}

/// The sending end: it never waits for a slow reader, and tells it what it missed.
pub(super) struct Listener {
    sender: mpsc::Sender<Change>,
    missed: u64,
}

impl Listener {
    /// Enough for a fleet-wide flap of a thousand backends; a reader that sleeps longer is told so.
    const BACKLOG: usize = 1024;

    pub(super) fn pair() -> (Self, Changes) {
        let (sender, receiver) = mpsc::channel(Self::BACKLOG);
        (Self { sender, missed: 0 }, Changes(receiver))
    }

    pub(super) fn is_heard(&self) -> bool {
        !self.sender.is_closed()
    }

    /// False when nobody listens any more.
    pub(super) fn tell(&mut self, change: &Change) -> bool {
        if self.missed > 0 && self.sender.try_send(Change::Missed(self.missed)).is_ok() {
            self.missed = 0;
        }
        match self.sender.try_send(change.clone()) {
            Ok(()) => true,
            Err(full) if full.is_full() => {
                self.missed += 1;
                true
            }
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    #[test]
    fn a_slow_reader_is_told_what_it_missed() {
        let (mut listener, mut changes) = Listener::pair();
        for _ in 0..2_000 {
            assert!(listener.tell(&Change::Missed(0)));
        }
        let mut read = 0;
        while changes.next().now_or_never().is_some() {
            read += 1;
        }
        assert!(listener.tell(&Change::Missed(0)));
        assert_eq!(changes.next().now_or_never(), Some(Some(Change::Missed(2_000 - read))));
        drop(changes);
        assert!(!listener.tell(&Change::Missed(0)));
    }
}
