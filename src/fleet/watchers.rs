//! The tasks and streams that watch the circuit of a member.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::feed::{Feed, SendError, Wakeup};
use crate::{health::Transition, wake::Waiters};

/// The tasks and streams to be notified when the circuit of a member changes.
#[derive(Default)]
pub(super) struct Watchers {
    /// Tasks that wait for a lone breaker to admit a call.
    pub(super) waiters: Waiters,
    listeners: Mutex<Listeners>,
}

/// The streams of the transitions of one circuit.
#[derive(Default)]
pub(super) struct Listeners {
    pub(super) feeds: Vec<Feed<Transition>>,
    /// There are no more transitions.
    pub(super) is_closed: bool,
}

impl Watchers {
    pub(super) fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a transition to all streams. Returns their wake-ups, for when no lock is held.
    pub(super) fn send(&self, transition: Transition) -> Vec<Wakeup<Transition>> {
        let feeds = &mut self.listeners().feeds;
        // A full stream misses the transition; its reader sees a gap in the generations.
        feeds.retain(|feed| feed.send(transition) != Err(SendError::Closed));
        feeds.iter().map(Feed::wakeup).collect()
    }
}
