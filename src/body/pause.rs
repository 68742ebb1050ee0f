//! The pause of a body between its last data and its error.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

/// The pause of a body between its last data and its error, so that a server sends the data.
///
/// hyper drops what it has not sent when a body fails: over HTTP/1 what the socket did not take yet, over HTTP/2 all that
/// the task of the connection did not fetch, the head included. Nothing tells when that was done, so this is a time. A
/// stream that broke can afford it.
#[derive(Debug, Default)]
pub(crate) struct Pause(Option<Pin<Box<Sleep>>>);

const PAUSE: Duration = Duration::from_millis(50);

impl Pause {
    /// Ready when the pause is over. It begins with the first poll.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.get_or_insert_with(|| Box::pin(sleep(PAUSE))).as_mut().poll(cx)
    }
}
