//! What few members of a fleet have, read and set through the member.

use std::sync::Arc;

use super::{
    feed::{Feed, Reader, feed},
    member::MemberInfo,
    rare::Rare,
    tags::{MemberTags, Tags},
    watchers::Watchers,
};
use crate::{
    health::{LowHeadroom, Transition},
    outcome::TimeLimits,
    wake::Waiters,
};

/// How many transitions a stream holds for a reader that does not poll it.
const BACKLOG: usize = 256;

impl MemberInfo {
    /// Its tags, if it has some.
    pub(super) fn tags(&self) -> Option<&MemberTags> {
        self.rare.get().map(|rare| &rare.tags)
    }

    /// Returns whether it has this tag.
    pub(crate) fn has_tag(&self, tag: &str) -> bool {
        self.tags().is_some_and(|tags| tags.has(tag))
    }

    /// Sets its tags. Returns whether they changed.
    pub(super) fn set_tags(&self, tags: &Option<Arc<Tags>>) -> bool {
        !(tags.is_none() && self.rare.get().is_none()) && self.rare().tags.set(tags)
    }

    /// The limits on the parts of its responses.
    #[inline]
    pub(crate) fn time_limits(&self) -> Option<TimeLimits> {
        Some(self.rare.get()?.time_limits()).filter(|limits| !limits.is_none())
    }

    /// Sets the limits on the parts of its responses. Returns whether they changed.
    pub(super) fn set_time_limits(&self, limits: TimeLimits) -> bool {
        !(limits.is_none() && self.rare.get().is_none()) && self.rare().set_time_limits(limits)
    }

    /// Returns a stream of the transitions of the circuit.
    pub(super) fn listen(&self) -> Reader<Transition> {
        let (feed, reader) = feed(BACKLOG);
        let mut listeners = self.rare().watchers.listeners();
        listeners.feeds.retain(Feed::is_connected);
        if !listeners.is_closed {
            listeners.feeds.push(feed);
        }
        reader
    }

    /// Ends the streams of transitions when the backend is dropped, also those that are made later. Not those of a lone
    /// breaker, whose circuit lives on in its handles.
    ///
    /// So a backend that is dropped under a lock of the fleet wakes no reader there.
    pub(super) fn close(&self) {
        if self.fleet.is_some() {
            let mut listeners = self.rare().watchers.listeners();
            listeners.is_closed = true;
            let feeds = std::mem::take(&mut listeners.feeds);
            drop(listeners);
            drop(feeds);
        }
    }

    pub(super) fn watchers(&self) -> Option<&Watchers> {
        self.rare.get().map(|rare| &rare.watchers)
    }

    pub(crate) fn waiters(&self) -> &Waiters {
        &self.rare().watchers.waiters
    }

    /// Its share while little is left of its rate limit, if a response has ever stated that.
    pub(super) fn low_headroom(&self) -> Option<&LowHeadroom> {
        self.rare.get().map(|rare| &rare.low_headroom)
    }

    /// The same; made if there is none.
    pub(super) fn low_headroom_mut(&self) -> &LowHeadroom {
        &self.rare().low_headroom
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }
}
