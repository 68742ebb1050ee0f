//! What happens at this replica, connected or not.

use std::{pin::pin, sync::Weak, task::Poll};

use futures::{future::poll_fn, stream::StreamExt};
use tokio::sync::mpsc;

use super::{book::Book, permits::Ask};
use crate::{
    fleet::{Changes, FleetCore},
    time::Clock,
};

/// What this replica knows, and what its fleet and its prober tell it.
pub(super) struct Local {
    pub(super) book: Book,
    pub(super) changes: Changes,
    pub(super) asks: mpsc::Receiver<Ask>,
    /// Whether a message was no report.
    pub(super) has_garbled: bool,
}

/// The fleet was dropped.
pub(super) struct Ended;

impl Local {
    /// Waits for a future, and notes meanwhile what changes in the fleet. Without an exchange, every probe is permitted.
    pub(super) async fn until<T>(
        &mut self,
        core: &Weak<FleetCore>,
        clock: Clock,
        future: impl Future<Output = T>,
    ) -> Result<T, Ended> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            while let Poll::Ready(change) = self.changes.poll_next_unpin(cx) {
                let (Some(change), Some(core)) = (change, core.upgrade()) else { return Poll::Ready(Err(Ended)) };
                self.book.note(&core, &change, clock.now());
            }
            while let Poll::Ready(Some(ask)) = self.asks.poll_recv(cx) {
                ask.answer(true);
            }
            future.as_mut().poll(cx).map(Ok)
        })
        .await
    }
}

/// Gives the other tasks of the thread a turn.
pub(super) fn yield_once() -> impl Future<Output = ()> {
    let mut has_yielded = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}
