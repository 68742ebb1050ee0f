//! A bounded queue from a writer that holds a lock to one reader, which is woken when the lock is released.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::{stream::Stream, task::AtomicWaker};

use crate::foreign;

/// The writing end. On drop, the stream of the reader ends after the items that it holds.
///
/// A waker is the code of a runtime, and may read or change the fleet. So [`send`](Self::send) wakes no task: the
/// writer wakes it by the [`Wakeup`], once it holds no lock. The order of the items is that of the sends.
pub(super) struct Feed<T> {
    shared: Arc<Shared<T>>,
    capacity: usize,
}

/// The reading end.
pub(super) struct Reader<T>(Arc<Shared<T>>);

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    reader: AtomicWaker,
}

struct Queue<T> {
    items: VecDeque<T>,
    /// One of the ends was dropped.
    is_closed: bool,
}

/// A reader that has something to read.
#[must_use = "the reader is not woken otherwise"]
pub(super) struct Wakeup<T>(Arc<Shared<T>>);

/// Why an item was not sent.
#[derive(Debug, PartialEq)]
pub(super) enum SendError {
    /// The reader has not read for too long.
    Full,
    /// The reader was dropped.
    Closed,
}

/// Makes a feed of at most `capacity` items.
pub(super) fn feed<T>(capacity: usize) -> (Feed<T>, Reader<T>) {
    let queue = Queue { items: VecDeque::new(), is_closed: false };
    let shared = Arc::new(Shared { queue: Mutex::new(queue), reader: AtomicWaker::new() });
    (Feed { shared: Arc::clone(&shared), capacity }, Reader(shared))
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        foreign::run(|| self.reader.wake());
    }
}

impl<T> Feed<T> {
    pub(super) fn is_connected(&self) -> bool {
        !self.shared.lock().is_closed
    }

    /// Sends an item, without waking the reader.
    pub(super) fn send(&self, item: T) -> Result<(), SendError> {
        let mut queue = self.shared.lock();
        match &*queue {
            Queue { is_closed: true, .. } => Err(SendError::Closed),
            Queue { items, .. } if items.len() >= self.capacity => Err(SendError::Full),
            _ => {
                queue.items.push_back(item);
                Ok(())
            }
        }
    }

    /// Returns the wake-up of the reader, for when no lock is held.
    pub(super) fn wakeup(&self) -> Wakeup<T> {
        Wakeup(Arc::clone(&self.shared))
    }
}

impl<T> Wakeup<T> {
    pub(super) fn wake(self) {
        self.0.wake();
    }
}

impl<T> Drop for Feed<T> {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        // After the reader was dropped, there is no waker, so that this may happen under a lock.
        self.shared.wake();
    }
}

impl<T> Reader<T> {
    fn read(&self) -> Poll<Option<T>> {
        let mut queue = self.0.lock();
        match queue.items.pop_front() {
            Some(item) => Poll::Ready(Some(item)),
            None if queue.is_closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<T> Stream for Reader<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let read = self.read();
        if read.is_ready() {
            return read;
        }
        self.0.reader.register(cx.waker());
        // Once more, so that no item in between is missed.
        self.read()
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        // First the waker: a feed without a reader has none.
        let waker = self.0.reader.take();
        let mut queue = self.0.lock();
        queue.is_closed = true;
        let unread = std::mem::take(&mut queue.items);
        drop(queue);
        drop(unread);
        foreign::discard(waker);
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("unread", &self.0.lock().items.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use tokio_test::{assert_pending, task};

    use super::*;

    // C41
    #[test]
    fn items_come_in_order_and_the_reader_is_woken_by_the_wakeup_only() {
        let (feed, mut reader) = feed(2);
        let mut next = task::spawn(reader.next());
        assert_pending!(next.poll());
        assert_eq!(feed.send(1), Ok(()));
        assert_eq!(feed.send(2), Ok(()));
        assert_eq!(feed.send(3), Err(SendError::Full));
        assert!(!next.is_woken());
        feed.wakeup().wake();
        assert!(next.is_woken());
        drop(next);
        drop(feed);
        assert_eq!(reader.collect::<Vec<_>>().now_or_never(), Some(vec![1, 2]));
    }

    // C41
    #[test]
    fn each_end_notices_the_drop_of_the_other() {
        let (sender, reader) = feed(1);
        assert!(sender.is_connected());
        drop(reader);
        assert!(!sender.is_connected());
        assert_eq!(sender.send(1), Err(SendError::Closed));
        let (sender, mut reader) = feed::<()>(1);
        let mut next = task::spawn(reader.next());
        assert_pending!(next.poll());
        drop(sender);
        assert!(next.is_woken());
        assert_eq!(next.poll(), Poll::Ready(None));
    }
}
